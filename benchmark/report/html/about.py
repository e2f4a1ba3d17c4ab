"""What the page is told beside the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Card:
    """A method or a dataset: its title, one paragraph, and facts as (what, text); ``name`` is that of the records."""

    name: str
    title: str
    text: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class About:
    """``title`` of the page and ``subtitle``; ``lead``: paragraphs that stand before everything else; ``stale``: run id
    to what has changed since; ``skips``: what was not planned and why, as (dataset, method, arm, reason)."""

    title: str = "MPT-Bench results"
    subtitle: str = ""
    lead: tuple[str, ...] = ()
    methods: tuple[Card, ...] = ()
    datasets: tuple[Card, ...] = ()
    stale: Mapping[str, str] = field(default_factory=dict)
    skips: tuple[tuple[str, str, str, str], ...] = ()
