"""What the same bits on every machine cost: epochs in the mode ``portable`` beside ``native``, two processes in turn.

python -m pytest tests/benchmarks/test_numerics_speed.py --benchmark-only -o addopts=
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.core import numerics

ROOT = Path(__file__).resolve().parents[2]
METHODS_MEASURED = ("shared_bottom", "mmoe", "ple", "mpt_rec")
ROUNDS = 7

WORKER = """
import json, sys, time
import benchmark
from benchmark.core import numerics
from benchmark.training.backend import set_up_torch
from benchmark.training.rows import DataRows
from tests.benchmarks.test_training_speed import DEVICE, Arrays, prepared, trainer_epoch

set_up_torch(1)
arrays = Arrays()
rows = DataRows(arrays, arrays.labels, DEVICE)
models = {}
print(json.dumps(str(numerics.in_force())), flush=True)
for line in sys.stdin:
    method, batch_size = json.loads(line)
    if method not in models:
        models[method] = prepared(method, rows)
    started = time.process_time()
    trainer_epoch(models[method], rows, batch_size)
    print(json.dumps(time.process_time() - started), flush=True)
"""


class Worker:
    """A process of one numeric mode that trains an epoch when asked and tells the processor's seconds."""

    def __init__(self, mode):
        words = [sys.executable, "-c", WORKER]
        environment = {**os.environ, numerics.VARIABLE: mode}
        for name in (*numerics.TORCH_VARIABLES, *numerics.NUMPY_VARIABLES, *numerics.HELD_ON_INTEL):
            environment.pop(name, None)  # what the mode of this process has set
        self._process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.in_force = self._answer()

    def _answer(self):
        return json.loads(self._process.stdout.readline())

    def epoch(self, method, batch_size):
        self._process.stdin.write(json.dumps([method, batch_size]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def workers():
    both = [Worker("portable"), Worker("native")]
    yield both
    for worker in both:
        worker.close()


@pytest.mark.parametrize("batch_size", [256, 1024, 4096])
@pytest.mark.parametrize("method", METHODS_MEASURED)
def test_portable_beside_native(benchmark, say, workers, method, batch_size):
    portable, native = workers
    if portable.in_force == native.in_force:
        pytest.skip(f"both modes are {native.in_force} on this machine")
    for worker in workers:
        worker.epoch(method, batch_size)  # warms up
    pairs = [(portable.epoch(method, batch_size), native.epoch(method, batch_size)) for _ in range(ROUNDS)]
    benchmark.pedantic(lambda: portable.epoch(method, batch_size), rounds=1)
    ratios = sorted(ours / fastest for ours, fastest in pairs)
    ours, fastest = (statistics.median(side) for side in zip(*pairs))
    say(
        f"{method}, batch {batch_size}: portable {ours:.3f} s, {native.in_force} {fastest:.3f} s of the processor; "
        f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
