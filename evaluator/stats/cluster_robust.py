"""Cluster-robust evidence: the statistic of blocks (days, storms, customers) whose units err together.

Scores are summed within blocks and the variance is built from the blocks (Liang & Zeger 1986), with four safeguards
against few, skewed and correlated blocks (docs/statistics.md, "Clusters"). Invariant: both scores of a side are
functions of T alone, so limits invert the deciding one exactly.

Evidence at several scales has block sums of several lengths (batch means), of which the weakest decides. Sums over
hours show soon what independent requests show. Sums over days also hold what hours have in common: weather, a campaign,
a daily cycle. At each scale the score S of all blocks so far is studentised by the blocks of that scale:

    V = max(V_units, V_blocks) + (f - 1) max(0, V_blocks - V_units),      T = S / sqrt(V)

V_blocks is the centred sum of squares of the blocks, scaled to all information so far. f = (1+r)/(1-r) widens what
blocks vary beyond their units by the lag-1 correlation r of neighbouring blocks. T has Student's law with as many
degrees as blocks of equal information, less one, so that a large effect is shown by few blocks. Hall's (1992)
transformation removes the skewness of the blocks; the smaller score decides. For independent requests V_blocks is near
V_units, and the longer scales cost little beyond the quantiles of their law.

Requests are noise between neighbouring blocks, so r understates how long what lies beyond them lasts. Where hours stand
alone, as for harm in the first week, r is that of the excess: the lag-1 covariance over V_blocks - V_units, which makes
V the long-run variance of noise plus a process AR(1); at least `PRIOR_CORRELATION`, as few blocks know it badly. The
days of a win measure that themselves.

One day can't show that days differ, so harm waits until two count alike. Where the first few differ by more than their
requests explain, it is judged by them, too, with Student's law of so few. Days that happen to agree can't be told from
days that don't differ. So while there are too few to be judged by, V is at least that of requests of which those of one
day have an intraclass correlation rho in common, at least `LEAST_INTRACLASS` or what was seen before (`intraclass`):
V_units (1 + rho Σ n_i n_j r^|i-j| / n), with n_i requests on day i. Beyond that the level holds for the days seen.

A few days can't show how days are correlated. Where they vary more than their requests explain, neighbouring days are
taken as correlated by at least `PRIOR_CORRELATION` until there are `PRIOR_BLOCKS` of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Final, Self

import numpy as np
from scipy.special import chdtrc

from evaluator.stats.evidence import (
    LEAST_VARIANCE,
    Evidence,
    IndependentEvidence,
    ScoreMoments,
    hall,
    hall_inverse,
    ratio,
    t_to_z,
    z_to_t,
)
from evaluator.stats.score_process import Block, Bools, Floats

# A higher correlation than this would ask for more than twelve times the evidence; blocks are then simply too short.
MOST_CORRELATION: Final = 0.85
# Below this many blocks the correlation can't be estimated, and no block statistic is given.
FEWEST_BLOCKS: Final = 5


@dataclass(frozen=True)
class ClusteredEvidence(Evidence):
    """Evidence of correlated blocks.

    n_equal = I² / Σ i², the number of blocks of equal information. variance is block_variance, which takes blocks as
    independent, times the widening, but not less than floor, the units' variance about the effect.
    """

    n_equal: Floats
    block_variance: Floats
    floor: Floats
    clustered: ClassVar[bool] = True

    @classmethod
    def from_rows(
        cls, rows: Floats, *, margin: Floats, most_correlation: float = MOST_CORRELATION, fewest: int = FEWEST_BLOCKS
    ) -> Self:
        """`most_correlation` caps r, and with it the widening; of less than `FEWEST_BLOCKS` blocks it is 0."""
        scored = rows[:, :, 1] > 0.0
        n = scored.sum(axis=1).astype(np.float64)
        if not scored.all():
            rows = _closed_up(rows, scored)
        s, i = rows[:, :, 0], rows[:, :, 1]
        score, information, units_variance, units = rows.sum(axis=1).T
        available = (n >= fewest) & (units_variance > LEAST_VARIANCE)
        residual = s - ratio(score, information, available)[:, None] * i
        spread = np.einsum("cb,cb->c", residual, residual)
        noisy = available & (spread > np.maximum(1e-18 * np.einsum("cb,cb->c", s, s), LEAST_VARIANCE))
        many = noisy & (n >= FEWEST_BLOCKS)
        r = np.where(many, _autocorrelation(residual, spread, n, many, most_correlation), 0.0)
        widening = (1.0 + r) / (1.0 - r)
        some = np.maximum(n, 1.0)
        third = np.einsum("cb,cb,cb->c", residual, residual, residual)
        floor = np.where(available, _floor(score, units_variance, units, n, available, noisy), 1.0)
        block_variance = np.where(noisy, ratio(spread * n, n - 1.0, available), 0.0)
        return cls(
            available=available,
            n_blocks=n,
            score=score,
            information=np.where(information > 0.0, information, 1.0),
            variance=np.maximum(widening * block_variance, floor),
            unit_variance=np.where(available, units_variance, 1.0),
            autocorrelation=r,
            widening=widening,
            skewness=ratio(third / some, (spread / some) ** 1.5, noisy),
            margin=margin,
            n_equal=ratio(information * information, np.einsum("cb,cb->c", i, i), available),
            block_variance=block_variance,
            floor=floor,
        )

    def capped(self, most_correlation: float) -> Self:
        r = np.minimum(self.autocorrelation, most_correlation)
        widening = (1.0 + r) / (1.0 - r)
        variance = np.maximum(widening * self.block_variance, self.floor)
        return replace(self, autocorrelation=r, widening=widening, variance=variance)

    def lacking(self, index: int) -> str | None:
        n = int(self.n_blocks[index])
        if 0 < n < FEWEST_BLOCKS:
            return f"{n} of at least {FEWEST_BLOCKS} blocks are closed"
        return super().lacking(index)

    @property
    def enough_blocks(self) -> Bools:
        return self.n_blocks >= FEWEST_BLOCKS

    @property
    def n_effective(self) -> Floats:
        """Independent blocks of equal information that the variance is worth."""
        return np.maximum(2.0, self.n_equal / self.widening)

    def _z(self, sign: float) -> Floats:
        t, n, plain = sign * self.t, self.n_effective, self._unwidened
        bounded = t * np.sqrt(n / (n - 1.0 + t * t))
        unskewed = hall(t * plain, sign * self.skewness / np.sqrt(np.maximum(self.n_blocks, 1.0))) / plain
        return np.minimum(bounded, t_to_z(unskewed, np.maximum(1.0, self.n_equal - 1.0)))

    def _reach(self, bound: Floats, sign: float) -> Floats:
        n, plain = self.n_effective, self._unwidened
        possible = bound * bound < n
        within = np.where(possible, bound, 0.0)
        bounded = within * np.sqrt((n - 1.0) / (n - within * within))
        unskewed = z_to_t(within, np.maximum(1.0, self.n_equal - 1.0)) * plain
        g = sign * self.skewness / np.sqrt(np.maximum(self.n_blocks, 1.0))
        return np.where(possible, np.maximum(bounded, hall_inverse(unskewed, g) / plain), np.inf)

    @property
    def _unwidened(self) -> Floats:
        """T times this is T with the plain standard deviation (divisor n, not widened): what skewness distorts."""
        n = np.maximum(self.n_blocks, 2.0)
        return np.sqrt(self.widening * n / (n - 1.0))


def _autocorrelation(residual: Floats, spread: Floats, n: Floats, noisy: Bools, most: float) -> Floats:
    """The lag-1 correlation of the block residuals, corrected for its bias and clipped to [0, most]."""
    raw = ratio(np.einsum("cb,cb->c", residual[:, 1:], residual[:, :-1]) * n, (n - 1.0) * spread, noisy)
    return np.clip(ratio(n * raw + 1.75, n - 4.0, noisy), 0.0, most)


def _floor(score: Floats, variance: Floats, units: Floats, n: Floats, available: Bools, noisy: Bools) -> Floats:
    """Units' variance about the effect itself.

    Where every unit shows the same difference nothing varies at all; the deviation from no effect then has to serve.
    """
    independent = variance - ratio(score * score, units, available)
    floor = np.where(independent > 1e-12 * variance, independent, 0.0)
    return np.where(noisy | (floor > 0.0), floor, ratio(score * score, n, available))


def _closed_up(rows: Floats, scored: Bools) -> Floats:
    """Each cell's scored blocks moved together to the front, so that neighbours are neighbours."""
    order = np.argsort(~scored, axis=1, kind="stable")
    front: Floats = np.take_along_axis(np.where(scored[:, :, None], rows, 0.0), order[:, :, None], axis=1)
    return front


