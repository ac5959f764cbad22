"""The statistic of one look, and how it follows from the variance of independent units.

Two variances of S = Σ (A−π)(Y−m) are known: that over re-randomisations of the arms, and the robust one; which decides
is in docs/statistics.md, "Independent units". Invariant: many cells are computed at once (metrics, segments,
challengers, simulated runs), each by the same formulas and from its own numbers alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Self, TypeVar

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from evaluator.stats.score_process import Bools, Floats

Record = TypeVar("Record")

# Far under the resolution of the sums; only keeps powers of a variance from vanishing.
LEAST_VARIANCE: Final = 1e-150


def combined(function: Callable[..., Any], first: Record, *others: Any) -> Record:
    """The record whose every field is the function of that field in these records."""
    names = [entry.name for entry in fields(first)]  # type: ignore[arg-type]
    return type(first)(**{name: function(*(getattr(each, name) for each in (first, *others))) for name in names})


@dataclass(frozen=True)
class Evidence(ABC):
    """One look's statistics against the null "effect = −margin", for each cell; every field has shape (cells,).

    score, information and effect are S, I and S/I (not shifted by the margin). variance is that of S as the decision
    takes it, unit_variance that of independent units. n_blocks are the scored ones. autocorrelation and widening are
    the lag-1 correlation of blocks and the factor by which it multiplies the variance (0 and 1 for independent units).
    skewness: that of the block residuals, or of S for independent units (negative: rare blocks or units go far worse
    for the challenger). Where `available` is False the other numbers mean nothing, and `lacking` says why.
    """

    available: Bools
    n_blocks: Floats
    score: Floats
    information: Floats
    variance: Floats
    unit_variance: Floats
    autocorrelation: Floats
    widening: Floats
    skewness: Floats
    margin: Floats
    clustered: ClassVar[bool]

    @classmethod
    @abstractmethod
    def from_rows(cls, rows: Floats, *, margin: Floats) -> Self:
        """The statistics of blocks as `rows_of` makes them, shape (cells, blocks, 4); margin of shape (cells,)."""

    @abstractmethod
    def _z(self, sign: float) -> Floats:
        """The deciding score of the win side (sign 1) or the harm side (−1)."""

    @abstractmethod
    def _reach(self, bound: Floats, sign: float) -> Floats:
        """The T at which the deciding score equals the bound."""

    @abstractmethod
    def capped(self, most_correlation: float) -> Self:
        """The same with a smaller cap on the autocorrelation, and with it on the widening."""

    def cell(self, index: int) -> Self:
        """The evidence of one cell, its fields plain numbers."""
        return combined(lambda values: values[index], self)

    def padded(self, cells: int) -> Self:
        """The same with so many cells more at the end, which have no evidence."""
        rest = type(self).from_rows(np.zeros((cells, 1, 4)), margin=np.zeros(cells))
        return combined(lambda *pair: np.concatenate(pair), self, rest)

    def or_else(self, other: Evidence) -> Self:
        """This evidence where it is available, elsewhere the other of the same kind."""
        return combined(lambda mine, theirs: np.where(self.available, mine, theirs), self, other)

    def lacking(self, index: int) -> str | None:
        """Why that cell has no evidence yet; None where it has."""
        if self.available[index]:
            return None
        if not self.n_blocks[index]:
            return "no block with evidence is closed yet"
        return (
            "every score is zero: both arms' outcomes are alike throughout (or differ by less than 1e-150, which is "
            "lost when squared: multiply the column), so there is no noise to compare with"
        )

    @property
    def enough_blocks(self) -> Bools:
        """Cells with as many blocks as this kind of evidence needs, whether or not anything in them varies."""
        return self.n_blocks >= 1.0

    @property
    def effect(self) -> Floats:
        return self.score / self.information

    @property
    def t(self) -> Floats:
        """T = (S + margin·I) / √variance."""
        return (self.score + self.margin * self.information) / np.sqrt(self.variance)

    @property
    def z_win(self) -> Floats:
        """Evidence for effect > −margin, on the normal scale."""
        return self._z(1.0)

    @property
    def z_harm(self) -> Floats:
        """Evidence for effect < −margin, on the normal scale (positive is harm)."""
        return self._z(-1.0)

    def lower(self, bound: Floats) -> Floats:
        """The effect at which the win side's z is this bound (≥ 0): those below are ruled out. May be −inf."""
        return self.effect - self._reach(bound, 1.0) * np.sqrt(self.variance) / self.information

    def upper(self, bound: Floats) -> Floats:
        """The effect at which the harm side's z is this bound (≥ 0): those above are ruled out. May be inf."""
        return self.effect + self._reach(bound, -1.0) * np.sqrt(self.variance) / self.information


