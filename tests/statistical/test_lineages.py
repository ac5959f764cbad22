"""Many retrained models against one champion: the pure core from the holdout gate to the verdict, seeded.

In short; `python -m benchmarks.lineages` has 200 of them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.lineages import CELLS, chain, config_with_budget, passes_gate
from gauntlet.types import Rule


def test_equal_models_get_through_the_gate_at_its_level_at_most() -> None:
    """5 % of them may; of 200 attempts more than 18 would be a chance of 1 %."""
    cell = CELLS["prove"]
    config = config_with_budget(cell)
    assert 1 <= sum(passes_gate(cell, config, [7, attempt]) for attempt in range(200)) <= 18


def test_models_worse_by_the_margin_are_not_promoted_though_the_gate_lets_them_pass() -> None:
    """The first ones of a lineage have nearly all of its budget of 5 %."""
    cell = CELLS["refresh"]
    (found,) = chain(cell, config_with_budget(cell), 0, 10)
    assert (found.attempts, found.promoted) == (10, False)
    assert found.passed >= 7


def test_equal_models_are_what_refresh_promotes() -> None:
    """So that the two above say something: the same way is open to a model that is no worse, under `refresh` only."""
    cell = CELLS["equal"]
    config = config_with_budget(cell)
    assert sum(one.promoted for one in chain(cell, config, 0, 6)) >= 1
    proving = replace(cell, rule=Rule.PROVE)
    (found,) = chain(proving, config_with_budget(proving), 0, 6)
    assert (found.passed, found.promoted) == (0, False), "and the gate of `prove` keeps them all"
