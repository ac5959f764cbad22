"""Distances and evidence against scipy and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, chi2_contingency, fisher_exact, ks_2samp, kstwo

from evaluator.drift.distances import distances, g_test, ks_interval, ks_p_value, reject_at, share_p_value, with_unseen
from evaluator.drift.profile import Profile
from evaluator.drift.windows import WindowCounts, count


def test_the_interval_of_a_distance_known_at_bin_ends() -> None:
    lower, upper = ks_interval(np.array([0.2, 0.6, 1.0]), np.array([0.1, 0.9, 1.0]))
    assert lower == pytest.approx(0.3)
    assert upper == pytest.approx(0.7)  # the window at 0.9 before the reference has left 0.2


@pytest.mark.parametrize(("distance", "size"), [(0.9, 5), (0.6, 20), (0.4, 50), (0.2, 200), (0.15, 1000)])
def test_the_p_value_is_the_one_sample_law_at_the_harmonic_size(distance: float, size: int) -> None:
    exact = float(kstwo.sf(distance, size))
    ours = ks_p_value(distance, 2.0 * size, 2.0 * size)
    assert exact * (1 - 1e-9) <= ours <= 1.5 * exact


def test_complete_separation_can_say_no_more_than_its_sizes() -> None:
    assert ks_p_value(1.0, 2.0, 4.0) == pytest.approx(2 / 15)
    assert ks_p_value(1.0, 2.0, 4.0) == pytest.approx(float(ks_2samp([1, 2], [3, 4, 5, 6], method="exact").pvalue))


def test_no_rows_is_no_evidence() -> None:
    assert ks_p_value(1.0, 0.0, 10.0) == 1.0
    assert g_test(np.array([5, 5]), np.array([0, 0])) == 1.0
    assert share_p_value(0.0, 0.0, 0.0, 0.0) == 1.0


def test_the_g_test_is_scipys_where_nothing_is_rare() -> None:
    reference, current = np.array([500, 300, 200]), np.array([80, 90, 80])
    theirs = chi2_contingency([reference, current], lambda_="log-likelihood", correction=False).pvalue
    assert g_test(reference, current) == pytest.approx(float(theirs))
    assert g_test(reference, current, efficiency=0.1) > 100 * g_test(reference, current)


def test_rare_categories_are_pooled_and_unseen_ones_survive() -> None:
    reference = np.array([500, 500] + [1] * 50 + [0])
    current = np.array([125, 125] + [0] * 38 + [1] * 12 + [0])
    assert g_test(reference, current) > 1e-4
    assert g_test(np.array([500, 500, 0]), np.array([100, 100, 50])) < 1e-12


@pytest.mark.parametrize(
    ("count", "rows", "before", "of"),
    [(30, 250, 499, 9998), (370, 800, 320, 800), (5, 40, 0, 60), (250, 250, 0, 1000), (9, 10, 6, 10)],
)
def test_a_share_is_held_against_the_references_by_fishers_exact_test(
    count: int, rows: int, before: int, of: int
) -> None:
    table = [[count, rows - count], [before, of - before]]
    theirs = float(fisher_exact(table, alternative="greater").pvalue)
    assert share_p_value(float(count), float(rows), float(before), float(of)) == pytest.approx(theirs, rel=1e-6)


def test_a_share_in_few_effective_rows_is_little_evidence() -> None:
    whole = share_p_value(60.0, 200.0, 100.0, 1000.0)
    tenth = share_p_value(6.3, 21.0, 10.5, 105.0)
    assert whole < 1e-10
    lower, upper = (share_p_value(k, 21.0, 10.5, 105.0) for k in (7.0, 6.0))
    assert lower < tenth < upper
    assert share_p_value(40.0, 100.0, 400.0, 1000.0) == 1.0


def test_shares_of_two_equal_samples_are_significant_as_rarely_as_promised() -> None:
    """With the reference's own share taken for the truth, .047 of these were below .01."""
    rng = np.random.default_rng(5)
    counts = rng.binomial(800, 0.4, (4000, 2)).astype(float)
    small = np.mean([share_p_value(now, 800.0, before, 800.0) < 0.01 for before, now in counts])
    assert small <= binom.isf(0.001, 4000, 0.01) / 4000


def test_total_variation_is_half_the_absolute_difference() -> None:
    even = ["a", "b"] * 50
    profile = Profile.fit({"x": even, "y": even, "n": [0.0, 1.0] * 50, "z": [None, "c"] * 50}, reference_id="v1")
    columns = {"x": ["a"] * 2 + ["b"] * 8, "y": ["a"] * 5 + ["new"] * 4 + [None], "n": [0.0] * 10, "z": [None] * 10}
    view = WindowCounts.of(profile, 10, count(profile, columns).counts)
    found = dict(zip(profile.names, distances(profile, view).tolist(), strict=True))
    assert found == pytest.approx({"x": 0.3, "y": 0.5, "n": 0.5, "z": 0.0})


def test_benjamini_hochberg_by_hand() -> None:
    p_values = np.array([[0.01, 0.9], [0.03, 0.02]])
    assert reject_at(p_values, 0.05).tolist() == [[True, False], [True, True]]
    assert not reject_at(np.array([0.02, 0.9, 0.9, 0.9]), 0.05).any()
    assert reject_at(np.empty(0), 0.05).shape == (0,)


@pytest.mark.parametrize(("categories", "power", "before", "now"), [(300, 1.3, 1000, 1000), (100, 1.0, 100, 100)])
def test_what_a_sample_has_not_seen_is_no_drift(categories: int, power: float, before: int, now: int) -> None:
    """Texts of many rare values, one law on both sides: what is new in one sample was rare in the other."""
    share = 1.0 / np.arange(1, categories + 1) ** power
    share /= share.sum()
    plain, pooled = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        drawn = np.bincount(rng.choice(categories, before, p=share), minlength=categories)
        other = np.bincount(rng.choice(categories, now, p=share), minlength=categories)
        known = drawn > 0
        reference = np.append(drawn[known], 0)
        current = np.append(other[known], other[~known].sum())
        plain.append(g_test(reference, current))
        pooled.append(g_test(*with_unseen(reference, current)))
    assert np.mean(np.array(plain) < 0.001) > 0.5  # what it was
    assert np.mean(np.array(pooled) < 0.001) <= 0.02
    assert np.mean(np.array(pooled) < 0.05) <= 0.15


def test_pooling_keeps_rows_and_leaves_frequent_categories_alone() -> None:
    reference, current = np.array([50, 40, 6, 5, 1, 0]), np.array([45, 45, 5, 2, 1, 9])
    was, now = with_unseen(reference, current)
    assert was.tolist() == [50, 40, 6, 6 + 6]  # five, one and none, and as many more as were seen six times
    assert now.tolist() == [45, 45, 5, 12]
    assert now.sum() == current.sum()
