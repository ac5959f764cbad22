"""Streams that are not the demo's: Gauntlet's loop with all defaults beside blind refits, one line a stream.

The loop is `benchmarks.renewal`, with the rule `refresh`, a schedule of 7 days, the default recipe and the holdout
gate; only an outcome horizon is declared where labels come later than a day. One broken model is handed in as a
successor past the gate: it has learned a feature in another unit, or a week of inverted labels. Blind policies serve it
until their next refit.

    python -m benchmarks.other_streams                  # all streams, about ten minutes of one core
    python -m benchmarks.other_streams --only Agrawal   # those of that name
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import header, main, progress, row
from benchmarks.dated_streams import HISTORY, KINDS, REAL, Stream, drawn
from benchmarks.renewal import DAY, Loop, Losses
from evaluator.stats.score_process import Floats
from gauntlet.config import Config
from gauntlet.config.load import parse
from gauntlet.losses import losses
from gauntlet.types import Rule
from retrainer.jobs import holdout_gate

ALL = 10_000
"""A window that is longer than any stream."""
EVERY = 7
BROKEN = HISTORY + 38
"""The day on which the broken model is handed in: three days after a refit."""
BLIND = {"30 d, all": (30, ALL), "7 d, all": (7, ALL), "7 d, 60 d": (7, 60)}
"""Blind policy → days between refits, and the window in days."""
LOOK_HOURS = 8
BETTER = 0.05
"""Share of the loss by which a model that takes over after a change must be better than the one at the change."""

Deployed = list[tuple[float, str]]
"""When which version took over, in order; versions are keys of `Season`."""


@dataclass
class Season:
    """A stream with its models. A model is named by when it was trained, on what, and whether it is the broken one."""

    stream: Stream
    models: dict[str, Any] = field(default_factory=dict)
    _days: dict[tuple[str, int], Losses] = field(default_factory=dict)

    def add(self, name: str, start: float, end: float, now: float, *, broken: bool = False) -> str:
        self.models[name] = self.stream.fitted(start, end, now, broken)
        return name

    def of_day(self, name: str, day: int) -> Losses:
        """A model's losses on a day; only the latest days are kept."""
        if (name, day) not in self._days:
            if len(self._days) > 200:
                self._days = {key: each for key, each in self._days.items() if key[1] >= day - 2}
            rows = self.stream.between(day, day + 1)
            known = self.stream.known[rows]
            found = losses(
                self.stream.task, self.stream.outputs(self.models[name], rows)[known], self.stream.y[rows][known]
            )
            self._days[name, day] = {key: _spread(known, each) for key, each in found.items()}
        return self._days[name, day]

    def scores(self, name: str) -> Any:
        def of(rows: slice) -> Losses:
            day = int(self.stream.day[rows.start])
            first = self.stream.between(day, day + 1).start
            part = slice(rows.start - first, rows.stop - first)
            return {key: each[part] for key, each in self.of_day(name, day).items()}

        return of


def _spread(known: Any, values: Floats) -> Floats:
    found = np.full(len(known), np.nan)
    found[known] = values
    return found


def config_of(stream: Stream) -> Config:
    horizon = f"{{outcome_horizon: {stream.delay:g}d}}" if stream.delay > 1.0 else "{}"
    text = f"experiment: bench\ntask: {stream.task}\nchampion: {{model: first.skops}}\nevidence: {horizon}\n"
    return parse(text + f"retrain: {{schedule: {{every: {EVERY}d}}}}\n")


def blind(season: Season, every: int, window: int, *, broken: bool = False) -> Deployed:
    """Every refit is served at once, and with `broken` the broken model until the next one."""
    found = [(float(HISTORY), "first")]
    for day in range(HISTORY + EVERY, season.stream.end, every):
        found.append((day, season.add(f"blind {window} {day}", day - window, day, day)))
    if broken:
        found.append((BROKEN, "broken"))
    return sorted(found)


def served(season: Season, metric: str, deployed: Deployed) -> Floats:
    """The mean loss of each day."""
    found, at = [], -1
    for day in range(HISTORY, season.stream.end):
        while at + 1 < len(deployed) and deployed[at + 1][0] <= day:
            at += 1
        found.append(np.nanmean(season.of_day(deployed[at][1], day)[metric]))
    return np.array(found)


@dataclass
class Renewed:
    """What the loop did: jobs whose model was refused by the gate, and the loop at the end."""

    loop: Loop
    refused: list[int]
    offered: int

    @property
    def deployed(self) -> Deployed:
        changes = [*self.loop.promoted, *((day, f"back:{name}") for day, name in self.loop.taken_back)]
        found, before = [(float(HISTORY), "first")], ["first"]
        for day, name in sorted(changes):
            if name.startswith("back:"):
                before.pop()
            else:
                before.append(name)
            found.append((day, before[-1]))
        return found


