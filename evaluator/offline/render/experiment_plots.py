"""An analysis's plots as inline SVG, the same bytes for the same answer; text stays text, in the page's own font.

Drawn on figures of their own, never through pyplot's shared state. Colours are told apart by the colour-blind, and
every one is doubled by a mark, a line style or a word.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape as html_escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from evaluator.offline.experiment.result import Analysis, Comparison, LookPoint
from evaluator.offline.render.experiment_text import decimals, escape, interval, number, shortened, signed

# Okabe and Ito's colours, two of them darkened for lines on white.
_INK, _MUTED, _GRID = "#1f2933", "#5f6b78", "#e4e8ec"
_BLUE, _ORANGE, _GREEN, _GREY = "#0b62a4", "#c24d00", "#00795c", "#7b8794"
# Colour and mark of a verdict in the forest.
_VERDICTS = {"better": (_GREEN, "^"), "worse": (_ORANGE, "v"), "equivalent": (_BLUE, "s")}
_OTHER = (_GREY, "o")
_POINTS = 400  # looks in a plot; more only make the file larger
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gauntlet",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": "#c4ccd4",
    "axes.labelcolor": _MUTED,
    "axes.titlesize": 11,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "text.parse_math": False,
}
_WIDTH = 10.6


def looks(answer: Analysis, one: Comparison, name: str) -> str:
    """Effect with its interval over the looks, z between its boundaries, and the arms' means; '' without any look."""
    points = _thinned([point for point in one.history if point.effect is not None])
    if not points:
        return ""
    with _drawing():
        figure = Figure(figsize=(_WIDTH, 5.6), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(3.1, 1), height_ratios=(1.25, 1))
        top = figure.add_subplot(grid[0, 0])
        low = figure.add_subplot(grid[1, 0], sharex=top)
        side = figure.add_subplot(grid[:, 1])
        _effect(top, one, points)
        _z(low, points)
        for axes in (top, low):
            if one.stopped is not None:
                axes.axvline(one.stopped.rows, color=_INK, linewidth=1, linestyle=(0, (1, 2)))
            axes.set_xlim(0, 1.02 * points[-1].rows)
        top.tick_params(labelbottom=False)
        low.set_xlabel("rows read")
        low.xaxis.set_major_formatter(FuncFormatter(_count))
        _means(side, answer, one)
        said = f"effect {signed(one.effect)} ({interval(one.lower, one.upper)}): {one.verdict}"
        return _svg(figure, name, f"{one.metric}, {one.challenger} against {answer.champion}: {said}")


