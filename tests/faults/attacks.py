"""Forged records, hostile trees and bundles against `verify`, `merge` and `check-bundle`: how many were held.

    python -m tests.faults attacks

Runs nothing but imports of method files. An attack is held if what is forged is called different, refused with a
sentence or set aside, and nothing outside the tree was read, written or waited for.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmark.cli.main import cli
from benchmark.core.canonical import short_hash
from benchmark.core.errors import BenchmarkError
from benchmark.records.agreement import compare
from benchmark.records.record import DamagedRecord, Record, parsed, run_directory
from benchmark.records.tree import PACKED, pack, read_records
from benchmark.report.bundle import Bundle
from tests.faults.trees import ROOT, Counts
from tests.report import made
from tests.sweep.trees import HERE

SLOW_SECONDS = 60.0
SIGNS = ("\x1b", "\x07", "\x9b", "\u202e", "\u2028", "Traceback")
"""What no output may hold: escapes that steer a terminal, characters that turn text round, an error of the program."""
EVIL = "\x1b]52;c;eA==\x07\x9b31m\u202e"

Change = Callable[[dict[str, Any]], object]
Attack = Callable[[Path], "str | None"]


def _set(path: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            content = content[int(name) if isinstance(content, list) else name]
        if value is None:
            content.pop(last, None)
        else:
            content[last] = value

    return change


def _tasks(content: dict[str, Any]) -> list[str]:
    return sorted(content["scores"])


def _swap(content: dict[str, Any]) -> None:
    first, second, *_ = _tasks(content)
    content["scores"][first], content["scores"][second] = content["scores"][second], content["scores"][first]


def _each_score(name: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for scores in content["scores"].values():
            if name in ("n", "positives", "auc_standard_error"):
                scores[name] = value
            else:
                scores["metrics"][name] = value

    return change


FORGED: dict[str, Change] = {
    "the scores of a task left out": lambda c: c["scores"].pop(_tasks(c)[0]),
    "all scores left out": _set("scores", {}),
    "all of a task's metrics left out": lambda c: c["scores"][_tasks(c)[0]].update(metrics={}),
    "the scores of two tasks exchanged": _swap,
    "a score moved by its last digit": lambda c: c["scores"][_tasks(c)[0]]["metrics"].update(
        auc=c["scores"][_tasks(c)[0]]["metrics"]["auc"] + 1e-15
    ),
    "log-loss alone": _each_score("log_loss", 0.01),
    "a number of rows": _each_score("n", 10**6),
    "row noise of 0": _each_score("auc_standard_error", 0.0),
    "every invariant left out": _set("invariants", {}),
    "invariants that were broken": lambda c: c.update(invariants=dict.fromkeys(c["invariants"], False)),
    "the curve cut to its best epoch": lambda c: c.update(curve=c["curve"][:1]),
    "a loss of the curve": lambda c: c["curve"][0]["loss"].update({next(iter(c["curve"][0]["loss"])): 0.5}),
    "an epoch twice": lambda c: c["curve"].append(c["curve"][-1]),
    "the kept epoch": lambda c: c["selection"].update(epoch=c["selection"]["epoch"] + 1),
    "the score of the kept epoch": lambda c: c["selection"].update(score=0.99),
    "epochs that were run": lambda c: c["selection"].update(epochs_run=1),
    "no weights' fingerprint": _set("weights_fingerprint", None),
    "fewer weights": lambda c: c["params"].update(total=1, trainable=1),
    "no FLOPs for a step": lambda c: c["flops"].update(training_step=0.0),
    "fewer training rows": _set("train_rows", 1),
}


def _verify(change: Change) -> Attack:
    def attack(scratch: Path) -> str | None:
        record = next(r for r in read_records(HERE / "reference")[0] if len(r.scores) > 1 and r.invariants)
        content = json.loads(record.model_dump_json())
        change(content)
        content.pop("checksum", None)
        try:
            forged = parsed(json.dumps(content | {"checksum": short_hash(content)}).encode(), "forged")
        except DamagedRecord:
            return None
        state = compare(forged, record).state
        return None if state == "different" else f"verify calls it {state}"

    return attack


def _called(*words: object) -> tuple[int, str]:
    """Exit code and output of the command line in this process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = cli.main([str(word) for word in words], standalone_mode=False)
        except BenchmarkError as error:
            code = error.exit_code
            print(error)
    return code if isinstance(code, int) else 0, out.getvalue()


def _refused(words: tuple[object, ...], scratch: Path, says: str = "") -> str | None:
    began = time.monotonic()
    code, text = _called(*words)
    if time.monotonic() - began > SLOW_SECONDS:
        return "it takes long"
    if signs := [sign for sign in SIGNS if sign in text]:
        return f"its output holds {signs!r}"
    if code == 0:
        return "it passes"
    return None if says in text else f"no word of it: {text[-200:]!r}"


