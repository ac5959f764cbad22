"""The loop on a recorded stream, as the benchmarks run it: what it promotes, what it keeps out, and what it takes back.

In short; `python -m benchmarks.other_streams` has streams whose concept changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks.dated_streams import HISTORY, Stream, drawn
from benchmarks.other_streams import Renewed, Season, config_of, gauntlet
from benchmarks.renewal import DAY, Loop, Losses, Scores
from evaluator.stats.score_process import Floats
from gauntlet.config.load import parse
from gauntlet.types import Rule, Task

CONFIG = parse("experiment: t\ntask: regression\nchampion: {model: first.skops}\n")


@dataclass
class Rows:
    """A thousand rows a day, with labels an hour later."""

    day: Floats
    seen: Floats
    known: Floats


def rows(days: int) -> Rows:
    day = np.sort(np.random.default_rng(1).random(1000 * days)) * days
    return Rows(day, day + 1 / 24, np.ones(len(day), dtype=bool))


def model(stream: Rows, seed: int, errors: list[tuple[float, float]]) -> Scores:
    """One whose error has these standard deviations, each from a day on."""
    rng = np.random.default_rng(seed)
    spread = np.select([stream.day >= day for day, _ in reversed(errors)], [sd for _, sd in reversed(errors)])
    error = rng.normal(0.0, 1.0, len(stream.day)) * spread

    def scores(part: slice) -> Losses:
        return {"mse": error[part] ** 2, "mae": np.abs(error[part])}

    return scores


def run(loop: Loop, start: int, end: int) -> Loop:
    for block in range(start * 24, end * 24):
        loop.block(block)
    return loop


def test_a_better_successor_takes_over_after_a_week_and_the_broken_one_never_serves() -> None:
    stream = rows(12)
    loop = Loop(stream, CONFIG, "first", model(stream, 1, [(0, 1.0)]), every=8)
    loop.challenge("better", model(stream, 2, [(0, 0.9)]), 0.0, Rule.REFRESH, "default")
    loop.challenge("broken", model(stream, 3, [(0, 1.3)]), 0.0, Rule.REFRESH, "broken")
    run(loop, 0, 12)
    ((day, version),) = loop.promoted
    assert version == "better"
    assert 6 <= day <= 10
    assert "rolled_back" in loop.end("broken")
    assert loop.answered["broken"] == 0.0
    assert np.nanmean(loop.served) == pytest.approx((day * 1.0 + (12 - day) * 0.81) / 12, rel=0.05)


def test_a_model_that_turns_out_worse_is_taken_back() -> None:
    stream = rows(24)
    loop = Loop(stream, CONFIG, "first", model(stream, 1, [(0, 1.0)]), every=8)
    loop.challenge("fades", model(stream, 2, [(0, 0.9), (11, 1.4)]), 0.0, Rule.REFRESH, "default")
    run(loop, 0, 24)
    assert [version for _, version in loop.promoted] == ["fades"]
    ((day, version),) = loop.taken_back
    assert version == "fades"
    assert day <= 20
    assert loop.control.champion == "first"


def test_the_benchmarks_settings_are_the_defaults() -> None:

    found = config_of(drawn("temperature a day ahead"))
    assert found.refresh == CONFIG.refresh
    assert found.evidence == CONFIG.evidence
    assert float(found.retrain.schedule.every) == 7 * DAY


def broken_on(change: int, *, schedule_only: bool = False) -> Renewed:
    """A week and a half of 800 rows a day, whose one feature means the opposite from the day `change` on."""
    days = HISTORY + 11
    rng = np.random.default_rng(5)
    day = np.sort(rng.random(800 * days)) * days
    x = rng.normal(size=(len(day), 2))
    y = (np.where(day < change, x[:, 0], -x[:, 0]) + 0.3 * rng.normal(size=len(day)) > 0).astype(float)
    rows = (day, day + 1 / 24, x, y)
    stream = Stream("t", Task.CLASSIFICATION, *rows, 1 / 24, [float(change)], model=LogisticRegression)
    season = Season(stream)
    season.add("first", 0, HISTORY, HISTORY)
    return gauntlet(season, config_of(stream, schedule_only=schedule_only))


def test_jobs_start_by_the_schedule_and_by_the_drift_that_the_outcomes_show() -> None:
    calm, alone, both = (broken_on(HISTORY + 30), broken_on(HISTORY + 9, schedule_only=True), broken_on(HISTORY + 9))
    assert [round(job.created_at / DAY) for job in calm.jobs] == [HISTORY + 7], "nothing has changed yet"
    assert not calm.drift
    assert {job.trigger for job in alone.jobs} == {"schedule"}
    (job,) = [each for each in both.jobs if each.trigger == "drift"]
    opened = both.drift[0]
    assert (opened.event, opened.severity, opened.root_cause) == ("open", "HIGH", "concept")
    assert HISTORY + 9 < opened.at / DAY <= job.created_at / DAY < HISTORY + 9.5
