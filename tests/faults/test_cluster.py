"""A sweep on a cluster of this machine: the records of one machine, whatever dies. Short version of cluster.py."""

import json
import re
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest

from benchmark.cli import engines
from benchmark.cli.options import Request
from benchmark.core.errors import BenchmarkError, UsageError
from benchmark.execution.cluster import connection, fitness, worker
from benchmark.execution.cluster.engine import DaskEngine
from benchmark.execution.cluster.fitness import Facts, Shipped, Wanted
from benchmark.execution.cluster.roster import Roster
from benchmark.execution.cluster.site import Site
from benchmark.execution.cluster.worker import Parcel
from benchmark.execution.job import OutputLost
from benchmark.records import provenance
from benchmark.records.record import read_record, run_directory, write_record
from benchmark.records.tree import read_records
from tests.report import made
from tests.sweep.trees import HERE, TINY, without_times

SWEEP = (*TINY, "--method-file", HERE / "faulty.py", "--methods", "large,diverges", "--arms", "joint,frozen")
"""A method whose weights have 10 MB, and one that diverges."""


def kill_a_worker_once(out):
    """As soon as there is a record; the killed process."""
    while not any(out.glob("runs/*/*/*/*/record.json")):
        time.sleep(0.01)
    for child in psutil.Process().children():  # a nanny's worker has a server of its own, from which runs are forked
        servers = [server for server in child.children() if "forkserver" in " ".join(server.cmdline())]
        if servers and "spawn_main" in " ".join(child.cmdline()):
            child.kill()
            return


def test_records_of_a_cluster_are_those_of_one_machine_although_a_worker_is_killed(mpt, tmp_path, caplog):
    local, out = tmp_path / "local", tmp_path / "dask"
    assert mpt("run", *SWEEP, "--jobs", 2, "--out", local).code == 1  # the one that diverges
    killer = threading.Thread(target=kill_a_worker_once, args=(out,), daemon=True)
    killer.start()
    result = mpt("run", *SWEEP, "--engine", "dask", "--workers", 2, "--jobs", 2, "--out", out)
    killer.join(10)
    assert result.code == 1 and "2 workers on 1 host, 2 runs at once" in result.text
    assert result.text.count("is gone; its runs are done elsewhere") == 1
    assert without_times(out) == without_times(local)
    records, problems = read_records(out)
    assert problems == [] and not list(out.glob("runs/**/lock.json")) and not list(out.glob("runs/**/.*"))
    for record in records:
        assert record.provenance.worker and record.provenance.host
        here, there = (run_directory(tree, record.key) for tree in (out, local))
        assert sorted(path.name for path in here.iterdir()) == sorted(path.name for path in there.iterdir())
    failed = next(r for r in records if r.key.method == "diverges" and r.key.arm == "joint")
    assert failed.status == "failed" and "epoch 2" in failed.reason
    # Nothing was done again but, if there was one, the run of the worker that was killed, and what Dask says was done
    # there and not yet sent.
    lost = re.findall(r"'[^']+ tiny-([0-9a-f]{16})-", "".join(m for m in caplog.messages if "already computed" in m))
    attempts = {record.run_id: record.provenance.attempts or 1 for record in records}
    assert sum(attempts[run] - 1 for run in attempts if run not in lost) <= 1
    assert max(attempts.values()) <= 2
    again = mpt("run", *SWEEP, "--out", out)
    assert f"({len(records)} were there already)" in again.text
    assert not [c for c in psutil.Process().children(recursive=True) if "distributed" in " ".join(c.cmdline())]


