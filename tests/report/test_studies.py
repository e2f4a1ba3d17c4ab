"""Tables and figures of the studies, from made records with hand-computed measures."""

import numpy as np
import pytest

from benchmark.analysis.groups import group_records
from benchmark.records.record import run_id
from benchmark.records.row_noise import row_noise, unfolded
from benchmark.report import overall
from benchmark.report.figures import chains, studies, style
from benchmark.report.figures.answers import tall, where
from tests.report import made

TITLES = {"m": "Method M"}


def keyed(record, **changes):
    key = record.key.model_copy(update=changes)
    return record.model_copy(update={"key": key, "run_id": run_id(key)})


def cell(table, column, **where):
    (row,) = [row.cells for row in table.rows if all(row.cells[k].text == v for k, v in where.items())]
    return row[column].value if row[column].value is not None else row[column].code


def chain(scores, order=("b", "c"), arm="finetune", seed=0):
    """Records of one chain from the scores after stage 0, 1, 2 and so on."""
    place = {"dataset": "d", "old": ["a"], "new": sorted(order)}
    found = [made.record("m", "stage0", seed, scores[0], total=1000, **place)]
    for stage in range(1, len(scores)):
        run = made.record(
            "m", arm, seed, scores[stage], total=1000 + 10 * stage, trainable=10, tasks=[order[stage - 1]], **place
        )
        found.append(keyed(run, chain=list(order[:stage]), stage=stage))
    return found


def test_measures_along_a_chain_are_those_computed_by_hand():
    records = chain([{"a": 0.9}, {"a": 0.8, "b": 0.7}, {"a": 0.85, "b": 0.6, "c": 0.75}])
    records += [
        made.record("single_task", "scratch", 0, {t: 0.65}, dataset="d", old=["a"], new=["b", "c"], tasks=[t])
        for t in "bc"
    ]
    (found,) = chains.chains(records, TITLES)
    ((table, plot),) = chains.study([found])
    values = {name: [row.cells[name].value for row in table.rows] for name in chains.MEASURES}
    assert values["average"] == pytest.approx([(0.8 + 0.7) / 2, (0.85 + 0.6 + 0.75) / 3])
    # backward transfer against the stage in which a task was learnt, forgetting against its best one before
    assert values["backward"] == pytest.approx([-0.1, ((0.85 - 0.9) + (0.6 - 0.7)) / 2])
    assert values["forgetting"] == pytest.approx([0.1, ((0.9 - 0.85) + (0.7 - 0.6)) / 2])
    assert values["gain"] == pytest.approx([0.05, ((0.6 - 0.65) + (0.75 - 0.65)) / 2])
    assert values["trained"] == [10, 10] and values["seconds"] == [60, 120]
    assert "backward transfer -0.0750" in table.caption and plot.rows[0]["answer"] in table.caption


def test_a_loss_within_the_noise_of_the_seeds_is_not_said_to_be_one():
    for spread, said in ((0.02, "clearly lost with none"), (0.0001, "lost most with Method M, fine-tuned")):
        records = []
        for seed, sign in enumerate((1, -1, 1)):
            after = {"a": 0.89 + sign * spread, "b": 0.7}
            records += chain([{"a": 0.9}, after, {**after, "c": 0.75}], seed=seed)
        ((table, _),) = chains.study(chains.chains(records, TITLES))
        assert said in table.caption


