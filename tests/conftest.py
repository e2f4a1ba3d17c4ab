"""The command line as a fixture, called in this process (the runs themselves are child processes)."""

import sys

import pytest
import torch

from benchmark.cli import main as cli
from benchmark.core.errors import BenchmarkError
from benchmark.report.figures import arrays
from datasets_registry import DATASETS
from methods import METHODS

torch.set_num_threads(1)  # as every run of the harness; more threads only wait for each other on a shared machine


@pytest.fixture(autouse=True)
def registered():
    """What a test registers is gone after it: titles and names of one must not reach another in the same process."""
    known = [(registry, set(registry)) for registry in (METHODS, DATASETS)]
    modules = set(sys.modules)
    yield
    for registry, names in known:
        for name in set(registry) - names:
            del registry._entries[name]
    for module in set(sys.modules) - modules:
        if module.startswith("_mptbench_"):
            del sys.modules[module]


class Result:
    def __init__(self, code, text):
        self.code, self.text = code, text


@pytest.fixture
def mpt(tmp_path, capsys, monkeypatch, tmp_path_factory):
    """Call the command line: ``mpt("run", ...)`` gives exit code and everything printed.

    It draws figures, which takes longer than a small sweep, where a test asks for them by --figures.
    """
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("MPTBENCH_DATA", raising=False)
    monkeypatch.setattr(arrays, "MAXIMAL_POINTS", 40)  # the t-SNE of a full figure takes longer than a whole test
    monkeypatch.chdir(tmp_path)

    def call(*words):
        if words[:1] == ("run",) and "--figures" not in words:
            words = ("run", "--no-figures", *words[1:])
        try:
            code = cli.cli.main([str(word) for word in words], standalone_mode=False)
        except BenchmarkError as error:
            code = error.exit_code
            print(error)
        except cli.click.ClickException as error:
            code = 2
            print(error.format_message())
        output = capsys.readouterr()
        return Result(code if isinstance(code, int) else 0, output.out + output.err)

    return call
