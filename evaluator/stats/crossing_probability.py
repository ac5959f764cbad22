"""Probabilities that a test's path first crosses its bounds at each look, whatever the true effect.

Invariant: computed by recursive numerical integration (Armitage, McPherson & Rowe 1969; Jennison & Turnbull 2000,
chapter 19), no simulation; crossings and the paths left over add up to 1 within 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr

from evaluator.stats.errors import PlanError
from evaluator.stats.score_process import Floats

# Paths further than this many standard deviations from their mean are not followed.
_REACH: Final = 8.5
# Gauss-Legendre points for each panel of two standard deviations of the smaller step beside it.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_PANEL: Final = 2.0


@dataclass(frozen=True)
class Course:
    """Where paths end: shape (looks,) each. `upper` and `lower` are the probabilities to cross first at that look."""

    times: Floats
    upper: Floats
    lower: Floats

    @property
    def above(self) -> float:
        """Probability ever to cross the upper bound first: the power of the win side."""
        return float(self.upper.sum())

    @property
    def below(self) -> float:
        """Probability ever to cross the lower bound first."""
        return float(self.lower.sum())

    @property
    def expected_time(self) -> float:
        """Mean information time at the end: at the crossing, or at the last look without one."""
        ended = self.upper + self.lower
        return float(ended @ self.times + (1.0 - ended.sum()) * self.times[-1])

    def time_by(self, share: float) -> float:
        """The first look by which this share of paths has ended; inf if fewer ever cross."""
        reached = np.flatnonzero(np.cumsum(self.upper + self.lower) >= share)
        return float(self.times[reached[0]]) if reached.size else math.inf


def course(
    times: Sequence[float], upper: Sequence[float], lower: Sequence[float] | None = None, drift: float = 0.0
) -> Course:
    """Crossing probabilities of B(t) + drift · t, watched as z = (B(t) + drift t)/√t at rising times t > 0.

    upper, lower: bounds for z at each look, infinite where there is none; without `lower` only the upper ones stop.
    drift: the mean of z at t = 1, that is effect · √(I_max / (V/I)). Raises PlanError for impossible arguments.
    """
    at, high = np.asarray(times, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    low = np.full(len(at), -np.inf) if lower is None else np.asarray(lower, dtype=np.float64)
    if not len(at) or not (len(at) == len(high) == len(low)) or not math.isfinite(drift):
        raise PlanError("a course needs one bound a side for each of at least one look, and a finite drift")
    if not (at[0] > 0.0 and bool(np.all(np.diff(at) > 0.0)) and bool(np.all(np.isfinite(at)))):
        raise PlanError("the times of looks are positive and rise")
    if bool(np.any(high <= low)):
        raise PlanError("an upper bound lies above its lower bound")
    over, under = np.zeros(len(at)), np.zeros(len(at))
    points, masses, before = np.zeros(1), np.ones(1), 0.0
    for look, t in enumerate(at):
        spread, sigma = math.sqrt(t), math.sqrt(t - before)
        mean = points + drift * (t - before)
        top, bottom = high[look] * spread, low[look] * spread
        over[look] = masses @ ndtr((mean - top) / sigma)
        under[look] = masses @ ndtr((bottom - mean) / sigma)
        if look + 1 == len(at):
            break
        finest = min(sigma, math.sqrt(at[look + 1] - t))
        first, last = max(bottom, drift * t - _REACH * spread), min(top, drift * t + _REACH * spread)
        if first >= last:  # no path worth following is left between the bounds
            break
        panels = max(1, math.ceil((last - first) / (_PANEL * finest)))
        half = (last - first) / panels / 2.0
        centres = first + half * (2.0 * np.arange(panels) + 1.0)
        there = (centres[:, None] + half * _POINTS).ravel()
        distance = (there[:, None] - mean) / sigma
        density = np.exp(-0.5 * distance * distance) @ masses / (sigma * math.sqrt(2.0 * math.pi))
        points, masses, before = there, np.tile(half * _WEIGHTS, panels) * density, t
    return Course(at, over, under)
