"""Where the results and pages that come with the program are: in a checkout, or inside the installed package."""

from __future__ import annotations

from pathlib import Path

from benchmark.core.errors import UsageError

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED = Path(__file__).resolve().parents[1] / "shipped"
"""Where setup.py puts them in a wheel."""


def reference_trees() -> dict[str, Path]:
    """The result trees of the reference results by their names, which are those of their suites.

    Raises UsageError where they were taken out.
    """
    root = _first("results/reference", "reference", "the reference results")
    return {path.name: path for path in sorted(root.iterdir()) if (path / "runs").is_dir()}


def docs() -> Path:
    """The folder of the documentation. Raises UsageError where it was taken out."""
    return _first("docs", "docs", "the documentation")


def _first(in_checkout: str, installed: str, what: str) -> Path:
    # An installed package has no checkout around it, but site-packages may hold a folder of that name.
    places = [INSTALLED / installed]
    if (CHECKOUT / "run_all.py").is_file():
        places.insert(0, CHECKOUT / in_checkout)
    for place in places:
        if place.is_dir():
            return place
    raise UsageError(f"This installation lacks {what} ({places[0]}): install the package again, or use a checkout.")
