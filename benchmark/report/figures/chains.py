"""Chains: what the old tasks lose, and what all costs, with the number of tasks that have arrived one after another.

Measures after stage n, over the scores a[i, t] of task t after stage i: the average score of all tasks known, backward
transfer (Lopez-Paz & Ranzato, NeurIPS 2017, equation 3) and forgetting (Chaudhry et al., ECCV 2018, equation 3), each
over the tasks that were known before the stage; see `benchmark.analysis.transfer`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmark.analysis import transfer
from benchmark.analysis.codes import STATUS_CODES
from benchmark.analysis.groups import JOINT, SCRATCH, STAGE0, Sample, combine, score, worst_code
from benchmark.core.canonical import canonical
from benchmark.records.record import Key, Record
from benchmark.records.row_noise import unfolded
from benchmark.report.figures.answers import (
    WIDTH,
    caption_above,
    half_width_of,
    legend,
    lines,
    mean_of,
    origin,
    sentence,
    tall,
)
from benchmark.report.figures.plot import Plot, logarithmic_counts
from benchmark.report.figures.plot import Row as Point
from benchmark.report.measures import arm_title, cell_of
from benchmark.report.model import Cell, Column, Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = ("average", "backward", "forgetting", "gain", "trained", "stored", "flops", "seconds")
PANELS = {
    "average": "average score",
    "backward": "backward transfer",
    "trained": "trained weights",
    "stored": "stored weights",
    "flops": "serving FLOPs per row",
    "seconds": "seconds so far",
}


@dataclass(frozen=True)
class Chain:
    """One method and arm along one order: by seed the runs of all stages, stage 0 first, None where there is none.
    ``stale``: run ids found out of date."""

    dataset: str
    method: str
    title: str
    arm: str
    order: tuple[str, ...]
    old: tuple[str, ...]
    stages: Mapping[int, Sequence[Record | None]]
    single: Mapping[tuple[int, str], Record]
    stale: frozenset[str] = frozenset()

    def sample(self, stage: int, measure: str) -> Sample:
        """One of MEASURES after ``stage`` new tasks, over seeds. What compares scores knows the noise of test rows."""
        codes = {seed: code for seed, runs in self.stages.items() if (code := _lacking(runs[: stage + 1])) is not None}
        done = {
            seed: [run for run in runs[: stage + 1] if run is not None]
            for seed, runs in self.stages.items()
            if seed not in codes
        }
        new = self.order[:stage]
        if measure == "average":
            last = [self.score(done, stage, task) for task in (*self.old, *new)]
            found = replace(combine(last, _mean), crossed=False) if last else Sample()
        elif measure == "gain":
            found = combine([self._gain(done, stage, task) for task in new], _mean)
        elif measure in ("backward", "forgetting"):
            before = (*self.old, *new[:-1])
            found = combine([self._change(done, stage, task, measure) for task in before], _mean)
        else:
            values = {seed: value for seed, runs in done.items() if (value := _cost(runs, measure)) is not None}
            found = Sample(values, {seed: "undefined" for seed in done if seed not in values})
        return replace(found, codes={**found.codes, **codes}, stale=self._out_of_date(done, stage, measure))

    def _out_of_date(self, done: Mapping[int, Sequence[Record]], stage: int, measure: str) -> frozenset[int]:
        """Seeds of which a run behind the measure is stale: any stage so far, since one continues the other."""
        tasks = self.order[:stage] if measure == "gain" else ()
        out_of_date = set()
        for seed, runs in done.items():
            alone = [self.single.get((seed, task)) for task in tasks]
            if any(run is not None and run.run_id in self.stale for run in (*runs, *alone)):
                out_of_date.add(seed)
        return frozenset(out_of_date)

    def records(self) -> list[Record]:
        """All runs behind the measures."""
        return [*self.single.values(), *(run for runs in self.stages.values() for run in runs if run is not None)]

    def score(self, done: Mapping[int, Sequence[Record]], stage: int, task: str) -> Sample:
        """a[stage, task] over the seeds that are ``done``."""
        return _sample({seed: runs[stage] for seed, runs in done.items()}, task)

    def _gain(self, done: Mapping[int, Sequence[Record]], stage: int, task: str) -> Sample:
        alone = _sample({seed: self.single.get((seed, task)) for seed in done}, task)
        return self.score(done, stage, task).combine(alone, transfer.gain)

    def _change(self, done: Mapping[int, Sequence[Record]], stage: int, task: str, measure: str) -> Sample:
        """What became of a task that was known before the stage, by its scores since it was learnt."""
        learnt = 0 if task in self.old else self.order.index(task) + 1
        measured = transfer.backward_transfer if measure == "backward" else transfer.forgetting
        earlier = [self.score(done, place, task) for place in range(learnt, stage)]
        compared = earlier[0] if measure == "backward" else _best(earlier)

        def change(scores: Sequence[float]) -> float | None:
            return measured([{task: score} for score in scores], [task])

        return combine([compared, self.score(done, stage, task)], change)


def _best(samples: Sequence[Sample]) -> Sample:
    """The highest of several scores, seed by seed, with its own noise of test rows.

    Of equal ones it is the first: a derivative of the maximum, as `combine` takes it, would count each of them.
    """
    seeds = [seed for seed in samples[0].values if all(seed in sample.values for sample in samples)]
    best = {seed: max(samples, key=lambda sample: sample.values[seed]) for seed in seeds}
    return replace(
        samples[0],
        values={seed: sample.values[seed] for seed, sample in best.items()},
        codes={seed: code for sample in samples for seed, code in sample.codes.items()},
        rows={seed: sample.rows[seed] for seed, sample in best.items() if seed in sample.rows},
    )


def _lacking(runs: Sequence[Record | None]) -> str | None:
    """The code of why a line of runs has no measure; None if it has."""
    missing = [run for run in runs if run is None or run.status != "ok"]
    codes = ["missing" if run is None else STATUS_CODES[run.status] for run in missing]
    return worst_code(codes) if codes else None


def _sample(runs: Mapping[int, Record | None], task: str) -> Sample:
    """A task's scores by seed, with their noise of test rows where all runs were scored on the same ones."""
    values: dict[int, float] = {}
    codes: dict[int, str] = {}
    noise = {}
    for seed, run in runs.items():
        value = "n/a" if run is None or run.status != "ok" else score(run, task)
        if run is None or isinstance(value, str | None):
            codes[seed] = value if isinstance(value, str) else "n/a"
            continue
        values[seed] = value
        if (rows := run.scores[task].rows) is not None:
            noise[seed] = rows
    same = len({rows.labels for rows in noise.values()}) == 1
    return Sample(values, codes, rows={seed: unfolded(r) for seed, r in noise.items()} if same else {}, score=True)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _cost(done: Sequence[Record], measure: str) -> float | None:
    """What the last run trains, stores or computes, or what all runs since stage 0 took."""
    last = done[-1]
    if measure == "trained":
        return float(last.params.trainable) if last.params else None
    if measure == "stored":
        return float(last.params.total + last.params.reserved) if last.params else None
    if measure == "flops":
        return last.flops.forward if last.flops else None
    return sum(run.seconds.total for run in done[1:] if run.seconds)


