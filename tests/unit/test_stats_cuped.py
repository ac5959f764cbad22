"""CUPED: what an adjustment takes off, against least squares, and what it must survive."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluator.stats.errors import OutcomeError, StatsError
from evaluator.stats.metrics.cuped import CupedAdjustment

Floats = NDArray[np.float64]
Columns = tuple[Floats, ...]
NAN = math.nan


def covariates(n: int, rng: np.random.Generator, rho: float = 0.8) -> tuple[Columns, Floats]:
    x = rng.normal(50.0, 4.0, n)
    y = 7.0 + rho * (x - 50.0) / 4.0 + math.sqrt(1 - rho * rho) * rng.normal(size=n)
    return (x,), y


def test_an_adjustment_takes_off_the_share_of_variance_that_its_covariate_explains() -> None:
    rng = np.random.default_rng(12)
    adjustment = CupedAdjustment(1)
    plain = adjusted = 0.0
    for _ in range(40):
        columns, y = covariates(500, rng)
        treated = rng.random(500) < 0.1
        m = adjustment.predict(columns)
        if m.any():
            plain += float(np.square((treated - 0.1) * (y - 7.0)).sum())
            adjusted += float(np.square((treated - 0.1) * (y - m)).sum())
        adjustment.learn(columns, y)
    assert adjusted / plain == pytest.approx(1 - 0.8**2, abs=0.03)


def test_an_adjustment_is_least_squares_on_the_past() -> None:
    rng = np.random.default_rng(13)
    x = rng.normal(size=(600, 3)) @ rng.normal(size=(3, 3)) + 1e6
    y = x @ [0.5, -1.0, 2.0] + rng.normal(size=600)
    adjustment = CupedAdjustment(3)
    for part in np.array_split(np.arange(600), 5):
        adjustment.learn(tuple(x[part].T), y[part])
    design = np.column_stack([np.ones(600), x - x.mean(axis=0)])
    expected = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(adjustment.predict(tuple(x.T)), expected, rtol=1e-9)


def test_dependent_constant_and_missing_covariates_do_no_harm() -> None:
    rng = np.random.default_rng(15)
    (x,), y = covariates(2000, rng)
    simple, crowded = CupedAdjustment(1), CupedAdjustment(4)
    simple.learn((x,), y)
    crowded.learn((x, -3.0 * x, np.full(2000, 1e7), np.full(2000, NAN)), y)
    np.testing.assert_allclose(
        crowded.predict((x, -3.0 * x, np.full(2000, 2e7), np.full(2000, NAN))), simple.predict((x,)), rtol=1e-6
    )
    assert simple.predict((np.array([NAN]),))[0] == pytest.approx(y.mean())


def test_an_adjustment_without_past_or_covariates() -> None:
    assert CupedAdjustment(1).predict((np.array([3.0, 4.0]),)).tolist() == [0.0, 0.0]
    few = CupedAdjustment(1)
    few.learn((np.array([1.0, 2.0]),), np.array([1.0, 5.0]))
    assert few.predict((np.array([9.0]),)).tolist() == [3.0]
    few.learn((np.array([1.0, 2.0]),), np.array([NAN, NAN]))
    assert few.predict((np.array([9.0]),)).tolist() == [3.0]
    for columns, values in (((np.array([math.inf]),), [1.0]), ((np.array([1.0]),), [-math.inf])):
        with pytest.raises(OutcomeError, match="position 0"):
            few.learn(columns, np.array(values))
    with pytest.raises(StatsError):
        few.predict((np.zeros(2), np.zeros(2)))
    with pytest.raises(StatsError):
        CupedAdjustment(0)
