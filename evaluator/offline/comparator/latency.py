"""How much longer a challenger takes for the same rows: both are timed in turn, so that a busy machine slows both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from evaluator.offline.comparator.result import Latency

BATCH = 100
"""Rows of a timed call."""
_RUNS, _SECONDS = 31, 4.0


def timed(
    champion: Callable[[], object], challenger: Callable[[], object], rows: int, clock: Callable[[], float]
) -> Latency:
    """Each model `_RUNS` times in turn, fewer where that takes too long; the first call of each warms up.

    `rows` is what one call predicts; `clock` gives seconds.
    """
    champion(), challenger()
    before: list[float] = []
    after: list[float] = []
    while len(before) < _RUNS and sum(before) + sum(after) < _SECONDS:
        pair = [(champion, before), (challenger, after)]
        for call, seconds in pair if len(before) % 2 else pair[::-1]:
            start = clock()
            call()
            seconds.append(clock() - start)
    return latency(before, after, rows)


def latency(champion: Sequence[float], challenger: Sequence[float], rows: int) -> Latency:
    """From seconds of paired runs, each above 0. `slower` is the sign test at 5 %, one-sided."""
    from scipy.special import bdtrc

    ratios = [after / before for before, after in zip(champion, challenger, strict=True)]
    slower = sum(ratio > 1 for ratio in ratios)
    chance = float(bdtrc(slower - 1, len(ratios), 0.5)) if slower else 1.0
    return Latency(median(champion), median(challenger), median(ratios), chance <= 0.05, rows, len(ratios))
