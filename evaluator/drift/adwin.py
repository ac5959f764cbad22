"""River's adaptive window (ADWIN, Bifet and Gavalda 2007) over the errors: a second opinion on a change of concept.

What it was fed since it began is its whole state: a snapshot is fed to a fresh one, and gives the same.
"""

from __future__ import annotations

import base64
from typing import Any

_LEVELS = 255
"""Errors are fed as whole 255ths, so that a byte each is the exact state."""
_LONGEST = 4096
_KEPT = 1024
"""A window that has grown to `_LONGEST` errors begins anew with the last so many: what is kept stays small."""


class AdaptiveWindow:
    """Feeds scaled errors in [0, 1] to River's ADWIN and remembers when it last saw the mean rise."""

    def __init__(self) -> None:
        self._adwin = _fresh()
        self._fed = bytearray()
        self.rows = 0
        self.rose_at: int | None = None
        """Outcomes seen when the mean last rose."""

    def add(self, error: float) -> bool:
        """Take in one scaled error; True when ADWIN drops older errors because later ones are worse."""
        level = round(error * _LEVELS)
        self._fed.append(level)
        self.rows += 1
        adwin = self._adwin
        before = adwin.estimation
        adwin.update(level / _LEVELS)
        risen = adwin.drift_detected and adwin.estimation > before
        if risen:
            self.rose_at = self.rows
        if len(self._fed) >= _LONGEST:
            self._begin(self._fed[-_KEPT:])
        return bool(risen)

    def voted(self, within: int) -> bool:
        """Whether the mean rose in the last `within` outcomes."""
        return self.rose_at is not None and self.rows - self.rose_at < within

    def _begin(self, fed: bytearray) -> None:
        self._adwin, self._fed = _fresh(), bytearray(fed)
        for level in self._fed:
            self._adwin.update(level / _LEVELS)

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values."""
        return {"fed": base64.b64encode(self._fed).decode("ascii"), "rows": self.rows, "rose_at": self.rose_at}

    def restore(self, raw: dict[str, Any]) -> None:
        """Replace the state by a `snapshot`."""
        self._begin(bytearray(base64.b64decode(raw["fed"])))
        self.rows, self.rose_at = int(raw["rows"]), raw["rose_at"]


def _fresh() -> Any:
    from river.drift import ADWIN  # slow to import (scikit-learn comes with it), so only where errors are watched

    make: Any = ADWIN  # River has no types
    return make()
