"""Fixtures: the shared real files where they are, and the Census-Income arrays made from them once."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def own_places(monkeypatch, tmp_path):
    """No test reads or fills the user's cache or data directory."""
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MPTBENCH_DATA", raising=False)


@pytest.fixture(scope="session")
def shared():
    """Directory with the real raw files; skips where it is absent."""

    def directory(name):
        if not (SHARED / name).is_dir():
            pytest.skip(f"no real files at {SHARED / name}")
        return SHARED / name

    return directory


@pytest.fixture(scope="session")
def census(shared, tmp_path_factory):
    from datasets_registry import prepare

    return prepare("census_income", data_dir=shared("census-income-kdd"), cache_dir=tmp_path_factory.mktemp("census"))
