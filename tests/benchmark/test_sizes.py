"""The listing's sizes: the exact numbers that follow from the architectures, counted once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.planning import sizes
from methods import MethodInfo

ROOT = Path(__file__).resolve().parents[2]
SHARES = {
    "shared_bottom": "10,369 / 97,631 = 10.6 %",
    "mmoe": "10,738 / 228,018 = 4.7 %",
    "ple": "117,613 / 451,501 = 26.0 %",
    "stem": "77,139 / 298,679 = 25.8 %",
    "mpt_rec": "27,063 / 293,060 = 9.2 %",
    "single_task": "-",
}


def test_methods_are_listed_with_paper_arms_and_the_share_that_the_frozen_arm_trains(mpt):
    result = mpt("list", "methods", "--json")
    rows = {row["name"]: row for row in json.loads(result.text)}
    assert SHARES.items() <= {name: row["trained"] for name, row in rows.items()}.items()
    assert (rows["mpt_rec"]["trained_parameters"], rows["mpt_rec"]["joint_parameters"]) == (27_063, 293_060)
    shown = mpt("list", "methods").text
    line = next(line for line in shown.splitlines() if line.startswith("mpt_rec"))
    assert all(part in line for part in ("MPT-Rec", "Bai et al.", "frozen", SHARES["mpt_rec"]))


def test_a_second_listing_counts_nothing_and_imports_no_torch(mpt, monkeypatch):
    first = mpt("list", "methods", "--json").text
    monkeypatch.setattr(sizes, "_count", lambda method: pytest.fail(f"{method} was counted again"))
    assert mpt("list", "methods", "--json").text == first
    script = (
        "import sys; from benchmark.cli.listing import list_methods; list_methods(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_a_changed_file_is_counted_again_and_a_method_that_cannot_be_built_says_why(mpt, tmp_path, monkeypatch):
    info = MethodInfo("made", "Made", "none", file=str(tmp_path / "made.py"))
    (tmp_path / "made.py").write_text("x = 1\n")
    monkeypatch.setattr(sizes, "_count", lambda method: sizes.Size(1, 10))
    assert sizes.sizes([info]) == {"made": sizes.Size(1, 10)}
    monkeypatch.setattr(sizes, "_count", lambda method: sizes.Size(2, 10))
    assert sizes.sizes([info]) == {"made": sizes.Size(1, 10)}
    (tmp_path / "made.py").write_text("x = 2\n")
    assert sizes.sizes([info]) == {"made": sizes.Size(2, 10)}
    (tmp_path / "made.py").write_text("x = 3\n")
    monkeypatch.setattr(sizes, "_count", lambda method: 1 / 0)
    assert "test_sizes.py:" in sizes.sizes([info])["made"] and "ZeroDivisionError" in sizes.sizes([info])["made"]
