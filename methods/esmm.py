"""Entire Space Multi-task Model."""

from __future__ import annotations

from dataclasses import dataclass

from methods.base import register_method
from methods.funnels import EntireSpace, FunnelConfig


@register_method(
    "esmm",
    title="ESMM",
    paper="Ma et al., Entire Space Multi-Task Model, SIGIR 2018",
    without=("adapter", "lora", "bias_only"),
    kinds=("binary", "regression"),
)
class ESMM(EntireSpace):
    """A conversion is learnt on all rows, through the product with the probability of what comes before it.

    p(click and conversion) = p(click) p(conversion | click), and the product is what is compared with the labels
    (equations 1 and 3 of the paper); see `EntireSpace` for funnels of any length, spaces and new tasks.

    Deviations: the paper pools embeddings field by field and uses towers of 360, 200, 80 and 2 units; here fields are
    concatenated and sizes are those of the MPT-Rec comparison.
    """

    @dataclass(frozen=True)
    class Config(FunnelConfig):
        pass
