"""The demo's plots as inline SVG, the same bytes for the same facts; text stays text, in the page's own font.

Drawn on figures of their own, never through pyplot's shared state. All share the year as their horizontal axis.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gauntlet.cli.demo.report_model import DriftStep, Facts, Look, Rollout
from gauntlet.cli.demo.summary import interval, month_name

_INK, _MUTED, _GRID = "#1f2933", "#66727f", "#e4e8ec"
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#2563a8", "#c2631a", "#24804a", "#b4232f", "#8792a0"
_ENDS = {"promoted": (_GREEN, "promoted"), "rolled_back": (_RED, "rolled back"), "archived": (_GREY, "archived")}
_RUNNING = (_BLUE, "running")
_SEVERITIES = ("none", "low", "medium", "high", "critical")
_SEVERITY_COLOURS = ("#ffffff", "#f6dfb0", "#eeb56b", "#dd7a45", "#b4232f")
_FEATURES = 8  # rows of the feature plot
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
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
_WIDTH = 10.6


def evidence(facts: Facts) -> str:
    """Each rollout's effect with its interval, and z between its boundaries."""
    with mpl.rc_context(_STYLE):
        figure, (top, low) = _figure(facts, 6.4, (1.25, 1))
        shown = [r for r in facts.rollouts if any(k.effect is not None for k in r.looks)]
        for rollout in shown:
            _effect(top, rollout)
            _z(low, rollout)
        if not shown:
            _nothing(top, "no rollout had evidence")
        top.axhline(0, color=_INK, linewidth=0.9)
        low.axhline(0, color=_INK, linewidth=0.9)
        _limit(top, [v for r in shown for v in _settled(r.looks)])
        _limit(low, [k.z for r in shown for k in r.looks if k.z is not None] + [3.2, -3.2])
        middles = [(r.started + (r.ended or r.looks[-1].at)) / 2 for r in shown]
        for rollout, middle, level in zip(shown, middles, _levels(middles, facts), strict=True):
            _name(top, rollout, _date(middle), level)
        top.set_title(f"Effect on {facts.metric.replace('_', ' ')}, with the interval that holds at every look")
        top.set_ylabel("challenger better →")
        low.set_title("z, and the boundaries that it must cross (dashed: win above, harm below)")
        low.set_ylabel("z")
        said = "; ".join(f"{r.challenger} {_end(r)[1]}, effect {interval(r)}" for r in shown)
        return _svg(figure, "evidence", f"Effect over time of each rollout, and z with its boundaries. {said}")


def ramp(facts: Facts) -> str:
    """The challenger's share of the traffic over the year."""
    with mpl.rc_context(_STYLE):
        figure, (axes,) = _figure(facts, 3.0, (1,))
        times = [_date(step.at) for step in facts.ramp] + [_date(facts.end)]
        shares = [100 * step.share for step in facts.ramp]
        axes.fill_between(times, [*shares, shares[-1]], step="post", color=_BLUE, alpha=0.14, linewidth=0)
        axes.step(times, [*shares, shares[-1]], where="post", color=_BLUE)
        top = max([*shares, 1.0])
        for stage in (s for r in facts.rollouts for s in r.stages if s.share == 0):
            axes.hlines(0, _date(stage.since), _date(stage.until), color=_BLUE, linewidth=5, alpha=0.35, zorder=3)
        ended = [(r, r.ended) for r in facts.rollouts if r.ended is not None]
        for (rollout, at), level in zip(ended, _levels([at for _, at in ended], facts), strict=True):
            _mark(axes, rollout, _date(at), (1.1 + 0.3 * level) * top)
        axes.set_ylim(-0.05 * top, 1.75 * top)
        axes.set_yticks([s for s in sorted({0.0, *shares}) if s == 0 or s > 0.08 * top])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.set_ylabel("challenger's share")
        axes.set_title("Share of the traffic that the challenger answers (thick on the zero line: in shadow)")
        return _svg(figure, "ramp", "The challenger's share of the traffic over time: " + _ends(facts))


