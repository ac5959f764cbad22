"""Quantile metrics and the sketch beneath them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluator.stats.metrics import Influence, influence
from evaluator.stats.metrics.declaration import declare
from evaluator.stats.metrics.quantile import SCORES, VALUES, FloatBuckets, Histogram


def made(kind: str) -> Influence:
    return influence(declare("m", kind, ("a",)))


def test_a_quantile_is_tested_as_a_share_above_the_champions() -> None:
    found = made("p50")
    found.learn(np.zeros(1000, dtype=bool), (np.linspace(1.0, 3.0, 1000),))
    values = found.values(np.array([True, False, True]), (np.array([2.1, 1.9, 5.0]),))
    assert values.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_a_difference_of_shares_is_told_in_the_units_of_the_quantile(shift: float) -> None:
    rng = np.random.default_rng(7)
    found = made("p95")
    score = information = 0.0
    for _ in range(20):
        treated = rng.random(4000) < 0.3
        columns = (np.exp(rng.normal(shift * treated, 0.5)) * 80.0,)
        values = found.values(treated, columns)
        if np.isfinite(values).all():
            score += float(((treated - 0.3) * values).sum())
            information += 0.21 * len(values)
        found.learn(treated, columns)
    champion, challenger = found.figures()
    assert champion is not None
    assert challenger is not None
    gap = 80.0 * math.exp(0.5 * 1.6449) * (math.exp(shift) - 1.0)
    assert found.in_units(score / information) == pytest.approx(gap, rel=0.1, abs=6.0)


@pytest.mark.parametrize("grid", [VALUES, SCORES])
def test_buckets_keep_the_order_and_lie_close(grid: FloatBuckets) -> None:
    rng = np.random.default_rng(10)
    values = np.sort(
        np.concatenate([rng.normal(size=4000) * 3, rng.random(4000), 1 - rng.random(2000) ** 9, [0, 0.5, 1]])
    )
    buckets = grid.buckets(values)
    assert (np.diff(buckets) >= 0).all()
    same = buckets[1:] == buckets[:-1]
    room = np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
    if grid.mirrored:
        room = np.where((values[:-1] > 0.5) & (values[1:] <= 1.0), 1.0 - values[:-1], room)
    assert (np.diff(values)[same] <= 2.0**-grid.bits * room[same] + 2.0**grid.lowest * 2).all()


def test_a_histogram_reads_back_quantiles_within_its_relative_error() -> None:
    rng = np.random.default_rng(11)
    values = np.concatenate([rng.lognormal(-3, 2, 20_000), -rng.lognormal(1, 1, 5_000)])
    histogram = Histogram(1)
    for part in np.array_split(values, 7):
        histogram.add(np.zeros(len(part), dtype=np.int64), VALUES.buckets(part))
    for level in (0.001, 0.05, 0.25, 0.5, 0.9, 0.99, 0.999):
        exact = float(np.quantile(values, level, method="inverted_cdf"))
        found = histogram.quantile(0, level, VALUES)
        assert found == pytest.approx(exact, rel=2**-7, abs=2**-40)
        assert found is not None
        assert histogram.below(0, found, VALUES) == pytest.approx(level, abs=1e-9)
    assert histogram.below(0, -1e9, VALUES) == 0.0
    assert histogram.below(0, 1e9, VALUES) == 1.0
    assert Histogram(1).quantile(0, 0.5, VALUES) is None


def test_alike_shares_are_no_movement_and_those_beyond_all_rows_have_no_limit() -> None:
    found = made("p90")
    assert found.in_units(0.2) == 0.2  # before any row
    found.learn(np.arange(2000) % 2 == 1, (np.repeat(np.linspace(1.0, 101.0, 1000), 2),))
    assert found.in_units(0.0) == 0.0
    assert found.in_units(-0.2) == pytest.approx(-20.0, abs=1.0)
    assert found.in_units(0.05) == pytest.approx(5.0, abs=1.0)
    assert found.in_units(0.15) == math.inf
    assert found.in_units(-math.inf) == -math.inf
    assert found.of_units(5.0) == pytest.approx(0.05, abs=0.01)
    assert found.of_units(-5.0) == pytest.approx(-0.05, abs=0.01)
