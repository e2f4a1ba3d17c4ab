"""How every figure looks: column width, fonts, colours that colour-blind readers tell apart, bytes that repeat."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.4
"""Width of one column of a two-column paper; text of 7 to 8 points stays readable at this size."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe & Ito's palette (2008) without its yellow, which vanishes on white; the last is a brown in its place."""

PALETTE = 128
"""Colours of a PNG: those that are used, and the shades between them along edges."""

Marker = str | tuple[int, Literal[1], int]
"""A marker of matplotlib; (points, 1, degrees) is a star, turned."""

MARKERS: dict[str, Marker] = {"joint": "s", "frozen": "o", "finetune": "^", "scratch": "X"}
OTHER_MARKERS: tuple[Marker, ...] = (
    "D", "v", "P", "<", ">", "p", "h", (5, 1, 0), "d", (4, 1, 0), (4, 1, 45), (6, 1, 0), (9, 1, 0), (5, 1, 180),
)  # fmt: skip
"""As many as the suite ``arms`` has arms besides those above."""

SETTINGS: Any = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # TrueType: text stays text, as publishers ask
    "figure.dpi": 100,
    "savefig.dpi": 250,
    "axes.unicode_minus": False,  # a sign outside Latin-1 costs every PDF a second embedded font
    "text.parse_math": False,  # names of methods are text, whatever signs they hold
    "svg.hashsalt": "mpt-bench",
}


@contextmanager
def figure(height: float, width: float = COLUMN_INCHES) -> Iterator[Figure]:
    """A figure in our style, independent of the user's settings and of any display."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; the CSV beside the picture has the name.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn


def save(drawn: Figure, stem: Path, stamp: str) -> None:
    """``stem``.pdf and .png without dates in them, so that the same records give the same files.

    ``stamp`` goes into the metadata of both.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    pdf, png = stem.with_name(stem.name + ".pdf"), stem.with_name(stem.name + ".png")
    drawn.draw_without_rendering()  # lay out once for both files
    drawn.set_layout_engine(None)
    drawn.savefig(pdf, metadata={"CreationDate": None, "Producer": None, "Creator": None, "Keywords": stamp})
    _save_png(drawn, png, stamp)


def _save_png(drawn: Figure, path: Path, stamp: str) -> None:
    """With a palette of its colours, which takes a third of the bytes."""
    from PIL import Image, PngImagePlugin

    with io.BytesIO() as whole:
        drawn.savefig(whole, format="png", metadata={"Software": None})
        picture = Image.open(whole).convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", stamp)
    dpi = SETTINGS["savefig.dpi"]
    picture.save(path, "PNG", optimize=True, dpi=(dpi, dpi), pnginfo=note)


def marker(arm: str, arms: list[str]) -> Marker:
    """One shape per arm; arms that this file does not know share the remaining shapes in order."""
    others = [other for other in arms if other not in MARKERS]
    return MARKERS.get(arm) or OTHER_MARKERS[others.index(arm) % len(OTHER_MARKERS)]
