"""The command completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from benchmark.cli.main import cli

PROGRAM = "mpt-bench"
VARIABLE = "_MPT_BENCH_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options and names.

    It holds for the installed program, mpt-bench (pip install -e .). For this shell, bash or zsh:
    eval "$(mpt-bench completion bash)"; fish: mpt-bench completion fish | source. To keep it, put that line into
    ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.
    """
    found = get_completion_class(shell)
    assert found is not None
    script = found(cli, {}, PROGRAM, VARIABLE).source()
    if shell == "fish":  # an offer may hold commas itself: --methods mmoe,mpt_rec
        script = script.replace('string split ","', 'string split --max 1 ","')
    click.echo(script)
