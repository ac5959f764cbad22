"""One side of a test as it is watched over looks: its bound at each, and its running p value.

Invariant: p ≤ alpha exactly when z has exceeded its bound at some look, and P(p ≤ u) ≤ u under no effect for every u,
whenever one stops. Monitors are values: `look` returns the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self

from scipy.special import ndtr, ndtri

from evaluator.stats.boundary import Boundary
from evaluator.stats.mixture import best_rho, log_mixture, mixture_bound
from evaluator.stats.refusal import PlanError
from evaluator.stats.spending import Spending

# Levels whose own boundaries tell how small p is. Between two of them z_level against bound is nearly straight.
LADDER: Final = (1e-6, 1e-4, 1e-3, 0.005, 0.02, 0.06, 0.16, 0.4)
# The ladder looks only after this much more information time: p is as valid, and restoring it stays cheap.
_RUNG_STEP: Final = 1.0 / 32.0
# The mixture is made tightest at this information time.
_TIGHTEST_AT: Final = 0.5


class Monitor(Protocol):
    """What `sequential.advance` asks of a side, whatever the mode."""

    @property
    def spent(self) -> float:
        """Level spent so far, at most the side's alpha."""

    @property
    def p(self) -> float:
        """The running one-sided p value."""

    def look(self, t: float, z: float, variance: float) -> tuple[float, Self]:
        """Bound for z at information time t, where S has that variance, and the monitor after that look."""

    def to_dict(self) -> dict[str, Any]:
        """All that must be kept, fit for JSON."""


@dataclass(frozen=True)
class GroupSequential:
    """A Lan-DeMets boundary, with boundaries at other levels beside it for the repeated p value (Jennison & Turnbull
    2000, chapter 9: the smallest level at which the same data would have stopped by now)."""

    boundary: Boundary
    ladder: tuple[Boundary, ...]
    p: float = 1.0

    @classmethod
    def start(cls, alpha: float, spending: Spending) -> Self:
        return cls(Boundary(alpha, spending), tuple(Boundary(level, spending) for level in LADDER))

    @property
    def spent(self) -> float:
        return self.boundary.spent

    def look(self, t: float, z: float, variance: float) -> tuple[float, Self]:
        bound, boundary = self.boundary.look(t)
        ladder, p = self.ladder, self.p
        last = ladder[0].t
        if t > last and (not last or t - last >= _RUNG_STEP or last < 1.0 <= t):
            looks = [rung.look(t) for rung in ladder]
            ladder = tuple(rung for _, rung in looks)
            p = min(p, _level_of(z, [bound_at for bound_at, _ in looks]))
        alpha = boundary.alpha
        if z >= bound:
            p = min(p, alpha)
        elif self.p > alpha:
            p = max(p, math.nextafter(alpha, 1.0))
        return bound, replace(self, boundary=boundary, ladder=ladder, p=p)

    def to_dict(self) -> dict[str, Any]:
        times = [t for t, _, _ in self.ladder[0].looks]
        return {"looks": self.boundary.to_list(), "times": times, "p": self.p}

    @classmethod
    def from_dict(cls, alpha: float, spending: Spending, data: dict[str, Any]) -> Self:
        ladder = [Boundary(level, spending) for level in LADDER]
        for t in data["times"]:
            ladder = [rung.look(t)[1] for rung in ladder]
        return cls(Boundary.from_list(alpha, spending, data["looks"]), tuple(ladder), float(data["p"]))


def _level_of(z: float, bounds: list[float]) -> float:
    """The level whose bound is z, from the ladder's bounds; rounded up below its end, 1 above it."""
    if z >= bounds[0]:
        return LADDER[0]
    for level, bound, above, bound_above in zip(LADDER[1:], bounds[1:], LADDER[:-1], bounds[:-1], strict=True):
        if z >= bound:
            if math.isinf(bound_above):
                return level
            share = (z - bound) / (bound_above - bound)
            return float(ndtr((1.0 - share) * ndtri(level) + share * ndtri(above)))
    return 1.0


@dataclass(frozen=True)
class Anytime:
    """The normal mixture. ρ is fixed at the first look, from the variance that the horizon promises then."""

    alpha: float
    rho: float | None = None
    log_evidence: float = 0.0  # the largest so far

    @property
    def spent(self) -> float:
        """All of alpha is at stake from the first look on."""
        return self.alpha if self.rho is not None else 0.0

    @property
    def p(self) -> float:
        return min(1.0, math.exp(-self.log_evidence))

    def look(self, t: float, z: float, variance: float) -> tuple[float, Self]:
        rho = self.rho if self.rho is not None else best_rho(variance * _TIGHTEST_AT / t, self.alpha)
        bound = mixture_bound(variance, self.alpha, rho) / math.sqrt(variance)
        evidence = log_mixture(z * math.sqrt(variance), variance, rho)
        return bound, replace(self, rho=rho, log_evidence=max(self.log_evidence, evidence))

    def to_dict(self) -> dict[str, Any]:
        return {"rho": self.rho, "log_evidence": self.log_evidence}

    @classmethod
    def from_dict(cls, alpha: float, data: dict[str, Any]) -> Self:
        return cls(alpha, data["rho"], float(data["log_evidence"]))


MODES: Final = ("group-sequential", "anytime")


def start(mode: str, alpha: float, spending: Spending) -> Monitor:
    """The monitor of a side before its first look. Raises PlanError for a mode that is not built."""
    if mode == "group-sequential":
        return GroupSequential.start(alpha, spending)
    if mode == "anytime":
        return Anytime(alpha)
    raise PlanError(f"unknown mode {mode!r}; known are {', '.join(MODES)}")


def restore(mode: str, alpha: float, spending: Spending, data: dict[str, Any]) -> Monitor:
    """The monitor of that snapshot, made by `to_dict` under the same settings."""
    if mode == "group-sequential":
        return GroupSequential.from_dict(alpha, spending, data)
    if mode == "anytime":
        return Anytime.from_dict(alpha, data)
    raise PlanError(f"unknown mode {mode!r}; known are {', '.join(MODES)}")
