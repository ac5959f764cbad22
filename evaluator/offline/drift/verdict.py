"""Verdict on a whole table, and on consecutive slices of it: when it drifted.

The rules are those of `evaluator.drift`, with the evidence that only a complete file has: significance over all
features at once, a rise of the mean loss over all rows, and cells that can't be outcomes. Rows are counted once, into
the last slice; when there are too many slices, neighbours are added up.
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
from evaluator.drift.concept import ErrorRise, error_rise
from evaluator.drift.feature_detector import distribution_kind
from evaluator.drift.grid import Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import Judgement, judge
from evaluator.drift.signals import Key, Signal
from evaluator.drift.table_comparison import TableComparison, TableReport
from evaluator.offline.drift.prediction_type import OutcomeCounts
from evaluator.offline.drift.reference import FEWEST_LOSSES, ROWS_ONLY
from evaluator.offline.drift.result import DriftStep
from evaluator.offline.drift.scan import BATCH_ROWS, TableBatch
from evaluator.offline.drift.settings import FEWEST_VALUES

MOST_SLICES = 24
"""Slices at the end; at least half as many where there are rows enough."""
FEWEST_ROWS = 64
"""Rows of the shortest slice: fewer can't be judged."""
_FROZEN = 1e-6
"""Chance that a prediction is the same in all rows below which it is frozen."""
_SPREAD = 30  # values of the reference below which its standard deviation means nothing


@dataclass(frozen=True)
class TableVerdict:
    """What the rules say of the rows in `comparison`, against its profile.

    losses: of each row with both target and prediction. unusable: cells of target and prediction that can be neither.
    """

    comparison: TableComparison
    losses: Floats
    unusable: dict[str, int]

    @property
    def rules(self) -> DriftSettings:
        """The thresholds."""
        return self.comparison.settings

    @cached_property
    def report(self) -> TableReport:
        """The report of the rules of `evaluator.drift`."""
        return self.comparison.report()

    @cached_property
    def adjusted_p_values(self) -> list[float]:
        """The features' p values after Benjamini and Hochberg (1995), in the report's order."""
        from scipy.stats import false_discovery_control  # slow to import, and needed for nothing else

        p_values = [feature.p_value for feature in self.report.features]
        return [float(p_value) for p_value in false_discovery_control(p_values)] if p_values else []

    @cached_property
    def signals(self) -> dict[Key, Signal]:
        """Every raised signal."""
        raised = (
            *(*self.report.signals, *self._shifts(), *self._error_rises(), *self._unusable_cells()),
            *self._frozen_predictions(),
        )
        return {signal.key: signal for signal in raised if not self._is_baseless(signal)}

    @cached_property
    def judgement(self) -> Judgement:
        """Severity, root cause and action over all signals."""
        return judge(self.signals.values(), self.comparison.profile, self.rules)

    def present(self, name: str) -> int:
        """Values of a column that the rules can use."""
        profile = self.comparison.profile
        return int(self.comparison.counts[profile.span(profile.index[name])].sum())

    def rare(self, name: str) -> int:
        """Of `present` values of a column of texts, those without a slot of their own."""
        profile = self.comparison.profile
        return int(self.comparison.counts[profile.ends[profile.index[name]]])

    @cached_property
    def error_rise(self) -> ErrorRise | None:
        """The mean loss of all rows against the reference's; None with too few losses."""
        errors = self.comparison.profile.errors
        if errors is None or len(self.losses) < FEWEST_LOSSES:
            return None
        capped = np.minimum(self.losses, errors.cap)
        total, squares = float(capped.sum()), float((capped**2).sum())
        return error_rise(errors, 0, len(capped), total, squares, self.rules.concept_rise)

    def _is_baseless(self, signal: Signal) -> bool:
        """Whether the reference has too few values for its limit of three standard deviations to mean anything."""
        profile = self.comparison.profile
        index = profile.index.get(signal.feature)
        few = index is not None and profile.features[index].present < _SPREAD
        return few and signal.kind in ("displaced", "outliers")

    def _shifts(self) -> list[Signal]:
        """Features beyond their threshold, and significant among all features whatever the others' effect."""
        if self.rules.simple:
            return []
        features = {feature.name: feature for feature in self.comparison.profile.features}
        rows, level = self.comparison.rows, self.rules.batch_alpha
        return [
            Signal(
                distribution_kind(features[f.name]), f.name, f.statistic, f.lower, f.upper, f.threshold, f.p_value, rows
            )
            for f, adjusted in zip(self.report.features, self.adjusted_p_values, strict=True)
            if f.statistic >= f.threshold and adjusted <= level and self.present(f.name) >= FEWEST_VALUES
        ]

    def _frozen_predictions(self) -> list[Signal]:
        """A prediction that is always the same, which it would not be by chance: a fact about the model, however often
        the reference says just that."""
        profile, found = self.comparison.profile, []
        for measured in self.report.outputs:
            if measured.name not in profile.index or self.rules.simple:
                continue
            i = profile.index[measured.name]
            fitted, now = profile.features[i], self.comparison.counts[profile.span(i)]
            usual = fitted.counts[now > 0].sum() / max(1, fitted.present)
            chance = float(usual ** (now.sum() * fitted.shape[0].efficiency))
            if np.count_nonzero(now) == 1 and measured.statistic > 0 and chance < _FROZEN:
                size = measured.statistic
                found.append(Signal.point("prediction", fitted.name, size, size, self.comparison.rows))
        return found

    def _error_rises(self) -> list[Signal]:
        """A rise of the mean loss, judged once over all rows."""
        rise, rules = self.error_rise, self.rules
        if rise is None:
            return []
        threshold, z = (rules.concept_rise, -math.inf) if rules.simple else (rise.threshold, rules.performance_z)
        if rise.rise <= threshold or rise.z < z:
            return []
        critical = rise.rise > 2 * threshold and (rules.simple or rise.z_beyond >= z)
        p_value = 0.5 * math.erfc(rise.z / math.sqrt(2))
        rows = len(self.losses)
        return [Signal("concept", "", rise.rise, rise.lower, rise.upper, threshold, p_value, rows, critical)]

    def _unusable_cells(self) -> list[Signal]:
        """A target or prediction with many cells that can be neither: broken data, whatever the rest of it says."""
        rows, limit = self.comparison.rows, self.rules.missing
        if rows < FEWEST_VALUES:
            return []
        shares = {name: count / rows for name, count in self.unusable.items()}
        return [
            Signal("type_change", name, share, share, share, limit, 0.0, rows)
            for name, share in shares.items()
            if share > limit
        ]


