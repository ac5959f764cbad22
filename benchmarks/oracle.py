"""What no sequential test can beat: the SPRT that knows the effect, and the test that looks once.

Invariant: the oracle sees the same experiments at the same looks as every other method.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from benchmarks.simulated import Sums
from evaluator.stats.score_process import Floats, Ints


def nearest_null(share: float, p0: float, p1: float) -> float:
    """The common rate that is nearest to (p0, p1) at that share: the null that an effect is hardest to tell from."""
    return (1.0 - share) * p0 + share * p1


def sprt(sums: Sums, p0: float, p1: float, alpha: float) -> Ints:
    """First look (from 1) at which the likelihood ratio of (p0, p1) to the nearest null reaches 1/alpha; 0 for none.

    The ratio is at most 1 on average under every common rate (Turner, Ly & Grünwald 2024), so this keeps alpha.
    """
    q = nearest_null(sums.shares, p0, p1)  # type: ignore[arg-type]  # shares change on a ramp
    gain = _log_ratio(*sums.champion[:2], p0, q) + _log_ratio(*sums.challenger[:2], p1, q)
    over = np.cumsum(gain, axis=1) >= math.log(1.0 / alpha)
    return np.where(over.any(axis=1), np.argmax(over, axis=1) + 1, 0)


def _log_ratio(n: Floats, y: Floats, p: float, q: Floats | float) -> Floats:
    found: Floats = y * np.log(p / q) + (n - y) * np.log((1.0 - p) / (1.0 - q))
    return found


def one_look(score: Floats, variance: Floats, alpha: float) -> tuple[float, float]:
    """Shares of runs that a score test of this one-sided level, made once at the horizon, calls better, and worse."""
    z = score[:, -1] / np.sqrt(variance[:, -1])
    bound = -float(ndtri(alpha))
    return float((z >= bound).mean()), float((z <= -bound).mean())
