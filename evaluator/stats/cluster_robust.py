"""From the scored blocks to the statistic of one look: how strong the evidence is, once clusters are accounted for.

Invariant: everything is computed for many cells at once (metrics, segments, challengers, simulated runs), each by the
same formulas and from its own blocks alone; one comparison is an array of one cell.

Units of one day, storm or customer err together, so scores are summed within blocks and the variance is built from the
blocks (Liang & Zeger 1986). Few, skewed and correlated blocks make that optimistic; four safeguards answer it:

1. f = (1+r)/(1−r) widens the variance for a lag-1 correlation r of the blocks, r = clip((n r̂ + 1.75)/(n − 4), 0, 0.85).
   The estimate is biased towards zero by about (1+4ρ)/n (Marriott & Pope 1954), and looking again and again finds its
   low moments: with (n r̂ + 1)/(n − 3) one side at .025 rejects .034 of 30 blocks with ρ = .5, with these .029.
2. z_bounded = T √n' / √(n' − 1 + T²), with T the t statistic at the widened variance and n' = n_e/f, where
   n_e = (Σ i)² / Σ i² blocks of equal information would be worth as much (fewer on a ramp). For f = 1 and equal blocks
   this is S / √(Σ s²) with the uncentred sum. It can't exceed √n': few blocks that agree are no proof.
3. z_skew: Hall's (1992) transformation of T removes the effect of skewness, then t_{n_e−1} → normal. What is better
   on most days and far worse on a few looks like a winner until the bad day comes; its blocks are skewed.
4. The variance is at least that of independent units.

The smaller of z_bounded and z_skew decides, in each direction. Both are functions of T alone, so intervals come by
inverting them exactly: the lower limit at bound b is above the null just when z_win is above b.

Where units are declared independent, the smaller of two scores decides instead: that of S over the variance which the
assignment gives it, with its skewness taken out by a Cornish-Fisher expansion, and (for outcomes of more than two
kinds) that of S over the robust variance, through Hall's transformation and t (see `noise`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from evaluator.stats.errors import NoAnswer, StatsError
from evaluator.stats.score_process import Block, Floats, arms_of
from evaluator.stats.unit_variance import Noise

Bools = NDArray[np.bool_]

# A higher correlation than this would ask for more than twelve times the evidence; blocks are then simply too short.
MOST_CORRELATION: Final = 0.85
# Below this many blocks the correlation can't be estimated, and no block statistic is given.
FEWEST_BLOCKS: Final = 5
# Far under the resolution of the sums; only keeps powers of it from vanishing.
_LEAST_NOISE: Final = 1e-150


@dataclass(frozen=True)
class Evidence:
    """One look's statistics against the null "effect = −margin", for each cell; every field has shape (cells,).

    score, information and effect are S, I and S/I (not shifted by the margin). variance is that of S: block_variance,
    which takes blocks as independent, times the widening, but not less than floor; unit_variance takes units as
    independent. n_blocks are the scored ones, n_equal = I² / Σ i² as many blocks of equal information (Kish).
    autocorrelation is r after correction, skewness that of the block residuals (negative: rare blocks go far worse for
    the challenger). For independent units skewness is that of S as drawn, and drawn to degrees are those of `Noise`.
    Where `there` is False the cell has no evidence yet (`lacking` says why) and its numbers mean nothing.
    """

    there: Bools
    n_blocks: Floats
    n_equal: Floats
    score: Floats
    information: Floats
    variance: Floats
    unit_variance: Floats
    block_variance: Floats
    floor: Floats
    autocorrelation: Floats
    widening: Floats
    skewness: Floats
    margin: Floats
    drawn: Floats
    robust: Floats
    robust_skewness: Floats
    degrees: Floats
    clustered: bool

    def cell(self, index: int) -> Evidence:
        """The evidence of one cell, its fields plain numbers."""
        arrays = {entry.name: getattr(self, entry.name)[index] for entry in fields(self) if entry.name != "clustered"}
        return Evidence(clustered=self.clustered, **arrays)

    def at(self, index: int) -> Evidence:
        """The evidence of one cell, its fields arrays of one."""
        names = [entry.name for entry in fields(self) if entry.name != "clustered"]
        return Evidence(clustered=self.clustered, **{name: getattr(self, name)[[index]] for name in names})

    def capped(self, most_correlation: float) -> Evidence:
        """The same with a smaller cap on r, and with it on the widening."""
        r = np.minimum(self.autocorrelation, most_correlation)
        widening = (1.0 + r) / (1.0 - r)
        variance = np.maximum(widening * self.block_variance, self.floor)
        return replace(self, autocorrelation=r, widening=widening, variance=variance)

    def padded(self, cells: int) -> Evidence:
        """The same with so many cells more at the end, which have no evidence."""
        rest = evidence_of(np.zeros((cells, 1, 4)), margin=np.zeros(cells), clustered=False, most_correlation=0.0)
        names = [entry.name for entry in fields(self) if entry.name != "clustered"]
        joined = {name: np.concatenate([getattr(self, name), getattr(rest, name)]) for name in names}
        return Evidence(clustered=self.clustered, **joined)

    def lacking(self, index: int) -> str | None:
        """Why that cell has no evidence yet; None where it has."""
        if self.there[index]:
            return None
        n = int(self.n_blocks[index])
        if not n:
            return "no block with evidence is closed yet"
        if self.clustered and n < FEWEST_BLOCKS:
            return f"{n} of at least {FEWEST_BLOCKS} blocks are closed"
        return "every score is zero: the outcomes do not vary, so there is no noise to compare an effect with"

    @property
    def effect(self) -> Floats:
        return self.score / self.information

    @property
    def n_effective(self) -> Floats:
        """Independent blocks of equal information that the variance is worth."""
        return np.maximum(2.0, self.n_equal / self.widening)

    @property
    def t(self) -> Floats:
        """T = (S + margin·I) / √V."""
        return (self.score + self.margin * self.information) / np.sqrt(self.variance)

    @property
    def z_win(self) -> Floats:
        """Evidence for effect > −margin, on the normal scale."""
        return self._z(1.0)

    @property
    def z_harm(self) -> Floats:
        """Evidence for effect < −margin, on the normal scale (positive is harm)."""
        return self._z(-1.0)

    @property
    def z(self) -> Floats:
        """The decision's statistic with the effect's sign."""
        return np.where(self.t >= 0.0, self.z_win, -self.z_harm)

    def lower(self, bound: Floats) -> Floats:
        """The effect at which the win side's z is this bound (≥ 0): those below are ruled out. May be −inf."""
        return self.effect - self._reach(bound, 1.0) * np.sqrt(self.variance) / self.information

    def upper(self, bound: Floats) -> Floats:
        """The effect at which the harm side's z is this bound (≥ 0): those above are ruled out. May be inf."""
        return self.effect + self._reach(bound, -1.0) * np.sqrt(self.variance) / self.information

    @property
    def _plain(self) -> Floats:
        """T times this is T with the plain standard deviation (divisor n, not widened): what skewness distorts."""
        n = np.maximum(self.n_blocks, 2.0)
        return np.sqrt(self.widening * n / (n - 1.0))

    def _z(self, sign: float) -> Floats:
        t, skewness = sign * self.t, sign * self.skewness
        if not self.clustered:
            drawn = _cornish_fisher_inverse(t * np.sqrt(self.variance / self.drawn), skewness)
            asked = self.robust > 0.0
            own = t * np.sqrt(self.variance / np.where(asked, self.robust, self.variance))
            robust = _t_to_z(_hall(own, sign * self.robust_skewness), self.degrees)
            return np.where(asked, np.minimum(drawn, robust), drawn)
        n, plain = self.n_effective, self._plain
        bounded = t * np.sqrt(n / (n - 1.0 + t * t))
        moved = _hall(t * plain, skewness / np.sqrt(np.maximum(self.n_blocks, 1.0))) / plain
        return np.minimum(bounded, _t_to_z(moved, np.maximum(1.0, self.n_equal - 1.0)))

    def _reach(self, bound: Floats, sign: float) -> Floats:
        """The T at which the deciding z equals the bound."""
        skewness = sign * self.skewness
        if not self.clustered:
            drawn = _cornish_fisher(bound, skewness) * np.sqrt(self.drawn / self.variance)
            finite = np.where(np.isfinite(bound), bound, 0.0)
            own = _hall_inverse(_z_to_t(finite, self.degrees), sign * self.robust_skewness)
            return np.maximum(drawn, np.where(self.robust > 0.0, own * np.sqrt(self.robust / self.variance), -np.inf))
        n, plain = self.n_effective, self._plain
        possible = bound * bound < n
        within = np.where(possible, bound, 0.0)
        bounded = within * np.sqrt((n - 1.0) / (n - within * within))
        moved = _z_to_t(within, np.maximum(1.0, self.n_equal - 1.0)) * plain
        reach = np.maximum(bounded, _hall_inverse(moved, skewness / np.sqrt(np.maximum(self.n_blocks, 1.0))) / plain)
        return np.where(possible, reach, np.inf)


