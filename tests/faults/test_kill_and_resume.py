"""Two kills at random moments; the script beside this file does a hundred."""

from tests.faults.kill_and_resume import torture


def test_a_killed_sweep_goes_on_and_ends_with_the_same_records_and_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path / "cache"))
    counts = torture(kills=2, seed=0, scratch=tmp_path)
    assert counts.tried == 2 and not counts.lost, str(counts)
