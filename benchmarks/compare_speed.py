"""The comparator's bootstrap of AUC beside a loop over scikit-learn's `roc_auc_score`, on the same draws.

Both compute the paired improvement of two models in each draw; the loop is timed over the first `looped` of the draws
and extrapolated, because all of them take minutes. Every value of the loop is asserted to be the comparator's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import scipy.special  # noqa: F401  the comparator imports it when it is needed; not part of the work
from sklearn.metrics import roc_auc_score

from benchmarks import header, main, row
from gauntlet.holdout.bootstrap import blocks_of, draws, intervals
from gauntlet.holdout.metrics import HoldoutRows, statistic
from gauntlet.holdout.statistics import Improvement
from gauntlet.types import Task


def run(rows: int = 100_000, bootstraps: int = 1_000, looped: int = 20) -> Iterator[str]:
    rng = np.random.default_rng(1)
    signal = rng.normal(size=rows)
    truth = (signal + rng.logistic(size=rows) > 0) * 1.0
    scores = [signal + rng.normal(scale=scale, size=rows) for scale in (0.6, 0.5)]
    outputs = [np.column_stack([1 - p, p]) for p in (1 / (1 + np.exp(-score)) for score in scores)]

    begun = time.process_time()
    block, blocks = blocks_of(np.arange(rows), 0)
    held_out = HoldoutRows(Task.CLASSIFICATION, ["0", "1"], truth, block, blocks)
    gain = Improvement(*(statistic("auc", output, held_out) for output in outputs), higher_is_better=True)
    found = intervals({"auc": gain}, blocks, least=5, alpha=0.05, repetitions=bootstraps, seed=0)["auc"]
    ours = time.process_time() - begun

    weights = np.concatenate(list(draws(blocks, bootstraps, 0)))[:looped]
    values = gain.evaluate(weights)[0]
    begun = time.process_time()
    for weight, value in zip(weights, values, strict=True):
        chosen = np.repeat(np.arange(rows), weight[block].astype(np.intp))
        before, after = (roc_auc_score(truth[chosen], output[chosen, 1]) for output in outputs)
        if abs(after - before - value) > 1e-9:
            raise AssertionError(f"scikit-learn has {after - before}, the comparator {value}")
    theirs = (time.process_time() - begun) / looped * bootstraps

    yield header("paired bootstrap of AUC", "rows", "draws", "seconds of CPU", "times as fast", "interval")
    shown = f"{found.estimate:.5f} [{found.lower:.5f}, {found.upper:.5f}]"
    yield row("`gauntlet compare`, with a standard error in each draw", f"{rows:,}", f"{bootstraps:,}", f"{ours:.2f}",
              f"{theirs / ours:.0f}", shown)  # fmt: skip
    yield row(
        "a loop over `roc_auc_score`, extrapolated",
        f"{rows:,}",
        f"{bootstraps:,}",
        f"{theirs:.1f}",
        1,
        "the same values",
    )


if __name__ == "__main__":
    main(run)
