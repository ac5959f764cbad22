"""Sample-ratio mismatch (SRM) under a ramp: do the arms' counts fit the probabilities that were logged?

Under mismatch the log odds of assignment are off by ε at every stage: E(ε) = Π (e^{εA} / (1 − π + π e^ε)), and the
evidence is the mean of E over ε. Lindon & Malek (2022) assume a constant share; this needs only the logged π.

Invariant: the evidence is a martingale of mean 1 whatever the ramp did, because each unit is compared with the
probability in force when it was assigned. So the test is always valid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from scipy.special import logsumexp

from evaluator.stats.always_valid import evidence_p
from evaluator.stats.errors import NoAnswer, PropensityError, StatsError, require_between
from evaluator.stats.score_process import Bools, Floats

# Shifts of the log odds, from a fifth of a percent to a factor of 55, in steps of 15 %. Equal weights make a fixed
# mixture, exactly a martingale; narrower steps gain under 1 % of its logarithm.
_MAGNITUDES: Final = 0.002 * 1.15 ** np.arange(55)
_SHIFTS: Final = np.concatenate([-_MAGNITUDES, _MAGNITUDES])
# Distinct propensities at a time: their growth under every shift stays in the cache.
_ROWS: Final = 2**12


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
    """p_value: always valid, the smallest so far. observed, expected: units of the challenger. fixed_p: z test of one
    look."""

    p_value: float
    mismatch: bool
    observed: int
    expected: float
    units: int
    fixed_p: float
    reason: str


class RatioEvidence:
    """The evidence so far: log E(ε) of every shift, and the challenger's observed and expected units."""

    def __init__(self) -> None:
        self._logs = np.zeros(len(_SHIFTS))
        self._variance = 0.0
        self.units = 0
        self.observed = 0
        self.expected = 0.0

    @classmethod
    def from_counts(cls, counts: AssignmentCounts) -> Self:
        evidence = cls()
        shares = np.array(list(counts.counts), dtype=np.float64)
        pairs = np.array(list(counts.counts.values()), dtype=np.float64).reshape(-1, 2)
        evidence._add(shares, pairs.sum(axis=1), int(pairs[:, 1].sum()))
        return evidence

    def add(self, treated: Bools, propensity: Floats) -> None:
        """Count assigned units, arrays of shape (n,). Raises PropensityError on π outside (0, 1)."""
        shares, times = np.unique(propensity, return_counts=True)
        if len(shares) and not (shares[0] > 0.0 and shares[-1] < 1.0):
            raise PropensityError(f"a propensity in [{shares[0]!r}, {shares[-1]!r}] is not strictly between 0 and 1")
        self._add(shares, times.astype(np.float64), int(treated.sum()))

    def _add(self, shares: Floats, units: Floats, treated: int) -> None:
        for start in range(0, len(shares), _ROWS):
            part = slice(start, start + _ROWS)
            self._logs -= units[part] @ np.log1p(shares[part, None] * np.expm1(_SHIFTS))
        self._logs += treated * _SHIFTS
        self.units += int(units.sum())
        self.observed += treated
        self.expected += float(units @ shares)
        self._variance += float(units @ (shares * (1.0 - shares)))

    @property
    def log_e(self) -> float:
        """log of the mixture of E(ε) over the shifts; E is 1 on average if the logged probabilities are true."""
        return float(logsumexp(self._logs)) - math.log(len(_SHIFTS))

    @property
    def p(self) -> float:
        """1 / E at this moment, at most 1."""
        return evidence_p(self.log_e)

    @property
    def fixed_p(self) -> float:
        """Two-sided p of the count for one look."""
        return math.erfc(abs(self.observed - self.expected) / math.sqrt(2.0 * self._variance)) if self.units else 1.0


def sample_ratio(counts: AssignmentCounts, *, smallest_p: float = 1.0, alpha: float = 0.001) -> SampleRatio | NoAnswer:
    """The test at this moment. `smallest_p` is the p_value of the last look, so that a mismatch once found stays found.

    `alpha` is small because an invalid experiment is thrown away.
    """
    require_between("level", alpha, 0.0, 1.0, StatsError)
    found = RatioEvidence.from_counts(counts)
    if not found.units:
        return NoAnswer("no unit has been assigned yet")
    p = min(smallest_p, found.p)
    mismatch = p <= alpha
    verb = "does not fit" if mismatch else "fits"
    reason = (
        f"the challenger got {found.observed} of {found.units} units; that {verb} the {found.expected:.1f} expected "
        f"(p = {p:.2g})"
    )
    return SampleRatio(p, mismatch, found.observed, found.expected, found.units, found.fixed_p, reason)
