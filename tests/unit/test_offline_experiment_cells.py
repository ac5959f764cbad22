"""Sums within clusters that come in any order and in parts, against the definition."""

import numpy as np
import pytest

from evaluator.offline.experiment.cells import ClusterSums


def test_clusters_that_come_and_go_are_summed_and_their_spread_is_about_the_effect() -> None:
    rng, n = np.random.default_rng(1), 400
    codes, score, information = rng.integers(0, 130, n), rng.normal(0.5, 1.0, n), rng.uniform(0.5, 1.5, n)
    sums = ClusterSums()
    for start in range(0, n, 37):
        part = slice(start, start + 37)
        sums.add(codes[part], score[part], information[part], information[part])
    order = list(dict.fromkeys(codes.tolist()))
    expected = [[each[codes == code].sum() for each in (score, information, information)] for code in order]
    rows = sums.rows()
    assert len(sums) == len(order)
    np.testing.assert_allclose(rows[:, :3], expected)
    assert rows[:, 3].tolist() == [int((codes == code).sum()) for code in order]
    effect = score.sum() / information.sum()
    about = sum((s - effect * i) ** 2 for s, i, _ in expected) * len(order) / (len(order) - 1)
    assert sums.variance(float(score.sum()), float(information.sum())) == pytest.approx(about)


def test_one_cluster_has_no_spread() -> None:
    sums = ClusterSums()
    sums.add(np.zeros(3, dtype=np.int64), np.ones(3), np.ones(3), np.ones(3))
    assert sums.variance(3.0, 3.0) == 0.0
