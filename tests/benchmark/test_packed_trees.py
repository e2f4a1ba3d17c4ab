"""A packed tree says what its records say, and gives them back byte by byte; a bad file is named, never guessed at."""

import json
import lzma
import shutil

import pytest

from benchmark import report
from benchmark.core.errors import BenchmarkError
from benchmark.execution.merge import merge
from benchmark.records.record import read_record, run_directory, write_record
from benchmark.records.tree import LONGEST_LINE, PACKED, pack, read_records, unpack
from tests.report import made


@pytest.fixture
def tree(tmp_path):
    records = [
        made.record(method, arm, seed, {"income": 0.9 + seed / 100, "education": 0.8})
        for method in ("shared_bottom", "mpt_rec")
        for arm in ("joint", "frozen")
        for seed in range(3)
    ]
    return made.write(tmp_path / "tree", records)


def contents(tree):
    return {path.relative_to(tree): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_records_come_back_byte_by_byte_and_everything_else_stays(tree):
    curve = min(tree.glob("runs/*/*/*/*/record.json")).with_name("curve.csv")
    curve.write_text("epoch\n")
    before, records = contents(tree), read_records(tree)
    assert pack(tree) == 12
    assert set(contents(tree)) == {curve.relative_to(tree), tree.joinpath("runs", PACKED).relative_to(tree)}
    assert read_records(tree) == records
    assert unpack(tree) == [] and contents(tree) == before
    assert unpack(tree) == [] and contents(tree) == before


def test_the_file_is_lines_of_json_that_other_programs_read(tree):
    pack(tree)
    with lzma.open(tree / "runs" / PACKED, "rt") as file:
        lines = [json.loads(line) for line in file]
    assert [line["run_id"] for line in lines] == [record.run_id for record in read_records(tree)[0]]


def test_tables_are_the_same(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "packed")
    pack(tmp_path / "packed")
    titles = {"shared_bottom": "Shared-Bottom", "mpt_rec": "MPT-Rec"}
    one, other = (report.report(place, titles) for place in (tree, tmp_path / "packed"))
    assert one.tables and [repr(table) for table in one.tables] == [repr(table) for table in other.tables]


def test_a_run_that_was_done_later_counts_and_is_packed_next_time(tree):
    pack(tree)
    newer = read_records(tree)[0][0].model_copy(update={"rows_per_second": 7.0})
    write_record(run_directory(tree, newer.key), newer)
    assert read_records(tree)[0][0] == newer and len(read_records(tree)[0]) == 12
    assert pack(tree) == 12 and read_records(tree)[0][0] == newer
    assert not list(tree.rglob("record.json"))


@pytest.mark.parametrize("left", ["record.json", "lock.json"])
def test_nothing_is_packed_where_a_record_is_damaged_or_a_run_under_way(tree, left):
    (min(tree.glob("runs/*/*/*/*/record.json")).parent / left).write_text("{")
    before = contents(tree)
    with pytest.raises(BenchmarkError, match=rf"{left}.*Nothing was packed"):
        pack(tree)
    assert contents(tree) == before


def damaged(tree, change):
    pack(tree)
    path = tree / "runs" / PACKED
    lines = lzma.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(lzma.compress(b"".join(change(lines))))


def test_a_changed_line_is_named_and_the_rest_is_read_and_kept(tree):
    damaged(tree, lambda lines: [lines[0].replace(b"0.9", b"0.7"), *lines[1:]])
    records, problems = read_records(tree)
    assert len(records) == 11 and len(problems) == 1 and f"{PACKED}: line 1: its content is not" in problems[0]
    with pytest.raises(BenchmarkError, match="line 1"):
        pack(tree)
    assert unpack(tree) == problems
    assert read_records(tree) == (records, []) and len(list(tree.glob("runs/records.damaged-*.jsonl.xz"))) == 1


def test_a_record_for_no_place_of_the_tree_is_refused(tree):
    outside = made.record("..", "..", 0, {"income": 0.9}, dataset="../..")
    line = read_record(write_record(tree / "elsewhere", outside)).model_dump_json().encode() + b"\n"
    damaged(tree, lambda lines: [line, *lines, lines[0]])
    records, problems = read_records(tree)
    assert len(records) == 12 and [PACKED in problem for problem in problems] == [True, True]
    before = set(contents(tree.parent))
    unpack(tree)
    assert all(path.parts[:2] == ("tree", "runs") for path in set(contents(tree.parent)) - before)


def test_a_file_that_ends_early_is_named(tree):
    pack(tree)
    path = tree / "runs" / PACKED
    path.write_bytes(path.read_bytes()[:-40])
    assert f"{PACKED}: not a whole file" in read_records(tree)[1][0]
    path.write_bytes(lzma.compress(b" " * (LONGEST_LINE + 1)))
    assert f"{PACKED}: line 1 is cut off or too long" in read_records(tree)[1][0]


def test_packed_trees_are_merged(tree, tmp_path):
    records = read_records(tree)
    pack(tree)
    assert merge([tree], tmp_path / "all").copied == 12 and read_records(tmp_path / "all") == records
    pack(tmp_path / "all")
    assert merge([tree], tmp_path / "all").equal == 12 and read_records(tmp_path / "all") == records
    assert not list((tmp_path / "all").rglob(PACKED))


def test_the_commands_say_what_they_did_and_what_is_no_tree(tree, mpt):
    assert "12 records in" in mpt("pack", tree).text
    assert mpt("unpack", tree).code == 0 and len(list(tree.rglob("record.json"))) == 12
    refused = mpt("pack", tree / "runs" / "census")
    assert refused.code == 2 and "no result tree" in refused.text
    damaged(tree, lambda lines: [b"{}\n", *lines])
    spoilt = mpt("unpack", tree)
    assert spoilt.code == 1 and f"{PACKED}: line 1" in spoilt.text and "set aside" in spoilt.text
