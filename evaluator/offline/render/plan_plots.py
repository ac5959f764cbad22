"""A plan's plots: power and duration over the effect, and the progress of information along the ramp.

Drawn on figures of their own, never through pyplot's shared state; the same bytes for the same plan.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from evaluator.offline.planning.result import PlanReport, SimulationReport
from evaluator.offline.render.plan_text import percent, whole

FORMATS: Final = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, darkened for lines on white; each is doubled by a line style or a mark.
_INK, _MUTED, _GRID, _BLUE, _ORANGE, _GREY = "#1f2933", "#5f6b78", "#e4e8ec", "#0b62a4", "#c24d00", "#7b8794"
_DASHED, _DOTTED = (0, (4, 2)), (0, (1, 2))
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
    "text.parse_math": False,
}


def write(report: PlanReport | SimulationReport, path: str | Path) -> None:
    """The plots as a file; its ending says which kind, one of `FORMATS`. Raises OSError where it can't be written."""
    Path(path).write_bytes(drawn(report, Path(path).suffix.lower().lstrip(".")))


def drawn(report: PlanReport | SimulationReport, kind: str) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = _plan(report) if isinstance(report, PlanReport) else _simulation(report)
        out = io.BytesIO()
        dated: dict[str, Any] = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
        figure.savefig(out, format=kind, dpi=130, metadata=dated.get(kind, {}))
        return out.getvalue()


def svg(report: PlanReport) -> str:
    """The plots as an element for a page."""
    text = drawn(report, "svg").decode()
    return text[text.index("<svg") :]


def _plan(report: PlanReport) -> Figure:
    figure = Figure(figsize=(10.6, 7.2), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    _power(figure.add_subplot(grid[0, 0]), report)
    _duration(figure.add_subplot(grid[0, 1]), report)
    _progress(figure.add_subplot(grid[1, :]), report)
    return figure


def _power(axes: Axes, report: PlanReport) -> None:
    effects = [one.effect for one in report.curve]
    axes.plot(effects, [one.better for one in report.curve], color=_BLUE, label="ends better")
    axes.plot(
        effects, [one.fixed_power for one in report.curve], color=_GREY, linestyle=_DASHED, label="classical, one look"
    )
    axes.plot(effects, [one.worse for one in report.curve], color=_ORANGE, linestyle=_DOTTED, label="ends worse")
    _planned(axes, report)
    axes.axhline(report.question["power"], color=_MUTED, linewidth=0.8)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_title("Probability of each end, by the true effect")
    axes.set_xlabel("true effect, challenger − champion")
    axes.legend(loc="center right")


def _duration(axes: Axes, report: PlanReport) -> None:
    effects = [one.effect for one in report.curve]
    axes.plot(effects, [one.days for one in report.curve], color=_BLUE, label="mean")
    axes.plot(effects, [one.most_by for one in report.curve], color=_GREY, linestyle=_DASHED, label="90 % by")
    axes.axhline(report.form.days, color=_INK, linewidth=0.9)
    axes.annotate(
        f"horizon, {whole(report.form.days)} days",
        (0, report.form.days),
        (3, -3),
        fontsize=9,
        va="top",
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        color=_MUTED,
    )
    _planned(axes, report)
    axes.set_ylim(0, 1.08 * report.form.days)
    axes.set_title("Days to the end, by the true effect")
    axes.set_xlabel("true effect, challenger − champion")
    axes.set_ylabel("days")
    axes.legend(loc="lower left")


def _planned(axes: Axes, report: PlanReport) -> None:
    axes.axvline(report.question["effect"], color=_INK, linewidth=0.9, linestyle=_DOTTED)
    axes.axvline(0.0, color=_INK, linewidth=0.9)


def _progress(axes: Axes, report: PlanReport) -> None:
    steps = report.progress
    days = [step.day for step in steps]
    axes.plot(days, [step.fraction for step in steps], color=_BLUE, label="evidence, as a share of the horizon")
    if report.form.form == "split":
        axes.step(
            days,
            [step.share for step in steps],
            color=_GREY,
            linestyle=_DASHED,
            where="pre",
            label="challenger's share of the traffic that matures",
        )
    axes.axhline(1.0, color=_MUTED, linewidth=0.8)
    axes.set_ylim(0, max(1.08, 1.04 * steps[-1].fraction))
    axes.set_xlim(0, 1.01 * report.form.days)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_title(
        f"Evidence along the way: min_samples {report.form.min_samples:,}, power {percent(report.form.power)}"
    )
    axes.set_xlabel("days")
    beside = axes.twinx()
    for name, label, colour in (("bound_better", "bound of z for better", _INK), ("bound_worse", "for worse", _ORANGE)):
        known = [(step.day, abs(bound)) for step in steps if (bound := getattr(step, name)) is not None]
        if known:
            beside.plot(*_columns(known), color=colour, linewidth=1.1, linestyle=_DOTTED, label=label)
    beside.grid(visible=False)
    beside.set_ylim(0, 6)
    beside.set_ylabel("|z| that a look needs")
    lines = [*axes.get_lines()[: 2 if report.form.form == "split" else 1], *beside.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper left")


def _columns(rows: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [first for first, _ in rows], [second for _, second in rows]


def _simulation(report: SimulationReport) -> Figure:
    """When runs ended, for each true effect: the share that had ended better and worse by each day."""
    figure = Figure(figsize=(10.6, 3.4), layout="constrained")
    for place, one in enumerate(report.scenarios):
        axes = figure.add_subplot(1, len(report.scenarios), place + 1)
        for column, label, colour, style in ((1, "better", _BLUE, "-"), (2, "worse", _ORANGE, _DASHED)):
            days, shares, total = [0.0], [0.0], 0
            for end in one.ends:
                total += int(end[column])
                days.append(end[0])
                shares.append(total / report.runs)
            axes.step(
                [*days, report.days], [*shares, shares[-1]], color=colour, linestyle=style, where="post", label=label
            )
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 1.01 * report.days)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.set_title(f"Ended by that day: {one.name}")
        axes.set_xlabel("days")
        axes.legend(loc="upper left")
    return figure
