"""Are encoded arrays still what was written? Hashes block by block, checked when a file is opened, in bounded time.

A file is checked once per process and state (size, times, inode). Files up to FULL_BYTES are hashed whole; of a larger
one the first, the last and randomly chosen blocks of FULL_BYTES in all, other ones each time, so that damage is found
by one of the next openings at the latest; `check_whole` hashes everything. ``meta.json`` carries a seal over its own
content, so a hash, size or fingerprint in it cannot be changed unseen either. This finds damage and mistakes; it is no
defence against somebody who computes the seal anew.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark.core.errors import DataError

BLOCK_BYTES = 4 << 20
FULL_BYTES = 256 << 20  # a quarter of a second

_checked: set[tuple[str, int, int, int, int]] = set()


class Damaged(DataError):
    """An encoded file is not what was written."""


class Hashes:
    """Running hashes of a file's blocks."""

    def __init__(self) -> None:
        self.bytes, self.blocks = 0, []  # type: int, list[str]
        self._digest, self._room = hashlib.blake2b(digest_size=16), BLOCK_BYTES

    def update(self, data: Any) -> None:
        """Add bytes that follow."""
        view = memoryview(data).cast("B") if len(data) else b""
        while len(view):
            part, view = view[: self._room], view[self._room :]
            self._digest.update(part)
            self._room -= len(part)
            self.bytes += len(part)
            if self._room == 0:
                self._close()

    def _close(self) -> None:
        self.blocks.append(self._digest.hexdigest())
        self._digest, self._room = hashlib.blake2b(digest_size=16), BLOCK_BYTES

    def result(self) -> dict[str, Any]:
        """Size and hashes, as meta.json keeps them."""
        if self._room < BLOCK_BYTES:
            self._close()
        return {"bytes": self.bytes, "blocks": self.blocks}


def of_file(path: Path) -> dict[str, Any]:
    """Size and hashes of a file that is complete."""
    hashes = Hashes()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            hashes.update(block)
    return hashes.result()


def check(directory: Path, name: str, written: Mapping[str, Any]) -> Path:
    """The file's path, once it has been found to be what ``written`` (of `Hashes.result`) says. Raises Damaged."""
    path = directory / name
    try:
        stat = path.stat()
    except OSError as error:
        raise _damaged(directory, name, "missing") from error
    if stat.st_size != written["bytes"]:
        raise _damaged(directory, name, f"{stat.st_size:,} bytes, {written['bytes']:,} were written")
    state = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    if state not in _checked:
        _check_blocks(directory, name, written["blocks"], _some(len(written["blocks"])))
        _checked.add(state)
    return path


def check_whole(directory: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Hash every byte of all files. Raises Damaged."""
    for name, written in files.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != written["bytes"]:
            raise _damaged(directory, name, "missing or of another size")
        _check_blocks(directory, name, written["blocks"], range(len(written["blocks"])))


def _some(blocks: int) -> Iterable[int]:
    """Which of so many blocks are looked at: all, or the first, the last and others by chance."""
    most = FULL_BYTES // BLOCK_BYTES
    if blocks <= most:
        return range(blocks)
    chosen = random.SystemRandom().sample(range(1, blocks - 1), most - 2)  # chance that no seed of a run may touch
    return [0, *sorted(chosen), blocks - 1]


def _check_blocks(directory: Path, name: str, blocks: list[str], chosen: Iterable[int]) -> None:
    with open(directory / name, "rb") as file:
        for place in chosen:
            file.seek(place * BLOCK_BYTES)
            if hashlib.blake2b(file.read(BLOCK_BYTES), digest_size=16).hexdigest() != blocks[place]:
                raise _damaged(directory, name, f"bytes from {place * BLOCK_BYTES:,} on are not those written")


def _damaged(directory: Path, name: str, how: str) -> Damaged:
    return Damaged(
        f"{directory / name}: damaged ({how}). 'python run_all.py fetch {directory.parent.name}' encodes it anew; or "
        f"delete {directory} and try again."
    )


def seal(meta: Mapping[str, Any]) -> str:
    """Hash of everything in meta.json but the seal itself."""
    text = json.dumps({key: value for key, value in meta.items() if key != "seal"}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def read_meta(directory: Path) -> dict[str, Any]:
    """Content of meta.json. Raises Damaged if it cannot be read or is not what was written."""
    try:
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(directory, "meta.json", f"not readable: {error}") from error
    if not isinstance(meta, dict) or meta.get("seal") != seal(meta):
        raise _damaged(directory, "meta.json", "its seal does not fit its content")
    return meta
