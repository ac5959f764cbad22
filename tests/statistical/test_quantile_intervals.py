"""Intervals of quantiles hold the difference of the two laws' quantiles, in the metric's own units, also far out.

The laws' quantiles are exact. Limits are binomial: a right rate breaks one once in a thousand seeds, and the seed is
fixed.
"""

import math

import numpy as np
import pandas as pd
import pytest
from builders.statistics import at_least, at_most

from evaluator.offline.experiment.result import Analysis
from gauntlet import analyze

RUNS = 30


def analyzed(frame: pd.DataFrame, share: float, metric: str) -> Analysis:
    shares = {"old": 1.0 - share, "new": share}
    return analyze(frame, arm="arm", champion="old", share=shares, metric=metric, look_every=300)


@pytest.mark.parametrize("level", [90, 99])
@pytest.mark.parametrize(("share", "rows"), [(0.5, 3000), (0.1, 4000)])
def test_the_interval_of_a_quantile_holds_it_where_the_tail_is_thin(level: int, share: float, rows: int) -> None:
    """A shift by 1 of a normal law: its density falls so fast that no tangent reaches the other quantile."""
    held, effects = 0, []
    for run in range(RUNS):
        rng = np.random.default_rng([31, level, run])
        treated = rng.random(rows) < share
        frame = pd.DataFrame({"arm": np.where(treated, "new", "old"), "ms": 10.0 + treated + rng.standard_normal(rows)})
        (one,) = analyzed(frame, share, f"ms:p{level}:lower").comparisons
        assert one.effect is not None
        effects.append(one.effect)
        low, high = (-math.inf if one.lower is None else one.lower), (math.inf if one.upper is None else one.upper)
        held += low <= 1.0 <= high
    assert held >= at_least(RUNS, 0.95)
    assert np.median(effects) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(("shift", "most", "least"), [(1.0, at_most(RUNS, 0.025), 0), (2.5, RUNS, at_least(RUNS, 0.8))])
def test_a_margin_of_a_quantile_is_one_in_its_units(shift: float, most: int, least: int) -> None:
    """Slower by exactly the margin is not harm beyond it, nor shown to be within it; slower by far is harm."""
    worse = within = 0
    for run in range(RUNS):
        rng = np.random.default_rng([32, run])
        treated = rng.random(3000) < 0.5
        frame = pd.DataFrame(
            {"arm": np.where(treated, "new", "old"), "ms": 10.0 + shift * treated + rng.standard_normal(3000)}
        )
        (one,) = analyzed(frame, 0.5, "ms:p95:lower:margin=1").comparisons
        worse += one.verdict == "worse"
        within += one.verdict in ("equivalent", "better")
    assert least <= worse <= most
    assert within <= at_most(RUNS, 0.025)
