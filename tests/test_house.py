"""The house stands as docs/architecture.md draws it: arrows between rooms go one way; linters have nothing to say."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("benchmark", "methods", "datasets_registry")
FLOORS = (
    {"benchmark.core"},
    {"datasets_registry.schema"},
    {"datasets_registry"},
    {"methods"},
    {"benchmark.spec"},
    {"benchmark.records"},
    {"benchmark.training", "benchmark.analysis"},
    {"benchmark.report"},
    {"benchmark.planning", "benchmark.kit"},
    {"benchmark.execution"},
    {"benchmark.tuning"},
    {"benchmark.cli"},
)
"""From the ground up. A room may import its own modules and rooms on lower floors."""
FREE = {"datasets_registry": {"benchmark.core"}, "methods": {"benchmark.core", "datasets_registry.schema"}}
"""What plug-ins may import beside their own package."""


def modules():
    """Every module of the packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "templates" not in parts:
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path):
    """Modules of ours that a file imports, anywhere in it, for annotations alone, too."""
    found = set()

    def visit(node):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(name if name in MODULES else node.module for name in names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if name in MODULES}


def room(module):
    """The room a module lies in: a folder of benchmark/, or a package of plug-ins."""
    if module == "datasets_registry.schema":
        return module
    first, *rest = module.split(".")
    return f"{first}.{rest[0]}" if first == "benchmark" and rest else first


def floor(module):
    return next((number for number, rooms in enumerate(FLOORS) if room(module) in rooms), None)


def test_every_module_lies_in_a_room_that_has_a_floor():
    known = {name for name in MODULES if floor(name) is not None}
    assert set(MODULES) - known <= {"benchmark", "benchmark.__main__", "benchmark.api"}


@pytest.mark.parametrize("module", [name for name in sorted(MODULES) if floor(name) is not None])
def test_arrows_go_down(module):
    wrong = [
        other
        for other in imports(MODULES[module])
        if room(other) != room(module) and other != "benchmark" and floor(other) >= floor(module)
    ]
    assert not wrong, f"{module} ({room(module)}) imports {', '.join(wrong)}: a room on the same or a higher floor"


@pytest.mark.parametrize("package", FREE)
def test_plug_ins_know_the_core_alone(package):
    for module, path in MODULES.items():
        if module.split(".")[0] == package:
            others = {room(other) for other in imports(path)} - {package} - FREE[package]
            assert not others - {"datasets_registry.schema"}, f"{module} imports {', '.join(sorted(others))}"


CATALOGUES = {"datasets_registry.catalogue": "datasets_registry.base", "methods": "methods.base"}
"""Imports that are left out below: a catalogue names, for the type checker alone, the type of what it holds."""


def test_no_module_imports_itself_on_a_detour():
    """Imports for annotations counted in: what needs another's types is not apart from it either."""
    arrows = {name: imports(path) - {name} for name, path in MODULES.items()}
    for catalogue, held in CATALOGUES.items():
        assert f"TYPE_CHECKING:\n    from {held} import" in MODULES[catalogue].read_text()
        arrows[catalogue] -= {held}
    done, path = set(), []

    def visit(name):
        if name in path:
            raise AssertionError(" -> ".join([*path[path.index(name) :], name]))
        if name not in done:
            path.append(name)
            for other in sorted(arrows[name]):
                visit(other)
            done.add(path.pop())

    for name in MODULES:
        visit(name)


def test_reading_records_and_building_tables_loads_no_torch():
    program = "import sys, benchmark.report, benchmark.records.record; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="ruff is not installed: pip install -e .[test]")
@pytest.mark.parametrize("words", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_has_nothing_to_say(words):
    done = subprocess.run([sys.executable, "-m", "ruff", *words, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_the_pages_on_the_house_name_exists(name):
    places = (ROOT, ROOT / "benchmark", ROOT / "benchmark/training", ROOT / "datasets_registry")
    for named in re.findall(r"`([a-z_./]+(?:\.(?:py|toml|md|lock)|/))`", (ROOT / name).read_text(encoding="utf-8")):
        assert any((place / named).exists() for place in places), f"{name}: no {named}"


def test_mypy_has_nothing_to_say():
    pytest.importorskip("mypy", reason="mypy is not installed: pip install -e .[test]")
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


LINES, PARAMETERS = 60, 7
"""A function's lines beside its docstring, and its parameters beside self, that are still read at one glance."""
LONGER = {
    "efficiency": "a table's columns, a line each",
    "new_task": "a table's columns, a line each",
    "latex": "a table from its head to its foot",
    "encode": "the steps of encoding in their order",
    "_write": "one pass over the rows, which fills every array",
}
WIDER = {
    "run": "the options of the command, as keywords for notebooks",
    "tables": "the options of the command",
    "advise": "the options of the command",
    "certify": "the options of the command",
    "of": "the options of the command",
    "_row": "the cells of a row",
    "_prepare": "where files are and who is told of the progress",
    "register_method": "a declaration, by keywords",
}


def functions():
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield node, f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_functions_are_short_and_have_few_parameters():
    seen = set()
    for node, where in functions():
        text = node.body[0] if ast.get_docstring(node) is not None else None
        lines = node.end_lineno - node.lineno + 1 - (text.end_lineno - text.lineno + 1 if text else 0)
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        wide = len(set(names) - {"self", "cls"}) > PARAMETERS
        assert lines <= LINES or node.name in LONGER, f"{where}: {lines} lines"
        assert not wide or node.name in WIDER, f"{where}: {len(names)} parameters"
        seen |= {node.name} if lines > LINES or wide else set()
    assert seen == {*LONGER, *WIDER}, "exceptions that none needs any more"
