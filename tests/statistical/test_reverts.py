"""A harmless promotion is taken back with `evidence.harm_alpha` at most, a harmful one soon. Seeded, with
binomial limits: the ledger's test and the watch over the promotion, with all defaults.

In short, over three weeks; `python -m benchmarks.reverts` has six, and more worlds."""

from __future__ import annotations

import pytest
from builders.statistics import at_least, at_most

from benchmarks.reverts import CONFIG, taken_back

RUNS = 40


@pytest.mark.parametrize("world", ["independent", "hourly AR .8"])
def test_an_equal_model_is_taken_back_at_the_declared_level_at_most(world: str) -> None:
    """In the bake and after it together: there is a look a day, and nothing is spent twice."""
    back = [taken_back(world, 0.0, seed, days=21) for seed in range(RUNS)]
    assert sum(day is not None for day in back) <= at_most(RUNS, CONFIG.evidence.harm_alpha)


def test_a_model_that_does_harm_is_taken_back_in_the_bake() -> None:
    """Worse by .1 standard deviations at 2,000 outcomes a day."""
    back = [taken_back("independent", -0.1, seed, days=14) for seed in range(20)]
    assert sum(day is not None for day in back) >= at_least(20, 0.99)
