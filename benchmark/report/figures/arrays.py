"""Figures from arrays that some runs leave beside their records, and those over several groups.

``representations.npz``: ``general`` [N, m] and ``specific_<task>`` [N, m] of the same N test rows (a few thousand).
``attention.npz``: ``weights`` [N, K], rows sum to 1, and ``tasks`` [K], the old tasks' names.
Runs without these files are left out.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from benchmark.analysis.groups import SCRATCH, Group, read_arrays
from benchmark.core.seeding import stream_seed
from benchmark.records.record import Record
from benchmark.report.figures.plot import Plot, Row, colour, legend_below, logarithmic_counts, palette, unique
from benchmark.report.figures.style import marker
from benchmark.report.overall import Study
from benchmark.spec.labels import without_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

REPRESENTATIONS, ATTENTION = "representations.npz", "attention.npz"
MAXIMAL_POINTS = 750


def representations(group: Group, slug: str) -> list[Plot]:
    """t-SNE of general and specific representations (form of the paper's Figure 7), one figure per method.

    van der Maaten & Hinton, JMLR 2008, as scikit-learn computes it; left out where that is not installed. The first
    seed that has the arrays is shown. The points' seed comes from a named stream.
    """
    if importlib.util.find_spec("sklearn") is None:
        return []
    made: dict[str, Plot] = {}
    for variant, arm, seed, arrays in _runs_with(group, REPRESENTATIONS):
        kept = {name: array for name, array in arrays.items() if array.ndim == 2}
        if len({array.shape[1] for array in kept.values()}) != 1 or sum(map(len, kept.values())) < 10:
            continue
        head = {"method": group.labels[variant], "arm": arm, "seed": seed}
        name = "".join(c if c.isalnum() else "_" for c in group.labels[variant])
        if name in made:  # of a further arm: two figures under one name would overwrite each other at every build
            continue
        source = f"{head} " + " ".join(f"{key} {blake2b(a.tobytes()).hexdigest()}" for key, a in sorted(kept.items()))
        made[name] = Plot(
            f"representations-{name}-{slug}",
            [],
            draw_representations,
            2.9,
            late=partial(embedded, kept, head),
            source=source,
        )
    return list(made.values())


def embedded(arrays: Mapping[str, NDArray], head: Row) -> list[Row]:
    """The points of the t-SNE: up to `MAXIMAL_POINTS` rows over all arrays, the first ones of each."""
    import numpy as np
    from sklearn.manifold import TSNE

    kept = {name: array[: MAXIMAL_POINTS // len(arrays)] for name, array in arrays.items()}
    together = np.concatenate(list(kept.values())).astype(np.float64)
    number = stream_seed("bootstrap", "t-SNE", head["method"]) % 2**32
    model = TSNE(2, perplexity=min(30.0, (len(together) - 1) / 3), init="pca", random_state=number)
    names = np.repeat(list(kept), [len(array) for array in kept.values()])
    return [
        {**head, "representation": str(name).replace("specific_", "specific: "), "x": float(x), "y": float(y)}
        for name, (x, y) in zip(names, model.fit_transform(together), strict=True)
    ]


def draw_representations(drawn: Figure, rows: Sequence[Row]) -> None:
    axes = drawn.add_subplot()
    kinds = unique(rows, "representation")
    for kind, shape in zip(kinds, ("o", "^", "s", "D", "v", "P", "X") * len(kinds), strict=False):
        points = [row for row in rows if row["representation"] == kind]
        axes.scatter(
            [p["x"] for p in points], [p["y"] for p in points], 6, colour(kind, kinds), marker=shape, alpha=0.6,
            linewidths=0, label=kind, rasterized=True,
        )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(rows[0]["method"], loc="left", pad=2)
    drawn.legend(loc="outside lower center", ncols=2, markerscale=2)


def attention(group: Group, slug: str) -> Plot | None:
    """How the prompt's attention over the old tasks is spread over test rows, per seed."""
    import numpy as np

    rows: list[Row] = []
    for variant, arm, seed, arrays in _runs_with(group, ATTENTION, every_seed=True):
        weights, tasks = arrays.get("weights"), arrays.get("tasks")
        if weights is None or tasks is None or weights.ndim != 2 or weights.shape[1] != len(tasks):
            continue
        for task, column in zip(tasks, weights.T, strict=True):
            low, q1, median, q3, high = np.quantile(column.astype(float), (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
            rows.append(
                {
                    "method": group.labels[variant], "arm": arm, "seed": seed, "task": str(task), "mean":
                    float(column.mean()), "q05": low, "q25": q1, "median": median, "q75": q3, "q95": high,
                }
            )  # fmt: skip
    return Plot(f"attention-{slug}", rows, draw_attention, 0.9 + 0.16 * len(rows)) if rows else None


def draw_attention(drawn: Figure, rows: Sequence[Row]) -> None:
    axes = drawn.add_subplot()
    tasks = unique(rows, "task")
    rows = sorted(rows, key=lambda row: (row["method"], row["arm"], row["seed"]))
    boxes = [{"whislo": r["q05"], "q1": r["q25"], "med": r["median"], "q3": r["q75"], "whishi": r["q95"]} for r in rows]
    drawn_boxes = axes.bxp(
        boxes, orientation="horizontal", showfliers=False, patch_artist=True, widths=0.6,
        medianprops={"color": "black"},
    )  # fmt: skip
    for patch, row in zip(drawn_boxes["boxes"], rows, strict=True):
        patch.set_facecolor(colour(row["task"], tasks))
    methods, arms = unique(rows, "method"), unique(rows, "arm")
    axes.set_yticks(
        range(1, len(rows) + 1),
        [
            f"{r['method'] + ', ' if len(methods) > 1 else ''}{r['arm'] + ', ' if len(arms) > 1 else ''}"
            f"{r['task']}, seed {r['seed']}"
            for r in rows
        ],
        fontsize=6,
    )
    axes.axvline(1 / len(tasks), color="#888888", linewidth=0.8, linestyle="--")
    axes.set_xlabel("attention weight over test rows\n(quantiles 5 to 95 %; dashed: uniform)")
    axes.invert_yaxis()


def label_share(groups: Sequence[Group], slugs: Sequence[str]) -> list[Plot]:
    """Score of the new task against the share of its labels: groups that differ in nothing else.

    The share stands in the dataset's profile: ``census_income@new5pct``.
    """
    families: dict[tuple, list[tuple[float, Group, str]]] = {}
    for group, slug in zip(groups, slugs, strict=True):
        dataset, share = without_share(group.dataset)
        key = (dataset, group.split, group.old_tasks, group.new_tasks, group.budget, group.selection)
        families.setdefault(key, []).append((1.0 if share is None else float(share), group, slug))
    made = []
    for (dataset, *_), members in families.items():
        if len({share for share, _, _ in members}) < 2:
            continue
        largest = max(members, key=lambda member: len(member[1].records))[1]
        rows: list[Row] = []
        for task in largest.new_tasks:
            for variant in largest.variants:
                for arm in largest.arms(variant):
                    points = [(share, group.score(variant, arm, task).interval()) for share, group, _ in members]
                    known = sorted(((s, found) for s, found in points if found is not None), key=lambda point: point[0])
                    if len(known) < 2:
                        continue  # a point alone shows no dependence
                    rows += [
                        {
                            "method": largest.labels[variant], "place": largest.variants.index(variant), "arm": arm,
                            "task": task, "share": share,
                            "score": found.mean, "half_width": found.half_width, "n": found.n,
                        }
                        for share, found in known
                    ]  # fmt: skip
        if rows:
            name = re.sub(r"\W", "_", dataset)
            made.append(Plot(f"label_share-{name}", rows, draw_label_share, 3.4))
    return made


def draw_label_share(drawn: Figure, rows: Sequence[Row]) -> None:
    axes = drawn.add_subplot()
    methods, arms = palette(rows), unique(rows, "arm")
    styles = ("-", "--", ":", "-.")
    for method in methods:
        for arm in arms:
            points = [row for row in rows if (row["method"], row["arm"]) == (method, arm)]
            axes.errorbar(
                [100 * p["share"] for p in points], [p["score"] for p in points],
                [p["half_width"] or 0 for p in points], color=colour(method, methods), marker=marker(arm, arms),
                markersize=4, linestyle=styles[arms.index(arm) % 4], elinewidth=0.6,
            )  # fmt: skip
    axes.set_xscale("log")
    logarithmic_counts(axes.xaxis, " %", [100 * row["share"] for row in rows])
    axes.set_xlabel("labels of the new task used for training")
    axes.set_ylabel(f"test score of {rows[0]['task']}")
    legend_below(drawn, methods, arms)


def critical_differences(study: Study) -> Plot | None:
    """Mean ranks over datasets with Nemenyi's critical difference (Demšar, JMLR 2006); only from six datasets."""
    found = study.result()
    if found.critical_difference is None:
        return None
    rows: list[Row] = [
        {"method": name, "rank": rank, "critical_difference": found.critical_difference, "datasets": found.datasets}
        for name, rank in sorted(found.ranks.items(), key=lambda item: (item[1], item[0]))
    ]
    return Plot(f"critical_difference-{study.name}", rows, draw_critical_differences, 0.8 + 0.14 * len(rows), 5.0)


def draw_critical_differences(drawn: Figure, rows: Sequence[Row]) -> None:
    axes = drawn.add_subplot()
    axes.axis("off")
    count, width = len(rows), rows[0]["critical_difference"]
    half = (count + 1) // 2
    axes.set_xlim(1 - 0.42 * (count - 1), count + 0.42 * (count - 1))
    axes.set_ylim(half + 1.6, -1.9)
    axes.plot([1, count], [0, 0], color="black", linewidth=1)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, -0.15], color="black", linewidth=0.8)
        if (tick - 1) % -(-count // 8) == 0:
            axes.text(tick, -0.3, str(tick), ha="center", va="bottom", fontsize=7)
    axes.plot([1, 1 + width], [-1.3, -1.3], color="black", linewidth=1.5)
    axes.text(1 + width / 2, -1.4, f"critical difference {width:.2f}", ha="center", va="bottom", fontsize=7)
    for place, row in enumerate(rows):
        left = place < half
        level = 1.0 + (place if left else count - 1 - place)
        edge = 1 - 0.05 * (count - 1) if left else count + 0.05 * (count - 1)
        axes.plot([row["rank"], row["rank"], edge], [0, level, level], color="#555555", linewidth=0.8)
        axes.text(
            edge, level, f"{row['method']} {row['rank']:.2f} " if left else f" {row['rank']:.2f} {row['method']}",
            ha="right" if left else "left", va="center", fontsize=6.5,
        )  # fmt: skip
    for level, (first, last) in enumerate(cliques([row["rank"] for row in rows], width)):
        y = 0.25 + 0.2 * level
        axes.plot([rows[first]["rank"] - 0.03, rows[last]["rank"] + 0.03], [y, y], color="#0072B2", linewidth=2.5)


def cliques(ranks: Sequence[float], width: float) -> list[tuple[int, int]]:
    """Longest runs of sorted ranks that lie within the critical difference: first and last place of each."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = max(place for place in range(first, len(ranks)) if ranks[place] - ranks[first] <= width)
        if last > first and not (found and found[-1][1] >= last):
            found.append((first, last))
    return found


def _runs_with(group: Group, name: str, every_seed: bool = False) -> list[tuple[Any, str, int, Mapping[str, NDArray]]]:
    """Variant, arm, seed and arrays of the runs that left this file: the first seed of each, or every one."""
    found: list[tuple[Any, str, int, Mapping[str, NDArray]]] = []
    for variant in group.variants:
        for arm in ["stage0", *group.arms(variant)]:
            for seed in group.seeds:
                run = group.find(variant, arm, seed) if arm != SCRATCH else None
                arrays = _load(group, run, name) if run is not None else None
                if arrays:
                    found.append((variant, arm, seed, arrays))
                    if not every_seed:
                        break
    return found


def _load(group: Group, run: Record, name: str) -> dict[str, NDArray] | None:
    path = group.options.file(run.key, name)
    return None if path is None else read_arrays(path)
