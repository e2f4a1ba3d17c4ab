#!/usr/bin/env python3
"""Tables in README.md and docs/ that come from results/: `python .ci/embed.py` writes them from the committed files.

A comment ``<!-- table: results/reference/SUITE/tables/paper/NAME.md -->`` stands above such a table. ``rows: A; B`` in
it takes the rows with these first cells alone. A test asserts that nothing is left to write.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: (?P<path>\S+)(?: rows: (?P<rows>[^>]*?))? -->\n)(?P<table>(?:\|.*\n)*)")


def texts() -> list[Path]:
    """The files that may hold such tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def embedded(text: str) -> str:
    """The text with every such table as its file has it. Raises ValueError naming a file or row that is not there."""
    return BLOCK.sub(lambda found: found[1] + _table(found["path"], found["rows"]), text)


def _table(path: str, rows: str | None) -> str:
    if not (ROOT / path).is_file():
        raise ValueError(f"{path}: no such file; build it with 'python run_all.py tables --out RESULT_TREE'.")
    lines = [line for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    if rows is not None:
        wanted = [row.strip() for row in rows.split(";")]
        names = [_name(line) for line in lines]
        if missing := [row for row in wanted if row not in names[2:]]:
            raise ValueError(f"{path} has no row {missing[0]!r}; there are {', '.join(names[2:])}.")
        lines = lines[:2] + [line for line, name in zip(lines[2:], names[2:], strict=True) if name in wanted]
    return "".join(f"{line}\n" for line in lines)


def _name(line: str) -> str:
    return line.split("|")[1].replace("\\", "").strip()


if __name__ == "__main__":
    for file in texts():
        before = file.read_text(encoding="utf-8")
        if (after := embedded(before)) != before:
            file.write_text(after, encoding="utf-8")
            print(f"wrote {file.relative_to(ROOT)}")
