"""A sweep from the first command to the tables: what is planned, kept, repeated, and what a failure costs."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from benchmark.execution import children, executor
from benchmark.planning import plan as executor_plan
from benchmark.records.record import run_directory, write_record
from benchmark.records.tree import PACKED, read_records
from tests.sweep.trees import HERE, TINY, without_times

ROOT = HERE.parents[1]
DRIVER = [sys.executable, "-m", "tests.faults.driver", "run", *map(str, TINY), "--jobs", "4"]


def sweep(mpt, out, *more):
    return mpt("run", *TINY, "--methods", "shared_bottom,mpt_rec", "--jobs", 2, "--out", out, *more)


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Where the sweep of this module goes, and what the command has said."""
    return {"tree": tmp_path_factory.mktemp("swept") / "tree"}


@pytest.fixture
def swept(mpt, once):
    """A finished sweep of two methods over all arms; copied by the tests that change it."""
    if "result" not in once:  # by the first test that asks: the command line is a fixture of single tests
        once["result"] = sweep(mpt, once["tree"], "--figures")
    return once["tree"]


def test_one_command_ends_with_tables(swept, once):
    result = once["result"]
    assert result.code == 0, result.text
    records, problems = read_records(swept)
    assert problems == []
    cells = {(r.key.method, r.key.arm) for r in records}
    arms = ("stage0", "joint", "frozen", "finetune")
    assert cells == {("single_task", "scratch")} | {(m, arm) for m in ("shared_bottom", "mpt_rec") for arm in arms}
    assert {tuple(r.key.tasks) for r in records if r.key.method == "single_task"} == {("click",), ("like",), ("share",)}
    for record in records:
        assert record.status == "ok" and record.scores and record.params and record.flops and record.provenance
        if record.key.arm == "frozen":
            assert record.invariants["old_tasks_unchanged"] is True
            stage0 = next(r for r in records if r.run_id == record.parent)
            assert stage0.key.method == record.key.method
            for task in record.key.old_tasks:
                assert record.scores[task] == stage0.scores[task]
    written = {path.relative_to(swept).as_posix() for path in swept.glob("tables/*")}
    for form in ("md", "tex", "csv"):
        assert f"tables/new_task-tiny.{form}" in written
    assert any(swept.glob("figures/*.pdf"))
    assert "MPT-Rec" in result.text


def test_the_same_sweep_again_does_nothing_and_its_records_are_the_same_in_any_order(mpt, swept, tmp_path):
    again = sweep(mpt, swept)
    assert again.code == 0 and "(11 were there already)" in again.text
    other = tmp_path / "other"
    reversed_order = mpt("run", *TINY, "--methods", "mpt_rec,shared_bottom", "--jobs", 1, "--out", other)
    assert reversed_order.code == 0, reversed_order.text
    assert without_times(other) == without_times(swept)


