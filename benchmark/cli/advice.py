"""What stands behind the command advise. Importing this imports torch, as the commands run and tune do."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmark import report
from benchmark.analysis.groups import Options as GroupOptions
from benchmark.analysis.groups import group_records
from benchmark.cli import terminal
from benchmark.cli.listing import titles
from benchmark.cli.options import load_plugins
from benchmark.cli.page import write_page
from benchmark.cli.progress import ProgressDisplay, duration, prepare_with_progress, working
from benchmark.cli.sweep import checked_device, default_jobs, plugin_paths, warn
from benchmark.cli.trees import remember_suite, report_options
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.core.files import write_atomically
from benchmark.execution.executor import Options, execute_plan
from benchmark.planning import advice
from benchmark.planning.estimate import estimate
from benchmark.planning.plan import Plan
from benchmark.planning.problems import partition
from benchmark.planning.suite import Suite
from benchmark.records.record import Record
from benchmark.records.tree import read_records
from benchmark.report.advice import Answer, answer
from datasets_registry import find

ADVICE = "advice.md"


class NothingRuns(BenchmarkError):
    """Every run of a step failed: more of them would say nothing new."""


@dataclass
class Advisor:
    """One question: a dataset, a new task, and the tree where its runs are kept."""

    suite: Suite
    task: str
    options: Options
    console: Console

    @classmethod
    def of(
        cls,
        dataset: str,
        new_task: str | None,
        methods: tuple[str, ...],
        out: Path | None,
        device: str,
        jobs: int | None,
        data_dir: Path | None,
        method_files: tuple[Path, ...],
        dataset_files: tuple[Path, ...],
    ) -> Advisor:
        """Check names and prepare the data. Raises UsageError, DataError or DataUnavailable."""
        if Path(dataset).suffix in (".csv", ".tsv", ".parquet"):
            raise UsageError(
                f"{dataset}: columns need roles. Write a schema file beside it, a dozen lines (docs/add-a-dataset.md), "
                "and name that: --dataset my_data.toml."
            )
        if Path(dataset).suffix in (".toml", ".py"):
            dataset_files = (*dataset_files, Path(dataset))
        own, registered = load_plugins(method_files, dataset_files)
        name = registered[-1] if Path(dataset).suffix in (".toml", ".py") else dataset
        _, new = partition(find(name), [new_task] if new_task else None)
        if not new:
            raise UsageError(f"{name} declares no new task: say which by --new-task.")
        console = Console()
        data = prepare_with_progress(name, data_dir, console)
        chosen = tuple(dict.fromkeys([*own, *methods]))
        suite = advice.suite_for(name, [new_task] if new_task else None, data.rows("train"), chosen)
        device = checked_device(device)
        options = Options(
            out=out or Path("results") / f"advice-{name.replace('@', '-')}-{new[0]}",
            jobs=jobs or default_jobs(suite, device),
            device=device,
            data_dir=data_dir,
            command=shlex.join(["python", "run_all.py", *sys.argv[1:]]),
            **plugin_paths(method_files, dataset_files),
        )
        return cls(suite, new[0], options, console)

    def work(self, seconds: float, started: float) -> None:
        """Run until the time is over or every finalist has all its seeds. Raises KeyboardInterrupt at either end."""
        first = advice.screening(self.suite)
        count = sum(len(plan.runs) for plan in first)
        costs = [estimate(run, self.options.data_dir) for plan in first for run in plan.runs]
        rough = sum(cost.seconds for cost in costs if cost is not None) / self.options.jobs
        self.say(
            f"{self.task} of {self.suite.datasets[0]}: {len(first)} steps of one seed, {count} runs, roughly "
            f"{duration(rough)}; then more seeds of the best by validation, within "
            f"{duration(seconds)}. Results: {self.options.out}"
        )
        for place, plan in enumerate(first):
            if place and time.monotonic() - started > advice.SCREENING * seconds:
                self.say("That was the time for one seed of many ways; the rest goes into seeds of few.")
                break
            self._run(plan)
        for seed in range(1, advice.MOST_SEEDS):
            ways = advice.finalists(self._records(), self.task)
            if not ways:
                return
            self._run(advice.step(self.suite, ways, seed))

    def conclude(self) -> int:
        """Write tables, page and advice.md, say the answer; 0 where something can be recommended."""
        out = self.options.out
        records = self._records()
        if not records:
            self.say("No run has ended yet: give it more --minutes. The same command goes on where this one stopped.")
            return 1
        remember_suite(out, self.suite)
        found = self._answer(records)
        write_atomically(out / ADVICE, found.text())
        self.say("")
        for paragraph in found.paragraphs():
            self.say(paragraph)
            self.say("")
        self.say(terminal.listing(found.rows(), terminal.width()))
        with suppress(KeyboardInterrupt), working(self.console, "report, tables and figures"):
            options = report_options(out, self.options.data_dir)
            made = report.report(out, titles(), **options)
            page = write_page(out, made, options["stale"])
            self.say(f"Wrote {out / ADVICE} and {page}.")
            made.write(out)
        return 0 if found.chosen else 1

    def _answer(self, records: list[Record]) -> Answer:
        groups = group_records(records, titles(), GroupOptions(margin=self.suite.margin, roots=(self.options.out,)))
        scores = advice.validation_scores(records, self.task)
        return answer(groups[0], self.task, {(way.method, way.arm): values for way, values in scores.items()})

    def _records(self) -> list[Record]:
        """Those of this question: the tree may hold others."""
        budget = self.suite.budget_for(self.suite.datasets[0])
        return [
            record
            for record in read_records(self.options.out)[0]
            if record.key.dataset == self.suite.datasets[0]
            and record.key.budget == budget
            and self.task in record.key.new_tasks
        ]

    def _run(self, plan: Plan) -> None:
        with ProgressDisplay(self.console, len(plan.runs), self.options.jobs) as display:
            summary = execute_plan(plan, self.options, display, warn=warn)
        if summary.interrupted:
            raise KeyboardInterrupt
        if plan.runs and not summary.count("ok"):  # what stops every run of a step will stop the next one's, too
            raise NothingRuns(f"No run of this step ended well: {summary.records[0].reason}")

    def say(self, text: str) -> None:
        """Plain text; a line is wrapped between words where a terminal is too narrow."""
        if "\n" not in text:
            text = terminal.paragraph(text, terminal.width(), "")
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
