"""Comparison of a whole table with the reference: counted in any number of pieces, judged once into a `TableReport`.

State is counts and sums only; comparisons of consecutive pieces add exactly. A report needs neither table nor profile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from evaluator.drift.columns import Column, batch_rows
from evaluator.drift.data_quality import QualityReport, data_findings, quality_score
from evaluator.drift.distances import distance_thresholds, plain_thresholds, psi, wasserstein
from evaluator.drift.feature_detector import SignalContext, measure_all, table_signals
from evaluator.drift.grid import Floats, Ints
from evaluator.drift.markov import RegimeReport, Transitions, judge_transitions
from evaluator.drift.performance import WIDTHS, MetricChange, Task, compare_metrics, squared_errors
from evaluator.drift.performance_monitor import estimated_change, metric_signal
from evaluator.drift.profile import TARGET, GroundTruth, Profile
from evaluator.drift.settings import DriftSettings, Mode
from evaluator.drift.severity import Action, RootCause, judge
from evaluator.drift.signals import DISTRIBUTION_KINDS, Signal, strongest
from evaluator.drift.windows import ProfileMismatchError, WindowCounts, count

_REGIME_P = 0.01
"""Significance level of a changed transition when tables are compared once."""


@dataclass(frozen=True, slots=True)
class FeatureReport:
    """One column: its distance with a certified interval and a p value, and two more distances.

    `statistic` is the Kolmogorov-Smirnov distance of numbers (a lower bound on it) or the total variation of
    categories; `drifted`: a rule fired. `wasserstein` is in the reference's standard deviations, None for categories.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    statistic: float
    lower: float
    upper: float
    p_value: float
    threshold: float
    drifted: bool
    psi: float
    wasserstein: float | None
    importance: float


@dataclass(frozen=True, slots=True)
class PerformanceReport:
    """The model's performance against the reference's; `estimated` metrics come from scores alone (CBPE)."""

    task: Task
    metrics: tuple[MetricChange, ...]


