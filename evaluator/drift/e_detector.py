"""A change of concept found outcome by outcome: bets against "the mean error is at most m", summed over all starts.

A sum of e-processes, one begun at every outcome, is an e-detector: however the errors are distributed, while their
conditional mean stays at most m the mean time to a crossing of c is at least c outcomes (Shin, Ramdas and Rinaldo 2022,
"E-detectors", theorem 2.4).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.drift.grid import Floats

RUN_LENGTH = 200_000.0
"""Outcomes between two false crossings, at least, on average."""
_BETS = (0.08, 0.2, 0.35, 0.5, 0.7, 0.9)
"""How far each bet's alternative mean lies from m (0) to certain misses (1), on a logarithmic axis."""
_HELD = 64
"""Outcomes kept to say when the change began."""
_DELTA = 1e-3
"""Chance that the reference's bound on its own mean is too low."""


def upper_mean(values: Floats, effective: float) -> float:
    """A bound above the mean of what `values` in [0, 1] were drawn from, with probability 1 - 2 `_DELTA`.

    The smaller of the binary-entropy bound (Hoeffding 1963, theorem 1), good for rare misses, and the empirical
    Bernstein bound (Maurer and Pontil 2009, theorem 4), good for small variances. effective: independent values.
    """
    rows, mean = max(2.0, effective), float(values.mean())
    doubt = math.log(1.0 / _DELTA)
    bernstein = mean + math.sqrt(2.0 * float(values.var()) * doubt / rows) + 7.0 * doubt / (3.0 * (rows - 1.0))
    low, high = mean, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rows * _divergence(mean, middle) <= doubt else (low, middle)
    return min(1.0, bernstein, high)


def _divergence(p: float, q: float) -> float:
    """Relative entropy of coins with shares p and q, p <= q."""
    if q >= 1.0:
        return math.inf if p < 1.0 else 0.0
    below = (1.0 - p) * math.log((1.0 - p) / (1.0 - q)) if p < 1.0 else 0.0
    return below + (p * math.log(p / q) if p > 0.0 else 0.0)


@dataclass(frozen=True, slots=True)
class Crossing:
    """The evidence passed the limit: `rows` outcomes since the likeliest start of the change, their mean and standard
    deviation (as shares of the scale), and the `evidence` as an e-value."""

    rows: int
    mean: float
    deviation: float
    evidence: float


class Bets:
    """The e-detector over scaled errors in [0, 1]. Deterministic; its state is a few numbers.

    null: the mean m that is no news, in (0, 1). inflation: variance of a window's mean over that of independent errors;
    factors are raised to its inverse, which for sums that are nearly normal keeps their mean at most one.
    """

    def __init__(self, null: float, inflation: float = 1.0) -> None:
        self.null = min(max(null, 1e-9), 0.999)
        ends = [self.null ** (1.0 - bet) for bet in _BETS]
        # The growth-optimal stake for misses that come with probability `end` instead of m (Kelly 1956).
        self._stakes = [(end - self.null) / (self.null * (1.0 - self.null)) for end in ends]
        self._power = 1.0 / max(1.0, inflation)
        self._sums = [0.0] * len(_BETS)
        self._held: deque[float] = deque(maxlen=_HELD)

    def add(self, error: float) -> Crossing | None:
        """Take in one scaled error; what was found when the evidence crosses, after which it begins anew."""
        gap = error - self.null
        self._held.append(error)
        if self._power == 1.0:
            self._sums = [(s + 1.0) * (1.0 + k * gap) for s, k in zip(self._sums, self._stakes)]  # noqa: B905
        else:
            self._sums = [
                (s + 1.0) * max(0.0, 1.0 + stake * gap) ** self._power
                for s, stake in zip(self._sums, self._stakes, strict=True)
            ]
        if sum(self._sums) < RUN_LENGTH * len(_BETS):
            return None
        found = self._crossing()
        self._sums = [0.0] * len(self._sums)
        self._held.clear()
        return found

    def _crossing(self) -> Crossing:
        """The stretch with the most evidence under the bet that won."""
        best = max(range(len(self._sums)), key=self._sums.__getitem__)
        values = np.array(self._held)
        with np.errstate(divide="ignore"):
            gains = np.log(np.maximum(0.0, 1.0 + self._stakes[best] * (values - self.null)))
        start = int(np.argmax(np.cumsum(gains[::-1])))
        stretch = values[len(values) - 1 - start :]
        evidence = sum(self._sums) / len(self._sums)
        return Crossing(len(stretch), float(stretch.mean()), float(stretch.std()), evidence)

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values."""
        return {"sums": list(self._sums), "held": list(self._held)}

    def restore(self, raw: dict[str, Any]) -> None:
        """Replace the state by a `snapshot`."""
        self._sums = [float(value) for value in raw["sums"]]
        self._held = deque((float(value) for value in raw["held"]), maxlen=_HELD)
