"""The numeric mode: what it sets, what is in force, and that it overrides what was set from outside."""

import json
import os
import subprocess
import sys

import pytest

from benchmark.core import numerics

TELL = """
import json, benchmark
from benchmark.core import numerics
force = numerics.in_force()
import numpy, torch
x = torch.linspace(-3, 3, 1000)
print(json.dumps([force.mode, force.torch, force.numpy, torch.nn.functional.softplus(x).sum().item()]))
"""


def tell(code=TELL, **environment):
    own = ("ATEN", "DNNL", "NPY", "MKL", "MPTB")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


avx2 = pytest.mark.skipif(not numerics._has_avx2(), reason="an x86-64 machine with AVX2 is needed")


@avx2
@pytest.mark.parametrize(
    "outside",
    [
        {},
        {"ATEN_CPU_CAPABILITY": "default"},
        {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
        {"NPY_ENABLE_CPU_FEATURES": "X86_V3"},
        {numerics.VARIABLE: "portable"},
    ],
    ids=str,
)
def test_portable_is_the_default_whatever_is_set_outside(outside):
    mode, torch_set, numpy_set, _ = tell(**outside)
    assert (mode, torch_set, numpy_set) == ("portable", "AVX2", "X86_V3")


@avx2
def test_native_leaves_torch_alone_and_holds_numpy_back():
    _, own, _, _ = tell("import json, torch; print(json.dumps(['', torch.backends.cpu.get_cpu_capability(), '', 0]))")
    mode, torch_set, numpy_set, _ = tell(**{numerics.VARIABLE: "native"})
    assert torch_set == own and numpy_set == "X86_V3"
    assert mode == ("native" if own != "AVX2" else "portable")
    assert tell(**{numerics.VARIABLE: "native", "ATEN_CPU_CAPABILITY": "default"})[:2] == ["native", "DEFAULT"]


@avx2
def test_native_brings_back_what_was_set_before():
    code = """
import json, os, benchmark
from benchmark.core import numerics
numerics.set_environment("native")
print(json.dumps([os.environ.get("ATEN_CPU_CAPABILITY"), os.environ["MPTBENCH_NUMERICS"]]))
"""
    assert tell(code) == [None, "native"]
    assert tell(code, ATEN_CPU_CAPABILITY="default") == ["default", "native"]


@avx2
def test_matrix_products_do_not_depend_on_what_else_an_intel_machine_can_do():
    """MKL takes AVX-512 on Intel whatever torch is held to; on AMD it has one way, which the variable would spoil."""
    code = """
import benchmark, hashlib, json, os, torch
torch.set_num_threads(1)
made = torch.Generator().manual_seed(0)
digest = hashlib.blake2b()
for rows, inside, columns in ((256, 43, 128), (1024, 172, 256), (37, 64, 1)):
    first, second = (torch.randn(*shape, generator=made) for shape in ((rows, inside), (inside, columns)))
    digest.update((first @ second).numpy().tobytes())
print(json.dumps([os.environ.get("MKL_CBWR"), digest.hexdigest()]))
"""
    held, products = tell(code)
    assert held == ("AVX2" if numerics.processor().get("vendor_id") == "GenuineIntel" else None)
    for outside in ({"MKL_CBWR": "COMPATIBLE"}, {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}):
        assert tell(code, **outside) == [held, products]
    assert tell(code, MPTBENCH_NUMERICS="native", MKL_CBWR="COMPATIBLE")[0] == "COMPATIBLE"


@avx2
def test_what_was_imported_first_is_recorded_as_it_is():
    """Nothing is claimed that is not in force."""
    mode, torch_set, numpy_set, _ = tell("import numpy, torch\n" + TELL)
    assert mode == ("portable" if (torch_set, numpy_set) == ("AVX2", "X86_V3") else "native")
