"""Commands that read a result tree: status, show, tables, verify."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from benchmark import report
from benchmark.cli import terminal
from benchmark.cli.listing import titles
from benchmark.cli.options import (
    common,
    data_option,
    device_again_option,
    figures_option,
    load_plugins,
    plugin_files,
    result_tree,
)
from benchmark.cli.progress import working
from benchmark.cli.trees import describe_record, find_record, report_options, status_of
from benchmark.core import numerics
from benchmark.core.errors import UsageError, visible
from benchmark.records.agreement import seeds_of
from benchmark.records.claims import read_claims
from benchmark.records.record import Record
from benchmark.records.tree import read_records
from benchmark.report import frame
from datasets_registry import DATASETS
from methods import METHODS

SHOWN = 20
"""So many runs that are left, failed or damaged are named."""


@click.command()
@common
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@data_option
@plugin_files
def status(
    suite_name: str | None, out: Path | None, as_json: bool, data_dir: Path | None, **files: tuple[Path, ...]
) -> None:
    """What a result tree holds, what failed and what is left.

    Runs by status, failures with their reasons, stale and damaged records.
    """
    tree = result_tree(suite_name, out)
    load_plugins(**files)
    found = status_of(tree, data_dir)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    plan = found["plan"]
    click.echo(f"{tree}: {found['total']} runs")
    if plan is not None:
        done, left = plan["runs"] - len(plan["left"]), len(plan["left"])
        click.echo(
            f"The last command (suite {plan['suite']}) planned {plan['runs']}: {done} have numbers, {left} are left."
        )
    for name, count in found["by_status"].items():
        click.echo(f"  {name:<12}{count:>6}")
    fit = terminal.width()
    for title, lines in (("Not ok", found["failures"]), ("Damaged", found["damaged"])):
        if lines:
            click.echo(f"{title}:")
            _some(lines, fit)
    if plan is not None and plan["left"]:
        click.echo("Left; the command that planned them goes on with them:")
        _some(plan["left"], fit)
    if found["certified"]:
        count = len(found["certified"])
        click.echo(f"Certified: {count} runs of other code; a sample came out bit for bit by the present code.")
    for problem in found["refused_certificates"]:
        click.echo(terminal.paragraph(f"Refused: {problem}", fit, "    "))
    if found["stale"]:
        click.echo(f"Stale: {len(found['stale'])} runs; --mode rerun-stale runs them again.")
        for reason, runs in found["stale_by_reason"].items():
            click.echo(terminal.paragraph(f"  {', '.join(runs[:3])}{', …' if runs[3:] else ''}: {reason}", fit, "    "))


def _some(lines: Sequence[str], fit: int | None) -> None:
    for line in lines[:SHOWN]:
        click.echo(terminal.paragraph(f"  {line}", fit, "    "))
    if len(lines) > SHOWN:
        click.echo(f"  and {len(lines) - SHOWN} more (--json lists all)")


@click.command()
@click.argument("run_id")
@common
@click.option("--json", "as_json", is_flag=True, help="The record as it is.")
def show(run_id: str, suite_name: str | None, out: Path | None, as_json: bool) -> None:
    """One run's record, readable.

    RUN_ID may be its first digits.
    """
    record = find_record(result_tree(suite_name, out), run_id)
    click.echo(json.dumps(record.model_dump(mode="json"), indent=1) if as_json else describe_record(record))


@click.command()
@common
@click.option("--check", is_flag=True, help="Fail if the tables on disk differ from what the records say.")
@click.option(
    "--claims",
    type=click.Path(path_type=Path),
    help="A TOML file with [[claim]] tables to judge instead of the suite's (docs/tables.md).",
)
@click.option(
    "--compare-to",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Another result tree whose records join yours; the tables go to <out>/comparison.",
)
@click.option(
    "--export",
    "export_to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the records themselves, one row per run and task, to FILE.csv or FILE.parquet.",
)
@figures_option
@data_option
@plugin_files
def tables(
    suite_name: str | None,
    out: Path | None,
    check: bool,
    claims: Path | None,
    compare_to: Path | None,
    export_to: Path | None,
    figures: bool,
    data_dir: Path | None,
    **files: tuple[Path, ...],
) -> int:
    """Rebuild all tables and figures from the records alone."""
    tree = result_tree(suite_name, out)
    load_plugins(**files)
    with working(Console(stderr=True), "reading records"):
        options = report_options(tree, data_dir)
    if claims is not None:
        options["claims"] = [claim.model_dump() for claim in read_claims(claims)]
    if export_to is not None:
        click.echo(frame.export(export_to, frame.rows(read_records(tree)[0], options["stale"])))
        return 0
    if compare_to is not None:
        compared = report.compare(tree, [compare_to], titles(), **options)
        for problem in compared.problems:
            click.echo(visible(f"Warning: {problem}"), err=True)
        written = compared.write(tree / "comparison", figures)
        for text in terminal.main_tables(compared.tables, tree / "comparison" / "tables", False):
            click.echo(text)
        click.echo(f"Wrote {len(written)} files under {tree / 'comparison'}.")
        return 0
    if check:
        different = report.check(tree, titles(), **options)
        for line in different:
            click.echo(visible(line), err=True)
        if not all(line.endswith(report.LEFT_OVER) for line in different):
            click.echo(f"'python run_all.py tables --out {tree}' builds them anew.", err=True)
        if any(line.endswith(report.LEFT_OVER) for line in different):
            click.echo("Files with no records behind them stay until you remove them.", err=True)
        return 1 if different else 0
    with working(Console(stderr=True), "tables and figures"):
        written = report.report(tree, titles(), **options).write(tree, figures)
    for path in written:
        click.echo(path)
    return 0


@click.command()
@click.argument("run_id")
@common
@device_again_option
@data_option
@plugin_files
def verify(
    run_id: str,
    suite_name: str | None,
    out: Path | None,
    device: str | None,
    data_dir: Path | None,
    **files: tuple[Path, ...],
) -> int:
    """Run a recorded run again and compare.

    The verdict: equal, within tolerance or different. It runs in the numeric mode and on the kind of device of the
    record. Equal bits are promised where kind of machine, code, data and packages agree; elsewhere scores may differ by
    .002 or by what the run's seeds differ by.
    """
    tree = result_tree(suite_name, out)
    record = find_record(tree, run_id)
    if record.provenance is not None:
        numerics.set_environment(record.provenance.numerics)
    load_plugins(**files)
    _check_known(record)
    from benchmark.cli.sweep import device_again, plugin_paths  # these import torch
    from benchmark.execution.executor import Options
    from benchmark.execution.verify import verify as run_again

    options = Options(out=Path(), device=device_again(record, device), data_dir=data_dir, **plugin_paths(**files))
    verdict = run_again(record, options, seeds_of(record, read_records(tree)[0]))
    click.echo(f"{record.run_id}: {verdict.state}")
    for line in verdict.lines:
        click.echo(visible(f"  {line}"))
    return 1 if verdict.state == "different" else 0


def _check_known(record: Record) -> None:
    """Raises UsageError where the record is of a method or dataset from a file that this command was not told of."""
    dataset = record.key.dataset.partition("@")[0]
    for kind, name, known in (("method", record.key.method, METHODS), ("dataset", dataset, DATASETS)):
        if name not in known:
            made = f" It was made by: {record.provenance.command}" if record.provenance else ""
            raise UsageError(
                f"The run is of the {kind} '{name}' of somebody's own: name its file, --{kind}-file FILE.{made}"
            )
