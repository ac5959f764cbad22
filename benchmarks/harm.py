"""When harm is seen, and how often it is called of a challenger that is equal: by worlds, and by when labels come.

Sums of hours are drawn for 2,000 pairs a day and looked at as the running evaluator looks at them: first at the end of
the second day, every hour of the next two, and more seldom later. Early labels show all but the last three hours; late
ones all but a day. Where days are known, the champion's own losses have differed for a week as the differences of pairs
do. Invariant: seeded, so that the same options print the same table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from benchmarks import header, main, row
from benchmarks.decisions import WORLDS
from benchmarks.spending import HOURS, PAIRS, Floats, begun, blocks, day_shifts
from evaluator.service.design import EARLY_PART, HARM_SPENDING, KNOWN_CYCLES
from evaluator.stats.cluster_robust import HARM_SCALES, LEAST_INTRACLASS, weakest
from evaluator.stats.group_sequential import Boundary
from evaluator.stats.intraclass import intraclass

DAYS: Final = 21
"""Of the plan."""
LOOKS: Final = [*range(2 * HOURS, 4 * HOURS), *range(4 * HOURS, 10 * HOURS, 4), *range(10 * HOURS, DAYS * HOURS, 12)]
"""Hours since the first request."""
EARLY, LATE = HOURS // EARLY_PART, HOURS
"""Hours until a pair speaks for harm."""
MAIN_WORLDS: Final = ("independent", "day effects", "storms", "hourly AR .8")
DIFFERENT_DAYS: Final = "day effects of .1 sd"
CELLS: Final = [
    *((world, -0.1) for world in (*MAIN_WORLDS, DIFFERENT_DAYS)),
    ("independent", -0.03),
    *((world, 0.0) for world in (*MAIN_WORLDS, "daily cycle", "weekly cycle", "wild days", DIFFERENT_DAYS)),
]


def sums(world: str, effect: float, runs: int, seed: int) -> Floats:
    """Of the differences of each hour, with variance 1 a pair; shape (runs, hours)."""
    rng, hours = np.random.default_rng(seed), DAYS * HOURS
    draw = WORLDS.get(world, lambda rng, hours: day_shifts(rng, hours, 0.0))
    shifts = np.array([draw(rng, hours) for _ in range(runs)])
    return rng.normal((effect + shifts) * PAIRS, np.sqrt(PAIRS))


def known_days(world: str, runs: int, seed: int) -> Floats:
    """The intraclass correlation that each run's champion has shown in the days before."""
    before = sums(world, 0.0, runs, seed)[:, : KNOWN_CYCLES * HOURS].reshape(runs, KNOWN_CYCLES, HOURS).sum(axis=2)
    return np.array([intraclass(np.full(KNOWN_CYCLES, PAIRS * HOURS), days, 1.0) for days in before])


def out(hours: Floats, wait: int, known: Floats | float = LEAST_INTRACLASS, alpha: float = 0.05) -> Floats:
    """The day on which each run is rolled back, inf where it is not."""
    boundary, found = Boundary(alpha, HARM_SPENDING), np.full(len(hours), np.inf)
    for look in LOOKS:
        bound, boundary = boundary.look((look - wait) / (DAYS * HOURS))
        some = hours[:, : look - wait]
        scales = [blocks(some, 1), blocks(some, HOURS // 4), begun(some, HOURS)]
        evidence = weakest(HARM_SCALES, scales, margin=np.zeros(len(hours)), sign=-1.0, intraclass=known)
        found[evidence.available & (evidence.z_harm >= bound) & np.isinf(found)] = look / HOURS
    return found


def run(runs: int = 1000, seed: int = 34) -> Iterator[str]:
    yield f"2,000 pairs a day, harm at .05; rolled back at all / within 2 / within 3 days; {runs} runs a row.\n"
    yield header("world, effect in sd", "early labels", "late labels", "early labels, days known")
    for world, effect in CELLS:
        hours, known = sums(world, effect, runs, seed), known_days(world, runs, seed + 1)
        days = [out(hours, EARLY), out(hours, LATE), out(hours, EARLY, known)]
        shares = [" / ".join(f"{(each <= most).mean():.3f}" for most in (DAYS, 2, 3)) for each in days]
        yield row(f"{world}, {effect:g}", *shares)


if __name__ == "__main__":
    main(run)
