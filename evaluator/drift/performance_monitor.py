"""Matured outcomes as they come: performance on windows of blocks, and the distribution of the truth itself.

State is a function of the outcomes in the order given. Rows without a truth are left out before they get here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from evaluator.drift.feature_signals import look_at_features, strongest
from evaluator.drift.grid import Ints
from evaluator.drift.pane import Pane, count_codes
from evaluator.drift.performance import WIDTHS, WINDOWS, MetricChange, changes
from evaluator.drift.profile import Truth
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import SHAPES, Key, Kind, Look, Signal
from evaluator.drift.windows import Ring, Windows

BLOCK = 128
"""Outcomes between two looks at the performance."""
_KINDS: dict[str, Kind] = {"accuracy": "accuracy", "r2": "r2", "rmse": "rmse"}


def signal_of(change: MetricChange) -> Signal:
    """A breached metric as a signal: how much worse it is, relative to the reference."""
    worse, doubt = abs(change.change), abs(change.change - change.bound)
    return Signal(
        "estimated_accuracy" if change.estimated else _KINDS[change.name],
        "",
        worse,
        max(0.0, worse - doubt),
        worse + doubt,
        abs(change.limit),
        change.p_value,
        change.rows,
        change.critical and not change.estimated,
    )


def look_at_changes(found: Sequence[MetricChange], settings: DriftSettings, raised: Collection[Key]) -> Look:
    """Judge the changes of metrics on several windows: those breached, and those raised before that hold."""
    signals: list[Signal] = []
    held: set[Key] = set()
    for change in found:
        if not settings.simple and _over(change, found, settings.hysteresis):
            continue
        signal = signal_of(change)
        if change.breached:
            signals.append(signal)
        elif signal.key in raised and change.change / change.limit > settings.hysteresis and change.p_value < 0.025:
            held.add(signal.key)
    kept = strongest(signals)
    return Look(kept, frozenset(held | set(kept)))


def _over(change: MetricChange, others: Iterable[MetricChange], hysteresis: float) -> list[MetricChange]:
    """The shorter windows, each the end of this one's, that show that the change is past: they are back below the
    limit, and better than the longer one by more than their own doubt."""
    worse = math.copysign(1.0, change.limit)
    return [
        recent
        for recent in others
        if recent.name == change.name
        and recent.rows < change.rows
        and recent.change / recent.limit <= hysteresis
        and worse * (change.change - recent.change) >= abs(recent.change - recent.bound)
    ]


class Outcomes:
    """Performance and truth of one stream against the reference's."""

    def __init__(self, truth: Truth, settings: DriftSettings) -> None:
        self._truth, self._settings = truth, settings
        self._prior = Windows(truth.distribution)
        self._codes: list[int] = []
        performance = truth.performance
        self._ring = Ring(WINDOWS[-1] // BLOCK, WIDTHS[performance.task] if performance else 0)
        self._open: list[tuple[float, float]] = []
        self.rows = 0

    def judged(self, truth: float, squared: float, raised: Callable[[], Collection[Key]]) -> Look | None:
        """Take in one outcome with a prediction; what the performance says when that completes a block. `raised` tells
        the keys now raised."""
        reference = self._truth.performance
        if reference is None:
            return None
        self._open.append((truth, squared))
        if len(self._open) < BLOCK:
            return None
        pairs = np.array(self._open)
        self._ring.push(reference.sums_of(pairs[:, 0], pairs[:, 1]))
        self._open.clear()
        return self._look(raised())

    def _look(self, raised: Collection[Key]) -> Look:
        reference, settings = self._truth.performance, self._settings
        assert reference is not None
        z = 0.0 if settings.simple else settings.concept_z
        found: list[MetricChange] = []
        for window in WINDOWS:
            sums = self._ring.total(window // BLOCK)
            if sums is None:
                break
            found += changes(reference, sums, settings.limits, z=z, plain=settings.simple)
        look = look_at_changes(found, settings, raised)
        if raised and not look.held and not settings.simple:
            ended = [change for change in found if (_KINDS[change.name], "") in raised]
            over = [recent.rows for change in ended for recent in _over(change, found, settings.hysteresis)]
            if over:
                self._ring.keep(max(over) // BLOCK)  # the fall has ended: its rows must not be found again
        return look

    def seen(self, code: int, raised: Callable[[], Collection[Key]]) -> Look | None:
        """Take in one truth as its code in the profile of truths; what their distribution says when a pane is full."""
        self.rows += 1
        self._codes.append(code)
        profile = self._truth.distribution
        if len(self._codes) < profile.pane:
            return None
        codes: Ints = np.array([self._codes], dtype=np.int64)
        self._codes.clear()
        self._prior.push(Pane(profile.hash, profile.pane, count_codes(profile, codes)))
        look = look_at_features(profile, self._prior, self._settings, raised())
        shapes = {key: signal for key, signal in look.raised.items() if signal.kind in SHAPES}
        return Look(shapes, frozenset(key for key in look.held if key[0] in SHAPES))

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values."""
        return {
            "prior": self._prior.snapshot(),
            "codes": list(self._codes),
            "blocks": self._ring.snapshot(),
            "open": [list(pair) for pair in self._open],
            "rows": self.rows,
        }

    def restore(self, raw: dict[str, Any]) -> None:
        """Replace the state by a `snapshot`."""
        self._prior.restore(raw["prior"])
        self._codes = [int(code) for code in raw["codes"]]
        self._ring.restore(raw["blocks"])
        self._open = [(float(truth), float(squared)) for truth, squared in raw["open"]]
        self.rows = int(raw["rows"])
