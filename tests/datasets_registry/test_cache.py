"""A cache directory that exists is complete: killed, concurrent and damaged preparations."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmark.core.errors import DataError
from datasets_registry import prepare
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


@pytest.mark.parametrize("name", ["meta.json", "train.categorical", "valid.label.click"])
def test_damaged_array_is_named(tmp_path, name):
    data = prepare("synthetic", cache_dir=tmp_path)
    file = data.directory / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DataError, match=name.replace(".", r"\.") + r".*delete"):
        damaged = prepare("synthetic", cache_dir=tmp_path)
        damaged.split("train", damaged.schema(()))
        damaged.labels("valid", "click")


def test_meta_tells_what_was_done(tmp_path):
    data = prepare("synthetic", cache_dir=tmp_path)
    meta = json.loads((data.directory / "meta.json").read_text())
    assert meta["rows_read"] == 20_000 and meta["split_rule"] == "random" and meta["warnings"] == []
    assert set(meta["base_rates"]) == {"click", "like", "share"}