def test_what_compares_the_stages_of_a_chain_knows_the_noise_of_test_rows():
    """Two seeds that agree to the bit say nothing of another draw of test rows; the intervals of differences do."""
    generator = np.random.default_rng(0)
    labels = (generator.random(4000) < 0.3).astype(np.float32)
    before, after = (labels + generator.normal(0, spread, 4000) for spread in (1.0, 1.5))
    records = []
    for seed in (0, 1):
        made_ = chain([{"a": 0.76}, {"a": 0.68, "b": 0.7}, {"a": 0.76, "b": 0.7, "c": 0.75}], seed=seed)
        for record, logits in zip(made_, (before, after, before), strict=True):
            record.scores["a"].rows = row_noise("binary", logits, labels)
        records += made_
    (found,) = chains.chains(records, TITLES)
    spread = row_noise("binary", after, labels), row_noise("binary", before, labels)
    vector = unfolded(spread[0]) - unfolded(spread[1])
    interval = found.sample(1, "backward").interval()
    assert interval.mean == pytest.approx(-0.08) and interval.half_width > 1.9 * np.linalg.norm(vector) > 0.01
    unchanged = found.sample(2, "backward")  # of a to its first score, of b to its own; only a's rows are known
    assert unchanged.interval().mean == 0.0
    assert found.sample(1, "average").interval().half_width == 0.0  # a score's interval is over seeds, as elsewhere


def test_what_no_stage_changed_was_not_forgotten_whatever_the_test_rows():
    """Three equal scores before the last: none of them is better, and no draw of rows would make one so."""
    generator = np.random.default_rng(0)
    labels = (generator.random(4000) < 0.3).astype(np.float32)
    rows = row_noise("binary", labels + generator.normal(0, 1, 4000), labels)
    records = []
    for seed in (0, 1):
        stages = [{"a": 0.76 + seed / 100}, {"b": 0.7}, {"c": 0.7}, {"d": 0.7}]
        scores = [{key: value for stage in stages[: n + 1] for key, value in stage.items()} for n in range(4)]
        for record in (made_ := chain(scores, order=("b", "c", "d"), arm="frozen", seed=seed)):
            for task in record.scores.values():
                task.rows = rows
        records += made_
    (found,) = chains.chains(records, TITLES)
    interval = found.sample(3, "forgetting").interval()
    assert (interval.mean, interval.half_width) == (0.0, 0.0)


def test_a_stage_that_failed_is_a_code_and_stages_after_it_too():
    records = chain([{"a": 0.9}, {"a": 0.8, "b": 0.7}, {"a": 0.85, "b": 0.6, "c": 0.75}])
    broken = records[1].model_copy(update={"status": "oom", "scores": {}})
    ((table, _),) = chains.study(chains.chains([records[0], broken, records[2]], TITLES))
    assert [row.cells["average"].code for row in table.rows] == ["OOM", "OOM"]
    ((table, _),) = chains.study(chains.chains(records[1:], TITLES))
    assert [row.cells["average"].code for row in table.rows] == ["missing", "missing"]


def test_a_stage_that_is_out_of_date_marks_all_stages_that_continue_it():
    records = chain([{"a": 0.9}, {"a": 0.8, "b": 0.7}, {"a": 0.85, "b": 0.6, "c": 0.75}])

    def marks(stale):
        ((table, _),) = chains.study(chains.chains(records, TITLES, [records[stale].run_id]))
        assert "Seeds 0. Budget: batch_size 256, epochs 30" in table.footer[-1] and "3 records" in table.footer[-1]
        return [row.cells["backward"].marks for row in table.rows]

    assert marks(0) == marks(1) == [("stale",), ("stale",)] and marks(2) == [(), ("stale",)]


def test_joint_retraining_of_a_chain_is_found_whatever_the_order():
    place = {"dataset": "d", "old": ["a"], "new": ["b", "c"]}
    records = chain([{"a": 0.9}, {"a": 0.9, "c": 0.7}, {"a": 0.9, "c": 0.7, "b": 0.6}], ("c", "b"))
    records.append(keyed(made.record("m", "joint", 0, {"a": 0.88, "c": 0.8}, **place), chain=["c"]))
    records.append(made.record("m", "joint", 0, {"a": 0.87, "b": 0.81, "c": 0.82}, **place))
    ((table, _),) = chains.study(chains.chains(records, TITLES))
    joint = [row.cells["average"].value for row in table.rows if row.cells["arm"].text == "joint"]
    assert [row.cells["arm"].text for row in table.rows] == [
        "joint",
        "joint",
        "fine-tuned",
        "fine-tuned",
    ]  # as elsewhere
    assert joint == pytest.approx([0.84, (0.87 + 0.81 + 0.82) / 3])


