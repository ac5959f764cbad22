"""The plots of a drift check as inline SVG, the same bytes for the same report; text stays text, in the page's font.

Drawn on figures of their own, never through pyplot's shared state. Matplotlib escapes every name it is given.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from evaluator.offline.drift.result import SEVERITIES, Bars, StreamEvent, StreamStep

INK, MUTED, GRID = "#1f2933", "#66727f", "#e4e8ec"
BLUE, ORANGE = "#2563a8", "#d0702a"
COLOURS = ("#ffffff", "#f6dfb0", "#eeb56b", "#dd7a45", "#b4232f")
"""Of the severities, none to critical."""
_FEATURES = 12
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gauntlet",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": "#c4ccd4",
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
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
}
_WIDTH = 10.6


def distribution(column: str, bars: Bars, name: str) -> str:
    """Reference and current shares of one column side by side; `name` makes the element's ids unique."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 2.5), layout="constrained")
        axes = figure.subplots()
        if bars.labels:
            _categories(axes, bars.labels, bars.reference, bars.current)
        else:
            axes.stairs(bars.reference, bars.edges, fill=True, color=BLUE, alpha=0.22)
            axes.stairs(bars.reference, bars.edges, color=BLUE, linewidth=1.3, label="reference")
            axes.stairs(bars.current, bars.edges, fill=True, color=ORANGE, alpha=0.22)
            axes.stairs(bars.current, bars.edges, color=ORANGE, linewidth=1.3, label="current")
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.margins(x=0.01)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylim(bottom=0)
        axes.grid(axis="x", visible=False)
        return _svg(figure, name, f"Distribution of {column}, reference and current")


def _categories(axes: Axes, labels: Sequence[str], reference: Sequence[float], current: Sequence[float]) -> None:
    at = np.arange(len(labels))
    axes.bar(at - 0.2, reference, 0.38, color=BLUE, alpha=0.85, label="reference")
    axes.bar(at + 0.2, current, 0.38, color=ORANGE, alpha=0.85, label="current")
    short = [label if len(label) <= 12 else label[:11] + "…" for label in labels]
    crowded = sum(map(len, short)) > 46
    axes.set_xticks(at, short, rotation=40 if crowded else 0, ha="right" if crowded else "center")


def severity(
    steps: Sequence[StreamStep], rows: int, reference_rows: int, name: str, events: Sequence[StreamEvent] = ()
) -> str:
    """Severity over the rows, the rise of the loss, and the distances of the features that moved most; `reference_rows`
    are the first of them, each step holds until the next, and `name` says what one is of."""
    names = _worst(steps)
    rises = [step for step in steps if step.rise is not None]
    heights = [0.9, *([1.0] if rises else []), *([0.28 * len(names) + 0.25] if names else [])]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 1.1 + 1.45 * sum(heights)), layout="constrained")
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        plots = [row[0] for row in grid]
        _steps(plots[0], steps, rows, reference_rows)
        if rises:
            _rises(plots[1], rises, rows, name)
        if names:
            _heat(figure, plots[-1], steps, names, rows, name)
        plots[0].set_xlim(0, rows)
        plots[-1].set_xlabel("row")
        plots[-1].xaxis.set_major_formatter(FuncFormatter(lambda row, _: f"{row:,.0f}"))
        said = ", ".join(f"{e.event} {e.severity} {e.root_cause} at row {e.row}" for e in events)
        worst = max((step.severity for step in steps), key=SEVERITIES.index, default="NONE")
        return _svg(figure, "severity", f"Severity over the rows: {said or f'at most {worst}'}")


def _steps(axes: Axes, steps: Sequence[StreamStep], end: int, reference_rows: int) -> None:
    rows = [*(step.row for step in steps), end]
    ranks = [SEVERITIES.index(step.severity) for step in steps]
    if ranks:
        ranks.append(ranks[-1])
        for rank in range(1, len(SEVERITIES)):
            heights = [rank if r >= rank else rank - 1 for r in ranks]
            shown = [r >= rank for r in ranks]
            axes.fill_between(rows, rank - 1, heights, where=shown, step="post", color=COLOURS[rank], linewidth=0)
        axes.step(rows, ranks, where="post", color=INK, linewidth=1.0)
    if reference_rows:
        axes.axvspan(0, reference_rows, color=BLUE, alpha=0.08, linewidth=0)
        axes.annotate("reference", (reference_rows / 2, 4.05), ha="center", va="top", fontsize=9, color=BLUE)
    axes.set_yticks(range(len(SEVERITIES)), [name.lower() for name in SEVERITIES])
    axes.set_ylim(0, 4.2)
    axes.set_title("Severity")


def _rises(axes: Axes, steps: Sequence[StreamStep], end: int, name: str) -> None:
    rises = [step.rise for step in steps if step.rise is not None]
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.step([*(step.row for step in steps), end], [*rises, rises[-1]], where="post", color=ORANGE)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:+.0%}"))
    axes.set_title(f"Mean loss of a {name} against the reference's")


def _heat(figure: Figure, axes: Axes, steps: Sequence[StreamStep], names: Sequence[str], end: int, name: str) -> None:
    full = [step for step in steps if step.scores]
    table = np.array([[step.scores.get(name, np.nan) for step in full] for name in names])
    edges = np.array([*(step.row for step in full), max(end, full[-1].row + 1)], dtype=np.float64)
    mesh = axes.pcolormesh(edges, np.arange(len(names) + 1), table, cmap="YlOrRd", vmin=0, vmax=1, rasterized=True)
    axes.set_yticks(np.arange(len(names)) + 0.5, [n if len(n) <= 24 else n[:23] + "…" for n in names])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_title(f"Distance of a {name} from the reference, the features that moved most")
    figure.colorbar(mesh, ax=axes, pad=0.01, aspect=14, ticks=[0, 0.5, 1])


def _worst(steps: Sequence[StreamStep]) -> list[str]:
    worst: dict[str, float] = {}
    for step in steps:
        for name, score in step.scores.items():
            worst[name] = max(worst.get(name, 0.0), score)
    return sorted(worst, key=lambda name: (-worst[name], name))[:_FEATURES]


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element for a page: ids made unique by `name`, described for those who can't see it."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), dpi=110)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    head = (
        r'<svg viewBox="\1" role="img" aria-labelledby="' + name + r'-t" xmlns="http://www.w3.org/2000/svg" '
        r'xmlns:xlink="http://www.w3.org/1999/xlink"><title id="' + name + r'-t">@description@</title>'
    )
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', head, text, count=1, flags=re.DOTALL)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)  # the page's own font
    return text.replace("@description@", escape(description), 1).strip()