def test_the_same_parcel_twice_is_one_record(tmp_path):
    record = made.record("shared_bottom", "joint", 0, {"income": 0.9})
    there = run_directory(tmp_path / "worker", record.key)
    write_record(there, record)
    (there / "curve.csv").write_text("epoch\n")
    (there / "progress.pt").write_text("a checkpoint is no result")
    parcel = Parcel(record.run_id, "ok", worker._pack(there), "w0", "node1")
    assert sorted(parcel.files) == ["curve.csv", "record.json"]
    job = SimpleNamespace(directory=run_directory(tmp_path / "out", record.key))
    engine = DaskEngine.__new__(DaskEngine)
    engine._reset()
    engine._starts[record.run_id] = 2
    run = SimpleNamespace(id=record.run_id)
    first = engine._deliver(run, job, parcel)
    text = (job.directory / "record.json").read_bytes()
    assert engine._deliver(run, job, parcel) == first
    assert (job.directory / "record.json").read_bytes() == text
    kept = read_record(job.directory / "record.json")
    assert (kept.provenance.worker, kept.provenance.host, kept.provenance.attempts) == ("w0", "node1", 2)
    assert kept.scores == record.scores and len(read_records(tmp_path / "out")[0]) == 1


def test_a_parcel_of_another_run_or_with_a_path_in_a_name_writes_nothing_outside(tmp_path):
    record = made.record("shared_bottom", "joint", 0, {"income": 0.9})
    write_record(tmp_path / "w", record)
    files = worker._pack(tmp_path / "w")
    with pytest.raises(ValueError, match="holds the record of"):
        worker.unpack(Parcel("0" * 16, "ok", files), tmp_path / "out")
    worker.unpack(Parcel(record.run_id, "ok", files | {"../outside": b"x"}), tmp_path / "out")
    assert not (tmp_path / "outside").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputLost):
        worker.unpack(Parcel(record.run_id, "ok", {**files, "curve.csv": b"x"}), tmp_path / "file" / "run")


def wanted(**changes):
    numeric = provenance.versions(provenance.NUMERIC_PACKAGES)
    return replace(Wanted(fitness.program(), numeric, fitness.variables(), {"tiny": "f"}, "cpu", 1), **changes)