def test_a_packed_tree_is_read_as_it_is_and_unpacked_where_something_runs(mpt, swept, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(swept, tree)
    assert "11 records" in mpt("pack", tree).text
    only_read = sweep(mpt, tree, "--mode", "only-read")
    assert only_read.code == 0 and "(11 were there already)" in only_read.text
    run = read_records(tree)[0][0].run_id
    assert run in mpt("show", run, "--out", tree).text and not list(tree.rglob("record.json"))
    again = sweep(mpt, tree)
    assert again.code == 0 and "(11 were there already)" in again.text
    assert without_times(tree) == without_times(swept) and not list(tree.rglob(PACKED))


def test_a_damaged_record_is_set_aside_reported_and_run_again(mpt, swept, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(swept, tree)
    victim = next(tree.glob("runs/tiny/mpt_rec/frozen/*/record.json"))
    victim.write_text(victim.read_text()[:100])
    result = sweep(mpt, tree)
    assert result.code == 0 and "set aside" in result.text and "(10 were there already)" in result.text
    assert len(list(victim.parent.glob("record.damaged-*.json"))) == 1
    assert without_times(tree) == without_times(swept)


def test_lost_weights_are_made_again_when_an_arm_needs_them(mpt, swept, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(swept, tree)
    next(tree.glob("runs/tiny/mpt_rec/stage0/*/weights.pt")).unlink()
    next(tree.glob("runs/tiny/mpt_rec/finetune/*/record.json")).unlink()
    result = sweep(mpt, tree)
    assert result.code == 0 and "(9 were there already)" in result.text
    assert without_times(tree) == without_times(swept)


def test_records_are_bit_equal_from_a_fresh_process_with_other_jobs_in_another_order(mpt, swept, tmp_path):
    fresh = tmp_path / "fresh"
    words = [*DRIVER, "--methods", "shared_bottom,mpt_rec", "--out", fresh]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert without_times(fresh) == without_times(swept)


def test_records_do_not_depend_on_the_order_of_the_plan(mpt, swept, tmp_path, monkeypatch):
    def reversed_plan(*words):
        plan = make_plan(*words)
        plan.runs.reverse()  # children before their parents, too
        return plan

    make_plan = executor_plan.make_plan
    monkeypatch.setattr(executor_plan, "make_plan", reversed_plan)
    other = tmp_path / "other"
    assert sweep(mpt, other).code == 0
    assert without_times(other) == without_times(swept)


def test_a_killed_run_goes_on_from_its_checkpoint_and_ends_with_the_same_bits(mpt, tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "CHECKPOINT_SECONDS", 0.0)
    wanted = ("--methods", "mpt_rec", "--arms", "joint", "--set", "budget.epochs=6", "--set", "budget.patience=6")
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert mpt("run", *TINY, *wanted, "--out", calm).code == 0
    words = [*DRIVER, *wanted, "--out", killed]
    runner = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = None
    while runner.poll() is None and checkpoint is None:
        for path in killed.glob("runs/tiny/mpt_rec/joint/*/progress.pt"):
            saved = torch.load(path, weights_only=True)
            checkpoint = saved if len(saved["state"]["curve"]) < 5 else None
        time.sleep(0.01)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    assert checkpoint is not None, "the run was over before it was killed"
    assert mpt("run", *TINY, *wanted, "--out", killed).code == 0
    assert without_times(killed) == without_times(calm)
    resumed = next(r for r in read_records(killed)[0] if (r.key.method, r.key.arm) == ("mpt_rec", "joint"))
    first = checkpoint["state"]["curve"][0]["train_seconds"]
    assert resumed.curve[0].train_seconds == first, "it began again instead of going on"
    assert not list(killed.glob("runs/**/progress.pt"))


def test_tables_come_from_records_alone_and_check_guards_them(mpt, swept, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(swept / "runs", tree / "runs")
    for path in tree.glob("runs/**/*"):
        if path.is_file() and path.name not in ("record.json", "predictions.npz"):
            path.unlink()
    assert mpt("tables", "--out", tree).code == 0
    assert mpt("tables", "--out", tree, "--check").code == 0
    table = next(tree.glob("tables/new_task-*.md"))
    table.write_text(table.read_text().replace("0.", "1.", 1))
    result = mpt("tables", "--out", tree, "--check")
    assert result.code == 1 and table.name in result.text


def test_show_status_and_verify(mpt, swept):
    record = next(r for r in read_records(swept)[0] if (r.key.method, r.key.arm) == ("mpt_rec", "frozen"))
    shown = mpt("show", record.run_id[:8], "--out", swept)
    assert "old_tasks_unchanged" in shown.text and f"{record.params.trainable:,}" in shown.text
    status = json.loads(mpt("status", "--out", swept, "--json").text)
    assert status["by_status"] == {"ok": 11} and status["stale"] == []
    verified = mpt("verify", record.run_id, "--out", swept, "--dataset-file", HERE / "tiny.py")
    assert verified.code == 0 and ": equal" in verified.text, verified.text


@pytest.mark.parametrize(
    "outside",
    [
        {},
        {"ATEN_CPU_CAPABILITY": "default"},
        {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
        {"ATEN_CPU_CAPABILITY": "avx512"},
    ],
    ids=["as the machine is", "torch's oldest kernels asked for", "numpy without AVX-512", "torch's newest asked for"],
)
def test_a_committed_record_comes_out_again(tmp_path, outside):
    """Written by ``python -m tests.sweep.reference``; do that again after a change that is meant to change numbers.

    Bit for bit, whatever kernels this CPU has or the environment asks for; within tolerance on another vendor's.
    """
    records, problems = read_records(HERE / "reference")
    assert problems == [] and len(records) == 2
    words = ["--out", HERE / "reference", "--dataset-file", HERE / "tiny.py"]
    names = ("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES", "MPTBENCH_NUMERICS")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    clean["MPTBENCH_CACHE"] = str(tmp_path / "cache")
    for record in records if not outside else records[:1]:
        command = [sys.executable, "run_all.py", "verify", record.run_id, *map(str, words)]
        verified = subprocess.run(command, cwd=ROOT, env=clean | outside, capture_output=True, text=True)
        told = verified.stdout + verified.stderr
        assert verified.returncode == 0, told
        same_kind = "kind of machine for bits" not in told
        assert (": equal" if same_kind else ": within tolerance") in told or ": equal" in told, told


def test_verify_says_where_the_curves_part(mpt, swept, tmp_path):
    record = next(r for r in read_records(swept)[0] if (r.key.method, r.key.arm) == ("shared_bottom", "joint"))
    record.curve[1].loss["click"] += 1e-9
    record.scores["click"].metrics["auc"] += 1e-9
    record.weights_fingerprint = "0" * 32
    write_record(run_directory(tmp_path, record.key), record)
    verified = mpt("verify", record.run_id, "--out", tmp_path, "--dataset-file", HERE / "tiny.py")
    assert verified.code == 1 and ": different" in verified.text
    assert "the curves part at epoch 2: loss 'click'" in verified.text
    assert "have to be equal bit for bit" in verified.text


def test_fail_fast_stops_at_the_first_failure(mpt, tmp_path):
    words = ("--method-file", HERE / "faulty.py", "--methods", "raises,healthy", "--arms", "joint", "--jobs", 1)
    result = mpt("run", *TINY, *words, "--out", tmp_path / "out", "--fail-fast")
    assert result.code == 1 and "ValueError" in result.text
    records, _ = read_records(tmp_path / "out")
    assert [r.key.method for r in records if r.status != "ok"] == ["raises"]
    assert "healthy" not in {r.key.method for r in records}
    assert not list((tmp_path / "out").glob("runs/**/lock.json"))


def test_debug_opens_the_debugger_where_the_error_was_raised(mpt, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("p 'here: ' + str(sorted(self.towers))\nq\n"))
    words = ("--method-file", HERE / "faulty.py", "--methods", "raises", "--arms", "joint")
    result = mpt("run", *TINY, *words, "--out", tmp_path / "out", "--debug")
    torch.set_flush_denormal(False)  # the run was in this process
    assert result.code == 1
    assert "here: ['click', 'like']" in result.text and "faulty.py" in result.text
    assert next(r for r in read_records(tmp_path / "out")[0] if r.key.method == "raises").status == "failed"


def test_failing_methods_do_not_stop_the_others(mpt, tmp_path):
    names = "healthy,raises,diverges,leaves,crashes,wrong_shape,not_frozen,unpicklable"
    names += ",forges,reads_test_labels"
    result = mpt(
        "run", *TINY, "--method-file", HERE / "faulty.py", "--methods", names, "--arms", "joint,frozen",
        "--jobs", 2, "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.code == 1
    found = {(r.key.method, r.key.arm): r for r in read_records(tmp_path / "out")[0]}
    assert found["healthy", "joint"].status == found["healthy", "frozen"].status == "ok"
    assert found["single_task", "scratch"].status == "ok"
    raised = found["raises", "joint"]
    assert raised.status == "failed" and "faulty.py:" in raised.reason and "ValueError" in raised.reason
    assert "\x1b" not in "".join(raised.log_tail)
    assert "epoch 2, step 1" in found["diverges", "joint"].reason
    assert found["leaves", "joint"].status == "failed"
    assert "SIGSEGV" in found["crashes", "joint"].reason
    assert "forward must return" in found["wrong_shape", "joint"].reason
    assert "old_tasks_unchanged" in found["not_frozen", "frozen"].reason
    assert found["unpicklable", "joint"].status == "failed"
    assert found["forges", "joint"].status == "failed" and not found["forges", "joint"].scores
    assert "test labels cannot be read" in found["reads_test_labels", "joint"].reason
    assert "failed" in (tmp_path / "out/tables/new_task-tiny.md").read_text()


def test_a_hanging_run_is_killed_with_what_it_forked(mpt, tmp_path, monkeypatch):
    monkeypatch.setattr(children, "ASK_SECONDS", 0.5)
    monkeypatch.setattr(children, "INSIST_SECONDS", 0.5)
    suite = tmp_path / "limited.toml"
    suite.write_text(
        'title = "limited"\ndatasets = ["tiny"]\nmethods = ["hangs", "healthy"]\narms = ["joint"]\nseeds = [0]\n'
        "[budget]\nepochs = 1\n[limits]\nseconds = 8\n"
    )
    result = mpt(
        "run", "--suite", suite, "--dataset-file", HERE / "tiny.py", "--method-file", HERE / "faulty.py",
        "--methods", "hangs,healthy", "--out", tmp_path / "out", "--jobs", 2,
    )  # fmt: skip
    assert result.code == 1, result.text
    found = {(r.key.method, r.key.arm): r for r in read_records(tmp_path / "out")[0]}
    assert found["hangs", "joint"].status == "timeout" and "limit" in found["hangs", "joint"].reason
    assert found["healthy", "joint"].status == "ok"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--datasets", "censsus_income"), "Did you mean 'census_income'?"),
        (("--methods", "mpt_rek"), "Did you mean 'mpt_rec'?"),
        (("--arms", "frozzen"), "Did you mean 'frozen'?"),
        (("--suite", "quik"), "Did you mean 'quick'?"),
        (("--set", "mpt_rec.env_coef=1"), "Did you mean 'env_coe'?"),
        (("--set", "mpt_rec.env_coe=high"), "must be a number"),
        (("--set", "budget.epoch=1"), "Did you mean 'epochs'?"),
        (("--set", "budget.epochs=0"), "greater than or equal to 1"),
        (("--set", "nonsense"), "method.key=value"),
        (("--seeds", "5-1"), "--seeds"),
        (("--new-task", "nothing"), "Unknown task"),
        (("--device", "cuuda"), "Did you mean 'cuda'?"),
        (("--device", "gpu"), "Did you mean 'cuda'?"),
        (("--method-file", "absent.py"), "No method file"),
    ],
)
def test_bad_requests_name_the_nearest_and_run_nothing(mpt, tmp_path, words, expected):
    result = mpt("run", "--suite", "smoke", "--out", tmp_path / "out", *words)
    assert result.code == 2 and expected in result.text
    assert not (tmp_path / "out").exists()


def test_a_broken_method_file_is_reported_with_its_line(mpt, tmp_path):
    (tmp_path / "mine.py").write_text("import torch\n\nx = 1 / 0\n")
    result = mpt("run", "--suite", "smoke", "--method-file", tmp_path / "mine.py")
    assert result.code == 2 and "mine.py:3: ZeroDivisionError" in result.text


def test_an_output_directory_that_cannot_be_written_is_said_at_once(mpt, tmp_path):
    (tmp_path / "file").write_text("")
    result = mpt("run", *TINY, "--methods", "shared_bottom", "--out", tmp_path / "file")
    assert result.code == 2 and "Cannot write" in result.text


def test_a_dry_run_shows_runs_references_and_writes_nothing(mpt, tmp_path):
    result = mpt("run", *TINY, "--methods", "mpt_rec", "--arms", "frozen", "--dry-run", "--json")
    plan = json.loads(result.text)
    assert [(run["method"], run["arm"], run["reference"]) for run in plan["runs"]] == [
        ("single_task", "scratch", True), ("single_task", "scratch", True), ("single_task", "scratch", True),
        ("mpt_rec", "stage0", False), ("mpt_rec", "joint", True), ("mpt_rec", "frozen", False),
    ]  # fmt: skip
    assert not (tmp_path / "results").exists()


def test_a_dry_run_counts_the_search_for_masks(mpt):
    def seconds(*words):
        plan = json.loads(mpt("run", *TINY, "--arms", "joint", "--dry-run", "--json", *words).text)
        return {run["method"]: run["seconds"] for run in plan["runs"] if run["arm"] == "joint"}

    methods = ("--methods", "shared_bottom,sparse_sharing", "--set", "sparse_sharing.rounds=10")
    few, many = (seconds(*methods, "--set", f"sparse_sharing.round_epochs={epochs}") for epochs in (1, 4))
    assert few["shared_bottom"] == many["shared_bottom"] < few["sparse_sharing"] < many["sparse_sharing"]
