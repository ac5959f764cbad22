"""Panes of a stream of rows beyond their counts: transitions of the watched columns, and what the scores expect.

Driven by the monitor in step with the panes; each pane is one vector, and a window is the sum of its panes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from evaluator.drift.feature_signals import strongest
from evaluator.drift.grid import Ints
from evaluator.drift.markov import FEWEST_TRANSITIONS, STATES, Transitions, regime_change
from evaluator.drift.performance import MetricChange
from evaluator.drift.performance_monitor import look_at_changes
from evaluator.drift.profile import OUTLIER, Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import Key, Look, Signal
from evaluator.drift.windows import Ring

_SCORE_WIDTH = 3


class Chains:
    """Transitions and expected hits of one stream against `profile`. State is a function of the rows in their order."""

    def __init__(self, profile: Profile, settings: DriftSettings) -> None:
        self._profile, self._settings = profile, settings
        capacity = profile.windows[-1] // profile.pane
        self._rings = [Ring(capacity, STATES * STATES) for _ in profile.regimes]
        self._last = [-1] * len(profile.regimes)
        self._scores = Ring(capacity, _SCORE_WIDTH)

    def push(self, codes: Ints, expected: Ints | None) -> None:
        """Take in a pane: its codes, shape (features, rows), and the expected hits of its scores (-1: no score)."""
        for i, regime in enumerate(self._profile.regimes):
            feature = self._profile.index[regime.feature]
            slots = (codes[feature] & (OUTLIER - 1)) - self._profile.starts[feature]
            path = regime.path(np.where(slots < self._profile.sizes[feature], slots, -1))
            moved = Transitions.of(np.concatenate(([self._last[i]], path)))
            self._rings[i].push(moved.counts.ravel().astype(np.float64))
            self._last[i] = int(path[-1])
        if expected is not None and self._profile.truth is not None and self._profile.truth.scores is not None:
            self._scores.push(self._profile.truth.scores.sums_of(expected).astype(np.float64))

    def look(self, raised: Collection[Key]) -> Look:
        """Judge all windows that are full."""
        signals: list[Signal] = []
        held: set[Key] = set()
        estimates: list[MetricChange] = []
        for place, window in enumerate(self._profile.windows):
            panes = window // self._profile.pane
            for i in range(len(self._rings)):
                self._regime(i, panes, signals, held, raised)
            if (change := self._estimate(place, panes)) is not None:
                estimates.append(change)
        found = strongest(signals)
        return Look(found, frozenset(held | set(found))) | look_at_changes(estimates, self._settings, raised)

    def _regime(self, i: int, panes: int, signals: list[Signal], held: set[Key], raised: Collection[Key]) -> None:
        settings, regime = self._settings, self._profile.regimes[i]
        counts = self._rings[i].total(panes)
        if counts is None or (not settings.simple and counts.sum() < FEWEST_TRANSITIONS):
            return
        now = counts.reshape(STATES, STATES).astype(np.int64)
        # Looked at again at each pane: the evidence is that of the other columns' looks, over all that is tested.
        level = settings.alpha / (len(self._rings) * len(self._profile.windows))
        change = regime_change(regime.counts, now, level=level, inflation=regime.inflation, plain=settings.simple)
        if change is None:
            return
        limit = settings.transition if settings.simple else max(settings.transition, regime.limit)
        seen = change.change
        signal = Signal("regime", regime.feature, seen, seen, seen, limit, change.p_value, change.transitions)
        if seen > limit and (settings.simple or change.p_value < level):
            signals.append(signal)
        elif signal.key in raised and seen > settings.hysteresis * limit and change.p_value < 0.01:
            held.add(signal.key)

    def _estimate(self, place: int, panes: int) -> MetricChange | None:
        profile, settings, truth = self._profile, self._settings, self._profile.truth
        sums = self._scores.total(panes)
        if sums is None or truth is None or truth.scores is None or profile.score is None:
            return None
        efficiency = profile.features[profile.index[profile.score]].shape[place].efficiency
        return truth.scores.change(
            sums.astype(np.int64),
            limit=settings.limits["accuracy"],
            z=0.0 if settings.simple else settings.concept_z,
            inflation=1.0 if settings.simple else 1.0 / efficiency,
        )

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values."""
        return {
            "rings": [ring.snapshot() for ring in self._rings],
            "last": list(self._last),
            "scores": self._scores.snapshot(),
        }

    def restore(self, raw: dict[str, Any]) -> None:
        """Replace the state by a `snapshot`."""
        for ring, one in zip(self._rings, raw["rings"], strict=True):
            ring.restore(one)
        self._last = [int(state) for state in raw["last"]]
        self._scores.restore(raw["scores"])
