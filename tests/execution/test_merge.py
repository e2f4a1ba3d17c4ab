"""Trees of several machines become one, and nothing that contradicts itself counts."""

import pytest

from benchmark.core.errors import UsageError
from benchmark.execution.locks import Lock
from benchmark.execution.merge import merge
from benchmark.records.record import run_directory, write_record
from benchmark.records.tree import pack, read_records
from tests.report import made


def tree(root, name, seeds, score=0.9, **changes):
    records = [made.record("shared_bottom", "joint", seed, {"income": score}) for seed in seeds]
    for record in records:
        for field, value in changes.items():
            setattr(record, field, value)
    return made.write(root / name, records), records


def test_every_run_is_there_once_and_the_sources_stay(tmp_path):
    first, _ = tree(tmp_path, "first", (0, 1))
    second, _ = tree(tmp_path, "second", (1, 2), rows_per_second=7.0)  # another machine: other times, the same bits
    extra = next(second.glob("runs/*/*/*/*/record.json")).parent / "curve.csv"
    extra.write_text("epoch\n")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    done = merge([first, second], tmp_path / "out")
    assert (done.copied, done.equal, done.conflicts, done.problems) == (3, 1, [], [])
    records, problems = read_records(tmp_path / "out")
    assert sorted(r.key.seed for r in records) == [0, 1, 2] and problems == []
    kept = [p.relative_to(tmp_path) for p in sorted(tmp_path.rglob("*")) if tmp_path / "out" not in (p, *p.parents)]
    assert kept == before
    again = merge([first, second], tmp_path / "out")
    assert (again.copied, again.equal) == (0, 4)
    assert not list((tmp_path / "out").rglob("lock.json"))


def test_results_that_differ_are_kept_aside_and_none_counts(tmp_path):
    first, _ = tree(tmp_path, "first", (0, 1))
    second, _ = tree(tmp_path, "second", (1,), score=0.8)
    third, _ = tree(tmp_path, "third", (1,), score=0.7)
    done = merge([first, second], tmp_path / "out")
    assert len(done.conflicts) == 1 and "seed 1" in done.conflicts[0]
    merge([third, first, second], tmp_path / "out")
    assert [r.key.seed for r in read_records(tmp_path / "out")[0]] == [0]
    aside = sorted((tmp_path / "out" / "conflicts").glob("*/*/record.json"))
    assert len(aside) == 3
    assert {(p.parent / "from.txt").read_text().split("/runs/")[0].rpartition("/")[2] for p in aside} == {
        "out", "second", "third"
    }  # fmt: skip


def test_numbers_win_over_a_failure_and_a_damaged_record_is_named(tmp_path):
    good, (record,) = tree(tmp_path, "good", (0,))
    bad, _ = tree(tmp_path, "bad", (0,), status="failed", reason="killed", scores={})
    assert merge([bad, good], tmp_path / "out").copied == 2
    assert read_records(tmp_path / "out")[0][0].status == "ok"
    assert merge([bad], tmp_path / "out").conflicts == []
    spoilt, _ = tree(tmp_path, "spoilt", (1,))
    next(spoilt.glob("runs/*/*/*/*/record.json")).write_text("{")
    done = merge([spoilt], tmp_path / "out")
    assert done.copied == 0 and len(done.problems) == 1
    write_record(run_directory(tmp_path / "out", record.key), record)


def test_results_of_two_kinds_of_machines_say_why_they_differ(tmp_path):
    first, (record,) = tree(tmp_path, "first", (0,))
    of_intel = record.provenance.model_copy(update={"bits_kind": "x86_64 GenuineIntel"})
    of_amd = record.provenance.model_copy(update={"bits_kind": "x86_64 AuthenticAMD"})
    intel, _ = tree(tmp_path, "intel", (0,), score=0.8, provenance=of_intel)
    amd, _ = tree(tmp_path, "amd", (0,), provenance=of_amd)
    (line,) = merge([intel, amd], tmp_path / "out").conflicts
    assert "(x86_64 GenuineIntel; x86_64 AuthenticAMD): run each seed on one kind" in line
    (line,) = merge([first, tree(tmp_path, "same", (0,), score=0.8)[0]], tmp_path / "alike").conflicts
    assert "kinds of machines" not in line


def test_a_packed_record_is_taken_where_the_run_s_own_file_is_damaged(tmp_path):
    source, (record,) = tree(tmp_path, "source", (0,))
    pack(source)
    spoilt = run_directory(source, record.key) / "record.json"
    spoilt.parent.mkdir(parents=True)
    spoilt.write_text("{")
    done = merge([source], tmp_path / "out")
    assert done.copied == 1 and len(done.problems) == 1 and str(spoilt) in done.problems[0]
    records, problems = read_records(tmp_path / "out")
    assert [r.run_id for r in records] == [record.run_id] and problems == []


def test_a_run_that_a_sweep_is_at_is_left_alone(tmp_path):
    first, (record,) = tree(tmp_path, "first", (0,))
    with Lock.acquire(run_directory(tmp_path / "out", record.key)):
        done = merge([first], tmp_path / "out")
    assert done.copied == 0 and "a sweep is at this run" in done.problems[0]


def test_what_is_no_tree_is_refused(tmp_path):
    first, _ = tree(tmp_path, "first", (0,))
    with pytest.raises(UsageError, match="no result tree"):
        merge([tmp_path], tmp_path / "out")
    with pytest.raises(UsageError, match="the tree to merge into"):
        merge([first], first)


def test_the_command(mpt, tmp_path):
    first, _ = tree(tmp_path, "first", (0,))
    second, _ = tree(tmp_path, "second", (0,), score=0.8)
    assert mpt("merge", first, "--out", tmp_path / "out").code == 0
    result = mpt("merge", second, "--out", tmp_path / "out")
    assert result.code == 1 and "results differ" in result.text
