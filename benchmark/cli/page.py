"""The command report: one HTML page of a result tree; and what the page tells beside the records."""

from __future__ import annotations

import contextlib
import json
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console

from benchmark import report as reporting
from benchmark.cli.listing import titles
from benchmark.cli.options import common, data_option, load_plugins, plugin_files, result_tree
from benchmark.cli.progress import working
from benchmark.cli.trees import SKIPS_FILE, SUITE_FILE, report_options
from benchmark.core.errors import BenchmarkError
from benchmark.core.files import read_regular, write_atomically
from benchmark.report import Report
from benchmark.report.html import PAGE, About, Card, render
from datasets_registry import find
from methods import METHODS, declared


@click.command()
@common
@click.option("--open", "show", is_flag=True, help="Show it in the browser.")
@click.option("--check", is_flag=True, help="Fail if the page on disk differs from what the records say.")
@data_option
@plugin_files
def report(
    suite_name: str | None,
    out: Path | None,
    show: bool,
    check: bool,
    data_dir: Path | None,
    **files: tuple[Path, ...],
) -> int:
    """Write one HTML page of a result tree: findings, leaderboard, every run.

    The file report.html needs no network and no program beside a browser; it can be mailed, put beside a paper or
    on a web server.
    """
    tree = result_tree(suite_name, out)
    load_plugins(**files)
    with working(Console(stderr=True), "report"):
        options = report_options(tree, data_dir)
        made = reporting.report(tree, titles(), **options)
    if check:
        path = tree / PAGE
        same = path.is_file() and path.read_bytes() == render(made, about(tree, made, options["stale"])).encode()
        if not same:
            click.echo(f"{path} differs from the records. 'python run_all.py report --out {tree}' writes it.", err=True)
        return 0 if same else 1
    page = write_page(tree, made, options["stale"])
    click.echo(page)
    if show and not webbrowser.open(page.resolve().as_uri()):
        click.echo(f"No browser could be started here; open the file yourself: {page.resolve()}", err=True)
    return 0


def write_page(tree: Path, made: Report, stale: Mapping[str, str]) -> Path:
    """Write ``tree``/report.html; returns its path."""
    write_atomically(tree / PAGE, render(made, about(tree, made, stale)))
    return tree / PAGE


def about(tree: Path, made: Report, stale: Mapping[str, str]) -> About:
    """The suite's title, the cards of the methods and datasets that have records, skips and stale runs."""
    suite: dict = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_regular(tree / SUITE_FILE))
        suite = content if isinstance(content, dict) else {}
    records = [record for group in made.groups for record in group.records]
    name = str(suite.get("name") or tree.resolve().name)
    return About(
        title=f"MPT-Bench: {name}",
        subtitle=str(suite.get("title") or ""),
        lead=_advice(tree),
        methods=_method_cards({record.key.method for record in records}),
        datasets=_dataset_cards({record.key.dataset for record in records}),
        stale=stale,
        skips=_skips(tree),
    )


def _advice(tree: Path) -> tuple[str, ...]:
    """The paragraphs of an answer that the command advise has left; its table stands in the leaderboard."""
    with contextlib.suppress(OSError, ValueError):
        parts = read_regular(tree / "advice.md").decode().strip().split("\n\n")
        return tuple(part.removeprefix("# ") for part in parts if not part.startswith("|"))
    return ()


def _skips(tree: Path) -> tuple[tuple[str, str, str, str], ...]:
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        rows = json.loads(read_regular(tree / SKIPS_FILE))
        return tuple((str(d), str(m), str(a), str(reason)) for d, m, a, reason in rows)
    return ()


def _method_cards(names: set[str]) -> tuple[Card, ...]:
    own = {info.name: info for info in declared()}
    own |= {name: METHODS.get(name).info for name in names if name not in own and name in METHODS.loaded()}
    return tuple(
        Card(
            info.name,
            info.title,
            info.summary,
            (("paper", info.paper), ("arms of its own", ", ".join(info.arms)), ("tasks", ", ".join(info.kinds))),
        )
        for info in sorted(own.values(), key=lambda info: info.name)
        if info.name in names
    )


def _dataset_cards(names: set[str]) -> tuple[Card, ...]:
    cards = []
    for name in sorted(names):
        try:
            dataset = find(name)
        except BenchmarkError:  # of a file that this command was not told of
            continue
        roles = {**dict.fromkeys(dataset.old_tasks, "old"), **dict.fromkeys(dataset.new_tasks, "new")}
        facts = [
            ("size", dataset.size),
            ("licence", dataset.licence),
            ("cite", dataset.citation),
            ("home page", dataset.home_page),
            ("split", dataset.split),
            ("inputs", _inputs([feature.kind for feature in dataset.features])),
            *((f"task {task.name}", _task(task.title, roles.get(task.name, "on offer"))) for task in dataset.tasks),
        ]
        facts = [(what, text) for what, text in facts if text]
        cards.append(Card(name, dataset.title, dataset.notes, tuple(facts), dataset.defects))
    return tuple(cards)


def _task(title: str, role: str) -> str:
    return f"{title} ({role})" if title else role


def _inputs(kinds: Sequence[str]) -> str:
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
