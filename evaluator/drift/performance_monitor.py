"""Performance of a stream against the reference: metrics on matured outcomes, their estimate from scores (CBPE), and
the distribution of the outcomes themselves.

State is a function of the rows in the order given. The caller leaves out rows without an outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from evaluator.drift.feature_detector import look_at_features
from evaluator.drift.grid import Ints
from evaluator.drift.performance import WINDOWS, MetricChange, compare_metrics
from evaluator.drift.profile import GroundTruth, Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import DISTRIBUTION_KINDS, Key, Kind, LookResult, Signal, has_recovered
from evaluator.drift.state import RollingSums, Stateful
from evaluator.drift.windows import Pane, Windows

BLOCK = 128
"""Outcomes between two looks at the performance."""
_KINDS: dict[str, Kind] = {"accuracy": "accuracy", "r2": "r2", "rmse": "rmse"}


def metric_signal(change: MetricChange) -> Signal:
    """A breached metric as a signal of its relative loss."""
    loss, margin = abs(change.change), abs(change.change - change.bound)
    return Signal(
        kind="estimated_accuracy" if change.estimated else _KINDS[change.name],
        feature="",
        statistic=loss,
        lower=max(0.0, loss - margin),
        upper=loss + margin,
        threshold=abs(change.limit),
        p_value=change.p_value,
        window=change.rows,
        critical=change.critical and not change.estimated,
    )


def look_at_changes(changes: Sequence[MetricChange], settings: DriftSettings, raised: Collection[Key]) -> LookResult:
    """Judge the changes of metrics on several windows: those breached, and those raised before that hold."""
    signals: list[Signal] = []
    held: set[Key] = set()
    for change in changes:
        if not settings.simple and _recoveries(change, changes, settings.hysteresis):
            continue
        signal = metric_signal(change)
        if change.breached:
            signals.append(signal)
        elif signal.key in raised and change.change / change.limit > settings.hysteresis and change.p_value < 0.025:
            held.add(signal.key)
    return LookResult.of(signals, held)


def _recoveries(change: MetricChange, others: Sequence[MetricChange], hysteresis: float) -> list[MetricChange]:
    """The shorter windows that show that the loss of this one has ended."""
    loss = math.copysign(1.0, change.limit) * change.change

    def shows_it(short: MetricChange) -> bool:
        now, margin = math.copysign(1.0, change.limit) * short.change, abs(short.change - short.bound)
        return bool(has_recovered(loss, now, calm=hysteresis * abs(short.limit), margin=margin))

    return [s for s in others if s.name == change.name and s.rows < change.rows and shows_it(s)]


def estimated_change(
    profile: Profile, sums: Ints, settings: DriftSettings, place: int, z: float
) -> MetricChange | None:
    """The accuracy that scores with these `sums` estimate (CBPE), against the reference's; the scores' dependence is
    that of window `place`. None without scores."""
    if profile.truth is None or profile.truth.scores is None or profile.score is None:
        return None
    efficiency = profile.features[profile.index[profile.score]].shape[place].efficiency
    inflation = 1.0 if settings.simple else 1.0 / efficiency
    limit = settings.limits["accuracy"]
    return profile.truth.scores.estimated_change(sums, limit=limit, z=z, inflation=inflation)


class PerformanceMonitor(Stateful):
    """Performance metrics and distribution of the outcomes of one stream."""

    values: ClassVar[Mapping[str, Any]] = {"_codes": list[int], "_open": list[tuple[float, float]], "rows": int}
    parts: ClassVar[tuple[str, ...]] = ("_targets", "_blocks")

    def __init__(self, truth: GroundTruth, settings: DriftSettings) -> None:
        self._truth, self._settings = truth, settings
        self._targets = Windows(truth.distribution)
        self._codes: list[int] = []
        self._blocks = RollingSums(WINDOWS[-1] // BLOCK)
        self._open: list[tuple[float, float]] = []
        self.rows = 0

    def add_outcome(self, truth: float, squared: float, raised: Callable[[], Collection[Key]]) -> LookResult | None:
        """Take in one outcome with its squared error; the look at the performance if that completes a block. `raised`
        gives the keys now raised."""
        reference = self._truth.performance
        if reference is None:
            return None
        self._open.append((truth, squared))
        if len(self._open) < BLOCK:
            return None
        pairs = np.array(self._open)
        self._blocks.push(reference.sums_of(pairs[:, 0], pairs[:, 1]))
        self._open.clear()
        return self._look(raised())

    def _look(self, raised: Collection[Key]) -> LookResult:
        reference, settings = self._truth.performance, self._settings
        assert reference is not None
        z = 0.0 if settings.simple else settings.concept_z
        changes: list[MetricChange] = []
        for window in WINDOWS:
            sums = self._blocks.window(window // BLOCK)
            if sums is None:
                break
            changes += compare_metrics(reference, sums, settings.limits, z=z, plain=settings.simple)
        look = look_at_changes(changes, settings, raised)
        if raised and not look.held and not settings.simple:
            ended = [change for change in changes if (_KINDS[change.name], "") in raised]
            recovered = [short.rows for change in ended for short in _recoveries(change, changes, settings.hysteresis)]
            if recovered:
                self._blocks.keep(max(recovered) // BLOCK)  # the loss has ended: its rows must not be found again
        return look

    def add_target(self, code: int, raised: Callable[[], Collection[Key]]) -> LookResult | None:
        """Take in the code of one outcome in its profile; the look at their distribution if that completes a pane."""
        self.rows += 1
        self._codes.append(code)
        profile = self._truth.distribution
        if len(self._codes) < profile.pane:
            return None
        codes: Ints = np.array([self._codes], dtype=np.int64)
        self._codes.clear()
        self._targets.push(Pane.of_codes(profile, codes))
        look = look_at_features(profile, self._targets, self._settings, raised())
        shapes = {key: signal for key, signal in look.raised.items() if signal.kind in DISTRIBUTION_KINDS}
        return LookResult(shapes, frozenset(key for key in look.held if key[0] in DISTRIBUTION_KINDS))


class EstimatedPerformance(Stateful):
    """The accuracy that the scores of one stream estimate (CBPE), on the windows of `profile`."""

    def __init__(self, profile: Profile, settings: DriftSettings) -> None:
        self._profile, self._settings = profile, settings
        self._panes = RollingSums(profile.windows[-1] // profile.pane)

    def push(self, expected: Ints) -> None:
        """Take in the expected hits of a pane's scores, -1 for no score."""
        truth = self._profile.truth
        if truth is not None and truth.scores is not None:
            self._panes.push(truth.scores.sums_of(expected))

    def look(self, raised: Collection[Key]) -> LookResult:
        """Judge all windows that are full."""
        profile, settings = self._profile, self._settings
        z = 0.0 if settings.simple else settings.concept_z
        changes: list[MetricChange] = []
        for place, window in enumerate(profile.windows):
            sums = self._panes.window(window // profile.pane)
            change = None if sums is None else estimated_change(profile, sums, settings, place, z)
            changes += [] if change is None else [change]
        return look_at_changes(changes, settings, raised)

    def snapshot(self) -> Any:
        return self._panes.snapshot()

    def restore(self, raw: Any) -> None:
        self._panes.restore(raw)
