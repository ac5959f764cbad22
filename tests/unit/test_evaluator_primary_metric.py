"""The look at a rollout's primary metric: what it sums."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pytest

from evaluator.service import primary_metric
from evaluator.service.design import evaluation_design
from evaluator.stats import Look, PairedSums, SplitSums, State
from gauntlet.config.load import parse

DESIGN = evaluation_design(parse("experiment: t\ntask: classification\nchampion: {model: m.skops}\n"))


def hours(n: int, seed: int) -> dict[int, tuple[SplitSums, PairedSums]]:
    rng, found = np.random.default_rng(seed), {}
    for hour in range(n):
        pairs = PairedSums()
        pairs.add(-rng.exponential(1.0, 40), -rng.exponential(1.0, 40))
        found[hour] = (SplitSums(), pairs)
    return found


def test_a_look_sums_the_form_that_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look goes over every hour at several scales: the sums of the other form are most of its time."""

    def never(*_: Any) -> NoReturn:
        raise AssertionError("the other form is merged")

    plan = DESIGN.plan.with_traffic(40 * 24, 86_400.0, DESIGN.block)
    monkeypatch.setattr(SplitSums, "merge", never)
    state, found = primary_metric.look(DESIGN, plan, plan.primary, State.start(plan.primary), hours(240, 1), 239)
    assert isinstance(found, Look)
    assert found.n_champion == 240 * 40
    assert state.cells.looks[0] == 1


def test_an_hour_without_pairs_is_no_block() -> None:
    found = hours(30, 2)
    found[7] = (SplitSums(), PairedSums())
    plan = DESIGN.plan
    assert len(primary_metric.blocks_of(plan, list(found.values()))) == 29