def rows_of(blocks: Sequence[Block]) -> Floats:
    """The blocks as rows (score, information, unit variance, units), shape (blocks, 4); unscored ones are zero."""
    return np.array([(b.score, b.information, b.variance, b.units) for b in blocks], dtype=np.float64).reshape(-1, 4)


def evidence_of(
    rows: Floats, *, margin: Floats, clustered: bool, most_correlation: float, moments: ScoreMoments | None = None
) -> Evidence:
    """The statistics of many cells at one look.

    rows: shape (cells, blocks, 4), in time order, columns as in `rows_of`. A block with information 0 is not a block of
    that cell. margin: shape (cells,). moments, for independent units only: what is known of S beside the rows'
    variance, and then in its place.
    """
    if clustered:
        return ClusteredEvidence.from_rows(rows, margin=margin, most_correlation=most_correlation)
    return IndependentEvidence.from_rows(rows, margin=margin, moments=moments)


# Several scales -----------------------------------------------------------------------------------------------------

PRIOR_CORRELATION: Final = 0.5
PRIOR_BLOCKS: Final = 20
# Blocks differ where their differences are this improbable for independent units.
DIFFERENT: Final = 0.003
# Two blocks count alike from this many of equal information on: of the second half is over.
TWO_ALIKE: Final = 1.8
# Days differ by a hundredth of the requests' spread at the least: more traffic alone is no proof that they don't.
LEAST_INTRACLASS: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Scale:
    """A length of blocks. least: blocks from which this scale has a say. required: there is no evidence before that.
    prior: few blocks are taken as correlated by at least `PRIOR_CORRELATION`. alone: no longer scale need stand behind
    it, so that its correlation must be right: that of what its blocks vary beyond their units. sooner: it has a say
    from the second block on where blocks differ, and there is no evidence before two count alike."""

    least: int
    required: bool = False
    prior: bool = False
    alone: bool = False
    sooner: bool = False

    def missing(self, n: Floats, equal: Floats) -> Floats:
        """Blocks that evidence still waits for, with n of them, which count as so many of equal information."""
        if self.sooner:
            return np.where((equal < TWO_ALIKE) & (n < FEWEST_BLOCKS), 1.0, 0.0)
        return np.maximum(self.least - n, 0.0) if self.required else np.zeros_like(n)


