"""Devices and caches, on machines that are pretended."""

import os

import pytest
import torch

from benchmark.execution.memory import oom_kills
from benchmark.execution.places import Places, caches, devices, runs_per_gpu
from benchmark.records import provenance


@pytest.mark.parametrize(
    ("name", "visible", "expected"),
    [
        ("auto", 0, ["cpu"]),
        ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:1", 2, ["cuda:1"]),
        ("cuda:2, cuda:0,cuda:2", 3, ["cuda:2", "cuda:0"]),
        ("cpu", 8, ["cpu"]),
    ],
)
def test_the_devices_that_are_meant(name, visible, expected):
    assert devices(name, visible) == expected


@pytest.mark.parametrize(
    ("name", "visible", "words"),
    [
        ("cuda", 0, "no GPU"),
        ("cuda:1", 1, "GPU 0 alone"),
        ("cuda:0,cuda:9", 4, "GPUs 0 to 3"),
        ("cuda,cpu", 4, "no device"),
        ("cuda:x", 4, "no device"),
        ("cuda:0,", 4, "no device"),
    ],
)
def test_a_device_that_is_not_there_is_said(name, visible, words):
    with pytest.raises(ValueError, match=words):
        devices(name, visible)


def test_eight_gpus_get_the_same_number_of_runs_and_a_freed_one_is_next():
    places = Places([f"cuda:{n}" for n in range(8)])
    taken = [places.take() for _ in range(16)]
    assert sorted(place.device for place in taken) == sorted(2 * [f"cuda:{n}" for n in range(8)])
    places.give(taken[5])
    assert places.take().device == taken[5].device


def machine(root, domains, level=3):
    for cores in domains:
        for core in cores:
            for number, (depth, shared) in enumerate([(1, [core]), (level, cores)]):
                index = root / f"cpu{core}" / "cache" / f"index{number}"
                index.mkdir(parents=True)
                (index / "level").write_text(f"{depth}\n")
                ranges = f"{shared[0]}-{shared[-1]}" if len(shared) > 1 else f"{shared[0]}"
                (index / "shared_cpu_list").write_text(f"{ranges}\n")
    return root


def test_runs_are_spread_over_caches_by_their_number_of_cores(tmp_path):
    root = machine(tmp_path, [[0, 1, 2, 3], [4, 5, 6, 7]])
    found = caches(root, frozenset(range(8)) - {7})
    assert found == [frozenset({0, 1, 2, 3}), frozenset({4, 5, 6})]
    places = Places(["cpu"], found)
    taken = [places.take().cores for _ in range(7)]
    assert taken.count(found[0]) == 4 and taken.count(found[1]) == 3


def test_nobody_is_pinned_where_there_is_one_cache_or_the_system_does_not_tell(tmp_path):
    root = machine(tmp_path, [[0, 1]])
    assert Places(["cpu"], caches(root, frozenset({0, 1}))).take().cores is None
    assert caches(tmp_path / "nothing", frozenset({0, 1})) == []
    narrow = machine(tmp_path / "narrow", [[0], [1]])
    assert Places(["cpu"], caches(narrow, frozenset({0, 1})), threads=2).take().cores is None  # it would not fit


def test_a_run_works_on_its_cores(mpt, tmp_path, monkeypatch):
    from benchmark.execution import local
    from tests.sweep.trees import TINY

    core = max(os.sched_getaffinity(0))
    monkeypatch.setattr(local, "caches", lambda: [frozenset({core}), frozenset({core})])
    method = tmp_path / "where.py"
    method.write_text(
        "import os\nfrom tests.sweep.faulty import Linear, faulty\n"
        "@faulty('where')\nclass Where(Linear):\n    def forward(self, batch):\n"
        "        print('cores', sorted(os.sched_getaffinity(0)))\n        return super().forward(batch)\n"
    )
    words = ("--method-file", method, "--methods", "where", "--arms", "joint", "--out", tmp_path / "out")
    assert mpt("run", *TINY, *words).code == 0
    log = next((tmp_path / "out").glob("runs/tiny/where/joint/*/log.txt")).read_text()
    assert f"cores [{core}]" in log


@pytest.mark.parametrize(
    ("cores", "gigabytes", "runs"), [(16, [139], 16), (16, [80], 10), (16, [24, 8], 1), (4, [80, 80], 2), (1, [4], 1)]
)
def test_runs_share_a_gpu_as_far_as_cores_and_its_memory_reach(cores, gigabytes, runs):
    assert runs_per_gpu(cores, [size << 30 for size in gigabytes]) == runs


def test_the_kind_that_decides_a_gpus_bits_names_a_workspace_of_ones_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    usual = provenance.bits_kind("Some GPU")
    assert "Some GPU, compute capability 9.0, driver" in usual and "CUBLAS" not in usual
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert provenance.bits_kind("Some GPU") == usual + ", CUBLAS_WORKSPACE_CONFIG=:16:8"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_runs_at_once_on_every_gpu_are_bit_equal_to_one_alone(mpt, tmp_path):
    from tests.sweep.trees import TINY, without_times

    for name, more in (("one", ("--device", "cuda:0")), ("all", ("--device", "cuda", "--jobs-per-gpu", 2))):
        assert mpt("run", *TINY, "--methods", "shared_bottom", *more, "--out", tmp_path / name).code == 0
    assert without_times(tmp_path / "one") == without_times(tmp_path / "all")


def test_oom_is_told_by_the_systems_counters(tmp_path):
    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert oom_kills(tmp_path) == {}
    write("proc/self/cgroup", "0::/job\n")
    write("sys/fs/cgroup/job/memory.events", "low 0\noom 3\noom_kill 2\n")
    write("proc/vmstat", "nr_free 1\noom_kill 5\n")
    assert oom_kills(tmp_path) == {"its control group": 2, "the machine": 5}
    write("proc/self/cgroup", "4:cpu:/x\n3:memory:/old\n")
    write("sys/fs/cgroup/memory/old/memory.oom_control", "oom_kill_disable 0\noom_kill 1\n")
    assert oom_kills(tmp_path) == {"its control group": 1, "the machine": 5}
