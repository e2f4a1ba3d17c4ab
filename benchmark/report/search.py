"""What a tuned track rests on: the search that was spent on each method, and the config that came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmark.analysis.groups import Group, Variant
from benchmark.report.measures import arm_title, footer, label
from benchmark.report.model import Cell, Column, Row, Table
from benchmark.spec.arms import SCRATCH

NOTE = (
    "Every method was searched with the same number of trials, judged on validation rows alone; trial 0 is the config "
    "without tuning. arms, seeds: of each trial, which is judged by their mean. default and best: mean validation "
    "score of trial 0 and of the chosen one. "
    'config: values that differ from the default, or "default" where no trial was better.'
)


def spent(group: Group, slug: str) -> Table:
    """Trials, space and chosen config of every method; empty for another track."""
    if group.track == "equal":
        return _worth(group, slug)
    columns = (
        Column("method", "Method", "text"),
        Column("trials", "trials", "count"),
        Column("failed", "failed", "count"),
        Column("arms", "arms", "text"),
        Column("seeds", "seeds", "count"),
        Column("dimensions", "dimensions", "count"),
        Column("default", "default", "score", group="validation"),
        Column("best", "best", "score", group="validation"),
        Column("trial", "trial", "count"),
        Column("config", "config", "text", wrap=True),
        Column("space", "space", "text", wrap=True),
    )
    found = _of_dataset(group.options.search, group.dataset) if group.track == "tuned" else {}
    rows = [
        _row(group, variant, found[variant.method])
        for variant in group.variants
        if variant.method in found and variant == _first(group, variant.method)
    ]
    return Table(
        f"search-{slug}",
        f"{group.dataset}: what was searched for each method",
        columns,
        tuple(rows),
        (NOTE, *_unequal(rows), *footer(group, interval=False)),
    )


EQUAL_NOTE = (
    "What the search was worth: validation score of the new tasks with the untuned and with the chosen values, both "
    "after the last round. One space, the same configs and the same passes over the rows for every method and arm. "
    "Stage 0 and joint training share their values; an arm after stage 0 has its own learning rate and penalties."
)


def _worth(group: Group, slug: str) -> Table:
    """Of the track "equal": untuned against chosen for every method and arm."""
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("trials", "trials", "count"),
        Column("failed", "failed", "count"),
        Column("passes", "passes", "count"),
        Column("default", "untuned", "score", group="validation"),
        Column("best", "chosen", "score", group="validation"),
        Column("gain", "worth", "score", signed=True, group="validation"),
        Column("config", "config", "text", wrap=True),
        Column("space", "space", "text", wrap=True),
    )
    by_method, by_arm = (
        _of_dataset(tables, group.dataset) for tables in (group.options.search, group.options.arm_search)
    )
    rows = []
    for variant in group.variants:
        if variant.method in by_method and variant == _first(group, variant.method):
            searches = [by_method[variant.method], *by_arm.get(variant.method, {}).values()]
            rows += [_worth_row(group, variant, searched) for searched in searches]
    return Table(
        f"search-{slug}",
        f"{group.dataset}: what the search was worth",
        columns,
        tuple(rows),
        (EQUAL_NOTE, *footer(group, interval=False)),
    )


def _worth_row(group: Group, variant: Variant, searched: Any) -> Row:
    default, options = searched.get("default"), searched.get("options") or {}
    values = options or {n: v for n, v in json.loads(variant.config).items() if n in searched["dimensions"]}
    config = ", ".join(f"{name} {_plain(value)}" for name, value in values.items()) if searched["trial"] else "default"
    cells = {
        "method": label(group, variant),
        "arm": Cell(text=arm_title(searched["arms"][0])),
        "trials": Cell(float(searched["trials"])),
        "failed": Cell(float(searched["failed"])),
        "passes": Cell(float(searched["passes"])),
        "default": Cell(code="failed") if default is None else Cell(default),
        "best": Cell(searched["best"]),
        "gain": Cell(code="n/a") if default is None else Cell(searched["best"] - default),
        "config": Cell(text=config),
        "space": Cell(text="; ".join(f"{name}: {said}" for name, said in searched["dimensions"].items())),
    }
    return Row(cells)


def _of_dataset(tables: Mapping[str, Mapping[str, Any]], dataset: str) -> Mapping[str, Any]:
    """What a suite says of a dataset; a profile's own table comes before that of its dataset."""
    return tables.get(dataset) or tables.get(dataset.partition("@")[0], {})


def _unequal(rows: list[Row]) -> tuple[str, ...]:
    """A line if some methods' trials had other arms or more seeds than others': as many trials were not equal chances.

    A single-task model has one arm, ``scratch``, in place of whatever the others are judged by.
    """
    several = [row for row in rows if row.cells["arms"].text != SCRATCH]
    unequal = []
    for name, among in (("seeds", rows), ("arms", several)):
        said = [row.cells[name].text or f"{row.cells[name].value:.0f}" for row in among]
        if len(set(said)) > 1:
            each = ", ".join(f"{row.cells['method'].text} {value}" for row, value in zip(among, said, strict=True))
            unequal.append(f"{name} ({each})")
    return (f"Not equal chances: trials differ in {' and in '.join(unequal)}.",) if unequal else ()


def _row(group: Group, variant: Variant, searched: Any) -> Row:
    space = "; ".join(f"{name}: {values}" for name, values in searched["dimensions"].items())
    default = searched.get("default")
    cells = {
        "method": label(group, variant),
        "trials": Cell(float(searched["trials"])),
        "failed": Cell(float(searched["failed"])),
        "arms": Cell(text=", ".join(searched["arms"])),
        "seeds": Cell(float(len(searched["seeds"]))),
        "dimensions": Cell(float(len(searched["dimensions"]))),
        "default": Cell(code="failed") if default is None else Cell(default),
        "best": Cell(searched["best"]),
        "trial": Cell(float(searched["trial"])),
        "config": Cell(text=_chosen(variant, searched)),
        "space": Cell(text=space or "nothing"),
    }
    return Row(cells)


def _chosen(variant: Variant, searched: Any) -> str:
    """The searched values of the config that was run, and the arms' options by their own names."""
    if not searched["trial"]:
        return "default"
    config = json.loads(variant.config)
    own = {name: config[name] for name in searched["dimensions"] if name in config}
    return ", ".join(f"{name} {_plain(value)}" for name, value in {**own, **searched.get("options", {})}.items())


def _plain(value: Any) -> str:
    return "(" + ", ".join(map(str, value)) + ")" if isinstance(value, list) else str(value)


def _first(group: Group, method: str) -> Variant:
    return next(variant for variant in group.variants if variant.method == method)
