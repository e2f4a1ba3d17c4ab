"""Encoding speed, run by ``pytest tests/datasets_registry/test_speed.py --benchmark-only``; never timed as a test.

Ali-CCP's raw form is generated at a tenth of the official training file (4.2 million rows, 73,060 common rows; about
1.2 GB of text in the temporary directory); MPTBENCH_BENCH_ROWS chooses another number of rows.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.datasets_registry import vk_lsvd_files
from tests.datasets_registry.ali_ccp_files import write


def encode(name, data_dir, cache_dir):
    command = [sys.executable, "-m", "tests.datasets_registry.measured", name, str(data_dir), str(cache_dir)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def ali_ccp(tmp_path_factory):
    rows = int(os.environ.get("MPTBENCH_BENCH_ROWS", "4230000"))
    directory = write(tmp_path_factory.mktemp("ali"), rows, max(1, rows * 730_600 // 42_300_135))
    return write(directory, max(1000, rows // 100), 1000, "test")


def test_ali_ccp_raw_to_arrays(benchmark, ali_ccp, tmp_path):
    benchmark.extra_info |= benchmark.pedantic(encode, ("ali_ccp", ali_ccp, tmp_path), rounds=1)


def test_own_memory_stays_bounded_at_many_rows(benchmark, tmp_path):
    """A hundred million rows take 4 GiB at most; what is a matter of rows has to fit beside the side tables."""
    rows = int(os.environ.get("MPTBENCH_BENCH_ROWS", "4230000"))
    directory = vk_lsvd_files.write(tmp_path / "raw", rows)
    benchmark.extra_info |= benchmark.pedantic(encode, ("vk_lsvd", directory, tmp_path / "cache"), rounds=1)
    assert benchmark.extra_info["own_bytes"] < 4 << 30


@pytest.mark.parametrize(
    ("name", "folder"), [("census_income", "census-income-kdd"), ("kuairand_pure", "kuairand-pure")]
)
def test_real_raw_to_arrays(benchmark, shared, tmp_path, name, folder):
    benchmark.extra_info |= benchmark.pedantic(encode, (name, shared(folder), tmp_path), rounds=1)
