"""The commands that train: run and tune.

What they do is in `benchmark.cli.sweep` and `benchmark.cli.search`, imported when they run and not before: both need
torch, and the server that runs are forked from can load it at the same time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmark.cli.options import Request, common, data_option, figures_option, plugin_files, selection
from benchmark.execution import processes


@click.command()
@common
@selection
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="A file that 'tune' has written.")
@click.option("--dry-run", is_flag=True, help="Show what would be run, references and skips; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: for machines.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first run that fails.")
@click.option("--debug", is_flag=True, help="Run in this process, one by one, and open the debugger at an error.")
@figures_option
@data_option
@plugin_files
def run(config_file: Path | None, dry_run: bool, as_json: bool, fail_fast: bool, debug: bool, **asked: Any) -> int:
    """Run a suite (default: paper), then build and print its tables.

    What is there already is kept, so the same command goes on after an interruption.
    """
    request = Request(**asked)
    _start_server(request, needed=not (dry_run or debug))
    from benchmark.cli import equal, sweep

    if dry_run:
        return sweep.dry_run(request, config_file, as_json)
    return sweep.run_suite(request, config_file, fail_fast, debug, equal.search_first)


@click.command()
@common
@selection
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Configs tried per method.")
@click.option("--dry-run", is_flag=True, help="Show what would be searched and how many runs that takes.")
@data_option
@plugin_files
def tune(trials: int, dry_run: bool, **asked: Any) -> int:
    """Search good configs with the same number of trials for every method.

    Validation rows decide. Writes <out>/tuned.toml, which a suite can name. A trial trains on all tasks together
    (--arms: in other ways) with one seed (--seeds: the mean of several). What was tried is kept, so the same command
    goes on after an interruption.
    """
    request = Request(**asked)
    _start_server(request, needed=not dry_run)
    from benchmark.cli import search

    return search.tune_suite(request, trials, dry_run)


def _start_server(request: Request, needed: bool) -> None:
    if needed and request.mode != "only-read" and request.engine == "local":
        processes.context()
