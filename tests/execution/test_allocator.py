"""A run keeps the pages of its temporaries instead of asking for fresh ones at every step."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from benchmark.execution.allocator import keep_pages

if sys.argv[1] == "kept":
    assert keep_pages()

def step():  # freed in the order in which they were made, as the activations of a step are not
    held = [np.ones(1 << 20, np.float32) for _ in range(8)]
    del held

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what is set")
def test_steps_after_the_first_fault_next_to_no_page():
    faults = {
        how: int(
            subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True).stdout
        )
        for how in ("plain", "kept")
    }
    assert faults["kept"] < 100 < faults["plain"], faults  # 40 arrays of 1,024 pages
