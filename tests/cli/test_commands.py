"""The command line before any command works: help, completion, start-up, arguments that mean nothing."""

import os
import shutil
import subprocess
import sys
from dataclasses import fields

import click
import pytest

from benchmark.cli.main import COMMANDS, cli
from benchmark.cli.options import Request, common, data_option, figures_option, plugin_files, selection

HEAVY = ("torch", "numpy", "pandas", "pyarrow", "scipy", "matplotlib", "datasets", "optuna")


def command(name):
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_help_is_the_docstring_s_first_sentence(name):
    assert " ".join(command(name).help.split("\n\n")[0].split()) == COMMANDS[name].help
    assert command(name).name == name


def test_help_completion_and_listings_load_nothing_heavy():
    calls = [["--help"], *([name, "--help"] for name in COMMANDS), ["completion", "zsh"], ["list", "suites"]]
    program = f"""
import sys
from benchmark.cli.main import cli
for words in {calls!r}:
    cli.main(words, standalone_mode=False)
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (words, loaded)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def completed(line):
    """What bash is offered for the last word of ``line``."""
    words = line.split(" ")
    environment = {
        **os.environ, "_MPT_BENCH_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    program = "import sys; sys.argv = ['mpt-bench']; from benchmark.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return [offer.partition(",")[2] for offer in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "line, offered",
    [
        ("mpt-bench ", {"run", "list", "check-method"}),
        ("mpt-bench --da", {"--datasets", "--data-dir", "--dataset-file"}),
        ("mpt-bench --methods mmoe,mp", {"mmoe,mpt_rec"}),
        ("mpt-bench run --suite s", {"smoke"}),
        ("mpt-bench fetch census", {"census_income"}),
        ("mpt-bench list m", {"methods"}),
    ],
)
def test_a_shell_is_offered_commands_options_and_names(line, offered):
    assert offered <= set(completed(line))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell, mpt):
    result = mpt("completion", shell)
    assert result.code == 0 and "_MPT_BENCH_COMPLETE" in result.text and "mpt-bench" in result.text


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here (Debian: apt-get install fish)")
def test_fish_completes_the_second_of_several_names(mpt, tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mpt-bench"
    program.write_text(f"#!{sys.executable}\nfrom benchmark.cli.main import main\nmain()\n")
    program.chmod(0o755)
    (tmp_path / "script").write_text(mpt("completion", "fish").text)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    words = ["fish", "--no-config", "-c", f"source {tmp_path}/script; complete -C 'mpt-bench --methods mmoe,mpt'"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.split() == ["mmoe,mpt_rec"], done.stderr


@pytest.mark.parametrize("words", [["--methods", ""], ["--methods="], ["run", "--datasets", " "], ["--out", ""], [""]])
def test_an_empty_argument_is_refused_and_named(words, mpt):
    result = mpt(*words, "--dry-run")
    assert result.code == 2 and "empty" in result.text
    assert (words[0].rstrip("=") if words[0].startswith("--") else "") in result.text


@pytest.mark.parametrize("words", [["--methods", "mmoe,,ple"], ["--arms", ","]])
def test_an_empty_name_in_a_list_is_refused(words, mpt):
    result = mpt(*words, "--dry-run")
    assert result.code == 2 and "empty name" in result.text


def test_the_request_has_a_field_for_every_option_that_makes_one():
    @click.command()
    @common
    @selection
    @data_option
    @plugin_files
    @figures_option
    def collecting(**_):
        pass

    collected = {option.name for option in collecting.params if option.expose_value}
    assert collected == {field.name for field in fields(Request)}


@pytest.mark.parametrize("device", ["gpu", "cudda", "cuda:99"])
def test_a_dry_run_refuses_a_device_that_the_run_would_refuse(device, mpt):
    result = mpt("--suite", "smoke", "--device", device, "--dry-run")
    assert result.code == 2 and device.partition(":")[0] in result.text
