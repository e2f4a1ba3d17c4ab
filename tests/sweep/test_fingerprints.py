"""No fingerprint forgets: what can change a number or an array changes a fingerprint, what cannot changes none."""

import ast
from pathlib import Path

import pytest

from benchmark.core import programs
from benchmark.core.programs import ROOT, folder
from benchmark.records import provenance
from benchmark.records.record import read_records
from datasets_registry import find
from datasets_registry import fingerprint as data_fingerprint
from methods import METHODS, declared
from tests.sweep.trees import HERE

RECORD = read_records(HERE / "reference")[0][1]
TRAINING = [*folder(ROOT / "benchmark/training"), ROOT / "benchmark/core/seeding.py"]
ENCODING = [*folder(ROOT / "datasets_registry/encoding"), ROOT / "benchmark/core/seeding.py"]
HOLD_NO_ARITHMETIC = {
    "benchmark/core/errors.py",
    "benchmark/core/files.py",
    "benchmark/core/registry.py",
    "benchmark/records/record.py",
}
"""What the hashed code imports and is not hashed: errors, files, the record's fields."""


def code(name="shared_bottom"):
    return provenance.code_fingerprint(METHODS.file(name), RECORD.key)


def data(name="synthetic"):
    return data_fingerprint.data_code(find(name))


def edit(monkeypatch, path, tree):
    """As if ``path`` held another program."""
    real, edited = programs.program_hash, programs.tree_hash(tree)
    monkeypatch.setattr(programs, "program_hash", lambda asked: edited if asked == path else real(asked))


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", [*TRAINING, ROOT / "methods/base.py"], ids=lambda p: p.name)
def test_every_function_of_training_is_in_a_runs_fingerprint(monkeypatch, path):
    unnoticed(monkeypatch, path, code)


@pytest.mark.parametrize("path", ENCODING, ids=lambda p: p.name)
def test_every_function_of_encoding_is_in_a_datasets_fingerprint(monkeypatch, path):
    unnoticed(monkeypatch, path, data)


def unnoticed(monkeypatch, path, fingerprint):
    """Change the program of each function in turn; each change has to change the fingerprint."""
    before = fingerprint()
    for place in range(len(functions(ast.parse(path.read_text())))):
        tree = ast.parse(path.read_text())
        function = functions(tree)[place]
        function.body.insert(0, ast.parse("edited = 1").body[0])
        with monkeypatch.context() as patch:
            edit(patch, path, tree)
            assert fingerprint() != before, f"{path.name}: {function.name}"


@pytest.mark.parametrize(
    "path, text, other",
    [
        ("datasets_registry/encoding/store.py", "draw >= self._hidden", "draw < self._hidden"),
        (
            "datasets_registry/encoding/store.py",
            "np.array(schema.offsets, np.int32)",
            "1 + np.array(schema.offsets, np.int32)",
        ),
        ("benchmark/training/backend.py", "set_flush_denormal(True)", "set_flush_denormal(False)"),
    ],
    ids=["hidden labels inverted", "offsets shifted by one", "denormals not flushed"],
)
def test_what_once_went_unnoticed_changes_a_runs_fingerprint(monkeypatch, path, text, other):
    before, source = code(), (ROOT / path).read_text()
    assert source.count(text) == 1
    edit(monkeypatch, ROOT / path, ast.parse(source.replace(text, other)))
    assert code() != before


@pytest.mark.parametrize(
    "path",
    [
        "report/tables.py",
        "report/stats.py",
        "cli/main.py",
        "planning/plan.py",
        "execution/executor.py",
        "kit/__init__.py",
    ],
)
def test_reporting_planning_and_the_command_line_change_no_fingerprint(monkeypatch, path):
    file = ROOT / "benchmark" / path
    before = code(), data()
    edit(monkeypatch, file, ast.parse(file.read_text() + "\nEDITED = 1\n"))
    assert (code(), data()) == before


def test_what_the_hashed_code_imports_is_hashed_or_holds_no_arithmetic():
    """So that arithmetic which moves elsewhere is noticed."""
    hashed = set(provenance.code_files(METHODS.file("shared_bottom")))
    reached = programs.with_imports(hashed, "benchmark", "datasets_registry", "methods")
    assert {str(path.relative_to(ROOT)) for path in set(reached) - hashed} <= HOLD_NO_ARITHMETIC


@pytest.mark.parametrize("info", declared(), ids=lambda info: info.name)
def test_a_methods_fingerprint_covers_all_of_the_package_that_it_imports(info):
    covered = provenance.code_files(info.file)
    assert Path(info.file) in covered and ROOT / "methods/base.py" in covered
    assert set(programs.with_imports([Path(info.file)], "methods")) <= set(covered)


def test_comments_docstrings_and_layout_change_no_fingerprint(monkeypatch):
    file = ROOT / "benchmark/training/trainer.py"
    before = code()
    edit(monkeypatch, file, ast.parse(ast.unparse(ast.parse(file.read_text())) + "\n# of no consequence\n"))
    assert code() == before


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("def f(x: int) -> str:\n    y: str = x\n    return y", "def f(x):\n    y = x\n    return y"),
        ("from typing import Any\nx = 1", "x = 1"),
        ("if TYPE_CHECKING:\n    import a", "if TYPE_CHECKING:\n    import b"),
        ("def f():\n    'What it does.'\n    return 1", "def f():\n    return 1  # one"),
    ],
)
def test_types_and_texts_are_not_the_program(text, other):
    assert programs.tree_hash(ast.parse(text)) == programs.tree_hash(ast.parse(other))


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("class Config:\n    x: int = 1", "class Config:\n    x: float = 1"),  # what a config accepts is in its types
        ("class Config:\n    x: int", "class Config:\n    y: int"),
        ("x = 1", "x = True"),
        ("x = 0.0", "x = -0.0"),
        ("x = {**a}", "x = {a: a}"),
        ("f(None)", "f()"),
        ("def f(*, a=1, b): ...", "def f(*, a, b=1): ..."),
        ("x = a if b else c", "x = c if b else a"),
    ],
)
def test_small_differences_are_another_program(text, other):
    assert programs.tree_hash(ast.parse(text)) != programs.tree_hash(ast.parse(other))


def test_fingerprints_are_the_same_on_every_version_of_python():
    """Versions differ in which empty fields a tree has: as if this one had those of the next."""
    tree = ast.parse("class A:\n    def f(self, x: int = 1) -> None:\n        return None")
    before = programs.tree_hash(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node._fields = (*node._fields, "type_params")
            node.type_params = []
    assert programs.tree_hash(tree) == before
