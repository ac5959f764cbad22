"""The figures of the reports: looks and segments of an experiment, drift of a column and over rows, a plan, its runs.

Each function draws one figure; `svg` of the kit makes it an element of a page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from evaluator.offline.drift.result import DriftStep, StreamEvent
from evaluator.offline.experiment.result import Analysis, ArmComparison, LookPoint
from evaluator.offline.planning.result import PlanReport, SimulationReport
from evaluator.offline.render import (
    interval,
    interval_decimals,
    number,
    percent,
    plot,
    printable,
    shortened,
    signed,
    whole,
)
from evaluator.offline.render.plot import BLUE, DASHED, DOTTED, GREEN, GREY, INK, LINE, MUTED, ORANGE, ColumnHistogram
from gauntlet.types import Severity

_VERDICTS = {"better": (GREEN, "^"), "worse": (ORANGE, "v"), "equivalent": (BLUE, "s")}
"""Colour and mark of a verdict."""
_UNDECIDED = (GREY, "o")
_MOST_POINTS = 400  # looks in a plot; more only make the file larger
_MOST_FEATURES = 12  # rows of the heat map

# Experiments ---------------------------------------------------------------------------------------------------------


def looks(answer: Analysis, one: ArmComparison, name: str) -> Markup | None:
    """Effect with its interval over the looks, z between its boundaries, and the arms' means; None without a look."""
    points = _thinned([point for point in one.history if point.effect is not None])
    if not points:
        return None
    with plot.drawing():
        figure = Figure(figsize=(plot.WIDTH, 5.6), layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=(3.1, 1), height_ratios=(1.25, 1))
        top = figure.add_subplot(grid[0, 0])
        low = figure.add_subplot(grid[1, 0], sharex=top)
        _effect(top, one, points)
        _z(low, points)
        for axes in (top, low):
            if one.stopped is not None:
                axes.axvline(one.stopped.rows, color=INK, linewidth=1, linestyle=DOTTED)
            axes.set_xlim(0, 1.02 * points[-1].rows)
        top.tick_params(labelbottom=False)
        low.set_xlabel("rows read")
        low.xaxis.set_major_formatter(FuncFormatter(_thousands))
        _means(figure.add_subplot(grid[:, 1]), answer, one)
        outcome = f"effect {signed(one.effect)} ({interval(one.lower, one.upper)}): {one.verdict}"
        return plot.svg(figure, name, f"{one.metric}, {one.challenger} against {answer.champion}: {outcome}")


