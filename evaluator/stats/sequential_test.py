"""One side of a test as it is watched over looks: its bound at each, and its running p value, for each cell.

Invariant: p ≤ alpha exactly when z has exceeded its bound at some look, and P(p ≤ u) ≤ u under no effect for every u,
whenever one stops. Monitors are values: `look` returns the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from evaluator.stats.alpha_spending import Spending
from evaluator.stats.errors import PlanError
from evaluator.stats.group_sequential import Boundary
from evaluator.stats.modes import FixedHorizon, MixtureSPRT, WaldSPRT
from evaluator.stats.normal_mixture import best_rho, log_mixture, mixture_bound
from evaluator.stats.score_process import Floats

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Setting = Floats | float

# Levels whose own boundaries tell how small p is. Between two of them z_level against bound is nearly straight.
LADDER: Final = (1e-6, 1e-4, 1e-3, 0.005, 0.02, 0.06, 0.16, 0.4)
# The ladder looks only after this much more information time: p is as valid, and restoring it stays cheap.
_RUNG_STEP: Final = 1.0 / 32.0
# The mixture is made tightest at this information time.
_TIGHTEST_AT: Final = 0.5


class Monitor(Protocol):
    """What `sequential` asks of a side, whatever the mode. Arrays have one entry for each cell."""

    @property
    def spent(self) -> Floats:
        """Level spent so far, at most the side's alpha."""

    @property
    def p(self) -> Floats:
        """The running one-sided p value."""

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        """Bounds for z at information times t, where S has these variances, and the monitor after that look.

        Only cells that are `ready` are looked at: the others' bound is infinite, and nothing of theirs is spent.
        """

    def to_dict(self) -> dict[str, Any]:
        """All that must be kept, fit for JSON."""


@dataclass(frozen=True, eq=False)
class Clock:
    """The boundary of cells that have made the same looks, with boundaries at other levels beside it for the repeated
    p value (Jennison & Turnbull 2000, chapter 9: the smallest level at which the same data would have stopped by
    now). It depends on information alone, so any number of metrics share its cost."""

    boundary: Boundary
    ladder: tuple[Boundary, ...]

    @staticmethod
    @lru_cache(maxsize=16)
    def start(alpha: float, spending: Spending) -> Clock:
        """The clock before any look; one object for all that start alike, so that they share what follows."""
        return Clock(Boundary(alpha, spending), tuple(Boundary(level, spending) for level in LADDER))

    @lru_cache(maxsize=512)  # noqa: B019  clocks are small values, and both sides of many cells ask the same
    def look(self, t: float) -> tuple[float, list[float] | None, Clock]:
        """The bound at t, those of the ladder where it looks too, and the clock after it."""
        bound, boundary = self.boundary.look(t)
        last = self.ladder[0].t
        if t > last and (not last or t - last >= _RUNG_STEP or last < 1.0 <= t):
            looks = [rung.look(t) for rung in self.ladder]
            return bound, [at for at, _ in looks], Clock(boundary, tuple(rung for _, rung in looks))
        return bound, None, Clock(boundary, self.ladder)

    def to_dict(self) -> dict[str, Any]:
        return {"looks": self.boundary.to_list(), "times": [t for t, _, _ in self.ladder[0].looks]}

    @classmethod
    def from_dict(cls, alpha: float, spending: Spending, data: dict[str, Any]) -> Clock:
        ladder = [Boundary(level, spending) for level in LADDER]
        for t in data["times"]:
            ladder = [rung.look(t)[1] for rung in ladder]
        return cls(Boundary.from_list(alpha, spending, data["looks"]), tuple(ladder))


@dataclass(frozen=True, eq=False)
class GroupSequential:
    """Lan-DeMets boundaries: `clocks[of[cell]]` is the clock that a cell's looks have made."""

    alpha: float
    clocks: tuple[Clock, ...]
    of: Ints
    p: Floats

    @classmethod
    def start(cls, alpha: float, spending: Spending, cells: int = 1) -> Self:
        return cls(alpha, (Clock.start(alpha, spending),), np.zeros(cells, dtype=np.int64), np.ones(cells))

    @property
    def spent(self) -> Floats:
        return np.array([clock.boundary.spent for clock in self.clocks])[self.of]

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        bounds, p = np.full(len(t), np.inf), self.p.copy()
        of = np.full(len(t), -1)
        clocks: list[Clock] = []
        for clock, cells, time in self._groups(t, ready):
            after = self.clocks[clock]
            if time is not None:
                bounds[cells], ladder, after = after.look(time)
                if ladder is not None:
                    p[cells] = np.minimum(p[cells], _levels_of(z[cells], ladder))
            of[cells] = len(clocks)
            clocks.append(after)
        crossed = ready & (z >= bounds)
        p[crossed] = np.minimum(p[crossed], self.alpha)
        held = ~crossed & (self.p > self.alpha)
        p[held] = np.maximum(p[held], math.nextafter(self.alpha, 1.0))
        return bounds, replace(self, clocks=tuple(clocks), of=of, p=p)

    def _groups(self, t: Floats, ready: Bools) -> list[tuple[int, Ints, float | None]]:
        """Cells that go on together: the same looks so far, and the same next one (None: no look)."""
        if ready.all() and (self.of == self.of[0]).all() and (t == t[0]).all():
            return [(int(self.of[0]), np.arange(len(t)), float(t[0]))]
        groups: dict[tuple[int, float | None], list[int]] = {}
        for cell, key in enumerate(zip(self.of.tolist(), t.tolist(), ready.tolist(), strict=True)):
            groups.setdefault((key[0], key[1] if key[2] else None), []).append(cell)
        return [(clock, np.array(cells), time) for (clock, time), cells in groups.items()]

    def to_dict(self) -> dict[str, Any]:
        clocks = [clock.to_dict() for clock in self.clocks]
        return {"clocks": clocks, "of": self.of.tolist(), "p": self.p.tolist()}

    @classmethod
    def from_dict(cls, alpha: float, spending: Spending, data: dict[str, Any]) -> Self:
        clocks = tuple(Clock.from_dict(alpha, spending, clock) for clock in data["clocks"])
        return cls(alpha, clocks, np.array(data["of"], dtype=np.int64), np.array(data["p"], dtype=np.float64))


