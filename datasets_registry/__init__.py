"""The datasets: one file each, found by walking this package. Importing it is cheap (no torch, no pandas, no numpy).

``prepare(name)`` goes from raw files to memory-mapped arrays and returns an `EncodedDataset`; ``availability(name)``
says, without touching the network, whether the data is at hand.
"""

from datasets_registry.catalogue import DATASETS
from datasets_registry.pipeline import availability, encoded, fetch, find, prepare, terms, validate
from datasets_registry.schema_file import load_file

__all__ = ["DATASETS", "availability", "encoded", "fetch", "find", "load_file", "prepare", "terms", "validate"]