def _cornish_fisher(z: Floats, g: Floats) -> Floats:
    """T at the normal score z of a sum with skewness g, to first order (Cornish & Fisher 1938); inf where none is."""
    there = np.isfinite(z)
    finite = np.where(there, z, 0.0)
    there &= 1.0 + g * finite / 3.0 > 0.0
    return np.where(there, finite + g * (finite * finite - 1.0) / 6.0, np.inf)


def _cornish_fisher_inverse(t: Floats, g: Floats) -> Floats:
    """z with _cornish_fisher(z, g) = t. Past the end of the expansion, the z at its end."""
    straight = np.abs(g) < 1e-9
    bend = np.where(straight, 1.0, g)
    root = np.sqrt(np.maximum(1.0 + 2.0 * bend / 3.0 * (t + bend / 6.0), 0.0))
    return np.where(straight, t, 3.0 * (root - 1.0) / bend)


def _hall(t: Floats, g: Floats) -> Floats:
    """The transformation of Hall (1992), "On the removal of skewness by transformation", for a sum of skewness g."""
    return t + g * t * t / 3.0 + g * g * t**3 / 27.0 + g / 6.0


def _hall_inverse(h: Floats, g: Floats) -> Floats:
    """t with _hall(t, g) = h: but for the shift by g/6 it is the cube ((1 + gt/3)³ − 1)/g."""
    u = h - g / 6.0
    straight = np.abs(g) < 1e-9
    bend = np.where(straight, 1.0, g)
    return np.where(straight, u, 3.0 * (np.cbrt(1.0 + bend * u) - 1.0) / bend)


