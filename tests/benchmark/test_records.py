"""Records: validated, atomic, found again by their key; damaged ones are named, never guessed at."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.core.files import write_atomically
from benchmark.records.record import (
    DamagedRecord,
    Key,
    Record,
    laid_out,
    read_record,
    run_directory,
    run_id,
    write_record,
)
from benchmark.records.tree import read_records


def key(**changes):
    values = {
        "dataset": "d", "old_tasks": ["a"], "new_tasks": ["b"], "tasks": ["a"], "method": "m", "config": {"x": 1},
        "arm": "stage0", "stage": 0, "budget": {"epochs": 1}, "selection": "rule", "seed": 0,
    }  # fmt: skip
    return Key(**(values | changes))


def record(**changes):
    return Record(run_id=run_id(key(**changes)), key=key(**changes), status="failed", reason="because")


def test_a_record_comes_back_as_written(tmp_path):
    path = write_record(run_directory(tmp_path, key()), record())
    assert read_record(path) == record()
    assert read_records(tmp_path) == ([record()], [])


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), lambda inner: st.lists(inner)
                    | st.dictionaries(st.text(), inner), max_leaves=40))  # fmt: skip
def test_the_layout_of_a_record_changes_no_value(value):
    assert json.dumps(json.loads(laid_out(value))) == json.dumps(value)


def test_what_fits_on_a_line_stands_on_one():
    epochs = [{"epoch": epoch, "loss": {"click": 0.1}, "validation": {"click": {"auc": 0.7}}} for epoch in range(20)]
    lines = laid_out({"curve": epochs, "seed": 0}).splitlines()
    assert lines[:2] == ["{", ' "curve": ['] and lines[-3:] == [" ],", ' "seed": 0', "}"]
    assert [json.loads(line.rstrip(",")) for line in lines[2:-3]] == epochs


def test_the_run_id_depends_on_everything_that_names_the_run():
    changes = [
        {},
        {"seed": 1},
        {"config": {"x": 2}},
        {"tasks": ["a", "b"]},
        {"budget": {"epochs": 2}},
        {"arm": "joint"},
    ]
    assert len({run_id(key(**change)) for change in changes}) == len(changes)
    assert run_id(key(config={"x": 1, "y": 2})) == run_id(key(config={"y": 2, "x": 1}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace('"failed"', '"wonderful"'),
        lambda text: text.replace('"seed": 0', '"seed": "zero"'),
        lambda text: text.replace('"schema_version": 1', '"schema_version": 99'),
        lambda text: json.dumps({**json.loads(text), "surprise": 1}),
        lambda text: json.dumps({**json.loads(text), "rows_per_second": float("nan")}),
        lambda text: "\x00" * len(text),
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_file(tmp_path, damage):
    path = write_record(run_directory(tmp_path, key()), record())
    path.write_text(damage(path.read_text()))
    with pytest.raises(DamagedRecord, match=r"record\.json"):
        read_record(path)
    found, problems = read_records(tmp_path)
    assert found == [] and len(problems) == 1


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]
