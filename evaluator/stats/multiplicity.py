"""Several comparisons at once: adjusted p values, and the bound for several challengers against one champion.

Invariant: adjusted values keep the order of the input; a comparison without an answer stays None, but counts as a
member of its family, because the family was declared before the data.

Why this holds although one looks all the time. Let p_i(t) be always valid: P(p_i(t) ≤ u at some t) ≤ u. With
p_i* = inf_t p_i(t), each p_i* is a valid p value of one fixed experiment, and Holm on them keeps the family-wise error
(Holm 1979, under any dependence). Holm rejects more when p values fall, so what it rejects at any moment, for any
reason of stopping, it rejects on the p_i* too: the chance that a true null is rejected *ever* is at most α.

The false discovery rate is not monotone in that way, so Benjamini & Hochberg's procedure promises less. At a
stopping time T each p_i(T) is a valid p value, but one rule that stops all of them makes them dependent. If they are
positively dependent (PRDS; Benjamini & Yekutieli 2001, Theorem 1.2) the rate at T is at most α m₀/m. Under any
dependence it is at most α Σ 1/j, which `dependent=True` divides out (Theorem 1.3): that holds at any stopping time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from evaluator.stats.errors import NoAnswer, PlanError, StatsError
from evaluator.stats.score_process import Floats

Alternative = Literal["two-sided", "greater"]

# Gauss-Legendre over ±8.5 standard deviations of the champion's common error: the rest is 2e-17. Panels of half a
# deviation resolve conditional bounds down to shares of 1 in 1,000.
_REACH: Final = 8.5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANELS: Final = 68


def _family(p_values: Sequence[float | None]) -> tuple[list[int], list[float], int]:
    """Positions of the answers by rising p, their p values, and the size of the family."""
    for p in p_values:
        if p is not None and not 0.0 <= p <= 1.0:
            raise StatsError(f"{p!r} is not a p value")
    answered = [(p, position) for position, p in enumerate(p_values) if p is not None]
    answered.sort()
    return [position for _, position in answered], [p for p, _ in answered], len(p_values)


def _placed(size: int, order: Sequence[int], values: Sequence[float]) -> tuple[float | None, ...]:
    placed: list[float | None] = [None] * size
    for position, value in zip(order, values, strict=True):
        placed[position] = value
    return tuple(placed)


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Step-down Bonferroni (Holm 1979): max over the smaller ones of (m − rank + 1) p, at most 1.

    Rejecting where the adjusted value is at most α keeps the family-wise error rate, under any dependence and at any
    stopping time if the p values are always valid.
    """
    order, ps, size = _family(p_values)
    adjusted, worst = [], 0.0
    for rank, p in enumerate(ps):
        worst = max(worst, min(1.0, (size - rank) * p))
        adjusted.append(worst)
    return _placed(size, order, adjusted)


def benjamini_hochberg(p_values: Sequence[float | None], *, dependent: bool = False) -> tuple[float | None, ...]:
    """Step-up q values (Benjamini & Hochberg 1995): min over the larger ones of m p / rank.

    `dependent=True` multiplies by Σ_{j ≤ m} 1/j (Benjamini & Yekutieli 2001): any dependence, any stopping time. What
    is promised without it stands in the module's head.
    """
    order, ps, size = _family(p_values)
    penalty = math.fsum(1.0 / j for j in range(1, size + 1)) if dependent else 1.0
    adjusted, best = [0.0] * len(ps), 1.0
    for rank in range(len(ps), 0, -1):
        best = min(best, penalty * size * ps[rank - 1] / rank)
        adjusted[rank - 1] = best
    return _placed(size, order, adjusted)


def _common(shares: Sequence[float]) -> Floats:
    """λ_i = √share_i: z_i = λ_i X + √(1−λ_i²) Y_i."""
    common = np.sqrt(np.asarray(shares, dtype=np.float64))
    if common.ndim != 1 or not len(common) or not np.all((common > 0.0) & (common < 1.0)):
        raise PlanError(f"shares against the champion {list(shares)!r} do not all lie strictly between 0 and 1")
    return common


