"""Attacks on what comes from elsewhere: records, trees, bundles, method files. Each once succeeded."""

import json
import lzma
import os
import shutil
import subprocess
import sys
import time
from unittest import mock

import pytest
import torch

from benchmark.core.errors import UsageError
from benchmark.core.files import read_regular
from benchmark.core.programs import ROOT
from benchmark.execution.children import start_child
from benchmark.execution.executor import _unchanged
from benchmark.execution.merge import merge
from benchmark.records.agreement import compare
from benchmark.records.record import DamagedRecord, parsed, read_record, run_directory, write_record
from benchmark.records.tree import PACKED, read_records, unpack
from benchmark.report import frame
from methods import METHODS
from tests.report import made
from tests.sweep.trees import HERE

RECORD = read_records(HERE / "reference")[0][1]
FORGED = {
    "params.trainable": 7,
    "params.total": 7,
    "flops.forward": 1.0,
    "flops.training_step": 1.0,
    "serving.weights": 3,
    "train_rows": 5,
    "scores.click.n": 10**9,
    "scores.click.positives": 1,
    "scores.click.auc_standard_error": 1e-9,
    "scores.click.rows.scale": 1e-12,
    "selection.epoch": 1,
    "curve": [],
    "invariants": {"old_tasks_unchanged": True, "everything_is_fine": True},
}


def with_value(record, path, value):
    content = record.model_dump()
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[name]
    place[last] = value
    return type(record).model_validate(content)


@pytest.mark.parametrize("path", FORGED)
def test_a_forged_value_of_a_record_is_not_equal_to_what_a_repetition_gives(path):
    forged = with_value(RECORD, path, FORGED[path])
    verdict = compare(forged, RECORD)
    assert verdict.state == "different"
    assert any(path.split(".")[0] in line for line in verdict.lines), verdict.lines


@pytest.mark.parametrize("path", [p for p in FORGED if p.split(".")[0] in ("params", "flops", "train_rows")])
def test_a_forged_count_does_not_pass_on_another_kind_of_machine_either(path):
    elsewhere = RECORD.model_copy(deep=True)
    elsewhere.provenance.bits_kind = "another"
    elsewhere.weights_fingerprint = "0" * 32
    assert compare(RECORD, elsewhere).state == "within tolerance"
    assert compare(with_value(RECORD, path, FORGED[path]), elsewhere).state == "different"


@pytest.fixture
def tree(tmp_path):
    return made.write(tmp_path / "tree", made.study({"shared_bottom": 0.94, "mpt_rec": 0.945}))


def linked_run(tree, secret):
    directory = next(tree.glob("runs/*/*/joint/*"))
    shutil.rmtree(directory)
    directory.symlink_to(secret, target_is_directory=True)


def test_a_link_inside_a_tree_is_refused_by_whatever_reads_or_writes_it(mpt, tree, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "id_rsa").write_text("private")
    linked_run(tree, secret)
    for words in (["merge", tree, "--out", tmp_path / "merged"], ["unpack", tree], ["tables", "--out", tree],
                  ["report", "--out", tree], ["pack", tree]):  # fmt: skip
        result = mpt(*words)
        assert result.code != 0 and "symbolic link" in result.text, words
    assert not list(tmp_path.rglob("merged/**/id_rsa"))


@pytest.mark.parametrize("inside", ["tables", "figures", "runs/census"])
def test_nothing_is_written_through_a_link(mpt, tree, tmp_path, inside):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if (tree / inside).exists():
        shutil.rmtree(tree / inside)
    (tree / inside).parent.mkdir(parents=True, exist_ok=True)
    (tree / inside).symlink_to(elsewhere, target_is_directory=True)
    assert mpt("tables", "--no-figures", "--out", tree).code != 0
    assert list(elsewhere.iterdir()) == []
    with pytest.raises(UsageError, match="symbolic link"):
        merge([], tree)


def test_other_numbers_of_the_same_shapes_are_not_taken_for_the_weights_of_stage_0(tmp_path):
    from benchmark.training.meters import weights_fingerprint

    state = {"w": torch.randn(3, 4), "b": torch.zeros(3)}
    record = RECORD.model_copy(update={"weights_fingerprint": weights_fingerprint(state)})
    torch.save(state, tmp_path / "weights.pt")
    assert _unchanged(tmp_path / "weights.pt", record)
    torch.save({name: torch.randn_like(part) for name, part in state.items()}, tmp_path / "weights.pt")
    assert not _unchanged(tmp_path / "weights.pt", record)


