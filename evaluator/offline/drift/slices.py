"""Current rows in a bounded number of consecutive slices, each judged as the whole table is: when it drifted.

Rows are counted once, into the last slice; when there are too many slices, neighbours are added up.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np

from evaluator.drift.calibration import Calibration
from evaluator.drift.comparison import Comparison
from evaluator.drift.grid import Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.offline.drift.prediction_type import OutcomeCounts
from evaluator.offline.drift.reference import ROWS_ONLY
from evaluator.offline.drift.result import DriftStep
from evaluator.offline.drift.scan import BATCH_ROWS, Batch
from evaluator.offline.drift.verdict import Verdict

MOST_SLICES = 24
"""Slices at the end; at least half as many where there are rows enough."""
FEWEST_ROWS = 64
"""Rows of the shortest slice: fewer can't be judged."""


@dataclass
class Slice:
    """Consecutive rows: their counts, losses of those with both outcomes, counts of target and prediction."""

    comparison: Comparison
    losses: list[Floats] = field(default_factory=list)
    outcomes: OutcomeCounts = field(default_factory=OutcomeCounts)

    def __add__(self, later: Slice) -> Slice:
        losses = [*self.losses, *later.losses]
        return Slice(self.comparison + later.comparison, losses, self.outcomes + later.outcomes)

    def verdict(self, profile: Profile) -> Verdict:
        """Against a profile with the same grids."""
        comparison = copy.copy(self.comparison)
        comparison.profile = profile
        losses = np.concatenate(self.losses) if self.losses else np.empty(0)
        return Verdict(comparison, losses, self.outcomes.unusable)


class Slices:
    """At most `MOST_SLICES` slices; where the number of rows is known before, of the length that gives as many."""

    def __init__(self, profile: Profile, rules: DriftSettings, rows: int | None) -> None:
        self._profile, self._rules = profile, rules
        self._size = FEWEST_ROWS if rows is None else max(FEWEST_ROWS, -(-rows // MOST_SLICES))
        if self._size > BATCH_ROWS:  # whole batches need no cutting
            self._size = -(-self._size // BATCH_ROWS) * BATCH_ROWS
        self._slices: list[Slice] = []

    def split(self, batch: Batch) -> Iterator[tuple[Slice, Batch]]:
        """A batch cut where a slice is full, each part with the slice that it belongs to."""
        first = 0
        while first < batch.rows:
            last = self._open()
            end = min(batch.rows, first + self._size - last.comparison.rows)
            yield last, batch.part(first, end)
            first = end

    def _open(self) -> Slice:
        """The slice that the next row belongs to."""
        if not self._slices or self._slices[-1].comparison.rows >= self._size:
            if len(self._slices) == MOST_SLICES:
                self._slices = [self._slices[i] + self._slices[i + 1] for i in range(0, MOST_SLICES, 2)]
                self._size *= 2
            self._slices.append(Slice(Comparison(self._profile, self._rules)))
        return self._slices[-1]

    def total(self) -> Slice:
        """All rows as one slice."""
        return reduce(Slice.__add__, self._slices, Slice(Comparison(self._profile, self._rules)))

    def steps(self, profile: Profile) -> SliceSteps:
        """Verdicts on the slices, against a profile that was calibrated for all rows."""
        return SliceSteps(tuple(self._slices), profile)


class SliceSteps(Sequence[DriftStep]):
    """One step for each slice; judged when first looked at, because that takes as long as the whole table does."""

    def __init__(self, slices: tuple[Slice, ...], profile: Profile) -> None:
        self._slices, self._profile = slices, profile

    @cached_property
    def _steps(self) -> tuple[DriftStep, ...]:
        if not self._slices:
            return ()
        profile = _for_fewer_rows(self._profile, max(one.comparison.rows for one in self._slices))
        steps: list[DriftStep] = []
        row = 0
        for one in self._slices:
            verdict = one.verdict(profile)
            scores = {f.name: f.statistic for f in verdict.report.features if f.name != ROWS_ONLY}
            rise = None if verdict.error_rise is None else verdict.error_rise.rise
            steps.append(DriftStep(row, verdict.judgement.severity.name, scores, rise, verdict.report.quality.score))
            row += one.comparison.rows
        return tuple(steps)

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, at: Any) -> Any:
        return self._steps[at]


def _for_fewer_rows(profile: Profile, rows: int) -> Profile:
    """The profile calibrated for fewer rows, which stray further: limits are raised by the ratio of the standard errors
    of independent rows, which is no less than that of rows that depend on each other."""
    window = profile.windows[-1]
    if rows >= window:
        return profile
    raised = math.sqrt((1 / rows + 1 / profile.rows) / (1 / window + 1 / profile.rows))

    def shares(known: tuple[Calibration, ...]) -> tuple[Calibration, ...]:
        return tuple(one._replace(limit=min(one.limit * raised, (1 + one.limit) / 2)) for one in known)

    features = tuple(
        replace(f, shape=shares(f.shape), missing=shares(f.missing), outlying=shares(f.outlying))
        for f in profile.features
    )
    errors, truth = profile.errors, profile.truth
    if errors is not None:
        errors = replace(errors, limits=tuple(limit * raised for limit in errors.limits))
    if truth is not None:
        performance = truth.performance
        if performance is not None:
            own = {
                name: tuple(one._replace(limit=one.limit * raised) for one in known)
                for name, known in performance.calibrations.items()
            }
            performance = replace(performance, calibrations=own)
        truth = replace(truth, distribution=_for_fewer_rows(truth.distribution, rows), performance=performance)
    return replace(profile, pane=rows, windows=(rows,), features=features, errors=errors, truth=truth, regimes=())
