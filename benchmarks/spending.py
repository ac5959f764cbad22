"""When a win's level is spent: time to promotion and power of a plan's length and of its spending function.

Sums of hours are drawn for 2,000 pairs a day, and each day is looked at as the running evaluator looks at it: hours,
quarters and days, of which the weakest decides. Invariant: seeded, so that the same options print the same table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks import header, main, row
from benchmarks.decisions import WORLDS
from evaluator.service.design import WIN_SPENDING
from evaluator.stats.alpha_spending import Spending
from evaluator.stats.cluster_robust import WIN_SCALES, weakest
from evaluator.stats.group_sequential import Boundary

Floats = np.ndarray

HOURS: Final = 24
PAIRS: Final = 2_000 / HOURS
"""Of an hour."""
FIRST_LOOK: Final = 5
"""Whole days before a win."""
RAMP: Final = 9
"""Days of the ramp's minimum times; an outcome counts a day later."""


@dataclass(frozen=True)
class Plan:
    """Days of planned evidence, and how a win's level is spent over them."""

    days: int
    spending: Spending


PLANS: Final = {
    "14 days, mixed": Plan(14, Spending()),
    "21 days, mixed": Plan(21, Spending()),
    "21 days, pocock": Plan(21, Spending(kind="pocock")),
    "21 days, as it is": Plan(21, Spending(kind="table", points=WIN_SPENDING)),
}
CELLS: Final = [
    *(("independent", effect) for effect in (0.0, 0.02, 0.03, 0.05, 0.1)),
    *(("days AR .5", effect) for effect in (0.0, 0.1)),
    *(("day effects of .1 sd", effect) for effect in (0.0, 0.1)),
    *(("storms", effect) for effect in (0.0, 0.1)),
    *(("hourly AR .8", effect) for effect in (0.0, 0.1)),
]


def day_shifts(rng: np.random.Generator, hours: int, correlation: float) -> Floats:
    """Day effects of .1 standard deviations with this correlation from day to day."""
    values, noise = np.empty(hours // HOURS), rng.normal(size=hours // HOURS)
    last = rng.normal()
    for day, new in enumerate(noise):
        values[day] = last = correlation * last + np.sqrt(1.0 - correlation**2) * new
    return 0.1 * np.repeat(values, HOURS)


def scores(world: str, effect: float, runs: int, days: int, seed: int) -> Floats:
    """z of the win side after each day, shape (runs, days + 1); −inf where there is no look."""
    rng, hours = np.random.default_rng(seed), days * HOURS
    own = {"days AR .5": 0.5, "day effects of .1 sd": 0.0}
    shifts = np.array(
        [day_shifts(rng, hours, own[world]) if world in own else WORLDS[world](rng, hours) for _ in range(runs)]
    )
    sums = rng.normal((effect + shifts) * PAIRS, np.sqrt(PAIRS))
    found = np.full((runs, days + 1), -np.inf)
    for day in range(FIRST_LOOK, days + 1):
        scales = [blocks(sums[:, : day * HOURS], length) for length in (1, HOURS // 4, HOURS)]
        evidence = weakest(WIN_SCALES, scales, margin=np.zeros(runs), sign=1.0)
        found[:, day] = np.where(evidence.available, evidence.z_win, -np.inf)
    return found


def blocks(sums: Floats, length: int) -> Floats:
    """Whole blocks of so many hours, as `evaluator.stats.cluster_robust.rows_of` makes them."""
    n = sums.shape[1] // length
    found = sums[:, : n * length].reshape(len(sums), n, length).sum(axis=2)
    units = np.full_like(found, PAIRS * length)
    return np.stack([found, units, units, units], axis=2)


def begun(sums: Floats, length: int) -> Floats:
    """`blocks`, with the last one that has begun."""
    over = blocks(sums[:, sums.shape[1] // length * length :], max(1, sums.shape[1] % length))
    return np.concatenate([blocks(sums, length), over], axis=1)


def promoted(z: Floats, plan: Plan, alpha: float = 0.025) -> Floats:
    """The day of each run's promotion, inf where there is none."""
    boundary, found = Boundary(alpha, plan.spending), np.full(len(z), np.inf)
    for day in range(FIRST_LOOK, plan.days + 1):
        bound, boundary = boundary.look(day / plan.days)
        found[(z[:, day] >= bound) & np.isinf(found)] = max(RAMP, day + 1)
    return found


def run(runs: int = 1000, seed: int = 33) -> Iterator[str]:
    yield f"2,000 pairs a day, one side at .025, a look a day; promoted at all / by day 14; {runs} runs a row.\n"
    yield header("world, effect in sd", *PLANS)
    for world, effect in CELLS:
        z = scores(world, effect, runs, max(plan.days for plan in PLANS.values()), seed)
        days = [promoted(z, plan) for plan in PLANS.values()]
        yield row(
            f"{world}, {effect:g}", *(f"{np.isfinite(each).mean():.3f} / {(each <= 14).mean():.3f}" for each in days)
        )


if __name__ == "__main__":
    main(run)
