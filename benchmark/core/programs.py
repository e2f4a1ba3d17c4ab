"""What a file's program is, comments and layout aside, and which modules it imports: the stuff of fingerprints."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def folder(path: Path) -> tuple[Path, ...]:
    """Every program of a folder and the folders in it."""
    return tuple(sorted(path.rglob("*.py")))


@functools.cache
def program_hash(path: Path) -> str:
    """Hash of a file as a parsed program: comments, docstrings and layout do not count."""
    return tree_hash(_parsed(path))


def tree_hash(tree: ast.Module) -> str:
    """Hash of a parsed program without its docstrings and the types of its functions and variables.

    The types in the body of a class stay: they make the fields of a config. The same on every version of Python, whose
    trees differ in fields that are empty.
    """
    return hashlib.blake2b(_text(tree).encode(), digest_size=8).hexdigest()


def _text(node: object, in_class: bool = False) -> str:
    """A tree as text, what changes no number left out."""
    if isinstance(node, list):
        return f"[{','.join(_text(part, in_class) for part in node if not _means_nothing(part, in_class))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.AnnAssign) and node.value is not None and not in_class:
        return _text(ast.Assign([node.target], node.value))
    left_out = {"type_comment", "kind", "ctx"}
    if isinstance(node, ast.arg):
        left_out.add("annotation")
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        left_out.add("returns")
    if _for_types_alone(node):
        left_out.add("body")
    inside = isinstance(node, ast.ClassDef)
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in left_out]
    words = [f"{name}={_text(value, inside)}" for name, value in fields if value is not None and value != []]
    return f"{type(node).__name__}({','.join(words)})"


def _means_nothing(node: object, in_class: bool) -> bool:
    """Docstrings, the type of a variable without a value, and imports of types."""
    if isinstance(node, ast.ImportFrom):
        return node.module in ("__future__", "collections.abc", "typing")
    if isinstance(node, ast.AnnAssign):
        return node.value is None and not in_class
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def fingerprint(paths: Iterable[Path], *words: str) -> str:
    """Hash over the programs of files, in order, and further words."""
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        digest.update(program_hash(path).encode())
    for word in words:
        digest.update(word.encode())
    return digest.hexdigest()


def with_imports(paths: Iterable[Path], *packages: str) -> tuple[Path, ...]:
    """Files with all modules of ``packages`` that they import, directly or through others; each once, sorted.

    Imports for type checkers alone do not count: they change no number.
    """
    found: set[Path] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path, packages)
    return tuple(sorted(found))


@functools.cache
def _imported(path: Path, packages: tuple[str, ...]) -> tuple[Path, ...]:
    names: set[str] = set()
    waiting: list[ast.AST] = [_parsed(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _for_types_alone(node):
            waiting += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        waiting += ast.iter_child_nodes(node)
    files = (ROOT / f"{name.replace('.', '/')}.py" for name in sorted(names) if name.partition(".")[0] in packages)
    return tuple(file for file in files if file.is_file())


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
