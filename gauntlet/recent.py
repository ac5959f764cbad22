"""Counts by kind over the last minutes, which totals since the start cannot show."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping

SECONDS = 300.0
"""How far back "lately" reaches."""

_SLOT_SECONDS = 10.0


class RecentCounts:
    """Counts by kind over the last `SECONDS`, to ten seconds, on the machine's own clock that never jumps."""

    def __init__(self) -> None:
        self._slots: deque[tuple[int, Counter[str]]] = deque(maxlen=int(SECONDS / _SLOT_SECONDS))

    def add(self, counts: Mapping[str, int]) -> None:
        slot = int(time.monotonic() // _SLOT_SECONDS)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, Counter()))
        self._slots[-1][1].update(counts)

    def total(self) -> Counter[str]:
        """What was counted in the window that ends now."""
        oldest = int(time.monotonic() // _SLOT_SECONDS) - int(SECONDS / _SLOT_SECONDS)
        found: Counter[str] = Counter()
        for slot, counts in self._slots:
            if slot > oldest:
                found.update(counts)
        return found
