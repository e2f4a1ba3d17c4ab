"""The guard: whether the records of a problem are a fair comparison, from which a claim may be stated.

A difference between two methods says something about them only if they had equal chances: configs from a search of the
same passes over the rows, the same budget, the same rows, and training that was not cut off. What differs is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmark.core.canonical import canonical
from benchmark.records.record import Record
from benchmark.records.unfinished import MOST_UNFINISHED, ends_by_epochs, unfinished_by_cell

TRACK = "equal"
PENALTIES = ("l2_embedding", "l2_dnn")
MOST_NAMED = 4
"""Members of a list that a reason spells out."""


def reasons_against(records: Iterable[Record]) -> list[str]:
    """Why no claim can be stated from the records of one problem, each a sentence; empty for a fair comparison.

    Failed runs are left out: what lacks a run is not compared. Penalties may differ where a search of equal passes
    chose them, and only there.
    """
    compared = [record for record in records if record.status == "ok" and record.key.scored == "test"]
    searched = [record for record in compared if ends_by_epochs(record)]
    found = [
        _track(compared, searched),
        _differing(searched, "budgets differ", lambda record: canonical(record.key.budget)),
        _passes(searched),
        _unfinished(searched),
        _rows(compared),
        _differing(compared, "the data differs", _data),
    ]
    return [reason for reason in found if reason]


def _track(compared: Sequence[Record], searched: Sequence[Record]) -> str:
    others = sorted({record.key.track for record in compared} - {TRACK})
    if not others:
        return ""
    penalties = [text for name in PENALTIES if (text := _penalties(searched, name))]
    said = f", and penalties differ: {'; '.join(penalties)}" if penalties else ""
    tracks = " and ".join(f"'{track}'" for track in others)
    return f"the track is {tracks}, not '{TRACK}': configs do not come from one search of equal passes{said}."


def _penalties(searched: Sequence[Record], name: str) -> str:
    """The values of a penalty by method, where there are several."""
    values: dict[float, list[str]] = {}
    for record in searched:
        if (value := record.key.config.get(name)) is not None and record.key.method not in values.get(value, []):
            values.setdefault(value, []).append(record.key.method)
    said = [f"{value:g} ({_listed(sorted(methods))})" for value, methods in sorted(values.items())]
    return f"{name} {', '.join(said)}" if len(said) > 1 else ""


def _passes(searched: Sequence[Record]) -> str:
    if any(record.key.track != TRACK for record in searched):
        return ""  # said already
    return _differing(searched, "passes of the search differ", lambda record: f"{record.key.search_passes:g}")


def _unfinished(searched: Sequence[Record]) -> str:
    cells = unfinished_by_cell(searched)
    unfinished, runs = (sum(counts[place] for counts in cells.values()) for place in (0, 1))
    if not runs or unfinished <= MOST_UNFINISHED * runs:
        return ""
    worst = sorted(((cell, counts) for cell, counts in cells.items() if counts[0]), key=lambda item: -item[1][0])
    named = _listed([f"{method} {arm} {n} of {of}" for (method, arm), (n, of) in worst])
    return f"{unfinished} of {runs} runs are unfinished, their budget ended with patience unspent: {named}."


def _rows(compared: Sequence[Record]) -> str:
    """Runs that train the same tasks in the same arm have the same rows to learn from."""
    counts: dict[tuple[Any, ...], dict[int, str]] = {}
    for record in compared:
        if record.train_rows is not None:
            key = record.key
            place = key.dataset, tuple(sorted(key.tasks)), key.arm, canonical(key.arm_config.get("share", 0))
            counts.setdefault(place, {}).setdefault(record.train_rows, key.method)
    for (_, tasks, arm, _), rows in counts.items():
        if len(rows) > 1:
            said = ", ".join(f"{method} {number:,}" for number, method in sorted(rows.items()))
            return f"training rows differ in the arm {arm} ({', '.join(tasks)}): {said}."
    return ""


def _data(record: Record) -> str:
    """Which data a record was made from; one dataset of a problem may have several names (shares of labels)."""
    return "" if record.provenance is None else f"{record.key.dataset} {record.provenance.data_fingerprint}"


def _differing(records: Sequence[Record], what: str, value: Callable[[Record], str]) -> str:
    cells: dict[str, list[str]] = {}
    by_dataset: dict[str, set[str]] = {}
    for record in records:
        found, cell = value(record), f"{record.key.method} {record.key.arm}"
        by_dataset.setdefault(record.key.dataset, set()).add(found)
        if cell not in cells.setdefault(found, []):
            cells[found].append(cell)
    if all(len(values) < 2 for values in by_dataset.values()):
        return ""
    return f"{what}: {_sides(cells)}."


def _sides(cells: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{value} ({_listed(members)})" for value, members in sorted(cells.items()))


def _listed(members: Sequence[str]) -> str:
    more = len(members) - MOST_NAMED
    return ", ".join(members[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
