"""The commands pack and unpack: the records of a tree as one small file, to be committed, sent or archived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmark.core.errors import UsageError, visible

Function = Callable[..., Any]


def _trees(function: Function) -> Function:
    return click.argument(
        "trees", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
    )(function)


@click.command()
@_trees
def pack(trees: tuple[Path, ...]) -> int:
    """Put all records of result trees into one small file each.

    Tables, reports and 'verify' read it as they read single records; a command that runs something unpacks it first.
    Every value stays as it is. What else a run has left (curves, predictions) stays where it is.
    """
    from benchmark.records import tree as records

    for tree in trees:
        _check(tree)
        count = records.pack(tree)
        file = tree / "runs" / records.PACKED
        size = f"{file}, {file.stat().st_size:,} bytes" if file.exists() else tree
        click.echo(f"{count} records in {visible(str(size))}")
    return 0


@click.command()
@_trees
def unpack(trees: tuple[Path, ...]) -> int:
    """Put the records of packed result trees back into one file per run."""
    from benchmark.records import tree as records

    problems: list[str] = []
    for tree in trees:
        _check(tree)
        problems += records.unpack(tree)
        click.echo(f"{visible(str(tree))}: every readable record is a file of its own")
    for problem in problems:
        click.echo(f"Warning: {visible(problem)}. The packed file was set aside.", err=True)
    return 1 if problems else 0


def _check(tree: Path) -> None:
    if not (tree / "runs").is_dir():
        raise UsageError(f"{tree} is no result tree: it has no directory 'runs'.")
