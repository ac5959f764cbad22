"""What it costs that the engine estimates the variance, correlation and skewness of blocks: few blocks, few proofs.

Invariant: the engine's own rule is applied (`Evidence.lower`), at quantiles of what it may estimate; nothing is random.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import chdtri, ndtri

from evaluator.stats.planning import block_widening
from evaluator.stats.statistic import FEWEST_BLOCKS, Evidence
from evaluator.stats.sums import Floats

# Quantiles of the estimated variance, correlation and skewness of blocks. The high correlations are what keeps a test
# of few blocks from ever deciding, so their tail needs the most.
_VARIANCES, _CORRELATIONS, _SKEWNESSES = 8, 80, 4


@lru_cache(maxsize=8192)
def needed_score(
    bound: float, blocks: int, equal: float, correlation: float, floor: float, most_correlation: float
) -> Floats:
    """S / √(its variance) at which z reaches the bound, at equally likely estimates; infinite where it can't.

    blocks: scored ones, worth `equal` of equal information. correlation: the true lag-1 correlation of their scores.
    floor: the least that the engine takes the variance for, as a share of the true one. most_correlation: the side's.
    """
    spread, widening, skewness = _estimates(max(blocks, FEWEST_BLOCKS), equal, correlation, most_correlation)
    one = np.ones(len(widening))
    found = Evidence(
        one > 0.0, one * blocks, one * equal, 0.0 * one, one, one, one, one, one, 0.0 * one, widening, skewness,
        0.0 * one, one, 0.0 * one, 0.0 * one, one, clustered=True,
    )  # fmt: skip
    variance = np.maximum(np.outer(spread, widening / block_widening(correlation)), floor)
    return np.asarray((-found.lower(bound * one) * np.sqrt(variance)).ravel())


@lru_cache(maxsize=4096)
def _estimates(blocks: int, equal: float, correlation: float, most: float) -> tuple[Floats, Floats, Floats]:
    """Variances (as shares of the true one), and pairs of widening and skewness, as estimated from normal AR(1) blocks.

    The variance is about χ² with (n−1)(1−ρ²)/(1+ρ²) degrees of freedom, less what their common mean takes away. The
    correlation's estimate has mean ρ − (1+4ρ)/n and variance (1−ρ²)/n (Marriott & Pope 1954; Bartlett 1946), then comes
    the engine's correction. Skewness has variance 6(n−2)/((n+1)(n+3)) (Fisher 1930).
    """
    n = max(2.0, equal)
    degrees = max(1.0, (n - 1.0) * (1.0 - correlation**2) / (1.0 + correlation**2))
    share = max(0.1, 1.0 - (block_widening(correlation) - 1.0) / n)
    variance = share * chdtri(degrees, _middles(_VARIANCES)) / degrees
    middle, error = correlation - (1.0 + 4.0 * correlation) / n, math.sqrt((1.0 - correlation**2) / n)
    raw = middle + error * ndtri(_middles(_CORRELATIONS))
    r = np.clip((blocks * raw + 1.75) / (blocks - 4.0), 0.0, most)
    skewness = math.sqrt(6.0 * max(0.5, n - 2.0) / ((n + 1.0) * (n + 3.0))) * ndtri(_middles(_SKEWNESSES))
    grid = np.meshgrid((1.0 + r) / (1.0 - r), skewness, indexing="ij")
    return np.asarray(variance, dtype=np.float64), grid[0].ravel(), grid[1].ravel()


def _middles(count: int) -> Floats:
    return (np.arange(count) + 0.5) / count
