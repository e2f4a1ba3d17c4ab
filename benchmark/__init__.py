"""The harness: plans runs, executes them, measures them, keeps the records and tells what they say.

From Python: ``import benchmark as mb``, then `benchmark.api.load`, ``plan``, ``run``, ``tables``, ``rows``,
``compare_predictions``, ``reference`` as ``mb.load`` and so on. Importing this package imports nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.core import numerics

__version__ = "0.1.0"

numerics.set_environment()  # before torch and numpy are imported: they choose their kernels then

if TYPE_CHECKING:
    from benchmark.api import analyse, compare_predictions, load, load_all, plan, ranking, reference, rows, run, tables

__all__ = [
    "__version__",
    "analyse",
    "compare_predictions",
    "load",
    "load_all",
    "plan",
    "ranking",
    "reference",
    "rows",
    "run",
    "tables",
]


def __getattr__(name: str) -> Any:
    """The names of `benchmark.api`, imported when they are first asked for."""
    if name in __all__:
        from benchmark import api

        return getattr(api, name)
    raise AttributeError(f"module 'benchmark' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
