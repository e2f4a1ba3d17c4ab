"""Options that several commands share, and what they become: one `Request`, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from benchmark.core import numerics
from benchmark.core.errors import UsageError
from benchmark.records.tree import refuse_links

MODES = ("fill", "rerun-stale", "retry-failed", "fresh", "only-read")
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Request:
    """What a command line asks of a suite: which one, narrowed to what, carried out how, with results where.

    Empty means: as the suite has it. Fields are named as the options of `common`, `selection`, `data_option` and
    `plugin_files`, so that a command makes one of all its keyword arguments.
    """

    suite_name: str | None = None
    out: Path | None = None
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    seeds: str | None = None
    new_tasks: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    device: str = "auto"
    jobs: int | None = None
    mode: str = "fill"
    jobs_per_gpu: int | None = None
    engine: str = "local"
    scheduler: str | None = None
    workers: int | None = None
    one_kind: bool = False
    data_dir: Path | None = None
    method_files: tuple[Path, ...] = ()
    dataset_files: tuple[Path, ...] = ()
    figures: bool = True


class Names(click.ParamType):
    """Comma-separated names as a tuple, each once; completes to the names that ``known`` gives."""

    name = "names"

    def __init__(self, known: Callable[[], Iterable[str]]) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = [part.strip() for part in value.split(",")]
        if not all(names):
            self.fail(f"'{value}' has an empty name.", param, ctx)
        return tuple(dict.fromkeys(names))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(before + comma + name) for name in self._known() if name.startswith(last)]


def _datasets() -> Iterable[str]:
    from datasets_registry import DATASETS

    return DATASETS


def _methods() -> Iterable[str]:
    from methods import declared  # reads the files' declarations; importing them would import torch

    return ["all", *(info.name for info in declared())]


def _arms() -> Iterable[str]:
    from benchmark.spec.arms import ARMS, SCRATCH, STAGE0

    return [name for name in ARMS if name not in (STAGE0, SCRATCH)]


def _suites(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    names = sorted(path.stem for path in (Path(__file__).parents[1] / "suites").glob("*.toml"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def dataset_argument(function: Function) -> Function:
    """A dataset's name, completed."""

    def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [name for name in _datasets() if name.startswith(incomplete)]

    return click.argument("dataset", shell_complete=names)(function)


numerics_option = click.option(
    "--numerics",
    type=click.Choice(numerics.MODES),
    envvar=numerics.VARIABLE,
    default="portable",
    show_default=True,
    expose_value=False,
    callback=lambda context, option, mode: numerics.set_environment(mode),
    help="portable: equal bits on every x86-64 machine of a vendor. native: the CPU's fastest kernels.",
)

device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda (every GPU) or cuda:0,cuda:2."
)

device_again_option = click.option(
    "--device", help="auto, cpu, cuda or cuda:N. Default: the CPU for a record that was made there, else auto."
)

SELECTION = (
    click.option("--datasets", type=Names(_datasets), default=(), help="Comma-separated, instead of the suite's."),
    click.option("--methods", type=Names(_methods), default=(), help="Comma-separated, or all."),
    click.option("--arms", type=Names(_arms), default=(), help="Comma-separated, instead of the suite's."),
    click.option("--seeds", help="Seeds instead of the suite's: 0-4 or 0,2,5."),
    click.option(
        "--new-task",
        "new_tasks",
        type=Names(tuple),
        default=(),
        help="Comma-separated new tasks, which arrive together, instead of the dataset's default.",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="METHOD.KEY=VALUE",
        help="Change a config value, or ARM.KEY=VALUE, budget.KEY=VALUE. Lists: 64,32 or [64,32].",
    ),
    device_option,
    numerics_option,
    click.option(
        "--jobs", type=click.IntRange(1), help="Runs at once. Default: one per core on CPU, --jobs-per-gpu on a GPU."
    ),
    click.option(
        "--mode", type=click.Choice(MODES), default="fill", show_default=True, help="What to do about records."
    ),
)


ENGINES = ("local", "dask")
ENGINE = (
    click.option(
        "--jobs-per-gpu",
        type=click.IntRange(1),
        help="Runs at once on every GPU. Default: one for each core and 8 GiB of its memory; with --engine dask 1.",
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="local",
        show_default=True,
        help="What carries the runs out: this machine, or a Dask cluster (docs/cluster.md).",
    ),
    click.option("--scheduler", metavar="ADDRESS", help="With --engine dask: a cluster's scheduler, tcp://host:8786."),
    click.option(
        "--workers", type=click.IntRange(1), help="With --engine dask: make a cluster of so many workers here."
    ),
    click.option("--one-kind", is_flag=True, help="With --engine dask: refuse machines of different kinds."),
)


def common(function: Function) -> Function:
    """Options by which a command finds the result tree."""
    function = click.option("--out", type=click.Path(path_type=Path), help="Result tree. Default: results/<suite>.")(
        function
    )
    return click.option("--suite", "suite_name", shell_complete=_suites, help="A suite by name, or a .toml file.")(
        function
    )


def selection(function: Function) -> Function:
    """Options that narrow or change a suite, and say how and by what engine it is run."""
    for option in reversed((*ENGINE, *SELECTION)):
        function = option(function)
    return function


figures_option = click.option(
    "--figures/--no-figures", default=True, help="Draw the figures, too; tables and page are there in a moment without."
)


def data_option(function: Function) -> Function:
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="MPTBENCH_DATA",
        help="Where your own copies of raw data files are (also: MPTBENCH_DATA).",
    )(function)


def plugin_files(function: Function) -> Function:
    for kind in ("method", "dataset"):
        function = click.option(
            f"--{kind}-file",
            f"{kind}_files",
            multiple=True,
            type=click.Path(path_type=Path),
            help=f"Use a {kind} from a file of yours.",
        )(function)
    return function


def registered_methods(file: Path) -> list[str]:
    """The names that a method file registers, by importing it."""
    from methods import METHODS

    return METHODS.load_file(file)


def load_plugins(method_files: Iterable[Path], dataset_files: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Import files from outside the packages; the names of methods and of datasets that they registered."""
    from datasets_registry import load_file  # here: help and completion need neither
    from methods import METHODS

    methods = [name for file in method_files for name in METHODS.load_file(file)]
    datasets = [name for file in dataset_files for name in load_file(file)]
    return methods, datasets


def result_tree(suite_name: str | None, out: Path | None) -> Path:
    """The result tree that is meant: --out, the suite's, or the one written last."""
    if out is None and suite_name is not None:
        out = Path("results") / Path(suite_name).name.removesuffix(".toml")
    if out is None:
        trees = [path.parent for path in Path("results").glob("*/runs")]
        if not trees:
            raise UsageError(
                "No results here yet. 'python run_all.py --suite quick' makes some; --out DIR names others."
            )
        out = max(trees, key=lambda tree: (tree / "runs").stat().st_mtime)
    if not (out / "runs").is_dir():
        raise UsageError(f"No results under {out}. 'python run_all.py --suite quick' makes some.")
    refuse_links(out)
    return out
