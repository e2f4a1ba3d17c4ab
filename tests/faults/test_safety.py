"""Nothing that is read is executed, and no name or text leaves the place it was given."""

import io
import pickle
import zipfile

import pytest
import torch

from benchmark import report
from benchmark.analysis.groups import read_arrays
from benchmark.cli import trees
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.registry import Registry
from benchmark.execution.executor import _whole
from benchmark.records.record import read_record, run_directory
from benchmark.records.tree import read_records
from datasets_registry.schema_file import read_schema
from tests.report import made
from tests.sweep.trees import TINY

BAD_NAMES = ("../../x", "a/b", "a\\b", "a\x00b", "x" * 5000, "CON", "nul", "", ".", "..", "a b", "~", "$HOME", "-rf")


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
@pytest.mark.parametrize("kind", ["method", "dataset"])
def test_a_name_that_is_no_plain_word_is_refused(kind, name):
    with pytest.raises(UsageError, match=r"mine\.py"):
        Registry(kind, "methods", "none").add(name, object(), "mine.py")


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\\\b", "a\\u0000b", "x" * 5000, "a\\nb"])
def test_a_task_or_column_cannot_become_a_path(tmp_path, name):
    (tmp_path / "x.csv").write_text("a,b\n0,1\n")
    for key in ("old_tasks", "categorical"):
        lists = {"old_tasks": '["a"]', "categorical": '["b"]'} | {key: f'["{name}"]'}
        schema = "".join(f"{k} = {v}\n" for k, v in lists.items())
        (tmp_path / "own.toml").write_text(f'name = "mine"\nfiles = "x.csv"\n{schema}')
        with pytest.raises(UsageError, match=r"own\.toml"):
            read_schema(tmp_path / "own.toml")


def test_a_record_of_a_hostile_key_is_refused_and_writes_nothing(tmp_path):
    record = made.record("shared_bottom", "joint", 0, {"income": 0.9})
    path = made.write(tmp_path, [record]) / "runs"
    (written,) = path.glob("*/*/*/*/record.json")
    text = written.read_text().replace('"shared_bottom"', '"../../../../outside"')
    written.write_text(text)
    records, problems = read_records(tmp_path)
    assert records == [] and len(problems) == 1
    report.build(tmp_path, {})
    assert sorted(p.name for p in tmp_path.parent.iterdir() if p.name == "outside") == []


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def test_weights_checkpoints_and_arrays_with_a_payload_execute_nothing(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weights": Payload()}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        header = (
            b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
        )
        archive.writestr("logits.npy", header + pickle.dumps(Payload()))
    (tmp_path / "predictions.npz").write_bytes(buffer.getvalue())
    assert read_arrays(tmp_path / "predictions.npz") is None


def test_no_module_loads_pickles_or_evaluates_text():
    from benchmark.records.provenance import ROOT

    for path in [p for folder in ("benchmark", "methods", "datasets_registry") for p in (ROOT / folder).rglob("*.py")]:
        text = path.read_text()
        for line in text.splitlines():
            assert "torch.load(" not in line or "weights_only=True" in line, f"{path}: {line}"
            assert "allow_pickle=True" not in line and " eval(" not in line, f"{path}: {line}"
        assert "pickle.load" not in text or path.name == "drawing.py", path  # its own workers' jobs


def test_a_checkpoint_with_a_payload_costs_a_fresh_start_and_nothing_else(mpt, tmp_path):
    words = ("run", *TINY, "--methods", "shared_bottom", "--arms", "joint", "--out", tmp_path / "out")
    assert mpt(*words).code == 0
    (record,) = (r for r in read_records(tmp_path / "out")[0] if r.key.arm == "joint")
    directory = run_directory(tmp_path / "out", record.key)
    (directory / "record.json").unlink()
    torch.save(Payload(), directory / "progress.pt")
    assert mpt(*words).code == 0
    assert "cannot be resumed from" in (directory / "log.txt").read_text()
    assert read_record(directory / "record.json").scores == record.scores


def test_spoilt_weights_are_known_by_their_checksums(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.ones(1000)}, path)
    whole = path.read_bytes()
    assert _whole(path)
    number = whole.index(b"\x00\x00\x80\x3f" * 4) + 2  # within the tensor
    for spoilt in (whole[:-10], whole[:500], b"", whole[:number] + b"\x81" + whole[number + 1 :]):
        path.write_bytes(spoilt)
        assert not _whole(path)


HOSTILE = "<script>alert(1)</script>\\input{/etc/passwd}\x1b]0;title\x07\x1b[31m\u202e%$&#_^~{}|`[x](javascript:1)"


def test_hostile_titles_and_reasons_reach_no_interpreter(tmp_path):
    records = made.study({"shared_bottom": 0.94})
    for record in records:
        if record.key.arm == "frozen":
            record.status, record.scores, record.reason, record.log_tail = "failed", {}, HOSTILE, [HOSTILE]
    out = made.write(tmp_path, records)
    found = report.report(out, {"shared_bottom": HOSTILE})
    for name, content in found.files().items():
        assert not set("\x1b\x07\u202e") & set(content), name
        if name.endswith(".tex"):
            assert "\\input{" not in content
        if name.endswith(".md"):
            assert "<script>" not in content
    assert not set("\x1b\x07\u202e") & set(found.terminal())
    shown = trees.status_of(out)
    for text in (*shown["failures"], *(trees.describe_record(r) for r in read_records(out)[0])):
        assert not set("\x1b\x07\u202e") & set(text)


def test_a_hostile_cell_is_named_without_its_control_characters(tmp_path):
    from datasets_registry import prepare

    (tmp_path / "x.csv").write_text("a,b\n" + "0,1\n" * 50 + "\x1b[31mred,1\n")
    (tmp_path / "own.toml").write_text('name = "m"\nfiles = "x.csv"\nold_tasks = ["a"]\ncategorical = ["b"]\n')
    with pytest.raises(BenchmarkError, match=r"x.csv, line 52, column a") as error:
        prepare(read_schema(tmp_path / "own.toml"), cache_dir=tmp_path / "cache")
    assert "\x1b" not in str(error.value)
