"""Evidence at several scales: block sums of several lengths (batch means), of which the weakest decides.

Sums over hours show soon what independent requests show. Sums over days also hold what hours have in common: weather,
a campaign, a daily cycle. At each scale the score S of all blocks so far is studentised by the blocks of that scale:

    V = max(V_units, V_blocks) + (f - 1) max(0, V_blocks - V_units),      T = S / sqrt(V)

V_blocks is the centred sum of squares of the blocks, scaled to all information so far. f = (1+r)/(1-r) widens what
blocks vary beyond their units by the lag-1 correlation r of neighbouring blocks (see `cluster_robust`). T has Student's
law with as many degrees as blocks of equal information, less one, so that a large effect is shown by few blocks.
Hall's (1992) transformation removes the skewness of the blocks; the smaller score decides. For independent requests
V_blocks is near V_units, and the longer scales cost little beyond the quantiles of their law.

A few days can't show how days are correlated. Where they vary more than their requests explain, neighbouring days are
taken as correlated by at least `PRIOR_CORRELATION` until there are `PRIOR_BLOCKS` of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Final, Self

import numpy as np

from evaluator.stats.cluster_robust import FEWEST_BLOCKS, ClusteredEvidence
from evaluator.stats.evidence import Evidence, hall, hall_inverse, ratio, t_to_z, z_to_t
from evaluator.stats.score_process import Floats

PRIOR_CORRELATION: Final = 0.5
PRIOR_BLOCKS: Final = 20


@dataclass(frozen=True, slots=True)
class Scale:
    """A length of blocks. least: blocks from which this scale has a say. required: there is no evidence before that.
    prior: few blocks are taken as correlated by at least `PRIOR_CORRELATION`."""

    least: int
    required: bool = False
    prior: bool = False


# Hours, quarters of a day and days where the cycle is a day. A win waits for five whole cycles: how much days differ
# can't be known sooner. Harm is judged from the first hours on; a false rollback costs a retry, a missed harm users.
WIN_SCALES: Final = (Scale(6), Scale(8), Scale(5, required=True, prior=True))
HARM_SCALES: Final = (Scale(6, required=True), Scale(12), Scale(7, prior=True))


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
    def at_scale(cls, finest: Floats, rows: Floats, *, margin: Floats, scale: Scale) -> Self:
        """All that is known (`finest`), judged by the variance of these blocks, which may end before the finest ones.

        Both as `rows_of` makes them, shape (cells, blocks, 4).
        """
        blocks = ClusteredEvidence.from_rows(rows, margin=margin)
        score, information, unit_variance, units = finest.sum(axis=1).T
        available = blocks.available & (blocks.n_blocks >= scale.least)
        information = np.where(available, information, 1.0)
        grown = ratio(information, blocks.information, available)
        independent = unit_variance - ratio(score * score, units, available)
        independent = np.where(independent > 1e-12 * unit_variance, independent, blocks.floor * grown)
        independent = np.where(available, independent, 1.0)
        spread = blocks.block_variance * grown
        r = blocks.autocorrelation
        if scale.prior:
            r = np.where(blocks.n_blocks < PRIOR_BLOCKS, np.maximum(r, PRIOR_CORRELATION), r)
        beyond = ((1.0 + r) / (1.0 - r) - 1.0) * np.maximum(spread - independent, 0.0)
        variance = np.maximum(independent, spread) + beyond
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
            missing=np.maximum(scale.least - blocks.n_blocks, 0.0) if scale.required else np.zeros(len(rows)),
        )

    def capped(self, most_correlation: float) -> Self:
        return self

    def lacking(self, index: int) -> str | None:
        if not self.available[index] and self.missing[index]:
            return f"{self.missing[index]:.0f} more whole blocks of the longest scale have to close"
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


def weakest(scales: Sequence[Scale], rows: Sequence[Floats], *, margin: Floats, sign: float) -> StudentisedEvidence:
    """The evidence of the scale that says least for one direction (sign 1: better, -1: worse), cell by cell.

    rows: the blocks of each scale, the finest first, as in `StudentisedEvidence.at_scale`.
    """
    found = [
        StudentisedEvidence.at_scale(rows[0], blocks, margin=margin, scale=scale)
        for scale, blocks in zip(scales, rows, strict=True)
    ]
    scores = [np.where(each.available, each.z_win if sign > 0.0 else each.z_harm, np.inf) for each in found]
    chosen = np.argmin(scores, axis=0)
    names = [entry.name for entry in fields(StudentisedEvidence)]
    picked = {name: np.choose(chosen, [getattr(each, name) for each in found]) for name in names}
    missing: Floats = np.max([each.missing for each in found], axis=0)
    available = picked.pop("available").astype(np.bool_) & (missing == 0.0)
    return StudentisedEvidence(**{**picked, "available": available, "missing": missing})
