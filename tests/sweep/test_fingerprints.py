"""No fingerprint forgets: what can change a number or an array changes a fingerprint, what cannot changes none."""

import ast
from pathlib import Path

import pytest

from benchmark.core import programs
from benchmark.core.programs import ROOT, folder
from benchmark.records import provenance
from benchmark.records.tree import read_records
from datasets_registry import find
from datasets_registry import fingerprint as data_fingerprint
from methods import METHODS, declared
from tests.sweep.trees import HERE

RECORD = read_records(HERE / "reference")[0][1]
TRAINING = sorted({*folder(ROOT / "benchmark/training"), *provenance.HASHED})
ENCODING = [*folder(ROOT / "datasets_registry/encoding"), ROOT / "benchmark/core/seeding.py"]
HOLD_NO_ARITHMETIC = {
    "benchmark/core/canonical.py",
    "benchmark/core/errors.py",
    "benchmark/core/files.py",
    "benchmark/core/registry.py",
    "benchmark/core/steps.py",
    "benchmark/records/record.py",
}
"""What the hashed code imports and is not hashed: names of records, errors, files, words on progress, fields."""
ONLY_SHOW_AND_STEER = ("cli", "report", "planning", "kit", "tuning", "execution")
"""Rooms whose code decides what is run and what is shown, and no number of a run."""


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


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TRAINING, ids=named)
def test_every_function_of_training_is_in_a_runs_fingerprint(monkeypatch, path):
    unnoticed(monkeypatch, path, code)


@pytest.mark.parametrize("path", ENCODING, ids=named)
def test_every_function_of_encoding_is_in_a_datasets_fingerprint(monkeypatch, path):
    unnoticed(monkeypatch, path, data)


@pytest.mark.parametrize("info", declared(), ids=lambda info: info.name)
def test_every_function_of_a_method_is_in_its_runs_fingerprint(monkeypatch, info):
    unnoticed(monkeypatch, Path(info.file), lambda: code(info.name))


def unnoticed(monkeypatch, path, fingerprint):
    """Change the program of each function in turn, by a statement more and by its last one less; each change has to
    change the fingerprint."""
    before = fingerprint()
    tree = ast.parse(path.read_text())
    for function in functions(tree):
        body = function.body
        for function.body in ([*ast.parse("edited = 1").body, *body], [*body[:-1], *ast.parse("edited = 1").body]):
            with monkeypatch.context() as patch:
                edit(patch, path, tree)
                assert fingerprint() != before, f"{named(path)}: {function.name}"
        function.body = body


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


@pytest.mark.parametrize("room", ONLY_SHOW_AND_STEER)
def test_what_shows_and_steers_changes_no_fingerprint(monkeypatch, room):
    before = code(), data()
    for file in folder(ROOT / "benchmark" / room):
        with monkeypatch.context() as patch:
            edit(patch, file, ast.parse(file.read_text() + "\nEDITED = 1\n"))
            assert (code(), data()) == before, named(file)


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
