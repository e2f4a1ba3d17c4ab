"""The search of the track "equal", as the first part of the command that runs such a suite. Importing this imports
torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmark.cli import engines, terminal
from benchmark.cli.progress import ProgressDisplay
from benchmark.cli.sweep import Sweep, warn
from benchmark.execution.executor import execute_plan, open_tree
from benchmark.planning.plan import Plan, Run, make_plan
from benchmark.planning.tracks import untuned
from benchmark.records.freshness import Freshness
from benchmark.records.record import Record
from benchmark.tuning.equal import SEARCH, Halving, cost, entries, rounds, sample_name, with_found
from benchmark.tuning.files import worth, write_equal, write_worth

INTERRUPTED = 130


def search_first(sweep: Sweep) -> Sweep | int:
    """The sweep with the values that the search finds, or an exit code where it did not end."""
    suite = sweep.suite
    unavailable = sweep.prepare_data()
    served = make_plan(untuned(suite), unavailable, sweep.look).runs
    sweep.say(cost(suite, served))
    datasets = [name for name in suite.datasets if name not in unavailable]
    samples = {name: _sample(sweep, name) for name in datasets}
    for name, sample in samples.items():
        if sample != name:
            sweep.say(f"search  {name}: on {sample}")
            replace(sweep, suite=suite.model_copy(update={"datasets": (sample,)})).prepare_data()
    found = [entries(suite, name) for name in datasets]
    for part in (0, 1):  # arms after stage 0 need the values of their method
        searches = [Halving(suite, entry, samples[entry.dataset]) for both in found for entry in both[part]]
        if not rounds(searches, lambda runs: _executed(sweep, runs)):
            return 1 if sweep.request.mode == "only-read" else INTERRUPTED
        suite = with_found(suite, searches)
        _say_lost(sweep, searches)
    for run in (sweep.out / SEARCH).glob("runs/*/*/*/*/weights.pt"):
        run.unlink()  # nobody continues the stage 0 of a trial that is over
    path = write_equal(sweep.out, suite)
    write_worth(sweep.out, suite)
    sweep.say(f"What the search was worth, on validation rows ({path} has the values):")
    sweep.say(terminal.listing([_shown(row) for row in worth(suite)], terminal.width()))
    return replace(sweep, suite=suite.model_copy(update={"config_file": str(path)}))


def _sample(sweep: Sweep, name: str) -> str:
    data = sweep.look(name)
    if data is None:
        return name
    return sample_name(name, data.rows("train"), sweep.suite.search_budget)


def _executed(sweep: Sweep, runs: Sequence[Run]) -> Mapping[str, Record] | None:
    """The records of trials, or None where some are missing."""
    out = sweep.out / SEARCH
    if sweep.request.mode != "only-read":
        open_tree(sweep.out, warn)
    with (
        engines.opened(sweep.request, sweep.jobs) as engine,
        ProgressDisplay(sweep.console, len(runs), sweep.jobs) as display,
    ):
        summary = execute_plan(
            Plan(sweep.suite, list(runs)),
            sweep.execution(out=out, engine=engine),
            display,
            warn=warn,
            stale=Freshness(sweep.request.data_dir).is_stale,
        )
    records = {record.run_id: record for record in summary.records}
    if summary.interrupted or len(records) < len({run.id for run in runs}):
        sweep.say("The search is not complete. Start the same command again to go on where it stopped.")
        return None
    return records


def _say_lost(sweep: Sweep, searches: Sequence[Halving]) -> None:
    for search in searches:
        if search.searched() is None:
            entry = search.entry
            sweep.say(f"search  {entry.dataset}/{entry.method}/{entry.arm}: no score: {search.trials[0].reason}")


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    score = {name: "-" if row[name] is None else f"{row[name]:.5f}" for name in ("default", "best")}
    gain = "-" if row["gain"] is None else f"{row['gain']:+.5f}"
    names = ("dataset", "method", "arm", "trials", "failed", "passes")
    return {name: row[name] for name in names} | score | {"gain": gain, "chosen": row["chosen"]}
