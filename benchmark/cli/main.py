"""The command line. Commands import what they need when they run, so that listing and help answer at once."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark import __version__
from benchmark.core.errors import BenchmarkError, UsageError, unknown_name, visible

if TYPE_CHECKING:
    from benchmark.execution.executor import Options as ExecutorOptions
    from benchmark.planning.plan import Plan
    from benchmark.planning.suite import Suite

MODES = ("fill", "rerun-stale", "retry-failed", "fresh", "only-read")
INTERRUPTED = 130
CELL_WIDTH = 48
SELECTION = (
    click.option("--datasets", help="Comma-separated datasets instead of the suite's."),
    click.option("--methods", help="Comma-separated methods instead of the suite's."),
    click.option("--arms", help="Comma-separated arms instead of the suite's."),
    click.option("--seeds", help="Seeds instead of the suite's: 0-4 or 0,2,5."),
    click.option("--new-task", "new_tasks", help="Comma-separated new tasks instead of the dataset's default."),
    click.option(
        "--set", "settings", multiple=True, metavar="METHOD.KEY=VALUE", help="Change a config or budget value."
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--jobs", type=click.IntRange(1), help="Runs at once. Default: one per core on CPU, 1 on a GPU."),
    click.option(
        "--mode", type=click.Choice(MODES), default="fill", show_default=True, help="What to do about records."
    ),
)


class _RunByDefault(click.Group):
    """A group whose command ``run`` may be left out, with the nearest name for a command that does not exist."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            raise unknown_name("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


def main() -> None:
    """Entry point: errors of use end with one clear line and the right exit code, never with a traceback."""
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BenchmarkError as error:
        click.echo(f"Error: {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. Start the same command again to go on.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output (head, less) has gone: not our error
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"Error: {error.filename}: {error.strerror}. --out DIR names another result tree.", err=True)
        sys.exit(1)


@click.group(cls=_RunByDefault, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mpt-bench")
def cli() -> None:
    """MPT-Bench: what does a new task cost the old ones, what does it gain, and at what price?

    Without a command, 'run' is meant: 'run_all.py --suite quick' is 'run_all.py run --suite quick'.
    """


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options by which a command finds the result tree."""
    function = click.option("--out", type=click.Path(path_type=Path), help="Result tree. Default: results/<suite>.")(
        function
    )
    return click.option("--suite", "suite_name", help="Suite whose result tree is meant.")(function)


def _selection(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that narrow or change a suite, and say how it is run."""
    for option in reversed(SELECTION):
        function = option(function)
    return function


def _data_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="MPTBENCH_DATA",
        help="Where your own copies of raw data files are (also: MPTBENCH_DATA).",
    )(function)


def _files(function: Callable[..., Any]) -> Callable[..., Any]:
    for kind in ("method", "dataset"):
        function = click.option(
            f"--{kind}-file",
            f"{kind}_files",
            multiple=True,
            type=click.Path(path_type=Path),
            help=f"Use a {kind} from a file of yours.",
        )(function)
    return function


@cli.command()
@_common
@_selection
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="A file that 'tune' has written.")
@click.option("--dry-run", is_flag=True, help="Show what would be run, references and skips; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: for machines.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first run that fails.")
@click.option("--debug", is_flag=True, help="Run in this process, one by one, and open the debugger at an error.")
@_data_option
@_files
def run(suite_name: str | None, out: Path | None, **options: Any) -> int:
    """Run a suite (default: paper), then build and print its tables.

    What is there already is kept, so the same command goes on after an interruption.
    """
    from benchmark.execution import processes

    if not (options["dry_run"] or options["debug"] or options["mode"] == "only-read"):
        processes.context()
    from rich.console import Console

    from benchmark.cli.listing import Freshness, remember_suite
    from benchmark.cli.progress import ProgressDisplay
    from benchmark.execution.executor import execute_plan
    from benchmark.planning.plan import make_plan
    from benchmark.planning.suite import with_config_file

    console = Console(stderr=False, soft_wrap=False)
    methods = _load_files("method", options["method_files"])
    datasets = _load_files("dataset", options["dataset_files"])
    suite = _narrowed(suite_name or "paper", options, methods, datasets)
    if config_file := options["config_file"] or suite.config_file:
        suite = with_config_file(suite, Path(config_file))
    if options["dry_run"]:
        return _dry_run(suite, options)
    device = _checked_device(options["device"])
    jobs = options["jobs"] or _default_jobs(suite, device)
    make_plan(suite)  # every name and value is checked before anything is fetched
    out = out or Path("results") / suite.name
    unavailable = {} if options["mode"] == "only-read" else _prepare(suite, options["data_dir"], console)
    plan = make_plan(suite, unavailable)
    console.print(
        f"Suite [b]{suite.name}[/b]: {len(plan.runs)} runs ({sum(r.reference for r in plan.runs)} of them references), "
        f"{len(plan.skips)} skips, {jobs} at once. Results: {out}",
        highlight=False,
        soft_wrap=True,
    )
    for skip in _unique_skips(plan):
        console.print(f"skip    {skip}", highlight=False, markup=False, soft_wrap=True)
    execution = _execution(out, 1 if options["debug"] else jobs, device, options)
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
        _write_tables(out, options["data_dir"], console)
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


