"""A cache directory that exists is complete: killed, concurrent and damaged preparations."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmark.core.errors import DataError
from datasets_registry import prepare
from datasets_registry.encoding import integrity
from datasets_registry.schema_file import read_schema
from datasets_registry.synthetic import synthetic

PREPARE = """
import sys
from datasets_registry import prepare
from datasets_registry.synthetic import synthetic
print(prepare(synthetic(rows=int(sys.argv[2])), cache_dir=sys.argv[1]).fingerprint)
"""


def start(cache, rows):
    return subprocess.Popen([sys.executable, "-c", PREPARE, str(cache), str(rows)], stdout=subprocess.PIPE, text=True)


def test_killed_preparation_leaves_nothing_behind(tmp_path):
    running = start(tmp_path, 3_000_000)
    folder = tmp_path / "encoded" / "synthetic_custom"
    deadline = time.monotonic() + 60
    while not list(folder.glob(".encode-*/stage.arrow")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert list(folder.glob(".encode-*")) and not list(folder.glob("*/meta.json"))
    prepare(synthetic(rows=5000), cache_dir=tmp_path)
    assert not list(folder.glob(".encode-*")) and len(list(folder.glob("*/meta.json"))) == 1


def test_two_at_once_make_one(tmp_path):
    both = [start(tmp_path, 50_000) for _ in range(2)]
    prints = {process.communicate(timeout=120)[0] for process in both}
    assert len(prints) == 1 and all(process.returncode == 0 for process in both)
    assert [path.name for path in (tmp_path / "encoded" / "synthetic_custom").glob(".encode-*")] == []


def test_second_start_is_immediate_and_equal(tmp_path):
    first = prepare("synthetic", cache_dir=tmp_path)
    made = (first.directory / "meta.json").stat().st_mtime_ns
    second = prepare("synthetic", cache_dir=tmp_path)
    assert (second.directory / "meta.json").stat().st_mtime_ns == made and first.fingerprint == second.fingerprint


def cut(directory):
    path = directory / "train.codes.npy"
    path.write_bytes(path.read_bytes()[:-3])


def flip(directory):
    content = bytearray((directory / "train.numeric.npy").read_bytes())
    content[-7] ^= 4
    (directory / "train.numeric.npy").write_bytes(content)


def invert(directory):
    labels = np.load(directory / "train.label.click.npy")
    np.save(directory / "train.label.click.npy", 1 - labels)


def swap(directory):
    content = (directory / "valid.label.like.npy").read_bytes()
    (directory / "valid.label.click.npy").write_bytes(content)


def seventy_seven(directory):
    labels = np.load(directory / "test.label.click.npy")
    np.save(directory / "test.label.click.npy", np.full_like(labels, 77))


@pytest.mark.parametrize(
    ("damage", "name"),
    [(cut, "train.codes"), (flip, "train.numeric"), (invert, "train.label.click"), (swap, "valid.label.click"),
     (seventy_seven, "test.label.click")],
)  # fmt: skip
def test_damaged_array_is_refused_and_fetch_encodes_it_anew(tmp_path, damage, name):
    good = prepare("synthetic", cache_dir=tmp_path)
    for which in ("train", "valid", "test"):
        good.labels(which, "click")  # found to be right, and to be looked at again once it has changed
        good.split(which, good.schema(()))
    damage(good.directory)
    damaged = prepare("synthetic", cache_dir=tmp_path)
    with pytest.raises(DataError, match=name.replace(".", r"\.") + r".*damaged.*fetch synthetic"):
        for which in ("train", "valid", "test"):
            damaged.split(which, damaged.schema(())), damaged.labels(which, "click")
    notes = []
    mended = prepare("synthetic", cache_dir=tmp_path, verify=True, report=lambda what, *_: notes.append(what))
    assert any(note.startswith("note: encoding anew") and name in note for note in notes)
    assert mended.fingerprint == good.fingerprint and np.isin(mended.labels("test", "click"), (0, 1)).all()
    mended.split("train", mended.schema(())), mended.labels("valid", "click")


@pytest.mark.parametrize("change", ["fingerprint", "rows", "broken", "gone"])
def test_what_is_noted_beside_the_arrays_cannot_be_changed_unseen(tmp_path, change):
    good = prepare("synthetic", cache_dir=tmp_path)
    path = good.directory / "meta.json"
    meta = json.loads(path.read_text())
    if change == "gone":
        path.unlink()
    else:
        value = {"fingerprint": "0" * 32, "rows": meta["rows"] | {"train": 5}}.get(change)
        path.write_text(json.dumps(meta | {change: value}) if value else "{")
    assert prepare("synthetic", cache_dir=tmp_path).fingerprint == good.fingerprint
    assert json.loads(path.read_text()) == meta


def test_of_a_large_file_some_blocks_are_looked_at_and_all_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(integrity, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(integrity, "FULL_BYTES", 4 << 10)
    data = prepare("synthetic", cache_dir=tmp_path)
    looked = []
    real = integrity._check_blocks

    def watched(directory, name, blocks, chosen):
        looked.append((len(blocks), [*chosen]))
        real(directory, name, blocks, chosen)

    monkeypatch.setattr(integrity, "_check_blocks", watched)
    data.split("train", data.schema(()))
    data.split("train", data.schema(()))
    blocks, chosen = looked[0]
    assert blocks > 100 and len(chosen) == 4 and {0, blocks - 1} <= set(chosen)
    assert len(looked) == 2, "once per process and state of the file: codes and numbers"
    prepare("synthetic", cache_dir=tmp_path, verify=True)
    assert (blocks, [*range(blocks)]) in looked


def test_arrays_are_numpy_files_with_narrow_integers(tmp_path):
    data = prepare("synthetic", cache_dir=tmp_path)
    records = np.load(data.directory / "train.codes.npy")
    assert records.dtype.names == tuple(f"c{i}" for i in range(10)) and records.dtype.itemsize == 10
    schema = data.schema(())
    codes = data.split("train", schema).categorical()
    assert codes.dtype == np.int32
    for place, name in enumerate(records.dtype.names):
        assert np.array_equal(codes[:, place] - schema.offsets[place], records[name])
    assert np.array_equal(np.load(data.directory / "train.numeric.npy"), data.split("train", schema).numeric())
    assert np.array_equal(np.load(data.directory / "test.label.share.npy"), data.labels("test", "share"))


def test_a_raw_file_is_known_by_its_content(tmp_path):
    """Same size and same modification time, other content: other arrays."""
    lines = [f"u{i % 7},{i % 2},{int(i % 3 == 0)}" for i in range(400)]
    (tmp_path / "a.csv").write_text("\n".join(["user,click,buy", *lines]) + "\n")
    (tmp_path / "a.toml").write_text('name = "a"\nfiles = "a.csv"\ncategorical = ["user"]\nold_tasks = ["click"]\n'
                                     'new_tasks = ["buy"]\n')  # fmt: skip
    first = prepare(read_schema(tmp_path / "a.toml"), cache_dir=tmp_path / "cache")
    before = (tmp_path / "a.csv").stat()
    (tmp_path / "a.csv").write_text("\n".join(["user,click,buy", *lines[::-1]]) + "\n")
    os.utime(tmp_path / "a.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (tmp_path / "a.csv").stat().st_size == before.st_size
    assert prepare(read_schema(tmp_path / "a.toml"), cache_dir=tmp_path / "cache").fingerprint != first.fingerprint


HOLD = """
import sys, time
from pathlib import Path
from datasets_registry.raw.paths import locked
for _ in range(40):
    with locked(Path(sys.argv[1]) / "made"):
        log = open(Path(sys.argv[1]) / "log", "a", buffering=1)
        log.write("in\\n"); time.sleep(0.001); log.write("out\\n")
"""


def test_one_process_at_a_time_holds_the_lock(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    assert (tmp_path / "log").read_text() == "in\nout\n" * 160


def test_meta_tells_what_was_done(tmp_path):
    data = prepare("synthetic", cache_dir=tmp_path)
    meta = json.loads((data.directory / "meta.json").read_text())
    assert meta["rows_read"] == 20_000 and meta["split_rule"] == "random" and meta["warnings"] == []
    assert set(meta["base_rates"]) == {"click", "like", "share"}
