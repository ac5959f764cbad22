"""Rows of a file judged: the rules of `evaluator.drift` for a whole table, and what files add to them.

Files add evidence over all features at once, a rise of the mean loss over all rows, and cells that can be no outcome.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evaluator.drift.comparison import Comparison
from evaluator.drift.concept import Rise, rise_of
from evaluator.drift.feature_signals import kind_of
from evaluator.drift.profile import Profile
from evaluator.drift.report import Report
from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import Judgement, judge
from evaluator.drift.signal import Key, Signal
from evaluator.offline.drift.data_findings import FEWEST
from evaluator.offline.drift.reference import FEWEST_ERRORS

Floats = npt.NDArray[np.float64]

_SPREAD = 30
"""Values of the reference from which on its standard deviation means something."""


@dataclass(frozen=True)
class Verdict:
    """What the rules say of the rows in `comparison`. losses: of each of them with both target and prediction, and odd:
    cells of target and prediction that can be neither. The profile is the comparison's."""

    comparison: Comparison
    losses: Floats
    odd: dict[str, int]
    alpha: float

    @property
    def profile(self) -> Profile:
        """What the rows are held against."""
        return self.comparison.profile

    @property
    def rules(self) -> DriftSettings:
        """The thresholds."""
        return self.comparison.settings

    @cached_property
    def report(self) -> Report:
        """What `evaluator.drift` says."""
        return self.comparison.report()

    @cached_property
    def adjusted(self) -> list[float]:
        """The features' p values, corrected for all of them."""
        return adjusted([feature.p_value for feature in self.report.features])

    @cached_property
    def signals(self) -> dict[Key, Signal]:
        """Everything that spoke."""
        found = (*self.report.signals, *self._moved(), *self._risen(), *self._impossible())
        return {signal.key: signal for signal in found if not self._baseless(signal)}

    @cached_property
    def judgement(self) -> Judgement:
        """What it comes to."""
        return judge(self.signals.values(), self.profile, self.rules)

    def present(self, name: str) -> int:
        """Values of a column that the rules can use."""
        return int(self.comparison.counts[self.profile.span(self.profile.index[name])].sum())

    @cached_property
    def rise(self) -> Rise | None:
        """The mean loss of all rows against the reference's, where there are enough."""
        errors = self.profile.errors
        if errors is None or len(self.losses) < FEWEST_ERRORS:
            return None
        seen = np.minimum(self.losses, errors.cap)
        return rise_of(errors, 0, len(seen), float(seen.sum()), float((seen**2).sum()), self.rules.concept_rise)

    def _baseless(self, signal: Signal) -> bool:
        """Three standard deviations of next to no values are no limit to be beyond of."""
        index = self.profile.index.get(signal.feature)
        few = index is not None and self.profile.features[index].present < _SPREAD
        return few and signal.kind in ("displaced", "outliers")

    def _moved(self) -> list[Signal]:
        """Features beyond their threshold that are significant among all features, whatever the others' effect."""
        if self.rules.simple:
            return []
        features = {feature.name: feature for feature in self.profile.features}
        return [
            Signal(
                kind_of(features[f.name]),
                f.name,
                f.statistic,
                f.lower,
                f.upper,
                f.threshold,
                f.p_value,
                self.comparison.rows,
            )
            for f, adjusted in zip(self.report.features, self.adjusted, strict=True)
            if f.statistic >= f.threshold and adjusted <= self.alpha and self.present(f.name) >= FEWEST
        ]

    def _risen(self) -> list[Signal]:
        """A rise of the mean loss, judged once over all rows."""
        rise, rules = self.rise, self.rules
        if rise is None:
            return []
        threshold, z = (rules.concept_rise, -math.inf) if rules.simple else (rise.threshold, rules.performance_z)
        if rise.rise <= threshold or rise.z < z:
            return []
        critical = rise.rise > 2 * threshold and (rules.simple or rise.z_beyond >= z)
        p_value = 0.5 * math.erfc(rise.z / math.sqrt(2))
        rows = len(self.losses)
        return [Signal("concept", "", rise.rise, rise.lower, rise.upper, threshold, p_value, rows, critical)]

    def _impossible(self) -> list[Signal]:
        """A target or prediction with cells that can be neither: broken data, whatever the rest of it says."""
        rows, limit = self.comparison.rows, self.rules.missing
        shares = {name: odd / max(1, rows) for name, odd in self.odd.items() if rows >= FEWEST}
        return [
            Signal("type_change", name, share, share, share, limit, 0.0, rows)
            for name, share in shares.items()
            if share > limit
        ]


def adjusted(p_values: list[float]) -> list[float]:
    """p values after Benjamini and Hochberg (1995): the smallest false-discovery rate at which each is rejected."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")[::-1]
    ranks = np.arange(len(values), 0, -1)
    lowest = np.minimum.accumulate(values[order] * len(values) / ranks) if len(values) else values
    back = np.empty(len(values))
    back[order] = np.minimum(lowest, 1.0)
    return list(back.tolist())
