"""Two suites in one result tree: told, for the later one's margin holds for all tables."""

from benchmark.cli.trees import other_suite, remember_suite
from benchmark.planning.suite import load_suite


def test_another_suites_tree_is_told_and_a_damaged_file_is_none(tmp_path):
    smoke, quick = load_suite("smoke"), load_suite("quick")
    assert other_suite(tmp_path, quick) is None
    remember_suite(tmp_path, smoke)
    assert other_suite(tmp_path, smoke) is None
    assert "'smoke'" in other_suite(tmp_path, quick) and "--out DIR" in other_suite(tmp_path, quick)
    (tmp_path / "suite.json").write_text("[" * 100_000)
    assert other_suite(tmp_path, quick) is None