@cli.command()
@_common
@_selection
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Configs tried per method.")
@click.option("--dry-run", is_flag=True, help="Show what would be searched and how many runs that takes.")
@_data_option
@_files
def tune(suite_name: str | None, out: Path | None, **options: Any) -> int:
    """Search good configs: the same number of trials for every method, on validation rows only.

    Writes <out>/tuned.toml, which a suite can name. A trial trains on all tasks together (--arms: in other ways) with
    one seed (--seeds: the mean of several). What was tried is kept, so the same command goes on after an interruption.
    """
    from benchmark.execution import processes

    if not (options["dry_run"] or options["mode"] == "only-read"):
        processes.context()
    from rich.console import Console

    from benchmark.cli.listing import Freshness, describe_search, describe_studies
    from benchmark.cli.progress import ProgressDisplay
    from benchmark.tuning.files import write_trials, write_tuned
    from benchmark.tuning.study import Study, search, studies

    console = Console(stderr=False, soft_wrap=False)
    methods = _load_files("method", options["method_files"])
    datasets = _load_files("dataset", options["dataset_files"])
    suite = _tunable(_narrowed(suite_name or "paper", options, methods, datasets), options)
    arms = suite.arms if options["arms"] else ()
    found, _ = studies(suite, options["trials"], arms)  # every name and value is checked before anything is fetched
    device = _checked_device(options["device"])
    jobs = options["jobs"] or _default_jobs(suite, device)
    if options["dry_run"]:
        click.echo(describe_studies(found, options["data_dir"], jobs))
        return 0
    out = out or Path("results") / suite.name
    unavailable = {} if options["mode"] == "only-read" else _prepare(suite, options["data_dir"], console)
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
            _execution(out, jobs, device, options),
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


@cli.command("list")
@click.argument("what", type=click.Choice(["methods", "datasets", "suites"]))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@_data_option
@_files
def list_(what: str, as_json: bool, data_dir: Path | None, method_files: tuple, dataset_files: tuple) -> None:
    """List methods, datasets or suites."""
    from benchmark.cli.listing import list_datasets, list_methods, list_suites

    _load_files("method", method_files)
    _load_files("dataset", dataset_files)
    rows = {"methods": list_methods, "suites": list_suites}[what]() if what != "datasets" else list_datasets(data_dir)
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    from tabulate import tabulate

    hidden = {
        "methods": {"arms_of_the_harness", "trained_parameters", "joint_parameters"},
        "datasets": {"title", "licence"},
        "suites": set(),
    }[what]
    shown = [{key: _cell(value) for key, value in row.items() if key not in hidden} for row in rows]
    click.echo(tabulate(shown, headers="keys"))
    if what == "methods":
        click.echo(
            "trained: parameters that the frozen arm trains for a new task / those of the joint model of all tasks, "
            "on inputs like Census-Income's.\n"
            "Whoever has frozen also runs linear_probe, adapter, lora, bias_only, and whoever has finetune ewc, lwf, "
            "replay, with few exceptions (docs/arms.md)."
        )
    click.echo("--json shows everything.")


@cli.command()
@click.argument("dataset")
@_data_option
@_files
def fetch(dataset: str, data_dir: Path | None, method_files: tuple, dataset_files: tuple) -> None:
    """Get a dataset's raw files (checked and cached) and encode them."""
    from rich.console import Console

    _load_files("dataset", dataset_files)
    data = _prepare_one(dataset, data_dir, Console())
    click.echo(f"{dataset}: ready, fingerprint {data.fingerprint}.")
    for split in ("train", "valid", "test"):
        click.echo(f"  {split:<6}{len(data.split(split, data.schema(data.tasks))):>12,} rows")


