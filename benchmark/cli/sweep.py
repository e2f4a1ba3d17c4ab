"""What stands behind the commands run and tune: from a request to a checked suite, its data, its runs and its tables.

Importing this imports torch; the commands do so after they have started the server that runs are forked from, which
then loads torch at the same time.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypedDict

import click
import torch
from rich.console import Console

from benchmark import report
from benchmark.cli import engines, terminal
from benchmark.cli.listing import describe_plan, plan_rows, skip_lines, titles
from benchmark.cli.options import Request, load_plugins
from benchmark.cli.page import write_page
from benchmark.cli.progress import ProgressDisplay, duration, prepare_with_progress, working
from benchmark.cli.trees import check_track, freshness, other_suite, remember_plan, remember_suite, report_options
from benchmark.core.errors import DataUnavailable, UsageError
from benchmark.execution.apart import apart
from benchmark.execution.executor import Options, Summary, execute_plan, open_tree
from benchmark.execution.places import devices, runs_per_gpu
from benchmark.planning.estimate import at_hand, total_seconds
from benchmark.planning.plan import Plan, make_plan
from benchmark.planning.suite import Suite, apply_settings, load_suite, parse_seeds, with_config_file
from benchmark.planning.tracks import to_search, untuned
from benchmark.records.record import Record
from benchmark.records.tree import read_records
from benchmark.training.backend import visible_gpus
from benchmark.tuning.equal import SEARCH, cost, cost_in_fact, describe
from datasets_registry import availability
from datasets_registry.encoding.store import EncodedDataset
from methods import METHODS

LONG_SECONDS = 600.0
"""A sweep that takes longer says so before it begins."""
MANY_RUNS, PATIENCE_SECONDS = 20, 30.0
"""It is found out for so many runs or more, in so many seconds or not at all."""
SUITE = "paper"
"""What is run when no suite is named."""


@dataclass(frozen=True)
class Sweep:
    """A request that was checked: its suite as narrowed, and how it will be carried out."""

    request: Request
    suite: Suite
    device: str
    jobs: int
    out: Path
    console: Console

    @classmethod
    def of(cls, request: Request) -> Sweep:
        """Raises UsageError for whatever is wrong with names, values or the device."""
        engines.check(request)
        methods, datasets = load_plugins(request.method_files, request.dataset_files)
        suite = narrowed(request, methods, datasets)
        # Workers of a cluster that is there say themselves what devices they have.
        device = request.device if request.scheduler else checked_device(request.device)
        per_gpu = request.jobs_per_gpu or (1 if request.engine == "dask" else None)  # a worker's threads say it there
        jobs = request.jobs or default_jobs(suite, device, per_gpu)
        if request.workers:
            jobs = -(-jobs // request.workers) * request.workers  # each of them takes as many, and at least one
        return cls(request, suite, device, jobs, request.out or Path("results") / suite.name, Console())

    @property
    def jobs_known(self) -> bool:
        """Whether ``jobs`` says how many runs there are at once: a cluster that is there decides that itself."""
        return not self.request.scheduler or bool(self.request.jobs)

    def prepare_data(self) -> dict[str, str]:
        """Fetch and encode what the suite needs; datasets that cannot be had, with the reason."""
        unavailable = {}
        for name in self.suite.datasets if self.request.mode != "only-read" else ():
            try:
                prepare_with_progress(name, self.request.data_dir, self.console)
            except DataUnavailable as error:
                unavailable[name] = str(error)
        return unavailable

    def look(self, dataset: str) -> EncodedDataset | None:
        """A dataset's arrays, where they are at hand."""
        return at_hand(dataset, self.request.data_dir)

    def execution(self, **options: Any) -> Options:
        """The options of the executor; ``options`` are further ones, or replace these."""
        request = self.request
        values: dict[str, Any] = {
            "out": self.out,
            "mode": request.mode,
            "jobs": self.jobs,
            "device": self.device,
            "data_dir": request.data_dir,
            "command": shlex.join(["python", "run_all.py", *sys.argv[1:]]),
            **plugin_paths(request.method_files, request.dataset_files),
        }
        return Options(**values | options)

    def say(self, text: str) -> None:
        """Plain text: never cut, never markup; a line is wrapped between words where a terminal is too narrow."""
        if "\n" not in text:
            text = terminal.paragraph(text, terminal.width())
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def run_suite(
    request: Request,
    config_file: Path | None,
    fail_fast: bool,
    debug: bool,
    search: Callable[[Sweep], Sweep | int],
) -> int:
    """Run a suite and write its tables; the exit code. ``search`` makes the search that comes before the runs of the
    track "equal", and gives the sweep with what it found or an exit code."""
    if debug and request.engine != "local":
        raise UsageError("--debug runs in this process; leave --engine out.")
    sweep = _with_config(Sweep.of(request), config_file)
    check_track(sweep.out, sweep.suite)
    if to_search(sweep.suite):
        make_plan(untuned(sweep.suite))
        searched = search(sweep)
        if isinstance(searched, int):
            return searched
        sweep = searched
    make_plan(sweep.suite)  # every name and value is checked before anything is fetched
    plan = make_plan(sweep.suite, sweep.prepare_data(), sweep.look)
    jobs = 1 if debug else sweep.jobs
    sweep.say(
        f"Suite {plan.suite.name}: {len(plan.runs)} runs ({sum(run.reference for run in plan.runs)} of them "
        f"references), {len(plan.skips)} skips, "
        f"{jobs if sweep.jobs_known else 'as many as the cluster takes'} at once. Results: {sweep.out}"
    )
    for line in skip_lines(plan.skips):
        sweep.say(line)
    if mixed := other_suite(sweep.out, sweep.suite):
        warn(mixed)
    if request.mode != "only-read":
        open_tree(sweep.out, warn)
        _say_what_it_takes(sweep, plan)
        remember_plan(sweep.out, plan)
    with (
        engines.opened(request, jobs) as engine,
        ProgressDisplay(sweep.console, len(plan.runs), jobs) as display,
    ):
        summary = execute_plan(
            plan,
            sweep.execution(jobs=jobs, fail_fast=fail_fast, debug=debug, engine=engine),
            display,
            warn=warn,
            stale=freshness(sweep.out, data_dir=request.data_dir).is_stale,
        )
    if summary.records and not (summary.interrupted or summary.preempted):
        remember_suite(sweep.out, sweep.suite, plan.skips)
        _write_tables(sweep)
        if sweep.suite.track == "equal":
            sweep.say(cost_in_fact(read_records(sweep.out / SEARCH)[0], summary.records))
    return _conclude(sweep, plan, summary)