def chains(records: Iterable[Record], titles: Mapping[str, str], stale: Iterable[str] = ()) -> list[Chain]:
    """All chains of a result tree in a fixed order; orders that share their first stages share those runs. ``stale``:
    ids of runs that are out of date."""
    places: dict[tuple, list[Record]] = defaultdict(list)
    for record in records:
        if record.key.scored == "test":
            places[_place(record.key)].append(record)
    found = []
    for place, members in sorted(places.items()):
        orders = sorted({tuple(r.key.chain) for r in members if r.key.arm != JOINT and _whole(r.key)})
        for order in orders:
            found += list(_along(place, members, order, titles))
    return [replace(chain, stale=frozenset(stale)) for chain in found]


def _along(
    place: tuple, members: Sequence[Record], order: tuple[str, ...], titles: Mapping[str, str]
) -> Iterator[Chain]:
    runs: dict[tuple, Record] = {}
    single: dict[tuple[int, str], Record] = {}
    for record in sorted(members, key=lambda r: (r.status == "ok", r.run_id)):
        key = record.key
        if key.arm == SCRATCH:
            single[key.seed, key.tasks[0]] = record
        else:
            way = key.method, canonical(key.config), key.arm, canonical(key.arm_config)
            runs[(*way, tuple(key.chain), key.seed)] = record
    ranks = {method: rank for rank, method in enumerate(titles)}
    found = sorted(
        {place_[:4] for place_ in runs if place_[2] != STAGE0},
        key=lambda way: (ranks.get(way[0], len(ranks)), way[0], way[2] != JOINT, way[2], way),
    )
    seeds = sorted({place_[-1] for place_ in runs})
    for method, config, arm, options in found:
        alike = [other for other in found if (other[0], other[2]) == (method, arm)]
        label = arm if len(alike) == 1 else f"{arm} ({options})"

        def run(stage: int, seed: int, way: tuple = (method, config, arm, options)) -> Record | None:
            if stage == 0:
                return runs.get((way[0], way[1], STAGE0, canonical({}), (), seed))
            brought = order[:stage]
            if way[2] == JOINT:  # the order changes no retraining; with all tasks it is the ordinary one
                brought = () if stage == len(order) else tuple(task for task in place[3] if task in brought)
            return runs.get((*way, brought, seed))

        stages = {seed: [run(stage, seed) for stage in range(len(order) + 1)] for seed in seeds}
        if any(stage is not None for runs_ in stages.values() for stage in runs_[1:]):
            yield Chain(place[0], method, titles.get(method) or method, label, order, place[2], stages, single)


