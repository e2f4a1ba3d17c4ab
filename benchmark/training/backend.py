"""How torch is set up for a run: threads, determinism, denormals, the device."""

from __future__ import annotations

import os

import torch

from benchmark.core.errors import BenchmarkError


def set_up_torch(threads: int) -> None:
    """Threads, determinism and denormals, before anything is computed.

    Without flushing, Adam's decayed moments become denormal numbers after some thousand steps and every epoch takes
    several times as long.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same switch as use_deterministic_algorithms(True, warn_only=True), without its import of the compiler (4 s).
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that costs a write per allocation
    torch.backends.cudnn.benchmark = False


def visible_gpus() -> int:
    """How many GPUs torch sees here."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose_device(name: str) -> torch.device:
    """``auto`` is the first GPU where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BenchmarkError("--device cuda: torch sees no GPU here; use --device cpu or auto.")
    return torch.device(name)


def flushes_denormals() -> bool:
    return float(torch.tensor([1e-39]) * 0.5) == 0.0
