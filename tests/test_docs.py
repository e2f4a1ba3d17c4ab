"""Every command that a page tells people to type exists with its options, and is carried out: here, or where the tests
of its page or of itself are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from benchmark.cli.main import COMMANDS, cli
from benchmark.cli.options import Request
from benchmark.core.errors import UsageError
from benchmark.planning.plan import make_plan
from benchmark.planning.tracks import untuned
from tests.report import made

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDER = re.compile(r"\bmy_|\bown_|\byour|[A-Z]{3,}|/tmp|[…<]")
"""What stands for something of the reader's own: such a command is parsed, not planned."""


def commands(text: str) -> list[str]:
    """Whatever follows ``run_all.py`` in code, inline or fenced, with continued lines joined and comments cut."""
    text = re.sub(r"\\\n\s*", " ", text)
    inline = re.findall(r"`(?:\.venv/bin/)?python run_all\.py([^`\n]*)`", text)
    fenced = "\n".join(re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL))
    return sorted({*inline, *re.findall(r"^\s*(?:\S*=\S* )*\S*python run_all\.py([^\n#]*)", fenced, re.MULTILINE)})


CASES = [(page, words.strip()) for page in PAGES for words in commands(page.read_text())]


@pytest.mark.parametrize(("page", "words"), CASES, ids=[f"{page.name}:{words}" for page, words in CASES])
def test_every_command_of_a_page_can_be_typed(page: Path, words: str) -> None:
    arguments = [word for word in shlex.split(words) if word not in ("…", "...")]
    context = cli.make_context("run_all.py", list(arguments))
    name, command, rest = cli.resolve_command(context, context._protected_args + context.args)
    assert name in COMMANDS and command is not None
    try:
        asked = command.make_context(name, rest, parent=context).params
    except click.exceptions.Exit:
        return  # --help
    except click.BadParameter as error:
        assert "does not exist" in error.message, f"{page.name}: {words}: {error.message}"
        return
    if name == "run" and not PLACEHOLDER.search(words):
        from benchmark.cli import sweep

        request = Request(**{key: value for key, value in asked.items() if key in Request.__dataclass_fields__})
        assert make_plan(untuned(sweep.narrowed(request, [], []))).runs


ELSEWHERE = {
    "add-a-method.md": "tests/conformance/test_add_a_method.py",
    "add-a-dataset.md": "tests/datasets_registry/test_conformance.py",
    "advise": "tests/report/test_advice.py",
    "check-bundle": "tests/test_artefact.py",
    "export-artefact": "tests/test_artefact.py",
    "verify": "tests/sweep",
}
"""Pages and commands that the named tests carry out, with what they need."""
DRY = ("run", "tune")
"""What would train for minutes to days: carried out with --dry-run. Whether a sweep runs is what tests/sweep is for."""
STANDS_FOR = {
    "DATASET": "synthetic", "DIRECTORY": "exported", "TREE...": "results/mine results/again", "DIR": "results/again",
    "RUN": "", "$(hostname)": "host", "…": "", "...": "",
}  # fmt: skip
"""What a placeholder of a page is in the reader's folder."""

FOUND_BY_TUNE = "[dataset_config.census_income.mmoe]\nlearning_rate = 0.01\n"


def words_of(text: str) -> list[str]:
    for placeholder, meant in STANDS_FOR.items():
        text = re.sub(rf"(?<![\w-]){re.escape(placeholder)}(?![\w.])", meant, text)
    return shlex.split(text)


def command_of(text: str) -> str:
    words = shlex.split(text)
    return words[0] if words and words[0] in COMMANDS else "run"


RUN_HERE = sorted({words for page, words in CASES if page.name not in ELSEWHERE and command_of(words) not in ELSEWHERE})


@pytest.mark.parametrize("text", RUN_HERE)
def test_every_command_of_a_page_runs(text: str, mpt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a reader's folder: a method and data of their own, and trees of results where the pages have theirs."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    monkeypatch.setattr("benchmark.cli.sweep.checked_device", lambda device: "cpu")  # pages speak of GPUs, too
    monkeypatch.setattr("benchmark.planning.estimate.estimate", lambda *_: None)  # it measures a step of each method
    if not text.startswith("new-method"):
        assert mpt("new-method", "my_method").code == 0
    records = made.study({"shared_bottom": 0.940, "mpt_rec": 0.946}, seeds=range(2))
    for place in re.findall(r"results/[\w/]+", " ".join(words_of(text))) or ["results/paper"]:
        made.write(tmp_path / place, records)
    for name in {"results/search/tuned.toml", *re.findall(r"results/[\w/]+\.toml", text)}:
        committed = ROOT / name if name.startswith("results/reference/") else None
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(committed.read_text() if committed else FOUND_BY_TUNE)
    if "--check" in text:
        assert mpt(*words_of(text.replace("--check", "--no-figures"))).code == 0
    name, words = command_of(text), words_of(text)
    result = mpt(*words, *(["--dry-run"] if name in DRY else []))
    if name == "compare":  # made records are of no data that the reference has: the reason has to be said
        assert result.code == 1 and "Not compared: " in result.text
    else:
        assert result.code == 0, result.text
    assert bool(opened) == ("--open" in words)


def test_what_is_carried_out_elsewhere_is() -> None:
    for what, place in ELSEWHERE.items():
        files = [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).glob("test_*.py"))
        assert any(what in file.read_text() for file in files), what


def test_there_are_commands_to_check() -> None:
    assert len(CASES) > 25
    with pytest.raises(UsageError):
        cli.resolve_command(click.Context(cli), ["no-such-command"])


def test_the_glossary_names_every_arm_of_the_protocol_and_is_in_order() -> None:
    terms = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert terms == sorted(terms, key=lambda term: term.replace("Δ", "delta").lower())
    assert {"arm", "run", "record", "degradation", "gain", "margin", "stale", "vault"} <= set(terms)


def test_every_page_is_on_a_reading_path() -> None:
    folder = ROOT / "docs"
    reached, waiting = set(), ["README.md"]
    while waiting:
        name = waiting.pop()
        if name not in reached and (folder / name).is_file():
            reached.add(name)
            waiting += re.findall(r"\]\(([a-z-]+\.md)[)#]", (folder / name).read_text())
    assert {path.name for path in folder.glob("*.md")} <= reached
