"""The commands export-artefact, check-bundle and docs: what leaves the house, what comes in, and what explains it."""

from __future__ import annotations

import contextlib
import getpass
import json
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmark import report
from benchmark.cli.listing import titles
from benchmark.cli.options import common, data_option, device_again_option, load_plugins, result_tree
from benchmark.cli.page import write_page
from benchmark.cli.trees import SKIPS_FILE, SUITE_FILE, report_options
from benchmark.core.errors import UsageError, unknown_name
from benchmark.records.agreement import seeds_of
from benchmark.records.reference import CHECKOUT, reference_trees
from benchmark.records.reference import docs as docs_folder
from benchmark.report.artefact import Scrubber, anonymous_records, write_archive


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
    scrubber = Scrubber([*found, *words], _paths())
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
        click.echo(f"Left out: {problem}", err=True)
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

    return json.dumps(clean(json.loads(file.read_text(encoding="utf-8"))), indent=1)


@click.command("check-bundle")
@click.argument("bundle", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--runs", "count", type=click.IntRange(0), default=2, show_default=True, help="Records to run again.")
@device_again_option
@data_option
def check_bundle(bundle: Path, count: int, device: str | None, data_dir: Path | None) -> int:
    """Check somebody's bundle of a method and its records.

    The method file and a few records, chosen by the bundle's hash, are tried; the row that would join the reference is
    printed. docs/submit.md says what a bundle is.
    """
    from benchmark.report.bundle import chosen, read_bundle, row

    found = read_bundle(bundle)
    load_plugins([found.file], [])
    ok = True
    for line in found.problems(set(titles())):
        click.echo(f"FAIL  {line}")
        ok = False
    made = report.compare(bundle, list(reference_trees().values()), titles(), **report_options(bundle, data_dir))
    for line in made.problems:
        click.echo(f"FAIL  does not compare: {line}")
        ok = False
    click.echo(f"hash  {found.hash}, {len(found.records)} records")
    if ok and count:
        from benchmark.cli.sweep import device_again, plugin_paths  # these import torch
        from benchmark.execution.executor import Options
        from benchmark.execution.verify import verify

        for record in chosen(found, count):
            where = device_again(record, device)
            options = Options(out=Path(), device=where, data_dir=data_dir, **plugin_paths((found.file,), ()))
            verdict = verify(record, options, seeds_of(record, found.records))
            good = verdict.state != "different"
            click.echo(f"{'pass' if good else 'FAIL'}  {record.run_id} {record.key.arm}: {verdict.state}")
            for line in verdict.lines:
                click.echo(f"        {line}")
            ok = ok and good
    for line in row(made, found.method, titles()):
        click.echo(line)
    click.echo("The bundle holds." if ok else "The bundle does not hold: see the lines with FAIL.")
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
