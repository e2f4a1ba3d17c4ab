"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.core.errors import BenchmarkError, UsageError, unknown_name

if TYPE_CHECKING:
    pass


MODES = ("fill", "rerun-stale", "retry-failed", "fresh", "only-read")


SELECTION = (
    click.option("--datasets", help="Comma-separated datasets instead of the suite's."),
    click.option("--methods", help="Comma-separated methods instead of the suite's."),
    click.option("--arms", help="Comma-separated arms instead of the suite's."),
    click.option("--seeds", help="Seeds instead of the suite's: 0-4 or 0,2,5."),
    click.option("--new-task", "new_tasks", help="Comma-separated new tasks instead of the dataset's default."),
    click.option(
        "--set", "settings", multiple=True, metavar="METHOD.KEY=VALUE", help="Change a config or budget value."
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--jobs", type=click.IntRange(1), help="Runs at once. Default: one per core on CPU, 1 on a GPU."),
    click.option(
        "--mode", type=click.Choice(MODES), default="fill", show_default=True, help="What to do about records."
    ),
)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options by which a command finds the result tree."""
    function = click.option("--out", type=click.Path(path_type=Path), help="Result tree. Default: results/<suite>.")(
        function
    )
    return click.option("--suite", "suite_name", help="Suite whose result tree is meant.")(function)


def selection(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that narrow or change a suite, and say how it is run."""
    for option in reversed(SELECTION):
        function = option(function)
    return function


def data_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="MPTBENCH_DATA",
        help="Where your own copies of raw data files are (also: MPTBENCH_DATA).",
    )(function)


def plugin_files(function: Callable[..., Any]) -> Callable[..., Any]:
    for kind in ("method", "dataset"):
        function = click.option(
            f"--{kind}-file",
            f"{kind}_files",
            multiple=True,
            type=click.Path(path_type=Path),
            help=f"Use a {kind} from a file of yours.",
        )(function)
    return function


def load_plugins(kind: str, files: Iterable[Path]) -> list[str]:
    """Import files from outside the packages; the names they registered."""
    names: list[str] = []
    for file in files:
        if kind == "method":
            from methods import METHODS

            names += METHODS.load_file(file)
        else:
            from datasets_registry import load_file

            names += load_file(file)
    return names


def checked_device(device: str) -> str:
    """``auto`` resolved; raises UsageError for a device that is not there."""
    if device == "cpu":
        return device
    from benchmark.execution.runner import choose_device

    kind = device.partition(":")[0]
    if kind not in ("auto", "cuda"):
        raise unknown_name("device", device, ("auto", "cpu", "cuda"))
    try:
        return str(choose_device(device))
    except BenchmarkError as error:
        raise UsageError(str(error)) from error


def result_tree(suite_name: str | None, out: Path | None) -> Path:
    """The result tree that is meant: --out, the suite's, or the one written last."""
    if out is None and suite_name is not None:
        out = Path("results") / suite_name
    if out is None:
        trees = [path.parent for path in Path("results").glob("*/runs")]
        if not trees:
            raise UsageError(
                "No results here yet. 'python run_all.py --suite quick' makes some; --out DIR names others."
            )
        out = max(trees, key=lambda tree: (tree / "runs").stat().st_mtime)
    if not (out / "runs").is_dir():
        raise UsageError(f"No results under {out}. 'python run_all.py --suite quick' makes some.")
    return out