@dataclass
class Slice:
    """Consecutive rows: their counts, losses of those with both outcomes, counts of target and prediction."""

    comparison: TableComparison
    losses: list[Floats] = field(default_factory=list)
    outcomes: OutcomeCounts = field(default_factory=OutcomeCounts)

    def __add__(self, later: Slice) -> Slice:
        losses = [*self.losses, *later.losses]
        return Slice(self.comparison + later.comparison, losses, self.outcomes + later.outcomes)

    def verdict(self, profile: Profile) -> TableVerdict:
        """Against a profile with the same grids."""
        comparison = copy.copy(self.comparison)
        comparison.profile = profile
        losses = np.concatenate(self.losses) if self.losses else np.empty(0)
        return TableVerdict(comparison, losses, self.outcomes.unusable)


class RowSlices:
    """At most `MOST_SLICES` slices; where the number of rows is known before, of the length that gives as many."""

    def __init__(self, profile: Profile, rules: DriftSettings, rows: int | None) -> None:
        self._profile, self._rules = profile, rules
        self._size = FEWEST_ROWS if rows is None else max(FEWEST_ROWS, -(-rows // MOST_SLICES))
        if self._size > BATCH_ROWS:  # whole batches need no cutting
            self._size = -(-self._size // BATCH_ROWS) * BATCH_ROWS
        self._slices: list[Slice] = []

    def split(self, batch: TableBatch) -> Iterator[tuple[Slice, TableBatch]]:
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
            self._slices.append(Slice(TableComparison(self._profile, self._rules)))
        return self._slices[-1]

    def total(self) -> Slice:
        """The judgement of all rows as one slice."""
        return reduce(Slice.__add__, self._slices, Slice(TableComparison(self._profile, self._rules)))

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
            steps.append(DriftStep(row, verdict.judgement.severity.value, scores, rise, verdict.report.quality.score))
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
