"""The accepted reference of a stream: the rows after a covariate shift, once they are the new normal.

Columns like either reference have not drifted: the model was trained on the frozen one and has performed on the
accepted one. Losses, outcomes and transitions are always judged against the frozen one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from evaluator.drift.feature import Feature
from evaluator.drift.feature_detector import look_at_features
from evaluator.drift.performance import FEWEST
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import PERFORMANCE_KINDS, Key, Kind, LookResult
from evaluator.drift.state import Stateful
from evaluator.drift.windows import QuantileBounds, WindowCounts, Windows, pack_counts, unpack_counts

_ACCEPTABLE: frozenset[Kind] = frozenset(
    {"distribution", "categories", "unseen", "displaced", "outliers", "prediction"}
)
"""Kinds that an accepted reference can explain."""
_FORBIDDING: frozenset[Kind] = PERFORMANCE_KINDS | {
    "estimated_accuracy",
    "missing",
    "column_gone",
    "type_change",
    "quality",
}
"""A loss, seen or estimated, and bad data are never the new normal."""


def with_counts(profile: Profile, window: WindowCounts) -> Profile:
    """The profile with the rows of `window` as its reference, on the same grids, outlier limits and calibrations."""
    features: list[Feature] = []
    for i, feature in enumerate(profile.features):
        missing, absent, mistyped, infinite = window.specials[i].tolist()
        specials = (missing, absent, mistyped, infinite)
        counts, outliers = window.slots(profile.span(i)), int(window.outliers[i])
        features.append(replace(feature, counts=counts, specials=specials, outliers=outliers))
    return replace(profile, rows=window.rows, features=tuple(features))


class ReferenceUpdate(Stateful):
    """Judges columns against the frozen `profile` and, if there is one, the accepted `reference`."""

    values: ClassVar[Mapping[str, Any]] = {"_standing": frozenset[Key], "_outcomes": int}

    def __init__(self, profile: Profile, settings: DriftSettings) -> None:
        self._profile, self._settings = profile, settings
        self.reference: Profile | None = None
        self._bounds: QuantileBounds | None = None
        self._standing: frozenset[Key] = frozenset()
        self._since, self._since_at = 0, 0.0
        """Rows and event time at the last new signal."""
        self._outcomes = 0

    def look(self, windows: Windows, raised: Collection[Key]) -> LookResult:
        """Judge all columns; a raised signal is raised against both references."""
        frozen = look_at_features(self._profile, windows, self._settings, raised)
        if self.reference is None:
            return frozen
        if self._bounds is None:
            self._bounds = windows.bounds.against(self.reference.features)
        return frozen & look_at_features(self.reference, windows, self._settings, raised, self._bounds)

    def add_outcome(self, made: float) -> None:
        """Count the outcome of a row of time `made`: those of rows after the shift show its cost."""
        self._outcomes += bool(self._standing) and made >= self._since_at

    def is_due(self, raised: Collection[Key], all_raised: Collection[Key], rows: int, at: float) -> bool:
        """Whether the shift has stood without new signals for `accept_after` rows (and the longest window), and enough
        outcomes since show no loss.

        raised: keys of the columns' signals; all_raised: of all signals; rows: seen so far, the last of them at `at`.
        """
        moved = frozenset(key for key in raised if key[0] in _ACCEPTABLE)
        if not moved or any(kind in _FORBIDDING for kind, _ in all_raised):
            self._standing = frozenset()
            return False
        if moved - self._standing:
            self._since, self._since_at, self._outcomes = rows, at, 0
        self._standing = moved
        wait = self._settings.accept_after
        return wait > 0 and rows - self._since >= max(wait, self._profile.windows[-1]) and self._outcomes >= FEWEST

    def accept(self, windows: Windows) -> bool:
        """Take the longest full window as the accepted reference; False while none is full."""
        full = [window for rows in self._profile.windows if (window := windows.window(rows)) is not None]
        if full:
            self.reference, self._bounds = with_counts(self._profile, full[-1]), None
        return bool(full)

    def snapshot(self) -> dict[str, Any]:
        reference, saved = self.reference, super().snapshot()
        if reference is not None:
            parts = zip(*((f.counts, f.specials, [f.outliers]) for f in reference.features), strict=True)
            counts = np.concatenate([each for part in parts for each in part]).astype(np.int64)
            saved["reference"] = {"rows": reference.rows, "counts": pack_counts(counts)}
        return {"reference": None, **saved, "since": [self._since, self._since_at]}

    def restore(self, raw: Mapping[str, Any]) -> None:
        super().restore(raw)
        self._since, self._since_at = raw["since"]
        self.reference = self._bounds = None
        if raw["reference"] is not None:
            rows, counts = raw["reference"]["rows"], unpack_counts(raw["reference"]["counts"], self._profile.width)
            self.reference = with_counts(self._profile, WindowCounts.of(self._profile, rows, counts))
