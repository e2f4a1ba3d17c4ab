"""Some hundred hostile files for every reader; `tests.faults.fuzz` tries a hundred thousand."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.faults import fuzz


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def readers(scratch):
    return fuzz.readers(scratch)


NAMES = (
    "schema file", "suite file", "suite file, planned", "run record", "packed records",
    "lines of packed records", "CSV", "CSV, validated", "Ali-CCP skeleton",
    "Ali-CCP skeleton, validated", "Ali-CCP common features", "arrays beside a record",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_is_read_or_refused_by_name(name, readers, scratch):
    assert set(readers) == set(NAMES)
    reader = readers[name]
    read = []

    @settings(max_examples=100, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(fuzz.hostile(reader.valid))
    def attempt(content):
        read.append(fuzz.attempt(reader, scratch / reader.file, content))

    attempt()
    # A suite of "all" methods is spread out by the command line before it is planned.
    accepted = [fuzz.attempt(reader, scratch / reader.file, content) for content in reader.valid]
    assert any(accepted) if name == "suite file, planned" else all(accepted)
    assert len(read) >= 100
