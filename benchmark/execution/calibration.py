"""The calibration kernel: one fixed training step, timed on the machine and under the load that a run has.

Two machines of one name may differ by a factor of two, and the same one does from hour to hour. Each run therefore
times this step before it starts; times of different machines are compared in such steps (`benchmark.report.measures`).
The step is that of a small multi-task model: embeddings of 26 categorical features, two hidden layers, one logit, Adam.
It draws from a generator of its own and leaves no trace in the run.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

KERNEL = 1
"""Raised when the step changes: times in units of different kernels are never compared."""

TIMES_VERSION = 2
"""Raised when the harness becomes faster or slower on purpose. Times of different versions are not compared; scores
have a version of their own, the code fingerprint, so that a faster harness leaves older scores what they are."""

ROWS, FEATURES, VALUES, WIDTH = 256, 26, 1000, 4
WARM_UP, STEPS = 3, 15


def kernel_milliseconds(device: torch.device) -> float | None:
    """Median milliseconds of the step: of the processor, all threads together; on a GPU wall-clock.

    None where it cannot be computed, e.g. for want of memory: a run never fails for its clock's sake.
    """
    try:
        step = _step(device)
        for _ in range(WARM_UP):
            step()
        return round(1000 * sorted(_timed(step, device) for _ in range(STEPS))[STEPS // 2], 4)
    except (RuntimeError, MemoryError):
        return None


def _timed(step: Callable[[], None], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def _step(device: torch.device) -> Callable[[], None]:
    drawn = torch.Generator().manual_seed(1)
    index = torch.randint(FEATURES * VALUES, (ROWS, FEATURES), generator=drawn).to(device)
    labels = torch.randint(2, (ROWS,), generator=drawn).float().to(device)
    sizes = (FEATURES * WIDTH, 256, 128, 1)
    weights = [_drawn((FEATURES * VALUES, WIDTH), drawn, device)]
    weights += [_drawn(shape, drawn, device) for shape in itertools.pairwise(sizes)]
    optimizer = torch.optim.Adam(weights, 1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        hidden = nn.functional.embedding(index, weights[0]).flatten(1)
        for layer in weights[1:-1]:
            hidden = torch.relu(hidden @ layer)
        nn.functional.binary_cross_entropy_with_logits((hidden @ weights[-1])[:, 0], labels).backward()
        optimizer.step()

    return step


def _drawn(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return (0.05 * torch.randn(shape, generator=generator)).to(device).requires_grad_()
