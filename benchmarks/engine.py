"""What the engine decides on simulated experiments: its own statistic, gates, boundaries and mixture, runs as cells.

Invariant: for each run the looks, bounds and crossings are those of `evaluator.stats.panel.decide` on the same units;
only the order of the work differs (all looks of all runs at once, boundaries shared by runs whose sides open together).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy.special import ndtri

from benchmarks.simulated import Sums
from evaluator.stats.always_valid import TIGHTEST_AT, best_rho, log_mixture
from evaluator.stats.cluster_robust import evidence_of
from evaluator.stats.evidence import Evidence, ScoreMoments
from evaluator.stats.few_events import FewEvents
from evaluator.stats.group_sequential import Boundary
from evaluator.stats.panel import ArmTotals, few_events, ready
from evaluator.stats.score_process import Bools, Floats, Ints
from evaluator.stats.sequential_test import Plan, Side

# Under this T no look is near a bound (the smallest is 1.96), whatever the skewness correction does.
_WORTH: Final = 1.0


@dataclass(frozen=True, slots=True)
class Watched:
    """Every look of every run: z in either direction (−inf where T is far from any bound), S, V, whether the side is
    open, all of shape (runs, looks), and information time (looks,)."""

    t: Floats
    score: Floats
    variance: Floats
    z_win: Floats
    z_harm: Floats
    open_win: Bools
    open_harm: Bools
    plan: Plan


def unit_sums(sums: Sums) -> Floats:
    """S, I, units, and the four sums of `UnitNoise`, at each look, as `gauntlet analyze` adds them up; shape (runs,
    looks, 7). m is the champion's mean over all units of earlier looks."""
    share = sums.shares
    n, y = (np.cumsum(part, axis=1)[:, :-1] for part in sums.champion[:2])
    m = np.concatenate([np.zeros((len(n), 1)), y / np.maximum(n, 1.0)], axis=1)
    champion, challenger = _about(m, *sums.champion), _about(m, *sums.challenger)
    w, lean, units = share * (1.0 - share), 1.0 - 2.0 * share, sums.champion[0] + sums.challenger[0]
    columns = [
        (1.0 - share) * challenger[0] - share * champion[0],
        w * units,
        units,
        (1.0 - share) ** 2 * challenger[1] + share**2 * champion[1],
        w * (champion[1] + challenger[1]),
        w * lean * (champion[2] + challenger[2]),
        (1.0 - share) ** 3 * challenger[2] - share**3 * champion[2],
    ]
    rows = np.stack(columns, axis=2)
    # The first look's units have no earlier champion outcome to be predicted from: they count, but are not evidence.
    rows[:, 0] = 0.0
    return np.cumsum(rows, axis=1)


def _about(m: Floats, n: Floats, y: Floats, y2: Floats, y3: Floats) -> tuple[Floats, ...]:
    """Σ (y−m)ᵏ for k = 1 to 3."""
    return (y - m * n, y2 - 2.0 * m * y + m**2 * n, y3 - 3.0 * m * y2 + 3.0 * m**2 * y - m**3 * n)


def evidence(sums: Floats, totals: ArmTotals) -> Evidence:
    """The evidence at looks with these sums (looks, 7) and counts, as the engine makes it."""
    score, information, units, robust, drawn, drawn_third, robust_third = sums.T
    two_kinds = np.ones(len(sums), dtype=np.bool_)
    for arm in (totals.champion, totals.challenger):
        two_kinds &= arm[:, 2] == arm[:, 1]
    moments = ScoreMoments.from_sums(robust, drawn, robust_third, drawn_third, two_kinds, totals.smaller)
    rows = np.stack([score, information, moments.variance, units], axis=1)[:, None]
    return evidence_of(rows, margin=np.zeros(len(sums)), clustered=False, most_correlation=0.0, moments=moments)


def watch(sums: Sums) -> Watched:
    """All looks of these experiments under the default plan for independent units, the horizon being their end."""
    rows = unit_sums(sums)
    shape = rows.shape[:2]
    horizon = float(rows[0, -1, 1])
    plan = Plan(horizon, clustered=False)
    champion, challenger = (
        np.stack([np.cumsum(part, axis=1).ravel() for part in arm], axis=1) for arm in (sums.arms[:3], sums.arms[3:])
    )
    flat = rows.reshape(-1, rows.shape[2])
    totals = ArmTotals(champion, challenger, np.full(len(flat), horizon), drawn=drawn(sums))
    found = evidence(flat, totals)
    few = few_events(totals, found.margin, plan)
    open_harm = ready(totals, found, few, plan, -1.0)
    open_win = ready(totals, found, few, plan, 1.0) & open_harm
    return Watched(
        t=rows[0, :, 1] / horizon,
        score=found.score.reshape(shape),
        variance=found.variance.reshape(shape),
        z_win=_worth(found, few, open_win, 1.0).reshape(shape),
        z_harm=_worth(found, few, open_harm, -1.0).reshape(shape),
        open_win=open_win.reshape(shape),
        open_harm=open_harm.reshape(shape),
        plan=plan,
    )


