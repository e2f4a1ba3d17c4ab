"""Where on a machine a run works: its device, and the cores that share a cache.

Linux moves a process between all cores. On a machine with several last-level caches a run that is moved finds its
tables in none of them, so each run is kept to the cores of one cache, the one with the fewest runs. Within these the
system goes on to choose: two sweeps on one machine share it as before.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
RUN_BYTES = 8 << 30
"""What is reckoned for a run that shares a GPU: its inputs (up to 4 GiB are kept there), its weights, the context."""


@dataclass(frozen=True)
class Place:
    """A device (``cpu``, ``cuda:1``), and the only cores to work on or None for any."""

    device: str
    cores: frozenset[int] | None = None


class Places:
    """Gives every run the place with the fewest runs. May be used from several threads.

    ``others`` is how many runs other processes of this machine have at once, which give places in the same way: ours
    are the next ones.
    """

    def __init__(
        self, devices: Sequence[str], caches: Sequence[frozenset[int]] = (), threads: int = 1, others: int = 0
    ) -> None:
        self._devices = list(devices)
        self._caches = [cores for cores in caches if len(cores) >= threads] if len(caches) > 1 else []
        self._taken: Counter[object] = Counter()
        self._lock = threading.Lock()
        for _ in range(others):
            self.take()

    def take(self) -> Place:
        with self._lock:
            device = min(self._devices, key=lambda device: self._taken[device])
            cores = min(self._caches, key=lambda cores: self._taken[cores] / len(cores)) if self._caches else None
            self._taken.update([device, cores])
            return Place(device, cores)

    def give(self, place: Place) -> None:
        with self._lock:
            self._taken.subtract([place.device, place.cores])


def caches(root: Path = CPUS, usable: frozenset[int] | None = None) -> list[frozenset[int]]:
    """The cores of each last-level cache that we may use; empty where the system does not tell."""
    if usable is None:
        usable = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
    found: dict[frozenset[int], None] = {}
    for core in sorted(usable):
        shared: tuple[int, frozenset[int]] | None = None
        for index in (root / f"cpu{core}" / "cache").glob("index*"):
            with contextlib.suppress(OSError, ValueError):
                level = int((index / "level").read_text())
                cores = _cores((index / "shared_cpu_list").read_text())
                if shared is None or level > shared[0]:
                    shared = level, cores
        if shared is None:
            return []
        found[shared[1] & usable] = None
    return list(found)


def runs_per_gpu(cores: int, memory: Sequence[int]) -> int:
    """How many runs at once a GPU is given where nobody says so; ``memory`` has the bytes of each GPU.

    One for each core and each RUN_BYTES of the smallest GPU. A small model's steps keep a core busy with starting
    kernels and the GPU idle, so runs share one and hardly slow each other (docs/cluster.md has what was measured).
    """
    return max(1, min(cores // len(memory), min(memory) // RUN_BYTES))


def _cores(text: str) -> frozenset[int]:
    """``0-3,8`` as numbers."""
    ranges = (part.partition("-") for part in text.strip().split(","))
    return frozenset(n for first, _, last in ranges for n in range(int(first), int(last or first) + 1))


def devices(name: str, visible: int) -> list[str]:
    """The devices that ``--device`` names on a machine with so many visible GPUs.

    ``cuda`` is every visible GPU, ``cuda:0,cuda:2`` are these, ``auto`` every GPU or, without one, the CPU. Raises
    ValueError with a sentence for a GPU that is not there or a name that is no device.
    """
    if name == "auto":
        name = "cuda" if visible else "cpu"
    if name == "cpu":
        return ["cpu"]
    if name == "cuda" and visible:
        return [f"cuda:{number}" for number in range(visible)]
    found = []
    for part in name.split(","):
        kind, _, number = part.strip().partition(":")
        if kind != "cuda" or (number and not number.isdigit()) or (not number and "," in name):
            raise ValueError(f"'{part.strip()}' is no device: auto, cpu, cuda (every GPU) or cuda:0,cuda:2")
        if not number or int(number) >= visible:
            there = f"GPUs 0 to {visible - 1}" if visible > 1 else "GPU 0 alone" if visible else "no GPU"
            raise ValueError(f"--device {name}: torch sees {there} here; use --device cpu or auto")
        found.append(f"cuda:{int(number)}")
    return list(dict.fromkeys(found))
