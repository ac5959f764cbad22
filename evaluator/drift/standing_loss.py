"""The loss that an open episode has come to, watched for a second break of the concept.

Against the reference a loss that stands is one loss, however much worse it becomes. Its own level is the reference for
the next break, found by the same windows and e-detector; after that the loss has to settle again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from evaluator.drift.concept import ERROR_BLOCK, ErrorReference, ErrorWindows, look_at_errors
from evaluator.drift.settings import DriftSettings
from evaluator.drift.state import RollingSums, Stateful

_SETTLING = 4096
"""Outcomes of a loss before its level is taken, at least."""
_LEVEL = 2048
"""Outcomes that the level is taken from: the latest."""
_STILL_RISING = 1.0
"""Standard errors by which the later half of them may be above the earlier one: a gradual change isn't over yet."""


class StandingLoss(Stateful):
    """Silent while no loss stands. State is a function of the sequence of errors and of `follow`."""

    values: ClassVar[Mapping[str, Any]] = {
        "_stands": bool,
        "_rows": int,
        "_open": list[float],
        "_level": list[float],
        "_raised": bool,
    }
    parts: ClassVar[tuple[str, ...]] = ("_sums",)

    def __init__(self, reference: ErrorReference, settings: DriftSettings) -> None:
        self._reference, self._settings = reference, settings
        self._stands = False
        self._sums = RollingSums(_LEVEL // ERROR_BLOCK)
        self.settle()

    def settle(self) -> None:
        """Take the level of the loss anew."""
        self._rows = 0
        self._open: list[float] = []
        self._level: list[float] = []
        """Sums over `_LEVEL` outcomes, once it is known."""
        self._raised = False
        self._watch: ErrorWindows | None = None
        self._sums.keep(0)

    def follow(self, stands: bool) -> None:
        """Begin when a loss is raised, and forget it when it is over."""
        if stands != self._stands:
            self._stands = stands
            self.settle()

    def add(self, error: float) -> bool:
        """Count one loss; True at a second break."""
        if not (self._stands and error >= 0.0):
            return False
        if self._watch is None:
            self._rows += 1
            self._open.append(error)
            if len(self._open) == ERROR_BLOCK:
                self._push()
            return False
        if not self._watch.add(error):
            return False
        look, before = look_at_errors(self._watch, self._settings), self._raised
        self._raised = bool(look.raised)
        broken = bool(look.certain) or (before and self._raised)
        if broken:
            self.settle()
        return broken

    def _push(self) -> None:
        limited, scaled = np.array([self._reference.counted(error) for error in self._open]).T
        self._sums.push(np.array([limited.sum(), (limited**2).sum(), scaled.sum(), (scaled**2).sum()]))
        self._open = []
        if self._rows >= _SETTLING and not self._still_rising():
            self._level = np.asarray(self._sums.window(_LEVEL // ERROR_BLOCK)).tolist()
            self._watch = self._windows()

    def _still_rising(self) -> bool:
        half = _LEVEL // 2
        late, both = (np.asarray(self._sums.window(rows // ERROR_BLOCK)) for rows in (half, _LEVEL))
        variance = max(0.0, both[1] / _LEVEL - (both[0] / _LEVEL) ** 2) * self._reference.dependence
        return bool((2.0 * late[0] - both[0]) / half > _STILL_RISING * math.sqrt(2.0 * variance / half))

    def _windows(self) -> ErrorWindows:
        return ErrorWindows(self._reference.at_level(self._level, _LEVEL), self._settings.concept_rise)

    def snapshot(self) -> Any:
        return {**super().snapshot(), "watch": None if self._watch is None else self._watch.snapshot()}

    def restore(self, raw: Any) -> None:
        super().restore(raw)
        self._watch = None
        if raw["watch"] is not None:
            self._watch = self._windows()
            self._watch.restore(raw["watch"])
