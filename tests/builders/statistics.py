"""Builders for the tests of the statistics."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom

from evaluator.stats import Block, Boundary, Evidence, NoAnswer, Plan, Side
from evaluator.stats.always_valid import best_rho, log_mixture
from evaluator.stats.cluster_robust import MOST_CORRELATION, evidence_of, rows_of
from evaluator.stats.guards import Exposures
from evaluator.stats.power import Course, course
from evaluator.stats.score_process import arms_of
from evaluator.stats.sequential_test import HARM_MOST_CORRELATION, WIN_SIDE, Mode


def at_most(runs: int, rate: float) -> int:
    """The most events that `runs` runs may show at this rate: exceeded by chance once in a thousand."""
    return int(binom.ppf(0.999, runs, rate))


def at_least(runs: int, rate: float) -> int:
    """The fewest events that `runs` runs may show at this rate: undercut by chance once in a thousand."""
    return int(binom.ppf(0.001, runs, rate))


def evidence(
    blocks: Sequence[Block], *, margin: float = 0.0, clustered: bool = True, most_correlation: float = MOST_CORRELATION
) -> Evidence | NoAnswer:
    """The evidence of one comparison, its fields plain numbers."""
    found = evidence_of(
        rows_of(blocks)[None], margin=np.array([margin]), clustered=clustered, most_correlation=most_correlation
    )
    lacking = found.lacking(0)
    if lacking is not None:
        champion, challenger = arms_of(blocks)
        return NoAnswer(lacking, champion.n, challenger.n, int(found.n_blocks[0]))
    return found.cell(0)


def expose(sketch: Exposures, pairs: Iterable[tuple[str, str]]) -> Exposures:
    """The sketch after these (unit, arm) pairs, one at a time."""
    for unit, arm in pairs:
        sketch.add_codes(np.array([0]), [unit], np.array([0]), [arm])
    return sketch


def arrival_plan(
    horizon: float, *, margin: float = 0.01, alpha: float = 0.01, mode: Mode = "anytime", clustered: bool = True
) -> Plan:
    """A plan of label arrival: alpha/2 for each direction, both with the caution of a harm side."""
    side = Side(alpha / 2.0, most_correlation=HARM_MOST_CORRELATION)
    return Plan(horizon, side, side, mode, margin, clustered, min_blocks_win=5)


def bounds_of(side: Side, times: Sequence[float]) -> list[float]:
    """The boundary of a side at these looks."""
    boundary, bounds = Boundary(side.alpha, side.spending), []
    for t in times:
        bound, boundary = boundary.look(t)
        bounds.append(bound)
    return bounds


def group_sequential(drift: float, times: Sequence[float], win: Side = WIN_SIDE, harm: Side | None = None) -> Course:
    """Where a group-sequential test ends when the mean of z at t = 1 is `drift`."""
    return course(times, bounds_of(win, times), None if harm is None else [-b for b in bounds_of(harm, times)], drift)


def expected_time(times: Sequence[float], found: Course) -> float:
    """Mean information time at the end: at the crossing, or at the last look without one."""
    ended = found.upper + found.lower
    return float(ended @ np.asarray(times) + (1.0 - ended.sum()) * times[-1])


def two_sided_rho(v_opt: float, alpha: float) -> float:
    """The two-sided bound is tightest where that of one side is at half the level."""
    return float(best_rho(v_opt, alpha / 2.0))


def two_sided_log_mixture(s: float, v: float, rho: float) -> float:
    """The whole normal is the mean of its two halves, which are the one-sided mixtures."""
    return float(np.logaddexp(log_mixture(s, v, rho), log_mixture(-s, v, rho))) - math.log(2.0)


def two_sided_bound(v: float, alpha: float, rho: float) -> float:
    def excess(s: float) -> float:
        return two_sided_log_mixture(s, v, rho) - math.log(1.0 / alpha)

    return float(brentq(excess, 0.0, 50.0 * math.sqrt(v + rho), xtol=1e-13, rtol=1e-14))