# Hours, quarters of a day and days where the cycle is a day. A win waits for five whole cycles: how much days differ
# can't be known sooner. Harm is judged as soon as two days can be compared, by all that have begun; a false rollback
# costs a retry, a missed harm users.
WIN_SCALES: Final = (Scale(6), Scale(8), Scale(5, required=True, prior=True))
HARM_SCALES: Final = (Scale(6, required=True, alone=True), Scale(12, alone=True), Scale(7, prior=True, sooner=True))


@dataclass(frozen=True)
class StudentisedEvidence(Evidence):
    """Evidence by the blocks of one scale: T with Student's law.

    degrees: of that law. mean_skewness: skewness of the blocks' mean. unwidened: T times this is T with the blocks'
    plain standard error, which skewness distorts. missing: blocks that a required scale still waits for.
    Shape (cells,) each.
    """

    degrees: Floats
    mean_skewness: Floats
    unwidened: Floats
    missing: Floats
    clustered: ClassVar[bool] = True

    @classmethod
    def from_rows(cls, rows: Floats, *, margin: Floats) -> Self:
        return cls.at_scale(rows, rows, margin=margin, scale=Scale(FEWEST_BLOCKS))

    @classmethod
    def at_scale(
        cls, finest: Floats, rows: Floats, *, margin: Floats, scale: Scale, least: Floats | float = 1.0
    ) -> Self:
        """The evidence of all `finest` blocks with the variance of these larger ones, which may end before them.

        Both as `rows_of` makes them, shape (cells, blocks, 4). least: the variance, in that of independent units.
        """
        blocks = ClusteredEvidence.from_rows(rows, margin=margin, fewest=2 if scale.sooner else FEWEST_BLOCKS)
        score, information, unit_variance, units = finest.sum(axis=1).T
        available = blocks.available & ((blocks.n_blocks >= scale.least) | (scale.sooner and _differ(rows, blocks)))
        information = np.where(information > 0.0, information, 1.0)
        grown = ratio(information, blocks.information, available)
        independent = unit_variance - ratio(score * score, units, available)
        independent = np.where(independent > 1e-12 * unit_variance, independent, blocks.floor * grown)
        independent = np.where(available, independent, 1.0)
        spread = blocks.block_variance * grown
        excess = np.maximum(spread - independent, 0.0)
        r = blocks.autocorrelation
        if scale.alone:
            r = np.clip(r * ratio(spread, excess, excess > 0.0), PRIOR_CORRELATION, MOST_CORRELATION)
        if scale.prior:
            r = np.where(blocks.n_blocks < PRIOR_BLOCKS, np.maximum(r, PRIOR_CORRELATION), r)
        beyond = ((1.0 + r) / (1.0 - r) - 1.0) * excess
        variance = np.maximum(np.maximum(independent, spread) + beyond, least * independent)
        n = np.maximum(blocks.n_blocks, 2.0)
        plain = np.where(spread > 0.0, spread * (n - 1.0) / n, variance)
        return cls(
            available=available,
            n_blocks=blocks.n_blocks,
            score=score,
            information=information,
            variance=variance,
            unit_variance=np.where(available, unit_variance, 1.0),
            autocorrelation=r,
            widening=np.where(independent > 0.0, variance / np.where(independent > 0.0, independent, 1.0), 1.0),
            skewness=blocks.skewness,
            margin=margin,
            degrees=np.maximum(1.0, blocks.n_equal - 1.0),
            mean_skewness=blocks.skewness / np.sqrt(n),
            unwidened=np.sqrt(variance / plain),
            missing=scale.missing(blocks.n_blocks, ratio(blocks.information**2, (rows[:, :, 1] ** 2).sum(axis=1))),
        )

    def capped(self, most_correlation: float) -> Self:
        return self

    @property
    def enough_blocks(self) -> Bools:
        enough: Bools = super().enough_blocks & (self.missing == 0.0)
        return enough

    def lacking(self, index: int) -> str | None:
        if not self.available[index] and self.missing[index]:
            more = int(self.missing[index])
            blocks, have = ("blocks", "have") if more > 1 else ("block", "has")
            return f"{more} more whole {blocks} of the longest scale {have} to close"
        return super().lacking(index)

    def _z(self, sign: float) -> Floats:
        t = sign * self.t
        unskewed = hall(t * self.unwidened, sign * self.mean_skewness) / self.unwidened
        return t_to_z(np.minimum(t, unskewed), self.degrees)

    def _reach(self, bound: Floats, sign: float) -> Floats:
        possible = np.isfinite(bound)
        t = z_to_t(np.where(possible, bound, 0.0), self.degrees)
        unskewed = hall_inverse(t * self.unwidened, sign * self.mean_skewness) / self.unwidened
        return np.where(possible, np.maximum(t, unskewed), np.inf)


