"""The tests mirror the packages. The harness is imported first: it says with which kernels torch and numpy compute."""

import benchmark  # noqa: F401
