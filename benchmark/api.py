"""The suite from Python, for notebooks: a few functions that stay as they are.

::

    import benchmark as mb

    mb.plan("smoke", methods=["mmoe"]).runs          # what would be run
    tree = mb.run("smoke", methods=["mmoe"], out="my_results")
    mb.load(tree)                                    # pandas: one row per run and task
    mb.analyse(tree).degradation                     # pandas: what each old task lost, with the tests' results
    mb.tables(tree)["new_task-synthetic"]            # pandas: a table of the paper
    mb.compare_predictions({"purchase": logits}, tree)   # your own model's logits beside what was run

Whatever is wrong with a request raises `benchmark.core.errors.UsageError`, with the nearest name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike

    from benchmark.cli.options import Request
    from benchmark.planning.plan import Plan

__all__ = [
    "Analysis",
    "analyse",
    "compare_predictions",
    "load",
    "load_all",
    "plan",
    "ranking",
    "reference",
    "rows",
    "run",
    "tables",
]

Names = str | Iterable[str]
Files = Iterable[str | Path]


def reference(suite: str = "quick") -> Path:
    """A result tree that comes with the package: records, tables and figures of the reference results of a suite.

    Raises UsageError where there are none of it.
    """
    from benchmark.core.errors import unknown_name
    from benchmark.records.reference import reference_trees

    trees = reference_trees()
    if suite not in trees:
        raise unknown_name("suite with reference results", suite, trees)
    return trees[suite]


def load(*trees: str | Path) -> pd.DataFrame:
    """The records of result trees as a frame with one row per run and task (default: those of `reference()`).

    Columns: `benchmark.report.frame.rows`, and ``tree`` where several are named. Raises UsageError for a folder
    without results.
    """
    import pandas as pd

    from benchmark.records.tree import read_records
    from benchmark.report.frame import rows as flat

    found = []
    for tree in trees or (reference(),):
        table = flat(read_records(_checked(tree))[0])
        found += [{"tree": str(tree), **row} for row in table] if len(trees) > 1 else table
    return pd.DataFrame(found)


def load_all() -> pd.DataFrame:
    """All reference results as one frame, as `load` gives them, with the column ``tree``."""
    from benchmark.records.reference import reference_trees

    return load(*reference_trees().values())


def ranking(*trees: str | Path) -> pd.DataFrame:
    """How every method and strategy stands on every problem of result trees (default: all reference results).

    Columns: `benchmark.report.ranking.entries`. Ranks hold within a problem of one tree.
    """
    import pandas as pd

    from benchmark.cli.listing import titles
    from benchmark.records.reference import reference_trees
    from benchmark.report.ranking import entries

    chosen = [_checked(tree) for tree in trees] or list(reference_trees().values())
    return pd.DataFrame(entries(chosen, titles()))


@dataclass(frozen=True)
class Analysis:
    """What the records of a result tree say, as frames. Columns: `benchmark.analysis.frames`; of ``claims``: those of
    `benchmark.report.claims.Verdict`, with the claim's ``name``."""

    scores: pd.DataFrame
    differences: pd.DataFrame
    degradation: pd.DataFrame
    gain: pd.DataFrame
    front: pd.DataFrame
    claims: pd.DataFrame


def analyse(tree: str | Path | None = None) -> Analysis:
    """The numbers behind tables and figures of a result tree (default: `reference()`), with the tests' results."""
    import pandas as pd

    from benchmark.analysis import frames
    from benchmark.analysis.groups import Options, group_records
    from benchmark.analysis.slugs import slugs
    from benchmark.cli.listing import titles
    from benchmark.cli.trees import report_options
    from benchmark.records.claims import parse_claims
    from benchmark.records.tree import read_records
    from benchmark.report.claims import judge_groups

    folder = _checked(tree or reference())
    options = report_options(folder)
    stale = frozenset(options.pop("stale"))
    groups = group_records(read_records(folder)[0], titles(), Options(roots=(folder,), stale=stale, **options))
    stated = options.get("claims")
    verdicts = judge_groups(groups, slugs(groups), None if stated is None else parse_claims(stated))
    claims = [{"name": verdict.claim.name, **vars(verdict)} for verdict in verdicts]
    return Analysis(
        scores=pd.DataFrame(frames.scores(groups)),
        differences=pd.DataFrame(frames.differences(groups)),
        degradation=pd.DataFrame(frames.degradation(groups)),
        gain=pd.DataFrame(frames.gain(groups)),
        front=pd.DataFrame(frames.front(groups)),
        claims=pd.DataFrame(claims).drop(columns="claim", errors="ignore"),
    )


def tables(tree: str | Path | None = None) -> dict[str, pd.DataFrame]:
    """Every table of a result tree by its name, with full numbers: the content of tables/*.csv."""
    import io

    import pandas as pd

    from benchmark import report
    from benchmark.cli.listing import titles
    from benchmark.cli.trees import report_options

    place = _checked(tree or reference())
    files = report.report(place, titles(), **report_options(place)).files()
    return {
        Path(name).stem: pd.read_csv(io.StringIO(text))
        for name, text in files.items()
        if name.startswith("tables/") and name.endswith(".csv")
    }


def plan(suite: str = "paper", **changes: Any) -> Plan:
    """What a suite would run: ``.runs`` and, with their reasons, ``.skips``. Changes are those of `run`."""
    from benchmark.cli.options import load_plugins
    from benchmark.cli.sweep import narrowed
    from benchmark.planning.plan import make_plan

    request = _request(suite, changes)
    return make_plan(narrowed(request, *load_plugins(request.method_files, request.dataset_files)))


