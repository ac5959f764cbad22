"""Seasonal adjustment: values against the reference's values of the same hour or weekday.

A number becomes its quantile in the reference's distribution of that season (probability integral transform), which is
uniform in every season while nothing has changed. The drift rules then apply to all seasons at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import Column, is_categorical, read_numbers
from evaluator.drift.grid import HUGE, Floats, Ints
from evaluator.drift.state import from_builtins, to_builtins

Period = Literal["hour", "weekday"]
PERIODS: Mapping[Period, tuple[float, int, float]] = {
    "hour": (3600.0, 24, 0.0),
    "weekday": (86_400.0, 7, 3.0),  # the first day of Unix time was a Thursday
}
"""Seconds of a season, seasons of a period, and the season at the Unix epoch; hours of UTC, weekdays from Monday."""
FEWEST, FEWEST_TWICE = 250, 100
"""Reference values that a season needs, lest its sampling error reach the thresholds; fewer if it came at least twice,
as the errors of several seasons then average out in a window."""
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_KNOTS = 257
"""Quantiles kept for each season, with linear interpolation between them."""
_ATOM = 0.02
"""Share of one value in a season from which a column is not adjusted, as its quantiles are ties."""


def season_of(at: npt.ArrayLike, period: Period) -> Ints:
    """The season of each time in seconds since 1970 (UTC), from 0; -1 for NaN."""
    length, number, first = PERIODS[period]
    times = np.asarray(at, dtype=np.float64)
    known = np.isfinite(times)
    places = np.mod(np.floor(np.where(known, times, 0.0) / length) + first, number)
    return np.where(known, places, -1).astype(np.int64)


def _required_rows(at: npt.ArrayLike, period: Period) -> Ints:
    """Reference values that each season needs, by how often it occurred."""
    length, number, _ = PERIODS[period]
    times = np.asarray(at, dtype=np.float64)
    visits = np.unique(np.floor(times[np.isfinite(times)] / length)) * length
    often = np.bincount(season_of(visits, period), minlength=number)
    return np.where(often >= 2, FEWEST_TWICE, FEWEST)


def sparse_seasons(at: npt.ArrayLike, period: Period) -> list[str]:
    """A note on the seasons with too few rows in the reference, if any."""
    season, number = season_of(at, period), PERIODS[period][1]
    needed = _required_rows(at, period)
    few = np.flatnonzero(np.bincount(season[season >= 0], minlength=number) < needed).tolist()
    if not few:
        return []
    named = ", ".join(_DAYS[i] if period == "weekday" else f"{i}:00" for i in few)
    return [
        f"{len(few)} of {number} {period}s have too few rows in the reference, fewer than {FEWEST_TWICE} or from one "
        f"time only ({named}): their rows are held against the whole reference, where what only belongs to their "
        f"{period} may look like drift"
    ]


@dataclass(frozen=True, slots=True)
class Seasonality:
    """Quantiles of each column in each season: `knots` of shape (seasons + 1, _KNOTS) by column. The last row is of all
    seasons together, for seasons with too few rows."""

    period: Period
    knots: Mapping[str, Floats]

    @classmethod
    def fit(cls, columns: Mapping[str, Column], at: npt.ArrayLike, period: Period) -> Seasonality:
        """The seasons of a reference; `at`: seconds since 1970 of each row. Categories, and columns of less than
        `FEWEST` values or of few distinct ones, are not adjusted. Raises ValueError for an unknown period or another
        length of `at`.
        """
        if period not in PERIODS:
            raise ValueError(f"a season must be one of {', '.join(PERIODS)}, not {period!r}")
        season, number = season_of(at, period), PERIODS[period][1]
        needed = [*_required_rows(at, period).tolist(), FEWEST]
        knots: dict[str, Floats] = {}
        for name, column in columns.items():
            if len(column) != len(season):
                raise ValueError(f"{name} has {len(column)} rows with {len(season)} times")
            if is_categorical(column):
                continue
            values = read_numbers(column)[0]
            usable = np.abs(values) <= HUGE
            groups = [values[usable & (season == i)] for i in range(number)]
            whole = values[usable]
            enough = [len(group) >= least for group, least in zip((*groups, whole), needed, strict=True)]
            chosen = [group if own else whole for group, own in zip((*groups, whole), enough, strict=True)]
            if not enough[-1] or any(_tied(group) for group in chosen):
                continue
            knots[name] = np.array([_quantiles(group) for group in chosen])
        return cls(period, knots)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.knots)

    def adjusted(self, columns: Mapping[str, Column], at: npt.ArrayLike) -> dict[str, Column]:
        """The columns with each number as its quantile in its season, from 0 to 1 within the season's range, beyond it
        by the distance in ranges. Missing, infinite and odd cells are unchanged."""
        season = season_of(at, self.period)
        return {
            name: self._quantiles_of(self.knots[name], column, season) if name in self.knots else column
            for name, column in columns.items()
        }

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = to_builtins(self)
        return values

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Seasonality:
        return from_builtins(raw, cls)

    @staticmethod
    def _quantiles_of(knots: Floats, column: Column, season: Ints) -> Column:
        values, wrong = read_numbers(column)
        places = values.copy()
        usable = np.abs(values) <= HUGE
        for i in np.unique(season).tolist():
            rows, own = usable & (season == i), knots[i]
            numbers, width = values[rows], own[-1] - own[0]
            inside = np.interp(numbers, own, np.linspace(0.0, 1.0, _KNOTS))
            with np.errstate(over="ignore"):
                beyond = np.minimum(numbers - own[0], 0.0) + np.maximum(numbers - own[-1], 0.0)
                places[rows] = inside + np.clip(beyond / width, -HUGE, HUGE)
        if wrong is None:
            return places
        cells: list[Any] = places.tolist()
        return [cell if odd else place for cell, place, odd in zip(list(column), cells, wrong.tolist(), strict=True)]


def _quantiles(values: Floats) -> Floats:
    found: Floats = np.quantile(values, np.linspace(0.0, 1.0, _KNOTS))
    return found


def _tied(values: Floats) -> bool:
    """Whether one value has more than a share of `_ATOM` of a season."""
    return bool(np.unique(values, return_counts=True)[1].max() > _ATOM * len(values))