def drift(facts: Facts) -> str:
    """Severity of drift over time, and the features to blame at each event."""
    with mpl.rc_context(_STYLE):
        names = _worst_features(facts.drift)
        figure, (top, low) = _figure(facts, 3.4 + 0.26 * max(3, len(names)), (1, max(0.6, 0.18 * len(names))))
        times, ranks = severity(facts)
        edges = [_date(t) for t in times] + [_date(facts.end)]
        for start, stop, rank in zip(edges[:-1], edges[1:], ranks, strict=True):
            if rank:
                top.fill_between([start, stop], 0, rank, color=_SEVERITY_COLOURS[rank], linewidth=0)
        top.step(edges, [*ranks, ranks[-1]], where="post", color=_INK, linewidth=1.2)
        top.set_ylim(0, 4.3)
        top.set_yticks(range(5), _SEVERITIES)
        top.set_title("Severity of the open drift episode (a new champion has a reference of its own)")
        for at in _changes(facts):
            for axes in (top, low):
                axes.axvline(at, color=_GREEN, linewidth=1, linestyle=(0, (2, 2)))
        points = [
            (_date(s.at), names.index(f.name), f.statistic)
            for s in facts.drift
            for f in s.features
            if s.event != "close" and f.name in names
        ]
        if points:
            x, y, size = (np.array(column) for column in zip(*points, strict=True))
            low.scatter(
                x,
                y,
                s=260,
                c=np.clip(size, 0, 0.35),
                cmap="Oranges",
                vmin=-0.1,
                vmax=0.7,
                edgecolors="white",
                linewidths=0.8,
            )
            room = (facts.end - facts.begin) / 86_400 / 40  # a figure's width on this axis
            for at, row, value in points:
                if not any(other == row and 0 < at - earlier < room for earlier, other, _ in points):
                    low.annotate(
                        f"{value:.2f}"[1:] if value < 1 else "1",
                        (at, row),
                        (0, -0.5),
                        fontsize=8,
                        textcoords="offset points",
                        ha="center",
                        va="center",
                    )
            low.set_yticks(range(len(names)), names)
            low.set_ylim(len(names) - 0.4, -0.6)
        else:
            _nothing(low, "no feature was to blame")
        low.set_title("Distance of the features to blame from their reference, where an episode opened or rose")
        said = ", ".join(f"{s.event} {s.severity} {s.root_cause}" for s in facts.drift) or "none"
        return _svg(figure, "drift", f"Severity of drift over time and the features to blame: {said}")


def months(facts: Facts) -> str:
    """Log loss by month: what was served, and the first champion for ever."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
        axes = figure.add_subplot()
        rows = [m for m in facts.months if m.log_loss is not None and m.log_loss_first is not None]
        x = [m.month for m in rows]
        ours = [m.log_loss or 0.0 for m in rows]
        first = [m.log_loss_first or 0.0 for m in rows]
        if rows:
            axes.vlines(
                x,
                ours,
                first,
                color=[_GREEN if a <= b else _RED for a, b in zip(ours, first, strict=True)],
                linewidth=5,
                alpha=0.25,
            )
            axes.plot(
                x, first, color=_ORANGE, marker="o", markersize=6, label=f"{facts.first}, the first champion, for ever"
            )
            axes.plot(x, ours, color=_BLUE, marker="o", markersize=6, label="Gauntlet: what was served")
            axes.legend(loc="upper left")
            high, low = max(*ours, *first), min(*ours, *first)
            axes.set_ylim(low - 0.2 * (high - low) - 0.005, high + 0.2 * (high - low) + 0.005)
            for month in rows:
                best = max(month.served.items(), key=lambda item: item[1], default=("", 0))[0]
                axes.annotate(
                    best,
                    (month.month, 0),
                    (0, 4),
                    xycoords=("data", "axes fraction"),
                    fontsize=8.5,
                    textcoords="offset points",
                    ha="center",
                    color=_BLUE,
                )
            axes.set_xticks(x, [month_name(m) for m in x])
        else:
            _nothing(axes, "no flight has an outcome")
        axes.set_xlim(0.5, 12.5) if len(rows) > 6 else axes.margins(x=0.1)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("mean log loss (lower is better)")
        said = ", ".join(f"{month_name(m.month)} {m.log_loss:.3f} and {m.log_loss_first:.3f}" for m in rows)
        return _svg(figure, "months", f"Log loss by month, served and January model for ever: {said}")


def severity(facts: Facts) -> tuple[list[float], list[int]]:
    """Times and ranks (0 none to 4 critical) of the open episode; a new champion's watch begins with none."""
    found: list[tuple[float, int]] = [(facts.begin, 0)]
    for step in facts.drift:
        rank = 0 if step.event == "close" else _SEVERITIES.index(step.severity.lower())
        found.append((step.at, rank))
    found += [
        (after.at, 0)
        for before, after in zip(facts.ramp, facts.ramp[1:], strict=False)
        if after.champion != before.champion
    ]
    found.sort(key=lambda item: item[0])
    return [at for at, _ in found], [rank for _, rank in found]


def _worst_features(drift: Sequence[DriftStep]) -> list[str]:
    worst: dict[str, float] = {}
    for step in drift:
        for feature in step.features:
            if step.event != "close":
                worst[feature.name] = max(worst.get(feature.name, 0.0), feature.statistic)
    return sorted(worst, key=lambda name: (-worst[name], name))[:_FEATURES]


