"""Plots as inline SVG: one style, one palette, the same bytes for the same data; text stays text in the page's font.

Figures are drawn by themselves, never through pyplot's shared state. Every colour is doubled by a mark, a line style or
a word.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Final

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from evaluator.offline.render.text import printable

# Okabe and Ito's colours, darkened for lines on white; those of the stylesheet.
INK, MUTED, GRID, LINE = "#1f2933", "#5f6b78", "#e4e8ec", "#c4ccd4"
BLUE, ORANGE, GREEN, RED, GREY = "#0b62a4", "#c24d00", "#00795c", "#b4232f", "#7b8794"
SEVERITIES: Final = ("#ffffff", "#f6dfb0", "#eeb56b", "#dd7a45", RED)
"""Colours of a drift severity, none to critical."""
DASHED, DOTTED = (0, (4, 2)), (0, (1, 2))
WIDTH = 10.6
"""Inches of a figure as wide as the page."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gauntlet",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 11,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
}


@contextmanager
def drawing() -> Iterator[None]:
    """Figures are made and saved in this style."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Only a text's width is guessed with this font; the reader's browser has the letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an element for a page: `name` makes its ids unique, `description` is for screen readers."""
    content = saved(figure, "svg").decode()
    content = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", content[content.index("<svg") :])
    content = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", content)  # the page's own font
    head, body = content.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    return Markup(  # noqa: S704  matplotlib escapes every text that it draws
        f'<svg {box[0] if box else ""} role="img" aria-labelledby="{name}-t" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><title id="{name}-t">{escape(printable(description))}</title>'
        f"{body.strip()}"
    )


def saved(figure: Figure, kind: str) -> bytes:
    """The figure as a file: svg, png or pdf, without the time it was made."""
    metadata = {"svg": ("Date", "Creator", "Format", "Type"), "pdf": ("CreationDate",)}.get(kind, ())
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=130, metadata=dict.fromkeys(metadata))
    return out.getvalue()


def percent_axis(axis: Axis, form: str = ".0%") -> None:
    """Ticks in percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:{form}}"))


def note(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **options: Any) -> None:
    """A small annotation `shift` points beside a place, which the layout leaves out of account."""
    made = axes.annotate(text, at, shift, textcoords="offset points", **{"fontsize": 9, "color": MUTED, **options})
    made.set_in_layout(False)
