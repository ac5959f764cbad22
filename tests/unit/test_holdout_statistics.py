"""The comparator's metrics under weights, against scikit-learn's with the same weights, and their influences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as theirs

from gauntlet.holdout.auc import AreaUnderCurve, concordant
from gauntlet.holdout.metrics import HoldoutRows, names, statistic
from gauntlet.holdout.statistics import beside, change_in_words
from gauntlet.types import Task

N, BLOCKS = 600, 12
CLASSES = {2: ["no", "yes"], 3: ["a", "b", "c"]}


def classified(classes: int) -> tuple[HoldoutRows, Any]:
    """Rows with ties among the probabilities, and a model's probabilities."""
    rng = np.random.default_rng(classes)
    output = np.round(rng.dirichlet(np.ones(classes), N), 2)
    output[:, -1] = np.clip(1 - output[:, :-1].sum(axis=1), 0, 1)
    truth = np.where(rng.random(N) < 0.5, output.argmax(axis=1), rng.integers(0, classes, N)).astype(float)
    block = rng.permutation(np.arange(N) % BLOCKS)
    return HoldoutRows(Task.CLASSIFICATION, CLASSES[classes], truth, block, BLOCKS), output


def expected(name: str, rows: HoldoutRows, output: Any) -> Callable[[Any], float]:
    """The metric by scikit-learn, as a function of the rows' weights."""
    truth, labels = rows.truth.astype(int), list(range(len(rows.classes)))
    called = output.argmax(axis=1)
    two = len(labels) == 2
    if name == "auc":
        if two:
            return lambda w: theirs.roc_auc_score(truth, output[:, 1], sample_weight=w)
        over = [(truth == i, output[:, i]) for i in labels]
        return lambda w: np.mean([theirs.roc_auc_score(y, p, sample_weight=w) for y, p in over])
    if name == "log_loss":
        return lambda w: theirs.log_loss(truth, output, labels=labels, sample_weight=w)
    if name == "brier":
        if two:
            return lambda w: theirs.brier_score_loss(truth, output[:, 1], sample_weight=w)
        onehot = np.eye(len(labels))[truth]
        return lambda w: np.average(((output - onehot) ** 2).sum(axis=1), weights=w)
    if name == "accuracy":
        return lambda w: theirs.accuracy_score(truth, called, sample_weight=w)
    measure, _, one = name.partition("@")
    score = getattr(theirs, f"{measure.removeprefix('macro_')}_score")
    if one:
        chosen = {"labels": [rows.classes.index(one)], "average": "macro"}
    else:
        chosen = {"average": "macro"} if measure.startswith("macro_") else {"average": "binary"}
    return lambda w: score(truth, called, sample_weight=w, zero_division=0, **chosen)


@pytest.mark.parametrize(
    ("classes", "name"), [(k, name) for k in (2, 3) for name in names(Task("classification"), CLASSES[k])]
)
def test_a_metric_of_classes_is_scikit_learns_under_any_weights(classes: int, name: str) -> None:
    rows, output = classified(classes)
    check(statistic(name, output, rows), expected(name, rows, output), rows)


@pytest.mark.parametrize("name", names(Task.REGRESSION, ()))
def test_a_metric_of_numbers_is_scikit_learns_under_any_weights(name: str) -> None:
    rng = np.random.default_rng(1)
    truth = 1000 + rng.normal(size=N)
    output = truth + rng.normal(scale=0.5, size=N)
    rows = HoldoutRows(Task.REGRESSION, (), truth, np.arange(N) % BLOCKS, BLOCKS)
    score = {"rmse": theirs.root_mean_squared_error, "mae": theirs.mean_absolute_error, "r2": theirs.r2_score}[name]
    check(statistic(name, output, rows), lambda w: score(truth, output, sample_weight=w), rows)


def check(found: Any, function: Callable[[Any], float], rows: HoldoutRows) -> None:
    """Values, and the influences as derivatives by each block's weight."""
    weights = np.vstack([np.ones(BLOCKS), np.random.default_rng(2).integers(0, 4, size=(3, BLOCKS))])
    values, influences = found.evaluate(weights)
    for w, value, influence in zip(weights, values, influences, strict=True):
        assert value == pytest.approx(function(w[rows.block]), abs=1e-10)
        for c in range(BLOCKS):
            step = np.where(np.arange(BLOCKS) == c, 1e-5, 0.0)
            slope = (function((w + step)[rows.block]) - function(w[rows.block])) / 1e-5
            assert influence[c] == pytest.approx(slope, abs=2e-5)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.integers(0, 3, n).astype(float),
        lambda rng, n: np.where(rng.random(n) < 0.4, 0.5, rng.normal(size=n)),
        lambda rng, n: np.zeros(n),
    ],
    ids=["no ties", "three values", "one large tie among others", "one value"],
)
@pytest.mark.parametrize("n", [2, 7, 300, 2000])
def test_concordant_pairs_are_counted_exactly(draw: Callable[..., Any], n: int) -> None:
    rng = np.random.default_rng(n)
    score, positive, block = draw(rng, n), rng.random(n) < 0.3, rng.integers(0, 4, n)
    found = concordant(score, positive, block, 4)
    wins = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    wins *= positive[:, None] & ~positive
    slow = np.array([[wins[np.ix_(block == c, block == d)].sum() for d in range(4)] for c in range(4)])
    np.testing.assert_array_equal(found, slow)


@pytest.mark.parametrize("missing", [0.0, 1.0])
def test_a_draw_with_one_class_has_no_auc(missing: float) -> None:
    positive = np.array([True, True, False, False])
    area = AreaUnderCurve.of(np.arange(4.0), positive, np.array([0, 0, 1, 1]), 2)
    values, influences = area.evaluate(np.array([[missing, 1 - missing], [1.0, 1.0]]))
    assert np.isnan(values[0])
    assert values[1] == 0.0
    assert np.isfinite(influences).all()


def test_precision_of_what_is_never_predicted_is_zero_and_recall_of_what_never_occurs_is_unknown() -> None:
    output = np.tile([0.9, 0.1], (4, 1))
    rows = partial(HoldoutRows, Task.CLASSIFICATION, ["no", "yes"], block=np.arange(4), blocks=4)
    ones = np.ones((1, 4))
    truth = np.array([0.0, 1.0, 0.0, 1.0])
    assert statistic("precision", output, rows(truth=truth)).evaluate(ones)[0] == 0.0
    assert np.isnan(statistic("recall", output, rows(truth=np.zeros(4))).evaluate(ones)[0])


def test_r_squared_of_a_constant_truth_is_unknown() -> None:
    rows = HoldoutRows(Task.REGRESSION, (), np.full(8, 0.1), np.arange(8), 8)
    assert np.isnan(statistic("r2", np.arange(8.0), rows).evaluate(np.ones((1, 8)))[0])


def test_a_change_is_told_in_words_also_where_there_is_none() -> None:
    assert change_in_words("mse", 2.0, " a row", " on 9 rows") == "mse improves by 2 a row on 9 rows"
    assert change_in_words("mse", -0.5, " a row", " on 9 rows") == "mse gets worse by 0.5 a row on 9 rows"
    assert change_in_words("mse", 0.0, " a row", " on 9 rows") == "mse stays the same on 9 rows"
    assert beside(0.0, 0.01, enough=False) == "where an improvement by 0.01 is asked for"
    assert beside(0.0, 0.0, enough=True) == "at least the 0 asked for"
