"""What ``new-method`` and ``new-dataset`` write: the files in templates/, which run as they are, under another name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from benchmark.core.errors import UsageError
from datasets_registry.raw.manifest import MANIFESTS
from methods import METHODS

TEMPLATES = Path(__file__).with_name("templates")
BESIDE = 'str(Path(__file__).with_suffix(".toml"))'
"""How a dataset outside the package names its manifest; one inside names it by its name."""


def new_method(name: str, directory: str | Path) -> tuple[Path, Path]:
    """Write ``directory``/NAME.py, a complete method, and test_NAME.py; returns both.

    Raises UsageError for a bad name or existing files; then nothing is written.
    """
    _check_name("method", name)
    if name in METHODS:
        raise UsageError(f"There is a method '{name}' already: {METHODS.file(name)}.")
    files = Path(directory) / f"{name}.py", Path(directory) / f"test_{name}.py"
    _refuse_existing(files)
    for file, template in zip(files, ("my_method.py", "test_my_method.py"), strict=True):
        _write(file, _renamed((TEMPLATES / template).read_text(encoding="utf-8"), "my_method", name))
    return files


def new_dataset(name: str, directory: str | Path) -> tuple[Path, Path]:
    """Write ``directory``/NAME.py and its manifest NAME.toml, ready to run on a file NAME.csv; returns both.

    In the package's own directory the manifest goes to manifests/. Raises UsageError for a bad name or existing files.
    """
    _check_name("dataset", name)
    directory = Path(directory)
    inside = directory.resolve() == MANIFESTS.parent.resolve()
    code, manifest = directory / f"{name}.py", directory / ("manifests" if inside else "") / f"{name}.toml"
    _refuse_existing((code, manifest))
    for file in (code, manifest):
        text = _renamed((TEMPLATES / f"my_dataset{file.suffix}").read_text(encoding="utf-8"), "my_dataset", name)
        _write(file, text.replace(BESIDE, f'"{name}"') if inside else text)
    return code, manifest


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"A {kind}'s name is small letters, digits and '_', not {name!r}.")


def _refuse_existing(files: Iterable[Path]) -> None:
    for file in files:
        if file.exists():
            raise UsageError(f"{file} exists already; nothing was written.")


def _renamed(text: str, placeholder: str, name: str) -> str:
    """The template with its name, its class and its title replaced."""

    def title(words: str) -> str:
        return words.replace("_", " ").title()

    for old, new in (
        (placeholder, name),
        (title(placeholder).replace(" ", ""), title(name).replace(" ", "")),
        (title(placeholder), title(name)),
    ):
        text = text.replace(old, new)
    return text


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
