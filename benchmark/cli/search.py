"""What stands behind the command tune: equal search for every method. Importing this imports torch."""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click

from benchmark.cli import engines
from benchmark.cli.listing import describe_search, describe_studies
from benchmark.cli.main import INTERRUPTED
from benchmark.cli.options import Request
from benchmark.cli.progress import ProgressDisplay
from benchmark.cli.sweep import SUITE, Sweep, warn
from benchmark.core.errors import UsageError
from benchmark.planning.plan import REFERENCE_METHOD
from benchmark.planning.suite import Suite
from benchmark.records.freshness import Freshness
from benchmark.tuning.files import TUNED, write_trials, write_tuned
from benchmark.tuning.study import Study, search, studies


def tune_suite(request: Request, trials: int, dry_run: bool) -> int:
    """Search configs for the methods of a suite and write what was found; the exit code."""
    sweep = Sweep.of(request)
    sweep = dataclasses.replace(sweep, suite=_tunable(sweep.suite, request))
    arms = sweep.suite.arms if request.arms else ()
    found, _ = studies(sweep.suite, trials, arms)  # every name and value is checked before anything is fetched
    if dry_run:
        click.echo(describe_studies(found, request.data_dir, sweep.jobs))
        return 0
    found, skips = studies(sweep.suite, trials, arms, sweep.prepare_data())
    for skip in skips:
        sweep.say(f"skip    {skip.dataset}/{skip.method}: {skip.reason}")

    def finished(study: Study) -> None:
        write_trials(sweep.out, study)
        write_tuned(sweep.out, study)

    planned = sum(trials * len(study.default_runs) for study in found)
    with (
        engines.opened(request, sweep.jobs) as engine,
        ProgressDisplay(sweep.console, planned, sweep.jobs) as display,
    ):
        complete = search(
            found,
            sweep.execution(engine=engine),
            display,
            warn=warn,
            stale=Freshness(request.data_dir).is_stale,
            finished=finished,
        )
    click.echo(describe_search(found))
    return _conclude(sweep, found, complete)


def _conclude(sweep: Sweep, found: list[Study], complete: bool) -> int:
    """Say how it ended and what to type next."""
    if not complete and sweep.request.mode == "only-read":
        click.echo("Records are missing, and --mode only-read makes none.", err=True)
        return 1
    if not complete:
        click.echo("Interrupted. Start the same command again to go on where it stopped.", err=True)
        return INTERRUPTED
    if lacking := [d for d in dict.fromkeys(study.dataset for study in found) if not _reference_tuned(sweep.out, d)]:
        click.echo(
            f"The single-task reference has not been tuned on {', '.join(lacking)}: a gain over it would be none. "
            f"The same command with --methods {REFERENCE_METHOD} adds it."
        )
    if any(study.best for study in found):
        click.echo(f"Wrote {sweep.out / TUNED}. Next:\n  {_with_tuned(sweep.request, sweep.out)}")
    return 0 if all(study.best for study in found) else 1


def _reference_tuned(out: Path, dataset: str) -> bool:
    """Whether the file of the search has the reference on a dataset."""
    path = out / TUNED
    content = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return REFERENCE_METHOD in content.get("search", {}).get(dataset, {})


def _tunable(suite: Suite, request: Request) -> Suite:
    """The suite as tuning takes it: one seed unless asked for more, and the single-task reference among the methods,
    since gains over a reference that had no trials would be no gains."""
    changes: dict[str, Any] = {}
    if not request.seeds:
        changes["seeds"] = suite.seeds[:1]
    if not request.methods:
        changes["methods"] = tuple(dict.fromkeys([REFERENCE_METHOD, *suite.methods]))
    elif not suite.methods:
        raise UsageError("--methods: variants are not tuned; they take the values of their method. Name the method.")
    return suite.model_copy(update=changes)


def _with_tuned(request: Request, out: Path) -> str:
    """The command that runs the tuned suite."""
    words = ["python", "run_all.py", "--suite", request.suite_name or SUITE, "--config", str(out / TUNED)]
    for option, names in (
        ("--datasets", request.datasets),
        ("--methods", request.methods),
        ("--new-task", request.new_tasks),
    ):
        words += [option, ",".join(names)] if names else []
    for option, values in (
        ("--set", request.settings),
        ("--method-file", request.method_files),
        ("--dataset-file", request.dataset_files),
    ):
        words += [word for value in values for word in (option, str(value))]
    return shlex.join([*words, "--out", f"{out}-tuned"])
