"""One self-contained HTML page of a result tree: no request leaves it, and it can be read without JavaScript.

`render` gives the page's text, the same bytes for the same records. What the page tells beside the records (cards of
methods and datasets, why runs are stale) comes with `About`, so that this package reads records and nothing else.
"""

from __future__ import annotations

from benchmark.report.html.about import About, Card
from benchmark.report.html.page import PAGE, render

__all__ = ["PAGE", "About", "Card", "render"]
