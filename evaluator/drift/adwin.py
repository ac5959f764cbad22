"""ADWIN (Bifet and Gavalda 2007) over the losses: River's adaptive window, as a second opinion on concept drift.

The errors fed since its start are its whole state: a snapshot replays them into a fresh window.
"""

from __future__ import annotations

import base64
from typing import Any

from evaluator.drift.state import Stateful

_LEVELS = 255
"""Errors are fed as multiples of 1/255, so that one byte each is the exact state."""
_LONGEST = 4096
_KEPT = 1024
"""A window of `_LONGEST` errors starts anew with the last `_KEPT`, which bounds the state."""


class Adwin(Stateful):
    """Feeds scaled errors in [0, 1] to River's ADWIN and remembers when their mean last rose."""

    def __init__(self) -> None:
        self._adwin = _river_adwin()
        self._fed = bytearray()
        self.rows = 0
        self.rose_at: int | None = None
        """Outcomes seen when the mean last rose."""

    def add(self, error: float) -> bool:
        """Take in one scaled error; True when ADWIN drops older errors because later ones are larger."""
        level = round(error * _LEVELS)
        self._fed.append(level)
        self.rows += 1
        adwin = self._adwin
        before = adwin.estimation
        adwin.update(level / _LEVELS)
        rose = adwin.drift_detected and adwin.estimation > before
        if rose:
            self.rose_at = self.rows
        if len(self._fed) >= _LONGEST:
            self._replay(self._fed[-_KEPT:])
        return bool(rose)

    def rose_within(self, outcomes: int) -> bool:
        """Whether the mean rose in the last `outcomes`."""
        return self.rose_at is not None and self.rows - self.rose_at < outcomes

    def _replay(self, fed: bytearray) -> None:
        self._adwin, self._fed = _river_adwin(), bytearray(fed)
        for level in self._fed:
            self._adwin.update(level / _LEVELS)

    def snapshot(self) -> dict[str, Any]:
        return {"fed": base64.b64encode(self._fed).decode("ascii"), "rows": self.rows, "rose_at": self.rose_at}

    def restore(self, raw: Any) -> None:
        self._replay(bytearray(base64.b64decode(raw["fed"])))
        self.rows, self.rose_at = int(raw["rows"]), raw["rose_at"]


def _river_adwin() -> Any:
    from river.drift import ADWIN  # slow to import, and only needed where losses are watched

    make: Any = ADWIN  # River has no types
    return make()
