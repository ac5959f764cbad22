"""Plots as inline SVG: one style, one palette, the same bytes for the same data; text stays text in the page's font.

Figures are drawn by themselves, never through pyplot's shared state. Every colour is doubled by a mark, a line style or
a word. `ColumnHistogram` is what a column's plot shows of two samples.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from evaluator.drift.columns import Coded, Column, read_categories, read_numbers
from evaluator.drift.grid import Floats
from evaluator.offline.drift.result import ColumnSample
from evaluator.offline.render import printable

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
_BINS = 36
_CATEGORIES = 9
_TAIL = 0.005  # share of the values at either end that a histogram's range may leave out
_FEW = 12  # up to so many distinct whole numbers have a bar each
_HUGE = 1e150  # beyond it the width of a bin overflows


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


@dataclass(frozen=True, slots=True)
class ColumnHistogram:
    """Distributions of one column in the reference and now, as shares of the present values; for plots only.

    edges: of the bins of numbers, shape (bins + 1,), else empty. labels: of the bars of categories or of few whole
    numbers, else empty.
    """

    edges: tuple[float, ...]
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]

    @classmethod
    def of(cls, sample: ColumnSample | None) -> ColumnHistogram | None:
        """None without a sample, where a side has no value, or where no bin fits between the values."""
        if sample is None:
            return None
        build = cls._of_numbers if sample.numeric else cls._of_categories
        return build(sample.reference, sample.current)

    @classmethod
    def _of_numbers(cls, reference: Column, current: Column) -> ColumnHistogram | None:
        """Over the range that holds nearly all of both; values beyond it count at its ends."""
        before, now = _finite(reference), _finite(current)
        if not len(before) or not len(now):
            return None
        ranges = [np.quantile(side, (_TAIL, 1 - _TAIL)) for side in (before, now)]
        low, high = min(float(one[0]) for one in ranges), max(float(one[1]) for one in ranges)
        distinct = np.unique(np.concatenate([np.unique(before), np.unique(now)]))
        if len(distinct) <= _FEW and bool((distinct == np.round(distinct)).all()):
            labels = tuple(f"{value:g}" for value in distinct)
            return cls((), labels, _shares_of_values(before, distinct), _shares_of_values(now, distinct))
        if not (low < high and np.isfinite(high - low)):
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, _BINS + 1)
        if not (np.diff(edges) > 0).all():
            return None
        return cls(tuple(edges.tolist()), (), _shares_of_bins(before, edges), _shares_of_bins(now, edges))

    @classmethod
    def _of_categories(cls, reference: Column, current: Column) -> ColumnHistogram | None:
        """Histogram of the categories that are most frequent on either side, the rest as one."""
        before, now = _category_counts(reference), _category_counts(current)
        if not before or not now:
            return None
        share = {name: max(before[name] / before.total(), now[name] / now.total()) for name in {*before, *now}}
        names = sorted(share, key=lambda name: (-share[name], name))
        shown = names[:_CATEGORIES] if len(names) > _CATEGORIES + 1 else names
        sides = [[side[name] / side.total() for name in shown] for side in (before, now)]
        if len(shown) < len(names):
            shown = [*shown, f"{len(names) - len(shown)} others"]
            sides = [[*side, max(0.0, 1.0 - sum(side))] for side in sides]
        return cls((), tuple(shown), tuple(sides[0]), tuple(sides[1]))


def _finite(column: Column) -> Floats:
    values = read_numbers(column)[0]
    return values[np.abs(values) <= _HUGE]


def _category_counts(column: Column) -> Counter[str]:
    if isinstance(column, Coded):
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.values)).tolist()
        return Counter({value: count for value, count in zip(column.values, counts, strict=True) if count})
    return Counter(value for value in read_categories(column) if isinstance(value, str))


def _shares_of_bins(values: Floats, edges: Floats) -> tuple[float, ...]:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return tuple((counts / len(values)).tolist())


def _shares_of_values(values: Floats, distinct: Floats) -> tuple[float, ...]:
    return tuple((np.bincount(np.searchsorted(distinct, values), minlength=len(distinct)) / len(values)).tolist())
