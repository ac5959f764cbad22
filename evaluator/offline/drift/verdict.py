"""Verdict on a whole table: the rules of `evaluator.drift`, and the evidence that only a complete file has.

That is significance over all features at once, a rise of the mean loss over all rows, and cells that can be no outcome.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import false_discovery_control

from evaluator.drift.comparison import Comparison, Report
from evaluator.drift.concept import ErrorRise, error_rise
from evaluator.drift.feature_detector import distribution_kind
from evaluator.drift.grid import Floats
from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import Judgement, judge
from evaluator.drift.signals import Key, Signal
from evaluator.offline.drift.reference import FEWEST_LOSSES
from evaluator.offline.drift.settings import FEWEST_VALUES

_SPREAD = 30  # values of the reference below which its standard deviation means nothing


@dataclass(frozen=True)
class Verdict:
    """What the rules say of the rows in `comparison`, against its profile.

    losses: of each row with both target and prediction. unusable: cells of target and prediction that can be neither.
    """

    comparison: Comparison
    losses: Floats
    unusable: dict[str, int]

    @property
    def rules(self) -> DriftSettings:
        """The thresholds."""
        return self.comparison.settings

    @cached_property
    def report(self) -> Report:
        """The report of the rules of `evaluator.drift`."""
        return self.comparison.report()

    @cached_property
    def adjusted_p_values(self) -> list[float]:
        """The features' p values after Benjamini and Hochberg (1995), in the report's order."""
        p_values = [feature.p_value for feature in self.report.features]
        return [float(p_value) for p_value in false_discovery_control(p_values)] if p_values else []

    @cached_property
    def signals(self) -> dict[Key, Signal]:
        """Every raised signal."""
        raised = (*self.report.signals, *self._shifts(), *self._error_rises(), *self._unusable_cells())
        return {signal.key: signal for signal in raised if not self._is_baseless(signal)}

    @cached_property
    def judgement(self) -> Judgement:
        """Severity, root cause and action over all signals."""
        return judge(self.signals.values(), self.comparison.profile, self.rules)

    def present(self, name: str) -> int:
        """Values of a column that the rules can use."""
        profile = self.comparison.profile
        return int(self.comparison.counts[profile.span(profile.index[name])].sum())

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
        """Three standard deviations of next to no values are no limit."""
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
