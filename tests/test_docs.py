"""Every command that a page tells people to type exists, with its options; what needs no data is planned for real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from benchmark.cli.main import COMMANDS, cli
from benchmark.cli.options import Request
from benchmark.core.errors import UsageError
from benchmark.planning.plan import make_plan

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
        assert make_plan(sweep.narrowed(request, [], [])).runs


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
