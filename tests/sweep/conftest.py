"""Whole sweeps through the command line, in this process (the runs themselves are child processes)."""

import json
from pathlib import Path

import pytest

from benchmark import cli
from benchmark.errors import BenchmarkError

HERE = Path(__file__).parent


class Result:
    def __init__(self, code, text):
        self.code, self.text = code, text


@pytest.fixture
def mpt(tmp_path, capsys, monkeypatch, tmp_path_factory):
    """Call the command line: ``mpt("run", ...)`` gives exit code and everything printed."""
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("MPTBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*words):
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


TINY = (
    "--suite", "smoke", "--dataset-file", HERE / "tiny.py", "--datasets", "tiny", "--set", "budget.epochs=2",
    "--set", "budget.batch_size=128",
)  # fmt: skip


def without_times(out):
    """All records of a tree by run id, without what may differ between two equal runs."""
    found = {}
    for path in sorted(Path(out).glob("runs/*/*/*/*/record.json")):
        record = json.loads(path.read_text())
        for key in ("seconds", "rows_per_second", "peak_memory_bytes"):
            record.pop(key)
        for epoch in record["curve"]:
            epoch.pop("train_seconds")
            epoch.pop("validate_seconds")
        for key in ("command", "started", "jobs", "commit", "dirty"):
            record["provenance"].pop(key)
        found[record["run_id"]] = record
    return found
