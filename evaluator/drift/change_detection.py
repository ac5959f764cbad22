"""Change detectors over single errors, for concept drift: the e-detector, and ADWIN as a second opinion.

The e-detector bets against "the mean error is at most m", one e-process started at every outcome. While the conditional
mean error stays at most m, the mean time to a crossing of c is at least c outcomes, whatever the errors' distribution
(Shin, Ramdas and Rinaldo 2022, "E-detectors", theorem 2.4). ADWIN (Bifet and Gavalda 2007) is River's.
"""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import rel_entr

from evaluator.drift.grid import Floats
from evaluator.drift.state import Stateful

RUN_LENGTH = 200_000.0
"""Average run length: outcomes between two false crossings, at least."""
_BETS = (0.08, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Alternative mean of each bet, from m (0) to certain misses (1) on a logarithmic axis."""
_RECENT = 64
"""Outcomes kept to locate the change point."""
_DELTA = 1e-3
"""Chance that the reference's bound on its own mean is too low."""


def mean_upper_bound(values: Floats, effective: float) -> float:
    """Upper confidence bound, at level 1 - 2 `_DELTA`, on the mean behind `values` in [0, 1].

    The smaller of the binary-entropy bound (Hoeffding 1963, theorem 1), good for rare misses, and the empirical
    Bernstein bound (Maurer and Pontil 2009, theorem 4), good for small variances. effective: independent values.
    """
    rows, mean = max(2.0, effective), float(values.mean())
    doubt = math.log(1.0 / _DELTA)
    bernstein = mean + math.sqrt(2.0 * float(values.var()) * doubt / rows) + 7.0 * doubt / (3.0 * (rows - 1.0))
    low, high = mean, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        divergence = float(rel_entr(1.0 - mean, 1.0 - middle) + rel_entr(mean, middle))
        low, high = (middle, high) if rows * divergence <= doubt else (low, middle)
    return min(1.0, bernstein, high)


@dataclass(frozen=True, slots=True)
class Crossing:
    """The evidence crossed its limit: `rows` outcomes since the likeliest change point, their mean and standard
    deviation on the scale of [0, 1], and the `evidence` as an e-value."""

    rows: int
    mean: float
    deviation: float
    evidence: float


class EDetector(Stateful):
    """The e-detector over scaled errors in [0, 1]. Deterministic; the state is a few numbers.

    null: the mean m of the null hypothesis, in (0, 1). inflation: variance of a window's mean over that of independent
    errors; each factor is raised to its inverse, which keeps its mean at most one where sums are nearly normal.
    """

    values: ClassVar[Mapping[str, Any]] = {"_sums": list[float], "_recent": list[float]}

    def __init__(self, null: float, inflation: float = 1.0) -> None:
        self.null = min(max(null, 1e-9), 0.999)
        ends = [self.null ** (1.0 - bet) for bet in _BETS]
        # The growth-optimal stake for misses that come with probability `end` instead of m (Kelly 1956).
        self._stakes = [(end - self.null) / (self.null * (1.0 - self.null)) for end in ends]
        self._power = 1.0 / max(1.0, inflation)
        self._sums = [0.0] * len(_BETS)
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def add(self, error: float) -> Crossing | None:
        """Take in one scaled error; a `Crossing` when the evidence crosses, after which the detector restarts."""
        gap = error - self.null
        self._recent.append(error)
        self._sums = [
            (s + 1.0) * max(0.0, 1.0 + stake * gap) ** self._power
            for s, stake in zip(self._sums, self._stakes, strict=True)
        ]
        if sum(self._sums) < RUN_LENGTH * len(_BETS):
            return None
        crossing = self._crossing()
        self._sums = [0.0] * len(self._sums)
        self._recent.clear()
        return crossing

    def _crossing(self) -> Crossing:
        """The most likely change point under the winning bet."""
        best = max(range(len(self._sums)), key=self._sums.__getitem__)
        values = np.array(self._recent)
        with np.errstate(divide="ignore"):
            gains = np.log(np.maximum(0.0, 1.0 + self._stakes[best] * (values - self.null)))
        start = int(np.argmax(np.cumsum(gains[::-1])))
        segment = values[len(values) - 1 - start :]
        evidence = sum(self._sums) / len(self._sums)
        return Crossing(len(segment), float(segment.mean()), float(segment.std()), evidence)


# ADWIN --------------------------------------------------------------------------------------------------------------

_LEVELS = 255
"""Errors are fed as multiples of 1/255, so that one byte each is the exact state."""
_LONGEST = 4096
_KEPT = 1024
"""A window of `_LONGEST` errors starts anew with the last `_KEPT`, which bounds the state."""


class Adwin(Stateful):
    """Feeds scaled errors in [0, 1] to River's ADWIN and remembers when their mean last rose. The errors fed since its
    start are its whole state: a snapshot replays them into a fresh window."""

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
