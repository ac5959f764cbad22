"""The figures of a comparison: relative improvements with their intervals, slices, ROC curves, calibration."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.figure import Figure

from evaluator.offline.comparator.result import ComparisonReport, Curves, MetricImprovement, SliceImprovement
from evaluator.offline.render import plot, printable, shortened
from evaluator.offline.render.plot import BLUE, DASHED, GREEN, GREY, INK, MUTED, ORANGE

_MOST_ROWS = 40
_ARMS = {"champion": (BLUE, "-", "o"), "challenger": (ORANGE, DASHED, "s")}


def effects(report: ComparisonReport) -> Markup | None:
    """The improvement of each metric in percent of the champion's value, with its interval."""
    rows = [(f"{name} (primary)" if name == report.primary else name, one) for name, one in report.metrics.items()]
    return _forest(rows[:_MOST_ROWS], "effects", "Improvement of each metric in percent of the champion's value")


def slices(report: ComparisonReport) -> Markup | None:
    """The improvement inside each slice, on the same scale."""
    rows = [(f"{one.column or 'class'} {one.value}: {one.metric}", one) for one in report.slices]
    return _forest(rows[:_MOST_ROWS], "slices", "Improvement inside each slice in percent of the champion's value")


def _forest(rows: Sequence[tuple[str, MetricImprovement | SliceImprovement]], name: str, title: str) -> Markup | None:
    """A dot and its interval for each row; an open side has no whisker. None without any value."""
    shown = [(label, one) for label, one in rows if one.improvement is not None and one.baseline]
    if not shown:
        return None
    with plot.drawing():
        figure = Figure(figsize=(plot.WIDTH, 1.1 + 0.32 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        for row, (_, one) in enumerate(shown):
            scale = abs(one.baseline or 1.0)
            colour, mark = _verdict(one)
            ends = [(one.improvement if end is None else end) or 0.0 for end in (one.lower, one.upper)]
            axes.plot([end / scale for end in ends], [row, row], color=colour)
            axes.plot(
                [(one.improvement or 0.0) / scale], [row], mark, color=colour, markersize=8, markeredgecolor="white"
            )
        axes.axvline(0, color=INK, linewidth=0.9)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), [printable(shortened(label)) for label, _ in shown])
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        plot.percent_axis(axes.xaxis, "+.1%")
        axes.set_xlabel("challenger better →")
        return plot.svg(figure, name, title)


def _verdict(one: MetricImprovement | SliceImprovement) -> tuple[str, str]:
    """Colour and mark: better, worse, or neither shown."""
    if one.lower is not None and one.lower > 0:
        return GREEN, "^"
    return (ORANGE, "v") if one.upper is not None and one.upper < 0 else (GREY, "o")


def roc(curves: Curves) -> Markup | None:
    """Both ROC curves; None without two classes."""
    if not curves.roc:
        return None
    return _lines(curves.roc, "roc", "ROC", "false positive rate", "true positive rate", marks=False)


def calibration(curves: Curves, task: str) -> Markup:
    """Predicted against observed, in bins of equally many rows; on the diagonal the model is right on average."""
    predicted = "predicted probability" if task == "classification" else "prediction"
    observed = "observed share" if task == "classification" else "truth"
    return _lines(curves.calibration, "calibration", "Calibration", predicted, observed, marks=True)


def _lines(
    lines: dict[str, tuple[tuple[float, ...], tuple[float, ...]]],
    name: str,
    title: str,
    across: str,
    up: str,
    *,
    marks: bool,
) -> Markup:
    with plot.drawing():
        figure = Figure(figsize=(5.2, 4.4), layout="constrained")
        axes = figure.add_subplot()
        ends = [value for line in lines.values() for side in line for value in side]
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=MUTED, linewidth=0.9)
        for arm, (xs, ys) in lines.items():
            colour, style, mark = _ARMS[arm]
            axes.plot(xs, ys, linestyle=style, color=colour, marker=mark if marks else None, markersize=5, label=arm)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_title(title)
        axes.legend(loc="lower right")
        return plot.svg(figure, name, f"{title} of champion and challenger")