def _tree(scratch: Path, name: str = "tree") -> Path:
    return made.write(scratch / name, made.study({"shared_bottom": 0.94}))


def _linked(inside: str) -> Attack:
    def attack(scratch: Path) -> str | None:
        tree, secret = _tree(scratch), scratch / "secret"
        secret.mkdir()
        (secret / "id_rsa").write_text("private")
        path = next(tree.glob(inside))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(secret if path.suffix == "" else secret / "id_rsa")
        wrong = _refused(("merge", tree, "--out", scratch / "out"), scratch, "symbolic link")
        return wrong or ("private content was copied" if list((scratch / "out").rglob("id_rsa")) else None)

    return attack


def _into_link(scratch: Path) -> str | None:
    tree, out, elsewhere = _tree(scratch), scratch / "out", scratch / "elsewhere"
    for folder in (out / "runs", elsewhere):
        folder.mkdir(parents=True)
    (out / "runs" / "census").symlink_to(elsewhere)
    wrong = _refused(("merge", tree, "--out", out), scratch, "symbolic link")
    return wrong or ("files were written elsewhere" if list(elsewhere.iterdir()) else None)


def _beside(make: Callable[[Path], object], says: str = "") -> Attack:
    """Something beside a record; merge has to end soon, and to say so where ``says`` is given."""

    def attack(scratch: Path) -> str | None:
        tree = _tree(scratch)
        make(next(tree.glob("runs/*/*/*/*")))
        began = time.monotonic()
        try:
            _, text = _called("merge", tree, "--out", scratch / "out")
        except OSError as error:
            text = f"{error.filename}: {error.strerror}" if error.filename else "an error without a name"
        if time.monotonic() - began > SLOW_SECONDS:
            return "it takes long"
        wrong = [sign for sign in SIGNS if sign in text]
        return f"its output holds {wrong!r}" if wrong else None if says in text else f"says {text[-200:]!r}"

    return attack


def _sparse(directory: Path) -> None:
    (directory / "predictions.npz").touch()
    os.truncate(directory / "predictions.npz", 1 << 43)


def _climbs(scratch: Path) -> str | None:
    tree = _tree(scratch)
    pack(tree)
    import lzma

    lines = lzma.decompress((tree / "runs" / PACKED).read_bytes()).splitlines()
    content = json.loads(lines[0])
    content["key"]["dataset"] = "../../../escaped"
    content.pop("checksum", None)
    lines[0] = json.dumps(content | {"checksum": short_hash(content)}).encode()
    (tree / "runs" / PACKED).write_bytes(lzma.compress(b"\n".join(lines) + b"\n"))
    _called("merge", tree, "--out", scratch / "out")
    return "a file lies outside the tree" if list(scratch.rglob("*escaped*")) else None


def _contradicts(change: Callable[[Record], object]) -> Attack:
    def attack(scratch: Path) -> str | None:
        tree, other = _tree(scratch), scratch / "other"
        records = read_records(tree)[0]
        forged = copy.deepcopy(records)
        change(forged[0])
        made.write(other, forged)
        _called("merge", tree, other, "--out", scratch / "out")
        there = run_directory(scratch / "out", records[0].key) / "record.json"
        return "two results of a run count as one" if there.exists() else None

    return attack


MERGED: dict[str, Attack] = {
    "a run's directory is a link": _linked("runs/*/*/*/*"),
    "an arm's directory is a link": _linked("runs/*/*/*"),
    "a method's directory is a link": _linked("runs/*/*"),
    "a dataset's directory is a link": _linked("runs/*"),
    "the record is a link": _linked("runs/*/*/*/*/record.json"),
    "the merged tree leads elsewhere": _into_link,
    "a named pipe as arrays": _beside(lambda d: os.mkfifo(d / "predictions.npz")),
    "a named pipe as record": _beside(
        lambda d: (d / "record.json").unlink() or os.mkfifo(d / "record.json"), "regular"
    ),
    "arrays of eight terabytes": _beside(_sparse, "do not fit"),
    "a directory as record": _beside(lambda d: (d / "record.json").unlink() or (d / "record.json").mkdir(), "record"),
    "deep JSON as record": _beside(lambda d: (d / "record.json").write_text("[" * 10**6), "record"),
    "a record of escapes": _beside(lambda d: (d / "record.json").write_text(json.dumps({EVIL: EVIL})), "record"),
    "a lock of another host": _beside(lambda d: (d / "lock.json").write_text('{"where": "elsewhere", "pid": 1}')),
    "a name that climbs out": _climbs,
    "forged FLOPs": _contradicts(lambda r: setattr(r.flops, "forward", 1.0)),
    "forged training rows": _contradicts(lambda r: setattr(r.params, "trainable", 1)),
    "a forged score": _contradicts(lambda r: r.scores[min(r.scores)].metrics.update(auc=0.99)),
    "a forged curve": _contradicts(lambda r: setattr(r, "curve", r.curve[:1])),
    "a forged epoch": _contradicts(lambda r: setattr(r.selection, "epoch", 1)),
}


