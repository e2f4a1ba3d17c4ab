"""Every run as data inside the page: one JSON text that no browser can take for markup."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.analysis.measures import machine_kind
from benchmark.core.errors import visible
from benchmark.records.record import Record

LONGEST_CURVE = 200
OWN = ("started", "command", "attempts")
"""What of a provenance belongs to one run; the rest is shared by most and kept once."""


def island(records: Sequence[Record], stale: Mapping[str, str], cells: Sequence[Mapping[str, Any]]) -> str:
    """``runs`` by id, ``cells`` of the leaderboard, and ``shared``: values that many runs have, kept once."""
    pool = _Pool()
    runs = {record.run_id: _run(record, stale.get(record.run_id), pool) for record in records}
    content = {"runs": runs, "cells": list(cells), "shared": pool.values}
    text = json.dumps(_readable(content), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


class _Pool:
    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        text = json.dumps(value, sort_keys=True)
        if text not in self._places:
            self._places[text] = len(self.values)
            self.values.append(value)
        return self._places[text]


def _run(record: Record, stale: str | None, pool: _Pool) -> dict[str, Any]:
    content = record.model_dump(mode="json", exclude_defaults=True, exclude={"schema_version", "run_id"})
    key = content["key"]
    for name in ("config", "budget", "arm_config"):
        if name in key:
            key[name] = pool.place(key[name])
    content["curve"] = _thinned(content.get("curve", []))
    if record.provenance is not None:
        origin = content.pop("provenance")
        content["origin"] = {name: origin.pop(name) for name in OWN if origin.get(name) is not None}
        content["from"] = pool.place({"machine kind": machine_kind(record), **origin})
    if stale is not None:
        content["stale"] = stale
    return {name: value for name, value in content.items() if value not in (None, [], {})}


def _thinned(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A curve of at most `LONGEST_CURVE` epochs, evenly spread, losses and scores with the digits that are read."""
    step = -(-len(curve) // LONGEST_CURVE) or 1
    return [
        {
            "epoch": epoch["epoch"],
            "loss": {name: _short(value) for name, value in epoch["loss"].items()},
            "validation": {
                task: {name: _short(value) for name, value in scores.items()}
                for task, scores in epoch["validation"].items()
            },
        }
        for epoch in curve[::step]
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _readable(value: Any) -> Any:
    """Control and direction characters as escapes, everywhere: names of keys are text of others, too."""
    if isinstance(value, str):
        return value if value.isprintable() else visible(value)
    if isinstance(value, Mapping):
        return {visible(str(name)): _readable(part) for name, part in value.items()}
    return [_readable(part) for part in value] if isinstance(value, list | tuple) else value