def many_to_one_error(bound: float, shares: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """Probability that any of k challengers' z exceeds the bound if none differs from the champion (Dunnett 1955).

    `shares` are n_i / (n_0 + n_i), the challenger's among the units that compare it with the champion. The champion's
    error is common, so z_i and z_j have correlation √(share_i share_j): for the difference of means, and for the
    score process, where share is the π of that comparison. Given the champion's error X the z are independent: one
    integral of Π Φ((c − λ_i x)/√(1−λ_i²)) φ(x), instead of one in k dimensions.
    """
    common = _common(shares)
    half = _REACH / _PANELS
    centres = -_REACH + half * (2.0 * np.arange(_PANELS) + 1.0)
    x = (centres[:, None] + half * _NODES).ravel()
    mass = np.tile(half * _WEIGHTS, _PANELS) * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    own = np.sqrt(1.0 - common * common)
    below = ndtr((bound - np.outer(x, common)) / own)
    if alternative == "two-sided":
        below = below - ndtr((-bound - np.outer(x, common)) / own)
    elif alternative != "greater":
        raise PlanError(f"unknown alternative {alternative!r}; known are two-sided, greater")
    # 1 − Π computed through logarithms, so that small errors keep their digits.
    with np.errstate(divide="ignore"):
        any_above = -np.expm1(np.log(np.clip(below, 0.0, 1.0)).sum(axis=1))
    return float(min(1.0, max(0.0, mass @ any_above)))


def dunnett_bound(alpha: float, shares: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """The bound that any of the k z exceeds with probability alpha, at one look (Dunnett's constant, normal case)."""
    if not 0.0 < alpha < 1.0:
        raise PlanError(f"the level {alpha!r} does not lie strictly between 0 and 1")
    _common(shares)
    sides = 2.0 if alternative == "two-sided" else 1.0
    # Never below the bound for one challenger, never above Bonferroni's.
    low, high = float(-ndtri(alpha / sides)), float(-ndtri(alpha / sides / len(shares)))
    if len(shares) == 1:
        return low
    return float(brentq(lambda c: many_to_one_error(c, shares, alternative) - alpha, low - 1e-9, high + 1e-9))


def dunnett_level(alpha: float, shares: Sequence[float], alternative: Alternative = "two-sided") -> float:
    """The level at which each challenger may be tested on its own, at one look, so that the family keeps alpha.

    Between alpha / k (Bonferroni) and alpha. For one look only: over looks the challengers' crossings come at different
    times and hang together less, so this level is a little too large (20 looks, equal shares, three spending functions,
    100,000 runs: .050 to .051 for 2 challengers at .05, .050 to .052 for 5); `sidak_level` is the one to spend there.
    """
    bound = dunnett_bound(alpha, shares, alternative)
    return float((2.0 if alternative == "two-sided" else 1.0) * ndtr(-bound))


def sidak_level(alpha: float, challengers: int) -> float:
    """1 − (1−α)^{1/k}: a level for each challenger that keeps the family's at all looks together.

    The challengers' score processes are jointly normal in the limit and, sharing the champion, never negatively
    correlated at any two times; so crossings of upper bounds are positively dependent over all looks (Slepian 1962),
    and so are two-sided ones (Royen 2014).
    """
    if not 0.0 < alpha < 1.0 or challengers < 1:
        raise PlanError(f"no level for {challengers!r} challengers at {alpha!r}")
    return -math.expm1(math.log1p(-alpha) / challengers)


def dunnett(
    zs: Sequence[float | None], shares: Sequence[float], alternative: Alternative = "two-sided"
) -> tuple[float | None, ...] | NoAnswer:
    """Step-down Dunnett adjusted p values of one look (Marcus, Peritz & Gabriel 1976; Dunnett & Tamhane 1991).

    Each z is compared with the maximum over itself and the challengers below it, so it is never above Holm's value from
    the same z. A challenger without z counts as the weakest of all. For fixed-horizon answers: z of one look, not
    always-valid p values, which go to `holm`.
    """
    if len(zs) != len(shares):
        raise StatsError(f"{len(zs)} statistics do not fit {len(shares)} shares")
    for z in zs:
        if z is not None and not math.isfinite(z):
            raise StatsError(f"the statistic {z!r} is not a finite number")
    sizes = {position: abs(z) if alternative == "two-sided" else z for position, z in enumerate(zs) if z is not None}
    if not sizes:
        return NoAnswer("no challenger has a statistic yet")
    order = sorted(sizes, key=lambda position: -sizes[position])
    silent = [position for position, z in enumerate(zs) if z is None]
    adjusted, worst = [], 0.0
    for rank, position in enumerate(order):
        left = [shares[other] for other in (*order[rank:], *silent)]
        worst = max(worst, many_to_one_error(sizes[position], left, alternative))
        adjusted.append(worst)
    return _placed(len(zs), order, adjusted)
