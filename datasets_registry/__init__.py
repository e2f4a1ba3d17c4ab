"""The datasets: one file each, found by walking this package. Importing it is cheap (no torch, no pandas, no numpy).

``prepare(name)`` goes from raw files to memory-mapped arrays and returns an `EncodedDataset`; ``availability(name)``
says, without touching the network, whether the data is at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.registry import Registry

if TYPE_CHECKING:
    from datasets_registry.base import Dataset

DATASETS: Registry[Dataset] = Registry(
    "dataset",
    package="datasets_registry",
    entry_points="mptbench.datasets",
    helpers=frozenset(
        {
            "ali_ccp_raw",
            "archives",
            "base",
            "cards",
            "checks",
            "conformance",
            "delimited",
            "download",
            "encode",
            "manifest",
            "own",
            "pipeline",
            "places",
            "profiles",
            "schema",
            "sources",
            "splits",
            "store",
            "vocabulary",
        }
    ),
)

from datasets_registry.own import load_file  # noqa: E402  (needs DATASETS)
from datasets_registry.pipeline import availability, encoded, fetch, find, prepare, validate  # noqa: E402  (needs DATASETS)

__all__ = ["DATASETS", "availability", "encoded", "fetch", "find", "load_file", "prepare", "validate"]
