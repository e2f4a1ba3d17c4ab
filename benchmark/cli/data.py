"""Commands about data and what there is: list, fetch, validate."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

import datasets_registry
from benchmark.cli import terminal
from benchmark.cli.listing import list_datasets, list_methods, list_suites
from benchmark.cli.options import data_option, dataset_argument, load_plugins, plugin_files
from benchmark.cli.progress import prepare_with_progress
from benchmark.core.errors import BenchmarkError, DataError, visible

if TYPE_CHECKING:
    from datasets_registry.encoding.store import EncodedDataset

CELL_WIDTH = 48
HIDDEN = {
    "methods": {"arms_of_the_harness", "trained_parameters", "joint_parameters"},
    "datasets": {"title", "licence"},
    "suites": set[str](),
}
"""Columns that only --json shows."""


@click.command("list")
@click.argument("what", type=click.Choice(["methods", "datasets", "suites"]))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@data_option
@plugin_files
def list_(what: str, as_json: bool, data_dir: Path | None, **files: tuple[Path, ...]) -> None:
    """List methods, datasets or suites."""
    load_plugins(**files)
    listings: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "methods": list_methods,
        "datasets": lambda: list_datasets(data_dir),
        "suites": list_suites,
    }
    rows = listings[what]()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    shown = [{key: _cell(value) for key, value in row.items() if key not in HIDDEN[what]} for row in rows]
    click.echo(terminal.listing(shown, terminal.width(), CELL_WIDTH))
    if what == "methods":
        note = (
            "trained: parameters that the frozen arm trains for a new task / those of the joint model of all tasks, "
            "on inputs like Census-Income's. "
            f"Whoever has frozen also runs {_building_on('frozen')}; whoever has finetune "
            f"{_building_on('finetune')}; with few exceptions (docs/arms.md)."
        )
        click.echo(terminal.paragraph(note, terminal.width(), ""))
    click.echo("--json shows everything.")


def _building_on(needed: str) -> str:
    """The harness's arms that a method can be run with if it supports ``needed``."""
    from benchmark.spec.arms import ARMS

    return ", ".join(name for name, arm in ARMS.items() if arm.needs[:1] == (needed,))


@click.command()
@dataset_argument
@data_option
@plugin_files
def fetch(dataset: str, data_dir: Path | None, **files: tuple[Path, ...]) -> None:
    """Get a dataset's raw files, encode them, and check every byte of what is encoded."""
    load_plugins(**files)
    for line in datasets_registry.terms(dataset):
        click.echo(visible(line))
    data = prepare_with_progress(dataset, data_dir, Console(), verify=True)
    click.echo(f"{dataset}: ready, fingerprint {data.fingerprint}.")
    for split in ("train", "valid", "test"):
        click.echo(f"  {split:<6}{len(data.split(split, data.schema(data.tasks))):>12,} rows")
    _warn(data)


@click.command()
@dataset_argument
@data_option
@plugin_files
def validate(dataset: str, data_dir: Path | None, **files: tuple[Path, ...]) -> int:
    """Check every row of a dataset's raw files.

    Errors name file, line and column. Where the data is encoded already, what was odd about it is said, too; own files
    are encoded for it: a task without positives, one class in the test split, cells that are cut, a leak.
    """
    load_plugins(**files)
    problems = datasets_registry.validate(dataset, data_dir=data_dir)
    if not problems and datasets_registry.find(dataset).local_files():  # own files: what only the splits show
        try:
            prepare_with_progress(dataset, data_dir, Console())
        except DataError as error:
            problems = [str(error)]
    for line in problems:
        click.echo(visible(line), err=True)
    click.echo(f"{dataset}: {counted(len(problems), 'problem') if problems else 'no problem found'}")
    with contextlib.suppress(BenchmarkError):  # raw files that were refused have no arrays
        if (data := datasets_registry.encoded(dataset, data_dir=data_dir)) is not None:
            _warn(data)
    return 1 if problems else 0


def _warn(data: EncodedDataset) -> None:
    """What is odd about encoded data, a leak for example."""
    for line in data.warnings:
        click.echo(visible(f"Warning: {line}"), err=True)


def counted(number: int, what: str) -> str:
    """``1 problem``, ``2 problems``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cell(value: Any) -> str:
    """One cell of a listing: a list joined."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@click.command()
@dataset_argument
@click.option("--croissant", is_flag=True, help="As JSON-LD in the Croissant vocabulary, for machines.")
@click.option("--difficulty", is_flag=True, help="What plain models reach and what the test rows can show (a minute).")
@data_option
@plugin_files
def describe(dataset: str, croissant: bool, difficulty: bool, data_dir: Path | None, **files: tuple[Path, ...]) -> None:
    """Say what a dataset is: its card, with its counted numbers where it was fetched."""
    load_plugins(**files)
    if difficulty:
        from datasets_registry.difficulty import measure

        click.echo(measure(prepare_with_progress(dataset, data_dir, Console(stderr=True))).markdown())
        return
    found, data = datasets_registry.find(dataset), datasets_registry.encoded(dataset, data_dir=data_dir)
    if croissant:
        from datasets_registry.croissant import describe as described

        click.echo(json.dumps(described(found, data), indent=1))
    else:
        from datasets_registry.cards import card

        click.echo(card(found, data))


@click.command()
@dataset_argument
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--values", is_flag=True, help="Raw values of categorical inputs instead of their codes.")
@data_option
@plugin_files
def export(dataset: str, directory: Path, values: bool, data_dir: Path | None, **files: tuple[Path, ...]) -> None:
    """Write a dataset's splits as Parquet files, encoded as models get them."""
    from datasets_registry.export import parquet

    load_plugins(**files)
    for path in parquet(prepare_with_progress(dataset, data_dir, Console()), directory, values=values):
        click.echo(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")