def study(found: Sequence[Chain]) -> list[tuple[Table, Plot | None]]:
    """Table and figure of the chains of each dataset; empty where there are none."""
    by_dataset: dict[str, list[Chain]] = defaultdict(list)
    for chain in found:
        by_dataset[chain.dataset].append(chain)
    several = len(by_dataset) > 1
    names = {dataset: re.sub(r"[^A-Za-z0-9.]+", "_", dataset) for dataset in by_dataset}
    endings = {dataset: f"study_chains-{name}" if several else "study_chains" for dataset, name in names.items()}
    return [(table(chains_, endings[d]), figure(chains_, endings[d])) for d, chains_ in by_dataset.items()]


def table(found: Sequence[Chain], name: str) -> Table:
    """All stages of all chains."""
    rows = []
    for chain in found:
        seeds = len(chain.stages)
        for stage in range(1, len(chain.order) + 1):
            cells = {measure: cell_of(chain.sample(stage, measure), seeds) for measure in MEASURES}
            rows.append(
                Row(
                    {
                        "dataset": Cell(text=chain.dataset),
                        "method": Cell(text=chain.title),
                        "arm": Cell(text=arm_title(chain.arm)),
                        "order": Cell(text=" > ".join(chain.order)),
                        "stage": Cell(float(stage)),
                        "task": Cell(text=chain.order[stage - 1]),
                        **cells,
                    },
                    rule_above=stage == 1,
                )
            )
    return Table(
        name,
        f"New tasks one after another. {answer(found)}",
        (
            Column("dataset", "Dataset", "text"),
            Column("method", "Method", "text"),
            Column("arm", "Arm", "text"),
            Column("order", "Order", "text"),
            Column("stage", "new tasks", "count"),
            Column("task", "arrived", "text"),
            Column("average", "average score"),
            Column("backward", "backward transfer", signed=True),
            Column("forgetting", "forgetting", signed=True),
            Column("gain", "gain over single task", signed=True),
            Column("trained", "trained now", "count"),
            Column("stored", "stored", "count"),
            Column("flops", "serving FLOPs", "count"),
            Column("seconds", "seconds so far", "seconds"),
        ),
        tuple(rows),
        (
            "Average score over all tasks known; backward transfer and forgetting over the tasks known before; gain "
            "over the new tasks that have arrived. Mean over seeds, 95 % interval: the average score by Student t "
            "over seeds, what compares scores by seeds and test rows together.",
            "Joint retraining starts afresh at every stage, with all tasks known by then. Inputs are those that every "
            "task of the chain allows, at every stage. Stored: all weights that serving needs, reserved rows too.",
            *origin([record for chain in found for record in chain.records()]),
        ),
    )


