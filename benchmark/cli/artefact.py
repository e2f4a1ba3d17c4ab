"""The commands export-artefact, check-bundle and docs: what leaves the house, what comes in, and what explains it."""

from __future__ import annotations

import contextlib
import getpass
import json
import platform
import re
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmark import report
from benchmark.cli.listing import titles
from benchmark.cli.options import (
    common,
    data_option,
    device_again_option,
    load_plugins,
    registered_methods,
    result_tree,
)
from benchmark.cli.page import write_page
from benchmark.cli.trees import SKIPS_FILE, SUITE_FILE, report_options
from benchmark.core.errors import DataError, UsageError, unknown_name, visible
from benchmark.core.files import read_regular
from benchmark.records.agreement import seeds_of
from benchmark.records.reference import CHECKOUT, reference_trees
from benchmark.records.reference import docs as docs_folder
from benchmark.report.artefact import Scrubber, anonymous_records, machines, write_archive


def _parsed(file: Path) -> Any:
    """Raises DataError for a file that is no JSON."""
    try:
        return json.loads(read_regular(file))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)[:100]
        raise DataError(f"{file}: not readable as JSON ({reason}). Remove it, or run the suite again.") from error


@click.command("export-artefact")
@common
@click.option(
    "--to", "target", type=click.Path(path_type=Path, dir_okay=False), default="artefact.zip", show_default=True,
    help="The archive to write.",
)  # fmt: skip
@click.option("--word", "words", multiple=True, help="A further name that must not occur: an author, a lab, a server.")
@data_option
def export_artefact(
    suite_name: str | None, out: Path | None, target: Path, words: tuple[str, ...], data_dir: Path | None
) -> int:
    """Write code, records, tables and report into one anonymised archive.

    Commits, host and user names, home directories, git's author and the owner of its remotes are taken out; tables and
    report are built anew from the records in the archive. What still names somebody is an error with its file.
    """
    tree = result_tree(suite_name, out)
    found = _names()
    scrubber = Scrubber([*found, *words, *machines(tree)], _paths())
    # A login such as "data" or "check" is a word of programs too: it goes from what records say freely; in code, tables
    # and the names of runs only names that cannot be such a word are looked for.
    sure_names = list(dict.fromkeys([*(name for name in found if any(sign in name for sign in " @.")), *words]))
    sure = Scrubber(sure_names, [path for path in _paths() if Path(path).parent != Path(Path(path).anchor)])
    name = tree.resolve().name
    with tempfile.TemporaryDirectory(prefix="mptbench-artefact-") as folder:
        copy = Path(folder) / name
        problems = anonymous_records(tree, copy, scrubber)
        for file in (SUITE_FILE, SKIPS_FILE):
            if (tree / file).is_file():
                copy.mkdir(parents=True, exist_ok=True)
                (copy / file).write_text(_anonymous_json(tree / file, scrubber, sure), encoding="utf-8")
        options = report_options(copy, data_dir)
        made = report.report(copy, titles(), **options)
        made.write(copy)
        write_page(copy, made, options["stale"])
        code, notes = _code()
        names = write_archive(target, code, copy, name, sure, notes)
    for problem in problems:
        click.echo(visible(f"Left out: {problem}"), err=True)
    click.echo(f"{target}: {len(names)} files, {target.stat().st_size:,} bytes.")
    click.echo(f"No file says: {', '.join(sure_names) or 'no name known that is not a word'}.")
    if login := sorted(set(found) - set(sure_names)):
        click.echo(f"Taken out of what records say alone, since programs use such words: {', '.join(login)}.")
        click.echo("To look for one everywhere, name it with --word.")
    return 0


