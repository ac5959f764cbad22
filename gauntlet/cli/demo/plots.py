"""The plots of the demo's page, drawn with the report kit. All but the months' share the run's time as their axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from evaluator.offline.render import plot
from gauntlet import events
from gauntlet.cli.demo import phrases
from gauntlet.cli.demo.phrases import interval, month_name
from gauntlet.cli.demo.report_model import DemoReport, RecordedLook, RecordedRollout
from gauntlet.types import Rule, Severity

_DAY = 86_400
_ENDS = {
    "promoted": (plot.GREEN, "promoted"),
    "rolled_back": (plot.RED, "rolled back"),
    "archived": (plot.GREY, "archived"),
    "running": (plot.BLUE, "running"),
}
_FEATURES = 8  # rows of the feature plot
_LABELS = 8
_LINEAR = 0.1  # the effect's axis is logarithmic beyond, or one great harm would hide all other effects
_OPEN = 9e3  # an open limit, far outside the picture
_RULE: Any = {"linewidth": 1, "linestyle": plot.DOTTED}
_BOUND: Any = {"color": plot.INK, "linewidth": 1.1, "linestyle": plot.DASHED}


def evidence(report: DemoReport) -> Markup:
    """Each rollout's effect with its interval, and z between its boundaries."""
    with plot.drawing():
        figure, (top, low) = _figure(report, 6.4, (1.25, 1))
        shown = [r for r in report.rollouts if phrases.shown(r) and any(look.effect is not None for look in r.looks)]
        if not shown:
            _nothing(top, "no rollout had evidence")
        for axes, line in ((top, _effect), (low, _z)):
            axes.axhline(0, color=plot.INK, linewidth=0.9)
            for rollout in shown:
                line(axes, rollout)
                if rollout.ended is not None:
                    axes.axvline(rollout.ended / _DAY, color=_ENDS[rollout.state][0], **_RULE)
        reach = max((abs(value) for r in shown for value in _visible(r.looks)), default=0.0)
        top.set_ylim(-2 * max(reach, _LINEAR), 2 * max(reach, _LINEAR))
        reach = max((abs(look.z) for r in shown for look in r.looks if look.z is not None), default=0.0)
        low.set_ylim(-1.25 * max(reach, 3.2), 1.25 * max(reach, 3.2))
        named = _named(shown)
        middles = [(r.started + (r.ended or r.looks[-1].at)) / 2 for r in named]
        for rollout, middle, level in zip(named, middles, _levels(middles, report), strict=True):
            colour, end = _ENDS[rollout.state]
            style: Any = {"color": colour, "ha": "center", "va": "top", "xycoords": ("data", "axes fraction")}
            plot.note(top, f"{rollout.challenger}\n{end}", (middle / _DAY, 1), (0, -3 - 26 * level), **style)
        top.set_title(f"Effect on {report.metric.replace('_', ' ')}, with the interval that holds at every look")
        top.set_ylabel("challenger better →")
        top.set_yscale("symlog", linthresh=_LINEAR)
        top.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        low.set_title("z, and the boundaries that it must cross (dashed: win above, harm below)")
        low.set_ylabel("z")
        ends = "; ".join(f"{r.challenger} {_ENDS[r.state][1]}, effect {interval(r)}" for r in shown)
        return plot.svg(figure, "evidence", f"Effect over time of each rollout, and z with its boundaries. {ends}")