def answer(found: Sequence[Chain]) -> str:
    """What the chains say, in two sentences: the best average in the end, and who clearly forgot."""
    averages: dict[str, list[float]] = defaultdict(list)
    losses: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for chain in found:
        average, backward = (chain.sample(len(chain.order), name) for name in ("average", "backward"))
        name = f"{chain.title}, {arm_title(chain.arm)}"
        if (value := mean_of(average)) is not None:
            averages[name].append(value)
        if (value := mean_of(backward)) is not None:
            losses[name].append((value, half_width_of(backward) or 0.0))
    if not averages:
        return "No chain is complete yet."
    best = max(averages, key=lambda name: sum(averages[name]) / len(averages[name]))
    text = f"After the last task the highest average score is {sum(averages[best]) / len(averages[best]):.4f} ({best})"
    if losses:
        still = sum(all(value == 0.0 for value, _ in values) for values in losses.values())
        clear = [(value, name) for name, values in losses.items() for value, half in values if value + half < 0]
        text += f"; of {len(losses)} ways {still} changed no earlier task at all, and "
        if clear:
            lowest, worst = min(clear)
            text += f"the earlier tasks lost most with {worst} (backward transfer {lowest:+.4f})"
        else:
            text += "the earlier tasks clearly lost with none"
    return sentence(text)


def figure(found: Sequence[Chain], name: str) -> Plot | None:
    """Average score, backward transfer, trained and stored weights, serving cost and seconds against the number of new
    tasks."""
    together: dict[tuple, list[Chain]] = defaultdict(list)
    for chain in found:
        together[chain.title, chain.arm].append(chain)
    said = answer(found)
    rows: list[Point] = []
    for (title, arm), members in together.items():
        for stage in range(1, len(members[0].order) + 1):
            point: Point = {"answer": said, "method": title, "arm": arm, "tasks": stage}
            for measure in PANELS:
                pooled = _over_orders([chain.sample(stage, measure) for chain in members])
                point[measure], point[f"{measure}_half_width"] = mean_of(pooled), half_width_of(pooled)
            rows.append(point)
    rows = [row for row in rows if row["average"] is not None]
    several = len({row["tasks"] for row in rows}) > 1
    return Plot(name, rows, draw, tall(5.6, said), WIDTH) if several else None


def draw(drawn: Figure, rows: Sequence[Point]) -> None:
    from matplotlib.ticker import MaxNLocator

    caption_above(drawn, rows)
    for axes, (name, title) in zip(drawn.subplots(3, 2).flat, PANELS.items(), strict=True):
        lines(axes, rows, "tasks", name, apart=0.25)
        axes.set_ylabel(title)
        axes.set_xlabel("new tasks so far")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name in ("trained", "stored", "flops"):
            axes.set_yscale("log")
            logarithmic_counts(axes.yaxis)
    legend(drawn, rows)


def _over_orders(samples: Sequence[Sample]) -> Sample:
    """Seed by seed the mean over orders that have the seed."""
    own = [replace(sample, codes={}) for sample in samples if sample.values]
    if not own:
        return Sample()
    if len({frozenset(sample.values) for sample in own}) == 1:
        return replace(combine(own, _mean), crossed=own[0].crossed, score=own[0].score)
    seeds = sorted(set().union(*(sample.values for sample in own)))
    return Sample({seed: _mean([s.values[seed] for s in own if seed in s.values]) for seed in seeds})


def _place(key: Key) -> tuple:
    return key.dataset, key.split, tuple(key.old_tasks), tuple(key.new_tasks), canonical(key.budget), key.selection


def _whole(key: Key) -> bool:
    return bool(key.chain) and len(key.chain) == len(key.new_tasks)
