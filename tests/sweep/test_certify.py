"""Certificates: code that changed no result keeps its records; code that changed one, or a forged sample, does not."""

import json
import subprocess
import sys

import pytest

from benchmark.core.programs import ROOT
from benchmark.records.agreement import differences
from benchmark.records.certificates import CERTIFICATES, Stratum, draw
from benchmark.records.tree import read_records
from tests.sweep.trees import HERE


@pytest.fixture
def sweep(mpt, tmp_path):
    """A finished sweep of a method of one's own: its tree, how to edit it, and how to call a command on both."""
    file, out = tmp_path / "mine.py", tmp_path / "out"
    assert mpt("new-method", "mine", "--directory", tmp_path).code == 0
    plugins = ("--method-file", file, "--dataset-file", HERE / "tiny.py")
    words = ("--suite", "smoke", "--datasets", "tiny", "--methods", "mine", "--arms", "frozen", "--seeds", "0-1")
    made = mpt("run", *words, *plugins, "--set", "budget.epochs=1", "--out", out)
    assert made.code == 0, made.text

    def edit(before, after):
        assert before in file.read_text()
        file.write_text(file.read_text().replace(before, after))

    def call(command, *more):  # in a process of its own, which reads the edited file
        words = [sys.executable, "run_all.py", command, "--out", out, *plugins, *more]
        return subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True)

    return out, edit, call


def test_a_rename_is_certified_and_neither_a_forged_sample_nor_a_changed_constant(sweep):
    out, edit, call = sweep

    def status():
        return json.loads(call("status", "--json").stdout)

    edit("shared = self.shared(self.embed(batch))", "hidden = self.shared(self.embed(batch))")
    edit("tower(shared)", "tower(hidden)")
    of_the_method = {record.run_id for record in read_records(out)[0] if record.key.method == "mine"}
    assert len(status()["stale"]) == len(of_the_method) > 0
    done = call("certify", "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    after = status()
    assert after["stale"] == [] and set(after["certified"]) == of_the_method

    certificates = json.loads((out / CERTIFICATES).read_text())
    chosen = certificates[0]["runs"][0]
    certificates[0]["runs"] = [next(run for run in sorted(of_the_method) if run != chosen)]
    (out / CERTIFICATES).write_text(json.dumps(certificates))
    forged = status()
    assert len(forged["refused_certificates"]) == 1 and len(forged["stale"]) > 0

    edit("self.shared(self.embed(batch))", "self.shared(self.embed(batch)) * 0.5")
    (out / CERTIFICATES).unlink()
    refused = call("certify", "--jobs", "1")
    assert refused.returncode == 1 and "tiny/mine/frozen" in refused.stderr
    assert not (out / CERTIFICATES).exists()


def test_the_sample_follows_from_the_two_fingerprints_alone():
    records, _ = read_records(HERE / "reference")
    record = records[0]
    kind, key = record.provenance.bits_kind, record.key
    many = [record.model_copy(update={"run_id": f"{number:016x}"}) for number in range(50)]
    old = record.provenance.code_fingerprint
    samples = {
        new: [r.run_id for r in draw(Stratum(key.dataset, key.method, key.arm, None, old, new), kind, many, 3)]
        for new in ("aa", "ab", "ac")
    }
    again = draw(Stratum(key.dataset, key.method, key.arm, None, old, "aa"), kind, many[::-1], 3)
    assert [r.run_id for r in again] == samples["aa"]
    assert len({tuple(sample) for sample in samples.values()}) == 3 and all(len(s) == 3 for s in samples.values())


def test_every_stated_value_but_the_times_is_compared():
    record = read_records(HERE / "reference")[0][0]

    def changed(**values):
        return record.model_copy(deep=True, update=values)

    assert differences(record, record) == []
    later = changed()
    later.curve[0].train_seconds += 1
    next(iter(later.scores.values())).metrics["a metric that joined"] = 0.5
    assert differences(record, later) == []
    score = changed()
    task, scores = next(iter(score.scores.items()))
    scores.metrics["auc"] += 1e-12
    assert [line.partition(":")[0] for line in differences(record, score)] == [f"scores.{task}.metrics.auc"]
    assert differences(record, changed(weights_fingerprint="0" * 16))
    assert differences(record, changed(train_rows=1))
