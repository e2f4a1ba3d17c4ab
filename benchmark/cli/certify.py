"""The command certify: shows that a change of code changed no result, so that records stay current."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmark.cli.options import Names, _methods, common, data_option, load_plugins, plugin_files, result_tree
from benchmark.core import numerics
from benchmark.core.errors import visible
from benchmark.records import certificates
from benchmark.records.tree import read_records

if TYPE_CHECKING:
    from benchmark.execution.certify import Certification, Sample

INTERRUPTED = 130


@click.command()
@common
@click.option("--methods", type=Names(_methods), default=(), help="Comma-separated; only records of these.")
@click.option("--per-stratum", type=click.IntRange(1), default=1, show_default=True, help="Runs drawn from a stratum.")
@click.option("--each-seed", is_flag=True, help="Make each seed a stratum of its own.")
@click.option("--jobs", type=click.IntRange(1), help="Runs at once. Default: one per core.")
@click.option("--dry-run", is_flag=True, help="Say what would be run again and how long it takes.")
@data_option
@plugin_files
def certify(
    suite_name: str | None,
    out: Path | None,
    methods: tuple[str, ...],
    per_stratum: int,
    each_seed: bool,
    jobs: int | None,
    dry_run: bool,
    data_dir: Path | None,
    **files: tuple[Path, ...],
) -> int:
    """Show that a change of code changed no result.

    Of the records that are stale by code alone, a sample is run again: drawn by a hash from each dataset, method and
    arm. If every weight and score comes out bit for bit, a certificate is written beside the tree, and the records
    count as current. If one differs, nothing is certified. Killed, the same command goes on where it was.
    """
    tree = result_tree(suite_name, out)
    numerics.set_environment("portable")
    load_plugins(**files)
    from benchmark.cli.progress import ProgressDisplay  # these import torch
    from benchmark.cli.sweep import plugin_paths, warn
    from benchmark.cli.trees import freshness
    from benchmark.execution import certify as execution
    from benchmark.execution.executor import Options

    records = read_records(tree)[0]
    current = freshness(tree, records, data_dir)
    meant = [record for record in records if not methods or record.key.method in methods]
    samples = execution.samples(meant, current, per_stratum, each_seed)
    possible = [sample for sample in samples if sample.runs]
    runs, seconds = execution.estimate(possible, records)
    jobs = jobs or len(os.sched_getaffinity(0))
    _say_samples(samples, runs, seconds, jobs)
    if dry_run or not possible:
        return 0
    options = Options(out=tree, jobs=jobs, device="cpu", data_dir=data_dir, **plugin_paths(**files))
    with ProgressDisplay(Console(), runs, jobs) as display:
        outcome = execution.certify(possible, options, display, warn)
    return _conclude(tree, outcome)


def _say_samples(samples: Sequence[Sample], runs: int, seconds: float, jobs: int) -> None:
    if not samples:
        click.echo("No record is stale by code alone: there is nothing to certify.")
        return
    drawn = sum(len(sample.runs) for sample in samples)
    click.echo(
        f"{len(samples)} strata are stale by code alone. Drawn: {drawn} runs, {runs} with those that they continue; "
        f"about {seconds / jobs / 60:.0f} min with {jobs} at once."
    )
    for sample in samples:
        if not sample.runs:
            click.echo(visible(f"  left stale: {sample.stratum.title}: {sample.reason}"))


def _conclude(tree: Path, outcome: Certification) -> int:
    """Write what was shown and say it; the exit code."""
    if outcome.interrupted:
        click.echo("Interrupted. Start the same command again to go on where it stopped.", err=True)
        return INTERRUPTED
    for stratum, lines in outcome.departed.items():
        click.echo(visible(f"Not equal: {stratum.title}"), err=True)
        for line in lines[:3]:
            click.echo(visible(f"  {line}"), err=True)
    if outcome.departed:
        click.echo(
            f"{len(outcome.departed)} strata did not come out bit for bit: nothing is certified. The change of code "
            f"changed results; '--mode rerun-stale' with the suite's command runs them again.",
            err=True,
        )
        return 1
    path = certificates.add(tree, outcome.certificates)
    click.echo(f"{len(outcome.certificates)} strata came out bit for bit. Wrote {visible(str(path))}.")
    return 0
