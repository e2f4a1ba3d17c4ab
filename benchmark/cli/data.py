"""Commands about data and what there is: list, fetch, validate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from benchmark.cli.options import data_option, load_plugins, plugin_files
from benchmark.cli.run import _prepare_one

CELL_WIDTH = 48


@click.command("list")
@click.argument("what", type=click.Choice(["methods", "datasets", "suites"]))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@data_option
@plugin_files
def list_(what: str, as_json: bool, data_dir: Path | None, method_files: tuple, dataset_files: tuple) -> None:
    """List methods, datasets or suites."""
    from benchmark.cli.listing import list_datasets, list_methods, list_suites

    load_plugins("method", method_files)
    load_plugins("dataset", dataset_files)
    rows = {"methods": list_methods, "suites": list_suites}[what]() if what != "datasets" else list_datasets(data_dir)
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    from tabulate import tabulate

    hidden = {
        "methods": {"arms_of_the_harness", "trained_parameters", "joint_parameters"},
        "datasets": {"title", "licence"},
        "suites": set(),
    }[what]
    shown = [{key: _cell(value) for key, value in row.items() if key not in hidden} for row in rows]
    click.echo(tabulate(shown, headers="keys"))
    if what == "methods":
        click.echo(
            "trained: parameters that the frozen arm trains for a new task / those of the joint model of all tasks, "
            "on inputs like Census-Income's.\n"
            "Whoever has frozen also runs linear_probe, adapter, lora, bias_only, and whoever has finetune ewc, lwf, "
            "replay, with few exceptions (docs/arms.md)."
        )
    click.echo("--json shows everything.")


@click.command()
@click.argument("dataset")
@data_option
@plugin_files
def fetch(dataset: str, data_dir: Path | None, method_files: tuple, dataset_files: tuple) -> None:
    """Get a dataset's raw files (checked and cached) and encode them."""
    from rich.console import Console

    load_plugins("dataset", dataset_files)
    data = _prepare_one(dataset, data_dir, Console())
    click.echo(f"{dataset}: ready, fingerprint {data.fingerprint}.")
    for split in ("train", "valid", "test"):
        click.echo(f"  {split:<6}{len(data.split(split, data.schema(data.tasks))):>12,} rows")


@click.command()
@click.argument("dataset")
@data_option
@plugin_files
def validate(dataset: str, data_dir: Path | None, method_files: tuple, dataset_files: tuple) -> int:
    """Check every row of a dataset's raw files; errors name file, line and column."""
    from datasets_registry import validate as check

    load_plugins("dataset", dataset_files)
    problems = check(dataset, data_dir=data_dir)
    for line in problems:
        click.echo(line, err=True)
    click.echo(f"{dataset}: {'no problem found' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


def _cell(value: Any) -> str:
    """One cell of a listing: a list joined, a long text cut."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"