def _levels_of(z: Floats, bounds: list[float]) -> Floats:
    """The level whose bound is z, from the ladder's falling bounds; rounded up below its end, 1 above it."""
    levels = np.ones(len(z))
    rungs = list(zip(LADDER, bounds, strict=True))
    for (above, bound_above), (level, bound) in pairwise(rungs):
        here = (z >= bound) & (z < bound_above)
        if math.isinf(bound_above):
            levels[here] = level
        else:
            share = (z[here] - bound) / (bound_above - bound)
            levels[here] = ndtr((1.0 - share) * ndtri(level) + share * ndtri(above))
    levels[z >= bounds[0]] = LADDER[0]
    return levels


@dataclass(frozen=True, eq=False)
class Anytime:
    """The normal mixture. ρ is fixed at a cell's first look, from the variance that the horizon promises then."""

    alpha: float
    rho: Floats  # nan before the first look
    log_evidence: Floats  # the largest so far

    @classmethod
    def start(cls, alpha: float, cells: int = 1) -> Self:
        return cls(alpha, np.full(cells, np.nan), np.zeros(cells))

    @property
    def spent(self) -> Floats:
        """All of alpha is at stake from the first look on."""
        return np.where(np.isnan(self.rho), 0.0, self.alpha)

    @property
    def p(self) -> Floats:
        return np.exp(-self.log_evidence)

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        first = ready & np.isnan(self.rho)
        rho = np.where(first, best_rho(np.where(ready, variance * _TIGHTEST_AT / t, 1.0), self.alpha), self.rho)
        v, r = np.where(ready, variance, 1.0), np.where(ready, rho, 1.0)
        bounds = np.where(ready, mixture_bound(v, self.alpha, r) / np.sqrt(v), np.inf)
        found = np.where(ready, log_mixture(np.where(ready, z, 0.0) * np.sqrt(v), v, r), 0.0)
        return bounds, replace(self, rho=rho, log_evidence=np.maximum(self.log_evidence, found))

    def to_dict(self) -> dict[str, Any]:
        rho = [None if math.isnan(value) else value for value in self.rho.tolist()]
        return {"rho": rho, "log_evidence": self.log_evidence.tolist()}

    @classmethod
    def from_dict(cls, alpha: float, data: dict[str, Any]) -> Self:
        rho = [math.nan if value is None else value for value in data["rho"]]
        return cls(alpha, np.array(rho), np.array(data["log_evidence"], dtype=np.float64))


MODES: Final = ("group-sequential", "anytime", "msprt", "sprt", "fixed")
# Wald's second error: a stated effect is given up with this probability at most.
BETA: Final = 0.2


def _stated(mode: str, effect: Setting | None) -> Setting:
    if effect is None:
        raise PlanError(f"mode {mode} needs a stated effect")
    return effect


def _known(mode: str) -> None:
    if mode not in MODES:
        raise PlanError(f"unknown mode {mode!r}; known are {', '.join(MODES)}")


def start(
    mode: str,
    alpha: float,
    spending: Spending,
    cells: int = 1,
    *,
    horizon: Setting = 1.0,
    effect: Setting | None = None,
) -> Monitor:
    """The monitor of a side of so many cells before its first look.

    horizon: I at t = 1; effect: what msprt and sprt look for, in units of the effect; one number, or one a cell. Raises
    PlanError for an unknown mode, and where an effect is missing.
    """
    _known(mode)
    if mode == "group-sequential":
        return GroupSequential.start(alpha, spending, cells)
    if mode == "anytime":
        return Anytime.start(alpha, cells)
    if mode == "msprt":
        return MixtureSPRT.start(alpha, cells, tau=_stated(mode, effect), horizon=horizon)
    if mode == "sprt":
        return WaldSPRT.start(alpha, cells, effect=_stated(mode, effect), beta=BETA, horizon=horizon)
    return FixedHorizon.start(alpha, cells)


def restore(
    mode: str,
    alpha: float,
    spending: Spending,
    data: dict[str, Any],
    *,
    horizon: Setting = 1.0,
    effect: Setting | None = None,
) -> Monitor:
    """The monitor of that snapshot, made by `to_dict` under the same settings."""
    _known(mode)
    if mode == "group-sequential":
        return GroupSequential.from_dict(alpha, spending, data)
    if mode == "anytime":
        return Anytime.from_dict(alpha, data)
    if mode == "msprt":
        return MixtureSPRT.from_dict(alpha, data, tau=_stated(mode, effect), horizon=horizon)
    if mode == "sprt":
        return WaldSPRT.from_dict(alpha, data, effect=_stated(mode, effect), beta=BETA, horizon=horizon)
    return FixedHorizon.from_dict(alpha, data)
