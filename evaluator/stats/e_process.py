"""E-processes by betting: the exact mode, evidence at any sample size without a normal approximation.

Sources: Waudby-Smith & Ramdas (2024), sections 4 and 5; Shafer (2021). A split unit with outcome Y in [0, 1], arm A,
logged propensity π and prediction m from the past multiplies the wealth by
    1 ± b (x − δ₀ w),   x = (A−π)(Y−m),  w = π(1−π),  b = min(d / (m(1−m)), 0.9 / the largest possible loss);
a pair with D = Y_challenger − Y_champion has x = D and w = 1. + bets on an effect above δ₀ (the win side), − below it.

Invariant: under its null the mixture E over bet sizes d is a supermartingale with E_0 = 1, so it ever reaches 1/α with
probability at most α (Ville). Units that share one draw of the arm (a sticky user) are one unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from evaluator.stats.errors import (
    OutcomeError,
    PlanError,
    PropensityError,
    StatsError,
    positive_per_cell,
    require_between,
)
from evaluator.stats.score_process import Bools, Floats, Ints

# Rows of `log_e` and `p`.
WIN, HARM = 0, 1
# No unit may take more than this share of the wealth that is bet on it.
MOST_STAKED: Final = 0.9
# The bound from sums is loose for larger stakes.
_CAP_FOR_SUMS: Final = 0.5
# Rarer outcomes than this m(1−m) are not known well enough to bet by.
LEAST_SPREAD: Final = 1e-4
# Rows at a time: they and their logs stay in the cache.
_CHUNK: Final = 2**14
# Where many nulls are tested at once, continuous outcomes are put on this many steps.
_STEPS: Final = 32
# With more different propensities than these in a batch, counting them saves nothing.
_MOST_SHARES: Final = 64


Bets = tuple[float, ...]
"""Sizes d of the bets that are mixed with equal weights."""

# Effects in units of 2√(m(1−m)), which is 1 for an even chance, so that rare outcomes get small bets. With ratios of
# two the worst-placed effect still grows at five sixths of the best rate.
SPLIT_BETS: Final[Bets] = tuple(0.004 * 2.0**k for k in range(8))
# Fractions of the wealth staked on a pair, for mean differences down to a few in a thousand discordant pairs.
PAIRED_BETS: Final[Bets] = tuple(0.9 * 0.5**k for k in range(9))


def effects() -> Floats:
    """Nulls δ₀ for confidence limits, shape (G,): steps of 0.001 up to ±0.05, of 3 % from there to ±1."""
    fine = 0.001 * np.arange(1, 51)
    coarse = 0.05 * 1.03 ** np.arange(1, math.ceil(math.log(20.0) / math.log(1.03)))
    above = np.concatenate([fine, coarse, [1.0]])
    return np.concatenate([-above[::-1], [0.0], above])


@dataclass(frozen=True, eq=False)
class Wealth:
    """Log wealth of every bet (side, size, null) and the running peak of log E (side, null). Immutable.

    nulls: shape (G,), rising; (0,) tests "no effect", (−margin,) non-inferiority, `effects()` gives limits. Bets are
    kept from ruin at all nulls of the object, so a single null gets slightly bolder bets than on a grid.
    """

    bets: Bets
    nulls: Floats
    logs: Floats
    peak: Floats

    DEFAULT_BETS: ClassVar[Bets]

    @classmethod
    def start(cls, nulls: Floats | None = None, bets: Bets | None = None) -> Self:
        """Before the first unit. nulls default to "no effect" alone."""
        bets = cls.DEFAULT_BETS if bets is None else bets
        positive_per_cell("sizes of bets", np.array(bets), max(1, len(bets)))
        grid = np.zeros(1) if nulls is None else np.asarray(nulls, dtype=np.float64)
        if grid.ndim != 1 or not len(grid) or not bool(np.all(np.abs(grid) <= 1.0)) or bool(np.any(np.diff(grid) <= 0)):
            raise PlanError("null effects are rising numbers in [−1, 1]")
        return cls(bets, grid, np.zeros((2, len(bets), len(grid))), np.zeros((2, len(grid))))

    @property
    def log_e(self) -> Floats:
        """Log wealth of the mixture, shape (2, G), rows WIN and HARM."""
        return np.asarray(logsumexp(self.logs, axis=1) - math.log(len(self.bets)))

    @property
    def p(self) -> Floats:
        """Always-valid p = min(1, 1 / max E so far), shape (2, G). The maximum is over the ends of batches."""
        return np.exp(-self.peak)

    def limits(self, alpha: float) -> tuple[float, float]:
        """Running confidence limits of the effect, each at level alpha at all times at once.

        The lower limit is the largest null with all nulls up to it rejected by the win side, the upper one likewise;
        ±inf where none is. On the grid of nulls a limit is conservative by at most one step.
        """
        require_between("level", alpha, 0.0, 1.0)
        rejected = self.peak >= math.log(1.0 / alpha)
        low = int(np.cumprod(rejected[WIN]).sum())
        high = int(np.cumprod(rejected[HARM][::-1]).sum())
        return (
            float(self.nulls[low - 1]) if low else -math.inf,
            float(self.nulls[len(self.nulls) - high]) if high else math.inf,
        )

    def _grown(self, gain: Floats) -> Self:
        after = replace(self, logs=self.logs + gain)
        return replace(after, peak=np.maximum(self.peak, after.log_e))

    def _gain(self, units: _Units) -> Floats:
        """Σ log factors of every bet on these units, shape (2, D, G)."""
        gain = np.zeros_like(self.logs)
        rows = max(1, _CHUNK // len(self.nulls))
        for start in range(0, len(units.x), rows):
            part = slice(start, start + rows)
            moved = units.x[part, None] - units.w[part, None] * self.nulls
            times = None if units.times is None else units.times[part]
            for side, sign, loss in ((WIN, 1.0, units.down[part]), (HARM, -1.0, units.up[part])):
                most = self._most(side, loss, units.w[part])
                for size, amount in enumerate(self.bets):
                    stake = sign * np.minimum(amount * units.scale, most)
                    gain[side, size] += _log_product(stake[:, None] * moved, times)
        return gain

    def _least_gain(self, x: Floats, w: Floats, loss: float, most_w: float, scale: float) -> Floats:
        """A lower bound of `_gain` from sums alone, for any number of nulls and of different units.

        log(1+y) ≥ y − ψ(c) y² for y ≥ −c, ψ(c) = (−log(1−c) − c)/c² (Fan, Grama & Liu 2015, Lemma 4.1), and both sums
        are polynomials in the null. loss and most_w bound ±x and w of any unit that could have come.
        """
        n_w, n_ww, n_x, n_xw, n_xx = w.sum(), w @ w, x.sum(), x @ w, x @ x
        first = n_x - self.nulls * n_w
        second = n_xx - 2.0 * self.nulls * n_xw + self.nulls**2 * n_ww
        gain = np.zeros_like(self.logs)
        for side, sign in ((WIN, 1.0), (HARM, -1.0)):
            worst = max(loss + (self.nulls[-1] if side == WIN else -self.nulls[0]) * most_w, loss)
            for size, amount in enumerate(self.bets):
                stake = min(amount * scale, _CAP_FOR_SUMS / worst)
                c = stake * worst
                psi = (-math.log1p(-c) - c) / (c * c)
                gain[side, size] = sign * stake * first - psi * stake * stake * second
        return gain

    def _most(self, side: int, loss: Floats, w: Floats) -> Floats:
        """The largest stakes that can lose no more than the cap, whatever happens, at every null."""
        worst = self.nulls[-1] if side == WIN else -self.nulls[0]
        return np.asarray(MOST_STAKED / np.maximum(loss + worst * w, 1e-9))


class _Units(NamedTuple):
    """Units to bet on.

    x and w: as in the module's head. down, up: the largest possible −x and x before arm and outcome are known. times:
    how many such units (fractions where an outcome lies between two steps), None for one each. A stake is size · scale.
    """

    x: Floats
    w: Floats
    down: Floats
    up: Floats
    times: Floats | None
    scale: float


class SplitWealth(Wealth):
    """The exact mode of split traffic: outcomes in [0, 1], larger is better."""

    DEFAULT_BETS = SPLIT_BETS

    def add(self, treated: Bools, propensity: Floats | float, y: Floats, m: float) -> Self:
        """The wealth after these units, arrays of shape (n,), predicted by m in [0, 1] (any number from the past).

        A batch gives what its units one by one would at the same m, except that the peak sees only ends of batches. At
        several nulls, continuous outcomes are put on 33 steps and more than 64 different propensities are bounded by
        sums, both conservatively. Raises OutcomeError and PropensityError.
        """
        y = _in_unit_interval(y)
        arm = np.asarray(treated, dtype=np.bool_)
        if arm.shape != y.shape:
            raise StatsError(f"arms of shape {arm.shape} do not fit outcomes of shape {y.shape}")
        if not 0.0 <= m <= 1.0:
            raise OutcomeError(f"the prediction {m!r} does not lie in [0, 1]")
        shares, index = _distinct(propensity, len(y))
        bad = np.flatnonzero(~((shares > 0.0) & (shares < 1.0)))
        if bad.size:
            raise PropensityError(f"propensity {shares[bad[0]]!r} does not lie strictly between 0 and 1")
        if not len(y):
            return self
        scale = 2.0 / math.sqrt(max(m * (1.0 - m), LEAST_SPREAD))
        binary = bool(np.all((y == 0.0) | (y == 1.0)))
        if len(shares) > _MOST_SHARES or (len(self.nulls) == 1 and not binary):
            share = shares[index]
            if len(self.nulls) > 1:
                x, w = (arm - share) * (y - m), share * (1.0 - share)
                return self._grown(self._least_gain(x, w, max(m, 1.0 - m), 0.25, scale))
            return self._grown(self._gain(_split_units(arm, share, y, None, m, scale)))
        steps = 1 if binary else _STEPS
        count = _on_steps(y * steps, index * 2 + arm, 2 * len(shares), steps)
        cell, step = np.divmod(np.flatnonzero(count), steps + 1)
        units = _split_units(cell % 2, shares[cell // 2], step / steps, count[count > 0.0], m, scale)
        return self._grown(self._gain(units))


class PairedWealth(Wealth):
    """The exact mode of requests that both arms answered: outcomes in [0, 1], larger is better."""

    DEFAULT_BETS = PAIRED_BETS

    def add(self, y_champion: Floats, y_challenger: Floats) -> Self:
        """The wealth after these pairs, arrays of shape (n,). Steps as in `SplitWealth.add`. Raises OutcomeError."""
        champion, challenger = _in_unit_interval(y_champion), _in_unit_interval(y_challenger)
        if champion.shape != challenger.shape:
            raise StatsError(f"outcomes of shapes {champion.shape} and {challenger.shape} are not pairs")
        x = challenger - champion
        if not len(x):
            return self
        steps = 1 if bool(np.all(x == np.rint(x))) else _STEPS
        times = None
        if len(self.nulls) > 1 or steps == 1:
            count = _on_steps((x + 1.0) * steps, np.zeros(len(x), dtype=np.int64), 1, 2 * steps)
            x, times = np.flatnonzero(count) / steps - 1.0, count[count > 0.0]
        one = np.ones(len(x))
        return self._grown(self._gain(_Units(x, one, one, one, times, 1.0)))


def _log_product(gains: Floats, times: Floats | None) -> Floats:
    """Σ times · log(1 + gains) over the rows, of shape (n, G)."""
    if times is not None:
        return np.asarray(times @ np.log1p(gains))
    # Eight factors share a logarithm: each is in [0.1, 10⁹], so their product is far from the ends of the range.
    whole = len(gains) // 8 * 8
    products = np.multiply.reduce(1.0 + gains[:whole].reshape(8, -1, gains.shape[1]), axis=0)
    return np.asarray(np.log(products).sum(axis=0) + np.log1p(gains[whole:]).sum(axis=0))


def _in_unit_interval(values: Floats) -> Floats:
    y = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~((y >= 0.0) & (y <= 1.0)))
    if y.ndim != 1 or bad.size:
        what = f"outcome {y.flat[bad[0]]!r} at position {bad[0]}" if bad.size else f"an array of shape {y.shape}"
        raise OutcomeError(f"{what} is not one outcome in [0, 1] a unit; scale outcomes by their bounds")
    return y


def _distinct(propensity: Floats | float, n: int) -> tuple[Floats, Ints]:
    """The different propensities, and which one each unit has."""
    share = np.asarray(propensity, dtype=np.float64)
    if share.shape not in ((), (n,)):
        raise StatsError(f"propensities of shape {share.shape} do not fit {n} outcomes")
    if not share.shape or not n or bool(np.all(share == share[0])):
        return share.reshape(-1)[:1], np.zeros(n, dtype=np.int64)
    shares, index = np.unique(share, return_inverse=True)
    return shares, index


def _on_steps(place: Floats, cell: Ints, cells: int, steps: int) -> Floats:
    """Number of units at each step 0 … steps of each cell, flat, shape (cells · (steps + 1),).

    A unit between two steps is split between them by distance: log factors are concave in the outcome, so that this
    understates them.
    """
    low = np.minimum(place.astype(np.int64), steps - 1)
    high_part = place - low
    at = cell * (steps + 1) + low
    size = cells * (steps + 1)
    return np.asarray(np.bincount(at, 1.0 - high_part, size) + np.bincount(at + 1, high_part, size), dtype=np.float64)


def _split_units(arm: NDArray[Any], share: Floats, y: Floats, times: Floats | None, m: float, scale: float) -> _Units:
    x, w = (arm - share) * (y - m), share * (1.0 - share)
    down = np.maximum((1.0 - share) * m, share * (1.0 - m))
    up = np.maximum((1.0 - share) * (1.0 - m), share * m)
    return _Units(x, w, down, up, times, scale)
