"""A GPU beside the processor of the same machine. Skipped where torch sees no GPU:

python -m pytest tests/benchmarks/test_gpu_speed.py --benchmark-only
"""

import os
import time

import pytest
import torch

from benchmark.execution.executor import Options, execute_plan
from benchmark.execution.watcher import Watcher
from benchmark.planning.plan import make_plan
from benchmark.training.backend import set_up_torch
from benchmark.training.rows import DataRows
from datasets_registry import prepare
from methods import METHODS
from tests.benchmarks import test_training_speed as cpu
from tests.benchmarks.loops import hand_loop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]
BATCHES = {256: 20_480, 4096: 81_920, 32_768: 131_072}
"""Rows of an epoch by batch size."""
GPU = torch.device("cuda")


class Mapped(cpu.Arrays):
    """As a dataset's mapped file, which can be read ahead."""

    def read_ahead(self):
        pass


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    set_up_torch(1)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("method", cpu.METHODS_MEASURED)
def test_a_gpu_beside_its_processor(side_by_side, method, batch_size):
    """One epoch of one run. ``blocks`` leaves the inputs in the machine's memory, as those over 4 GiB are."""
    arrays = Mapped(BATCHES[batch_size])
    labels = {task: torch.from_numpy(label) for task, label in arrays.labels.items()}
    there = {task: label.to(GPU) for task, label in labels.items()}
    inputs = [torch.from_numpy(part).to(GPU) for part in (arrays.categorical(None), arrays.numeric(None))]
    on_gpu, in_blocks = DataRows(arrays, arrays.labels, GPU), DataRows(arrays, arrays.labels, GPU, in_memory_bytes=0)
    on_cpu = DataRows(arrays, arrays.labels, torch.device("cpu"))
    models = {name: cpu.prepared(method, on_cpu) for name in ("one", "all")}
    models |= {name: cpu.prepared(method, on_gpu, GPU) for name in ("gpu", "blocks", "hand")}

    def on_cores(name, threads):
        torch.set_num_threads(threads)
        cpu.trainer_epoch(models[name], on_cpu, batch_size)
        torch.set_num_threads(1)

    cores = len(os.sched_getaffinity(0))
    side_by_side(
        {
            "GPU": lambda: cpu.trainer_epoch(models["gpu"], on_gpu, batch_size, device=GPU),
            "GPU, blocks": lambda: cpu.trainer_epoch(models["blocks"], in_blocks, batch_size, device=GPU),
            "GPU, hand loop": lambda: hand_loop(models["hand"], *inputs, there, batch_size),
            "CPU, 1 thread": lambda: on_cores("one", 1),
            f"CPU, {cores} threads": lambda: on_cores("all", cores),
        },
        rounds=3,
        title=f"{method}, batch {batch_size:,}, {BATCHES[batch_size]:,} rows",
    )


def test_runs_at_once_on_a_gpu_and_on_its_processor(benchmark, say, tmp_path):
    """Eight MPT-Rec runs as a sweep carries them out, the start of their processes included."""
    suite = cpu.one_method_suite(seeds=range(8), epochs=4)
    prepare("synthetic")

    def seconds(device, jobs):
        plan = make_plan(suite)
        plan.runs = [run for run in plan.runs if run.key.method == "mpt_rec" and run.key.arm == "joint"]
        started = time.perf_counter()
        done = execute_plan(
            plan, Options(out=tmp_path / f"{device}-{jobs}", jobs=jobs, device=device, mode="fresh"), Watcher(), print
        )
        assert [record.status for record in done.records] == ["ok"] * 8
        return time.perf_counter() - started

    cores = min(8, len(os.sched_getaffinity(0)))
    one = benchmark.pedantic(lambda: seconds("cuda", 1), rounds=1)
    for device, jobs in (("cuda", 2), ("cuda", 4), ("cuda", 8), ("cpu", cores)):
        took = seconds(device, jobs)
        say(
            f"eight MPT-Rec runs, batch 256: one by one on the GPU {one:.1f} s, {jobs} at once on {device} "
            f"{took:.1f} s, {one / took:.2f}x the throughput"
        )


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"single_task", "maml"}))  # they train otherwise
def test_a_step_of_each_method(benchmark, say, method):
    arrays = cpu.Arrays(2048)
    rows = DataRows(arrays, arrays.labels, GPU)
    model = cpu.fresh(method).to(GPU)
    cpu.trainer_epoch(model, rows, 256, device=GPU)
    trained = benchmark.pedantic(lambda: cpu.trainer_epoch(model, rows, 256, epochs=5, device=GPU), rounds=1)
    say(f"{method}: {trained.train_seconds / 40 * 1e3:.1f} ms a step of 256 rows on the GPU")