def gauntlet(season: Season, config: Config) -> Renewed:
    """The stream under the loop: a round each week, and one the day after a promotion was taken back."""
    stream, retrain = season.stream, config.retrain
    loop = Loop(stream, config, "first", season.scores("first"), every=LOOK_HOURS)
    horizon = float(config.evidence.outcome_horizon) / DAY
    window = float(retrain.window) / DAY
    held_out = float(retrain.validation + retrain.test) / DAY
    saw: dict[str, float] = {"first": -1.0, "broken": BROKEN - horizon}
    refused, back = [], 0
    ratio = loop.design.harm_blocks_per_block
    for day in progress(range(HISTORY, stream.end), stream.name):
        now = float(day * DAY)
        asked = len(loop.taken_back) > back
        back = len(loop.taken_back)
        if asked or (day > HISTORY and (day - HISTORY) % EVERY == 0):
            matured = day - horizon
            first = max(matured - held_out, saw[loop.control.champion] + 1e-9)
            older = season.add(f"gate {day}", matured - window, first, day)
            held = stream.between(first, matured)
            if passes_gate(season, config, loop.control.champion, older, held):
                name = season.add(f"refit {day}", matured - window, matured, day)
                saw[name] = matured
                loop.challenge(name, season.scores(name), now, Rule.REFRESH, "default")
            else:
                refused.append(day)
        if day == BROKEN:
            loop.challenge("broken", season.scores("broken"), now, Rule.REFRESH, "broken")
        for part in range(ratio):
            loop.block(day * ratio + part)
    return Renewed(loop, refused, len(range(HISTORY + EVERY, stream.end, EVERY)))


def passes_gate(season: Season, config: Config, champion: str, challenger: str, rows: slice) -> bool:
    """The holdout gate on these rows, as a job asks it."""
    stream, retrain = season.stream, config.retrain
    known = stream.known[rows]
    if known.sum() < retrain.min_data_points:
        return False
    theirs, ours = (stream.outputs(season.models[name], rows)[known] for name in (champion, challenger))
    return holdout_gate.compare(
        config.metric,
        theirs,
        ours,
        stream.y[rows][known],
        stream.day[rows][known] * DAY,
        task=stream.task,
        block=config.evidence.longest_block,
        rule=retrain.rule,
        margin=config.refresh.margin,
        min_improvement=retrain.min_improvement,
        confidence=retrain.confidence,
        repetitions=retrain.bootstrap,
        seed=retrain.seed,
    ).accepted


def reaction(season: Season, metric: str, deployed: Deployed) -> str:
    """Days from each change until a model took over that was better, in the week after, than the one at the change."""
    found = []
    for change in season.stream.changes:
        if change < HISTORY:
            continue
        old = [name for day, name in deployed if day <= change][-1]
        until = next((c for c in season.stream.changes if c > change), season.stream.end)
        found.append("–")
        for day, name in deployed:
            days = range(int(np.ceil(day)), min(int(np.ceil(day)) + 7, int(until)))
            if change < day < until and days:
                ours, theirs = (np.mean([np.nanmean(season.of_day(n, d)[metric]) for d in days]) for n in (name, old))
                if ours < (1.0 - BETTER) * theirs:
                    found[-1] = f"{day - change:.0f}"
                    break
    return ", ".join(found)


def line(name: str, seed: int) -> str:
    """A stream's line of the table."""
    stream = drawn(name, seed)
    season, config = Season(stream), config_of(stream)
    season.add("first", 0, HISTORY, HISTORY)
    season.add("broken", BROKEN - 60, BROKEN, BROKEN, broken=True)
    metric = config.metric
    policies = {"first": [(float(HISTORY), "first")]} | {key: blind(season, *how) for key, how in BLIND.items()}
    means = {key: float(served(season, metric, how).mean()) for key, how in policies.items()}
    shipped = float(served(season, metric, blind(season, 7, 60, broken=True)).mean())
    run = gauntlet(season, config)
    ours = _mean_of_days(stream, run.loop.served)
    best = min(means[key] for key in BLIND)
    gain = means["first"] - best
    share = f"{(means['first'] - ours) / gain:.0%}" if gain > 0.01 * best else "–"
    back = f", {len(run.loop.taken_back)} taken back" if run.loop.taken_back else ""
    gate = f", {len(run.refused)} refused" if run.refused else ""
    answered = run.loop.answered.get("broken", 0.0)
    days = " / ".join(
        reaction(season, metric, how) for how in (run.deployed, policies["7 d, 60 d"], policies["30 d, all"])
    )
    return row(
        name,
        f"{len(stream.y) / stream.day[-1]:,.0f}",
        f"{stream.delay * 24:.0f} h",
        *(_figure(means[key]) for key in policies),
        _figure(shipped),
        f"**{_figure(ours)}**",
        share,
        f"{len(run.loop.promoted)} of {run.offered}{back}{gate}",
        f"{run.loop.end('broken')}{f', answered {answered:,.0f}' if answered else ''}",
        days if stream.changes else "",
    )


def _mean_of_days(stream: Stream, values: Floats) -> float:
    days = [values[stream.between(day, day + 1)] for day in range(HISTORY, stream.end)]
    return float(np.mean([np.nanmean(each) for each in days if len(each)]))


def _figure(value: float) -> str:
    return f"{value:.4f}" if value < 10 else f"{value:.2f}"


def lines(only: str = "", seed: int = 1) -> Iterator[str]:
    """only: a part of the stream's name; seed: of the draws."""
    threadpool_limits(1)  # the models are small: their threads only wait for one another
    names: Sequence[str] = [name for name in (*KINDS, *REAL) if only in name]
    titles = ["stream", "rows a day", "labels after", "first for ever", *(f"blind, {key}" for key in BLIND)]
    titles += ["blind, 7 d, 60 d, with the broken one", "Gauntlet", "share of the best refit's gain", "promoted"]
    titles += ["the broken one", "days until better: Gauntlet / 7 d, 60 d / 30 d"]
    yield header(*titles)
    for name in names:
        yield line(name, seed)


if __name__ == "__main__":
    main(lines)
