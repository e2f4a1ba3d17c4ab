"""What it costs to serve a model that has taken in one, five or twenty new tasks: stored numbers, operations."""

from __future__ import annotations

from collections.abc import Callable

from benchmark.analysis.groups import Group
from benchmark.analysis.measures import taken_in
from benchmark.records.record import Record
from benchmark.report.measures import arm_title, exact, label
from benchmark.report.measures import footer as standard
from benchmark.report.model import Cell, Column, Row, Table

TASKS = (1, 5, 20)

NOTE = (
    "To predict the old tasks and n new ones. stored: parameters, and buffers in which a method keeps weights, without "
    "reserved embedding rows; FLOPs: of the matrix products, per row. Counted with the new tasks of the runs; every "
    "further one adds the same (per task). Arms that train everything are shown for n tasks learnt at once; taken in "
    "one after another they would overwrite what the earlier ones left. n/a: joint retraining is a new model for every "
    "n."
)


def serving(group: Group, slug: str) -> Table:
    """Rows: method and arm. Empty for records that say nothing of serving."""
    columns = (
        Column("method", "Method", "text"),
        Column("arm", "Arm", "text"),
        *(Column(f"weights_{n}", str(n), "count", better=-1, group="stored, n new tasks") for n in TASKS),
        Column("weights_added", "per task", "count", better=-1, group="stored, n new tasks"),
        *(Column(f"flops_{n}", str(n), "count", better=-1, group="FLOPs, n new tasks") for n in TASKS),
        Column("flops_added", "per task", "count", better=-1, group="FLOPs, n new tasks"),
    )
    rows = []
    for variant, arm, first in taken_in(group):
        if not any(record.serving for record in group.records):
            break

        def find(seed: int, variant=variant, arm=arm) -> Record | None:
            return group.find(variant, arm, seed)

        cells = {"method": label(group, variant), "arm": Cell(text=arm_title(arm))}
        for name in ("weights", "flops"):
            for n in TASKS:
                cells[f"{name}_{n}"] = exact(group.sample(find, _with(name, n)))
            cells[f"{name}_added"] = exact(group.sample(find, _added(name)))
        rows.append(Row(cells, rule_above=first))
    return Table(
        f"serving-{slug}",
        f"{group.dataset}: what serving old and new tasks costs",
        columns,
        tuple(rows),
        (NOTE, *standard(group, interval=False)),
    ).ranked()


def _added(name: str) -> Callable[[Record], float | str | None]:
    def measure(record: Record) -> float | str | None:
        if record.serving is None:
            return "missing"
        added = getattr(record.serving, f"{name}_added")
        return "n/a" if added is None else added

    return measure


def _with(name: str, n: int) -> Callable[[Record], float | str | None]:
    """The cost with ``n`` new tasks instead of the run's own number of them."""

    def measure(record: Record) -> float | str | None:
        if record.serving is None:
            return "missing"
        own = len(record.key.chain or record.key.new_tasks)
        total, added = getattr(record.serving, name), getattr(record.serving, f"{name}_added")
        if n == own:
            return total
        return "n/a" if added is None else total + (n - own) * added

    return measure
