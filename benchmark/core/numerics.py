"""Which kernels compute: the same bits on every x86-64 machine of a vendor, or the fastest that a CPU has.

torch and numpy choose their kernels by what the CPU can do, and kernels for AVX-512 round differently from those for
AVX2. In the mode ``portable`` (the default) torch is held to AVX2, which every x86-64-v3 machine has, so that a run
gives equal bits on machines of one vendor with and without AVX-512. ``native`` leaves the choice to torch. numpy is
held back in both modes: what it computes (encoded arrays, measures) never depends on the mode.

Matrix products are MKL's, which has kernels of its own for AMD (those for AVX2 alone) and no way to ask for them on
Intel: between the two vendors bits differ. On Intel it would take AVX-512 where there is some, so there its mode of
conditional numerical reproducibility holds it to AVX2.

Both libraries look at the environment once, when they are imported; the package ``benchmark`` calls `set_environment`
at its own import, before them. What is in force can differ from what was asked for (torch was imported first, the CPU
has no AVX2, another architecture): records keep what `in_force` finds.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODES = ("portable", "native")
VARIABLE = "MPTBENCH_NUMERICS"
"""Environment variable that chooses the mode where no option does."""

TORCH_VARIABLES = {"ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2"}
NUMPY_VARIABLES = {
    # The names of numpy 2.4 and later, and those before; a name that a numpy does not know is passed over by it.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL"
}
HELD_ON_INTEL = {"MKL_CBWR": "AVX2"}
"""Not set elsewhere: MKL promises this mode for CPUs of Intel alone."""
CLASHING = ("NPY_ENABLE_CPU_FEATURES",)
"""numpy refuses to start when this is set beside the variable above."""
BEYOND_AVX2 = ("X86_V4", "AVX512F", "AVX512_SKX")
BIT_VARIABLES = ("MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
"""Variables that may change bits beside the instruction sets in force, set here or outside."""

_outside: dict[str, str | None] = {}


def set_environment(mode: str | None = None) -> str:
    """Set the variables of ``mode`` (else of MPTBENCH_NUMERICS, else portable) for this process and those it starts.

    Returns the mode. What the variables of torch were before the first call comes back with ``native``. Has no effect
    on a torch or numpy that is imported already.
    """
    mode = mode or os.environ.get(VARIABLE) or MODES[0]
    if mode not in MODES:
        mode = MODES[0]  # the command line refuses the word; an import is no place for it
    intel = processor().get("vendor_id") == "GenuineIntel"
    variables = TORCH_VARIABLES | (HELD_ON_INTEL if intel else dict.fromkeys(HELD_ON_INTEL))
    for name in variables:
        _outside.setdefault(name, os.environ.get(name))
    if _has_avx2():
        for name in CLASHING:
            os.environ.pop(name, None)
        os.environ.update(NUMPY_VARIABLES)
        for name, value in variables.items():
            _put(name, value if mode == "portable" else _outside[name])
    _put(VARIABLE, None if mode == MODES[0] else mode)
    return mode


def _put(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _has_avx2() -> bool:
    """Whether this is an x86-64 machine that can do what ``portable`` asks for."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    flags = processor().get("flags")
    return flags is None or "avx2" in flags.split()


def processor() -> Mapping[str, str]:
    """What Linux tells of the first processor: ``vendor_id``, ``cpu family``, ``model``, ``stepping``, ``flags``, …;
    empty elsewhere."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            found = {}
            for line in lines:
                name, colon, value = line.partition(":")
                if not colon:
                    break
                found[name.strip()] = value.strip()
            return found
    except OSError:
        return {}


@dataclass(frozen=True)
class InForce:
    """Kernels that this process computes with: ``mode`` as it acts, and the instruction sets of torch and numpy."""

    mode: str
    torch: str
    numpy: str

    def __str__(self) -> str:
        return f"{self.mode} (torch {self.torch}, numpy {self.numpy})"


def in_force() -> InForce:
    """What torch and numpy use in this process, whatever was asked for. Imports both."""
    import torch
    from numpy._core import _multiarray_umath as numpy  # type: ignore[attr-defined]  # not in its stubs

    capability = torch.backends.cpu.get_cpu_capability()
    enabled = [name for name in numpy.__cpu_dispatch__ if numpy.__cpu_features__.get(name)]
    held = "AVX512" not in capability and not any(name in enabled for name in BEYOND_AVX2)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    portable = x86 and held and capability == "AVX2"
    return InForce(
        "portable" if portable else "native", capability, "+".join(enabled) or "+".join(numpy.__cpu_baseline__) or "-"
    )


def variables() -> dict[str, str]:
    """Variables of the environment that may change bits beside the mode, where they are set."""
    return {name: os.environ[name] for name in BIT_VARIABLES if os.environ.get(name)}
