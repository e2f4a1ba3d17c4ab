"""From a dataset's name to arrays: find, fetch, verify, encode once, open. Imports the heavy parts when needed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.core.errors import DataError, DataUnavailable
from datasets_registry.fingerprint import data_code
from datasets_registry.raw import paths as places

if TYPE_CHECKING:
    from datasets_registry.base import Dataset
    from datasets_registry.encoding.profiles import Profile
    from datasets_registry.encoding.store import EncodedDataset
    from datasets_registry.raw.download import Report
    from datasets_registry.raw.manifest import Manifest


def find(name: str) -> Dataset:
    """The description behind ``name`` or ``name@profile``. Raises UsageError with the nearest name."""
    return _resolve(name)[0]


def _resolve(name: str) -> tuple[Dataset, Profile]:
    from datasets_registry.catalogue import DATASETS
    from datasets_registry.encoding.profiles import Profile, apply

    base, at, words = name.partition("@")
    dataset = DATASETS.get(base)
    return apply(dataset, words) if at else (dataset, Profile())


def prepare(
    name: str | Dataset,
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    report: Report | None = None,
    chunk_rows: int | None = None,
    fetch: bool = True,
    verify: bool = False,
) -> EncodedDataset:
    """The dataset's arrays, encoded on the first call and opened from the cache afterwards.

    ``name`` may carry a profile (``census_income@5pct``); a `Dataset` instance that is not registered works too.
    ``data_dir`` (else MPTBENCH_DATA) is searched before the cache and the mirrors; ``cache_dir`` (else MPTBENCH_CACHE)
    holds raw files and arrays. ``report(what, done, total or None)`` is called now and then. ``verify`` hashes every
    byte of the arrays and encodes them anew if they are not what was written; without it each file is checked in
    bounded time when it is first read, and a damaged one raises DataError. Raises DataUnavailable
    when no source has the data, DataError for damaged or invalid data, UsageError for an unknown name or profile.
    """
    from datasets_registry.base import CHUNK_ROWS
    from datasets_registry.encoding.profiles import Profile

    dataset, profile = _resolve(name) if isinstance(name, str) else (name, Profile())
    cache = places.cache_root(cache_dir)
    with places.explained(cache), _advised(dataset):
        return _prepare(
            dataset, profile, places.data_root(data_dir), cache, report, chunk_rows or CHUNK_ROWS, fetch, verify
        )


@contextlib.contextmanager
def _advised(dataset: Dataset) -> Iterator[None]:
    """Add to an error about the content of a raw file what can be done about it."""
    try:
        yield
    except DataError as error:
        if "run_all.py" in str(error) or not re.search(r"line \d|damaged or cut off|is empty|no rows", str(error)):
            raise
        end = "" if str(error).endswith(".") else "."
        raise DataError(
            f"{error}{end} 'python run_all.py validate {dataset.base_name}' lists every bad row: mend them, or replace "
            "the file by the official one."
        ) from error


def _prepare(
    dataset: Dataset,
    profile: Profile,
    data: Path | None,
    cache: Path,
    report: Report | None,
    chunk_rows: int,
    fetch: bool,
    verify: bool,
) -> EncodedDataset:
    from datasets_registry.encoding.splits import by_prefix

    files, sources = _files(dataset, data, cache, report, fetch, prefix=by_prefix(dataset.split, profile))
    target = _directory(dataset, profile, sources, cache)
    if _damage(target, verify, report) is not None or not target.is_dir():
        from datasets_registry.encoding.encode import encode

        with places.locked(target):
            if _damage(target, verify, None) is not None:  # nobody else was faster
                shutil.rmtree(target)
            if not target.is_dir():
                if not files and dataset.manifest:
                    files, _ = _files(dataset, data, cache, report, fetch, need=True)
                encode(dataset, profile, files, target, sources=sources, chunk_rows=chunk_rows, report=report)
    from datasets_registry.encoding.store import EncodedDataset

    return EncodedDataset(dataset, profile, target)


def _damage(target: Path, whole: bool, report: Report | None) -> str | None:
    """What is wrong with encoded arrays that are there; None if nothing is, or if there are none."""
    if not target.is_dir():
        return None
    from datasets_registry.encoding import integrity

    try:
        meta = integrity.read_meta(target)
        if whole:
            integrity.check_whole(target, meta["files"])
    except integrity.Damaged as error:
        if report:
            report(f"note: encoding anew, because {error}", 0, None)
        return str(error)
    return None


def encoded(
    name: str, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None
) -> EncodedDataset | None:
    """The dataset's arrays as the present code makes them, if they are in the cache; nothing is fetched or encoded.

    Raises UsageError for an unknown name or profile.
    """
    dataset, profile = _resolve(name)
    cache = places.cache_root(cache_dir)
    try:
        _, sources = _files(dataset, places.data_root(data_dir), cache, None, fetch=False)
        target = _directory(dataset, profile, sources, cache)
        if not (target / "meta.json").is_file():
            return None
        from datasets_registry.encoding.store import EncodedDataset

        return EncodedDataset(dataset, profile, target)
    except (DataUnavailable, DataError, OSError):
        return None


def availability(
    name: str | Dataset, data_dir: str | Path | None = None, cache_dir: str | Path | None = None
) -> tuple[str, str]:
    """(state, sentence), cheaply and without network.

    State: "generated", "cached" (encoded or raw files in the cache), "local" (in the user's directory, not verified
    yet), "fetchable" (a mirror needs no login), "login" (the user has to download it; the sentence says how).
    """
    from datasets_registry.encoding.profiles import Profile

    dataset, profile = _resolve(name) if isinstance(name, str) else (name, Profile())
    own_files = dataset.local_files()
    if own_files:
        return "local", f"own files: {', '.join(str(path) for path in own_files.values())}"
    if own_files is not None:
        return "fetchable", "from the Hugging Face Hub, by the datasets library"
    if dataset.manifest is None:
        return "generated", "generated on the fly, no download"
    from datasets_registry.raw.manifest import candidates, complete, load_manifest, official_archive

    manifest = load_manifest(dataset.manifest).needing(dataset.needs)
    cache, data = places.cache_root(cache_dir), places.data_root(data_dir)
    if data is not None and (
        complete(manifest, candidates(manifest, data)) or dataset.recognises(data) or official_archive(manifest, data)
    ):
        return "local", f"in {data}"
    published = _published(manifest)
    if published and (_directory(dataset, profile, published, cache) / "meta.json").is_file():
        return "cached", f"encoded in {cache}"
    own = cache / "raw" / manifest.folder
    if own.is_dir() and complete(manifest, candidates(manifest, own)):
        return "cached", f"raw files in {own}"
    if n := len(manifest.mirrors):
        return "fetchable", f"python run_all.py fetch {dataset.base_name} ({n} mirror{'s' if n > 1 else ''})"
    how = " ".join((manifest.instructions or f"Download by hand from {manifest.page}.").split())
    return "login", how


def terms(name: str) -> list[str]:
    """What to know before a dataset is fetched, a line each: licence, size, where it comes from, what is a toy."""
    from datasets_registry.raw.manifest import load_manifest

    dataset = find(name)
    lines = [f"{name}: {dataset.title}; {dataset.size}.", f"  licence: {dataset.licence or 'not stated'}"]
    if dataset.manifest is not None:
        manifest = load_manifest(dataset.manifest)
        known = [raw.bytes for raw in manifest.files.values() if raw.bytes and not raw.optional]
        lines += [f"  raw files: {sum(known) / 1e6:,.0f} MB unpacked"] if known else []
        for mirror in manifest.mirrors:
            size = f", at most {mirror['at_most'] / 1e6:,.0f} MB" if "at_most" in mirror else ""
            lines.append(f"  source: {mirror['title']}{size}")
    if dataset.toy:
        lines.append(f"  a toy: {dataset.toy}")
    return lines


def fetch(
    name: str | Dataset,
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    report: Report | None = None,
) -> dict[str, Path]:
    """Make the raw files local and verified; returns them by key (empty for generated data). Raises as `prepare`."""
    dataset = find(name) if isinstance(name, str) else name
    cache = places.cache_root(cache_dir)
    with places.explained(cache):
        return _files(dataset, places.data_root(data_dir), cache, report, True, need=True)[0]


def validate(
    name: str | Dataset,
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    limit: int | None = None,
) -> list[str]:
    """Check every row of the raw files at hand; returns the problems (at most ``limit`` a file), empty if none.

    Each problem is one sentence that begins with the file, the line (from 1) and the column where they are known.
    Unlike `prepare` it looks into files whose checksum is wrong as well, to say what is wrong in them. Raises
    DataUnavailable if no raw file is at hand.
    """
    from datasets_registry.raw.manifest import candidates, load_manifest
    from datasets_registry.raw.sources import check

    dataset = find(name) if isinstance(name, str) else name
    own_files = dataset.local_files()
    if own_files is not None:
        return [problem for key, path in own_files.items() for problem in _rows(dataset, key, path, limit)]
    if dataset.manifest is None:
        return []
    manifest = load_manifest(dataset.manifest).needing(dataset.needs)
    cache, data = places.cache_root(cache_dir), places.data_root(data_dir)
    own = cache / "raw" / manifest.folder
    for place in (data, own):
        if place is None or not place.is_dir():
            continue
        other = dataset.recognises(place)
        found = other or {key: paths[0] for key, paths in candidates(manifest, place).items() if paths}
        if found:
            break
    else:
        raise DataUnavailable(
            f"No raw file of '{dataset.name}' is at hand; python run_all.py fetch {dataset.base_name}"
        )
    problems = []
    for key, raw in manifest.files.items():
        if key not in found and not raw.optional and not other:
            problems.append(f"{place}: {raw.names[0]} is missing; python run_all.py fetch {dataset.base_name}")
    for key, path in found.items():
        wrong = check(path, manifest.files[key], cache) if key in manifest.files else None
        if wrong:
            problems.append(f"{wrong} Delete it and type: python run_all.py fetch {dataset.base_name}")
        problems += _rows(dataset, key, path, limit)
    return problems


def _rows(dataset: Dataset, key: str, path: Path, limit: int | None) -> list[str]:
    from datasets_registry.raw.archives import DAMAGE

    problems: list[str] = []
    try:
        for line, column, problem in dataset.check_file(key, path):
            if len(problems) == limit:
                problems.append(f"{path}: more than {limit} bad rows, the rest is not listed.")
                break
            problems.append(
                f"{path}, line {line}, column {column}: {problem}" if column else f"{path}, line {line}: {problem}"
            )
    except (DataError, *DAMAGE) as error:
        problems.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
    return problems


def _files(
    dataset: Dataset,
    data: Path | None,
    cache: Path,
    report: Report | None,
    fetch: bool,
    need: bool = False,
    prefix: bool = False,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Raw files by key and their content's sha256; where all sums are published, files only if they ``need`` be.

    For a row ``prefix`` the files are told apart without reading them to their end.
    """
    own = dataset.local_files()
    if own is not None:
        from datasets_registry.raw import sources

        return dict(own), {key: sources.fingerprint(path, cache)[0] for key, path in sorted(own.items())}
    if dataset.manifest is None:
        return {}, {}
    from datasets_registry.raw.manifest import load_manifest

    manifest = load_manifest(dataset.manifest).needing(dataset.needs)
    published = _published(manifest)
    if not need and published:
        return {}, published  # the content is decided already; who needs the files asks for them
    from datasets_registry.raw import sources

    other = dataset.recognises(data) if data is not None else None
    files = dict(other) if other else sources.obtain(manifest, data, cache, report, fetch)
    files = {key: path for key, path in files.items() if key not in manifest.files or not manifest.files[key].optional}
    if prefix:
        return files, {key: sources.identity(path) for key, path in sorted(files.items())}
    return files, {key: sources.fingerprint(path, cache)[0] for key, path in sorted(files.items())}


def _published(manifest: Manifest) -> dict[str, str]:
    """sha256 by key where every raw file that is read has a published one, else empty."""
    read = {key: raw.sha256 for key, raw in manifest.files.items() if not raw.optional}
    sums = {key: sha256 for key, sha256 in read.items() if sha256}
    return sums if len(sums) == len(read) else {}


def _directory(dataset: Dataset, profile: Profile, sources: dict[str, str], cache: Path) -> Path:
    """Where the arrays of this content, code and configuration lie. Label-share profiles share their base's arrays."""
    from dataclasses import replace

    rows = replace(profile, new_labels=1.0)
    text = json.dumps([sources, repr(rows), data_code(dataset)])
    return cache / "encoded" / dataset.base_name / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