def run(
    suite: str = "paper",
    *,
    out: str | Path | None = None,
    datasets: Names = (),
    methods: Names = (),
    arms: Names = (),
    seeds: str | int | Iterable[int] | None = None,
    new_tasks: Names = (),
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    jobs: int | None = None,
    mode: str = "fill",
    data_dir: str | Path | None = None,
    method_files: Files = (),
    dataset_files: Files = (),
) -> Path:
    """Run a suite as the command ``run`` does, with its tables and report; returns the result tree.

    What is there already is kept. ``seeds``: 5 means 0 to 4. ``settings``: {"mpt_rec.env_coe": 0.0}. Runs that fail
    raise nothing: they are rows of `load` with their status and reason.
    """
    from benchmark.cli import equal, sweep
    from benchmark.execution import processes

    given = dict(locals())
    changes = {name: given[name] for name in _CHANGES}
    request = _request(suite, changes)
    if request.mode != "only-read":
        processes.context()
    sweep.run_suite(request, None, fail_fast=False, debug=False, search=equal.search_first)
    return request.out or sweep.Sweep.of(request).out


_CHANGES = (
    "out datasets methods arms seeds new_tasks settings device jobs mode data_dir method_files dataset_files".split()
)


def _request(suite: str, changes: Mapping[str, Any]) -> Request:
    from benchmark.cli.options import Request
    from benchmark.core.errors import unknown_name

    for name in changes:
        if name not in _CHANGES:
            raise unknown_name("argument", name, _CHANGES)
    values = {name: value for name, value in changes.items() if value is not None}
    for name in ("datasets", "methods", "arms", "new_tasks"):
        if name in values:
            values[name] = (values[name],) if isinstance(values[name], str) else tuple(values[name])
    for name in ("method_files", "dataset_files"):
        values[name] = tuple(Path(file) for file in values.get(name, ()))
    for name in ("out", "data_dir"):
        if name in values:
            values[name] = Path(values[name])
    seeds = values.get("seeds")
    if seeds is not None and not isinstance(seeds, str):
        values["seeds"] = f"0-{seeds - 1}" if isinstance(seeds, int) else ",".join(map(str, seeds))
    settings = values.pop("settings", {})
    values["settings"] = tuple(f"{name}={_as_text(value)}" for name, value in settings.items())
    return Request(suite_name=str(suite), **values)


def _as_text(value: Any) -> str:
    """A value as ``--set`` reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def rows(
    dataset: str, which: str = "train", *, data_dir: str | Path | None = None, tasks: Names = ()
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Inputs and labels of "train", "valid" or "test" rows as a model of the suite gets them, for a model of one's own.

    Categorical features are codes from 0, numeric ones scaled. Features that give one of ``tasks`` (default: the
    dataset's default partition) away are left out. Labels are float with NaN where undefined. Of "test" there are
    inputs alone, in the fixed order in which `compare_predictions` expects logits. Fetches the data if need be.
    """
    import numpy as np
    import pandas as pd

    from benchmark.core.seeding import numpy_stream
    from datasets_registry import prepare

    data = prepare(dataset, data_dir=Path(data_dir) if data_dir else None)
    chosen = ([tasks] if isinstance(tasks, str) else list(tasks)) or [*data.old_tasks, *data.new_tasks]
    schema = data.schema(chosen)
    split = data.split(which, schema)
    order = numpy_stream("test order", data.name).permutation(len(split)) if which == "test" else np.arange(len(split))
    codes, columns, at = split.categorical(order), {}, 0
    for feature, offset in zip(schema.categorical, schema.offsets, strict=True):
        for place in range(feature.length):
            name = feature.name if feature.length == 1 else f"{feature.name}.{place}"
            columns[name] = codes[:, at] - offset
            at += 1
    numbers = split.numeric(order)
    columns |= {name: numbers[:, place] for place, name in enumerate(schema.numeric)}
    inputs = pd.DataFrame(columns)
    if which == "test":
        return inputs, None
    return inputs, pd.DataFrame({task: data.labels(which, task) for task in chosen})


def compare_predictions(
    logits: Mapping[str, ArrayLike], tree: str | Path, *, dataset: str | None = None, name: str = "yours"
) -> pd.DataFrame:
    """An own model's test predictions beside every run of a result tree that stored its own (``predictions.npz``).

    ``logits``: by task, [N] or one row per seed [S, N], in the order of ``rows(dataset, "test")``; any score that grows
    with the probability will do, since AUCs are compared. ``dataset`` is needed where the tree has several.

    Returns one row per task, method and arm: ``auc`` of theirs and ``own_auc`` (means over seeds), ``difference`` =
    own minus theirs, DeLong's standard error and two-sided p over test rows (DeLong et al., Biometrics 1988) and
    ``p_holm`` over the frame. The test knows nothing of seeds: one lucky training of yours passes it, so hand in
    several. Raises UsageError for wrong tasks or lengths, and for a tree without predictions.
    """
    import pandas as pd

    from benchmark.analysis.predictions import compare

    arrays = {task: _array(value) for task, value in logits.items()}
    return pd.DataFrame(compare(arrays, _checked(tree), dataset, name))


def _array(value: ArrayLike) -> np.ndarray:
    import numpy as np

    return np.atleast_2d(np.asarray(value, dtype=np.float64))


def _checked(tree: str | Path) -> Path:
    from benchmark.core.errors import UsageError

    place = Path(tree)
    if not (place / "runs").is_dir():
        raise UsageError(f"No results under {place}: a result tree has a folder 'runs'.")
    return place