def drawn(sums: Sums) -> Floats:
    """Σ π and Σ π Y so far, shape (runs · looks, 2)."""
    n, y = (first + second for first, second in zip(sums.champion[:2], sums.challenger[:2], strict=True))
    return np.stack([np.cumsum(sums.shares * part, axis=1).ravel() for part in (n, y)], axis=1)


def _worth(found: Evidence, few: FewEvents, ready: Bools, sign: float) -> Floats:
    """The deciding scores where they may matter, elsewhere −∞."""
    z = np.full(len(ready), -np.inf)
    some = np.flatnonzero(ready & (sign * found.t >= _WORTH))
    # An array of cells is indexed alike.
    z[some] = few.cells(some).z(found.cell(some), sign)  # type: ignore[arg-type]
    return z


@lru_cache(maxsize=4096)
class _Bounds:
    """One side's bounds when its first look is at a given place; made as far as they are asked for."""

    def __init__(self, side: Side, times: tuple[float, ...], first: int) -> None:
        self._boundary, self._times = Boundary(side.alpha, side.spending), times
        self._made = [math.inf] * first

    def at(self, look: int) -> float:
        while len(self._made) <= look:
            bound, self._boundary = self._boundary.look(self._times[len(self._made)])
            self._made.append(bound)
        return self._made[look]


def crossings(t: Floats, z: Floats, ready: Bools, side: Side) -> Ints:
    """The first look (from 1) at which each run crosses this side's Lan-DeMets boundary; 0 for none.

    A side begins to spend at the first look at which it is open, so runs that open at another look have other bounds.
    No bound is below that of a single look which spends all that is allowed by then; only runs that get there are
    followed.
    """
    spent = np.array([side.spending.spent(side.alpha, float(time)) for time in t])
    near = ready & (z >= -ndtri(np.maximum(spent, 1e-300)))
    found, times = np.zeros(len(z), dtype=np.int64), tuple(t.tolist())
    runs = np.flatnonzero(near.any(axis=1))
    first = np.argmax(ready[runs], axis=1)
    for start in np.unique(first):
        own, bounds = runs[first == start], _Bounds(side, times, int(start))
        for look in np.flatnonzero(near[own].any(axis=0)).tolist():
            open_runs = own[found[own] == 0]
            if not near[open_runs].any():
                break
            there = open_runs[near[open_runs, look]]
            if len(there):
                found[there[z[there, look] >= bounds.at(look)]] = look + 1
    return found


def group_sequential(watched: Watched) -> tuple[Ints, Ints]:
    """First look at which each run crosses the win side, and the harm side (each as if the other never stopped it)."""
    plan = watched.plan
    return (
        crossings(watched.t, watched.z_win, watched.open_win, plan.win),
        crossings(watched.t, watched.z_harm, watched.open_harm, plan.harm),
    )


def anytime(watched: Watched) -> tuple[Ints, Ints]:
    """The same in the anytime-valid mode."""
    plan = watched.plan
    return (
        _anytime(watched, watched.score, watched.open_win, plan.win.alpha),
        _anytime(watched, -watched.score, watched.open_harm, plan.harm.alpha),
    )


def _anytime(watched: Watched, score: Floats, ready: Bools, alpha: float) -> Ints:
    found = np.zeros(len(score), dtype=np.int64)
    runs = np.flatnonzero(ready.any(axis=1))
    first = np.argmax(ready[runs], axis=1)
    rho = best_rho(watched.variance[runs, first] * TIGHTEST_AT / watched.t[first], alpha)
    # The mixture sees S on the scale on which z is normal, as the monitor does.
    z = (watched.z_win if score is watched.score else watched.z_harm)[runs]
    v = watched.variance[runs]
    evidence = log_mixture(np.maximum(z, 0.0) * np.sqrt(v), v, rho[:, None])
    over = ready[runs] & (evidence >= math.log(1.0 / alpha))
    found[runs] = np.where(over.any(axis=1), np.argmax(over, axis=1) + 1, 0)
    return found
