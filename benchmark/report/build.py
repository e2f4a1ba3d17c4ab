"""From a result tree to files: which tables and figures there are, their names, whether they are up to date."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.analysis.comparisons import against_reference, degradations
from benchmark.analysis.groups import Group, Options, group_records, variant_of
from benchmark.analysis.measures import machine_kind
from benchmark.analysis.slugs import slugs
from benchmark.core.files import write_atomically
from benchmark.records.claims import parse_claims
from benchmark.records.tree import read_records, read_trees
from benchmark.report import (
    appendix,
    claims,
    cost,
    differences,
    overall,
    paper,
    published,
    released,
    search,
    serving,
    tables,
    writers,
)
from benchmark.report.comparability import agreement, why_not
from benchmark.report.figures import arrays, chains, studies
from benchmark.report.figures import standard as figures
from benchmark.report.figures.diagnostics import diagnostics
from benchmark.report.figures.drawing import draw
from benchmark.report.figures.plot import Plot
from benchmark.report.measures import set_values_by_dataset
from benchmark.report.model import Table
from benchmark.report.user_tables import user_metrics

MAIN = ("claims", "study_", "old_tasks", "old_task_effect", "new_task", "across_datasets")
"""Tables that a run ends with; the others are files."""

FORMATS = {"md": writers.markdown, "tex": writers.latex, "csv": writers.comma_separated}


@dataclass(frozen=True)
class Report:
    """All tables and figures of a result tree. ``problems`` names records that could not be read; ``groups`` are the
    records behind the tables."""

    tables: tuple[Table, ...]
    plots: tuple[Plot, ...]
    problems: tuple[str, ...]
    groups: tuple[Group, ...] = ()
    paper: tuple[Table, ...] = ()

    def files(self) -> dict[str, str]:
        """Path below the result tree to content, for every text file."""
        found = {
            f"tables/{table.name}.{ending}": write(table) for table in self.tables for ending, write in FORMATS.items()
        }
        found |= {
            f"tables/paper/{t.name}.{ending}": write(t) for t in self.paper for ending, write in paper.FORMATS.items()
        }
        return found | {f"figures/{plot.name}.csv": plot.data() for plot in self.plots if not plot.late}

    def pictures(self) -> list[str]:
        """Files of which only the existence is checked."""
        drawn = [f"figures/{plot.name}.{ending}" for plot in self.plots for ending in ("pdf", "png")]
        return drawn + [f"figures/{plot.name}.csv" for plot in self.plots if plot.late]

    def write(self, out: Path, figures: bool = True) -> list[Path]:
        """Write ``out``/tables and, unless told otherwise, ``out``/figures; returns the files."""
        written = []
        for name, content in self.files().items():
            if name.startswith("tables/"):
                write_atomically(out / name, content)
                written.append(out / name)
        return written + (draw(self.plots, out / "figures") if figures else [])

    def terminal(self, colour: bool = False, names: Collection[str] = MAIN) -> str:
        """The tables whose name starts with one of ``names`` as text; ``names=("",)`` gives all."""
        shown = [table for table in self.tables if table.name.startswith(tuple(names))]
        return "\n\n".join(writers.terminal(table, colour) for table in shown) + "\n"


def report(out: Path, titles: Mapping[str, str], stale: Collection[str] = (), **options: Any) -> Report:
    """Read the records below ``out`` and make all tables and figures, without writing anything.

    ``titles`` maps a method's name to its title, in the order that rows should have. ``stale`` holds the run ids
    that the caller found to be out of date. ``options``: those of `benchmark.analysis.groups.Options`.
    """
    records, problems = read_records(out)
    groups = group_records(records, titles, _options((out,), stale, options))
    return _report(groups, problems, chains.chains(records, titles, stale))


def build(out: Path, titles: Mapping[str, str], stale: Collection[str] = (), **options: Any) -> list[Path]:
    """Write ``out``/tables and ``out``/figures from the records; returns the files written. Options as in `report`."""
    return report(out, titles, stale, **options).write(out)


def compare(
    out: Path, trees: Sequence[Path], titles: Mapping[str, str], stale: Collection[str] = (), **options: Any
) -> Report:
    """The runs below ``out`` that ``trees`` do not have, among the records that they have; nothing is run.

    Only what shares dataset and its fingerprint, split, tasks, budget and selection is compared; `Report.problems`
    says what has no counterpart. Wall-clock is shown for runs on the machine kind of ``out`` only. Paired differences
    are to the (first) new method, unless ``reference`` is given.
    """
    mine, problems = read_records(out)
    theirs, damaged = read_trees(trees)
    known = group_records(theirs, titles)
    groups = []
    for group in group_records(mine, titles):
        refused = why_not(group, known)
        if refused is not None:
            problems.append(f"{group.dataset}: {refused}")
            continue
        other = next(g for g in known if g.identity == group.identity)
        rows = set(other.variants)
        added = [record for record in group.records if variant_of(record) not in rows]
        if not added:
            problems.append(f"{group.dataset}: {agreement(group, other)}")
            continue
        methods = {record.key.method for record in other.records}
        named = dict(titles) | {
            method: f"{titles.get(method) or method} (yours)" for r in added if (method := r.key.method) not in methods
        }
        machines = {machine_kind(record) for record in added if record.status == "ok"}
        chosen: dict[str, Any] = {"reference": min(record.key.method for record in added)} | options
        chosen["machine"] = machines.pop() if len(machines) == 1 else None
        groups += group_records([*other.records, *added], named, _options((out, *trees), stale, chosen))
    return _report(groups, [*problems, *damaged])


def _report(groups: Sequence[Group], problems: Sequence[str], along: Sequence[chains.Chain] = ()) -> Report:
    made: list[Table] = []
    plots: list[Plot | None] = []
    compact: list[Table] = []
    first: list[Table] = []
    names = slugs(groups)
    notes = tuple(set_values_by_dataset(groups))

    def noted(table: Table) -> Table:
        """A table of several problems with what was set on which dataset."""
        return replace(table, footer=(*table.footer, *notes))

    if groups:
        stated = groups[0].options.claims
        verdicts = claims.judge_groups(groups, names, None if stated is None else parse_claims(stated))
        first.append(noted(claims.table(verdicts)))
        compact += [noted(paper.claims_table(verdicts))] if verdicts else []
        if (over := claims.overall(verdicts)) is not None:
            first.append(noted(over))
            compact.append(noted(paper.claims_overall(over)))
    for group, slug in zip(groups, names, strict=True):
        contests, losses = against_reference(group), degradations(group)
        made += [tables.old_tasks(group, slug, contests), tables.old_task_effect(group, slug, losses)]
        made += [tables.new_task(group, task, slug, contests) for task in group.new_tasks]
        made += [differences.paired_differences(group, slug, contests)]
        made += [table for task in group.new_tasks if (table := differences.every_arm(group, task, slug)) is not None]
        made += [differences.no_degradation(group, slug, losses)]
        compact += paper.paper_tables(group, slug, losses)
        made += [cost.pareto(group, task, slug) for task in group.new_tasks]
        made += [table for task in group.new_tasks if (table := user_metrics(group, task, slug)) is not None]
        made += [
            cost.efficiency(group, slug),
            serving.serving(group, slug),
            search.spent(group, slug),
            *appendix.variants(group, slug),
            appendix.per_seed(group, slug),
        ]
        if (table := published.published(group, slug)) is not None:
            made.append(table)
            compact += [found] if (found := paper.published_table(group, slug, table)) is not None else []
        for task in group.new_tasks:
            plots += [figures.trade_off(group, task, slug), figures.parameters(group, task, slug)]
        plots += [figures.forest(group, slug, contests), figures.curves(group, slug)]
        plots += [*figures.variants(group, slug), *arrays.representations(group, slug), arrays.attention(group, slug)]
        plots += diagnostics(group, slug)
    made += released.released(groups, names)
    across = overall.studies(groups)
    made += [noted(overall.across(study)) for study in across]
    plots += [*arrays.label_share(groups, names), *(arrays.critical_differences(study) for study in across)]
    answered = [*studies.studies(groups), *chains.study(along)]
    made, plots = first + [noted(table) for table, _ in answered] + made, [plot for _, plot in answered] + plots
    shown = tuple(table for table in made if table.rows)
    return Report(shown, tuple(p for p in plots if p), tuple(problems), tuple(groups), tuple(compact))


def _options(roots: tuple[Path, ...], stale: Collection[str], given: Mapping[str, Any]) -> Options:
    return Options(roots=roots, stale=frozenset(stale), **given)


LEFT_OVER = ": no records behind it"


def check(out: Path, titles: Mapping[str, str], stale: Collection[str] = (), **options: Any) -> list[str]:
    """What differs between the files below ``out`` and what its records give; empty if nothing does.

    Tables and the figures' data are compared byte for byte. Of a picture what is compared is the hash of the data that
    it was drawn from, which it carries: its bytes depend on the version of the drawing library. A figure without any
    file was not drawn (``--no-figures``, or left out of a committed tree), and is no difference; nor are the wide
    tables' LaTeX or CSV files where a tree has none of that kind.
    """
    made = report(out, titles, stale, **options)
    figures = out / "figures"
    made = replace(made, plots=tuple(p for p in made.plots if any(path.is_file() for path in p.files(figures))))
    wanted = made.files()
    for ending in ("tex", "csv"):
        if not any((out / "tables").glob(f"*.{ending}")):
            left_out = re.compile(rf"tables/[^/]+\.{ending}")
            wanted = {name: content for name, content in wanted.items() if not left_out.fullmatch(name)}
    differing = []
    for name, content in wanted.items():
        path = out / name
        if not path.is_file():
            differing.append(f"{name}: missing")
        elif path.read_bytes() != content.encode():
            differing.append(f"{name}: differs from the records")
    differing += [f"{name}: missing" for name in made.pictures() if not (out / name).is_file()]
    for plot in made.plots:
        drawn = plot.drawn_from(figures)
        if all(path.is_file() for path in plot.files(figures)) and (not drawn or drawn[0] != plot.data_hash):
            differing.append(f"figures/{plot.name}.png or .pdf: drawn from other data")
    known = set(wanted) | set(made.pictures())
    for folder in ("tables", "tables/paper", "figures"):
        present = sorted(path.name for path in (out / folder).glob("*") if path.is_file())
        differing += [f"{folder}/{name}{LEFT_OVER}" for name in present if f"{folder}/{name}" not in known]
    return differing
