"""Downloads over HTTP: resumed, atomic, with progress, and quick to give up on a dead host. Standard library only."""

from __future__ import annotations

import shutil
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

Report = Callable[[str, int, "int | None"], None]

CONNECT_SECONDS = 5.0  # name resolution and connection together: a dead host costs this much, once
STALL_SECONDS = 20.0  # no byte for this long: the transfer counts as broken
ATTEMPTS = 3
BLOCK = 1 << 18


class DownloadError(Exception):
    """The address could not be fetched; the message says why."""


_dead: dict[tuple[str, int], str] = {}


def download(url: str, target: Path, report: Report | None = None, limit: int | None = None) -> Path:
    """Fetch ``url`` into ``target``; an earlier ``target.part`` is continued if the server can.

    ``limit``: refuse more than so many bytes. The file appears under its name only when all its bytes are there.
    Raises DownloadError; a broken transfer is tried ATTEMPTS times, and what arrived stays for the next call.
    """
    _probe(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, part, report, limit)
            part.replace(target)
            return target
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the part is longer than the file, so it is not a part of this file
                part.unlink(missing_ok=True)
                if attempt < ATTEMPTS:
                    continue
            raise DownloadError(f"the server answered {error.code} {error.reason}") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(error, OSError) and error.errno == 28:
                raise DownloadError(f"no space left in {part.parent}") from error
            if attempt == ATTEMPTS:
                kept = part.stat().st_size if part.exists() else 0
                raise DownloadError(f"{reason} after {ATTEMPTS} attempts; {kept:,} bytes kept for a retry") from error
            time.sleep(0.2 * attempt)
    raise AssertionError


def _probe(url: str) -> None:
    """Raise DownloadError within CONNECT_SECONDS if the host cannot be reached; remembered for this process.

    Name resolution has no time limit of its own, hence the thread.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DownloadError(f"not an address of http or https: {url}")
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname):
        return  # the proxy connects, not this machine
    place = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    if place not in _dead:
        outcome: list[str] = []

        def connect() -> None:
            try:
                socket.create_connection(place, timeout=CONNECT_SECONDS).close()
                outcome.append("")
            except OSError as error:
                outcome.append(str(error))

        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(CONNECT_SECONDS + 0.5)
        reason = outcome[0] if outcome else f"no answer within {CONNECT_SECONDS:.0f} s"
        if not reason:
            return
        _dead[place] = reason
    raise DownloadError(f"{place[0]} cannot be reached ({_dead[place]})")


def _transfer(url: str, part: Path, report: Report | None, limit: int | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "mpt-bench", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if not resumed:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        if limit is not None and (total or 0) > limit:
            raise DownloadError(f"the server offers {total:,} bytes where at most {limit:,} are expected")
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise DownloadError(f"{total - have:,} bytes are to come and {part.parent} has {free:,} free")
        with open(part, "ab" if resumed else "wb") as file:
            while block := answer.read(BLOCK):
                have += len(block)
                if limit is not None and have > limit:
                    file.close()
                    part.unlink()
                    raise DownloadError(f"more than the expected {limit:,} bytes came")
                file.write(block)
                if report:
                    report(f"download {url.rsplit('/', 1)[-1]}", have, total)
        if total is not None and have < total:
            raise OSError(f"connection closed at {have:,} of {total:,} bytes")
