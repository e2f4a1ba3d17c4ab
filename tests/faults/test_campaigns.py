"""Short versions of the campaigns beside this file."""

from tests.faults.attacks import BUNDLED, FORGED, GROUPS, MERGED, attacks
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


def test_forged_records_and_hostile_trees_are_held(tmp_path, monkeypatch):
    """All of `verify`, most of `merge` and few bundles; the others are the campaign's."""
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path / "cache"))
    merged = {name: attack for name, attack in MERGED.items() if not name.startswith("a forged")}
    quick = {name: attack for name, attack in BUNDLED.items() if name in AT_ONCE}
    counted = list(attacks(GROUPS | {"merge": merged, "check-bundle": quick}, tmp_path))
    assert [counts.tried for counts in counted] == [len(FORGED), len(merged), len(AT_ONCE)]
    assert not any(counts.lost for counts in counted), "\n".join(map(str, counted))


AT_ONCE = {
    "the file is a link", "the file lies elsewhere", "the file's name is endless", "deep TOML",
    "a suite that lies elsewhere", "a description that is a pipe", "the file ends the process",
}  # fmt: skip