def scarce(frozen, joint):
    """Scores of the new task at 1 and at 100 % of its labels, over two seeds."""
    records = []
    for share, dataset in ((0, "d@new1pct"), (1, "d")):
        for seed in (0, 1):
            place = {"dataset": dataset, "old": ["a"], "new": ["c"]}
            records.append(made.record("single_task", "scratch", seed, {"c": 0.7}, tasks=["c"], **place))
            if share:
                records.append(made.record("m", "stage0", seed, {"a": 0.9}, **place))
            for arm, value in (("frozen", frozen), ("joint", joint)):
                records.append(made.record("m", arm, seed, {"a": 0.9, "c": value[share] + seed / 1000}, **place))
    return records


def test_ticks_of_scarce_labels_stand_at_the_shares_that_were_tried():
    ((_, plot),) = studies.scarce_labels(group_records(scarce((0.72, 0.74), (0.6, 0.75)), TITLES))
    with style.figure(plot.height, plot.width) as drawn:
        plot.draw(drawn, plot.rows)
        assert [list(axes.get_xticks()) for axes in drawn.axes] == [[1.0, 100.0]] * 2


def test_scarce_labels_say_at_which_shares_a_way_lies_ahead():
    ((table, plot),) = studies.scarce_labels(group_records(scarce((0.72, 0.74), (0.6, 0.75)), TITLES))
    assert "ahead of joint retraining at these shares of the labels, in %: Method M frozen at 1." in table.caption
    assert "ahead of a single-task model: Method M frozen at 1 and 100." in table.caption
    rows = [(row.cells["share"].value, row.cells["arm"].text, row.cells["ahead"].value) for row in table.rows]
    assert rows[1] == (1.0, "frozen", pytest.approx(0.12)) and rows[3] == (100.0, "frozen", pytest.approx(-0.01))
    assert [row.cells["degradation"].value for row in table.rows] == [0.0] * 4  # from the one stage 0 of all shares
    assert {point["share"] for point in plot.rows} == {1.0, 100.0}


def test_a_long_answer_is_short_and_has_room_above_the_axes():
    found = {("M", "frozen"): ["1", "5"], ("M", "LoRA"): ["1", "5"], ("N", "frozen"): ["1", "5"], ("N", "LoRA"): []}
    assert where(found, "no way") == "M frozen and LoRA, N frozen at 1 and 5; the others nowhere"
    assert where({("M", "frozen"): [], ("M", "LoRA"): []}, "no way") == "no way"
    assert tall(2.9, "word " * 200) - tall(2.9, "word") > 1.0
    records = scarce((0.72, 0.74), (0.6, 0.75))
    for number in range(12):
        records += [keyed(run, method=f"method_{number}") for run in records[:10] if run.key.method == "m"]
    ((_, plot),) = studies.scarce_labels(group_records(records, TITLES))
    with style.figure(plot.height, plot.width) as drawn:
        plot.draw(drawn, plot.rows)
        drawn.canvas.draw()
        title = drawn._suptitle.get_window_extent()
        for axes in drawn.axes:
            assert axes.yaxis.label.get_window_extent().y1 <= title.y0 and axes.get_window_extent().height > 100
            assert axes.yaxis.label.get_window_extent().x0 >= 0


def test_sizes_are_parted_by_gaps():
    assert studies.size_classes([900, 1000, 1010, 9000, 10_000, 27_000]) == [1000, 1000, 1000, 10_000, 10_000, 27_000]


def test_ordinary_results_hold_no_study():
    records = [
        made.record("m", arm, 0, {"a": 0.9, "c": 0.8}, old=["a"], new=["c"]) for arm in ("stage0", "joint", "frozen")
    ]
    assert studies.studies(group_records(records, TITLES)) == [] and chains.study(chains.chains(records, TITLES)) == []


def test_every_dataset_has_its_own_table_of_a_study():
    records = scarce((0.72, 0.74), (0.6, 0.75))
    records += [keyed(record, dataset=record.key.dataset.replace("d", "e", 1)) for record in records]
    found = [table.name for table, _ in studies.studies(group_records(records, TITLES))]
    assert found == ["study_scarce_labels-d", "study_scarce_labels-e"]