def _effect(axes: Axes, rollout: RecordedRollout) -> None:
    colour = _ENDS[rollout.state][0]
    looks = [(look, look.effect) for look in rollout.looks if look.effect is not None]
    times = [look.at / _DAY for look, _ in looks]
    low = [-_OPEN if look.lower is None else look.lower for look, _ in looks]
    high = [_OPEN if look.upper is None else look.upper for look, _ in looks]
    axes.fill_between(times, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(times, [effect for _, effect in looks], color=colour)
    final = rollout.final
    if final is not None and final.effect is not None:
        axes.plot([final.at / _DAY], [final.effect], marker="o", markersize=7, color=colour, markeredgecolor="white")


def _z(axes: Axes, rollout: RecordedRollout) -> None:
    colour = _ENDS[rollout.state][0]
    z = [(look.at / _DAY, look.z) for look in rollout.looks if look.z is not None]
    win = [(look.at / _DAY, look.bound_win) for look in rollout.looks if look.bound_win is not None]
    harm = [(look.at / _DAY, -look.bound_harm) for look in rollout.looks if look.bound_harm is not None]
    for points, line in ((z, {"color": colour}), (win, _BOUND), (harm, _BOUND)):
        axes.plot(*np.array(points).reshape(-1, 2).T, **line)


def ramp(report: DemoReport) -> Markup:
    """The challenger's share of the traffic over time."""
    with plot.drawing():
        figure, (axes,) = _figure(report, 3.0, (1,))
        times = [step.at / _DAY for step in report.ramp] + [report.end / _DAY]
        shares = [100 * step.share for step in report.ramp]
        axes.fill_between(times, [*shares, shares[-1]], step="post", color=plot.BLUE, alpha=0.14, linewidth=0)
        axes.step(times, [*shares, shares[-1]], where="post", color=plot.BLUE)
        top = max([*shares, 1.0])
        for stage in (stage for r in report.rollouts for stage in r.stages if stage.share == 0):
            axes.hlines(0, stage.since / _DAY, stage.until / _DAY, color=plot.BLUE, linewidth=5, alpha=0.35, zorder=3)
        named = _named([rollout for rollout in report.rollouts if phrases.shown(rollout)])
        ended = [(rollout, rollout.ended) for rollout in named if rollout.ended is not None]
        for (rollout, at), level in zip(ended, _levels([at for _, at in ended], report), strict=True):
            colour, end = _ENDS[rollout.state]
            height = (1.1 + 0.3 * level) * top
            axes.vlines(at / _DAY, 0, height, color=colour, **_RULE)
            axes.plot([at / _DAY], [height], marker="o", color=colour, markersize=6)
            label = f"{rollout.challenger} {end}"
            plot.note(axes, label, (at / _DAY, height), (0, 5), ha="center", va="bottom", color=colour)
        axes.set_ylim(-0.05 * top, 1.75 * top)
        ordered = {100 * each.share for step in report.ramp for each in step.on_ramp}
        axes.set_yticks([share for share in sorted({0.0, *ordered}) if share == 0 or share > 0.08 * top])
        axes.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
        axes.set_ylabel("challenger's share")
        axes.set_title("Share of the traffic that the challenger answers (thick on the zero line: in shadow)")
        ends = ", ".join(f"{r.challenger} {_ENDS[r.state][1]}" for r in report.rollouts) or "no rollout"
        return plot.svg(figure, "ramp", f"The challenger's share of the traffic over time: {ends}")


def drift(report: DemoReport) -> Markup:
    """Severity of drift over time, and the features to blame at each event."""
    with plot.drawing():
        names = _worst_features(report.drift)
        figure, (top, low) = _figure(report, 3.4 + 0.26 * max(3, len(names)), (1, max(0.6, 0.18 * len(names))))
        times, ranks = severity(report)
        edges = [at / _DAY for at in [*times, report.end]]
        for start, stop, rank in zip(edges[:-1], edges[1:], ranks, strict=True):
            if rank:
                top.fill_between([start, stop], 0, rank, color=plot.SEVERITIES[rank], linewidth=0)
        top.step(edges, [*ranks, ranks[-1]], where="post", color=plot.INK, linewidth=1.2)
        top.set_ylim(0, 4.3)
        top.set_yticks(range(5), [level.lower() for level in Severity])
        top.set_title("Severity of the open drift episode (a new champion has a reference of its own)")
        for axes in (top, low):
            for at in _champion_changes(report):
                axes.axvline(at / _DAY, color=plot.GREEN, **_RULE)
        _feature_distances(low, report, names)
        low.set_title("Distance of the features to blame from their reference, where an episode opened or rose")
        steps = ", ".join(f"{s.event} {s.severity} {s.root_cause}" for s in report.drift) or "none"
        return plot.svg(figure, "drift", f"Severity of drift over time and the features to blame: {steps}")


def _feature_distances(axes: Axes, report: DemoReport, names: Sequence[str]) -> None:
    """A dot for each feature of each event; the number is left out where it would be written over another."""
    if not names:
        return _nothing(axes, "no feature was to blame")
    points = [
        (step.at / _DAY, names.index(feature.name), feature.statistic)
        for step in report.drift
        for feature in step.features
        if step.event != "close" and feature.name in names
    ]
    x, y, distance = np.array(points).T
    shade: Any = {"c": np.clip(distance, 0, 0.35), "cmap": "Oranges", "vmin": -0.1, "vmax": 0.7}
    axes.scatter(x, y, s=260, edgecolors="white", linewidths=0.8, **shade)
    room = (report.end - report.begin) / _DAY / 40
    for at, row, value in points:
        if not any(other == row and 0 < at - earlier < room for earlier, other, _ in points):
            label = f"{value:.2f}"[1:] if value < 0.995 else "1"
            plot.note(axes, label, (at, row), (0, -0.5), ha="center", va="center", fontsize=8, color=plot.INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return None


def severity(report: DemoReport) -> tuple[list[float], list[int]]:
    """Times and severity ranks of the open episode; a new champion begins with none."""
    found = [(report.begin, 0)]
    found += [(step.at, 0 if step.event == "close" else Severity(step.severity).rank) for step in report.drift]
    found += [(at, 0) for at in _champion_changes(report)]
    found.sort(key=lambda item: item[0])
    return [at for at, _ in found], [rank for _, rank in found]


def _champion_changes(report: DemoReport) -> list[float]:
    pairs = zip(report.ramp, report.ramp[1:], strict=False)
    return [after.at for before, after in pairs if after.champion != before.champion]


def _worst_features(drift: Sequence[events.Drift]) -> list[str]:
    worst: dict[str, float] = {}
    for feature in (feature for step in drift if step.event != "close" for feature in step.features):
        worst[feature.name] = max(worst.get(feature.name, 0.0), feature.statistic)
    return sorted(worst, key=lambda name: (-worst[name], name))[:_FEATURES]


def months(report: DemoReport) -> Markup:
    """Log loss by month: what was served, and the first champion for ever."""
    with plot.drawing():
        figure = Figure(figsize=(plot.WIDTH, 3.6), layout="constrained")
        axes = figure.add_subplot()
        known = [m for m in report.months if m.log_loss is not None]
        if known:
            x, ours, first = zip(*((m.month, m.log_loss or 0, m.log_loss_first or 0) for m in known), strict=True)
            colours = [plot.GREEN if a <= b else plot.RED for a, b in zip(ours, first, strict=True)]
            axes.vlines(x, ours, first, color=colours, linewidth=5, alpha=0.25)
            axes.plot(x, first, color=plot.ORANGE, marker="s", markersize=6, label=f"{report.first} for ever")
            axes.plot(x, ours, color=plot.BLUE, marker="o", markersize=6, label="Gauntlet: what was served")
            axes.legend(loc="upper left")
            axes.margins(y=0.2)
            for month in known:
                most = max(month.served, key=lambda version: month.served[version], default="")
                style: Any = {"color": plot.BLUE, "ha": "center", "xycoords": ("data", "axes fraction")}
                plot.note(axes, most, (month.month, 0), (0, 4), **style)
            axes.set_xticks(x, [month_name(number) for number in x])
        else:
            _nothing(axes, "no flight has an outcome")
        axes.set_xlim(0.5, 12.5) if len(known) > 6 else axes.margins(x=0.1)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("mean log loss (lower is better)")
        figures = ", ".join(f"{month_name(m.month)} {m.log_loss:.3f} and {m.log_loss_first:.3f}" for m in known)
        return plot.svg(figure, "months", f"Log loss by month, served and first champion for ever: {figures}")


def policies(report: DemoReport) -> Markup:
    """Log loss by month of what each policy serves."""
    with plot.drawing():
        figure = Figure(figsize=(plot.WIDTH, 3.6), layout="constrained")
        axes = figure.add_subplot()
        names = [month.month for month in report.months]
        styles = zip((plot.ORANGE, plot.GREY, plot.RED, plot.BLUE), "s^vo", strict=True)
        for policy, (colour, marker) in zip(report.policies, styles, strict=False):
            losses = [np.nan if value is None else value for value in policy.months]
            axes.plot(names, losses, color=colour, marker=marker, markersize=6, label=policy.name)
        axes.legend(loc="best")
        axes.set_xticks(names, [month_name(number) for number in names])
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("mean log loss (lower is better)")
        figures = ", ".join(f"{p.name} {phrases.number(p.log_loss)}" for p in report.policies)
        return plot.svg(figure, "policies", f"Log loss by month under each policy; of the year: {figures}")


def _figure(report: DemoReport, height: float, ratios: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Plots one below the other with the run's time as their common horizontal axis, in days since the epoch."""
    figure = Figure(figsize=(plot.WIDTH, height), layout="constrained")
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=list(ratios))
    axes = [row[0] for row in grid]
    axes[0].set_xlim(report.begin / _DAY - 1, report.end / _DAY + 1)
    locator: Any = AutoDateLocator(minticks=5, maxticks=13)  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_locator(locator)
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]
    return figure, axes


def _named(rollouts: Sequence[RecordedRollout]) -> list[RecordedRollout]:
    """The steps that get a label: where there are many, only what became of challengers that a person began."""
    if len(rollouts) <= _LABELS:
        return list(rollouts)
    return [rollout for rollout in rollouts if rollout.rule == Rule.PROVE and rollout.state != "archived"]


def _visible(looks: Sequence[RecordedLook]) -> list[float]:
    """What the effect's axis must show: the effects, and the limits of the later half of the looks only, because the
    first intervals would dwarf all others."""
    known = [look for look in looks if look.effect is not None]
    late = known[len(known) // 2 :]
    values = [look.effect for look in known[len(known) // 4 :]]
    values += [limit for look in late for limit in (look.lower, look.upper)]
    return [value for value in values if value is not None]


def _levels(times: Sequence[float], report: DemoReport) -> list[int]:
    """The row, 0 or 1, of the label at each time: another one than its neighbour's where they would overlap."""
    room = (report.end - report.begin) / 11  # a label's width on this axis
    levels: list[int] = []
    for number, at in enumerate(times):
        crowded = number > 0 and at - times[number - 1] < room
        levels.append(1 - levels[-1] if crowded else 0)
    return levels


def _nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=plot.MUTED)
