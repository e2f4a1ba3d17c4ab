"""The command line: which commands there are, and how their errors end. A command's module is imported when the command
is asked for, so that help, completion and listing answer at once."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click
from click.shell_completion import CompletionItem

from benchmark import __version__
from benchmark.core.errors import BenchmarkError, UsageError, unknown_name, visible

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Entry(NamedTuple):
    """Where a command lives (``module:function`` in this package), and its docstring's first sentence."""

    place: str
    help: str


COMMANDS = {
    "run": Entry("run:run", "Run a suite (default: paper), then build and print its tables."),
    "tune": Entry("run:tune", "Search good configs with the same number of trials for every method."),
    "list": Entry("data:list_", "List methods, datasets or suites."),
    "fetch": Entry("data:fetch", "Get a dataset's raw files, encode them, and check every byte of what is encoded."),
    "validate": Entry("data:validate", "Check every row of a dataset's raw files."),
    "describe": Entry(
        "data:describe", "Say what a dataset is: its card, with its counted numbers where it was fetched."
    ),
    "export": Entry("data:export", "Write a dataset's splits as Parquet files, encoded as models get them."),
    "status": Entry("results:status", "What a result tree holds, what failed and what is left."),
    "show": Entry("results:show", "One run's record, readable."),
    "tables": Entry("results:tables", "Rebuild all tables and figures from the records alone."),
    "merge": Entry("merge:merge", "Join result trees of several machines into one."),
    "pack": Entry("pack:pack", "Put all records of result trees into one small file each."),
    "unpack": Entry("pack:unpack", "Put the records of packed result trees back into one file per run."),
    "verify": Entry("results:verify", "Run a recorded run again and compare."),
    "certify": Entry("certify:certify", "Show that a change of code changed no result."),
    "advise": Entry("advise:advise", "Advise how to take a new task in: minutes of runs, then an answer."),
    "compare": Entry("compare:compare", "Set your records beside the reference results; nothing is run."),
    "report": Entry("page:report", "Write one HTML page of a result tree: findings, leaderboard, every run."),
    "export-artefact": Entry(
        "artefact:export_artefact", "Write code, records, tables and report into one anonymised archive."
    ),
    "check-bundle": Entry("artefact:check_bundle", "Check somebody's bundle of a method and its records."),
    "docs": Entry("artefact:docs", "Say where the pages of documentation are, or print one."),
    "new-method": Entry("extend:new_method", "Write a runnable method file and its test, to be changed into yours."),
    "check-method": Entry("extend:check_method", "Run the conformance kit on a method."),
    "new-dataset": Entry("extend:new_dataset", "Write a dataset file and its manifest, ready to be filled in."),
    "check-dataset": Entry("extend:check_dataset", "Run the conformance kit on a dataset."),
    "completion": Entry("completion:completion", "Print what makes a shell complete commands, options and names."),
}


class LazyGroup(click.Group):
    """Imports a command when it is asked for. ``run`` may be left out; a command that does not exist is answered with
    the nearest name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"benchmark.cli.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):  # no command yet: then 'run' is meant
            run = self.get_command(ctx, "run")
            assert run is not None
            with run.make_context("run", [], parent=ctx, resilient_parsing=True) as inner:
                return run.shell_complete(inner, incomplete)
        found = [name for name in COMMANDS if name.startswith(incomplete)]
        return [CompletionItem(name, help=COMMANDS[name].help) for name in found]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # a shell completes
            return super().parse_args(ctx, ["run", *args] if args and args[0].startswith("-") else args)
        _refuse_empty(args)
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise unknown_name("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


def _refuse_empty(args: list[str]) -> None:
    """Raises UsageError for an empty argument: an unset variable of a shell would otherwise mean everything."""
    for before, argument in zip(["", *args], args, strict=False):
        option, equals, value = argument.partition("=")
        name = (
            option if option.startswith("--") and equals and not value.strip() else "" if argument.strip() else before
        )
        if name or not argument.strip():
            raise UsageError(
                f"{name if name.startswith('-') else 'An argument'} is empty (an unset shell variable?). "
                "Leave it out for the default, or give it a value."
            )


def main() -> None:
    """Entry point: errors of use end with one clear line and the right exit code, never with a traceback."""
    for name in ("stdin", "stdout", "stderr"):  # closed by who started us, as daemons do
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows ASCII only gets escapes instead of an error
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False)
        _leave(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BenchmarkError as error:
        click.echo(f"Error: {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. Start the same command again to go on.", err=True)
        _leave(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output (head, less) has gone: not our error
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except OSError as error:
        if error.filename is None and error.errno not in NO_ROOM:
            raise
        if error.filename is None:
            click.echo(f"Error: {error.strerror}: nothing that was there is lost. Make room and start again.", err=True)
            sys.exit(1)
        click.echo(f"Error: {visible(str(error.filename))}: {error.strerror}. {_advice(error.filename)}", err=True)
        sys.exit(1)


def _leave(code: int) -> NoReturn:
    """End; whoever has pressed Ctrl-C may do it once more without a traceback of some library's clean-up."""
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _advice(filename: Any) -> str:
    """What to type after a file could not be used: the option that moves the directory it lies in."""
    from datasets_registry.raw.paths import cache_root  # only after an error

    file, cache = Path(os.path.abspath(os.fsdecode(filename))), Path(os.path.abspath(cache_root()))
    if file == cache or cache in file.parents or file in cache.parents:
        return f"The cache is {cache}; the variable MPTBENCH_CACHE names another."
    return "--out DIR names another result tree."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mpt-bench")
def cli() -> None:
    """MPT-Bench: what does a new task cost the old ones, what does it gain, and at what price?

    Without a command, 'run' is meant: 'run_all.py --suite quick' is 'run_all.py run --suite quick'.
    """
