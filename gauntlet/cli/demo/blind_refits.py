"""Retraining policies for comparison on the same flights: keep the first model, or deploy refits blindly (cron job).

A blind policy deploys every submitted model until its next refit, the demo's two broken ones included.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import Pipeline

from gauntlet.cli.demo.flights import DAY, YEAR_START, Flights, numeric_steps
from gauntlet.cli.demo.replay import Submission
from gauntlet.cli.demo.report_model import Month, RenewalPolicy
from gauntlet.losses import loss

Floats = NDArray[np.float64]

ALL = 366
"""A window that is longer than the year: all data."""
FIRST_REFIT = 38
"""The day of a blind policy's first refit: January and a week."""
BLIND = {"refit every 30 days on all data, blind": (30, ALL), "refit every 7 days on 60 days, blind": (7, 60)}
"""Policy → days between refits, and the window in days."""


class Hindsight:
    """The first `n` flights as arrays, and the losses of models trained on any of their days.

    day, seen: scheduled departure and the time its outcome was known, in days of the year (NaN where it never was).
    """

    def __init__(self, flights: Flights, n: int) -> None:
        self._flights = flights
        self.day = (flights.departure[:n] - YEAR_START) / DAY
        self.seen = (flights.arrival[:n] - YEAR_START) / DAY
        self.late = flights.late[:n]
        self.known = ~np.isnan(self.late)

    @property
    def end(self) -> int:
        """The day after the last."""
        return int(self.day[-1]) + 1

    def refits(self, every: int, start: int) -> range:
        """The days of a schedule."""
        return range(start, self.end, every)

    @cached_property
    def matrix(self) -> Floats:
        rows = self._flights.rows(0, len(self.day))
        return np.asarray(DictVectorizer(sparse=False).fit_transform(rows))

    def refit(self, window: int, day: int) -> Pipeline:
        """The demo's model, fitted on what the last `window` days show by the midnight before `day`."""
        chosen = self.known & (self.day >= day - window) & (self.day < day) & (self.seen < day)
        return Pipeline(numeric_steps()).fit(self.matrix[chosen], self.late[chosen])

    def losses(self, model: Pipeline, flights: slice) -> Floats:
        """Log loss of a refit on `flights`; NaN where there is no outcome."""
        return self.scored(model.predict_proba(self.matrix[flights]), flights)

    def losses_of(self, submission: Submission, day: int, flights: slice) -> Floats:
        """Log loss of a model that a person hands in at the midnight before `day`; infinite where it can't answer."""
        start, end = (YEAR_START + d * DAY for d in (day - 60, day - 1))
        model = submission.train(*self._flights.between(start, end))
        rows = self._flights.rows(flights.start, flights.stop)
        answered = np.array([None not in row.values() or _answers(model, row) for row in rows], dtype=bool)
        output = np.full((len(rows), 2), 0.5)
        output[answered] = model.predict_proba([row for row, ok in zip(rows, answered, strict=True) if ok])
        return np.where(answered, self.scored(output, flights), np.inf)

    def scored(self, output: Floats, flights: slice) -> Floats:
        """Log loss of these outputs for `flights`; NaN where there is no outcome."""
        truth = self.late[flights]
        found = np.full(len(truth), np.nan)
        known = ~np.isnan(truth)
        found[known] = loss("log_loss", output[known], truth[known])
        return found

    def between(self, start: float, end: float) -> slice:
        return slice(*(int(i) for i in np.searchsorted(self.day, [start, end])))


def _answers(model: Pipeline, row: object) -> bool:
    try:
        model.predict_proba([row])
    except ValueError:  # it can't take a missing value
        return False
    return True


def blind(hindsight: Hindsight, first: Floats, every: int, window: int, start: int = FIRST_REFIT) -> Floats:
    """Each flight's log loss when every refit is deployed at once and stays until the next one. first: the losses of
    the first model; start: the day of the first refit."""
    served = first.copy()

    def deploy(day: int, until: int) -> None:
        part = hindsight.between(day, until)
        if part.start < part.stop:
            served[part] = hindsight.losses(hindsight.refit(window, day), part)

    days = [*hindsight.refits(every, start), hindsight.end]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # fitting leaves the interpreter to others most of the time
        list(pool.map(deploy, days, days[1:]))
    return served


def with_broken(
    hindsight: Hindsight, served: Floats, every: int, submissions: Sequence[Submission], start: int = FIRST_REFIT
) -> Floats:
    """The log losses of a blind policy when whatever a person hands in is deployed, too, and stays until the next
    refit. submissions: oldest first. Infinite where a request got no answer."""
    found = served.copy()
    for each in submissions:
        day = each.day + 1
        part = hindsight.between(day, next((d for d in hindsight.refits(every, start) if d > day), hindsight.end))
        if part.start < part.stop:
            found[part] = hindsight.losses_of(each, day, part)
    return found


def policies(
    flights: Flights, n: int, first: Floats, submissions: Sequence[Submission], year: Month, months: Sequence[Month]
) -> tuple[RenewalPolicy, ...]:
    """The first model for ever, the blind policies and Gauntlet, in this order.

    first: the first champion's probability of being late for the first `n` flights. year, months: what Gauntlet served.
    """
    hindsight = Hindsight(flights, n)
    ours = RenewalPolicy(name="Gauntlet", log_loss=year.log_loss, months=tuple(each.log_loss for each in months))
    kept = RenewalPolicy(
        name="the first model for ever",
        log_loss=year.log_loss_first,
        months=tuple(each.log_loss_first for each in months),
    )
    losses = hindsight.scored(np.column_stack([1 - first, first]), slice(0, n))
    of_months = [flights.month[:n] == month.month for month in months]
    found = []
    for name, (every, window) in BLIND.items():
        served = blind(hindsight, losses, every, window)
        shipped = with_broken(hindsight, served, every, submissions)
        found.append(
            RenewalPolicy(
                name=name,
                log_loss=_mean(served),
                log_loss_with_broken=_mean(shipped),
                unanswered=int(np.isinf(shipped).sum()),
                months=tuple(_mean(shipped[month]) for month in of_months),
            )
        )
    return (kept, *found, ours)


def _mean(losses: Floats) -> float | None:
    known = losses[np.isfinite(losses)]
    return float(known.mean()) if len(known) else None