def _say_what_it_takes(sweep: Sweep, plan: Plan) -> None:
    """Before a sweep of more than `LONG_SECONDS` begins: how long it will take, and how to ask for less."""
    left = tuple(run for run in plan.runs if not (run.directory(sweep.out) / "record.json").exists())
    if len(left) < MANY_RUNS or not sweep.jobs_known:
        return
    request = sweep.request
    with sweep.console.status(f"estimating the time of {len(left)} runs"):
        found = apart(
            total_seconds, (left, request.data_dir), PATIENCE_SECONDS,
            **plugin_paths(request.method_files, request.dataset_files),
        )  # fmt: skip
    if found is not None and (seconds := found / sweep.jobs) > LONG_SECONDS:
        sweep.say(
            f"About {duration(seconds)} for {len(left)} runs, if none stops early. --dry-run shows them; --datasets, "
            "--methods, --arms and --seeds narrow them; --suite quick is done in minutes. Ctrl-C stops, and the same "
            "command goes on."
        )


def _conclude(sweep: Sweep, plan: Plan, summary: Summary) -> int:
    """Say how it ended and what to type next."""
    bad = summary.count("failed", "oom", "timeout", "skipped", "interrupted")
    sweep.say(
        f"{summary.count('ok')} of {len(plan.runs)} runs have numbers ({summary.kept} were there already), "
        f"{bad} failed, {len(plan.skips)} cells skipped."
    )
    hint = ""
    if summary.interrupted:
        hint = (
            "Interrupted. Start the same command again to go on where it stopped; "
            f"'python run_all.py tables --out {sweep.out}' makes tables of what is there, 'status' says what is left."
        )
    elif bad:
        hint = (
            f"'python run_all.py status --out {sweep.out}' shows what failed; "
            "--mode retry-failed with the same command tries again."
        )
    if hint:
        click.echo(terminal.paragraph(hint, terminal.width()), err=True)
    return summary.exit_code


def dry_run(request: Request, config_file: Path | None, as_json: bool) -> int:
    """Show the plan without fetching or running anything; the exit code."""
    sweep = _with_config(Sweep.of(request), config_file)
    states = {name: availability(name, request.data_dir) for name in sweep.suite.datasets}
    closed = {name: text for name, (state, text) in states.items() if state == "login"}
    suite = sweep.suite
    searching = to_search(suite)
    plan = make_plan(untuned(suite) if searching else suite, closed, sweep.look)
    texts = {name: text for name, (_, text) in states.items()}
    content = describe_plan(plan, texts, request.data_dir, sweep.jobs)
    if as_json:
        searches = {"searches": describe(suite)} if searching else {}
        click.echo(json.dumps(content | searches, indent=1))
        return 0
    fit = terminal.width()
    if searching:
        click.echo(terminal.listing(describe(suite), fit))
        click.echo(terminal.paragraph(f"First this search. {cost(suite, plan.runs)} Then, with what it finds:", fit))
    click.echo(terminal.listing(plan_rows(content["runs"]), fit))
    lines = [f"data    {dataset}: {text}" for dataset, text in texts.items()]
    for line in [*lines, *skip_lines(plan.skips), content["total"], "--json lists every run."]:
        click.echo(terminal.paragraph(line, fit))
    return 0


