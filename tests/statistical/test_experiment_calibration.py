"""A whole analysis under no effect, from rows to verdict: how often it is wrong, with limits on both sides."""

import numpy as np
import pandas as pd
from builders.statistics import at_least, at_most

import gauntlet

RUNS = 200


def verdicts(seed: int) -> list[str]:
    """A/A runs on a ramp whose baseline drifts with it, a look every 300 rows."""
    found = []
    pi, base = np.repeat([0.1, 0.3, 0.5], 600), np.repeat([0.4, 0.6, 0.8], 600)
    for run in range(RUNS):
        rng = np.random.default_rng([seed, run])
        arm = np.where(rng.random(1800) < pi, "B", "A")
        frame = pd.DataFrame({"arm": arm, "pi": pi, "y": (rng.random(1800) < base).astype(float)})
        answer = gauntlet.analyze(
            frame, arm="arm", champion="A", metric="y:proportion", propensity="pi", look_every=300
        )
        (comparison,) = answer.comparisons
        found.append(comparison.verdict)
    return found


def test_no_effect_is_called_one_as_often_as_declared() -> None:
    found = verdicts(31)
    for side in ("better", "worse"):
        assert found.count(side) <= at_most(RUNS, 0.025)
    assert found.count("better") + found.count("worse") >= at_least(RUNS, 0.04)
