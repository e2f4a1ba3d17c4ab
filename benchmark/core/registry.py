"""One small registry class, used for methods, datasets and arms.

A registry maps a name to an entry. Entries come from the modules of one package (one file, one entry or a family of
them), from a file the user names, and from installed third-party packages through an entry point. A module that
cannot be imported is listed with its reason and only it is out; a duplicate name is an error that names both files.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from benchmark.core.errors import UsageError, unknown_name

Entry = TypeVar("Entry")
LONGEST_NAME = 80
RESERVED = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))})
"""What some systems take for a device wherever it lies."""


class Registry(Generic[Entry]):
    """Entries of one ``kind`` ("method", "dataset"), discovered on first use.

    ``package`` is walked for modules (folders, names that start with ``_`` and those in ``helpers`` hold no entries);
    ``entry_points`` is the group under which installed packages announce modules of their own.
    """

    def __init__(self, kind: str, package: str, entry_points: str, helpers: frozenset[str] = frozenset()) -> None:
        self.kind = kind
        self.broken: dict[str, str] = {}
        self._package = package
        self._entry_points = entry_points
        self._helpers = helpers
        self._entries: dict[str, tuple[Entry, str]] = {}
        self._discovered = False

    def add(self, name: str, entry: Entry, file: str) -> None:
        """Register ``entry``; raises UsageError if another file already took the name."""
        if not name.isidentifier() or len(name) > LONGEST_NAME or name.upper() in RESERVED:
            what = f"letters, digits and '_', at most {LONGEST_NAME}, and no device's name"
            raise UsageError(f"{file}: a {self.kind}'s name becomes a directory: {what}; not {name!r:.80}.")
        if name in self._entries and self._entries[name][1] != file:
            raise UsageError(f"Two files register the {self.kind} '{name}': {self._entries[name][1]} and {file}.")
        self._entries[name] = (entry, file)

    def get(self, name: str) -> Entry:
        """The entry of that name; raises UsageError with the nearest name, or with the reason why its file is out."""
        self._discover()
        if name in self._entries:
            return self._entries[name][0]
        if name in self.broken:
            raise UsageError(f"The {self.kind} '{name}' is unavailable: {self.broken[name]}")
        raise unknown_name(self.kind, name, self._entries, f"'python run_all.py list {self.kind}s' shows all.")

    def file(self, name: str) -> str:
        """Path of the file that registered the name."""
        self.get(name)
        return self._entries[name][1]

    def loaded(self) -> list[str]:
        """Names registered so far, without looking for more."""
        return sorted(self._entries)

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._entries))

    def __contains__(self, name: str) -> bool:
        self._discover()
        return name in self._entries

    def load_file(self, path: str | Path) -> list[str]:
        """Import a file from outside the packages; returns the names it registered.

        Raises UsageError with file, line and cause if it cannot be imported or registers nothing.
        """
        path = Path(path).resolve()
        if not path.is_file():
            raise UsageError(f"No {self.kind} file at {path}.")
        before = set(self)
        module_name = f"_mptbench_{self.kind}_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
        if module_name not in sys.modules:
            spec = importlib.util.spec_from_file_location(module_name, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[module_name] = module
            try:
                spec.loader.exec_module(module)
            except UsageError:
                sys.modules.pop(module_name)
                raise
            except SystemExit as error:  # it would end this program, with any exit code it likes and nothing run
                sys.modules.pop(module_name)
                raise UsageError(
                    f"Cannot import {self.kind} file {path}: it calls sys.exit({error.code!r}). Take the call out, or "
                    "put it under 'if __name__ == \"__main__\":'."
                ) from error
            except Exception as error:
                sys.modules.pop(module_name)
                raise UsageError(f"Cannot import {self.kind} file {where(error, path)}") from error
        names = sorted(set(self) - before) or sorted(n for n in self if self._entries[n][1] == str(path))
        if not names:
            raise UsageError(f"{path} registers no {self.kind}; decorate one with @register_{self.kind}(...).")
        return names

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            if not (module.ispkg or module.name.startswith("_") or module.name in self._helpers):
                self._attempt(module.name, functools.partial(importlib.import_module, f"{self._package}.{module.name}"))
        for point in importlib.metadata.entry_points(group=self._entry_points):
            self._attempt(point.name, point.load)

    def _attempt(self, name: str, load: Callable[[], ModuleType | object]) -> None:
        try:
            load()
        except UsageError:
            raise  # a duplicate name must not be hidden: nobody could tell which of the two ran
        except Exception as error:
            self.broken[name] = where(error)


def where(error: BaseException, file: str | Path | None = None) -> str:
    """``file:line: Type: message`` of an error, at the innermost line inside ``file`` (or the innermost of all)."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if file is None or Path(frame.filename) == Path(file)]
    place = f"{inside[-1].filename}:{inside[-1].lineno}: " if inside else f"{file}: " if file else ""
    return f"{place}{type(error).__name__}: {error}"