def narrowed(request: Request, methods: list[str], datasets: list[str]) -> Suite:
    """The suite with the command line's changes. Raises UsageError for unknown names.

    ``methods`` and ``datasets`` are those of files named there, which take part without being named a second time.
    """
    suite = load_suite(request.suite_name or SUITE)
    changes: dict[str, Any] = {
        name: value for name in ("datasets", "methods", "arms", "new_tasks") if (value := getattr(request, name))
    }
    if request.methods:
        changes["variants"] = {name: value for name, value in suite.variants.items() if name in request.methods}
        changes["methods"] = tuple(name for name in request.methods if name not in suite.variants)
    elif methods:
        changes["methods"] = tuple(dict.fromkeys([*suite.methods, *methods]))
    if "all" in changes.get("methods", suite.methods):
        changes["methods"] = tuple(METHODS)
    if datasets and not request.datasets:
        changes["datasets"] = tuple(datasets)
    if request.seeds:
        changes["seeds"] = parse_seeds(request.seeds)
    suite = suite.model_copy(update=changes)
    return apply_settings(suite, request.settings, _config_classes(suite))


def _config_classes(suite: Suite) -> Mapping[str, type]:
    """The Config of every method that takes part: of the suite's, its variants', and the reference."""
    named = {variant.get("method") for variant in suite.variants.values()}
    names = {*suite.methods, "single_task", *(name for name in named if isinstance(name, str))}
    return {name: METHODS.get(name).Config for name in names}


def _with_config(sweep: Sweep, config_file: Path | None) -> Sweep:
    """The sweep with the values of the file that the command line or else the suite names."""
    file = config_file or sweep.suite.config_file
    if file is None:
        return sweep
    suite = with_config_file(sweep.suite, Path(file))
    return Sweep(sweep.request, suite, sweep.device, sweep.jobs, sweep.out, sweep.console)


DEVICES = ("auto", "cpu", "cuda")


def checked_device(device: str) -> str:
    """The devices that are meant, comma-separated: ``auto`` and ``cuda`` are every GPU (``auto`` the CPU where there is
    none). Raises UsageError for a device that is not there."""
    for part in device.split(","):
        kind = part.strip().partition(":")[0]
        if kind not in DEVICES:
            near = ["cuda"] if kind.lower() == "gpu" else get_close_matches(kind.lower(), DEVICES, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"Unknown device '{part.strip()}'.{hint} There are auto, cpu, cuda (every GPU) and cuda:N."
            )
    try:
        return ",".join(devices(device, visible_gpus()))
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def device_again(record: Record, asked: str | None) -> str:
    """The device to run a record again on: the one asked for, else the record's kind. A GPU's rounding makes another
    run of what a CPU has computed."""
    made_on_cpu = record.provenance is not None and record.provenance.device == "cpu"
    return checked_device(asked or ("cpu" if made_on_cpu else "auto"))


def default_jobs(suite: Suite, device: str, jobs_per_gpu: int | None = None) -> int:
    """On the CPU one run per core that we may use, which has more throughput than several threads a run; so many on
    each GPU, or as many as cores and its memory allow."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_once = max(1, cores // suite.threads)  # a batch system may give us a few of the machine's cores
    if not device.startswith("cuda"):
        return at_once
    gpus = device.split(",")
    return len(gpus) * (jobs_per_gpu or runs_per_gpu(at_once, [gpu_bytes(gpu) for gpu in gpus]))


def gpu_bytes(device: str) -> int:
    """Memory of a GPU that is there."""
    return torch.cuda.get_device_properties(device).total_memory


class PluginPaths(TypedDict):
    """The user's files, as keyword arguments of what starts processes that need them."""

    method_files: tuple[Path, ...]
    dataset_files: tuple[Path, ...]


def plugin_paths(method_files: tuple[Path, ...], dataset_files: tuple[Path, ...]) -> PluginPaths:
    """The user's files as a child process finds them, whatever its directory."""
    return {
        "method_files": tuple(file.resolve() for file in method_files),
        "dataset_files": tuple(file.resolve() for file in dataset_files),
    }


def warn(text: str) -> None:
    """A warning of the executor. Not by click, which writes past the live display that is there by then."""
    print(f"Warning: {text}", file=sys.stderr)


def _write_tables(sweep: Sweep) -> None:
    with working(sweep.console, "tables, figures and report"):
        options = report_options(sweep.out, sweep.request.data_dir)
        made = report.report(sweep.out, titles(), **options)
        written = made.write(sweep.out, sweep.request.figures)
        page = write_page(sweep.out, made, options["stale"])
    if stale := len(options["stale"]):
        sweep.say(
            f"{stale} run{'s are' if stale > 1 else ' is'} stale and marked so below: made by code or data that has "
            "changed since. --mode rerun-stale runs them again."
        )
    for text in terminal.main_tables(made.tables, sweep.out / "tables", sweep.console.is_terminal):
        sweep.say(text)
    drawn = f"and {sweep.out}/figures" if sweep.request.figures else "('tables' draws the figures)"
    sweep.say(f"Wrote {len(written)} files under {sweep.out}/tables {drawn}.")
    sweep.say(f"Report: {page} ('python run_all.py report --open --out {sweep.out}' shows it in the browser).")
