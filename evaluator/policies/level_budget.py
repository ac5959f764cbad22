"""The α budget of a lineage: what successive challengers may spend between them, promised before the first one.

Invariant: a level is fixed when it is requested, from the number of the test and the results reported before; it never
depends on the test's own data, and the same id always gets the same level.

| kind | level of the j-th test | promise over the whole lineage, however long |
|---|---|---|
| power | α γ_j | ever one false promotion: at most α (Bonferroni), any dependence |
| geometric | α (1−q) q^{j−1} | the same; q near 1 saves more for later tests |
| lord | γ_j w₀ + (α−w₀) γ_{j−τ₁} + α Σ_{i≥2} γ_{j−τᵢ} | false promotions among promotions: at most α on average |

γ_j = j^{−1.6} / ζ(1.6), which adds to 1: the first challenger gets 44 % of the budget, the tenth still 1.1 %.
(Javanmard & Montanari's (2018) flatter sequence is made for thousands of tests and gives the first one 5 %.)

lord is LORD++ (Ramdas, Yang, Wainwright & Jordan 2017, Section 3), τᵢ the time of the i-th rejection, w₀ = α/2. Every
promotion earns level for those after it, so a lineage that goes on improving does not run dry. It asks that a null's
p value is valid given the past: true if every test has traffic of its own, as successive challengers have. Its promise
is on the false discovery rate: of the promotions made, few are false; not that there is none.

Tests may overlap. A rejection counts for levels requested after it was reported, not before (LORD under asynchrony:
Zrnic, Ramdas & Jordan 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self, get_args

from scipy.special import zeta

from evaluator.stats.errors import OrderError, PlanError

Kind = Literal["power", "geometric", "lord"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

_EXPONENT: Final = 1.6
_TOTAL: Final = float(zeta(_EXPONENT))


@dataclass(frozen=True, slots=True)
class Grant:
    """A level given to a test. rejected: its result, None until reported. reported_at: how many levels had been given
    by then."""

    test: str
    level: float
    rejected: bool | None = None
    reported_at: int | None = None


@dataclass(frozen=True, slots=True)
class AlphaBudget:
    """The budget's settings and all that was granted so far. A value: `request` and `report` return the next one."""

    alpha: float = 0.05
    kind: Kind = "power"
    ratio: float = 0.8  # q of the geometric kind
    grants: tuple[Grant, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise PlanError(f"the budget {self.alpha!r} does not lie strictly between 0 and 1")
        if self.kind not in KINDS:
            raise PlanError(f"unknown kind of budget {self.kind!r}; known are {', '.join(KINDS)}")
        if not 0.0 < self.ratio < 1.0:
            raise PlanError(f"the ratio {self.ratio!r} does not lie strictly between 0 and 1")

    @property
    def granted(self) -> float:
        """Σ of the levels granted. At most alpha for the kinds that promise it family-wise."""
        return math.fsum(grant.level for grant in self.grants)

    def request(self, test: str) -> tuple[float, AlphaBudget]:
        """The level for that test, to be asked before it sees data, and the budget after it. Asking again changes
        nothing."""
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
            return self.alpha * _gamma(j)
        if self.kind == "geometric":
            return self.alpha * (1.0 - self.ratio) * float(self.ratio ** (j - 1))
        times = sorted(grant.reported_at for grant in self.grants if grant.rejected and grant.reported_at is not None)
        wealth = self.alpha / 2.0
        level = _gamma(j) * wealth
        for rank, time in enumerate(times):
            level += _gamma(j - time) * (self.alpha - wealth if rank == 0 else self.alpha)
        return level

    def to_dict(self) -> dict[str, Any]:
        """All that must be kept, fit for JSON."""
        grants = [[grant.test, grant.level, grant.rejected, grant.reported_at] for grant in self.grants]
        return {"alpha": self.alpha, "kind": self.kind, "ratio": self.ratio, "grants": grants}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["alpha"], data["kind"], data["ratio"], tuple(Grant(*grant) for grant in data["grants"]))


def _gamma(j: int) -> float:
    return float(j**-_EXPONENT) / _TOTAL
