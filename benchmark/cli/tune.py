"""The command tune: equal search for every method."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.main import INTERRUPTED
from benchmark.cli.options import checked_device, common, data_option, load_plugins, plugin_files, selection
from benchmark.cli.run import default_jobs, execution_options, narrowed, prepare_data
from benchmark.core.errors import UsageError

if TYPE_CHECKING:
    from benchmark.planning.suite import Suite


@click.command()
@common
@selection
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Configs tried per method.")
@click.option("--dry-run", is_flag=True, help="Show what would be searched and how many runs that takes.")
@data_option
@plugin_files
def tune(suite_name: str | None, out: Path | None, **options: Any) -> int:
    """Search good configs: the same number of trials for every method, on validation rows only.

    Writes <out>/tuned.toml, which a suite can name. A trial trains on all tasks together (--arms: in other ways) with
    one seed (--seeds: the mean of several). What was tried is kept, so the same command goes on after an interruption.
    """
    from benchmark.execution import processes

    if not (options["dry_run"] or options["mode"] == "only-read"):
        processes.context()
    from rich.console import Console

    from benchmark.cli.listing import describe_search, describe_studies
    from benchmark.cli.progress import ProgressDisplay
    from benchmark.records.freshness import Freshness
    from benchmark.tuning.files import write_trials, write_tuned
    from benchmark.tuning.study import Study, search, studies

    console = Console(stderr=False, soft_wrap=False)
    methods = load_plugins("method", options["method_files"])
    datasets = load_plugins("dataset", options["dataset_files"])
    suite = _tunable(narrowed(suite_name or "paper", options, methods, datasets), options)
    arms = suite.arms if options["arms"] else ()
    found, _ = studies(suite, options["trials"], arms)  # every name and value is checked before anything is fetched
    device = checked_device(options["device"])
    jobs = options["jobs"] or default_jobs(suite, device)
    if options["dry_run"]:
        click.echo(describe_studies(found, options["data_dir"], jobs))
        return 0
    out = out or Path("results") / suite.name
    unavailable = {} if options["mode"] == "only-read" else prepare_data(suite, options["data_dir"], console)
    found, skips = studies(suite, options["trials"], arms, unavailable)
    for skip in skips:
        console.print(f"skip    {skip.dataset}/{skip.method}: {skip.reason}", highlight=False, markup=False)

    def finished(study: Study) -> None:
        write_trials(out, study)
        write_tuned(out, study)

    planned = sum(options["trials"] * len(study.default_runs) for study in found)
    with ProgressDisplay(console, planned, jobs) as display:
        complete = search(
            found,
            execution_options(out, jobs, device, options),
            display,
            warn=lambda text: click.echo(f"Warning: {text}", err=True),
            stale=Freshness(options["data_dir"]).is_stale,
            finished=finished,
        )
    click.echo(describe_search(found))
    if not complete and options["mode"] == "only-read":
        click.echo("Records are missing, and --mode only-read makes none.", err=True)
        return 1
    if not complete:
        click.echo("Interrupted. Start the same command again to go on where it stopped.", err=True)
        return INTERRUPTED
    if any(study.best for study in found):
        click.echo(f"Wrote {out / 'tuned.toml'}. Next:\n  {_with_tuned(suite_name, out, options)}")
    return 0 if all(study.best for study in found) else 1


def _tunable(suite: Suite, options: dict[str, Any]) -> Suite:
    """The suite as tuning takes it: one seed unless asked for more, and the single-task reference among the methods,
    since gains over a reference that had no trials would be no gains."""
    from benchmark.planning.plan import REFERENCE_METHOD

    changes: dict[str, Any] = {}
    if not options["seeds"]:
        changes["seeds"] = suite.seeds[:1]
    if not options["methods"]:
        changes["methods"] = tuple(dict.fromkeys([REFERENCE_METHOD, *suite.methods]))
    elif not suite.methods:
        raise UsageError("--methods: variants are not tuned; they take the values of their method. Name the method.")
    return suite.model_copy(update=changes)


def _with_tuned(suite_name: str | None, out: Path, options: dict[str, Any]) -> str:
    """The command that runs the tuned suite."""
    words = ["python", "run_all.py", "--suite", suite_name or "paper", "--config", str(out / "tuned.toml")]
    for name in ("datasets", "methods", "new_tasks"):
        if options[name]:
            words += [f"--{name.replace('new_tasks', 'new-task')}", options[name]]
    for name, option in (("settings", "--set"), ("method_files", "--method-file"), ("dataset_files", "--dataset-file")):
        words += [word for value in options[name] for word in (option, str(value))]
    return shlex.join([*words, "--out", f"{out}-tuned"])
