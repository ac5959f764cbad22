"""The holdout's bound on clustered noise without any effect: it says "better" no more often than it may.

Standard error of a rate near 0.05 over 1,500 runs: 0.0056.
"""

import numpy as np
import pytest
from builders.statistics import at_least, at_most

from retrainer.jobs.holdout_gate import improvement

RUNS = 1500
BLOCKS = 14  # the default holdout: a week of validation and a week of test, in days


def rate(law: str, confidence: float = 0.95, effect: float = 0.0) -> int:
    """In how many of the runs the bound lies above 0, with rows that share their day's fortune."""
    rng = np.random.default_rng(11)
    better = 0
    for run in range(RUNS):
        sizes = rng.integers(10, 40, size=BLOCKS)
        day = {
            "normal": lambda: rng.normal(size=BLOCKS),
            "storms": lambda: rng.normal(size=BLOCKS) * np.where(rng.random(BLOCKS) < 0.1, 5.0, 1.0),
            "skewed": lambda: 1.0 - rng.exponential(size=BLOCKS),
        }[law]()
        differences = effect + np.repeat(day, sizes) + rng.normal(size=sizes.sum())
        times = np.repeat(np.arange(BLOCKS, dtype=np.float64), sizes)
        found = improvement(differences, times, 1.0, confidence=confidence, repetitions=400, seed=run)
        better += found.lower is not None and found.lower > 0
    return better


@pytest.mark.parametrize("law", ["normal", "storms"])
def test_without_an_effect_at_most_alpha_is_called_better(law: str) -> None:
    count = rate(law)
    assert count <= at_most(RUNS, 0.05)
    assert count >= at_least(RUNS, 0.025), "a gate that never opens would pass the limit above, too"


def test_skewed_days_stay_within_twice_alpha() -> None:
    """Better on most days and far worse on few: no bound over 14 blocks sees what has hardly happened yet."""
    assert rate("skewed") <= at_most(RUNS, 0.10)


def test_one_day_standard_deviation_is_seen_most_of_the_time() -> None:
    assert rate("normal", effect=1.0) >= 0.85 * RUNS
