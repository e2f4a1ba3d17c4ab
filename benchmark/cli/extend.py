"""Commands for people who add a method or a dataset."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.cli.options import data_option
from benchmark.core.errors import visible
from benchmark.kit import check_dataset as kit
from benchmark.kit import skeletons
from methods import METHODS


@click.command("new-method")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where to write it.")
def new_method(name: str, directory: Path) -> None:
    """Write a runnable method file and its test, to be changed into yours."""
    file, test = skeletons.new_method(name, directory)
    click.echo(f"{file}\n{test}")
    click.echo(f"Try it: python run_all.py --suite smoke --method-file {file} --methods {name}")


@click.command("check-method")
@click.argument("target")
@click.option("--quick", is_flag=True, help="Only the checks that need next to no training: some seconds.")
def check_method(target: str, quick: bool) -> int:
    """Run the conformance kit on a method.

    TARGET is a name, or a .py file of yours.
    """
    from benchmark.kit.check_method import checks  # it imports torch

    names = METHODS.load_file(target) if target.endswith(".py") else [target]
    failed = 0
    for name in names:
        click.echo(name)
        for result in checks(METHODS.get(name), quick):
            mark = {True: "pass", False: "FAIL", None: "n/a "}[result.passed]
            click.echo(visible(f"  {mark}  {result.name}{': ' + result.reason if result.reason else ''}"))
            if result.passed is False:
                click.echo(f"        hint: {result.hint}")
                failed += 1
    return 1 if failed else 0


@click.command("new-dataset")
@click.argument("name")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where to write it.")
def new_dataset(name: str, directory: Path) -> None:
    """Write a dataset file and its manifest, ready to be filled in."""
    for path in skeletons.new_dataset(name, directory):
        click.echo(path)


@click.command("check-dataset")
@click.argument("target")
@data_option
def check_dataset(target: str, data_dir: Path | None) -> int:
    """Run the conformance kit on a dataset.

    TARGET is a name, or a .py or .toml file of yours.
    """
    findings = kit.check_dataset(target, data_dir=data_dir)
    for found in findings:
        mark = "pass" if found.ok else "warn" if found.warning else "FAIL"
        click.echo(visible(f"{mark}  {found.check}{': ' + found.message if found.message else ''}"))
    return 1 if any(not found.ok and not found.warning for found in findings) else 0
