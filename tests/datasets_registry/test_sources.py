"""Downloads from a server on this machine that misbehaves on request, and archives that mean harm."""

import contextlib
import gzip
import hashlib
import http.server
import io
import re
import tarfile
import threading
import time
import zipfile
from typing import ClassVar

import pytest

from benchmark.core.errors import DataError, DataUnavailable
from datasets_registry.raw import download as downloads
from datasets_registry.raw.archives import open_member
from datasets_registry.raw.download import DownloadError, download
from datasets_registry.raw.manifest import MANIFESTS, Manifest, RawFile, candidates, load_manifest
from datasets_registry.raw.sources import obtain

CONTENT = bytes(range(256)) * 4000


class Server(http.server.BaseHTTPRequestHandler):
    """/good, /ranges, /cut (closes early, once), /short (always), /moved, /wrong, /slow, /drip; all else is 404."""

    protocol_version = "HTTP/1.0"
    requests: ClassVar[list] = []
    files: ClassVar[dict] = {}

    def do_GET(self):
        kind, name = self.path.strip("/").split("/")
        body = self.files.get(name, CONTENT)
        asked = self.headers.get("Range")
        self.requests.append((kind, asked))
        if kind == "moved":
            self.send_response(302)
            self.send_header("Location", f"/good/{name}")
            return self.end_headers()
        if kind == "endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(1 << 20))
            return
        if kind in ("unasked", "superscript", "digits"):
            self.send_response(206 if kind == "unasked" else 200)
            lengths = {"unasked": "1000", "superscript": "\xb2", "digits": "9" * 5000}
            self.send_header("Content-Length", lengths[kind])
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body[:1000] if kind == "unasked" else body)
            return
        if kind == "headers":
            for letter in b"HTTP/1.0 200 OK and so on for a long time":
                self.wfile.write(bytes([letter]))
                time.sleep(0.1)
            return
        if kind not in ("good", "ranges", "cut", "short", "wrong", "slow", "drip", "othertotal", "trickle"):
            return self.send_error(404, "[/x] gone")
        start = int(asked[6:-1]) if asked and kind in ("ranges", "cut", "othertotal") else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            total = len(body) + 99 * (kind == "othertotal")
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{total}")
        self.end_headers()
        first = sum(request[0] == kind for request in self.requests) == 1
        if kind == "short" or (kind == "cut" and first):
            return self.wfile.write(body[start : start + 1000])
        if kind == "slow":
            self.wfile.write(body[:10])
            self.wfile.flush()
            time.sleep(3)
            return
        if kind == "trickle":
            with contextlib.suppress(OSError):
                for place in range(40):
                    self.wfile.write(body[place : place + 1])
                    time.sleep(0.1)
            return
        if kind == "drip":
            for place in range(0, len(body), len(body) // 8):
                self.wfile.write(body[place : place + len(body) // 8])
                self.wfile.flush()
                time.sleep(0.1)
            return
        self.wfile.write(body[::-1] if kind == "wrong" else body[start:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Server, "requests", [])
    monkeypatch.setattr(Server, "files", {})
    monkeypatch.setattr(downloads, "_dead", {})
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.handle_error = lambda *_: None  # clients that hang up are the point
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("kind", ["good", "moved", "cut"])
def test_download_arrives_whole(server, tmp_path, kind):
    seen = []
    path = download(f"{server}/{kind}/a.bin", tmp_path / "a.bin", lambda what, done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_interrupted_download_continues_where_it_was(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:5000])
    assert download(f"{server}/ranges/a", tmp_path / "a.bin").read_bytes() == CONTENT
    assert Server.requests == [("ranges", "bytes=5000-")]


def test_server_that_ignores_ranges_starts_over(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 5000)
    assert download(f"{server}/good/a", tmp_path / "a.bin").read_bytes() == CONTENT


def test_truncated_and_missing_are_errors_and_leave_no_file(server, tmp_path):
    with pytest.raises(DownloadError, match=r"1,000 of 1,024,000 bytes"):
        download(f"{server}/short/a", tmp_path / "a.bin")
    with pytest.raises(DownloadError, match="404"):
        download(f"{server}/nothing/a", tmp_path / "b.bin")
    assert not (tmp_path / "a.bin").exists() and not (tmp_path / "b.bin").exists()


def test_stalled_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    began = time.monotonic()
    with pytest.raises(DownloadError):
        download(f"{server}/slow/a", tmp_path / "a.bin")
    assert time.monotonic() - began < 2.5


def test_dead_host_costs_little_and_only_once(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_dead", {})
    monkeypatch.setattr(downloads, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(downloads.urllib.request, "getproxies", dict)
    tried = []

    def blackhole(place, timeout):
        tried.append(place)
        time.sleep(3)
        raise OSError("too late")

    monkeypatch.setattr(downloads.socket, "create_connection", blackhole)
    began = time.monotonic()
    for name in ("a", "b"):
        with pytest.raises(DownloadError, match="cannot be reached"):
            download(f"http://dead.example/{name}", tmp_path / name)
    assert time.monotonic() - began < 2 and len(tried) == 1


def test_more_bytes_than_expected_are_refused(server, tmp_path):
    with pytest.raises(DownloadError, match="at most 10"):
        download(f"{server}/good/a", tmp_path / "a.bin", limit=10)
    assert list(tmp_path.iterdir()) == []


def manifest(*mirrors, content=CONTENT):
    sha = hashlib.sha256(content).hexdigest()
    return Manifest("toy", {"data": RawFile("data", ("toy.csv",), sha, len(content))}, mirrors)


def test_a_part_that_nobody_asked_for_is_not_the_whole_file(server, tmp_path):
    with pytest.raises(DownloadError, match="part of the file"):
        download(f"{server}/unasked/x", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["superscript", "digits"])
def test_a_length_that_is_no_number_is_no_length(server, tmp_path, kind):
    assert downloads.offered(f"{server}/{kind}/x") is None
    with contextlib.suppress(DownloadError):  # the client may refuse the answer
        download(f"{server}/{kind}/x", tmp_path / "x")
    mirrors = [{"title": how, "urls": {"data": f"{server}/{how}/toy.csv"}} for how in (kind, "good")]
    assert obtain(manifest(*mirrors), None, tmp_path / "cache")


def test_mirrors_are_tried_in_order_and_the_liar_is_named(server, tmp_path):
    mirrors = [
        {"title": t, "urls": {"data": f"{server}/{k}/toy.csv"}} for t, k in (("liar", "wrong"), ("honest", "good"))
    ]
    notes = []
    files = obtain(manifest(*mirrors), None, tmp_path, lambda what, *_: notes.append(what))
    assert files["data"].read_bytes() == CONTENT
    assert any("liar" in note and "this mirror lies" in note and "expected" in note for note in notes)
    with pytest.raises(DataUnavailable, match=r"liar.*this mirror lies"):
        obtain(manifest(mirrors[0]), None, tmp_path / "other")
    assert not list((tmp_path / "other" / "raw" / "toy").glob("*"))


def test_second_time_nothing_is_fetched(server, tmp_path):
    good = {"title": "good", "urls": {"data": f"{server}/good/toy.csv"}}
    obtain(manifest(good), None, tmp_path)
    count = len(Server.requests)
    assert obtain(manifest(good), None, tmp_path)["data"].read_bytes() == CONTENT
    assert len(Server.requests) == count


def test_nested_archive(server, tmp_path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        entry = tarfile.TarInfo("toy.data")
        entry.size = len(CONTENT)
        tar.addfile(entry, io.BytesIO(CONTENT))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as folder:
        folder.writestr("toy.tar.gz", inner.getvalue())
    Server.files["toy.zip"] = outer.getvalue()
    mirror = {"title": "zip", "url": f"{server}/good/toy.zip", "members": {"data": "toy.tar.gz//toy.data"}}
    assert obtain(manifest(mirror), None, tmp_path)["data"].read_bytes() == CONTENT
    assert sorted(path.name for path in (tmp_path / "raw" / "toy").iterdir()) == ["toy.csv"]


def test_users_directory_by_content(tmp_path):
    given, cache = tmp_path / "given", tmp_path / "cache"
    (given / "below").mkdir(parents=True)
    with gzip.open(given / "below" / "toy.csv.gz", "wb") as file:
        file.write(CONTENT)
    assert obtain(manifest(), given, cache)["data"].name == "toy.csv.gz"
    (given / "toy.csv").write_bytes(CONTENT[:-1])  # damaged beside good: the good one is taken
    assert obtain(manifest(), given, cache)["data"].name == "toy.csv.gz"
    (given / "below" / "toy.csv.gz").unlink()
    with pytest.raises(DataError, match=r"toy.csv: sha256 .* expected .*fetch toy"):
        obtain(manifest(), given, cache)


def test_official_archive_in_the_users_directory(tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    mirror = {"title": "official", "url": "http://dead.example/toy.zip", "members": {"data": "toy.csv"}}
    with zipfile.ZipFile(given / "toy.zip", "w") as folder:
        folder.writestr("toy.csv", CONTENT)
    assert obtain(manifest(mirror), given, tmp_path / "cache")["data"].read_bytes() == CONTENT
    assert sorted(path.name for path in given.iterdir()) == ["toy.zip"]


def test_candidates_need_no_network(tmp_path):
    (tmp_path / "toy.csv.gz").write_bytes(b"")
    assert candidates(manifest(), tmp_path)["data"] == [tmp_path / "toy.csv.gz"]


def tar_with(path, name, kind=tarfile.REGTYPE, link=""):
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        entry.size = 3 if kind == tarfile.REGTYPE else 0
        tar.addfile(entry, io.BytesIO(b"abc"))
    return path


@pytest.mark.parametrize("name", ["../../evil.csv", "/etc/evil.csv", "a/../../evil.csv"])
def test_path_that_climbs_out_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as folder:
        folder.writestr(name, "x")
        folder.writestr("toy.csv", "x")
    for archive in (tmp_path / "a.zip", tar_with(tmp_path / "a.tar.gz", name)):
        with pytest.raises(DataError, match="leads outside"), open_member(archive, "toy.csv"):
            pass


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_link_in_an_archive_is_refused(tmp_path, kind):
    archive = tar_with(tmp_path / "a.tar.gz", "toy.csv", kind, "/etc/passwd")
    with pytest.raises(DataError, match="no regular file"), open_member(archive, "toy.csv"):
        pass


def test_symbolic_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("toy.csv")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as folder:
        folder.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="symbolic link"), open_member(tmp_path / "a.zip", "toy.csv"):
        pass


def test_archive_bomb_is_cut_off(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as folder:
        folder.writestr("toy.csv", bytes(50_000_000))
    Server.files["bomb.zip"] = buffer.getvalue()
    mirror = {"title": "bomb", "url": f"{server}/good/bomb.zip", "members": {"data": "toy.csv"}}
    with pytest.raises(DataUnavailable, match="more than the expected 1,024,000 bytes"):
        obtain(manifest(mirror), None, tmp_path)
    assert not list((tmp_path / "raw" / "toy").glob("*"))


def test_damaged_archive_says_so(tmp_path):
    path = tar_with(tmp_path / "a.tar.gz", "toy.csv")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="a.tar.gz: damaged archive"), open_member(path, "toy.csv"):
        pass


def test_python_package_as_mirror(tmp_path, monkeypatch):
    """pip is called with this interpreter and the exact version; its file is read as an archive."""
    from datasets_registry.raw import sources

    calls = []

    def pip(command, **_):
        calls.append(command)
        target = tmp_path / "made.tar.gz"
        with tarfile.open(target, "w:gz") as tar:
            entry = tarfile.TarInfo("toy-1.0/toy/toy.csv")
            entry.size = len(CONTENT)
            tar.addfile(entry, io.BytesIO(CONTENT))
        target.replace(f"{command[command.index('--dest') + 1]}/toy-1.0.tar.gz")
        return type("Done", (), {"returncode": 0, "stdout": "", "stderr": ""})()

    monkeypatch.setattr(sources.subprocess, "run", pip)
    mirror = {"title": "package", "package": "toy==1.0", "format": "sdist", "members": {"data": "toy/toy.csv"}}
    assert obtain(manifest(mirror), None, tmp_path / "cache")["data"].read_bytes() == CONTENT
    assert calls[0][-1] == "toy==1.0" and "--no-deps" in calls[0]


def test_every_mirrors_reason_is_told(tmp_path, monkeypatch):
    from datasets_registry.raw import sources

    failed = type("Done", (), {"returncode": 1, "stdout": "", "stderr": "ERROR: No matching distribution"})()
    monkeypatch.setattr(sources.subprocess, "run", lambda *_, **__: failed)
    mirror = {"title": "package", "package": "toy==1.0", "members": {"data": "toy.csv"}}
    with pytest.raises(DataUnavailable, match=r"No matching distribution.*--data-dir"):
        obtain(manifest(mirror), None, tmp_path)


def test_cache_that_cannot_be_written_is_named(tmp_path):
    from datasets_registry import prepare

    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="MPTBENCH_CACHE"):
        prepare("synthetic", cache_dir=tmp_path / "file" / "cache")


def test_states_of_availability(shared, tmp_path):
    from datasets_registry import availability, prepare

    assert availability("synthetic")[0] == "generated"
    assert availability("ali_ccp")[0] == "login" and "tianchi" in availability("ali_ccp")[1]
    assert availability("census_income")[0] == "fetchable"
    given = shared("census-income-kdd")
    assert availability("census_income", given)[0] == "local"
    assert not (tmp_path / "cache").exists(), "asking made something"
    prepare("census_income@1pct", data_dir=given)
    assert availability("census_income@1pct")[0] == "cached" and availability("census_income")[0] == "fetchable"
    assert prepare("census_income@1pct").rows("train") > 1000  # the raw files are not needed any more


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.toml")), ids=lambda path: path.stem)
def test_manifest_says_where_from_and_under_which_terms(path):
    if path.name.endswith(".values.toml"):
        return
    found = load_manifest(path.stem)
    assert found.page.startswith("https://") and found.licence
    assert found.login == (not found.mirrors), "either a mirror needs no login or the page does"
    assert bool(found.instructions) == found.login and (not found.login or "--data-dir" in found.instructions)
    for raw in found.files.values():
        assert raw.names and (raw.sha256 is None) == (raw.bytes is None)
        assert raw.sha256 is None or re.fullmatch("[0-9a-f]{64}", raw.sha256)
    for mirror in found.mirrors:
        assert mirror["title"] and set(mirror.get("members", mirror.get("urls"))) == set(found.files)
        sums = set(mirror.get("sha256", {})) | {key for key, raw in found.files.items() if raw.sha256}
        sums |= set(mirror.get("file_sha256", {}))
        checked = re.fullmatch("[0-9a-f]{32}", mirror.get("md5", "")) or sums == set(found.files)
        assert bool(checked) != mirror.get("unverified", False), "say so where nothing can be verified"
        for url in (mirror["url"],) if "url" in mirror else mirror.get("urls", {}).values():
            assert url.startswith("https://")


def test_nothing_is_written_outside_by_an_archive_that_climbs_out(server, tmp_path):
    for number, name in enumerate(("../../../evil.csv", f"{tmp_path}/evil.csv")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as folder:
            folder.writestr(name, CONTENT)
            folder.writestr("toy.csv", CONTENT)
        Server.files["climbs.zip"] = buffer.getvalue()
        mirror = {"title": "climbs", "url": f"{server}/good/climbs.zip", "members": {"data": "toy.csv"}}
        cache = tmp_path / str(number) / "cache"
        with pytest.raises(DataUnavailable, match="leads outside the archive; refused"):
            obtain(manifest(mirror), None, cache)
        assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_slow_server_that_keeps_sending_is_waited_for(server, tmp_path, monkeypatch):
    """Only silence counts as a stall, however long the whole takes."""
    monkeypatch.setattr(downloads, "STALL_SECONDS", 0.5)
    assert download(f"{server}/drip/a", tmp_path / "a.bin").read_bytes() == CONTENT
    assert [kind for kind, _ in Server.requests] == ["drip"]


def zipped(name, flag=0, method=0):
    """A zip whose member claims to be encrypted (flag 1) or compressed by a method that nobody knows."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as folder:
        folder.writestr(name, CONTENT)
    content = bytearray(buffer.getvalue())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.index(mark) + place
        content[start] |= flag
        content[start + 2] = method
    return bytes(content)


@pytest.mark.parametrize("faulty", ["markup", "encrypted", "method 99", "bomb of headers", "nonsense"])
def test_whatever_the_first_mirror_sends_the_next_is_tried(server, tmp_path, faulty):
    bomb = io.BytesIO()
    with gzip.open(bomb, "wb") as out:
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 64 << 20
        out.write(header.tobuf() + bytes(64 << 20))
    Server.files |= {"encrypted.zip": zipped("toy.csv", flag=1), "method.zip": zipped("toy.csv", method=99)}
    Server.files |= {"bomb.tar.gz": bomb.getvalue(), "nonsense.zip": b"PK\x03\x04" + bytes(100)}
    url = {"encrypted": "good/encrypted.zip", "method 99": "good/method.zip", "bomb of headers": "good/bomb.tar.gz",
           "markup": "[/x] gone/a.zip", "nonsense": "good/nonsense.zip"}[faulty]  # fmt: skip
    mirrors = [
        {"title": "[/red] first", "url": f"{server}/{url.replace(' ', '%20')}", "members": {"data": "toy.csv"}},
        {"title": "second", "urls": {"data": f"{server}/good/toy.csv"}},
    ]
    notes = []
    files = obtain(manifest(*mirrors), None, tmp_path, lambda what, *_: notes.append(what))
    assert files["data"].read_bytes() == CONTENT and any(note.startswith("note: [/red] first: ") for note in notes)
    assert [path.name for path in (tmp_path / "raw" / "toy").iterdir()] == ["toy.csv"]


def test_a_body_without_end_is_broken_off_and_leaves_nothing(server, tmp_path):
    mirrors = [
        {"title": "endless", "url": f"{server}/endless/a.zip", "members": {"data": "toy.csv"}, "at_most": 3_000_000},
        {"title": "second", "urls": {"data": f"{server}/good/toy.csv"}},
    ]
    notes = []
    assert obtain(manifest(*mirrors), None, tmp_path, lambda what, *_: notes.append(what))["data"]
    assert any("more than the expected 3,000,000 bytes came" in note for note in notes)
    assert [path.name for path in (tmp_path / "raw" / "toy").iterdir()] == ["toy.csv"]


def test_a_part_is_not_continued_with_another_file(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 5000)
    assert download(f"{server}/othertotal/a", tmp_path / "a.bin").read_bytes() == CONTENT
    (tmp_path / "b.bin.part").write_bytes(b"x" * 5000)
    (tmp_path / "b.bin.part.about").write_text("7 ")  # the file that was begun had another size
    assert download(f"{server}/ranges/a", tmp_path / "b.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b.bin"]


@pytest.mark.parametrize("kind", ["trickle", "headers"])
def test_a_server_that_lives_on_single_bytes_is_given_up(server, tmp_path, monkeypatch, kind):
    for name, seconds in (("SLOW_SECONDS", 0.4), ("HEADER_SECONDS", 0.4), ("ATTEMPTS", 1)):
        monkeypatch.setattr(downloads, name, seconds)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"bytes came in|headers within"):
        download(f"{server}/{kind}/a", tmp_path / "a.bin")
    assert time.monotonic() - began < 5


def test_exact_member_before_one_of_the_same_end(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar, zipfile.ZipFile(tmp_path / "a.zip", "w") as folder:
        for name, text in (("evil/toy.csv", b"evil"), ("toy.csv", b"good")):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
            folder.writestr(name, text)
    for archive in ("a.tar", "a.zip"):
        with open_member(tmp_path / archive, "toy.csv") as file:
            assert file.read() == b"good"


def write_manifest(path, url, name="data.csv"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'page = "p"\nlicence = "l"\n[files.data]\nnames = ["{name}"]\n[[mirrors]]\ntitle = "m"\n'
                    f'urls.data = "{url}"\n')  # fmt: skip
    return load_manifest(str(path))


def test_manifests_of_one_name_do_not_share_raw_files(server, tmp_path):
    Server.files |= {"one.csv": b"1", "two.csv": b"2"}
    first = write_manifest(tmp_path / "a" / "log.toml", f"{server}/good/one.csv")
    second = write_manifest(tmp_path / "b" / "log.toml", f"{server}/good/two.csv")
    for found, content in ((first, b"1"), (second, b"2"), (first, b"1")):
        assert obtain(found, None, tmp_path / "cache")["data"].read_bytes() == content


@pytest.mark.parametrize("name", ["../../evil.csv", "/etc/evil.csv", "a/../../evil.csv"])
def test_a_manifest_whose_names_lead_outside_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="leads outside"):
        write_manifest(tmp_path / "log.toml", "https://example.org/a", name)