def forest(whole: Comparison, parts: Sequence[Comparison], name: str) -> str:
    """The effect in every segment with its interval, below that over all rows; '' when none is known."""
    shown = [one for one in (whole, *parts) if one.effect is not None]
    if len(shown) < 2:
        return ""
    with _drawing():
        figure = Figure(figsize=(_WIDTH, 1.25 + 0.34 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        reach = _reach([v for one in shown for v in (one.effect, one.lower, one.upper)], one=whole)
        for row, one in enumerate(shown):
            _interval(axes, one, row, reach, whole=one is whole)
        axes.axvline(0, color=_INK, linewidth=0.9)
        if whole.effect is not None:
            axes.axvline(whole.effect, color=_MUTED, linewidth=1, linestyle=(0, (4, 2)))
        axes.axhline(0.5, color="#c4ccd4", linewidth=0.8)
        axes.set_xlim(*reach)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        names = [escape(shortened(one.segment or "all rows")) for one in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        right = axes.secondary_yaxis("right")
        right.set_yticks(range(len(shown)), [f"{sum(one.n.values()):,} rows, {escape(one.verdict)}" for one in shown])
        right.tick_params(length=0, labelcolor=_MUTED, labelsize=9.5)
        right.spines["right"].set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(_arrow(whole))
        return _svg(figure, name, f"{whole.metric} of {whole.challenger} by segment, each with its interval")


def _effect(axes: Axes, one: Comparison, points: Sequence[LookPoint]) -> None:
    rows = [point.rows for point in points]
    reach = _reach(_settled(points), one=one)
    beyond = reach[1] - reach[0]  # an open side goes out of the plot
    lower = [reach[0] - beyond if point.lower is None else point.lower for point in points]
    upper = [reach[1] + beyond if point.upper is None else point.upper for point in points]
    known = [point.lower is not None or point.upper is not None for point in points]
    axes.fill_between(rows, lower, upper, where=known, color=_BLUE, alpha=0.16, linewidth=0)
    axes.plot(rows, [point.effect for point in points if point.effect is not None], color=_BLUE)
    axes.axhline(0, color=_INK, linewidth=0.9)
    if one.margin:
        edge = -one.margin if one.direction == "higher" else one.margin
        axes.axhline(edge, color=_ORANGE, linewidth=1.1, linestyle=(0, (4, 2)))
        axes.annotate(
            "margin",
            (1, edge),
            (-4, 3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9,
            color=_ORANGE,
        )
    if one.stopped is not None:
        colour, mark = _VERDICTS.get(one.stopped.verdict, _OTHER)
        axes.plot(
            [one.stopped.rows], [one.stopped.effect], marker=mark, markersize=8, color=colour, markeredgecolor="white"
        )
        end, shift = ("right", -5) if one.stopped.rows > 0.6 * points[-1].rows else ("left", 5)
        said = f"{escape(one.stopped.verdict)} at look {one.stopped.look:,}"
        note = axes.annotate(
            said,
            (one.stopped.rows, 1),
            (shift, -3),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha=end,
            va="top",
            fontsize=9,
            color=colour,
        )
        note.set_in_layout(False)
    axes.set_ylim(*reach)
    axes.set_title(f"Effect on {escape(shortened(one.metric))}, with the interval that holds at every look")
    axes.set_ylabel(_arrow(one))


def _z(axes: Axes, points: Sequence[LookPoint]) -> None:
    known = [(point.rows, point.z) for point in points if point.z is not None]
    if known:
        axes.plot(*zip(*known, strict=True), color=_BLUE)
    values = [z for _, z in known]
    for bound in ("bound_lower", "bound_upper"):
        line = [(point.rows, getattr(point, bound)) for point in points if getattr(point, bound) is not None]
        if line:
            axes.plot(*zip(*line, strict=True), color=_INK, linewidth=1.1, linestyle=(0, (4, 2)))
            values += [line[-1][1], line[len(line) // 2][1]]
    axes.axhline(0, color=_INK, linewidth=0.9)
    reach = 1.25 * max([abs(v) for v in values] + [2.5])
    axes.set_ylim(-reach, reach)
    axes.set_title("z, and the boundaries that it must cross (dashed)")
    axes.set_ylabel("z")


def _means(axes: Axes, answer: Analysis, one: Comparison) -> None:
    looks_of = ((answer.champion, _GREY, "o"), (one.challenger, _BLUE, "s"))
    arms = [(arm, colour, mark, value) for arm, colour, mark in looks_of if (value := one.mean.get(arm)) is not None]
    values = [value for *_, value in arms]
    for place, (arm, colour, mark, value) in enumerate(arms):
        axes.plot([place], [value], marker=mark, markersize=9, color=colour, linestyle="none")
        axes.annotate(
            number(value, decimals(one)), (place, value), (0, 9), textcoords="offset points", ha="center", fontsize=10
        )
        axes.annotate(
            f"{one.n.get(arm, 0):,} rows",
            (place, value),
            (0, -18),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=_MUTED,
        )
    if len(values) == 2:
        axes.plot([0, 1], values, color="#c4ccd4", linewidth=1, zorder=1)
    axes.set_xticks(range(len(arms)), [escape(shortened(arm, 14)) for arm, *_ in arms])
    axes.tick_params(axis="x", length=0, labelcolor=_INK)
    axes.set_xlim(-0.6, max(len(arms), 2) - 0.4)
    if values:  # on the scale of the interval, so that no difference looks larger than it is known
        spread = max(max(values) - min(values), (one.upper or 0.0) - (one.lower or 0.0), 1e-12)
        middle = (max(values) + min(values)) / 2
        axes.set_ylim(middle - 0.9 * spread, middle + 0.9 * spread)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title("The arms' values")


def _interval(axes: Axes, one: Comparison, row: int, reach: tuple[float, float], *, whole: bool) -> None:
    """A dot and its whiskers; a side that leaves the plot, or is open, ends in an arrow."""
    colour, mark = _VERDICTS.get(one.verdict, _OTHER)
    low = reach[0] if one.lower is None else max(one.lower, reach[0])
    high = reach[1] if one.upper is None else min(one.upper, reach[1])
    axes.plot([low, high], [row, row], color=colour, linewidth=2.6 if whole else 1.7)
    for end, sign, limit in ((low, "<", reach[0]), (high, ">", reach[1])):
        if end == limit:
            axes.plot([end], [row], marker=sign, color=colour, markersize=6, clip_on=False)
    if one.effect is not None and reach[0] <= one.effect <= reach[1]:
        axes.plot(
            [one.effect],
            [row],
            marker="D" if whole else mark,
            color=colour,
            markersize=9 if whole else 8,
            markeredgecolor="white",
        )


def _settled(points: Sequence[LookPoint]) -> list[float | None]:
    """Effects, and the limits of the later half of the looks: the first intervals would hide all others."""
    late = points[len(points) // 2 :]
    effects: list[float | None] = [point.effect for point in points[len(points) // 4 :]]
    return effects + [point.lower for point in late] + [point.upper for point in late]


def _reach(values: Sequence[float | None], *, one: Comparison) -> tuple[float, float]:
    """Limits that hold zero, the margin and nearly all values; what reaches far beyond the others is cut."""
    known = sorted(value for value in values if value is not None)
    keep = known[len(known) // 50 : len(known) - len(known) // 50]
    keep = [*keep, 0.0, one.margin if one.direction == "lower" else -one.margin]
    low, high = min(keep), max(keep)
    room = 0.12 * (high - low) or 1.0
    return low - room, high + room


def _thinned(points: Sequence[LookPoint]) -> list[LookPoint]:
    step = max(1, -(-len(points) // _POINTS))
    kept = list(points[::step])
    return kept if not points or kept[-1] is points[-1] else [*kept, points[-1]]


def _arrow(one: Comparison) -> str:
    return "challenger better →" if one.direction == "higher" else "← challenger better"


def _count(value: float, _: object) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


@contextmanager
def _drawing() -> Iterator[None]:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Only a text's width is guessed with this font; the reader's browser has the letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element for a page: ids made unique by `name`, described for those who can't see it."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)  # the page's own font
    box = re.search(r'viewBox="([^"]*)"', text)
    body = text[text.index(">") + 1 :].strip()
    view = box[1] if box else ""
    return (
        f'<svg viewBox="{view}" role="img" aria-labelledby="{name}-t" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><title id="{name}-t">{html_escape(escape(description))}</title>'
        f"{body}"
    )
