"""Runs that serve several groups: references of no partition, and stage 0 of all label shares."""

from benchmark.analysis.groups import group_records
from tests.report import made


def keyed(record, **changes):
    return record.model_copy(update={"key": record.key.model_copy(update=changes)})


def test_references_of_no_partition_join_every_problem_of_their_dataset():
    tasks = ["income", "marital", "education"]
    records = []
    for new in tasks:
        old = [task for task in tasks if task != new]
        records.append(made.record("m", "frozen", 0, {new: 0.8}, old=old, new=[new]))
    joint = keyed(made.record("m", "joint", 0, dict.fromkeys(tasks, 0.9)), old_tasks=tasks, new_tasks=[], tasks=tasks)
    other = keyed(joint, old_tasks=["income", "sex"])
    groups = group_records([*records, joint, other], {})
    joined = {group.new_tasks: joint in group.records for group in groups if group.new_tasks}
    assert joined == {("education",): True, ("marital",): True, ("income",): True}
    assert [g.old_tasks for g in groups if not g.new_tasks] == [("income", "sex")]


def test_all_shares_of_the_labels_have_the_stage_0_of_the_dataset():
    stage0 = made.record("m", "stage0", 0, {"income": 0.9}, dataset="d")
    frozen = made.record("m", "frozen", 0, {"education": 0.8}, dataset="d")
    scarce = made.record("m", "frozen", 0, {"education": 0.6}, dataset="d@new1pct")
    full, few = group_records([stage0, frozen, scarce], {})
    assert (full.dataset, few.dataset) == ("d", "d@new1pct")
    runs = [{record.run_id for record in group.records} for group in (full, few)]
    assert runs == [{stage0.run_id, frozen.run_id}, {stage0.run_id, scarce.run_id}]


def test_stages_of_a_chain_are_in_no_ordinary_group():
    stage = keyed(made.record("m", "frozen", 0, {"education": 0.8}), chain=["education"])
    assert group_records([stage], {}) == []
