"""One paired bootstrap over blocks for any number of statistics: studentised, with Student's t as second opinion.

Whole blocks are drawn with replacement, because the rows of one err together; both models and all statistics see the
same draws. Each draw is studentised by its own standard error (bootstrap-t; Efron and Tibshirani 1993, section 12.5;
Cameron, Gelbach and Miller 2008), because percentiles of few blocks are too narrow. Student's t with blocks − 1 degrees
of freedom is asked too and the more careful of both holds: the bootstrap-t is too sure under heavy tails, Student's t
under skew. Blocks are taken as uncorrelated. Randomness is a seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gauntlet.holdout.statistics import Floats, Statistic, standard_errors

MOST_BLOCKS = 500
"""More units than these are put together at random: independent ones stay so, and 500 tell a standard error to 3 %."""
_CHUNK = 1 << 17  # weights held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its standard error, two-sided bounds at 1 − alpha and the two-sided p value of no effect.

    A bound that the blocks don't allow is None; so is all but the blocks where the statistic isn't defined.
    """

    estimate: float | None
    error: float | None
    lower: float | None
    upper: float | None
    p_value: float | None
    blocks: int


def blocks_of(unit: NDArray[np.intp], seed: int, most: int = MOST_BLOCKS) -> tuple[NDArray[np.intp], int]:
    """A block for each row: its unit (of the same cluster, or itself), or equally many units at random where there are
    more than `most`."""
    _, place = np.unique(unit, return_inverse=True)
    units = int(place.max()) + 1
    if units <= most:
        return place, units
    dealt = np.random.default_rng(seed).permutation(units) % most
    return dealt[place], most


def draws(blocks: int, repetitions: int, seed: int) -> Iterator[Floats]:
    """How often each draw takes each block: `repetitions` draws in chunks of shape (draws, blocks)."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // blocks)
    for start in range(0, repetitions, size):
        some = min(size, repetitions - start)
        drawn = rng.integers(0, blocks, size=(some, blocks))
        drawn += np.arange(some)[:, None] * blocks
        yield np.bincount(drawn.reshape(-1), minlength=some * blocks).reshape(some, blocks).astype(np.float64)


def intervals(
    statistics: Mapping[str, Statistic], blocks: int, *, least: int, alpha: float, repetitions: int, seed: int
) -> dict[str, Interval]:
    """Each statistic's interval. Below `least` blocks there is an estimate and no more."""
    found, open_ = {}, {}
    for name, statistic in statistics.items():
        estimate, error = _whole(statistic, blocks)
        known = blocks >= least and estimate is not None
        if known and error:
            open_[name] = (statistic, float(estimate or 0.0), error)  # known: never None
        # Where every block says the same, that is all there is to know.
        sure = estimate if known and error == 0.0 else None
        p_value = None if sure is None else 1.0 if sure == 0.0 else 2 / (repetitions + 1)
        found[name] = Interval(estimate, error, sure, sure, p_value, blocks)
    if not open_:
        return found
    drawn: dict[str, list[Floats]] = {name: [] for name in open_}
    for weights in draws(blocks, repetitions, seed):
        for name, (statistic, estimate, _) in open_.items():
            drawn[name].append(_studentised(statistic, weights, estimate))
    for name, (_, estimate, error) in open_.items():
        found[name] = _interval(np.concatenate(drawn[name]), estimate, error, blocks, alpha)
    return found


def _whole(statistic: Statistic, blocks: int) -> tuple[float | None, float | None]:
    """The statistic on all rows, and its standard error; zero where it is nothing but rounding."""
    ones = np.ones((1, blocks))
    values, influences = statistic.evaluate(ones)
    estimate = float(values[0])
    if not np.isfinite(estimate):
        return None, None
    if blocks < 2:
        return estimate, None
    return estimate, float(standard_errors(ones, influences)[0])


def _studentised(statistic: Statistic, weights: Floats, estimate: float) -> Floats:
    """t of each draw; infinite without a spread, NaN where the draw doesn't define the statistic."""
    values, influences = statistic.evaluate(weights)
    errors = standard_errors(weights, influences)
    off = values - estimate
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(errors > 0, off / errors, np.where(off == 0, 0.0, np.sign(off) * np.inf))


def _interval(t: Floats, estimate: float, error: float, blocks: int, alpha: float) -> Interval:
    """The upper tail of t bounds from below: a draw's value lies above the truth by t standard errors."""
    from scipy import special

    low, p_better = _side(t, estimate / error, alpha)
    high, p_worse = _side(-t, -estimate / error, alpha)
    student = float(special.stdtrit(blocks - 1, 1 - alpha / 2))
    low, high = max(low, student), max(high, student)
    second = float(special.stdtr(blocks - 1, -abs(estimate / error)))
    p_value = min(1.0, 2 * max(min(p_better, p_worse), second))
    lower = estimate - low * error if np.isfinite(low) else None
    upper = estimate + high * error if np.isfinite(high) else None
    return Interval(estimate, error, lower, upper, p_value, blocks)


def _side(t: Floats, observed: float, alpha: float) -> tuple[float, float]:
    """The (1 − alpha/2) quantile of t, and the share of draws at or beyond `observed`. An undefined draw is extreme."""
    t = np.where(np.isnan(t), np.inf, t)
    place = min(int(np.ceil((1 - alpha / 2) * (len(t) + 1))), len(t)) - 1
    return float(np.partition(t, place)[place]), (1 + int((t >= observed).sum())) / (len(t) + 1)
