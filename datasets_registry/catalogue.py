"""The catalogue of datasets. Importing it is cheap; its entries are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.core.registry import Registry

if TYPE_CHECKING:
    from datasets_registry.base import Dataset

DATASETS: Registry[Dataset] = Registry(
    "dataset",
    package="datasets_registry",
    entry_points="mptbench.datasets",
    helpers=frozenset(
        {
            "base",
            "cards",
            "catalogue",
            "croissant",
            "difficulty",
            "export",
            "fingerprint",
            "pipeline",
            "schema",
            "schema_file",
        }
    ),
)