def _t_to_z(t: Floats, degrees: Floats) -> Floats:
    # Tails under 1e-300 are all the same to a decision, and the normal score of nothing is infinite.
    z: Floats = np.copysign(-ndtri(np.maximum(stdtr(degrees, -np.abs(t)), 1e-300)), t)
    return z


def _z_to_t(z: Floats, degrees: Floats) -> Floats:
    t: Floats = np.copysign(-stdtrit(degrees, ndtr(-np.abs(z))), z)
    return t


def evidence(
    blocks: Sequence[Block], *, margin: float = 0.0, clustered: bool = True, most_correlation: float = MOST_CORRELATION
) -> Evidence | NoAnswer:
    """The statistics of one look at one comparison's time-ordered closed blocks, or why there are none.

    `margin` ≥ 0 moves the null to effect = −margin (non-inferiority). With `clustered=False` units are declared
    independent: the variance is the sum of the units', blocks serve only to keep the prediction from the past.
    `most_correlation` caps r and with it the widening.
    """
    if not (math.isfinite(margin) and margin >= 0.0):
        raise StatsError(f"the margin {margin!r} is not a finite number of at least 0")
    rows = rows_of(blocks)
    found = evidence_of(rows[None], margin=np.array([margin]), clustered=clustered, most_correlation=most_correlation)
    lacking = found.lacking(0)
    if lacking is not None:
        champion, challenger = arms_of(blocks)
        return NoAnswer(lacking, champion.n, challenger.n, int(found.n_blocks[0]))
    return found.cell(0)


