"""Group-sequential tests: Lan-DeMets boundaries at arbitrary information times, by recursive numerical integration.

Sources: Lan & DeMets (1983); Armitage, McPherson & Rowe (1969); Jennison & Turnbull (2000), chapter 9, for the repeated
p value. With g the density of the score process (a Brownian motion in information time) at the last look on the paths
that have not crossed, the bound c at the next look solves ∫ g(u) Φ̄((c−u)/σ) du = f(t) − f(t_last), σ² = t − t_last.

Invariant: a bound depends only on the times of the looks so far, never on data. Each side is non-binding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from scipy.special import ndtr, ndtri

from evaluator.stats.alpha_spending import MIXED, Spending, consistent_p
from evaluator.stats.errors import OrderError, StatsError, require_between
from evaluator.stats.score_process import Bools, Floats, Ints

# A look less than this share of the last look's information later is too close to count: the grid would have to resolve
# increments of that size, and nothing has been learned.
CLOSEST: Final = 1e-5
# Paths further than this many standard deviations out are not followed; 1e-15 of them are there.
_REACH: Final = 8.0
# A level smaller than this cannot be told from rounding, so such a look has no bound.
_LEAST: Final = 1e-15
# Gauss-Legendre points for each panel of four standard deviations of the increment: error under 1e-9 a look.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_PANEL: Final = 4.0
# Levels of the boundaries that give the repeated p value. Between two of them z_level against bound is nearly straight.
LADDER: Final = (1e-6, 1e-4, 1e-3, 0.005, 0.02, 0.06, 0.16, 0.4)
# The ladder looks only after this much more information time: p is as valid, and restoring it stays cheap.
_RUNG_STEP: Final = 1.0 / 32.0


@dataclass(frozen=True, eq=False)
class _Front:
    """Density of uncrossed paths, one look behind: weighted points at time `since`, and the cut made at time `t`.

    It is kept one look behind because the grid at `t` must be as fine as the step that follows, which is not known yet.
    Compared by identity, so that metrics that share their looks share the work through the caches below.
    """

    since: float
    points: Floats
    masses: Floats
    t: float
    cut: float


_START: Final = _Front(0.0, np.zeros(1), np.ones(1), 0.0, math.inf)


def gauss_legendre(low: float, high: float, panel: float) -> tuple[Floats, Floats]:
    """Points and weights of a Gauss-Legendre rule on [low, high], eight points to a panel of at most that width."""
    count = max(1, math.ceil((high - low) / panel))
    half = (high - low) / count / 2.0
    centres = low + half * (2.0 * np.arange(count) + 1.0)
    return (centres[:, None] + half * _POINTS).ravel(), np.tile(half * _WEIGHTS, count)


def _density(at: Floats, points: Floats, masses: Floats, sigma: float) -> Floats:
    """Σ_j mass_j φ((at − point_j)/σ)/σ, over the points within reach only; both grids rise."""
    first = np.searchsorted(points, at - (_REACH + 0.5) * sigma)
    last = np.searchsorted(points, at + (_REACH + 0.5) * sigma)
    width = int((last - first).max())
    result = np.empty(len(at))
    rows = max(1, 2_000_000 // max(1, width))
    for start in range(0, len(at), rows):
        part = slice(start, start + rows)
        near = np.minimum(first[part, None] + np.arange(width), len(points) - 1)
        inside = (first[part, None] + np.arange(width)) < last[part, None]
        distance = (at[part, None] - points[near]) / sigma
        result[part] = (np.where(inside, masses[near], 0.0) * np.exp(-0.5 * distance * distance)).sum(axis=1)
    return result / (sigma * math.sqrt(2.0 * math.pi))


@lru_cache(maxsize=64)
def _measure(front: _Front, t: float) -> tuple[Floats, Floats]:
    """Quadrature points and masses of the uncrossed density at the last look, fine enough for a step to t."""
    if front.t == 0.0:
        return front.points, front.masses
    arrived = math.sqrt(front.t - front.since)
    spread = math.sqrt(front.t)
    low, high = -_REACH * spread, min(front.cut, _REACH * spread)
    low = min(low, high - _REACH * spread)
    points, weights = gauss_legendre(low, high, min(_PANEL * min(arrived, math.sqrt(t - front.t)), spread))
    return points, weights * _density(points, front.points, front.masses, arrived)


@lru_cache(maxsize=1024)
def _solve(front: _Front, t: float, allowed: float) -> float:
    """z such that uncrossed paths exceed z√t at time t with probability `allowed`; infinite if that is nothing."""
    from scipy.optimize import brentq  # costs 0.1 s, which a process that never looks need not wait for

    if allowed < _LEAST:
        return math.inf
    if front.t == 0.0:
        return float(-ndtri(allowed))
    points, masses = _measure(front, t)
    sigma, spread = math.sqrt(t - front.t), math.sqrt(t)

    def excess(z: float) -> float:
        return float(masses @ ndtr((points - z * spread) / sigma)) - allowed

    if excess(-_REACH) <= 0.0:
        raise StatsError(f"the level to spend, {allowed!r}, exceeds the probability of the paths still running")
    return float(brentq(excess, -_REACH, 2.0 * _REACH, xtol=1e-10, rtol=1e-12))


@lru_cache(maxsize=1024)
def _push(front: _Front, t: float, bound: float) -> _Front:
    """The front after a look at t with that bound."""
    points, masses = _measure(front, t)
    return _Front(front.t, points, masses, t, bound * math.sqrt(t))


@dataclass(frozen=True)
class Boundary:
    """One side's boundary: its level, its spending function and the looks so far as (t, bound, level spent).

    `look` returns the bound for the next look and the boundary after it. It costs about a millisecond, and nothing
    for the second metric that asks for the same looks. A snapshot is `to_list`; a restored boundary gives identical
    bounds.
    """

    alpha: float
    spending: Spending = MIXED
    looks: tuple[tuple[float, float, float], ...] = ()
    _front: _Front | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        require_between("level", self.alpha, 0.0, 1.0)

    @property
    def t(self) -> float:
        return self.looks[-1][0] if self.looks else 0.0

    @property
    def spent(self) -> float:
        return self.looks[-1][2] if self.looks else 0.0

    def look(self, t: float) -> tuple[float, Boundary]:
        """Bound for z at information time t, and the boundary with that look made.

        - the same t again: the same bound, nothing spent;
        - t less than `CLOSEST` beyond the last look: an infinite bound, nothing spent, no look made;
        - t > 1: the time is taken as it is. The first look there spends all that is left (but for a reserve); further
          ones have nothing to spend, so their bound is infinite: they can show, but not decide.

        Raises OrderError if t is before the last look or not a positive number.
        """
        if not (math.isfinite(t) and t > 0.0 and t >= self.t):
            raise OrderError(f"a look at information time {t!r} cannot follow one at {self.t!r}")
        if t == self.t:
            return self.looks[-1][1], self
        if t - self.t < CLOSEST * self.t:
            return math.inf, self
        front = self._front or self._replayed()
        spent = max(self.spent, self.spending.spent(self.alpha, t))
        bound = _solve(front, t, spent - self.spent)
        # What was too little to make a bound from is still there to spend at the next look.
        entry = (t, bound, spent if math.isfinite(bound) else self.spent)
        return bound, Boundary(self.alpha, self.spending, (*self.looks, entry), _push(front, t, bound))

    def _replayed(self) -> _Front:
        front = _START
        for t, bound, _ in self.looks:
            front = _push(front, t, bound)
        return front

    def to_list(self) -> list[list[float | None]]:
        """A snapshot: [[t, bound or null where there is none, level spent], …]."""
        return [[t, bound if math.isfinite(bound) else None, spent] for t, bound, spent in self.looks]

    @classmethod
    def from_list(cls, alpha: float, spending: Spending, looks: list[list[float | None]]) -> Boundary:
        """The boundary of that snapshot. Raises StatsError if it is not one."""
        entries = []
        for entry in looks:
            if len(entry) != 3 or entry[0] is None or entry[2] is None:
                raise StatsError(f"{entry!r} is not a look of a boundary")
            entries.append((entry[0], math.inf if entry[1] is None else entry[1], entry[2]))
        return cls(alpha, spending, tuple(entries))


@dataclass(frozen=True, eq=False)
class InformationClock:
    """The boundary of cells that have made the same looks, and a ladder of boundaries at other levels.

    The ladder gives the repeated p value: the smallest level at which the same data would have stopped by now. A clock
    depends on information alone, so any number of metrics share its cost.
    """

    boundary: Boundary
    ladder: tuple[Boundary, ...]

    @staticmethod
    @lru_cache(maxsize=16)
    def start(alpha: float, spending: Spending) -> InformationClock:
        """The clock before any look; one object for all that start alike, so that they share what follows."""
        return InformationClock(Boundary(alpha, spending), tuple(Boundary(level, spending) for level in LADDER))

    @lru_cache(maxsize=512)  # noqa: B019  clocks are small values, and both sides of many cells ask the same
    def look(self, t: float) -> tuple[float, list[float] | None, InformationClock]:
        """The bound at t, those of the ladder (None: no look of its own), and the clock after it."""
        bound, boundary = self.boundary.look(t)
        last = self.ladder[0].t
        if t > last and (not last or t - last >= _RUNG_STEP or last < 1.0 <= t):
            looks = [rung.look(t) for rung in self.ladder]
            return bound, [at for at, _ in looks], InformationClock(boundary, tuple(rung for _, rung in looks))
        return bound, None, InformationClock(boundary, self.ladder)

    def to_dict(self) -> dict[str, Any]:
        return {"looks": self.boundary.to_list(), "times": [t for t, _, _ in self.ladder[0].looks]}

    @classmethod
    def from_dict(cls, alpha: float, spending: Spending, data: dict[str, Any]) -> InformationClock:
        ladder = [Boundary(level, spending) for level in LADDER]
        for t in data["times"]:
            ladder = [rung.look(t)[1] for rung in ladder]
        return cls(Boundary.from_list(alpha, spending, data["looks"]), tuple(ladder))


@dataclass(frozen=True, eq=False)
class GroupSequential:
    """The group-sequential test of one side: `clocks[clock_of[cell]]` is the clock of that cell's looks."""

    alpha: float
    clocks: tuple[InformationClock, ...]
    clock_of: Ints
    p: Floats

    @classmethod
    def start(cls, alpha: float, spending: Spending, cells: int = 1) -> Self:
        return cls(alpha, (InformationClock.start(alpha, spending),), np.zeros(cells, dtype=np.int64), np.ones(cells))

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        bounds, p = np.full(len(t), np.inf), self.p.copy()
        clock_of = np.full(len(t), -1)
        clocks: list[InformationClock] = []
        for clock, cells, time in self._groups(t, ready):
            after = self.clocks[clock]
            if time is not None:
                bounds[cells], ladder, after = after.look(time)
                if ladder is not None:
                    p[cells] = np.minimum(p[cells], _levels_of(z[cells], ladder))
            clock_of[cells] = len(clocks)
            clocks.append(after)
        p = consistent_p(p, self.p, ready & (z >= bounds), self.alpha)
        return bounds, replace(self, clocks=tuple(clocks), clock_of=clock_of, p=p)

    def _groups(self, t: Floats, ready: Bools) -> list[tuple[int, Ints, float | None]]:
        """(clock, cells, time of the next look or None) for each group of cells with the same looks so far."""
        if ready.all() and (self.clock_of == self.clock_of[0]).all() and (t == t[0]).all():
            return [(int(self.clock_of[0]), np.arange(len(t)), float(t[0]))]
        groups: dict[tuple[int, float | None], list[int]] = {}
        for cell, key in enumerate(zip(self.clock_of.tolist(), t.tolist(), ready.tolist(), strict=True)):
            groups.setdefault((key[0], key[1] if key[2] else None), []).append(cell)
        return [(clock, np.array(cells), time) for (clock, time), cells in groups.items()]

    def to_dict(self) -> dict[str, Any]:
        clocks = [clock.to_dict() for clock in self.clocks]
        return {"clocks": clocks, "of": self.clock_of.tolist(), "p": self.p.tolist()}

    def restored(self, data: dict[str, Any]) -> Self:
        spending = self.clocks[0].boundary.spending
        clocks = tuple(InformationClock.from_dict(self.alpha, spending, clock) for clock in data["clocks"])
        return replace(self, clocks=clocks, clock_of=np.array(data["of"], dtype=np.int64), p=np.array(data["p"]))


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
