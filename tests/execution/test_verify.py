"""Records that this program cannot have written, or not for its own methods and data, end in a sentence."""

import copy

import pytest

from benchmark.records.agreement import Verdict
from benchmark.records.record import run_directory, run_id, write_record
from benchmark.records.tree import read_records
from tests.sweep.trees import HERE

RECORD = read_records(HERE / "reference")[0][1]


def tree(out, **key):
    """A result tree with the record under another key, whole as far as checksums and names go."""
    record = copy.deepcopy(RECORD)
    record.key = record.key.model_copy(update=key)
    record.run_id = run_id(record.key)
    return write_record(run_directory(out, record.key), record), record.run_id


def test_a_record_of_a_cpu_is_run_again_on_the_cpu_where_there_is_a_gpu_too(mpt, monkeypatch):
    """A GPU's rounding would make another run of it."""
    monkeypatch.setattr("benchmark.cli.sweep.visible_gpus", lambda: 1)
    devices = []

    def note(record, options, seeds):
        devices.append(options.device)
        return Verdict("equal", [])

    monkeypatch.setattr("benchmark.execution.verify.verify", note)
    words = ("verify", RECORD.run_id, "--out", HERE / "reference", "--dataset-file", HERE / "tiny.py")
    assert mpt(*words).code == 0 and mpt(*words, "--device", "cuda").code == 0
    assert devices == ["cpu", "cuda:0"]


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "key",
    [
        {"arm": "nowhere"},
        {"method": "unheard_of"},
        {"dataset": "unheard_of"},
        {"budget": {"epochs": "many"}},
        {"config": {"hidden": nested(100)}},
        {"config": {"unheard_of": 1}},
        {"tasks": ["unheard_of"]},
        {"seed": 10**30},
    ],
    ids=lambda key: "-".join(key),
)
def test_a_foreign_record_of_any_key_ends_in_a_sentence(mpt, tmp_path, key):
    _, name = tree(tmp_path, **key)
    result = mpt("verify", name, "--dataset-file", HERE / "tiny.py", "--out", tmp_path)
    assert result.code in (1, 2) and result.text.strip()
    assert mpt("show", name, "--out", tmp_path).code == 0


def test_a_foreign_record_of_an_unknown_arm_is_shown_and_cannot_be_run_again(mpt, tmp_path):
    _, name = tree(tmp_path, arm="frozzen")
    verified = mpt("verify", name, "--dataset-file", HERE / "tiny.py", "--out", tmp_path)
    assert verified.code == 2 and "Did you mean 'frozen'?" in verified.text
    assert mpt("status", "--out", tmp_path).code == mpt("tables", "--no-figures", "--out", tmp_path).code == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"threads": 1', '"threads": 0'),
        ('"threads": 1', '"threads": -1'),
        ('"config": {', '"config": {"x": ' + "[" * 900 + "]" * 900 + ", "),
        ('"config": {', '"config": {"x": ' + "[" * 100_000 + "]" * 100_000 + ", "),
    ],
    ids=["no threads", "fewer than none", "nested 900 deep", "nested 100,000 deep"],
)
def test_a_record_that_no_run_can_have_written_is_damaged(mpt, tmp_path, old, new):
    path, name = tree(tmp_path)
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    for command in (("verify", name, "--dataset-file", HERE / "tiny.py"), ("show", name)):
        result = mpt(*command, "--out", tmp_path)
        assert result.code == 2 and "record.json" in result.text and "Traceback" not in result.text
    assert "record.json" in mpt("status", "--out", tmp_path).text
