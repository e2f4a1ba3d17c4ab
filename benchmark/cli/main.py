"""The command line. Commands import what they need when they run, so that listing and help answer at once."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from benchmark import __version__
from benchmark.core.errors import BenchmarkError, unknown_name, visible

INTERRUPTED = 130


COMMANDS = {
    "run": "run:run",
    "tune": "tune:tune",
    "list": "data:list_",
    "fetch": "data:fetch",
    "validate": "data:validate",
    "status": "results:status",
    "show": "results:show",
    "tables": "results:tables",
    "verify": "results:verify",
    "new-method": "extend:new_method",
    "check-method": "extend:check_method",
    "new-dataset": "extend:new_dataset",
    "check-dataset": "extend:check_dataset",
}
"""Where each command lives: ``module:function`` in this package. A module is imported when its command is asked for."""


class LazyGroup(click.Group):
    """Imports a command when it is asked for. ``run`` may be left out; a command that does not exist is answered with
    the nearest name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        return getattr(importlib.import_module(f"benchmark.cli.{module}"), function)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS:
            raise unknown_name("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


def main() -> None:
    """Entry point: errors of use end with one clear line and the right exit code, never with a traceback."""
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BenchmarkError as error:
        click.echo(f"Error: {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. Start the same command again to go on.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output (head, less) has gone: not our error
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        click.echo(f"Error: {error.filename}: {error.strerror}. --out DIR names another result tree.", err=True)
        sys.exit(1)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mpt-bench")
def cli() -> None:
    """MPT-Bench: what does a new task cost the old ones, what does it gain, and at what price?

    Without a command, 'run' is meant: 'run_all.py --suite quick' is 'run_all.py run --suite quick'.
    """
