"""Named random streams.

A stream's seed is the hash of the words that name it, never a sum of numbers, so adding a method, a task or a
parameter moves nobody else's stream:

=====================  ==========================================  =================================================
stream                 words                                       decides
=====================  ==========================================  =================================================
split                  ``split, dataset``                          which rows are validation and which are test
order                  ``order, dataset, seed``                    order of training rows (the same for all methods)
init                   ``init, dataset, method, seed[, module]``   initial weights, module by module
environment            ``environment, dataset, method, seed``      what else a method draws (e.g. environment ids)
dropout                ``dropout, dataset, method, seed``          dropout masks
bootstrap              ``bootstrap, table``                        resampling inside a table
tune                   ``tune, dataset, method``                   configs that tuning tries
=====================  ==========================================  =================================================
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy and torch are imported where they are used: listing and planning need neither
    import numpy as np
    import torch


def stream_seed(*words: str | int) -> int:
    """Seed in [0, 2**63) of the stream that these words name. ``("a", 1)`` and ``("a1",)`` are different streams."""
    text = "\x1f".join(f"{type(word).__name__}:{word}" for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def numpy_stream(*words: str | int) -> np.random.Generator:
    """A numpy generator for the named stream."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(stream_seed(*words)))


def torch_stream(*words: str | int, device: str = "cpu") -> torch.Generator:
    """A torch generator for the named stream."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(*words))