@dataclass(frozen=True)
class ScoreMoments:
    """Variances and skewness of S for independent units, arrays of one shape (cells,).

    randomisation and robust: V and R (R 0: not asked), each with the skewness of S that goes with it, above 0 where S
    is long towards a better challenger. degrees: units of the smaller arm, less one.
    """

    randomisation: Floats
    randomisation_skewness: Floats
    robust: Floats
    robust_skewness: Floats
    degrees: Floats

    @classmethod
    def from_sums(
        cls,
        robust: Floats,
        randomisation: Floats,
        robust_third: Floats,
        randomisation_third: Floats,
        binary: Bools,
        smaller: Floats,
    ) -> ScoreMoments:
        """The moments from the sums of `MomentSums` and the units of the smaller arm."""
        asked = np.where(binary, 0.0, robust)
        return cls(
            randomisation,
            ratio(randomisation_third, randomisation**1.5),
            asked,
            np.where(asked > 0.0, ratio(robust_third, robust**1.5), 0.0),
            np.maximum(smaller - 1.0, 1.0),
        )

    @classmethod
    def from_variance(cls, variance: Floats) -> ScoreMoments:
        """A variance and nothing else: pairs, clusters, or units about which no more is known."""
        zero = np.zeros(len(variance))
        return cls(variance, zero, zero, zero, zero + 1.0)

    def with_variance(self, variance: Floats, where: Bools) -> ScoreMoments:
        """`from_variance` in some cells, this elsewhere."""
        other = ScoreMoments.from_variance(variance)
        return combined(lambda mine, theirs: np.where(where, theirs, mine), self, other)

    @property
    def variance(self) -> Floats:
        """The larger one, to show and to plan with."""
        return np.maximum(self.randomisation, self.robust)


@dataclass(slots=True)
class MomentSums:
    """Running sums of V, R and their third cumulants over batches of independent units."""

    robust: float = 0.0
    randomisation: float = 0.0
    robust_third: float = 0.0
    randomisation_third: float = 0.0
    binary: bool = True

    def add(self, treated: Bools, propensity: Floats, residual: Floats, binary: bool) -> None:
        """Units with arm, π and r = Y−m, arrays of shape (n,); binary: their Y are all 0 and 1, or 0 and −1."""
        score, square, w = (treated - propensity) * residual, residual * residual, propensity * (1.0 - propensity)
        self.robust += float((score * score).sum())
        self.randomisation += float((w * square).sum())
        self.robust_third += float((score * score * score).sum())
        self.randomisation_third += float((w * (1.0 - 2.0 * propensity) * square * residual).sum())
        self.binary = self.binary and binary


