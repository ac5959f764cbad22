"""The comparator's decision on models that are equal: it promotes no more often than its level allows.

Two models with noise of their own on the same rows, whose days share their fortune: neither is better.
"""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from builders.statistics import at_least, at_most

from evaluator.offline.comparator.decision import decide, required
from evaluator.offline.comparator.effects import Bootstrap, effects
from evaluator.offline.comparator.result import MetricImprovement
from evaluator.offline.comparator.settings import Requirement
from gauntlet.holdout.metrics import HoldoutRows
from gauntlet.types import Task

RUNS, DAYS, A_DAY = 600, 20, 30
METRICS = ("auc", "accuracy", "f1", "log_loss")


@pytest.fixture(scope="module")
def decisions() -> dict[str, list[str]]:
    rng = np.random.default_rng(12)
    found: dict[str, list[str]] = {name: [] for name in METRICS}
    block = np.repeat(np.arange(DAYS), A_DAY)
    for run in range(RUNS):
        signal = rng.normal(size=DAYS * A_DAY)
        truth = (signal + rng.logistic(size=len(signal)) > 0) * 1.0
        shared = np.repeat(rng.normal(scale=0.5, size=(2, DAYS)), A_DAY, axis=1)
        scores = signal + shared + rng.normal(scale=0.5, size=(2, len(signal)))
        outputs = [np.column_stack([1 - p, p]) for p in 1 / (1 + np.exp(-scores))]
        rows = HoldoutRows(Task.CLASSIFICATION, ["no", "yes"], truth, block, DAYS)
        for name, one in effects(METRICS, outputs[0], outputs[1], rows, Bootstrap(0.05, 200, run)).items():
            change = MetricImprovement(*astuple(one), "lower" if name == "log_loss" else "higher", "primary")
            factors = required(Requirement(name, threshold=0.0), change, 0.05, DAYS)
            found[name].append(decide(factors, len(factors))[0])
    return found


@pytest.mark.parametrize("metric", METRICS)
def test_equal_models_are_promoted_at_most_at_the_level(decisions: dict[str, list[str]], metric: str) -> None:
    """A win is one side of a two-sided level of 5 %."""
    promoted = decisions[metric].count("promote")
    assert promoted <= at_most(RUNS, 0.025)
    assert promoted >= at_least(RUNS, 0.01), "a gate that never opens would pass the limit above, too"
    assert "no_answer" not in decisions[metric]
