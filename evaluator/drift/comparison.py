"""A whole table against the reference: counted in any number of pieces, judged once.

State is counts and sums only; two comparisons of consecutive pieces add to that of both, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evaluator.drift.columns import batch_rows
from evaluator.drift.data_quality import findings_of, quality_score
from evaluator.drift.distances import psi, wasserstein
from evaluator.drift.feature import Column, Feature
from evaluator.drift.feature_signals import measure, shape_of_table, strongest, table_signals
from evaluator.drift.grid import Floats, Ints
from evaluator.drift.markov import RegimeReference, Transitions, regime_change
from evaluator.drift.pane import ProfileMismatchError, count
from evaluator.drift.performance import WIDTHS, MetricChange, Task, changes, outcomes
from evaluator.drift.performance_monitor import signal_of
from evaluator.drift.profile import TARGET, Profile, Truth
from evaluator.drift.report import FeatureReport, PerformanceReport, QualityReport, RegimeReport, Report
from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import judge
from evaluator.drift.signal import SHAPES, Signal
from evaluator.drift.window_distances import distances, floors, limits
from evaluator.drift.windows import View, view_of

_BATCH_REGIME_P = 0.01


class Comparison:
    """Counts of a table against `profile`. Feed it with `add`, in time order where transitions matter; ask `report`."""

    def __init__(self, profile: Profile, settings: DriftSettings | None = None) -> None:
        self.profile = profile
        self.settings = settings or DriftSettings()
        self.rows = 0
        self.counts: Ints = np.zeros(profile.width, dtype=np.int64)
        self.extra: dict[str, int] = {}
        self._chains = {regime.feature: Transitions.of(np.empty(0, dtype=np.int64)) for regime in profile.regimes}
        truth = profile.truth
        self.known = 0
        """Rows with a target."""
        self.outcomes: Ints = np.zeros(truth.distribution.width if truth else 0, dtype=np.int64)
        self._performance: Floats = np.zeros(WIDTHS[truth.performance.task] if truth and truth.performance else 0)
        self._estimate: Ints = np.zeros(3, dtype=np.int64)

    def add(
        self, columns: Mapping[str, Column], *, targets: Column | None = None, predictions: Column | None = None
    ) -> None:
        """Count a piece. Missing and extra columns and odd values are findings.

        predictions: what to hold against the targets where it isn't the prediction's column as it stands. Raises
        ValueError when columns, or `targets`, differ in length.
        """
        rows = batch_rows(columns)
        if targets is not None and len(targets) != rows and columns:
            raise ValueError(f"{rows} rows with {len(targets)} targets")
        pane = count(self.profile, columns)
        self.rows += rows
        self.counts = self.counts + pane.counts
        for name, seen in pane.extra.items():
            self.extra[name] = self.extra.get(name, 0) + seen
        for regime in self.profile.regimes:
            moved = self._transitions(regime, columns.get(regime.feature), rows)
            self._chains[regime.feature] = self._chains[regime.feature] + moved
        truth = self.profile.truth
        if truth is None:
            return
        score = columns.get(self.profile.score) if self.profile.score else None
        if truth.scores is not None and score is not None:
            self._estimate = self._estimate + truth.scores.sums_of(truth.scores.expected(score))
        if targets is not None:
            said = self.profile.prediction or self.profile.score or ""
            self._add_truth(truth, targets, predictions if predictions is not None else columns.get(said))

    def _transitions(self, regime: RegimeReference, values: Column | None, rows: int) -> Transitions:
        if values is None:
            return Transitions.of(np.full(rows, -1, dtype=np.int64))
        return Transitions.of(regime.path(self.profile.column_slots(self.profile.index[regime.feature], values)))

    def _add_truth(self, truth: Truth, targets: Column, said: Column | None) -> None:
        counted = count(truth.distribution, {TARGET: targets}).counts
        self.outcomes = self.outcomes + counted
        self.known += int(counted[: truth.distribution.slots].sum())
        if truth.performance is not None and said is not None:
            task = truth.performance.task
            self._performance = self._performance + truth.performance.sums_of(*outcomes(task, targets, said))

    def __add__(self, later: Comparison) -> Comparison:
        """The comparison of both tables' rows. Raises ProfileMismatchError for another profile's."""
        if self.profile.hash != later.profile.hash:
            raise ProfileMismatchError("comparisons against different profiles don't add")
        both = Comparison(self.profile, self.settings)
        both.rows, both.known = self.rows + later.rows, self.known + later.known
        both.counts, both.outcomes = self.counts + later.counts, self.outcomes + later.outcomes
        both.extra = {n: self.extra.get(n, 0) + later.extra.get(n, 0) for n in {*self.extra, *later.extra}}
        both._chains = {name: chain + later._chains[name] for name, chain in self._chains.items()}
        both._performance = self._performance + later._performance
        both._estimate = self._estimate + later._estimate
        return both

    def report(self) -> Report:
        """Judge what was counted so far. Any number of rows will do, also none."""
        profile, settings = self.profile, self.settings
        view = view_of(profile, self.rows, self.counts)
        place = _place(profile, self.rows)
        signals = table_signals(profile, view, place, settings) if self.rows and profile.features else []
        outputs: list[FeatureReport] = []
        truth = profile.truth
        if truth is not None and self.known:
            seen = view_of(truth.distribution, self.known, self.outcomes)
            moved = shape_of_table(truth.distribution, seen, place, settings)
            signals += moved
            outputs += _features(truth.distribution, seen, place, settings, moved)
        regimes, turned = self._regimes()
        performance, worse = self._judge_performance()
        found = tuple(strongest([*signals, *turned, *worse]).values())
        judged = judge(found, profile, settings)
        columns = dict(zip(profile.names, _features(profile, view, place, settings, found), strict=True))
        roles = {feature.name: feature.role for feature in profile.features}
        score = quality_score(profile, view)
        return Report(
            severity=judged.severity.name,
            confidence=judged.confidence,
            root_cause=judged.root_cause,
            action=judged.action,
            mode=settings.mode,
            reference_rows=profile.rows,
            current_rows=self.rows,
            features=tuple(columns[name] for name in profile.given if roles[name] == "feature"),
            outputs=(*(columns[name] for name in profile.given if roles[name] != "feature"), *outputs),
            quality=QualityReport(score, findings_of(profile, view, self.extra, settings)),
            performance=performance,
            regimes=regimes,
            signals=found,
            blamed=judged.features,
        )

    def _regimes(self) -> tuple[tuple[RegimeReport, ...], list[Signal]]:
        reports: list[RegimeReport] = []
        signals: list[Signal] = []
        settings = self.settings
        for regime in self.profile.regimes:
            change = regime_change(
                regime.counts,
                self._chains[regime.feature].counts,
                level=_BATCH_REGIME_P,
                inflation=regime.inflation,
                plain=settings.simple,
            )
            if change is None:
                continue
            limit = settings.transition if settings.simple else max(settings.transition, regime.limit)
            drifted = change.change > limit and (settings.simple or change.p_value < _BATCH_REGIME_P)
            reports.append(
                RegimeReport(
                    feature=regime.feature,
                    change=change.change,
                    limit=limit,
                    p_value=change.p_value,
                    transitions=change.transitions,
                    spectral_gap_before=change.gap_before,
                    spectral_gap_now=change.gap_now,
                    drifted=drifted,
                )
            )
            if drifted:
                signals.append(
                    Signal(
                        "regime",
                        regime.feature,
                        change.change,
                        change.change,
                        change.change,
                        limit,
                        change.p_value,
                        change.transitions,
                    )
                )
        return tuple(reports), signals

    def _judge_performance(self) -> tuple[PerformanceReport | None, list[Signal]]:
        truth, settings = self.profile.truth, self.settings
        if truth is None:
            return None, []
        z = 0.0 if settings.simple else settings.performance_z
        metrics: list[MetricChange] = []
        task: Task = "classification"
        if truth.performance is not None:
            task = truth.performance.task
            if self._performance[0] > 0:
                metrics += changes(truth.performance, self._performance, settings.limits, z=z, plain=settings.simple)
        if truth.scores is not None and self.profile.score is not None:
            shape = self.profile.features[self.profile.index[self.profile.score]].shape[_place(self.profile, self.rows)]
            inflation = 1.0 if settings.simple else 1.0 / shape.efficiency
            change = truth.scores.change(self._estimate, limit=settings.limits["accuracy"], z=z, inflation=inflation)
            metrics += [] if change is None else [change]
        signals = [signal_of(change) for change in metrics if change.breached]
        return (PerformanceReport(task, tuple(metrics)) if metrics else None), signals


def _place(profile: Profile, rows: int) -> int:
    """Whose limits hold for a table of so many rows: the longest window that is not longer, else the shortest."""
    return max(0, sum(window <= rows for window in profile.windows) - 1)


def _features(
    profile: Profile, view: View, place: int, settings: DriftSettings, signals: Sequence[Signal]
) -> list[FeatureReport]:
    moved = {signal.feature for signal in signals if signal.kind in SHAPES}
    found = distances(profile, view)
    thresholds = floors(profile, settings) if settings.simple else limits(profile, settings)[place]
    reports = []
    for i, fitted in enumerate(profile.features):
        measured = measure(profile, view, i, float(found[i]), place=place, threshold=float(thresholds[i]))
        reports.append(_feature(fitted, view, profile, i, measured, fitted.name in moved))
    return reports


def _feature(fitted: Feature, view: View, profile: Profile, i: int, measured: Signal, drifted: bool) -> FeatureReport:
    now = view.slots(profile.span(i))
    return FeatureReport(
        name=fitted.name,
        kind="numeric" if fitted.numeric else "categorical",
        statistic=measured.statistic,
        lower=measured.lower,
        upper=measured.upper,
        p_value=measured.p_value,
        threshold=measured.threshold,
        drifted=drifted,
        psi=psi(fitted.counts, now, ordered=fitted.numeric),
        wasserstein=wasserstein(fitted.grid, fitted.counts, now, fitted.deviation) if fitted.numeric else None,
        importance=fitted.importance,
    )
