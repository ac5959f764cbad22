"""Change detection over single errors, for concept drift: the e-detector.

It bets against "the mean error is at most m", one e-process started at every outcome. While the conditional
mean error stays at most m, the mean time to a crossing of c is at least c outcomes, whatever the errors' distribution
(Shin, Ramdas and Rinaldo 2022, "E-detectors", theorem 2.4).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import rel_entr

from evaluator.drift.state import Stateful

RUN_LENGTH = 200_000.0
"""Average run length: outcomes between two false crossings, at least."""
_BETS = (0.08, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Alternative mean of each bet, from m (0) to certain misses (1) on a logarithmic axis."""
_RECENT = 64
"""Outcomes kept to locate the change point."""
_DELTA = 1e-3
"""Chance that the reference's bound on its own mean is too low."""


def mean_upper_bound(mean: float, variance: float, effective: float) -> float:
    """Upper confidence bound, at level 1 - 2 `_DELTA`, on the mean behind values in [0, 1] with this `mean` and
    `variance`.

    The smaller of the binary-entropy bound (Hoeffding 1963, theorem 1), good for rare misses, and the empirical
    Bernstein bound (Maurer and Pontil 2009, theorem 4), good for small variances. effective: independent values.
    """
    rows = max(2.0, effective)
    doubt = math.log(1.0 / _DELTA)
    bernstein = mean + math.sqrt(2.0 * variance * doubt / rows) + 7.0 * doubt / (3.0 * (rows - 1.0))
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