def test_the_problems_of_a_dataset_count_as_one_dataset():
    """Three tasks of d, each in turn the new one, and one problem of e: two datasets, not four."""
    records = []
    for dataset, new, frozen in (("d", "a", 0.6), ("d", "b", 0.7), ("d", "c", 0.8), ("e", "c", 0.9)):
        place = {"dataset": dataset, "old": [task for task in "abc" if task != new], "new": [new]}
        old = dict.fromkeys(place["old"], 0.5)
        for seed in (0, 1):
            records.append(made.record("m", "stage0", seed, old, **place))
            for arm, value in (("frozen", frozen), ("finetune", frozen - 0.1)):
                records.append(made.record("m", arm, seed, old | {new: value}, **place))
    new_task, _ = overall.studies(group_records(records, TITLES))
    assert new_task.datasets == ("d (3 problems)", "e")
    assert new_task.values["Method M, frozen"] == pytest.approx([0.7, 0.9])
    table = overall.across(new_task)
    assert "over 2 datasets" in table.caption and "no claim over datasets is made" in table.footer[-1]
    (each, _) = studies.each_task(group_records(records, TITLES))
    assert len({(row.cells["dataset"].text, row.cells["task"].text) for row in each.rows}) == 3
    assert any("share rows and references" in line for line in each.footer)


def test_nothing_is_called_clear_from_one_seed():
    records = [record for record in scarce((0.72, 0.74), (0.6, 0.75)) if record.key.seed == 0]
    ((table, _),) = studies.scarce_labels(group_records(records, TITLES))
    assert "By one seed alone ahead" in table.caption and "learly ahead" not in table.caption


def lora(old, new, rank, method="m"):
    run = made.record(method, "lora", 0, {new: 0.8}, dataset="d", old=[old], new=[new], trainable=100 * rank)
    return keyed(run, arm_config={"rank": rank})


def test_equal_size_is_a_study_where_one_method_has_several_sizes_and_problems_do_not_share_its_file():
    one_size_each = [lora("a", "b", 1), lora("a", "b", 22, method="n")]
    assert studies.equal_size(group_records(one_size_each, TITLES)) == []
    problems = [lora(*tasks, rank) for tasks in (("a", "b"), ("b", "a")) for rank in (1, 8)]
    found = [table.name for table, _ in studies.equal_size(group_records(problems, TITLES))]
    assert sorted(found) == ["study_equal_size-d-a", "study_equal_size-d-b"]


def test_a_way_that_is_fitted_to_each_problem_is_one_way_over_problems():
    """LoRA's rank follows from the size asked for and differs by dataset and method; over problems it is one way."""
    records = []
    for dataset, new, rank in (("d", "a", 1), ("d", "b", 22), ("e", "a", 3)):
        place = {"dataset": dataset, "old": ["b" if new == "a" else "a"], "new": [new]}
        records.append(made.record("m", "stage0", 0, {place["old"][0]: 0.7}, **place))
        records.append(made.record("m", "frozen", 0, {new: 0.6}, **place))
        records.append(made.record("single_task", "scratch", 0, {new: 0.5}, tasks=[new], **place))
        for method, own in (("m", rank), ("n", rank + 1)):
            run = made.record(method, "lora", 0, {new: 0.8 if method == "m" else 0.7}, **place)
            records.append(keyed(run, arm_config={"rank": own}))
    groups = group_records(records, TITLES)
    table, plot = studies.each_task(groups)
    assert {point["arm"] for point in plot.rows} == {"frozen", "lora"}
    assert "Method M, LoRA (2 of 2)" in table.caption
    assert {row.cells["arm"].text for row in table.rows} >= {"LoRA (rank=1)", "LoRA (rank=2)"}  # the table says which
    (new_task, *_) = overall.studies(groups)
    assert new_task.values["Method M, LoRA"] == pytest.approx([0.8, 0.8])