def _bundle(change: Callable[[Path], object], says: str) -> Attack:
    def attack(scratch: Path) -> str | None:
        folder = scratch / "bundle"
        made.write(folder, [r for r in made.study({"my_method": 0.96}) if r.key.method == "my_method"])
        source = (ROOT / "methods" / "shared_bottom.py").read_text()
        (folder / "my_method.py").write_text(source.replace('"shared_bottom"', '"my_method"'))
        (folder / "bundle.toml").write_text(DESCRIPTION)
        change(folder)
        with mock.patch.object(Bundle, "problems", Bundle.problems):  # a file may replace it; the next case needs it
            return _refused(("check-bundle", folder, "--runs", 0), scratch, says)

    return attack


DESCRIPTION = 'method = "my_method"\nfile = "my_method.py"\nsuite = "quick"\n'


def _says(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "bundle.toml").write_text(text)


def _file(text: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "my_method.py"
        path.write_text(path.read_text() + "\n" + text + "\n")

    return change


def _packed(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "runs" / PACKED).write_bytes(content)


def _failed(folder: Path) -> None:
    path = next(folder.glob("runs/*/*/*/*/record.json"))
    content = json.loads(path.read_text())
    content.pop("checksum", None)
    content |= {"status": "failed", "reason": EVIL}
    path.write_text(json.dumps(content | {"checksum": short_hash(content)}))


PATCHES = "import benchmark.report.bundle as B\nB.Bundle.problems = lambda self, known: []\n"
BUNDLED: dict[str, Attack] = {
    "the file ends the process": _bundle(_file("import os\nos._exit(0)"), "ends the process"),
    "the file calls sys.exit": _bundle(_file("import sys\nsys.exit(0)"), "importing it fails"),
    "the file kills its process": _bundle(_file("import os\nos.kill(os.getpid(), 9)"), "ends the process"),
    "the file patches the check": _bundle(_file(PATCHES), "does not compare"),
    "the file registers another method": _bundle(
        lambda f: (f / "my_method.py").write_text((ROOT / "methods/shared_bottom.py").read_text()), ""
    ),
    "the file is a link": _bundle(
        lambda f: (f / "my_method.py").unlink() or (f / "my_method.py").symlink_to(ROOT / "methods/ple.py"), "link"
    ),
    "the file lies elsewhere": _bundle(_says(DESCRIPTION.replace("my_method.py", "../x.py")), "bundle itself"),
    "the file's name has a NUL": _bundle(_says(DESCRIPTION.replace("my_method.py", "a\\u0000.py")), "no name"),
    "the file's name is endless": _bundle(_says(DESCRIPTION.replace("my_method.py", "a" * 400 + ".py")), ""),
    "deep TOML": _bundle(_says("a = " + "[" * 5000), "TOML"),
    "a description of escapes": _bundle(_says(f'"{EVIL!r}" = 1\n'), ""),
    "a suite that lies elsewhere": _bundle(_says(DESCRIPTION.replace("quick", "../../etc")), "no reference"),
    "a method of another name": _bundle(_says(DESCRIPTION.replace("my_method\"", "other\"")), ""),
    "a method that the reference has": _bundle(_says(DESCRIPTION.replace('"my_method"', '"single_task"')), "FAIL"),
    "a description that is a pipe": _bundle(
        lambda f: (f / "bundle.toml").unlink() or os.mkfifo(f / "bundle.toml"), "regular"
    ),
    "a failed run with escapes as reason": _bundle(_failed, "ended as failed"),
    "packed records that are no archive": _bundle(_packed(b"x" * 100), "FAIL"),
    "no records": _bundle(lambda f: shutil.rmtree(f / "runs"), ""),
}  # fmt: skip

GROUPS: dict[str, dict[str, Attack]] = {
    "verify": {name: _verify(change) for name, change in FORGED.items()},
    "merge": MERGED,
    "check-bundle": BUNDLED,
}


def attacks(groups: dict[str, dict[str, Attack]], scratch: Path) -> Iterator[Counts]:
    """Carry out every attack in a directory of its own; the counts of each group."""
    for group, cases in groups.items():
        counts = Counts(group)
        for number, (name, attack) in enumerate(cases.items()):
            directory = scratch / f"{group}-{number}"
            directory.mkdir()
            try:
                counts.add(name, attack(directory))
            except Exception as error:
                counts.add(name, f"{type(error).__name__}: {error}")
        yield counts


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        found = list(attacks(GROUPS, Path(scratch)))
    print(*found, sep="\n")
    return int(any(counts.lost for counts in found))


if __name__ == "__main__":
    sys.exit(main())