@dataclass(frozen=True, slots=True)
class TableReport:
    """The judgement over two tables and everything it rests on.

    `features` are the inputs in the reference's order; `outputs` the prediction, the score and the outcome; `blamed`
    the signals of the five top features by drift times importance.
    """

    severity: str
    confidence: float
    root_cause: RootCause
    action: Action
    mode: Mode
    reference_rows: int
    current_rows: int
    features: tuple[FeatureReport, ...]
    outputs: tuple[FeatureReport, ...]
    quality: QualityReport
    performance: PerformanceReport | None
    regimes: tuple[RegimeReport, ...]
    signals: tuple[Signal, ...]
    blamed: tuple[Signal, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class TableComparison:
    """Counts of a table against `profile`: `add` pieces, in time order if transitions are watched; then `report`."""

    def __init__(self, profile: Profile, settings: DriftSettings | None = None) -> None:
        self.profile = profile
        self.settings = settings or DriftSettings()
        self.rows = 0
        self.counts: Ints = np.zeros(profile.width, dtype=np.int64)
        self.extra: Counter[str] = Counter()
        empty = Transitions.from_states(np.empty(0, dtype=np.int64))
        self._transitions = dict.fromkeys((regime.feature for regime in profile.regimes), empty)
        truth = profile.truth
        self.target_rows = 0
        self.target_counts: Ints = np.zeros(truth.distribution.width if truth else 0, dtype=np.int64)
        self._performance: Floats = np.zeros(WIDTHS[truth.performance.task] if truth and truth.performance else 0)
        self._score_sums: Ints = np.zeros(3, dtype=np.int64)

    def add(
        self, columns: Mapping[str, Column], *, targets: Column | None = None, predictions: Column | None = None
    ) -> None:
        """Count a piece; missing and extra columns and odd values are findings.

        predictions: for the targets, if not the prediction's column. Raises ValueError if columns or `targets` differ
        in length.
        """
        rows = batch_rows(columns)
        if targets is not None and len(targets) != rows and columns:
            raise ValueError(f"{rows} rows with {len(targets)} targets")
        pane = count(self.profile, columns)
        self.rows += rows
        self.counts = self.counts + pane.counts
        self.extra.update(pane.extra)
        for regime in self.profile.regimes:
            name, values = regime.feature, columns.get(regime.feature)
            slots = self.profile.column_slots(self.profile.index[name], values) if values is not None else None
            path = np.full(rows, -1, dtype=np.int64) if slots is None else regime.path(slots)
            self._transitions[name] = self._transitions[name] + Transitions.from_states(path)
        truth = self.profile.truth
        if truth is None:
            return
        score = columns.get(self.profile.score) if self.profile.score else None
        if truth.scores is not None and score is not None:
            self._score_sums = self._score_sums + truth.scores.sums_of(truth.scores.expected_hits(score))
        if targets is not None:
            output = self.profile.prediction or self.profile.score or ""
            self._add_targets(truth, targets, predictions if predictions is not None else columns.get(output))

    def _add_targets(self, truth: GroundTruth, targets: Column, predictions: Column | None) -> None:
        counted = count(truth.distribution, {TARGET: targets}).counts
        self.target_counts = self.target_counts + counted
        self.target_rows += int(counted[: truth.distribution.slots].sum())
        if truth.performance is not None and predictions is not None:
            rows = squared_errors(truth.performance.task, targets, predictions)
            self._performance = self._performance + truth.performance.sums_of(*rows)

    def __add__(self, later: TableComparison) -> TableComparison:
        """The comparison of both tables' rows. Raises ProfileMismatchError for different profiles."""
        if self.profile.hash != later.profile.hash:
            raise ProfileMismatchError("comparisons against different profiles don't add")
        both = TableComparison(self.profile, self.settings)
        both.rows, both.target_rows = self.rows + later.rows, self.target_rows + later.target_rows
        both.counts, both.target_counts = self.counts + later.counts, self.target_counts + later.target_counts
        both.extra = self.extra + later.extra
        both._transitions = {name: counts + later._transitions[name] for name, counts in self._transitions.items()}
        both._performance = self._performance + later._performance
        both._score_sums = self._score_sums + later._score_sums
        return both

    def report(self) -> TableReport:
        """Judge what was counted so far; any number of rows will do, also none."""
        profile, settings = self.profile, self.settings
        # The limits of the longest window that is not longer than the table, else of the shortest.
        place = max(0, sum(window <= self.rows for window in profile.windows) - 1)
        context = SignalContext(profile, settings, WindowCounts.of(profile, self.rows, self.counts), place)
        signals = table_signals(context) if self.rows and profile.features else []
        outputs: list[FeatureReport] = []
        truth = profile.truth
        if truth is not None and self.target_rows:
            targets = WindowCounts.of(truth.distribution, self.target_rows, self.target_counts)
            target_context = SignalContext(truth.distribution, settings, targets, place)
            moved = table_signals(target_context, cells=False)
            signals += moved
            outputs += _feature_reports(target_context, moved)
        judged_regimes = (
            judge_transitions(regime, self._transitions[regime.feature].counts, settings, _REGIME_P)
            for regime in profile.regimes
        )
        regimes = tuple(regime for regime in judged_regimes if regime is not None)
        performance, losses = self._judge_performance(place)
        found = tuple(strongest([*signals, *(regime.signal for regime in regimes if regime.drifted), *losses]).values())
        judged = judge(found, profile, settings)
        columns = dict(zip(profile.names, _feature_reports(context, found), strict=True))
        inputs = {feature.name for feature in profile.features if feature.role == "feature"}
        findings = data_findings(profile, context.window, self.extra, settings)
        return TableReport(
            severity=judged.severity.value,
            confidence=judged.confidence,
            root_cause=judged.root_cause,
            action=judged.action,
            mode=settings.mode,
            reference_rows=profile.rows,
            current_rows=self.rows,
            features=tuple(columns[name] for name in profile.column_order if name in inputs),
            outputs=(*(columns[name] for name in profile.column_order if name not in inputs), *outputs),
            quality=QualityReport(quality_score(profile, context.window), findings),
            performance=performance,
            regimes=regimes,
            signals=found,
            blamed=judged.features,
        )

    def _judge_performance(self, place: int) -> tuple[PerformanceReport | None, list[Signal]]:
        profile, truth, settings = self.profile, self.profile.truth, self.settings
        if truth is None:
            return None, []
        z = 0.0 if settings.simple else settings.performance_z
        metrics: list[MetricChange] = []
        task: Task = "classification"
        if truth.performance is not None:
            task = truth.performance.task
            if self._performance[0] > 0:
                metrics += compare_metrics(
                    truth.performance, self._performance, settings.limits, z=z, plain=settings.simple
                )
        estimated = estimated_change(profile, self._score_sums, settings, place, z)
        metrics += [] if estimated is None else [estimated]
        signals = [metric_signal(change) for change in metrics if change.breached]
        return (PerformanceReport(task, tuple(metrics)) if metrics else None), signals


def _feature_reports(context: SignalContext, signals: Sequence[Signal]) -> list[FeatureReport]:
    """Every column of the profile, drifted if one of the signals is about its distribution."""
    profile, settings = context.profile, context.settings
    moved = {signal.feature for signal in signals if signal.kind in DISTRIBUTION_KINDS}
    simple, place = settings.simple, context.place
    thresholds = plain_thresholds(profile, settings) if simple else distance_thresholds(profile, settings)[place]
    reports = []
    for i, measured in enumerate(measure_all(context, thresholds)):
        feature, current = profile.features[i], context.window.slots(profile.span(i))
        distance = wasserstein(feature.grid, feature.counts, current, feature.deviation) if feature.numeric else None
        reports.append(
            FeatureReport(
                feature.name,
                "numeric" if feature.numeric else "categorical",
                *(measured.statistic, measured.lower, measured.upper, measured.p_value, measured.threshold),
                drifted=feature.name in moved,
                psi=psi(feature.counts, current, ordered=feature.numeric),
                wasserstein=distance,
                importance=feature.importance,
            )
        )
    return reports
