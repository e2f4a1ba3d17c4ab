"""What makes a record stale: its method, the core, its data. What does not: comments, docstrings, reporting."""

import ast
import shutil

import pytest

from benchmark.cli import trees
from benchmark.core import programs
from benchmark.execution.executor import keeps
from benchmark.records import freshness
from benchmark.records import provenance as environment
from benchmark.records.freshness import Freshness
from benchmark.records.record import run_directory, write_record
from benchmark.records.tree import read_records
from datasets_registry import find, prepare
from datasets_registry.fingerprint import data_code
from tests.sweep.trees import HERE

METHOD = programs.ROOT / "methods/shared_bottom.py"
CORE = programs.ROOT / "benchmark/training/trainer.py"
COMMENT = "# of no consequence\n"


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Two methods' records as the present code would write them, and data in a cache of its own."""
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path / "cache"))
    freshness._method_file.cache_clear()
    found = []
    data = prepare("synthetic")
    for record in read_records(HERE / "reference")[0]:
        record.key.dataset = "synthetic"
        record.provenance.data_fingerprint = data.fingerprint
        record.provenance.data_code = data_code(data.dataset)
        record.provenance.code_fingerprint = environment.code_fingerprint(
            freshness._method_file(record.key.method), record.key
        )
        found.append(record)
    assert [record.key.method for record in found] == ["mpt_rec", "shared_bottom"]
    return found


def edit(monkeypatch, tmp_path, path, change):
    """As if ``path`` had been edited: the copy with the change is read in its place."""
    copy = tmp_path / path.name
    text = change(path.read_text())
    ast.parse(text)
    copy.write_text(text)
    real = programs.program_hash
    monkeypatch.setattr(programs, "program_hash", lambda p: real(copy if p == path else p))


def stale(records):
    return [record.key.method for record in records if Freshness().is_stale(record)]


def add_statement(text):
    return text + "\nEDITED = 1\n"


def add_text(text):
    first = text.index('"""')
    return COMMENT + text[:first] + '"""Other words. ' + text[first + 3 :] + COMMENT


def test_nothing_is_stale_without_a_change(records):
    assert stale(records) == []


@pytest.mark.parametrize("path", [METHOD, CORE, programs.ROOT / "datasets_registry/synthetic.py"], ids=lambda p: p.name)
def test_comments_and_docstrings_make_nothing_stale(records, monkeypatch, tmp_path, path):
    edit(monkeypatch, tmp_path, path, add_text)
    assert stale(records) == []


@pytest.mark.parametrize("name", ["benchmark/report/tables.py", "benchmark/report/writers.py", "benchmark/cli/main.py"])
def test_a_table_writer_makes_nothing_stale(records, monkeypatch, tmp_path, name):
    edit(monkeypatch, tmp_path, programs.ROOT / name, add_statement)
    assert stale(records) == []


def test_a_method_makes_its_own_records_stale_and_no_others(records, monkeypatch, tmp_path):
    edit(monkeypatch, tmp_path, METHOD, add_statement)
    assert stale(records) == ["shared_bottom"]


def test_a_helper_belongs_to_the_methods_that_import_it(records, monkeypatch, tmp_path):
    records[1].key.method = "cs_rec"
    fingerprint = environment.code_fingerprint(freshness._method_file("cs_rec"), records[1].key)
    records[1].provenance.code_fingerprint = fingerprint
    edit(monkeypatch, tmp_path, programs.ROOT / "methods/masks.py", add_statement)
    assert stale(records) == ["cs_rec"]


def test_the_core_makes_all_records_stale(records, monkeypatch, tmp_path):
    edit(monkeypatch, tmp_path, CORE, add_statement)
    assert stale(records) == ["mpt_rec", "shared_bottom"]


def test_other_data_makes_records_stale_and_the_same_data_of_other_code_does_not(records, monkeypatch, tmp_path):
    edit(monkeypatch, tmp_path, programs.ROOT / "datasets_registry/synthetic.py", add_statement)
    assert "run_all.py fetch synthetic" in Freshness().why_stale(records[0])
    prepare("synthetic")  # the other code makes the same arrays
    assert stale(records) == []
    records[0].provenance.data_fingerprint = "0" * 32
    assert stale(records) == ["mpt_rec"]
    assert "data" in Freshness().why_stale(records[0])


def test_code_of_a_dataset_that_is_not_encoded_with_it_yet_makes_records_stale(records, monkeypatch, tmp_path):
    shutil.rmtree(tmp_path / "cache")
    assert stale(records) == []
    edit(monkeypatch, tmp_path, programs.ROOT / "datasets_registry/encoding/encode.py", add_statement)
    assert stale(records) == ["mpt_rec", "shared_bottom"]
    assert "run_all.py fetch synthetic" in Freshness().why_stale(records[0])
    for record in records:  # written before this was kept
        record.provenance.data_code = None
    assert stale(records) == []


def test_stale_records_are_run_again_when_asked_and_shown_by_status_and_tables(records, tmp_path):
    records[1].provenance.data_fingerprint = "0" * 32
    is_stale = Freshness().is_stale
    assert [keeps("rerun-stale", record, is_stale) for record in records] == [True, False]
    assert all(keeps("fill", record, is_stale) for record in records)
    for record in records:
        record.run_id = listing_id(record)
        write_record(run_directory(tmp_path / "out", record.key), record)
    assert len(trees.status_of(tmp_path / "out")["stale"]) == 1
    assert list(trees.report_options(tmp_path / "out")["stale"]) == [records[1].run_id]


def listing_id(record):
    from benchmark.records.record import run_id

    return run_id(record.key)


def test_a_method_or_dataset_that_nobody_knows_is_not_judged(records):
    records[0].key.dataset = records[1].key.method = "from_a_file_of_mine"
    records[0].provenance.data_fingerprint = "0" * 32
    assert stale(records) == []
    assert find("synthetic").name == "synthetic"
