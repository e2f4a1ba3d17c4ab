"""The methods under comparison: one file each, found by walking this package.

Importing this package is cheap (no torch): `declared()` reads what each file declares without running it, which is
enough to list methods; `METHODS.get(name)` imports the model class.
"""

from __future__ import annotations

import ast
import functools
import inspect
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.core.registry import Registry

if TYPE_CHECKING:
    from methods.base import MultiTaskModel

METHODS: Registry[type[MultiTaskModel]] = Registry(
    "method",
    package="methods",
    entry_points="mptbench.methods",
    helpers=frozenset({"base", "funnels", "layers", "masks", "prompts", "tokens"}),
)

PRESETS = Path(__file__).with_name("presets.toml")


@dataclass(frozen=True)
class MethodInfo:
    """What a method declares of itself.

    ``arms`` are the ways of taking in a new task that it supports. ``presets`` maps a dataset to the config values
    that its paper (or the paper under test) used there, see `presets`.
    ``paper_counts`` says what the MPT-Rec paper counted as this method's trained parameters for the new task:
    "new" (what is added for it) or "old_task_parameters" (the task-specific part of the two-task checkpoint, which
    over-counts; fact: it reproduces the printed percentages). ``without`` are arms of the harness
    (`benchmark.spec.arms`) that the method cannot be run with although it supports the arm they build on.
    """

    name: str
    title: str
    paper: str
    arms: tuple[str, ...] = ("joint", "frozen", "finetune")
    kinds: tuple[str, ...] = ("binary",)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paper_counts: str = "new"
    without: tuple[str, ...] = ()
    summary: str = ""
    file: str = ""


def declared() -> list[MethodInfo]:
    """Every method of this package by its ``@register_method(...)`` declaration, read from source, nothing imported.

    The declaration has to be written with literals; a file whose declaration is not is left out here and still
    works everywhere else.
    """
    infos = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                infos += [info for call in node.decorator_list if (info := _read(call, node, path))]
    return infos


def _read(node: ast.expr, model: ast.ClassDef, path: Path) -> MethodInfo | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register_method"):
        return None
    try:
        name = ast.literal_eval(node.args[0])
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
        options["presets"] = presets(name, options.get("presets", {}))
        return MethodInfo(name=name, summary=first_line(ast.get_docstring(model)), file=str(path), **options)
    except (ValueError, TypeError, IndexError):
        return None


def presets(method: str, own: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """By dataset, the values that replace the defaults of a method's Config there: those of presets.toml, and over them
    ``own``, which the method's file declares (a method outside this package has no other way)."""
    found: dict[str, dict[str, Any]] = {}
    for entry in _presets():
        for dataset in entry["datasets"] if method in entry["methods"] else ():
            found.setdefault(dataset, {}).update(entry["values"])
    for dataset, values in (own or {}).items():
        found.setdefault(dataset, {}).update(values)
    return {
        dataset: {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        for dataset, values in found.items()
    }


@functools.cache
def _presets() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = tomllib.loads(PRESETS.read_text(encoding="utf-8"))["preset"]
    return entries


def first_line(docstring: str | None) -> str:
    """First sentence-like line of a docstring, or an empty string."""
    return inspect.cleandoc(docstring).splitlines()[0] if docstring else ""
