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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import header, main, progress, row
from benchmarks.dated_streams import HISTORY, KINDS, REAL, Stream, drawn
from benchmarks.renewal import DAY, Loop, Losses
from benchmarks.triggered_jobs import TriggeredJobs, Versions, schema_of
from evaluator.stats.score_process import Floats
from gauntlet.config import Config
from gauntlet.config.load import parse
from gauntlet.events import Drift
from gauntlet.losses import losses
from gauntlet.types import Rule
from retrainer.jobs import holdout_gate
from retrainer.jobs.job_dir import Answer
from retrainer.store import JobRecord

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
    _days: dict[tuple[str, int], tuple[Floats, Losses]] = field(default_factory=dict)

    def add(self, name: str, start: float, end: float, now: float, *, broken: bool = False) -> str:
        self.models[name] = self.stream.fitted(start, end, now, broken)
        return name

    def of_day(self, name: str, day: int) -> Losses:
        """A model's losses on a day."""
        return self._of_day(name, day)[1]

    def _of_day(self, name: str, day: int) -> tuple[Floats, Losses]:
        """A model's answers and losses on a day; only the latest days are kept."""
        if (name, day) not in self._days:
            if len(self._days) > 200:
                self._days = {key: each for key, each in self._days.items() if key[1] >= day - 8}
            rows = self.stream.between(day, day + 1)
            known, outputs = self.stream.known[rows], self.stream.outputs(self.models[name], rows)
            found = losses(self.stream.task, outputs[known], self.stream.y[rows][known])
            self._days[name, day] = outputs, {key: _spread(known, each) for key, each in found.items()}
        return self._days[name, day]

    def outputs(self, name: str, rows: slice) -> Floats:
        """A model's answers on rows of one day or of several."""
        first, last = (int(self.stream.day[row]) for row in (rows.start, rows.stop - 1))
        if last - first > 1:
            return self.stream.outputs(self.models[name], rows)
        start = self.stream.between(first, first + 1).start
        whole = np.concatenate([self._of_day(name, day)[0] for day in range(first, last + 1)])
        return whole[rows.start - start : rows.stop - start]

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


def config_of(stream: Stream, *, schedule_only: bool = False) -> Config:
    horizon = f"{{outcome_horizon: {stream.delay:g}d}}" if stream.delay > 1.0 else "{}"
    text = f"experiment: bench\ntask: {stream.task}\nchampion: {{model: first.skops}}\nevidence: {horizon}\n"
    triggers = "{drift: {enabled: false}}" if schedule_only else "{}"
    loader = "benchmarks.dated_streams:drawn"  # named only: jobs have the days before the first one that is served
    return parse(text + f"retrain: {{schedule: {{every: {EVERY}d}}, loader: '{loader}', triggers: {triggers}}}\n")


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
    """What the loop did, and its jobs."""

    loop: Loop
    jobs: list[JobRecord]
    drift: list[Drift]

    @property
    def refused(self) -> int:
        """Jobs whose model was refused by the gate."""
        return sum(job.accepted is False for job in self.jobs)

    @property
    def by_drift(self) -> int:
        """Jobs that drift has asked for."""
        return sum(job.trigger == "drift" for job in self.jobs)

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
    """The stream under the loop: jobs as the product's schedule and triggers ask for them."""
    stream = season.stream
    loop = Loop(stream, config, "first", season.scores("first"), every=LOOK_HOURS)
    versions = Versions(schema_of(stream))
    versions.add("first", HISTORY * DAY, stream.between(0, HISTORY).stop)

    def work(job: JobRecord) -> Answer:
        answer = trained(season, config, loop, versions, job)
        if answer.version is not None:
            recipe = job.recipe
            loop.challenge(answer.version, season.scores(answer.version), job.created_at, Rule.REFRESH, recipe)
        return answer

    ratio = loop.design.harm_blocks_per_block
    with TemporaryDirectory() as folder:
        jobs = TriggeredJobs(stream, config, loop, versions, season.outputs, work, Path(folder))
        for day in progress(range(HISTORY, stream.end), stream.name):
            if day == BROKEN:
                versions.add("broken", (BROKEN - float(config.evidence.outcome_horizon) / DAY) * DAY, 0)
                loop.challenge("broken", season.scores("broken"), float(day * DAY), Rule.REFRESH, "broken")
            for part in range(ratio):
                loop.block(day * ratio + part)
                jobs.block(day * ratio + part)
        return Renewed(loop, jobs.jobs, jobs.drift)


def trained(season: Season, config: Config, loop: Loop, versions: Versions, job: JobRecord) -> Answer:
    """What a job does: a model without the newest rows through the gate, then one of all rows, registered."""
    stream, retrain, now = season.stream, config.retrain, job.created_at / DAY
    matured = now - float(config.evidence.outcome_horizon) / DAY
    begin = matured - float(retrain.window) / DAY
    saw = (versions.get(job.champion).data_to or 0.0) / DAY
    first = max(matured - float(retrain.validation + retrain.test) / DAY, saw + 1e-9)
    held = stream.between(first, matured)
    if stream.known[held].sum() < retrain.min_data_points:
        return Answer(error="not enough labelled rows are held out")
    gate, name = season.add(f"gate {job.id}", begin, first, now), f"refit {job.id}"
    if not passes_gate(season, config, job.champion, gate, held):
        return Answer()
    season.add(name, begin, matured, now)
    train = stream.between(begin, first)
    versions.add(name, matured * DAY, held.stop - train.start)
    versions.refer(name, stream, config.metric, train, held, season.outputs(gate, held))
    return Answer(accepted=True, version=name)


def passes_gate(season: Season, config: Config, champion: str, challenger: str, rows: slice) -> bool:
    """The holdout gate on these rows, as a job asks it."""
    stream, retrain = season.stream, config.retrain
    known = stream.known[rows]
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


def line(name: str, seed: int, schedule_only: bool = False) -> str:
    """A stream's line of the table."""
    stream = drawn(name, seed)
    season, config = Season(stream), config_of(stream, schedule_only=schedule_only)
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
    gate = f", {run.refused} refused" if run.refused else ""
    drift = f", {run.by_drift} by drift" if run.by_drift else ""
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
        f"{len(run.loop.promoted)} of {len(run.jobs)}{drift}{back}{gate}",
        f"{run.loop.end('broken')}{f', answered {answered:,.0f}' if answered else ''}",
        days if stream.changes else "",
    )


def _mean_of_days(stream: Stream, values: Floats) -> float:
    days = [values[stream.between(day, day + 1)] for day in range(HISTORY, stream.end)]
    return float(np.mean([np.nanmean(each) for each in days if len(each)]))


def _figure(value: float) -> str:
    return f"{value:.4f}" if value < 10 else f"{value:.2f}"


def lines(only: str = "", seed: int = 1, schedule_only: bool = False) -> Iterator[str]:
    """only: a part of the stream's name; seed: of the draws; schedule_only: without the drift trigger."""
    threadpool_limits(1)  # the models are small: their threads only wait for one another
    names: Sequence[str] = [name for name in (*KINDS, *REAL) if only in name]
    titles = ["stream", "rows a day", "labels after", "first for ever", *(f"blind, {key}" for key in BLIND)]
    titles += ["blind, 7 d, 60 d, with the broken one", "Gauntlet", "share of the best refit's gain", "promoted"]
    titles += ["the broken one", "days until better: Gauntlet / 7 d, 60 d / 30 d"]
    yield header(*titles)
    for name in names:
        yield line(name, seed, schedule_only)


if __name__ == "__main__":
    main(lines)
