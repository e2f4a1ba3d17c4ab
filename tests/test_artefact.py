"""What leaves the house names nobody, what comes in is checked, and what is installed works far from any checkout."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from benchmark.core.errors import BenchmarkError
from benchmark.records.record import read_record, write_record
from benchmark.records.tree import read_records
from benchmark.report.artefact import Scrubber, anonymous_records, write_archive
from benchmark.report.bundle import FIRST_ARMS, drawn, read_bundle
from tests.report import made

ROOT = Path(__file__).resolve().parents[1]
NAME, HOME = "jane.doe", "/home/jane.doe"


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A tree whose records say who made them in every place where text stands."""
    records = made.study({"shared_bottom": 0.94})
    for record in records:
        record.provenance.command = f"python run_all.py --data-dir {HOME}/data"
        record.log_tail = [f"{NAME}@lab-server: started"]
        record.warnings = [f"reading {HOME}/x"]
        record.provenance.host, record.provenance.worker = "lab-9.secret.org", "tcp://lab-9.secret.org:4040"
        record.reason = f"lost lab-9 at {HOME}/y"
        record.diagnostics = {"trace": ["seen on lab-9.secret.org", "/home/other.person/z"]}
    return made.write(tmp_path / "mine", records)


def test_a_scrubber_takes_whole_words_in_any_case_and_leaves_others() -> None:
    scrub = Scrubber(["Jane", "lab-server", "ab"], ["/home/jane"])
    assert scrub.text("JANE on lab-server: /home/jane/x, janet, ab") == "anonymous on anonymous: .../x, janet, ab"
    assert scrub.left_in("janet") is None and scrub.left_in("by jane") == "jane"


def test_anonymous_records_keep_every_number_and_no_name(named: Path, tmp_path: Path) -> None:
    scrub = Scrubber([NAME, "lab-server"], [HOME])
    assert anonymous_records(named, tmp_path / "out", scrub) == []
    before, after = read_records(named)[0], read_records(tmp_path / "out")[0]
    assert [r.run_id for r in after] == [r.run_id for r in before]
    assert [r.scores for r in after] == [r.scores for r in before]
    text = "".join(path.read_text() for path in (tmp_path / "out").rglob("record.json"))
    assert not any(word in text for word in (NAME, "lab-server", "/home", "0123456789abcdef"))


def test_the_archive_is_the_same_bytes_and_refuses_what_still_names_somebody(named: Path, tmp_path: Path) -> None:
    scrub = Scrubber([NAME], [HOME])
    code = tmp_path / "notes.md"
    code.write_text(f"Ask {NAME}.\n")
    anonymous_records(named, tmp_path / "out", scrub)
    for archive in ("a.zip", "b.zip"):
        write_archive(tmp_path / archive, {"docs/notes.md": code}, tmp_path / "out", "mine", scrub)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("mpt-bench/docs/notes.md") == b"Ask anonymous.\n"
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with pytest.raises(BenchmarkError, match="record.json still says 'jane.doe'"):
        write_archive(tmp_path / "c.zip", {}, named, "mine", scrub)
    assert not (tmp_path / "c.zip").exists()


def test_the_command_writes_an_archive_whose_tables_are_those_of_its_records(mpt, named: Path, tmp_path: Path) -> None:
    words = [part for name in (NAME, "lab-server", "jane.doe") for part in ("--word", name)]
    result = mpt("export-artefact", "--out", named, "--to", tmp_path / "a.zip", *words)
    assert result.code == 0 and result.text.count(NAME) == 1, result.text
    shutil.unpack_archive(tmp_path / "a.zip", tmp_path / "open")
    tree = tmp_path / "open/mpt-bench/results/mine"
    assert mpt("tables", "--check", "--out", tree).code == 0
    assert mpt("report", "--check", "--out", tree).code == 0
    inside = {path.name for path in (tmp_path / "open/mpt-bench").iterdir()}
    assert {"run_all.py", "methods", "docs", "README-ARTEFACT.md"} <= inside and "CITATION.cff" not in inside