def _effect(axes: Axes, one: ArmComparison, points: Sequence[LookPoint]) -> None:
    rows = [point.rows for point in points]
    late = points[len(points) // 2 :]  # the first intervals would hide all others
    effects = [point.effect for point in points[len(points) // 4 :]]
    reach = _reach([*effects, *(p.lower for p in late), *(p.upper for p in late)], one)
    beyond = reach[1] - reach[0]  # an open side goes out of the plot
    lower = [reach[0] - beyond if point.lower is None else point.lower for point in points]
    upper = [reach[1] + beyond if point.upper is None else point.upper for point in points]
    known = [point.lower is not None or point.upper is not None for point in points]
    axes.fill_between(rows, lower, upper, where=known, color=BLUE, alpha=0.16, linewidth=0)
    axes.plot(rows, [point.effect for point in points if point.effect is not None], color=BLUE)
    axes.axhline(0, color=INK, linewidth=0.9)
    if one.margin:
        edge = -one.margin if one.direction == "higher" else one.margin
        axes.axhline(edge, color=ORANGE, linewidth=1.1, linestyle=DASHED)
        place = {"xycoords": axes.get_yaxis_transform(), "ha": "right", "va": "bottom", "color": ORANGE}
        plot.note(axes, "margin", (1, edge), (-4, 3), **place)
    if one.stopped is not None:
        colour, mark = _VERDICTS.get(one.stopped.verdict, _UNDECIDED)
        axes.plot([one.stopped.rows], [one.stopped.effect], mark, markersize=8, color=colour, markeredgecolor="white")
        side, shift = ("right", -5) if one.stopped.rows > 0.6 * points[-1].rows else ("left", 5)
        place = {"xycoords": axes.get_xaxis_transform(), "ha": side, "va": "top", "color": colour}
        stop = f"{printable(one.stopped.verdict)} at look {one.stopped.look:,}"
        plot.note(axes, stop, (one.stopped.rows, 1), (shift, -3), **place)
    axes.set_ylim(*reach)
    axes.set_title(f"Effect on {printable(shortened(one.metric))}, with the interval that holds at every look")
    axes.set_ylabel(_arrow(one))


def _z(axes: Axes, points: Sequence[LookPoint]) -> None:
    values = _line(axes, points, lambda point: point.z, color=BLUE)
    for bound in ("bound_lower", "bound_upper"):
        style = {"color": INK, "linewidth": 1.1, "linestyle": DASHED}
        drawn = _line(axes, points, lambda point, name=bound: getattr(point, name), **style)  # type: ignore[misc]
        values += [drawn[-1], drawn[len(drawn) // 2]] if drawn else []
    axes.axhline(0, color=INK, linewidth=0.9)
    reach = 1.25 * max([abs(value) for value in values] + [2.5])
    axes.set_ylim(-reach, reach)
    axes.set_title("z, and the boundaries that it must cross (dashed)")
    axes.set_ylabel("z")


def _line(
    axes: Axes, points: Sequence[LookPoint], get: Callable[[LookPoint], float | None], **style: Any
) -> list[float]:
    known = [(point.rows, value) for point in points if (value := get(point)) is not None]
    if known:
        axes.plot(*zip(*known, strict=True), **style)
    return [value for _, value in known]


def _means(axes: Axes, answer: Analysis, one: ArmComparison) -> None:
    marks = ((answer.champion, GREY, "o"), (one.challenger, BLUE, "s"))
    arms = [(arm, colour, mark, value) for arm, colour, mark in marks if (value := one.mean.get(arm)) is not None]
    values = [value for *_, value in arms]
    for place, (arm, colour, mark, value) in enumerate(arms):
        axes.plot([place], [value], mark, markersize=9, color=colour)
        digits = interval_decimals(one.lower, one.upper)
        plot.note(axes, number(value, digits), (place, value), (0, 9), ha="center", fontsize=10, color=INK)
        plot.note(axes, f"{one.n.get(arm, 0):,} rows", (place, value), (0, -18), ha="center")
    if len(values) == 2:
        axes.plot([0, 1], values, color=LINE, linewidth=1, zorder=1)
    axes.set_xticks(range(len(arms)), [printable(shortened(arm, 14)) for arm, *_ in arms])
    axes.tick_params(axis="x", length=0, labelcolor=INK)
    axes.set_xlim(-0.6, max(len(arms), 2) - 0.4)
    if values:  # on the scale of the interval, so that no difference looks larger than it is known
        spread = max(max(values) - min(values), (one.upper or 0.0) - (one.lower or 0.0), 1e-12)
        middle = (max(values) + min(values)) / 2
        axes.set_ylim(middle - 0.9 * spread, middle + 0.9 * spread)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title("The arms' values")


def forest(whole_log: ArmComparison, segments: Sequence[ArmComparison], name: str) -> Markup | None:
    """Forest plot: the effect over all rows, and below it in each segment, with intervals; None when none is known."""
    shown = [one for one in (whole_log, *segments) if one.effect is not None]
    if len(shown) < 2:
        return None
    with plot.drawing():
        figure = Figure(figsize=(plot.WIDTH, 1.25 + 0.34 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        reach = _reach([value for one in shown for value in (one.effect, one.lower, one.upper)], whole_log)
        for row, one in enumerate(shown):
            _whiskers(axes, one, row, reach, whole=one is whole_log)
        axes.axvline(0, color=INK, linewidth=0.9)
        if whole_log.effect is not None:
            axes.axvline(whole_log.effect, color=MUTED, linewidth=1, linestyle=DASHED)
        axes.axhline(0.5, color=LINE, linewidth=0.8)
        axes.set_xlim(*reach)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), [printable(shortened(one.segment or "all rows")) for one in shown])
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        right = axes.secondary_yaxis("right")
        rows = [f"{sum(one.n.values()):,} rows, {printable(one.verdict)}" for one in shown]
        right.set_yticks(range(len(shown)), rows)
        right.tick_params(length=0, labelcolor=MUTED, labelsize=9.5)
        right.spines["right"].set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(_arrow(whole_log))
        title = f"{whole_log.metric} of {whole_log.challenger} by segment, each with its interval"
        return plot.svg(figure, name, title)


def _whiskers(axes: Axes, one: ArmComparison, row: int, reach: tuple[float, float], *, whole: bool) -> None:
    """A dot and its interval; a side that leaves the plot, or is open, ends in an arrow."""
    colour, mark = _VERDICTS.get(one.verdict, _UNDECIDED)
    low = reach[0] if one.lower is None else max(one.lower, reach[0])
    high = reach[1] if one.upper is None else min(one.upper, reach[1])
    axes.plot([low, high], [row, row], color=colour, linewidth=2.6 if whole else 1.7)
    for end, arrow, limit in ((low, "<", reach[0]), (high, ">", reach[1])):
        if end == limit:
            axes.plot([end], [row], arrow, color=colour, markersize=6, clip_on=False)
    if one.effect is not None and reach[0] <= one.effect <= reach[1]:
        mark, size = ("D", 9) if whole else (mark, 8)
        axes.plot([one.effect], [row], mark, color=colour, markersize=size, markeredgecolor="white")


def _reach(values: Sequence[float | None], one: ArmComparison) -> tuple[float, float]:
    """Limits that hold zero, the margin and nearly all values; what reaches far beyond the others is cut."""
    known = sorted(value for value in values if value is not None)
    keep = known[len(known) // 50 : len(known) - len(known) // 50]
    keep = [*keep, 0.0, one.margin if one.direction == "lower" else -one.margin]
    room = 0.12 * (max(keep) - min(keep)) or 1.0
    return min(keep) - room, max(keep) + room


def _thinned(points: Sequence[LookPoint]) -> list[LookPoint]:
    step = max(1, -(-len(points) // _MOST_POINTS))
    kept = list(points[::step])
    return kept if not points or kept[-1] is points[-1] else [*kept, points[-1]]


def _arrow(one: ArmComparison) -> str:
    return "challenger better →" if one.direction == "higher" else "← challenger better"


def _thousands(value: float, _: object) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


# Drift ---------------------------------------------------------------------------------------------------------------


def distribution(column: str, histogram: ColumnHistogram, name: str) -> Markup:
    """Reference and current shares of one column side by side."""
    with plot.drawing():
        figure = Figure(figsize=(5.2, 2.5), layout="constrained")
        axes = figure.subplots()
        sides = ((histogram.reference, BLUE), (histogram.current, ORANGE))
        if histogram.labels:
            at = np.arange(len(histogram.labels))
            for shift, (shares, colour) in zip((-0.2, 0.2), sides, strict=True):
                axes.bar(at + shift, shares, 0.38, color=colour, alpha=0.85)
            labels = [printable(shortened(label, 12)) for label in histogram.labels]
            crowded = sum(map(len, labels)) > 46
            axes.set_xticks(at, labels, rotation=40 if crowded else 0, ha="right" if crowded else "center")
        else:
            for shares, colour in sides:
                axes.stairs(shares, histogram.edges, fill=True, color=colour, alpha=0.22)
                axes.stairs(shares, histogram.edges, color=colour, linewidth=1.3)
            axes.xaxis.set_major_locator(MaxNLocator(6))
            axes.margins(x=0.01)
        plot.percent_axis(axes.yaxis)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_ylim(bottom=0)
        axes.grid(axis="x", visible=False)
        return plot.svg(figure, name, f"Distribution of {column}, reference and current")


def severity(
    steps: Sequence[DriftStep], rows: int, reference_rows: int, window: str, events: Sequence[StreamEvent] = ()
) -> Markup:
    """Drift over the rows: severity, rise of the mean loss, and distances of the features that moved most.

    Each step holds until the next; the first `reference_rows` are the reference; `window` says what a step is of.
    """
    names = _most_moved(steps)
    rises = [step for step in steps if step.error_rise is not None]
    heights = [0.9, *([1.0] if rises else []), *([0.28 * len(names) + 0.25] if names else [])]
    with plot.drawing():
        figure = Figure(figsize=(plot.WIDTH, 1.1 + 1.45 * sum(heights)), layout="constrained")
        grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
        axes = [row[0] for row in grid]
        _severities(axes[0], steps, rows, reference_rows)
        if rises:
            _rises(axes[1], rises, rows, window)
        if names:
            _heat(figure, axes[-1], [step for step in steps if step.scores], names, rows, window)
        axes[0].set_xlim(0, rows)
        axes[-1].set_xlabel("row")
        axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda row, _: f"{row:,.0f}"))
        worst = max((Severity(step.severity) for step in steps), default=Severity.NONE)
        course = ", ".join(f"{e.event} {e.severity} {e.root_cause} at row {e.row}" for e in events)
        return plot.svg(figure, "severity", f"Severity over the rows: {course or f'at most {worst}'}")


def _severities(axes: Axes, steps: Sequence[DriftStep], end: int, reference_rows: int) -> None:
    rows = [*(step.row for step in steps), end]
    ranks = [Severity(step.severity).rank for step in steps]
    if ranks:
        ranks.append(ranks[-1])
        for rank in range(1, len(Severity)):
            heights = [rank if r >= rank else rank - 1 for r in ranks]
            axes.fill_between(rows, rank - 1, heights, step="post", color=plot.SEVERITIES[rank], linewidth=0)
        axes.step(rows, ranks, where="post", color=INK, linewidth=1.0)
    if reference_rows:
        axes.axvspan(0, reference_rows, color=BLUE, alpha=0.08, linewidth=0)
        axes.annotate("reference", (reference_rows / 2, 4.05), ha="center", va="top", fontsize=9, color=BLUE)
    axes.set_yticks(range(len(Severity)), [level.lower() for level in Severity])
    axes.set_ylim(0, 4.2)
    axes.set_title("Severity")


def _rises(axes: Axes, steps: Sequence[DriftStep], end: int, window: str) -> None:
    rises = [step.error_rise for step in steps if step.error_rise is not None]
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.step([*(step.row for step in steps), end], [*rises, rises[-1]], where="post", color=ORANGE)
    plot.percent_axis(axes.yaxis, "+.0%")
    axes.set_title(f"Mean loss of a {window} against the reference's")


def _heat(figure: Figure, axes: Axes, steps: Sequence[DriftStep], names: list[str], end: int, window: str) -> None:
    scores = np.array([[step.scores.get(name, np.nan) for step in steps] for name in names])
    edges = np.array([*(step.row for step in steps), max(end, steps[-1].row + 1)], dtype=np.float64)
    mesh = axes.pcolormesh(edges, np.arange(len(names) + 1), scores, cmap="YlOrRd", vmin=0, vmax=1, rasterized=True)
    axes.set_yticks(np.arange(len(names)) + 0.5, [printable(shortened(name, 24)) for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_title(f"Distance of a {window} from the reference, the features that moved most")
    figure.colorbar(mesh, ax=axes, pad=0.01, aspect=14, ticks=[0, 0.5, 1])


def _most_moved(steps: Sequence[DriftStep]) -> list[str]:
    largest: dict[str, float] = {}
    for step in steps:
        for name, score in step.scores.items():
            largest[name] = max(largest.get(name, 0.0), score)
    return sorted(largest, key=lambda name: (-largest[name], name))[:_MOST_FEATURES]


# Plans ---------------------------------------------------------------------------------------------------------------


def plan(report: PlanReport) -> Figure:
    """Power and duration over the true effect, and the evidence along the ramp. Draw and save within `drawing`."""
    figure = Figure(figsize=(plot.WIDTH, 7.2), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    power, duration = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    effects = [one.effect for one in report.curve]
    power.plot(effects, [one.better for one in report.curve], color=BLUE, label="ends better")
    classical = [one.fixed_power for one in report.curve]
    power.plot(effects, classical, color=GREY, linestyle=DASHED, label="classical, one look")
    power.plot(effects, [one.worse for one in report.curve], color=ORANGE, linestyle=DOTTED, label="ends worse")
    power.axhline(report.settings["power"], color=MUTED, linewidth=0.8)
    power.set_ylim(0, 1.02)
    plot.percent_axis(power.yaxis)
    power.set_title("Probability of each end, by the true effect")
    duration.plot(effects, [one.days for one in report.curve], color=BLUE, label="mean")
    duration.plot(effects, [one.most_by for one in report.curve], color=GREY, linestyle=DASHED, label="90 % by")
    duration.axhline(report.form.days, color=INK, linewidth=0.9)
    place = {"va": "top", "xycoords": duration.get_yaxis_transform()}
    plot.note(duration, f"horizon, {whole(report.form.days)} days", (0, report.form.days), (3, -3), **place)
    duration.set_ylim(0, 1.08 * report.form.days)
    duration.set_title("Days to the end, by the true effect")
    duration.set_ylabel("days")
    for axes in (power, duration):
        axes.axvline(report.settings["effect"], color=INK, linewidth=0.9, linestyle=DOTTED)
        axes.axvline(0.0, color=INK, linewidth=0.9)
        axes.set_xlabel("true effect, challenger − champion")
    power.legend(loc="center right")
    duration.legend(loc="lower left")
    _progress(figure.add_subplot(grid[1, :]), report)
    return figure


def _progress(axes: Axes, report: PlanReport) -> None:
    steps, form = report.progress, report.form
    days = [step.day for step in steps]
    axes.plot(days, [step.fraction for step in steps], color=BLUE, label="evidence, as a share of the horizon")
    if form.form == "split":
        shares, label = [step.share for step in steps], "challenger's share of the traffic that matures"
        axes.step(days, shares, color=GREY, linestyle=DASHED, where="pre", label=label)
    lines = list(axes.get_lines())
    axes.axhline(1.0, color=MUTED, linewidth=0.8)
    axes.set_ylim(0, max(1.08, 1.04 * steps[-1].fraction))
    axes.set_xlim(0, 1.01 * form.days)
    plot.percent_axis(axes.yaxis)
    axes.set_title(f"Evidence along the way: min_samples {form.min_samples:,}, power {percent(form.power)}")
    axes.set_xlabel("days")
    beside = axes.twinx()
    for name, label, colour in (("bound_better", "bound of z for better", INK), ("bound_worse", "for worse", ORANGE)):
        known = [(step.day, abs(bound)) for step in steps if (bound := getattr(step, name)) is not None]
        if known:
            beside.plot(*zip(*known, strict=True), color=colour, linewidth=1.1, linestyle=DOTTED, label=label)
    beside.grid(visible=False)
    beside.set_ylim(0, 6)
    beside.set_ylabel("|z| that a look needs")
    lines += beside.get_lines()
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper left")


def simulation(report: SimulationReport) -> Figure:
    """The share of runs that had ended better and worse by each day. Draw and save within `drawing`."""
    figure = Figure(figsize=(plot.WIDTH, 3.4), layout="constrained")
    for place, one in enumerate(report.scenarios):
        axes = figure.add_subplot(1, len(report.scenarios), place + 1)
        days = [0.0, *(end[0] for end in one.ends), report.days]
        for column, label, colour, style in ((1, "better", BLUE, "-"), (2, "worse", ORANGE, DASHED)):
            ended = np.cumsum([0, *(end[column] for end in one.ends), 0]) / report.runs
            axes.step(days, ended, color=colour, linestyle=style, where="post", label=label)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 1.01 * report.days)
        plot.percent_axis(axes.yaxis)
        axes.set_title(f"Ended by that day: {one.name}")
        axes.set_xlabel("days")
        axes.legend(loc="upper left")
    return figure
