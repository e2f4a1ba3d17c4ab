"""The datasets: one file each, found by walking this package. Importing it is cheap (no torch, no pandas)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.registry import Registry

if TYPE_CHECKING:
    from datasets_registry.base import Dataset

DATASETS: Registry[Dataset] = Registry(
    "dataset",
    package="datasets_registry",
    entry_points="mptbench.datasets",
    helpers=frozenset({"base", "schema", "sources", "encode"}),
)