def test_a_login_that_programs_use_as_a_word_is_taken_out_of_records_alone(
    mpt, named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in named.rglob("record.json"):
        record = read_record(path)
        record.log_tail = ["check@lab: started", "/srv/check/data"]
        write_record(path.parent, record)
    monkeypatch.setattr(getpass, "getuser", lambda: "check")  # README-ARTEFACT.md says `tables --check`
    monkeypatch.setenv("HOME", "/check")
    result = mpt("export-artefact", "--out", named, "--to", tmp_path / "a.zip", "--word", NAME)
    assert result.code == 0 and "what records say alone" in result.text, result.text
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = [n for n in archive.namelist() if "/results/mine/" in n and n.endswith("record.json")]
        records = [json.loads(archive.read(name)) for name in names]
    assert {tuple(r["log_tail"]) for r in records} == {("anonymous@lab: started", "/srv/anonymous/data")}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    records = [r for r in made.study({"my_method": 0.96}) if r.key.method == "my_method"]
    made.write(folder, records)
    source = (ROOT / "methods" / "shared_bottom.py").read_text()
    (folder / "my_method.py").write_text(source.replace('"shared_bottom"', '"my_method"'))
    (folder / "bundle.toml").write_text('method = "my_method"\nfile = "my_method.py"\nsuite = "quick"\n')
    return folder


def test_the_checker_draws_what_is_run_again_and_the_arms_that_add_the_task_come_first(bundle: Path) -> None:
    found = read_bundle(bundle)
    picks = {seed: [record.run_id for record in drawn(found, 4, seed)] for seed in ("a", "b", "c", "d")}
    assert picks["a"] == [record.run_id for record in drawn(read_bundle(bundle), 4, "a")]
    assert len({tuple(sorted(runs)) for runs in picks.values()}) > 1
    (bundle / "bundle.toml").write_text((bundle / "bundle.toml").read_text() + 'paper = "Doe    "\n')
    assert picks["a"] == [record.run_id for record in drawn(read_bundle(bundle), 4, "a")], "the sender's text decides"
    arms = [record.key.arm for record in drawn(found, len(found.records), "a")]
    added = [arm for arm in dict.fromkeys(arms) if arm not in FIRST_ARMS]
    assert arms[: len(added)] == added and set(arms[-len(FIRST_ARMS) :]) <= set(FIRST_ARMS)


def test_a_bundle_that_lacks_something_is_told_what(bundle: Path, mpt) -> None:
    result = mpt("check-bundle", bundle, "--runs", 0)
    assert result.code == 1 and "does not compare: census: no reference records of this dataset" in result.text
    found = read_bundle(bundle)
    assert found.problems({"my_method"}) == []
    assert found.problems(set()) == ["my_method.py registers no method 'my_method'."]
    min(bundle.glob("runs/census/my_method/frozen/*/record.json")).unlink()
    assert "arm frozen lacks the seeds" in read_bundle(bundle).problems({"my_method"})[0]
    (bundle / "bundle.toml").write_text('method = "my_method"\nfile = "../elsewhere.py"\nsuite = "quick"\n')
    assert "Python file in the bundle itself" in mpt("check-bundle", bundle).text
    (bundle / "bundle.toml").write_text('method = "my_method"\n')
    assert "the key 'file' is missing" in mpt("check-bundle", bundle).text


def test_the_version_is_said_once() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_an_installed_wheel_works_outside_a_checkout(tmp_path: Path) -> None:
    source, wheels, site = tmp_path / "source", tmp_path / "wheels", tmp_path / "site"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", wheels, source]
    built = subprocess.run(list(map(str, pip)), capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    script = """
import sys, benchmark as mb
from benchmark.cli.main import main
assert str(mb.reference()).startswith(sys.argv[1]), mb.reference()
assert len(mb.load()) > 50
assert mb.plan("quick", methods="mmoe").runs
for words in (["list", "suites"], ["docs", "rules"], ["fetch", "synthetic"], ["compare", str(mb.reference())]):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        assert not end.code or words[0] == "compare", words
from pathlib import Path
from benchmark.report import Report
from benchmark.report.html import About, render
assert "leaderboard" in render(Report((), (), ()), About())
"""
    environment = {**os.environ, "PYTHONPATH": str(site), "MPTBENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(site)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Rules of the benchmark" in done.stdout and "synthetic: ready" in done.stdout
    assert "are equal bit for bit" in done.stderr
