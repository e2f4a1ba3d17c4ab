"""Encoding speed, run by ``pytest tests/datasets_registry/test_speed.py --benchmark-only``; never timed as a test.

Ali-CCP's raw form is generated at a tenth of the official training file (4.2 million rows, 73,060 common rows; about
1.2 GB of text in the temporary directory); MPTBENCH_BENCH_ROWS chooses another number of rows.
"""

import os
import subprocess
import sys

import pytest

from tests.datasets_registry.ali_ccp_files import write

MEASURE = """
import json, resource, sys, time
from datasets_registry import prepare
start = time.perf_counter()
data = prepare(sys.argv[1], data_dir=sys.argv[2], cache_dir=sys.argv[3])
seconds, cpu = time.perf_counter() - start, time.process_time()
size = sum(path.stat().st_size for path in data.directory.iterdir())
rows = data.meta["rows_read"]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
found = {"seconds": seconds, "cpu_seconds": cpu, "rows_per_second": rows / seconds}
found |= {"peak_bytes": peak, "bytes_per_row": size / rows}
print(json.dumps(found))
"""


def encode(name, data_dir, cache_dir):
    import json

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, name, str(data_dir), str(cache_dir)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ali_ccp(tmp_path_factory):
    rows = int(os.environ.get("MPTBENCH_BENCH_ROWS", "4230000"))
    directory = write(tmp_path_factory.mktemp("ali"), rows, max(1, rows * 730_600 // 42_300_135))
    return write(directory, max(1000, rows // 100), 1000, "test")


def test_ali_ccp_raw_to_arrays(benchmark, ali_ccp, tmp_path):
    benchmark.extra_info |= benchmark.pedantic(encode, ("ali_ccp", ali_ccp, tmp_path), rounds=1)


@pytest.mark.parametrize(
    ("name", "folder"), [("census_income", "census-income-kdd"), ("kuairand_pure", "kuairand-pure")]
)
def test_real_raw_to_arrays(benchmark, shared, tmp_path, name, folder):
    benchmark.extra_info |= benchmark.pedantic(encode, (name, shared(folder), tmp_path), rounds=1)