@pytest.mark.parametrize("name", ["record.json", "lock.json", "suite.json"])
def test_a_named_pipe_in_the_place_of_a_file_is_no_file(tree, mpt, name):
    directory = tree if name == "suite.json" else next(tree.glob("runs/*/*/joint/*"))
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    started = time.monotonic()
    mpt("status", "--out", tree)
    mpt("tables", "--no-figures", "--out", tree)
    assert time.monotonic() - started < 60


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    with pytest.raises(OSError, match="regular"):
        read_regular(type(tmp_path)("/dev/zero"))
    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", 1 << 34)
    with pytest.raises(OSError, match="larger"):
        read_regular(tmp_path / "large")
    with pytest.raises(DamagedRecord):
        read_record(tmp_path / "large")


def test_a_small_packed_file_of_many_empty_lines_is_given_up_soon(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / PACKED).write_bytes(lzma.compress(b"\n" * (1 << 27)))
    started = time.monotonic()
    records, problems = read_records(tmp_path)
    assert records == [] and 0 < len(problems) < 50 and time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("path", "value"),
    [("serving.weights", 10**400), ("serving.tasks", 10**400), ("provenance.threads", 10**6),
     ("scores.click.positives", 10**9), ("serving.flops_added", 1e300)],
)  # fmt: skip
def test_a_value_that_no_run_can_have_makes_a_record_damaged(path, value):
    content = RECORD.model_dump(mode="json")
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[name]
    place[last] = value
    with pytest.raises(DamagedRecord):
        parsed(json.dumps(content).encode(), "here")


@pytest.mark.parametrize("call", ["sys.exit(0)", "raise SystemExit"])
def test_a_method_file_cannot_end_the_program_with_success(tmp_path, call):
    file = tmp_path / "leaves.py"
    file.write_text(f"import sys\n{call}\n")
    with pytest.raises(UsageError, match="sys.exit"):
        METHODS.load_file(file)


def test_a_closed_output_stops_nothing(tree):
    command = f"{sys.executable} run_all.py status --out {tree} >&-"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and done.returncode == 0, done.stderr


def test_a_columns_name_is_no_formula_of_a_spreadsheet(tmp_path):
    frame.export(tmp_path / "x.csv", [{"=2+5": 1, "@SUM(1+1)": 2}])
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == "'=2+5,'@SUM(1+1)"


ESCAPE = "\x1b]52;c;ZWNobyBoaQ==\x07"


def test_what_a_damaged_record_is_called_does_not_steer_the_terminal(mpt, tree):
    directory = tree / "runs" / f"evil{ESCAPE}" / "m" / "joint" / "0123456789abcdef"
    directory.mkdir(parents=True)
    (directory / "record.json").write_text("{}")
    for words in (["status", "--out", tree], ["status", "--json", "--out", tree],
                  ["export-artefact", "--out", tree, "--to", tree.parent / "a.zip"]):  # fmt: skip
        assert "\x1b" not in mpt(*words).text, words


@pytest.mark.parametrize("name", ["suite.json", "skips.json"])
@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b"{"])
def test_a_broken_file_beside_the_records_ends_in_a_sentence(mpt, tree, name, content):
    (tree / name).write_bytes(content)
    for words in (["report", "--out", tree], ["export-artefact", "--out", tree, "--to", tree.parent / "a.zip"]):
        result = mpt(*words)
        assert "Traceback" not in result.text


def test_unpacking_a_tree_whose_place_of_runs_is_a_link_is_refused(tree, tmp_path):
    from benchmark.records.tree import pack

    pack(tree)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree / "runs" / "census").symlink_to(outside, target_is_directory=True)
    with pytest.raises(UsageError, match="symbolic link"):
        unpack(tree)
    assert list(outside.iterdir()) == []


def test_a_record_forged_in_a_merged_tree_is_set_aside(tree, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tree, other)
    path = next(other.glob("runs/*/mpt_rec/joint/*/record.json"))
    record = read_record(path)
    record.flops = record.flops and record.flops.model_copy(update={"forward": 1.0})
    record.params = record.params.model_copy(update={"trainable": 1})
    write_record(run_directory(other, record.key), record)
    merged = merge([tree, other], tmp_path / "merged")
    assert len(merged.conflicts) == 1


@pytest.mark.parametrize("how", ["symbolic", "hard"])
def test_a_log_that_is_another_file_s_second_name_is_taken_away_before_a_run_empties_it(tmp_path, how):
    mine, directory = tmp_path / "mine.txt", tmp_path / "run"
    directory.mkdir()
    mine.write_text("mine")
    (directory / "log.txt").symlink_to(mine) if how == "symbolic" else os.link(mine, directory / "log.txt")
    context = mock.Mock()
    context.Pipe.return_value = (mock.Mock(), mock.Mock())
    start_child(context, mock.Mock(), mock.Mock(directory=directory, limit_seconds=None))
    assert not (directory / "log.txt").exists() and mine.read_text() == "mine"
