"""Sample-ratio mismatch under a ramp: do the arms' counts fit the probabilities that were logged?

Invariant: the mixture is a martingale of mean 1 whatever the ramp did, because each unit is compared with the
probability in force when it was assigned; so the test holds at every moment at once.

Under mismatch the log odds of assignment are off by ε at every stage: E(ε) = Π (e^{εA} / (1 − π + π e^ε)), and the
evidence is an average of E over ε. Lindon & Malek (2022) assume a constant share; this needs only the logged π.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy.special import logsumexp

from evaluator.stats.refusal import NoAnswer, PropensityError, StatsError

# Shifts of the log odds, from a fifth of a percent to a factor of 55, in steps of 15 %. Equal weights make a fixed
# mixture (so exactly a martingale, with no quadrature error); steps that narrow cost under 1 % of its logarithm.
_MAGNITUDES: Final = 0.002 * 1.15 ** np.arange(55)
_SHIFTS: Final = np.concatenate([-_MAGNITUDES, _MAGNITUDES])


@dataclass(slots=True)
class AssignmentCounts:
    """Units by distinct logged π: π → [to the champion, to the challenger]. Mergeable exactly, in any order."""

    counts: dict[float, list[int]] = field(default_factory=dict)

    def add(self, treated: bool, propensity: float, units: int = 1) -> None:
        """Count assigned units (at assignment, not at outcome). Raises PropensityError on π outside (0, 1)."""
        if not 0.0 < propensity < 1.0:
            raise PropensityError(f"propensity {propensity!r} does not lie strictly between 0 and 1")
        if units < 0:
            raise StatsError(f"{units!r} units can't be counted")
        self.counts.setdefault(propensity, [0, 0])[bool(treated)] += units

    def merge(self, other: AssignmentCounts) -> AssignmentCounts:
        """Both counts together, as a new object."""
        merged = AssignmentCounts({share: list(pair) for share, pair in self.counts.items()})
        for share, pair in other.counts.items():
            merged.add(False, share, pair[0])
            merged.add(True, share, pair[1])
        return merged

    def to_list(self) -> list[list[float]]:
        """[[π, champion, challenger], …] in order of π."""
        return [[share, *self.counts[share]] for share in sorted(self.counts)]

    @classmethod
    def from_list(cls, rows: Sequence[Sequence[float]]) -> AssignmentCounts:
        counts = cls()
        for share, champion, challenger in rows:
            counts.add(False, share, int(champion))
            counts.add(True, share, int(challenger))
        return counts


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """p_value: always valid, the smallest so far. observed, expected: units of the challenger. fixed_p: one look, z
    test."""

    p_value: float
    mismatch: bool
    observed: int
    expected: float
    units: int
    fixed_p: float
    reason: str


def log_evidence(counts: Mapping[float, Sequence[int]]) -> float:
    """log of the mixture of E(ε) over the shifts; its expectation is 1 if the logged probabilities are true."""
    shares = np.array(list(counts), dtype=np.float64)
    pairs = np.array([counts[share] for share in counts], dtype=np.float64).reshape(-1, 2)
    growth = np.log1p(shares[:, None] * np.expm1(_SHIFTS))
    logs = pairs[:, 1].sum() * _SHIFTS - pairs.sum(axis=1) @ growth
    return float(logsumexp(logs) - math.log(len(_SHIFTS)))


def sample_ratio(counts: AssignmentCounts, *, smallest_p: float = 1.0, alpha: float = 0.001) -> SampleRatio | NoAnswer:
    """The test at this moment. `smallest_p` is the p_value of the last look (keep it: mismatch once found stays found).

    `alpha` is small because an invalid experiment is thrown away: 1 in 1000 sound ones is, at most, over its whole
    life.
    """
    if not 0.0 < alpha < 1.0:
        raise StatsError(f"the level {alpha!r} does not lie strictly between 0 and 1")
    units = sum(sum(pair) for pair in counts.counts.values())
    if not units:
        return NoAnswer("no unit has been assigned yet")
    observed = sum(pair[1] for pair in counts.counts.values())
    expected = math.fsum(share * sum(pair) for share, pair in counts.counts.items())
    variance = math.fsum(share * (1.0 - share) * sum(pair) for share, pair in counts.counts.items())
    p = min(smallest_p, 1.0, math.exp(-max(0.0, min(700.0, log_evidence(counts.counts)))))
    mismatch = p <= alpha
    verb = "does not fit" if mismatch else "fits"
    reason = f"the challenger got {observed} of {units} units; that {verb} the {expected:.1f} expected (p = {p:.2g})"
    fixed_p = math.erfc(abs(observed - expected) / math.sqrt(2.0 * variance))
    return SampleRatio(p, mismatch, observed, expected, units, fixed_p, reason)
