"""The command compare: a user's records beside those that come with the program."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from benchmark import report
from benchmark.cli import terminal
from benchmark.cli.listing import titles
from benchmark.cli.options import data_option, load_plugins, plugin_files
from benchmark.cli.page import write_page
from benchmark.cli.progress import working
from benchmark.cli.trees import report_options
from benchmark.core.errors import UsageError, visible
from benchmark.records.reference import reference_trees


@click.command()
@click.argument("mine", metavar="MY_RESULTS", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--to",
    "theirs",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Another result tree instead of the reference results.",
)
@data_option
@plugin_files
def compare(mine: Path, theirs: Path | None, data_dir: Path | None, **files: tuple[Path, ...]) -> int:
    """Set your records beside the reference results; nothing is run.

    Only what shares dataset, split, tasks, budget, selection rule and data is compared; of the rest the first
    condition that differs is named, and what would make it the same. Tables, figures and report.html go to
    MY_RESULTS/comparison.
    """
    load_plugins(**files)
    trees = list(reference_trees().values()) if theirs is None else [theirs]
    for tree in (mine, *trees):
        if not (tree / "runs").is_dir():
            raise UsageError(f"No results under {tree}: a result tree has a folder 'runs'.")
    out = mine / "comparison"
    with working(Console(stderr=True), "comparing"):
        options = report_options(mine, data_dir)
        made = report.compare(mine, trees, titles(), **options)
        if made.tables:
            written = made.write(out)
            page = write_page(out, made, options["stale"])
    if made.tables:
        for text in terminal.main_tables(made.tables, out / "tables", False):
            click.echo(text)
        click.echo(f"Wrote {len(written)} files under {out}. Report: {page}")
    for problem in made.problems:
        click.echo(visible(f"Not compared: {problem}"), err=True)
    return 0 if made.tables else 1
