"""An archive for reviewers that does not say whose it is: code, records, tables, figures and report of a result tree.

Commits, host and user names, home directories and the words that the caller names are taken out of every text; the
tables are then built anew from the records as they stand in the archive, so that they agree with it. What still names
somebody is an error, never a warning.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.core.errors import BenchmarkError
from benchmark.core.files import write_atomically
from benchmark.records.record import Record, run_directory, write_record
from benchmark.records.tree import read_records

FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The date of every file in the archive: the same content gives the same bytes."""
HOMES = r"(?<![\w.-])/(?:home|Users)/[^/\s'\"]+"
"""Anybody's home directory, also of a machine that this one knows nothing of."""
SHORTEST_WORD = 3
PICTURES = (".png", ".pdf", ".jpg")
LEFT_OUT = ("CITATION.cff", "results/", ".github/", ".git")
"""What of a checkout stays out: who wrote it, and results other than the tree that is sent."""


class Scrubber:
    """Takes words out of texts. ``words``: names of people, hosts and owners; ``paths``: directories that name them."""

    def __init__(self, words: Iterable[str], paths: Iterable[str] = ()) -> None:
        names = sorted({w for w in words if len(w) >= SHORTEST_WORD}, key=lambda w: (-len(w), w))
        whole = sorted({path.rstrip("/\\") for path in paths if len(path) > 1}, key=lambda p: (-len(p), p))
        self._path = _pattern([rf"(?<![\w.-]){re.escape(path)}(?![\w-])" for path in whole] + [HOMES])
        self._word = _pattern([rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])" for word in names])

    def text(self, text: str) -> str:
        return self._word.sub("anonymous", self._path.sub("...", text))

    def value(self, value: Any) -> Any:
        """Every text inside plain data."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: self.value(part) for name, part in value.items()}
        return [self.value(part) for part in value] if isinstance(value, list | tuple) else value

    def left_in(self, text: str) -> str | None:
        """The first word or path that a text still holds."""
        found = self._word.search(text) or self._path.search(text)
        return found[0] if found else None


def _pattern(branches: Sequence[str]) -> re.Pattern[str]:
    """Any of the branches, in any case; without branches nothing."""
    return re.compile("|".join(branches) or r"(?!)", re.IGNORECASE)


def anonymous_records(tree: Path, target: Path, scrubber: Scrubber) -> list[str]:
    """Write the records of ``tree`` below ``target`` without what names anybody; what could not be read."""
    records, problems = read_records(tree)
    for record in records:
        write_record(run_directory(target, record.key), _anonymous(record, scrubber))
    return problems


def machines(tree: Path) -> list[str]:
    """The names that a tree's records give to the machines of a cluster: they are looked for in every text."""
    origins = [record.provenance for record in read_records(tree)[0] if record.provenance]
    named = {name for origin in origins for name in (origin.host, origin.worker) if name}
    hosts = {re.sub(r"^[a-z]+://|:\d+$", "", name) for name in named}
    return sorted(named | hosts | {host.partition(".")[0] for host in hosts if not host[:1].isdigit()})


def _anonymous(record: Record, scrubber: Scrubber) -> Record:
    """Names of runs hash their keys, so keys stay; commands, reasons and logs lose names and paths, commits go."""
    content = record.model_dump()
    for part in ("reason", "log_tail", "warnings", "diagnostics", "selection"):
        content[part] = scrubber.value(content[part])
    if content["provenance"]:
        gone = dict.fromkeys(("commit", "dirty", "host", "worker"))
        content["provenance"] = scrubber.value(content["provenance"]) | gone
    return Record.model_validate(content)


def write_archive(
    target: Path,
    code: Mapping[str, Path],
    tree: Path,
    name: str,
    scrubber: Scrubber,
    notes: Sequence[str] = (),
) -> list[str]:
    """Write the zip: ``code`` by its path in the archive, and ``tree`` as results/``name``. Returns the names inside.

    ``scrubber`` cleans the code and is asked about everything: its words have to be names that cannot be words of a
    program, since tables, report and code are full of those.

    Raises BenchmarkError naming file and word where something still names somebody.
    """
    contents: dict[str, bytes] = {"README-ARTEFACT.md": _readme(name, notes).encode()}
    for path, file in code.items():
        if not path.startswith(LEFT_OUT):
            contents[path] = _clean(path, file.read_bytes(), scrubber.text)
    for file in sorted(path for path in tree.rglob("*") if path.is_file()):
        contents[f"results/{name}/{file.relative_to(tree).as_posix()}"] = file.read_bytes()
    for path, data in contents.items():
        word = None if path.endswith(PICTURES) else scrubber.left_in(data.decode("utf-8", "replace"))
        if word is not None or (word := scrubber.left_in(path)) is not None:
            raise BenchmarkError(f"{path} still says '{word}': take it out or leave the word away (--word).")
    _zip(target, contents)
    return sorted(contents)


def _clean(path: str, data: bytes, scrub: Callable[[str], str]) -> bytes:
    if PurePosixPath(path).suffix in PICTURES:
        return data
    try:
        return scrub(data.decode("utf-8")).encode()
    except UnicodeDecodeError:
        return data


def _zip(target: Path, contents: Mapping[str, bytes]) -> None:
    import io

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted(contents.items()):
            info = zipfile.ZipInfo(f"mpt-bench/{path}", FIRST_DAY)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, data)
    write_atomically(target, stream.getvalue())


def _readme(name: str, notes: Sequence[str]) -> str:
    lines = [
        "# Artefact",
        "",
        f"Code, records, tables, figures and report (`results/{name}/report.html`) without names of people, hosts and",
        "commits. `docs/reproduce.md` says which command gives which number, within which tolerance and time.",
        "",
        "```bash",
        "python3 -m venv .venv && .venv/bin/pip install -q -r requirements.lock",
        f".venv/bin/python run_all.py tables --check --out results/{name}   # the tables are those of the records",
        f".venv/bin/python run_all.py report --open --out results/{name}",
        "```",
        "",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines).rstrip() + "\n"
