"""The command merge: result trees of several machines into one."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.cli.trees import SUITE_FILE
from benchmark.core.errors import visible
from benchmark.core.files import write_atomically


@click.command()
@click.argument("trees", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The tree to merge into.")
def merge(trees: tuple[Path, ...], out: Path) -> int:
    """Join result trees of several machines into one.

    Runs with equal bits count once. Where two results of a run differ, both are kept under <out>/conflicts and none
    counts. The trees that are read stay as they are.
    """
    from benchmark.execution.merge import merge as join

    merged = join(trees, out)
    first = next((tree / SUITE_FILE for tree in trees if (tree / SUITE_FILE).is_file()), None)
    if first is not None and not (out / SUITE_FILE).exists():
        write_atomically(out / SUITE_FILE, first.read_bytes())
    for line in merged.problems:
        click.echo(f"Warning: {visible(line)}", err=True)
    for line in merged.conflicts:
        click.echo(f"conflict {visible(line)}", err=True)
    click.echo(
        f"{out}: {merged.copied} runs joined, {merged.equal} were there already, {len(merged.conflicts)} conflicts, "
        f"{len(merged.problems)} problems. 'python run_all.py tables --out {out}' builds its tables."
    )
    return 1 if merged.conflicts or merged.problems else 0
