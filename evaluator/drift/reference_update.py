"""The second reference of a stream: what came after a move of the inputs, once it is accepted as normal.

Columns that are like either reference have not drifted: the model knows the one and has proved itself on the other.
Errors, outcomes and transitions are always held against the frozen one: a model that got worse stays so.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from evaluator.drift.feature_signals import look_at_features
from evaluator.drift.performance import FEWEST
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import BREACHES, Key, Kind, Look
from evaluator.drift.windows import Windows, rebased, restored, snapshot_of

_MOVED: frozenset[Kind] = frozenset({"distribution", "categories", "unseen", "displaced", "outliers", "prediction"})
"""What a second reference can answer."""
_FORBIDS: frozenset[Kind] = BREACHES | {"estimated_accuracy", "missing", "column_gone", "type_change", "quality"}
"""A loss, seen or estimated, and broken data are never normal."""


class Acceptance:
    """Holds columns against the frozen `profile` and, where there is one, the accepted `reference`."""

    def __init__(self, profile: Profile, settings: DriftSettings) -> None:
        self._profile, self._settings = profile, settings
        self.reference: Profile | None = None
        self._standing: frozenset[Key] = frozenset()
        self._since, self._since_at = 0, 0.0
        """Rows when something moved last, and its time."""
        self._judged = 0

    def look(self, windows: Windows, raised: Collection[Key]) -> Look:
        """Judge all columns: what is raised is raised against both references."""
        found = look_at_features(self._profile, windows, self._settings, raised)
        if self.reference is None:
            return found
        return found & look_at_features(self.reference, windows, self._settings, raised)

    def judged(self, made: float) -> None:
        """An outcome of a row of time `made` came: only those of rows that had moved tell what the move costs."""
        self._judged += bool(self._standing) and made >= self._since_at

    def due(self, raised: Collection[Key], everything: Collection[Key], rows: int, at: float) -> bool:
        """Whether what moved has stood for `accept_after` rows without news (and fills the longest window), and enough
        outcomes of such rows show no loss.

        raised: keys of the columns' signals; everything: of all signals; rows: seen so far, the last of them at `at`.
        """
        moved = frozenset(key for key in raised if key[0] in _MOVED)
        if not moved or any(kind in _FORBIDS for kind, _ in everything):
            self._standing = frozenset()
            return False
        if moved - self._standing:
            self._since, self._since_at, self._judged = rows, at, 0
        self._standing = moved
        wait = self._settings.accept_after
        return wait > 0 and rows - self._since >= max(wait, self._profile.windows[-1]) and self._judged >= FEWEST

    def accept(self, windows: Windows) -> bool:
        """Take the longest full window as the second reference; False while none is full."""
        full = [view for window in self._profile.windows if (view := windows.view(window)) is not None]
        if full:
            self.reference = rebased(self._profile, full[-1])
        return bool(full)

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values."""
        return {
            "reference": None if self.reference is None else snapshot_of(self.reference),
            "standing": sorted(map(list, self._standing)),
            "since": [self._since, self._since_at],
            "judged": self._judged,
        }

    def restore(self, raw: dict[str, Any]) -> None:
        """Replace the state by a `snapshot`."""
        self.reference = None if raw["reference"] is None else restored(self._profile, raw["reference"])
        self._standing = frozenset((kind, feature) for kind, feature in raw["standing"])
        self._since, self._since_at = int(raw["since"][0]), float(raw["since"][1])
        self._judged = int(raw["judged"])
