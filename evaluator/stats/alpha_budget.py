"""Level budget: the levels of successive tests, so that all successors of one champion share one error rate.

Invariant: a level is fixed when it is requested, from the number of the test and the results reported before it.

| kind | level of the j-th test, γ_j = j^{−1.6} / ζ(1.6) | promise over the whole lineage, however long |
|---|---|---|
| power | α γ_j | ever one false promotion: at most α (Bonferroni), any dependence |
| geometric | α (1−q) q^{j−1} | the same; q near 1 saves more for later tests |
| lord | γ_j w₀ + (α−w₀) γ_{j−τ₁} + α Σ_{i≥2} γ_{j−τᵢ} | false promotions among promotions: at most α on average |

lord is LORD++ (Ramdas, Yang, Wainwright & Jordan 2017, Section 3), τᵢ the time of the i-th rejection, w₀ = α/2. Its
p values must be valid given the past. A rejection counts for levels requested after its report (Zrnic et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, get_args

from scipy.special import zeta

from evaluator.stats.errors import OrderError, PlanError, require_between

Kind = Literal["power", "geometric", "lord"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

_EXPONENT: Final = 1.6
_TOTAL: Final = float(zeta(_EXPONENT))


@dataclass(frozen=True, slots=True)
class Grant:
    """A level granted to a test. rejected: its result, None until reported. reported_at: levels granted by then."""

    test: str
    level: float
    rejected: bool | None = None
    reported_at: int | None = None


@dataclass(frozen=True, slots=True)
class AlphaBudget:
    """Settings of the budget and all levels granted so far, immutable."""

    alpha: float = 0.05
    kind: Kind = "power"
    ratio: float = 0.8  # q of the geometric kind
    grants: tuple[Grant, ...] = ()

    def __post_init__(self) -> None:
        require_between("budget", self.alpha, 0.0, 1.0)
        if self.kind not in KINDS:
            raise PlanError(f"unknown kind of budget {self.kind!r}; known are {', '.join(KINDS)}")
        require_between("ratio", self.ratio, 0.0, 1.0)

    @property
    def granted(self) -> float:
        """Σ of the levels granted. At most alpha for the kinds that promise it family-wise."""
        return math.fsum(grant.level for grant in self.grants)

    def request(self, test: str) -> tuple[float, AlphaBudget]:
        """The level for that test, requested before it sees data, and the next budget. Repeating changes nothing."""
        for grant in self.grants:
            if grant.test == test:
                return grant.level, self
        level = self._next()
        return level, replace(self, grants=(*self.grants, Grant(test, level)))

    def report(self, test: str, rejected: bool) -> AlphaBudget:
        """The test's result: was its null rejected at its level? Reporting the same again changes nothing.

        Raises OrderError for a test without a level, or one already reported otherwise.
        """
        for position, grant in enumerate(self.grants):
            if grant.test == test:
                if grant.rejected is not None:
                    if grant.rejected is not bool(rejected):
                        raise OrderError(f"test {test!r} was already reported with the other result")
                    return self
                done = replace(grant, rejected=bool(rejected), reported_at=len(self.grants))
                return replace(self, grants=(*self.grants[:position], done, *self.grants[position + 1 :]))
        raise OrderError(f"test {test!r} was given no level, so its result can't be reported")

    def _next(self) -> float:
        j = len(self.grants) + 1
        if self.kind == "power":
            return link_level(self.alpha, j)
        if self.kind == "geometric":
            return self.alpha * (1.0 - self.ratio) * float(self.ratio ** (j - 1))
        times = sorted(grant.reported_at for grant in self.grants if grant.rejected and grant.reported_at is not None)
        wealth = self.alpha / 2.0
        level = _gamma(j) * wealth
        for rank, time in enumerate(times):
            level += _gamma(j - time) * (self.alpha - wealth if rank == 0 else self.alpha)
        return level

    def to_dict(self) -> dict[str, Any]:
        grants = [[grant.test, grant.level, grant.rejected, grant.reported_at] for grant in self.grants]
        return {"alpha": self.alpha, "kind": self.kind, "ratio": self.ratio, "grants": grants}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["alpha"], data["kind"], data["ratio"], tuple(Grant(*grant) for grant in data["grants"]))


def link_level(alpha: float, number: int) -> float:
    """The level of the number-th of ever more tests, counted from 1: those of all together are at most alpha."""
    return alpha * _gamma(number)


def _gamma(j: int) -> float:
    return float(j**-_EXPONENT) / _TOTAL
