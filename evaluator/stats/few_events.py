"""Exact tests of outcomes of two kinds where one kind is too rare for a normal expansion.

A table holds both arms' good and bad outcomes. Given all outcomes and the arms' sizes, under no effect the number of
the challenger's good ones is hypergeometric (Fisher 1935); where the good ones' mean propensity is another than the bad
ones' (a ramp while outcomes drift) it is Fisher's noncentral hypergeometric with the odds of the two. Of pairs only
those count of which one arm alone is right: each is the challenger's with probability 1/2 (McNemar 1947).

The exact p value becomes a normal score, so that every mode decides by its own boundary. Of independent units it
decides alone. Of clustered ones it is the claim of independence, and the weaker of it and the clusters' score decides.
Limits are Newcombe's (1998, method 10), which stay apart where one arm has no event; with a margin they decide.
Invariant: an outcome that turns good for the challenger, or bad for the champion, never lowers the score for "better".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import numpy as np
from scipy.special import betainc, gammaln, logsumexp, ndtri_exp

from evaluator.stats.evidence import Evidence
from evaluator.stats.score_process import Bools, Floats, Ints

# Smaller tails are all the same to a decision.
LEAST_P: Final = 1e-300
MOST_Z: Final = 37.0
_HALVINGS: Final = 60


@dataclass(frozen=True)
class FewEvents:
    """Tables of many cells, and which of them are too thin for an expansion.

    good, of: good outcomes and all outcomes of champion and challenger, shape (2, cells); of pairs, those that one arm
    alone got right, and all pairs. odds: of the noncentral hypergeometric. few_win, few_harm: cells in which this table
    has a say. Other arrays have shape (cells,).
    """

    good: Floats
    of: Floats
    odds: Floats
    paired: Bools
    independent: Bools
    margin: Floats
    two_kinds: Bools
    few_win: Bools
    few_harm: Bools

    @classmethod
    def of_cells(
        cls,
        champion: Floats,
        challenger: Floats,
        *,
        discordant: Floats | None = None,
        drawn: Floats | None = None,
        independent: Bools,
        margin: Floats,
        least: int,
    ) -> Self:
        """The counts from both arms' (n, Σ Y, Σ Y²), shape (cells, 3), whose Y are all 0 and 1, all 0 and −1, or of
        other kinds.

        discordant: pairs of which one arm alone is right, NaN for split traffic. drawn: (Σ π, Σ π Y), shape (cells, 2);
        None where shares were constant. least: outcomes of each kind from which an expansion holds.
        """
        arms = np.stack([champion, challenger])
        n, total, squares = np.moveaxis(arms, 2, 0)
        two_kinds = (squares.sum(axis=0) == np.abs(total.sum(axis=0))) & (n > 0.0).all(axis=0)
        paired = np.zeros(len(champion), dtype=np.bool_) if discordant is None else ~np.isnan(discordant)
        good = np.where(total.sum(axis=0) < 0.0, n + total, total)
        odds = np.ones(len(champion)) if drawn is None else _odds(good.sum(axis=0), n.sum(axis=0), total, drawn)
        if discordant is not None:
            won = total[1] - total[0]
            apart = np.stack([discordant - won, discordant + won]) / 2.0
            good = np.where(paired, np.clip(np.rint(apart), 0.0, n), good)
        rarer = np.where(paired, good, np.minimum(good, n - good))
        both = good.sum(axis=0)
        pooled = np.where(paired, both, np.minimum(both, n.sum(axis=0) - both))
        thin = two_kinds & (rarer.min(axis=0) < least)
        few_harm = np.where(independent, thin, two_kinds & (pooled < least))
        return cls(good, n, odds, paired, independent, margin, two_kinds, thin, few_harm)

    def cells(self, some: Ints) -> Self:
        """The tables of these cells alone."""
        return type(self)(**{name: values[..., some] for name, values in vars(self).items()})

    def settles(self, sign: float) -> Bools:
        """Cells that need no other evidence: outcomes that may not vary at all, asked about a margin."""
        return self._few(sign) & (self.margin > 0.0)

    def z(self, evidence: Evidence, sign: float) -> Floats:
        """The deciding score of the win side (sign 1) or the harm side (−1), with this evidence of the same cells."""
        known, some = (evidence.z_win if sign > 0.0 else evidence.z_harm), np.flatnonzero(self._few(sign))
        if not len(some):
            return known
        few, available = self.cells(some), evidence.available[some]
        own = np.where(few.margin == 0.0, few._exact(sign), few._beyond_margin(evidence.effect[some], sign))
        weaker = np.where(available, np.minimum(own, known[some]), own)
        found = known.copy()
        found[some] = np.where(few.independent, own, weaker)
        return found

    def limit(self, evidence: Evidence, bound: Floats, sign: float) -> Floats:
        """The lower (sign 1) or upper limit at this bound, on the side of the null that the score says."""
        known = evidence.lower(bound) if sign > 0.0 else evidence.upper(bound)
        some = np.flatnonzero(self._few(sign) & np.isfinite(bound))
        if not len(some):
            return known
        few, at = self.cells(some), bound[some]
        # Towards −effect everything is as for a lower limit.
        effect = sign * evidence.effect[some]
        own = np.minimum(effect, sign * few._difference(evidence.effect[some])) - few._reach(at, sign)
        clustered = np.where(few.independent | ~evidence.available[some], np.inf, sign * known[some])
        own, null = np.minimum(own, clustered), -sign * few.margin
        passed = self.z(evidence, sign)[some] >= at
        found = known.copy()
        found[some] = sign * np.where(passed, np.maximum(own, null), np.minimum(own, null))
        return found

    def _few(self, sign: float) -> Bools:
        return self.few_win if sign > 0.0 else self.few_harm

    def _exact(self, sign: float) -> Floats:
        """Normal scores of the exact one-sided p values against no effect."""
        lost, won = self.good if sign > 0.0 else self.good[::-1]
        # P(at most `lost` of the pairs) of a fair coin.
        coin = np.where(won > 0.0, betainc(np.maximum(won, 1.0), lost + 1.0, 0.5), 1.0)
        logs = np.log(np.maximum(coin, LEAST_P))
        for cell in np.flatnonzero(~self.paired).tolist():
            logs[cell] = log_tail(self.good[:, cell], self.of[:, cell], float(self.odds[cell]), sign)
        return np.clip(-ndtri_exp(logs), -MOST_Z, MOST_Z)

    def _difference(self, effect: Floats) -> Floats:
        """The difference of the two arms' shares, which a limit must not leave out: `effect` takes each row by the
        champion's mean before it, and stays short of a difference of nearly 1. Of pairs it is the effect; on a ramp it
        may be confounded."""
        shares = self.good / self.of
        known = ~self.paired & np.isclose(self.odds, 1.0, rtol=1e-9)
        return np.where(known, shares[1] - shares[0], effect)

    def _reach(self, z: Floats, sign: float) -> Floats:
        """How far the limit at this score lies from the effect."""
        way = sign * np.array([[1.0], [-1.0]])  # towards a lower effect: the champion's share up, the challenger's down
        lost, gained = np.abs(_wilson(self.good, self.of, z, way) - self.good / self.of)
        return np.asarray(np.hypot(gained, lost))

    def _beyond_margin(self, effect: Floats, sign: float) -> Floats:
        """The score at which the limit reaches −margin."""
        distance = effect + self.margin
        found = np.empty_like(distance)
        for way, some in ((1.0, distance >= 0.0), (-1.0, ~(distance >= 0.0))):
            if some.any():  # a look costs a hundred evaluations of the limit: none for a side that no cell is on
                reach = partial(self.cells(np.flatnonzero(some))._reach, sign=way)
                found[some] = way * _solved(reach, way * distance[some])
        return sign * found


def log_tail(good: Floats, of: Floats, odds: float, sign: float) -> float:
    """log P(challenger has at least (sign 1) or at most so many good outcomes), given all outcomes and both sizes.

    good, of: of champion and challenger, shape (2,).
    """
    both, n, mine = float(good.sum()), float(of.sum()), float(of[1])
    x = np.arange(max(0.0, mine - (n - both)), min(both, mine) + 1.0)
    logs = -gammaln(x + 1.0) - gammaln(both - x + 1.0) - gammaln(mine - x + 1.0) - gammaln(n - both - mine + x + 1.0)
    logs = logs + x * np.log(odds)
    tail = logs[x >= good[1]] if sign > 0.0 else logs[x <= good[1]]
    return min(0.0, float(logsumexp(tail) - logsumexp(logs)))


def _odds(good: Floats, n: Floats, total: Floats, drawn: Floats) -> Floats:
    """Odds of the good outcomes' mean propensity over those of the bad ones'; 1 where there is but one kind."""
    mean, product = drawn.T
    of_good = np.where(total.sum(axis=0) < 0.0, mean + product, product)
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = of_good / good, (mean - of_good) / (n - good)
        odds = first / (1.0 - first) / (second / (1.0 - second))
    return np.where(np.isfinite(odds) & (odds > 0.0), odds, 1.0)


def _wilson(k: Floats, n: Floats, z: Floats, way: Floats) -> Floats:
    """Wilson's (1927) lower (way −1) or upper (1) limit of a share k/n at this score."""
    half = z * np.sqrt(np.maximum(k * (n - k) / n, 0.0) + z * z / 4.0)
    limit = (k + z * z / 2.0 + way * half) / (n + z * z)
    return np.minimum(np.maximum(limit, 0.0), 1.0)  # np.clip costs more than all of the above on a few cells


def _solved(rising: Callable[[Floats], Floats], target: Floats) -> Floats:
    """The z in [0, MOST_Z] at which this reaches the target, by bisection."""
    low, high = np.zeros_like(target), np.full_like(target, MOST_Z)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        below = rising(middle) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low