def _anonymous_json(file: Path, scrubber: Scrubber, sure: Scrubber) -> str:
    """A JSON file whose sentences and paths say nobody's name; names of methods, arms and datasets stay."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return (scrubber if any(sign in value for sign in " /\\") else sure).text(value)
        if isinstance(value, dict):
            return {name: clean(part) for name, part in value.items()}
        return [clean(part) for part in value] if isinstance(value, list) else value

    return json.dumps(clean(_parsed(file)), indent=1)


class Amount(click.ParamType):
    """How many of something: a number, a share in percent, or all."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"all|\d{1,6}|\d{1,3}%", value):
            self.fail(f"{value!r} is no number, no share such as 20%, and not all.", param, ctx)
        return str(value)

    @staticmethod
    def of(amount: str, whole: int) -> int:
        """The number that is meant, of ``whole`` things; a share is rounded up."""
        if amount == "all":
            return whole
        return -(-whole * int(amount[:-1]) // 100) if amount.endswith("%") else int(amount)


IMPORT_SECONDS = 120.0
"""How long a bundle's method file may take to be imported."""


def _registered(file: Path) -> set[str]:
    """The methods that a file registers, asked in a process of its own. Raises DataError where that ends badly."""
    from benchmark.execution.apart import apart

    names = apart(registered_methods, (file,), IMPORT_SECONDS)
    if names is None:
        raise DataError(
            f"{file}: importing it fails, ends the process or takes more than {IMPORT_SECONDS:.0f} s. "
            f"'python run_all.py check-method {file}' says more."
        )
    return set(names)


@click.command("check-bundle")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--runs", "amount", type=Amount(), default="2", show_default=True,
    help="Records to run again: a number, a share such as 20%, or all.",
)  # fmt: skip
@click.option("--seed", help="Draw the records as another check did, which printed this seed.")
@device_again_option
@data_option
def check_bundle(bundle: Path, amount: str, seed: str | None, device: str | None, data_dir: Path | None) -> int:
    """Check somebody's bundle of a method and its records.

    This runs the bundle's method file. A few records, drawn now, are run again, those of the arms that add the new task
    first; the row that would join the reference is printed. docs/submit.md says what a bundle is and what a pass means.
    """
    from benchmark.report.bundle import drawn, read_bundle, row

    found = read_bundle(bundle)
    click.echo(visible(f"Running code of {found.file.name}: read a stranger's file before you do."), err=True)
    all_count = len(found.records)
    count = Amount.of(amount, all_count)
    seed = seed or secrets.token_hex(8)
    # Whatever the file does when it is imported, it cannot do to what is said of the records before that.
    problems = found.problems(_registered(found.file))
    ok = not problems
    for line in problems:
        click.echo(visible(f"FAIL  {line}"))
    if found.method not in titles() and ok:
        load_plugins([found.file], [])
    made = report.compare(bundle, list(reference_trees().values()), titles(), **report_options(bundle, data_dir))
    for line in made.problems:
        click.echo(visible(f"FAIL  does not compare: {line}"))
        ok = False
    few = min(count, all_count)
    click.echo(visible(f"hash  {found.hash}; seed {seed} draws {few} of {all_count} records"))
    if ok and count:
        from benchmark.cli.sweep import device_again, plugin_paths  # these import torch
        from benchmark.execution.executor import Options
        from benchmark.execution.verify import verify

        for record in drawn(found, count, seed):
            where = device_again(record, device)
            options = Options(out=Path(), device=where, data_dir=data_dir, **plugin_paths((found.file,), ()))
            verdict = verify(record, options, seeds_of(record, found.records))
            good = verdict.state != "different"
            click.echo(f"{'pass' if good else 'FAIL'}  {record.run_id} {record.key.arm}: {verdict.state}")
            for line in verdict.lines:
                click.echo(visible(f"        {line}"))
            ok = ok and good
    for line in row(made, found.method, titles()):
        click.echo(line)
    held = f"{few} of {all_count} records were run again and hold; the others were not tried."
    if few == all_count:
        held = "The bundle holds: every record was run again."
    click.echo(held if ok else "The bundle does not hold: see the lines with FAIL.")
    return 0 if ok else 1


@click.command()
@click.argument("page", required=False)
def docs(page: str | None) -> None:
    """Say where the pages of documentation are, or print one."""
    folder = docs_folder()
    pages = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.md"))}
    if page is None:
        click.echo(f"{folder}: {', '.join(name for name in pages if '/' not in name)}")
        return
    if page.removesuffix(".md") not in pages:
        raise unknown_name("page", page, pages)
    click.echo(pages[page.removesuffix(".md")].read_text(encoding="utf-8"))


def _names() -> list[str]:
    """Who this machine and this checkout say they are."""
    found = [platform.node(), platform.node().partition(".")[0]]
    with contextlib.suppress(KeyError, OSError):  # a container without an entry for its user
        found.append(getpass.getuser())
    for key in ("user.name", "user.email"):
        found.append(_git("config", key))
    for line in _git("log", "--format=%an%n%ae", "-n", "1000").splitlines():
        found.append(line)
    for line in _git("remote", "-v").splitlines():
        address = line.split()[1] if len(line.split()) > 1 else ""
        found += [part for part in address.replace(":", "/").split("/")[-2:-1] if part]
    common_words = {"root", "user", "localhost", "runner", "mpt-bench", "users", "home", "test"}
    names = dict.fromkeys(name.strip() for name in found)
    return [name for name in names if name and name.lower() not in common_words]


def _paths() -> list[str]:
    """Directories that name somebody. A user called root has no home that tells anything, but paths go all the same."""
    return [str(CHECKOUT), str(Path.home()), str(Path.cwd())]


def _git(*words: str) -> str:
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        return ""
    done = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, timeout=30)
    return done.stdout if done.returncode == 0 else ""


def _code() -> tuple[dict[str, Path], list[str]]:
    """Files of the checkout by their path, as git knows them (without git: of the packages), and what to say."""
    if listed := _git("ls-files", "-z"):
        return {name: CHECKOUT / name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()}, []
    packages = ("benchmark", "methods", "datasets_registry")
    files = {
        path.relative_to(CHECKOUT).as_posix(): path
        for package in packages
        for path in sorted((CHECKOUT / package).rglob("*"))
        if path.is_file() and path.suffix not in (".pyc", ".html") and "shipped" not in path.parts
    }
    if not files:
        raise UsageError(f"No code to send under {CHECKOUT}.")
    return files, ["Made from an installed package: tests are not in it."]
