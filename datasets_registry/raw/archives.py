"""Reading members of archives without unpacking them: nothing is written anywhere but where the caller says.

Archives that carry a path leading outside (absolute, ``..``) or whose wanted member is a link are refused, and a
member that grows beyond its declared size is cut off: nobody can fill the disk with a small file.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from benchmark.core.errors import DataError

BLOCK = 1 << 20
HEADER_BYTES = 1 << 20  # a tar header that claims more (long names, attributes) is an attack
MEMBERS = 100_000
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)


@contextlib.contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, decompressed if it starts with gzip's two bytes (whatever its name says)."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if zipped:
            with gzip.GzipFile(fileobj=file) as plain:
                yield plain  # type: ignore[misc]  # reads as every binary file does
        else:
            yield file


@contextlib.contextmanager
def open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Open ``member`` of a zip or tar file; ``a.tar.gz//b`` is b inside the archive a.tar.gz inside ``archive``.

    A tar member may be given without the archive's top folder. Raises DataError (damaged, unsafe, missing).
    """
    outer, _, inner = member.partition("//")
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open(archive, "rb"))
        try:
            found = _enter(stack, file, archive, outer)
            if inner:
                found = _enter(stack, found, archive, inner)
        except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile) as error:
            raise DataError(f"{archive}: damaged archive ({error}); delete it and fetch again.") from error
        except (RuntimeError, NotImplementedError) as error:  # encrypted, or compressed in a way nobody reads
            raise DataError(f"{archive}: cannot be unpacked ({error}); get it elsewhere.") from error
        yield found


def _enter(stack: contextlib.ExitStack, file: IO[bytes], archive: Path, member: str) -> IO[bytes]:
    head = file.read(4)
    file.seek(0)
    if head[:2] == b"PK":
        folder = stack.enter_context(zipfile.ZipFile(file))
        for info in folder.infolist():
            _refuse_outside(archive, info.filename)
        wanted = [info for info in folder.infolist() if _same(info.filename, member)]
        wanted.sort(key=lambda info: not _exactly(info.filename, member))
        if not wanted:
            raise DataError(f"{archive}: has no member '{member}'.")
        if (wanted[0].external_attr >> 16) & 0o170000 == 0o120000:
            raise DataError(f"{archive}: member '{wanted[0].filename}' is a symbolic link; refused.")
        opened = stack.enter_context(folder.open(wanted[0]))
        return opened if opened.seekable() else io.BytesIO(opened.read())
    tar = stack.enter_context(tarfile.open(fileobj=file, mode="r:*", tarinfo=_BoundedHeader))
    match = None
    for number, entry in enumerate(tar):
        _refuse_outside(archive, entry.name)
        if number == MEMBERS:
            raise DataError(f"{archive}: more than {MEMBERS:,} members; refused. Get the file elsewhere.")
        if _exactly(entry.name, member):
            match = entry
            break  # reading on would decompress the whole archive once more
        if match is None and _same(entry.name, member):
            match = entry
    if match is None:
        raise DataError(f"{archive}: has no member '{member}'.")
    if not match.isfile():
        raise DataError(f"{archive}: member '{match.name}' is no regular file (a link or device); refused.")
    opened = tar.extractfile(match)  # type: ignore[assignment]  # None for what is no file, refused above
    assert opened is not None
    return opened


class _BoundedHeader(tarfile.TarInfo):
    """A tar header; one with a long name or attributes, which are read into memory, may be HEADER_BYTES at most."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedHeader:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _IN_MEMORY and header.size > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


_IN_MEMORY = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.GNUTYPE_SPARSE,
)


def _exactly(name: str, member: str) -> bool:
    return name.removeprefix("./") == member


def _same(name: str, member: str) -> bool:
    return _exactly(name, member) or name.partition("/")[2] == member


def _refuse_outside(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise DataError(f"{archive}: member '{name}' leads outside the archive; refused. Get the file elsewhere.")


def copy_checked(source: IO[bytes], target: Path | None, limit: int | None, what: str) -> tuple[str, int]:
    """Copy to ``target`` (or only read, if None); returns sha256 and number of bytes.

    Raises DataError when more than ``limit`` bytes come (a wrong file or an archive bomb).
    """
    digest, size = hashlib.sha256(), 0
    with open(target, "wb") if target else contextlib.nullcontext() as out:
        while block := source.read(BLOCK):
            size += len(block)
            if limit is not None and size > limit:
                raise DataError(f"{what}: holds more than the expected {limit:,} bytes; refused.")
            digest.update(block)
            if out is not None:
                out.write(block)
    return digest.hexdigest(), size
