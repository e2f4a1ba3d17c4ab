"""Whether the system has killed for lack of memory: its counters, where it has any. Without evidence nobody says so."""

from __future__ import annotations

import contextlib
from pathlib import Path

ROOT = Path("/")


def oom_kills(root: Path = ROOT) -> dict[str, int]:
    """How many processes the system has killed for lack of memory so far, by where it is counted.

    The control group's own counter (both versions of control groups) speaks of us, the machine's of all processes.
    """
    found = {}
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                files = [root / f"sys/fs/cgroup{path}/memory.events", root / "sys/fs/cgroup/memory.events"]
            elif "memory" in controllers.split(","):
                top = root / "sys/fs/cgroup/memory"
                files = [Path(f"{top}{path}/memory.oom_control"), top / "memory.oom_control"]
            else:
                continue
            count = next((n for file in files if (n := _counter(file)) is not None), None)
            if count is not None:
                found["its control group"] = count
    count = _counter(root / "proc/vmstat")
    return found | ({"the machine": count} if count is not None else {})


def evidence(before: dict[str, int]) -> str | None:
    """Where a counter has grown since ``before`` was taken; None without evidence."""
    now = oom_kills()
    return next((place for place, count in before.items() if now.get(place, count) > count), None)


def _counter(file: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None
