"""Each metric of both models on the same rows, with the interval of the improvement: one bootstrap for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluator.offline.comparator.result import MetricEffect
from gauntlet.config.evidence import MIN_HOLDOUT_BLOCKS
from gauntlet.holdout.bootstrap import intervals
from gauntlet.holdout.metrics import LOWER_IS_BETTER, HoldoutRows, statistic
from gauntlet.holdout.statistics import Floats, Improvement, Statistic


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made."""

    alpha: float
    repetitions: int
    seed: int


def effects(
    names: Sequence[str], champion: Floats, challenger: Floats, rows: HoldoutRows, bootstrap: Bootstrap
) -> dict[str, MetricEffect]:
    """By metric. champion, challenger: outputs on the rows, (n, classes) or (n,)."""
    pairs: dict[str, Improvement] = {}
    for name in names:
        before, after = statistic(name, champion, rows), statistic(name, challenger, rows)
        pairs[name] = Improvement(before, after, name not in LOWER_IS_BETTER)
    found = intervals(
        pairs,
        rows.blocks,
        least=MIN_HOLDOUT_BLOCKS,
        alpha=bootstrap.alpha,
        repetitions=bootstrap.repetitions,
        seed=bootstrap.seed,
    )
    gains = {name: (one.estimate, one.lower, one.upper, one.p_value) for name, one in found.items()}
    return {
        name: MetricEffect(_value(pair.champion, rows), _value(pair.challenger, rows), *gains[name])
        for name, pair in pairs.items()
    }


def _value(one: Statistic, rows: HoldoutRows) -> float | None:
    value = float(one.evaluate(np.ones((1, rows.blocks)))[0][0])
    return value if np.isfinite(value) else None
