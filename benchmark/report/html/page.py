"""The page: what stands on it, in which order, and its text."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.analysis.codes import CODES
from benchmark.analysis.comparisons import degradations
from benchmark.analysis.groups import STAGE0, Group, records_hash
from benchmark.analysis.measures import machine_kind
from benchmark.core.errors import visible
from benchmark.records.record import Record
from benchmark.report.figures import standard as figures
from benchmark.report.html import charts, leaderboard
from benchmark.report.html.about import About
from benchmark.report.html.findings import findings
from benchmark.report.html.island import island
from benchmark.report.measures import arm_title
from benchmark.report.model import MARKS, Cell, Column, digits
from benchmark.report.writers import footer

if TYPE_CHECKING:
    from jinja2 import Template

    from benchmark.report.build import Report

PAGE = "report.html"
HERE = Path(__file__).parent
CLAIMS = "claims"
"""The table that stands first, as sentences."""
LEFT_OUT = ("per_seed-",)
"""Tables that the page does not repeat: every run stands in it with all its numbers."""


def render(report: Report, about: About) -> str:
    """The page's text. The same records and the same ``about`` give the same bytes."""
    names = _names(report.groups)
    found = [entry for group, name in zip(report.groups, names) for entry in _entries(group, name)]
    records = sorted((r for group in report.groups for r in group.records), key=lambda r: r.run_id)
    style, script = (_source(name) for name in ("report.css", "report.js"))
    return _template().render(
        about=about,
        stale=[(run, about.stale[run.run_id]) for run in records if run.run_id in about.stale],
        facts=_facts(records),
        groups=[_group(group, name) for group, name in zip(report.groups, names)],
        columns=leaderboard.COLUMNS,
        explained=leaderboard.EXPLAINED,
        entries=found,
        choices={
            key: list(dict.fromkeys(entry.cells[key].text for entry in found)) for key in ("dataset", "arm", "method")
        },
        claims=next((table for table in report.tables if table.name == CLAIMS), None),
        tables=[table for table in report.tables if table.name != CLAIMS and not table.name.startswith(LEFT_OUT)],
        troubles=[run for run in records if run.status != "ok"],
        problems=report.problems,
        provenances=_provenances(records),
        label=_label,
        written=written,
        spoken=_spoken,
        footer=footer,
        arm_title=arm_title,
        codes=CODES,
        marks=MARKS,
        style=style,
        script=script,
        policy=_policy(style, script),
        island=island(records, about.stale, [{"title": _title(e), "runs": e.runs} for e in found]),
    )


def written(cell: Cell, column: Column) -> str:
    """A cell as text."""
    if cell.value is None:
        return cell.text or cell.code or ""
    shown = digits(cell, column)
    return shown.value + (f" ± {shown.half_width}" if shown.half_width else "") + (f" {shown.unit}" * bool(shown.unit))


def _spoken(column: Column) -> str:
    return f"{column.group}: {column.header}" if column.group else column.header


def _entries(group: Group, name: str) -> list[leaderboard.Entry]:
    return leaderboard.entries(group, name, degradations(group))


def _group(group: Group, name: str) -> dict[str, Any]:
    losses = degradations(group)
    return {
        "name": name,
        "old": group.old_tasks,
        "new": group.new_tasks,
        "seeds": len(group.seeds),
        "findings": findings(group, losses),
        "charts": _charts(group),
    }


def _charts(group: Group) -> list[charts.Chart]:
    made = []
    for task in group.new_tasks:
        if plot := figures.trade_off(group, task, ""):
            labels = "worst degradation of an old task (left is better)", f"gain of {task} (up is better)"
            title = f"What {task} gains and what it costs the old tasks"
            made.append(charts.scatter(plot.rows, title, "degradation", "gain", labels))
        if plot := figures.parameters(group, task, ""):
            labels = "trained parameters", f"{plot.rows[0]['metric']} of {task}"
            title = f"Score of {task} by trained parameters"
            made.append(charts.scatter(plot.rows, title, "trained_parameters", "score", labels, logarithmic=True))
    if plot := figures.curves(group, ""):
        for arm, task in dict.fromkeys((row["arm"], row["task"]) for row in plot.rows):
            rows = [row for row in plot.rows if (row["arm"], row["task"]) == (arm, task)]
            if len({row["epoch"] for row in rows}) > 1:  # one epoch is no curve
                made.append(charts.curves(rows, f"Learning curves: {task}, {arm_title(arm)}"))
    return made


