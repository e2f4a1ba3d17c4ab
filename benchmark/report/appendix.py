"""Tables behind the tables: every seed by itself, and the variants of one method against each other."""

from __future__ import annotations

from dataclasses import replace

from benchmark.analysis.codes import STATUS_CODES
from benchmark.analysis.comparisons import worse_than_best
from benchmark.analysis.groups import SCRATCH, STAGE0, Group, Sample, Variant, score, variant_of
from benchmark.analysis.stats import stars
from benchmark.records.record import Record
from benchmark.report.measures import arm_title, cell, footer, label, metric_title
from benchmark.report.model import Cell, Column, Row, Table


def per_seed(group: Group, slug: str) -> Table:
    """One row per run: the scores of all tasks, the kept epoch, and the run's id, which finds its record."""
    tasks = (*group.old_tasks, *group.new_tasks)
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        Column("seed", "Seed", "text"),
        *(Column(f"{task}_score", metric_title(group, task), group=task) for task in tasks),
        Column("epoch", "kept epoch", "count"),
        Column("epochs_run", "epochs run", "count"),
        Column("run", "Run", "text"),
    )
    place = {variant: number for number, variant in enumerate(group.variants)}
    arms = {STAGE0: 0, SCRATCH: 1}

    def order(record: Record) -> tuple:
        key = record.key
        arm = group.arm(record)
        return (place[variant_of(record)], arms.get(arm, 2), arm, key.stage, key.tasks, key.seed, record.run_id)

    rows = []
    last = None
    for record in sorted(group.records, key=order):
        kept = record.selection
        head = (variant_of(record), group.arm(record))
        cells = {
            "method": label(group, head[0]),
            "arm": Cell(text=arm_title(head[1])),
            "seed": Cell(text=str(record.key.seed)),
            "epoch": Cell(float(kept.epoch)) if kept else _status(record),
            "epochs_run": Cell(float(kept.epochs_run)) if kept else _status(record),
            "run": Cell(text=record.run_id, marks=("stale",) if record.run_id in group.options.stale else ()),
        }
        for task in tasks:
            found = score(record, task) if record.status == "ok" else STATUS_CODES[record.status]
            cells[f"{task}_score"] = Cell(found) if isinstance(found, float) else Cell(code=found or "undefined")
        rows.append(Row(cells, rule_above=head != last))
        last = head
    return Table(f"per_seed-{slug}", f"{group.dataset}: every run", columns, tuple(rows), footer(group, interval=False))


def variants(group: Group, slug: str) -> list[Table]:
    """The variants of each method that has several (form of the paper's Figures 4 to 6): old tasks and new ones."""
    methods = dict.fromkeys(variant.method for variant in group.variants)
    found = [[v for v in group.variants if v.method == method] for method in methods]
    return [_variants(group, slug, rows) for rows in found if len(rows) > 1]


def _variants(group: Group, slug: str, variants: list[Variant]) -> Table:
    arms = list(dict.fromkeys(arm for variant in variants for arm in group.arms(variant)))
    places = [(STAGE0, task) for task in group.old_tasks] + [(arm, task) for arm in arms for task in group.new_tasks]
    default = group.main_variant(variants)
    assert default is not None
    columns = [Column("method", "Variant", "text")]
    columns += [
        Column(f"{arm}_{task}", f"{task} {metric_title(group, task)}", better=1, group=arm_title(arm))
        for arm, task in places
    ]
    cells: list[dict[str, Cell]] = [{"method": label(group, variant)} for variant in variants]
    for arm, task in places:
        samples = [group.score(variant, arm, task) for variant in variants]
        behind = worse_than_best(samples)
        marks = _stars(samples, variants.index(default))
        for place, sample in enumerate(samples):
            shown = cell(group, sample)
            if shown.value is not None:
                extra = (("↓",) if place in behind else ()) + ((marks[place],) if marks[place] else ())
                shown = replace(shown, marks=(*extra, *shown.marks))
            cells[place][f"{arm}_{task}"] = shown
    name = variants[0].method
    title = group.titles.get(name) or name
    return Table(
        f"variants-{''.join(c if c.isalnum() else '_' for c in name)}-{slug}",
        f"{group.dataset}: variants of {title}",
        tuple(columns),
        tuple(Row(row) for row in cells),
        (
            f"Stars: difference to {group.labels[default]}, test over seeds and test rows, adjusted over the column.",
            *footer(group),
        ),
    ).ranked()


def _stars(samples: list[Sample], default: int) -> list[str]:
    tested = [
        None if place == default or sample.unstable else sample.combine(samples[default], lambda a, b: a - b).estimate()
        for place, sample in enumerate(samples)
    ]
    family = sum(found is not None for found in tested)
    return ["" if found is None else stars(found.p(family)) for found in tested]


def _status(record: Record) -> Cell:
    return Cell(code=STATUS_CODES.get(record.status, "undefined"))