def test_a_worker_that_does_not_fit_is_refused_in_a_sentence(monkeypatch):
    assert fitness._refusal(wanted()) is None
    assert "another one" in fitness._refusal(wanted(program="0"))
    assert "it has torch" in fitness._refusal(wanted(packages={"torch": "0.1"}))
    monkeypatch.setattr(fitness.multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    assert "DASK_DISTRIBUTED__WORKER__DAEMON=False" in fitness._refusal(wanted())


def facts(kind, *, host="n1", machine="boot", cores=4, devices=("cpu",), lacks=None):
    return Facts(host, kind, "same", machine, cores, 1 << 30, devices, lacks or {})


def roster(one_kind, said, admitted):
    """Of no cluster: who is admitted is noted."""
    watcher = SimpleNamespace(cluster=lambda text: None)
    made = Roster(SimpleNamespace(run=None), "tcp://here", wanted(), watcher, said.append, one_kind, False)
    made._pool = SimpleNamespace(
        submit=lambda function, what, share, resources, **options: admitted.append((*options["workers"], share))
    )
    return made


def origin(machine, bits="same"):
    """Of a record that is there already."""
    return SimpleNamespace(machine=machine, bits_kind=bits)


def test_kinds_of_machines_are_told_and_refused_on_request():
    said, admitted = [], []
    workers = roster(False, said, admitted)
    workers._admit("first", facts("a"))
    workers.check_kinds([origin("a")])
    assert said == []
    workers.check_kinds([origin("b")])
    assert "2 kinds of machines (a; b): their seconds cannot be compared; their bits can" in said[0]
    workers.check_kinds([origin("b", "others")])
    assert "neither their seconds nor their bits" in said[1]
    workers.check_kinds([origin("b", None)])  # of an early version, which did not say it
    assert "neither their seconds nor their bits" in said[2]
    workers = roster(True, said, admitted)
    workers._admit("first", facts("a"))
    with pytest.raises(UsageError, match="--one-kind"):
        workers.check_kinds([origin("b")])


def test_a_late_worker_of_another_kind_or_without_data_is_told():
    said, admitted = [], []
    workers = roster(True, said, admitted)
    workers._admit("first", facts("kind"))
    workers._complete = True
    workers._admit("other", facts("another", host="n2"))
    workers._admit("empty", facts("kind", host="n3", lacks={"tiny": "it has no tiny"}))
    assert [address for address, _ in admitted] == ["first"]
    assert "--one-kind" in said[0] and "it has no tiny" in said[1]
    workers._present({"other"})
    assert "first (n1) is gone" in said[2] and workers.facts == {}


def test_the_kinds_of_all_workers_that_are_there_are_known_before_a_sweep_starts():
    said = []
    workers = roster(False, said, [])
    workers._looked = {"first", "second"}
    workers._news.put(("came", "first", facts("a")))
    later = threading.Timer(1.0, workers._news.put, [("came", "second", facts("b", host="n2"))])
    later.start()
    workers.wait_for(1, lambda: None)
    workers.check_kinds([])
    later.join()
    assert "2 kinds of machines (a; b)" in said[0]


def test_workers_of_one_machine_share_its_gpus_and_say_how_many_runs_it_has_at_once():
    said, admitted = [], []
    workers = roster(False, said, admitted)
    gpus = tuple(f"cuda:{n}" for n in range(4))
    for name, boot in (("w0", "m1"), ("w1", "m1"), ("w2", "m2")):
        workers._admit(name, facts("kind", host=boot, machine=boot, cores=2, devices=gpus))
    shares = dict(admitted)  # the last that each was told
    assert [(shares[name].others, shares[name].at_once) for name in ("w0", "w1", "w2")] == [(0, 4), (2, 4), (0, 2)]
    used = []
    for name in ("w0", "w1"):
        site = Site()
        site.share(shares[name].devices, 1, shares[name].others, shares[name].at_once)
        used += [site.places.take().device for _ in range(2)]
        assert site.at_once == 4
    assert sorted(used) == sorted(gpus)
    workers._present({"w1", "w2"})
    assert dict(admitted)["w1"].others == 0 and dict(admitted)["w1"].at_once == 2


def test_a_place_is_given_back_where_it_was_taken():
    site = Site()
    site.share(["cuda:0", "cuda:1"], 1, 0, 2)
    before, place = site.places, site.places.take()
    site.share(["cuda:0", "cuda:1"], 1, 0, 2)  # the next driver looks at the worker, and nothing has changed
    assert site.places is before
    before.give(place)
    assert [site.places.take().device for _ in range(2)] == ["cuda:0", "cuda:1"]


def test_a_plan_that_no_worker_can_do_ends_with_their_reasons(monkeypatch):
    monkeypatch.setattr("benchmark.execution.cluster.roster.PATIENCE_SECONDS", 0.1)
    workers = roster(False, [], [])
    workers._looked = {"w"}
    workers._admit("w", Facts("n1", refused="it has numpy 1"))
    with pytest.raises(BenchmarkError, match="w: it has numpy 1"):
        workers.wait_for(1, lambda: None)


def test_a_users_file_is_used_where_it_is_or_copied(tmp_path, monkeypatch):
    monkeypatch.setenv("MPTBENCH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "mine.py"
    file.write_text("x = 1\n")
    shipped = Shipped.of(file)
    assert shipped.here() == file
    file.write_text("x = 2\n")  # on this machine it is another one
    copy = shipped.here()
    assert copy != file and copy.name == "mine.py" and copy.read_text() == "x = 1\n"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(workers=2), "add --engine dask"),
        (Request(one_kind=True), "add --engine dask"),
        (Request(engine="dask"), "needs --scheduler"),
        (Request(engine="dask", scheduler="tcp://x:1", workers=2), "one of the two"),
    ],
)
def test_options_that_contradict_each_other_are_said(request_, words):
    with pytest.raises(UsageError, match=words):
        engines.check(request_)


def test_no_scheduler_at_an_address_is_said(monkeypatch):
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.5)
    with pytest.raises(UsageError, match=r"No Dask scheduler answers at tcp://127.0.0.1:9"):
        DaskEngine("tcp://127.0.0.1:9")


def test_a_record_says_nothing_of_workers_where_there_were_none(tmp_path):
    record = made.record("shared_bottom", "joint", 0, {"income": 0.9})
    content = json.loads(write_record(tmp_path, record).read_text())
    assert not {"worker", "host"} & set(content["provenance"] or {})
