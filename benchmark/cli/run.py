"""The command run: a suite from plan to tables."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import checked_device, common, data_option, load_plugins, plugin_files, selection

if TYPE_CHECKING:
    from benchmark.execution.executor import Options as ExecutorOptions
    from benchmark.planning.plan import Plan
    from benchmark.planning.suite import Suite


@click.command()
@common
@selection
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="A file that 'tune' has written.")
@click.option("--dry-run", is_flag=True, help="Show what would be run, references and skips; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: for machines.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first run that fails.")
@click.option("--debug", is_flag=True, help="Run in this process, one by one, and open the debugger at an error.")
@data_option
@plugin_files
def run(suite_name: str | None, out: Path | None, **options: Any) -> int:
    """Run a suite (default: paper), then build and print its tables.

    What is there already is kept, so the same command goes on after an interruption.
    """
    from benchmark.execution import processes

    if not (options["dry_run"] or options["debug"] or options["mode"] == "only-read"):
        processes.context()
    from rich.console import Console

    from benchmark.cli.progress import ProgressDisplay
    from benchmark.cli.trees import remember_suite
    from benchmark.execution.executor import execute_plan
    from benchmark.planning.plan import make_plan
    from benchmark.planning.suite import with_config_file
    from benchmark.records.freshness import Freshness

    console = Console(stderr=False, soft_wrap=False)
    methods = load_plugins("method", options["method_files"])
    datasets = load_plugins("dataset", options["dataset_files"])
    suite = narrowed(suite_name or "paper", options, methods, datasets)
    if config_file := options["config_file"] or suite.config_file:
        suite = with_config_file(suite, Path(config_file))
    if options["dry_run"]:
        return _dry_run(suite, options)
    device = checked_device(options["device"])
    jobs = options["jobs"] or default_jobs(suite, device)
    make_plan(suite)  # every name and value is checked before anything is fetched
    out = out or Path("results") / suite.name
    unavailable = {} if options["mode"] == "only-read" else prepare_data(suite, options["data_dir"], console)
    plan = make_plan(suite, unavailable)
    console.print(
        f"Suite [b]{suite.name}[/b]: {len(plan.runs)} runs ({sum(r.reference for r in plan.runs)} of them references), "
        f"{len(plan.skips)} skips, {jobs} at once. Results: {out}",
        highlight=False,
        soft_wrap=True,
    )
    for skip in _unique_skips(plan):
        console.print(f"skip    {skip}", highlight=False, markup=False, soft_wrap=True)
    execution = execution_options(out, 1 if options["debug"] else jobs, device, options)
    execution.fail_fast, execution.debug = options["fail_fast"], options["debug"]
    with ProgressDisplay(console, len(plan.runs), jobs) as display:
        summary = execute_plan(
            plan,
            execution,
            display,
            warn=lambda text: click.echo(f"Warning: {text}", err=True),
            stale=Freshness(options["data_dir"]).is_stale,
        )
    if summary.records:
        remember_suite(out, suite)
        write_tables(out, options["data_dir"], console)
    bad = summary.count("failed", "oom", "timeout", "skipped", "interrupted")
    console.print(
        f"{summary.count('ok')} of {len(plan.runs)} runs have numbers ({summary.kept} were there already), "
        f"{bad} failed, "
        f"{len(plan.skips)} cells skipped.",
        highlight=False,
    )
    if summary.interrupted:
        click.echo("Interrupted. Start the same command again to go on where it stopped.", err=True)
    elif bad:
        click.echo(
            f"'python run_all.py status --out {out}' shows what failed; "
            "--mode retry-failed with the same command tries again.",
            err=True,
        )
    return summary.exit_code


def narrowed(name: str, options: dict[str, Any], methods: list[str], datasets: list[str]) -> Suite:
    """The suite with the command line's changes. Raises UsageError for unknown names."""
    from benchmark.planning.suite import apply_settings, load_suite, parse_seeds
    from methods import METHODS

    suite = load_suite(name)
    changes: dict[str, Any] = {}
    for option in ("datasets", "methods", "arms", "new_tasks"):
        if options[option]:
            changes[option] = tuple(dict.fromkeys(part.strip() for part in options[option].split(",")))
    if changes.get("methods"):
        changes["variants"] = {n: v for n, v in suite.variants.items() if n in changes["methods"]}
        changes["methods"] = tuple(m for m in changes["methods"] if m not in suite.variants)
    if "all" in changes.get("methods", suite.methods):
        changes["methods"] = tuple(METHODS)
    if options["seeds"]:
        changes["seeds"] = parse_seeds(options["seeds"])
    # Files named on the command line take part without their entries being named a second time.
    if methods and not options["methods"]:
        changes["methods"] = tuple(dict.fromkeys([*suite.methods, *methods]))
    if datasets and not options["datasets"]:
        changes["datasets"] = tuple(datasets)
    suite = suite.model_copy(update=changes)
    config_classes = {method: METHODS.get(method).Config for method in {*suite.methods, "single_task"}}
    for variant in suite.variants.values():
        if isinstance(variant.get("method"), str):
            config_classes[variant["method"]] = METHODS.get(variant["method"]).Config
    return apply_settings(suite, options["settings"], config_classes)