def _differ(rows: Floats, blocks: ClusteredEvidence) -> Bools:
    """Cells whose blocks differ by more than independent units explain: the chi-square test of equal means."""
    s, i = rows[:, :, 0], rows[:, :, 1]
    squares = (s - blocks.effect[:, None] * i) ** 2
    each = np.divide(squares, i, out=np.zeros_like(i), where=i > 0.0)
    beyond = each.sum(axis=1) * ratio(blocks.information, blocks.floor, blocks.available)
    differ: Bools = chdtrc(np.maximum(blocks.n_blocks - 1.0, 1.0), beyond) < DIFFERENT
    return differ


def _design_effect(days: Floats, intraclass: Floats | float) -> Floats:
    """The variance of all units so far in that of independent ones, where those of a day have this correlation; days as
    `rows_of` makes them, neighbouring ones correlated by `PRIOR_CORRELATION`."""
    i, at = days[:, :, 1], np.arange(days.shape[1])
    together = np.einsum("ci,ij,cj->c", i, PRIOR_CORRELATION ** np.abs(at[:, None] - at), i)
    total = i.sum(axis=1)
    effect: Floats = 1.0 + intraclass * ratio(together, total, total > 0.0)
    return effect


def weakest(
    scales: Sequence[Scale],
    rows: Sequence[Floats],
    *,
    margin: Floats,
    sign: float,
    intraclass: Floats | float = LEAST_INTRACLASS,
) -> StudentisedEvidence:
    """The evidence of the scale that says least for one direction (sign 1: better, -1: worse), cell by cell.

    rows: the blocks of each scale, the finest first, as in `StudentisedEvidence.at_scale`. intraclass: the correlation
    of the units of one longest block, for scales that stand alone while these are too few to be judged by.
    """
    few = (rows[-1][:, :, 1] > 0.0).sum(axis=1) < scales[-1].least
    least = np.where(few, _design_effect(rows[-1], intraclass), 1.0) if few.any() else 1.0
    found = [
        StudentisedEvidence.at_scale(rows[0], blocks, margin=margin, scale=scale, least=least if scale.alone else 1.0)
        for scale, blocks in zip(scales, rows, strict=True)
    ]
    scores = [np.where(each.available, each.z_win if sign > 0.0 else each.z_harm, np.inf) for each in found]
    chosen = np.argmin(scores, axis=0)
    names = [entry.name for entry in fields(StudentisedEvidence)]
    picked = {name: np.choose(chosen, [getattr(each, name) for each in found]) for name in names}
    missing: Floats = np.max([each.missing for each in found], axis=0)
    available = picked.pop("available").astype(np.bool_) & (missing == 0.0)
    return StudentisedEvidence(**{**picked, "available": available, "missing": missing})
