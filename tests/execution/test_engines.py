"""Which device a run gets, on machines whose GPUs are pretended; how many there are at once."""

import io
import os
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmark.cli import sweep as sweep_module
from benchmark.cli.options import Request
from benchmark.cli.progress import ProgressDisplay
from benchmark.cli.sweep import Sweep
from benchmark.core.errors import UsageError
from benchmark.execution import local
from benchmark.execution.executor import Options
from benchmark.execution.job import Job
from benchmark.execution.watcher import Watcher
from benchmark.records.record import Key
from tests.report import made


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(sweep_module, "visible_gpus", lambda: 4)
    monkeypatch.setattr(sweep_module, "gpu_bytes", lambda device: 24 << 30)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(32)))


@pytest.mark.parametrize(
    ("asked", "device", "jobs"),
    [
        ({"device": "cuda"}, "cuda:0,cuda:1,cuda:2,cuda:3", 12),
        ({"device": "cuda:1"}, "cuda:1", 3),
        ({"device": "cuda", "jobs_per_gpu": 1}, "cuda:0,cuda:1,cuda:2,cuda:3", 4),
        ({"device": "cuda", "jobs_per_gpu": 3}, "cuda:0,cuda:1,cuda:2,cuda:3", 12),
        ({"device": "cuda:0,cuda:2", "jobs_per_gpu": 2}, "cuda:0,cuda:2", 4),
        ({"device": "cuda:2", "jobs": 5}, "cuda:2", 5),
        ({"device": "cuda", "engine": "dask", "workers": 3}, "cuda:0,cuda:1,cuda:2,cuda:3", 6),
    ],
)
def test_all_gpus_of_a_machine_or_the_named_ones(four_gpus, asked, device, jobs):
    made = Sweep.of(Request("smoke", **asked))
    assert (made.device, made.jobs) == (device, jobs)


def test_a_gpu_that_is_not_there_is_said_before_anything_starts(four_gpus):
    with pytest.raises(UsageError, match="GPUs 0 to 3"):
        Sweep.of(Request("smoke", device="cuda:0,cuda:7"))


def test_runs_at_once_are_spread_over_the_devices_and_a_freed_one_is_next(monkeypatch, tmp_path):
    jobs, ended = [], []

    def start_child(context, run, job):
        jobs.append(job)
        return SimpleNamespace(run=run, job=job, process=SimpleNamespace(join=lambda: None))

    monkeypatch.setattr(local, "start_child", start_child)
    monkeypatch.setattr(local, "poll", lambda children, *tell: [ended.pop()] if ended else [])
    monkeypatch.setattr(local, "lost_from_outside", lambda child: None)
    engine = local.LocalEngine(4)
    plan = SimpleNamespace(suite=SimpleNamespace(threads=1))
    engine.begin(plan, Options(tmp_path, device="cuda:0,cuda:2"), {}, Watcher(), print, lambda: None)
    for seed in range(4):
        assert engine.room()
        engine.start(SimpleNamespace(id=str(seed), label=""), job(tmp_path, seed))
    assert not engine.room()
    assert [one.device for one in jobs] == ["cuda:0", "cuda:2", "cuda:0", "cuda:2"]
    ended.append(engine._children[1])
    assert [one.run.id for one in engine.wait()] == ["1"]
    engine.start(SimpleNamespace(id="4", label=""), job(tmp_path, 4))
    assert jobs[-1].device == "cuda:2"


def job(out, seed):
    key: Key = made.record("shared_bottom", "joint", seed, {"income": 0.9}).key
    return Job(
        key=key, out=out, parent=None, stage0=None, device="auto", threads=1, jobs=4, data_dir=None, command="",
        memory_bytes=None, method_files=(), dataset_files=(),
    )  # fmt: skip


def test_as_many_runs_at_once_as_a_batch_system_gives_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 4, 5}, raising=False)
    assert Sweep.of(Request("smoke", device="cpu")).jobs == 3
    assert Sweep.of(Request("smoke", device="cpu", engine="dask", workers=2)).jobs == 4


def test_a_warning_does_not_cross_the_live_display():
    """On a terminal whose encoding is not known click writes past the display, into its line."""
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    before = sys.stderr
    with ProgressDisplay(console, 9, 2):
        assert sys.stderr is not before
        sweep_module.warn("no worker yet")
    assert "Warning: no worker yet" in console.file.getvalue()
