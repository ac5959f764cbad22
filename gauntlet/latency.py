"""The latency of two models on the same rows, in paired runs, so that a busy machine slows both alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

BATCH = 100
"""Rows of a timed call."""
_RUNS, _SECONDS = 31, 4.0
_LEVEL = 0.05
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of a batch by each model (medians), and the median ratio of challenger to champion in paired runs.

    slower: more of the runs are slower by more than is allowed than chance explains.
    """

    baseline: float
    candidate: float
    ratio: float
    slower: bool
    rows: int
    runs: int


def timed(
    champion: Callable[[], object], challenger: Callable[[], object], rows: int, clock: Callable[[], float], most: float
) -> Latency:
    """How much longer the challenger takes for the same rows: each model `_RUNS` times in turn, so that a busy
    machine slows both, fewer where that takes too long; the first call of each warms up.

    `rows` is what one call predicts; `clock` gives seconds; `most` as in `latency`.
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
    return latency(before, after, rows, most)


def latency(champion: Sequence[float], challenger: Sequence[float], rows: int, most: float) -> Latency:
    """The latencies from seconds of paired runs, each above 0. `slower` is the sign test at 5 %, one-sided, of a ratio
    above 1 + `most`."""
    from scipy.special import bdtrc

    ratios = [after / before for before, after in zip(champion, challenger, strict=True)]
    slower = sum(ratio > 1 + most for ratio in ratios)
    chance = float(bdtrc(slower - 1, len(ratios), 0.5)) if slower else 1.0
    return Latency(median(champion), median(challenger), median(ratios), chance <= _LEVEL, rows, len(ratios))


def fast_enough(found: Latency, most: float) -> tuple[bool, str]:
    """Whether the median ratio is within 1 + `most`, and the reason; one beyond it counts where the challenger is
    surely slower than that: two equal models differ as they lie in memory, by a tenth at times."""
    within = found.ratio <= 1 + most + _ROUNDING
    change = f"a batch takes {found.ratio - 1:+.0%}"
    if within or found.slower:
        return within, f"{change}, {'within' if within else 'more than'} the {most:+.0%} allowed"
    return True, f"{change}, which is no more than chance in {found.runs} runs"
