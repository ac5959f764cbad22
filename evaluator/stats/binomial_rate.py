"""Is a rate above, or below, what is allowed? A count of events in trials, watched as it grows.

Invariant: under a rate at most (at least) the allowed one the evidence is a supermartingale that starts at 1, so its
reciprocal is a p value that holds at every moment at once (Ville 1939); it needs no normal approximation.

If the log odds of the event are off by ε, each trial X multiplies the evidence by e^{εX} / (1 − r + r e^ε), whose mean
is 1 at rate r, and at most 1 at any rate on the null's side of r. The evidence is an average over ε: the same mixture
as the sample-ratio test's, with one sign of ε.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from evaluator.stats.errors import StatsError
from evaluator.stats.score_process import Floats

# Shifts of the log odds from 2 % to a factor of 1,100 in steps of 15 %, equally weighted: a fixed mixture, so no
# quadrature error enters; steps that narrow cost under 1 % of its logarithm.
_SHIFTS: Final = 0.02 * 1.15 ** np.arange(43)
# Limits closer to 0 or 1 than this are those numbers.
_EDGE: Final = 1e-12


def log_rate_evidence(events: int, trials: int, rate: float, *, above: bool = True) -> float:
    """log of the evidence that events come more (or, `above=False`, less) often than `rate`, in natural units.

    Raises StatsError on a rate outside (0, 1) or counts that are not 0 ≤ events ≤ trials.
    """
    if not 0.0 < rate < 1.0:
        raise StatsError(f"the rate {rate!r} does not lie strictly between 0 and 1")
    if not 0 <= events <= trials:
        raise StatsError(f"{events!r} events in {trials!r} trials can't be")
    return float(log_rate_evidences(np.array([events]), trials, np.array([rate]), above=above)[0])


def log_rate_evidences(events: NDArray[Any], trials: int, rates: Floats, *, above: bool) -> Floats:
    """`log_rate_evidence` for several counts in the same trials, each with its rate, arrays of shape (n,)."""
    shifts = _SHIFTS if above else -_SHIFTS
    logs = events[:, None] * shifts - trials * np.log1p(rates[:, None] * np.expm1(shifts))
    largest = logs.max(axis=1)
    return np.asarray(largest + np.log(np.exp(logs - largest[:, None]).mean(axis=1)), dtype=np.float64)


def rate_p(events: int, trials: int, rate: float, *, above: bool = True) -> float:
    """The always-valid one-sided p value of "at most `rate`" (`above`) or "at least `rate`", at these counts.

    To hold at all moments together keep the smallest so far.
    """
    return min(1.0, math.exp(-max(0.0, min(700.0, log_rate_evidence(events, trials, rate, above=above)))))


def rate_limits(events: int, trials: int, alpha: float) -> tuple[float, float]:
    """Lower and upper limit of the rate that hold at every number of trials at once, each at level alpha / 2.

    They invert `rate_p`: evidence for "above r" falls as r rises. (0, 1) without trials.
    """
    if not 0.0 < alpha < 1.0:
        raise StatsError(f"the level {alpha!r} does not lie strictly between 0 and 1")
    target = math.log(2.0 / alpha)

    def limit(above: bool) -> float:
        def excess(rate: float) -> float:
            return log_rate_evidence(events, trials, rate, above=above) - target

        refuted, kept = (_EDGE, 1.0 - _EDGE) if above else (1.0 - _EDGE, _EDGE)
        if excess(refuted) <= 0.0:
            return float(round(refuted))
        if excess(kept) >= 0.0:
            return float(round(kept))
        return float(brentq(excess, _EDGE, 1.0 - _EDGE, xtol=1e-14, rtol=1e-12))

    return limit(True), limit(False)
