"""The current rows of a file in a bounded number of consecutive slices, each judged as the whole is: when it drifted.

Rows are counted once, into the last slice; neighbours are added up when there are too many, and so is the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import overload

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import Calibration
from evaluator.drift.comparison import Comparison
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.offline.drift.reference import NOTHING
from evaluator.offline.drift.result import StreamStep
from evaluator.offline.drift.scan import ROWS, Batch
from evaluator.offline.drift.verdict import Verdict

Floats = npt.NDArray[np.float64]

MOST = 24
"""Slices at the end; at least half as many where there are rows enough."""
FEWEST = 64
"""Rows of the shortest slice: with fewer nothing could be said of one."""


@dataclass
class Slice:
    """Consecutive rows: their counts, the losses of those with both outcomes, and cells that can be no outcome."""

    comparison: Comparison
    losses: list[Floats] = field(default_factory=list)
    odd: dict[str, int] = field(default_factory=dict)

    def __add__(self, later: Slice) -> Slice:
        odd = {name: self.odd.get(name, 0) + later.odd.get(name, 0) for name in {**self.odd, **later.odd}}
        return Slice(self.comparison + later.comparison, [*self.losses, *later.losses], odd)

    def verdict(self, profile: Profile, alpha: float) -> Verdict:
        """Judged against a profile with the same grids."""
        self.comparison.profile = profile
        losses = np.concatenate(self.losses) if self.losses else np.empty(0)
        return Verdict(self.comparison, losses, self.odd, alpha)


class Slices:
    """At most `MOST` slices; so long that there are as many where the number of rows is known before they come."""

    def __init__(self, profile: Profile, rules: DriftSettings, rows: int | None) -> None:
        self._profile, self._rules = profile, rules
        self._size = FEWEST if rows is None else max(FEWEST, -(-rows // MOST))
        if self._size > ROWS:  # whole batches need no cutting
            self._size = -(-self._size // ROWS) * ROWS
        self._each: list[Slice] = []

    def parts(self, batch: Batch) -> Iterator[tuple[Slice, Batch]]:
        """A batch cut where a slice is full, each part with the slice that it belongs to."""
        first = 0
        while first < batch.rows:
            last = self._open()
            end = min(batch.rows, first + self._size - last.comparison.rows)
            if first == 0 and end == batch.rows:
                yield last, batch
            else:
                columns = {name: values[first:end] for name, values in batch.columns.items()}
                yield last, replace(batch, start=batch.start + first, rows=end - first, columns=columns)
            first = end

    def _open(self) -> Slice:
        """The slice that the next row belongs to."""
        if not self._each or self._each[-1].comparison.rows >= self._size:
            if len(self._each) == MOST:
                self._each = [self._each[i] + self._each[i + 1] for i in range(0, MOST, 2)]
                self._size *= 2
            self._each.append(Slice(Comparison(self._profile, self._rules)))
        return self._each[-1]

    def whole(self) -> Slice:
        """All rows as one slice."""
        return reduce(Slice.__add__, self._each, Slice(Comparison(self._profile, self._rules)))

    def steps(self, profile: Profile, alpha: float) -> Steps:
        """The judgements of the slices against a profile that was calibrated for all rows."""
        return Steps(tuple(self._each), profile, alpha)


class Steps(Sequence[StreamStep]):
    """One step a slice, at its first row; judged when they are first looked at, for that takes as long as the whole."""

    def __init__(self, slices: tuple[Slice, ...], profile: Profile, alpha: float) -> None:
        self._slices, self._profile, self._alpha = slices, profile, alpha

    @cached_property
    def _judged(self) -> tuple[StreamStep, ...]:
        if not self._slices:
            return ()
        profile = _shortened(self._profile, max(one.comparison.rows for one in self._slices))
        steps: list[StreamStep] = []
        row = 0
        for one in self._slices:
            verdict = one.verdict(profile, self._alpha)
            scores = {f.name: f.statistic for f in verdict.report.features if f.name != NOTHING}
            rise = None if verdict.rise is None else verdict.rise.rise
            severity = verdict.judgement.severity.name
            steps.append(StreamStep(row, severity, scores, rise, verdict.report.quality.score))
            row += one.comparison.rows
        return tuple(steps)

    def __len__(self) -> int:
        return len(self._slices)

    @overload
    def __getitem__(self, at: int) -> StreamStep: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[StreamStep, ...]: ...
    def __getitem__(self, at: int | slice) -> StreamStep | tuple[StreamStep, ...]:
        return self._judged[at]


def _shortened(profile: Profile, rows: int) -> Profile:
    """The profile with what the reference does by itself carried over to fewer rows, which stray further: by the ratio
    of the standard errors of independent rows, and so by no less than those that depend on each other do."""
    window = profile.windows[-1]
    if rows >= window:
        return profile
    raised = math.sqrt((1 / rows + 1 / profile.rows) / (1 / window + 1 / profile.rows))

    def carried(known: tuple[Calibration, ...]) -> tuple[Calibration, ...]:
        return tuple(Calibration(min(one.limit * raised, (1 + one.limit) / 2), one.efficiency) for one in known)

    features = tuple(
        replace(f, shape=carried(f.shape), missing=carried(f.missing), outlying=carried(f.outlying))
        for f in profile.features
    )
    errors, truth = profile.errors, profile.truth
    if errors is not None:
        errors = replace(errors, limits=tuple(limit * raised for limit in errors.limits))
    if truth is not None:
        performance = truth.performance
        if performance is not None:
            own = {
                name: tuple(Calibration(one.limit * raised, one.efficiency) for one in known)
                for name, known in performance.own.items()
            }
            performance = replace(performance, own=own)
        truth = replace(truth, distribution=_shortened(truth.distribution, rows), performance=performance)
    return Profile(
        profile.reference_id,
        profile.rows,
        rows,
        (rows,),
        features,
        errors,
        truth,
        given=profile.given,
        prediction=profile.prediction,
        score=profile.score,
    )