def rows_of(blocks: Sequence[Block]) -> Floats:
    """The blocks as rows (score, information, unit variance, units), shape (blocks, 4); unscored ones are zero."""
    return np.array([(b.score, b.information, b.variance, b.units) for b in blocks], dtype=np.float64).reshape(-1, 4)


def evidence_of(
    rows: Floats, *, margin: Floats, clustered: bool, most_correlation: float, noise: Noise | None = None
) -> Evidence:
    """`evidence` of many cells at once.

    rows: shape (cells, blocks, 4), in time order, columns as in `rows_of`. A block with information 0 is no block of
    that cell. margin: shape (cells,). noise, for independent units only: what is known of S beside the rows' variance,
    and then in its place.
    """
    scored = rows[:, :, 1] > 0.0
    n = scored.sum(axis=1).astype(np.float64)
    if not scored.all():
        rows = _closed_up(rows, scored)
    s, i = rows[:, :, 0], rows[:, :, 1]
    score, information, units_variance, units = rows.sum(axis=1).T
    there = (n >= (FEWEST_BLOCKS if clustered else 1)) & (units_variance > _LEAST_NOISE)
    n_equal = _ratio(information * information, np.einsum("cb,cb->c", i, i), there)
    zero = np.zeros(len(rows))
    information = np.where(there, information, 1.0)
    if not clustered:
        noise = Noise.plain(units_variance) if noise is None else noise
        units_variance = np.where(there, noise.variance, 1.0)
        spread_of = (units_variance, units_variance, units_variance, zero, zero, zero + 1.0, noise.drawn_skewness)
        drawn = np.where(noise.drawn > 0.0, noise.drawn, units_variance)
        law = (drawn, noise.robust, noise.robust_skewness, noise.degrees)
        return Evidence(there, n, n_equal, score, information, *spread_of, margin, *law, clustered)
    residual = s - _ratio(score, information, there)[:, None] * i
    spread = np.einsum("cb,cb->c", residual, residual)
    noisy = there & (spread > np.maximum(1e-18 * np.einsum("cb,cb->c", s, s), _LEAST_NOISE))
    raw = _ratio(np.einsum("cb,cb->c", residual[:, 1:], residual[:, :-1]) * n, (n - 1.0) * spread, noisy)
    r = np.where(noisy, np.clip(_ratio(n * raw + 1.75, n - 4.0, noisy), 0.0, most_correlation), 0.0)
    widening = (1.0 + r) / (1.0 - r)
    some = np.maximum(n, 1.0)
    skew = _ratio(np.einsum("cb,cb,cb->c", residual, residual, residual) / some, (spread / some) ** 1.5, noisy)
    # Units' variance about the effect itself. Where every unit shows the same difference nothing varies at all; the
    # deviation from no effect then has to serve as noisy.
    independent = units_variance - _ratio(score * score, units, there)
    floor = np.where(independent > 1e-12 * units_variance, independent, 0.0)
    floor = np.where(noisy | (floor > 0.0), floor, _ratio(score * score, n, there))
    floor = np.where(there, floor, 1.0)
    blocks = np.where(noisy, _ratio(spread * n, n - 1.0, there), 0.0)
    spread_of = (np.maximum(widening * blocks, floor), units_variance, blocks, floor, r, widening, skew)
    law = (zero + 1.0, zero, zero, zero + 1.0)
    return Evidence(there, n, n_equal, score, information, *spread_of, margin, *law, clustered)


def _closed_up(rows: Floats, scored: Bools) -> Floats:
    """Each cell's scored blocks moved together to the front, so that neighbours are neighbours."""
    order = np.argsort(~scored, axis=1, kind="stable")
    moved: Floats = np.take_along_axis(np.where(scored[:, :, None], rows, 0.0), order[:, :, None], axis=1)
    return moved


def _ratio(over: Floats, under: Floats, where: Bools) -> Floats:
    """over / under where that makes sense, else 0."""
    return np.divide(over, under, out=np.zeros(len(under)), where=where & (under != 0.0))
