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
    """Hash of a parsed program; takes the docstrings out of it."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.blake2b(ast.dump(tree).encode(), digest_size=8).hexdigest()


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
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
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


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