def _names(groups: Sequence[Group]) -> list[str]:
    """What a group is called: its dataset, and where a dataset has several groups what tells them apart."""
    counts = Counter(group.dataset for group in groups)
    named = []
    for place, group in enumerate(groups):
        siblings = [other for other in groups if other.dataset == group.dataset]
        parts = [
            text
            for attribute, text in (
                ("new_tasks", f"new: {', '.join(group.new_tasks) or 'none'}"),
                ("old_tasks", f"old: {', '.join(group.old_tasks)}"),
                ("split", f"split {group.split}"),
                ("budget", f"budget {group.budget}"),
                ("selection", group.selection),
                ("track", f"track {group.track}"),
            )
            if len({getattr(other, attribute) for other in siblings}) > 1
        ]
        named.append(group.dataset if counts[group.dataset] == 1 else f"{group.dataset} ({'; '.join(parts) or place})")
    return named


def _title(entry: leaderboard.Entry) -> str:
    return ", ".join(str(entry.cells[key].text) for key in ("method", "arm", "task", "dataset"))


def _label(record: Record) -> str:
    key = record.key
    arm = "stage 0" if key.arm == STAGE0 else arm_title(key.arm)
    return f"{key.dataset}, {key.method}, {arm} [{', '.join(key.tasks)}], seed {key.seed}"


def _facts(records: Sequence[Record]) -> dict[str, str]:
    """The line under the title."""
    count = Counter(record.status for record in records)
    statuses = ", ".join(f"{count[status]:,} {status}" for status in sorted(count, key=lambda s: (s != "ok", s)))
    return {
        "runs": f"{len(records):,}" + (f" ({statuses})" if statuses else ""),
        "seeds": str(len({record.key.seed for record in records})),
        "machine kinds": str(len({machine_kind(record) for record in records if record.provenance})),
        "hash of the records": records_hash(records),
    }


def _provenances(records: Sequence[Record]) -> list[dict[str, str]]:
    """Where the numbers come from: one entry per commit and kind of machine, with how many runs it made."""
    counted: Counter[tuple[str, ...]] = Counter()
    for record in records:
        if (p := record.provenance) is not None:
            commit = (p.commit or "unknown")[:12] + (" with uncommitted changes" if p.dirty else "")
            packages = ", ".join(f"{name} {version}" for name, version in sorted(p.packages.items()))
            counted[machine_kind(record), commit, f"Python {p.python}" + (f", {packages}" * bool(packages))] += 1
    names = ("machine kind", "commit", "software")
    return [{**dict(zip(names, key)), "runs": f"{count:,}"} for key, count in sorted(counted.items())]


def _policy(style: str, script: str) -> str:
    """What the browser may do with the page: this style, this script, nothing from anywhere."""
    allowed = {name: _hash(text) for name, text in (("style-src", style), ("script-src", script))}
    return "default-src 'none'; img-src data:; " + "; ".join(f"{name} '{digest}'" for name, digest in allowed.items())


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
        keep_trailing_newline=True,
    )
    environment.filters["web"] = _is_web
    environment.globals["mapping"] = lambda value: isinstance(value, Mapping)
    return environment.get_template("report.html.j2")


def _is_web(text: str) -> bool:
    """Whether a text is an address that may become a link: nothing that a browser would run."""
    return text.startswith(("https://", "http://")) and not any(sign in text for sign in " \"'<>")