@dataclass(frozen=True)
class IndependentEvidence(Evidence):
    """Evidence of independent units: the smaller of two scores decides.

    S/√V with its skewness removed by a Cornish-Fisher expansion; and, unless outcomes are binary, S/√R through Hall's
    transformation and t with the degrees of freedom of the smaller arm. Limits invert both exactly.
    """

    randomisation: Floats
    robust: Floats
    robust_skewness: Floats
    degrees: Floats
    clustered: ClassVar[bool] = False

    @classmethod
    def from_rows(cls, rows: Floats, *, margin: Floats, moments: ScoreMoments | None = None) -> Self:
        """`moments`, where given, take the place of the rows' variance."""
        score, information, variance, _ = rows.sum(axis=1).T
        n_blocks = (rows[:, :, 1] > 0.0).sum(axis=1).astype(np.float64)
        available = (n_blocks >= 1) & (variance > LEAST_VARIANCE)
        moments = ScoreMoments.from_variance(variance) if moments is None else moments
        variance, zero = np.where(available, moments.variance, 1.0), np.zeros(len(rows))
        return cls(
            available=available,
            n_blocks=n_blocks,
            score=score,
            information=np.where(information > 0.0, information, 1.0),
            variance=variance,
            unit_variance=variance,
            autocorrelation=zero,
            widening=zero + 1.0,
            skewness=moments.randomisation_skewness,
            margin=margin,
            randomisation=np.where(moments.randomisation > 0.0, moments.randomisation, variance),
            robust=moments.robust,
            robust_skewness=moments.robust_skewness,
            degrees=moments.degrees,
        )

    def capped(self, most_correlation: float) -> Self:
        return self

    def _z(self, sign: float) -> Floats:
        t = sign * self.t
        randomised = _cornish_fisher_inverse(t * np.sqrt(self.variance / self.randomisation), sign * self.skewness)
        asked = self.robust > 0.0
        own = t * np.sqrt(self.variance / np.where(asked, self.robust, self.variance))
        robust = t_to_z(hall(own, sign * self.robust_skewness), self.degrees)
        return np.where(asked, np.minimum(randomised, robust), randomised)

    def _reach(self, bound: Floats, sign: float) -> Floats:
        randomised = _cornish_fisher(bound, sign * self.skewness) * np.sqrt(self.randomisation / self.variance)
        finite = np.where(np.isfinite(bound), bound, 0.0)
        own = hall_inverse(z_to_t(finite, self.degrees), sign * self.robust_skewness)
        asked = self.robust > 0.0
        robust = np.where(asked, np.where(asked, own, 0.0) * np.sqrt(self.robust / self.variance), -np.inf)
        return np.maximum(randomised, robust)


def ratio(over: Floats, under: Floats, where: Bools | bool = True) -> Floats:
    """over / under where that is defined, else 0."""
    return np.divide(over, under, out=np.zeros(len(under)), where=where & (under != 0.0))


def _cornish_fisher(z: Floats, g: Floats) -> Floats:
    """T at the normal score z of a sum with skewness g, to first order (Cornish & Fisher 1938); inf where none is."""
    possible = np.isfinite(z)
    finite = np.where(possible, z, 0.0)
    possible &= 1.0 + g * finite / 3.0 > 0.0
    return np.where(possible, finite + g * (finite * finite - 1.0) / 6.0, np.inf)


def _cornish_fisher_inverse(t: Floats, g: Floats) -> Floats:
    """z with _cornish_fisher(z, g) = t. Past the end of the expansion, the z at its end."""
    straight = np.abs(g) < 1e-9
    bend = np.where(straight, 1.0, g)
    root = np.sqrt(np.maximum(1.0 + 2.0 * bend / 3.0 * (t + bend / 6.0), 0.0))
    return np.where(straight, t, 3.0 * (root - 1.0) / bend)


def hall(t: Floats, g: Floats) -> Floats:
    """The transformation of Hall (1992), "On the removal of skewness by transformation", for a sum of skewness g."""
    return t + g * t * t / 3.0 + g * g * t**3 / 27.0 + g / 6.0


def hall_inverse(h: Floats, g: Floats) -> Floats:
    """t with hall(t, g) = h: but for the shift by g/6 it is the cube ((1 + gt/3)³ − 1)/g."""
    u = h - g / 6.0
    straight = np.abs(g) < 1e-9
    bend = np.where(straight, 1.0, g)
    return np.where(straight, u, 3.0 * (np.cbrt(1.0 + bend * u) - 1.0) / bend)


def t_to_z(t: Floats, degrees: Floats) -> Floats:
    """The normal score with the tail probability of t."""
    # Tails under 1e-300 are all the same to a decision, and the normal score of nothing is infinite.
    z: Floats = np.copysign(-ndtri(np.maximum(stdtr(degrees, -np.abs(t)), 1e-300)), t)
    return z


def z_to_t(z: Floats, degrees: Floats) -> Floats:
    t: Floats = np.copysign(-stdtrit(degrees, ndtr(-np.abs(z))), z)
    return t