def _effect(axes: Axes, rollout: Rollout) -> None:
    colour = _end(rollout)[0]
    looks = [k for k in rollout.looks if k.effect is not None]
    times = [_date(k.at) for k in looks]
    low = [-9e3 if k.lower is None else k.lower for k in looks]
    high = [9e3 if k.upper is None else k.upper for k in looks]
    axes.fill_between(times, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(times, [k.effect for k in looks if k.effect is not None], color=colour)
    if rollout.ended is not None:
        axes.axvline(_date(rollout.ended), color=colour, linewidth=1, linestyle=(0, (2, 2)))
    final = rollout.final
    if final is not None and final.effect is not None:
        axes.plot([_date(final.at)], [final.effect], marker="o", markersize=7, color=colour, markeredgecolor="white")


def _z(axes: Axes, rollout: Rollout) -> None:
    colour = _end(rollout)[0]
    looks = [k for k in rollout.looks if k.z is not None]
    axes.plot([_date(k.at) for k in looks], [k.z for k in looks if k.z is not None], color=colour)
    for sign, bounds in ((1, [(k.at, k.bound_win) for k in looks]), (-1, [(k.at, k.bound_harm) for k in looks])):
        known = [(_date(at), sign * bound) for at, bound in bounds if bound is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=_INK, linewidth=1.1, linestyle=(0, (4, 2)))
    if rollout.ended is not None:
        axes.axvline(_date(rollout.ended), color=colour, linewidth=1, linestyle=(0, (2, 2)))


def _settled(looks: Sequence[Look]) -> list[float]:
    """Effects, and the limits of the later half of the looks: the first intervals would hide all others."""
    known = [k for k in looks if k.effect is not None]
    late = known[len(known) // 2 :]
    values = [k.effect for k in known[len(known) // 4 :]] + [k.lower for k in late] + [k.upper for k in late]
    return [v for v in values if v is not None]


def _limit(axes: Axes, values: Sequence[float]) -> None:
    if not values:
        return
    reach = 1.25 * max(abs(v) for v in values) or 1.0
    axes.set_ylim(-reach, reach)


def _levels(times: Sequence[float], facts: Facts) -> list[int]:
    """0 or 1 for the label at each time: the higher row where the one before would be written over."""
    room = (facts.end - facts.begin) / 11  # a label's width on this axis
    levels: list[int] = []
    for number, at in enumerate(times):
        crowded = number > 0 and at - times[number - 1] < room
        levels.append(1 - levels[-1] if crowded else 0)
    return levels


def _name(axes: Axes, rollout: Rollout, middle: float, level: int) -> None:
    """The rollout's name and end at the top of the plot, over its looks."""
    colour, text = _end(rollout)
    axes.annotate(
        f"{rollout.challenger}\n{text}",
        (middle, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, -3 - 26 * level),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=9,
        color=colour,
    )


def _mark(axes: Axes, rollout: Rollout, at: float, height: float) -> None:
    colour, text = _end(rollout)
    axes.vlines(at, 0, height, color=colour, linewidth=1, linestyle=(0, (2, 2)))
    axes.plot([at], [height], marker="o", color=colour, markersize=6)
    axes.annotate(
        f"{rollout.challenger} {text}",
        (at, height),
        (0, 5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=9,
        color=colour,
    )


def _end(rollout: Rollout) -> tuple[str, str]:
    return _ENDS.get(rollout.state, _RUNNING)


def _ends(facts: Facts) -> str:
    return ", ".join(f"{r.challenger} {_end(r)[1]}" for r in facts.rollouts) or "no rollout"


def _changes(facts: Facts) -> list[float]:
    """When the champion changed."""
    pairs = zip(facts.ramp, facts.ramp[1:], strict=False)
    return [_date(after.at) for before, after in pairs if after.champion != before.champion]


def _figure(facts: Facts, height: float, ratios: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Plots one below the other, the run's time as their common horizontal axis."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=list(ratios))
    axes = [row[0] for row in grid]
    axes[0].set_xlim(_date(facts.begin - 86_400), _date(facts.end + 86_400))
    axes[-1].set_xticks(*_ticks(facts.begin, facts.end))
    return figure, axes


def _ticks(begin: float, end: float) -> tuple[list[float], list[str]]:
    """Days of the axis and their names: each month's first, or in a short run a day every so many."""
    days = range(int(begin // 86_400) + 1, int(end // 86_400) + 1)
    dates = [(day, datetime.fromtimestamp(86_400 * day, UTC)) for day in days]
    firsts = [
        (float(day), f"{date:%b}\n{date:%Y}" if date.month == 1 else f"{date:%b}")
        for day, date in dates
        if date.day == 1
    ]
    if len(firsts) > 3:
        return [day for day, _ in firsts], [name for _, name in firsts]
    some = dates[:: max(1, len(dates) // 8)]
    return [float(day) for day, _ in some], [f"{date:%b} {date.day}" for _, date in some]


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_MUTED)


def _date(at: float) -> float:
    """A time on the axis: days since the epoch."""
    return at / 86_400


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element for a page: ids made unique by `name`, described for those who can't see it."""
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-labelledby="{name}-t" '
        r'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        rf'<title id="{name}-t">@description@</title>',
        text,
        count=1,
        flags=re.DOTALL,
    )
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)  # the page's own font
    return text.replace("@description@", escape(description), 1).strip()
