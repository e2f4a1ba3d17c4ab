"""The commands pack and unpack: the records of a tree as one small file, to be committed, sent or archived."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.core.errors import visible

trees_argument = click.argument(
    "trees", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)


@click.command()
@trees_argument
def pack(trees: tuple[Path, ...]) -> int:
    """Put all records of result trees into one small file each.

    Tables, reports and 'verify' read it as they read single records; a command that runs something unpacks it first.
    Every value stays as it is. What else a run has left (curves, predictions) stays where it is.
    """
    from benchmark.records import tree as records

    for tree in trees:
        records.check_tree(tree)
        count = records.pack(tree)
        file = tree / "runs" / records.PACKED
        size = f", {file.stat().st_size:,} bytes" if count else ""
        click.echo(f"{count} records in {visible(str(file))}{size}")
    return 0


@click.command()
@trees_argument
def unpack(trees: tuple[Path, ...]) -> int:
    """Put the records of packed result trees back into one file per run."""
    from benchmark.records import tree as records

    problems: list[str] = []
    for tree in trees:
        records.check_tree(tree)
        problems += records.unpack(tree)
        click.echo(f"{visible(str(tree))}: every readable record is a file of its own")
    for problem in problems:
        click.echo(f"Warning: {visible(problem)}. The packed file was set aside.", err=True)
    return 1 if problems else 0