def execution_options(out: Path, jobs: int, device: str, options: dict[str, Any]) -> ExecutorOptions:
    from benchmark.execution.executor import Options

    return Options(
        out=out,
        mode=options["mode"],
        jobs=jobs,
        device=device,
        data_dir=options["data_dir"],
        command=shlex.join(["python", "run_all.py", *sys.argv[1:]]),
        method_files=tuple(Path(file).resolve() for file in options["method_files"]),
        dataset_files=tuple(Path(file).resolve() for file in options["dataset_files"]),
    )


def prepare_data(suite: Suite, data_dir: Path | None, console: Any) -> dict[str, str]:
    """Fetch and encode what the suite needs; datasets that cannot be had, with the reason."""
    from benchmark.core.errors import DataUnavailable

    unavailable = {}
    for name in suite.datasets:
        try:
            _prepare_one(name, data_dir, console)
        except DataUnavailable as error:
            unavailable[name] = str(error)
    return unavailable


def _prepare_one(name: str, data_dir: Path | None, console: Any) -> Any:
    from datasets_registry import prepare

    with console.status(f"{name}: preparing data") as spinner:

        def report(what: str, done: int, total: int | None) -> None:
            share = f" {done / total:.0%}" if total else f" {done:,}"
            spinner.update(f"{name}: {what}{share}")

        return prepare(name, data_dir=data_dir, report=report)


def default_jobs(suite: Suite, device: str) -> int:
    """One run per core on the CPU, where that has more throughput than several threads a run; one on a GPU."""
    return 1 if device.startswith("cuda") else max(1, (os.cpu_count() or 1) // suite.threads)


def _dry_run(suite: Suite, options: dict[str, Any]) -> int:
    """Show the plan without fetching or running anything."""
    from benchmark.cli.listing import describe_plan
    from benchmark.planning.plan import make_plan
    from datasets_registry import availability

    states = {name: availability(name, options["data_dir"]) for name in suite.datasets}
    plan = make_plan(suite, {name: text for name, (state, text) in states.items() if state == "login"})
    jobs = options["jobs"] or default_jobs(suite, options["device"])
    content = describe_plan(plan, {name: text for name, (_, text) in states.items()}, options["data_dir"], jobs)
    if options["as_json"]:
        click.echo(json.dumps(content, indent=1))
        return 0
    from tabulate import tabulate

    click.echo(tabulate(content["runs"], headers="keys"))
    for dataset, text in content["data"].items():
        click.echo(f"data    {dataset}: {text}")
    for skip in _unique_skips(plan):
        click.echo(f"skip    {skip}")
    click.echo(content["total"])
    return 0


def _unique_skips(plan: Plan) -> list[str]:
    return list(dict.fromkeys(f"{skip.dataset}/{skip.method}/{skip.arm}: {skip.reason}" for skip in plan.skips))


def write_tables(out: Path, data_dir: Path | None, console: Any) -> None:
    from benchmark import report
    from benchmark.cli.listing import titles
    from benchmark.cli.trees import report_options

    made = report.report(out, titles(), **report_options(out, data_dir))
    written = made.write(out)
    text = made.terminal(console.is_terminal)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Wrote {len(written)} files under {out}/tables and {out}/figures.", highlight=False)