@cli.command()
@click.argument("dataset")
@_data_option
@_files
def validate(dataset: str, data_dir: Path | None, method_files: tuple, dataset_files: tuple) -> int:
    """Check every row of a dataset's raw files; errors name file, line and column."""
    from datasets_registry import validate as check

    _load_files("dataset", dataset_files)
    problems = check(dataset, data_dir=data_dir)
    for line in problems:
        click.echo(line, err=True)
    click.echo(f"{dataset}: {'no problem found' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


@cli.command()
@_common
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@_data_option
@_files
def status(suite_name: str | None, out: Path | None, as_json: bool, data_dir: Path | None, **files: Any) -> None:
    """What a result tree holds: runs by status, failures with their reasons, stale records."""
    from benchmark.cli.listing import status_of

    tree = _tree(suite_name, out)
    _load_files("method", files["method_files"])
    _load_files("dataset", files["dataset_files"])
    report = status_of(tree, data_dir)
    if as_json:
        click.echo(json.dumps(report, indent=1, ensure_ascii=False))
        return
    click.echo(f"{tree}: {report['total']} runs")
    for name, count in report["by_status"].items():
        click.echo(f"  {name:<12}{count:>6}")
    for title, lines in (("Not ok", report["failures"]), ("Stale", report["stale"]), ("Damaged", report["damaged"])):
        if lines:
            click.echo(f"{title}:")
            for line in lines:
                click.echo(f"  {line}")
    if report["stale"]:
        click.echo("Their code or data has changed since; --mode rerun-stale runs them again.")


@cli.command()
@click.argument("run_id")
@_common
@click.option("--json", "as_json", is_flag=True, help="The record as it is.")
def show(run_id: str, suite_name: str | None, out: Path | None, as_json: bool) -> None:
    """One run's record, readable. RUN_ID may be its first digits."""
    from benchmark.cli.listing import describe_record, find_record

    record = find_record(_tree(suite_name, out), run_id)
    click.echo(record.model_dump_json(indent=1) if as_json else describe_record(record))


@cli.command()
@_common
@click.option("--check", is_flag=True, help="Fail if the tables on disk differ from what the records say.")
@click.option(
    "--compare-to",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Another result tree whose records join yours; the tables go to <out>/comparison.",
)
@_data_option
@_files
def tables(
    suite_name: str | None, out: Path | None, check: bool, compare_to: Path | None, data_dir: Path | None, **files: Any
) -> int:
    """Rebuild all tables and figures from the records alone."""
    from benchmark import report
    from benchmark.cli.listing import report_options, titles

    tree = _tree(suite_name, out)
    _load_files("method", files["method_files"])
    _load_files("dataset", files["dataset_files"])
    options = report_options(tree, data_dir)
    if compare_to is not None:
        compared = report.compare(tree, compare_to, titles(), **options)
        for problem in compared.problems:
            click.echo(f"Warning: {problem}", err=True)
        for path in compared.write(tree / "comparison"):
            click.echo(path)
        return 0
    if check:
        different = report.check(tree, titles(), **options)
        for line in different:
            click.echo(line, err=True)
        if different:
            click.echo(f"'python run_all.py tables --out {tree}' builds them anew.", err=True)
        return 1 if different else 0
    for path in report.build(tree, titles(), **options):
        click.echo(path)
    return 0


@cli.command()
@click.argument("run_id")
@_common
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@_data_option
@_files
def verify(
    run_id: str, suite_name: str | None, out: Path | None, device: str, data_dir: Path | None, **files: Any
) -> int:
    """Run a recorded run again and compare: equal, within tolerance or different."""
    from benchmark.cli.listing import find_record
    from benchmark.execution.executor import Options
    from benchmark.execution.verify import verify as run_again

    record = find_record(_tree(suite_name, out), run_id)
    _load_files("method", files["method_files"])
    _load_files("dataset", files["dataset_files"])
    options = Options(
        out=Path(),
        device=_checked_device(device),
        data_dir=data_dir,
        method_files=tuple(Path(file).resolve() for file in files["method_files"]),
        dataset_files=tuple(Path(file).resolve() for file in files["dataset_files"]),
    )
    verdict = run_again(record, options)
    click.echo(f"{record.run_id}: {verdict.state}")
    for line in verdict.lines:
        click.echo(f"  {line}")
    return 1 if verdict.state == "different" else 0


@cli.command("new-method")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where to write it.")
def new_method(name: str, directory: Path) -> None:
    """Write a runnable method file and its test, to be changed into yours."""
    from benchmark.kit.new_method import new_method as write

    file, test = write(name, directory)
    click.echo(f"{file}\n{test}")
    click.echo(f"Try it: python run_all.py --suite smoke --method-file {file} --methods {name}")


@cli.command("check-method")
@click.argument("target")
def check_method(target: str) -> int:
    """Run the conformance kit on a method: a name, or a file of yours."""
    from benchmark.kit.check_method import check
    from methods import METHODS

    names = METHODS.load_file(target) if target.endswith(".py") else [target]
    failed = 0
    for name in names:
        click.echo(name)
        for result in check(METHODS.get(name)):
            mark = {True: "pass", False: "FAIL", None: "n/a "}[result.passed]
            click.echo(f"  {mark}  {result.name}{': ' + result.reason if result.reason else ''}")
            if result.passed is False:
                click.echo(f"        hint: {result.hint}")
                failed += 1
    return 1 if failed else 0


@cli.command("new-dataset")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where to write it.")
def new_dataset(name: str, directory: Path) -> None:
    """Write a dataset file and its manifest, ready to be filled in."""
    from benchmark.kit.check_dataset import new_dataset as write

    for path in write(name, directory):
        click.echo(path)


@cli.command("check-dataset")
@click.argument("target")
@_data_option
def check_dataset(target: str, data_dir: Path | None) -> int:
    """Run the conformance kit on a dataset: a name, or a .py or .toml file of yours."""
    from benchmark.kit.check_dataset import check_dataset as check

    findings = check(target, data_dir=data_dir)
    for found in findings:
        mark = "pass" if found.ok else "warn" if found.warning else "FAIL"
        click.echo(f"{mark}  {found.check}{': ' + found.message if found.message else ''}")
    return 1 if any(not found.ok and not found.warning for found in findings) else 0


def _cell(value: Any) -> str:
    """One cell of a listing: a list joined, a long text cut."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= CELL_WIDTH else text[: CELL_WIDTH - 1] + "…"


def _load_files(kind: str, files: Iterable[Path]) -> list[str]:
    """Import files from outside the packages; the names they registered."""
    names: list[str] = []
    for file in files:
        if kind == "method":
            from methods import METHODS

            names += METHODS.load_file(file)
        else:
            from datasets_registry import load_file

            names += load_file(file)
    return names


def _narrowed(name: str, options: dict[str, Any], methods: list[str], datasets: list[str]) -> Suite:
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


def _execution(out: Path, jobs: int, device: str, options: dict[str, Any]) -> ExecutorOptions:
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


def _checked_device(device: str) -> str:
    """``auto`` resolved; raises UsageError for a device that is not there."""
    if device == "cpu":
        return device
    from benchmark.execution.runner import choose_device

    kind = device.partition(":")[0]
    if kind not in ("auto", "cuda"):
        raise unknown_name("device", device, ("auto", "cpu", "cuda"))
    try:
        return str(choose_device(device))
    except BenchmarkError as error:
        raise UsageError(str(error)) from error


def _prepare(suite: Suite, data_dir: Path | None, console: Any) -> dict[str, str]:
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


def _default_jobs(suite: Suite, device: str) -> int:
    """One run per core on the CPU, where that has more throughput than several threads a run; one on a GPU."""
    return 1 if device.startswith("cuda") else max(1, (os.cpu_count() or 1) // suite.threads)


def _dry_run(suite: Suite, options: dict[str, Any]) -> int:
    """Show the plan without fetching or running anything."""
    from benchmark.cli.listing import describe_plan
    from benchmark.planning.plan import make_plan
    from datasets_registry import availability

    states = {name: availability(name, options["data_dir"]) for name in suite.datasets}
    plan = make_plan(suite, {name: text for name, (state, text) in states.items() if state == "login"})
    jobs = options["jobs"] or _default_jobs(suite, options["device"])
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


def _write_tables(out: Path, data_dir: Path | None, console: Any) -> None:
    from benchmark import report
    from benchmark.cli.listing import report_options, titles

    made = report.report(out, titles(), **report_options(out, data_dir))
    written = made.write(out)
    text = made.terminal(console.is_terminal)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Wrote {len(written)} files under {out}/tables and {out}/figures.", highlight=False)


def _tree(suite_name: str | None, out: Path | None) -> Path:
    """The result tree that is meant: --out, the suite's, or the one written last."""
    if out is None and suite_name is not None:
        out = Path("results") / suite_name
    if out is None:
        trees = [path.parent for path in Path("results").glob("*/runs")]
        if not trees:
            raise UsageError(
                "No results here yet. 'python run_all.py --suite quick' makes some; --out DIR names others."
            )
        out = max(trees, key=lambda tree: (tree / "runs").stat().st_mtime)
    if not (out / "runs").is_dir():
        raise UsageError(f"No results under {out}. 'python run_all.py --suite quick' makes some.")
    return out
