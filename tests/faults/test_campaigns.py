"""Short versions of the campaigns beside this file."""

from tests.faults.files import spoil
from tests.faults.methods import misbehave


def test_methods_that_go_wrong_cost_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path / "cache"))
    counts = misbehave(
        ["leaves_daemons", "vanishes", "endless_message", "is_terminated_once", "predicts_nan", "more_threads",
         "other_numbers"], tmp_path
    )  # fmt: skip
    assert counts.tried == 7 and not counts.lost, str(counts)


def test_spoilt_files_are_reported_and_never_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path / "cache"))
    counts = spoil(faults=40, seed=1, scratch=tmp_path, sweeps=0)
    assert counts.tried == 40 and not counts.lost, str(counts)
