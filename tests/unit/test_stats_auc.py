"""AUC: placement values by hand, and the sketch of the scores against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from evaluator.stats.metrics import Influence, influence
from evaluator.stats.metrics.declaration import declare


def made(kind: str) -> Influence:
    return influence(declare("m", kind, ("a", "b")))


def test_auc_by_hand() -> None:
    found = made("auc")
    arm, score, outcome = [], [], []
    for a, others, class_ in ((0, (0.1, 0.3), (0.2, 0.4)), (1, (0.1, 0.2), (0.3, 0.4))):
        for s, y in [(s, 0.0) for s in others] + [(s, 1.0) for s in class_]:
            n = 20 if y else 40
            arm += [a] * n
            score += [s] * n
            outcome += [y] * n
    found.learn(np.array(arm, dtype=bool), (np.array(score), np.array(outcome)))
    assert found.figures() == (0.75, 1.0)
    # Champion: θ̂ = 3/4; a row of the class at 0.25 is above half of the others, one of the others at 0.3 below half.
    at = (np.array([0.25, 0.3, 0.3, 0.25, 0.35, 0.2]), np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0]))
    values = found.values(np.array([False, False, False, True, True, True]), at)
    # The third ties with one of the two others: rank 3/4. One row in three is of the class.
    expected = [0.75 - 0.25 * 3, 0.75 - 0.25 * 1.5, 0.75, 1.0, 1.0 - 0.5 * 1.5, 1.0]
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12)


def test_auc_measures_each_arm_against_its_own_scores() -> None:
    rng = np.random.default_rng(6)
    n = 40_000
    treated, outcome = rng.random(n) < 0.5, (rng.random(n) < 0.3).astype(float)
    score = rng.normal(outcome) + 5.0 * treated
    found = made("auc")
    found.learn(treated, (score, outcome))
    values = found.values(treated, (score, outcome))
    assert abs(values[treated].mean() - values[~treated].mean()) < 4.0 * values.std() * math.sqrt(4.0 / n)


@pytest.mark.parametrize(("origin", "unit"), [(0.0, 1.0), (650.0, 60.0), (-1e6, 0.5), (1e-9, 1e-12)])
def test_auc_is_close_wherever_the_scores_lie(origin: float, unit: float) -> None:
    rng = np.random.default_rng(16)
    parts, found = [], made("auc")
    for shift in (0.0, 2.0):
        outcome = (rng.random(6000) < 0.1).astype(float)
        score = origin + unit * rng.normal(outcome * 1.2 + shift)
        found.learn(np.zeros(6000, dtype=bool), (score, outcome))
        parts.append((score, outcome))
    score, outcome = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    assert found.figures()[0] == pytest.approx(sk.roc_auc_score(outcome, score), abs=1e-4)
