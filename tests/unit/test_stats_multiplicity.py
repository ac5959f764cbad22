"""Adjusted p values against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from evaluator.stats import StatsError
from evaluator.stats.multiplicity import benjamini_hochberg, holm

FAMILIES = [
    (0.012, 0.04, 0.003, 0.76, 0.2),
    (0.05,),
    (0.01, 0.01, 0.01),
    (1.0, 0.0, 0.5, 0.5),
    tuple(np.random.default_rng(3).random(40).tolist()),
]


@pytest.mark.parametrize("ps", FAMILIES)
def test_adjusted_values_are_statsmodels(ps: tuple[float, ...]) -> None:
    assert holm(ps) == pytest.approx(tuple(multipletests(ps, method="holm")[1]), abs=1e-15)
    assert benjamini_hochberg(ps) == pytest.approx(tuple(multipletests(ps, method="fdr_bh")[1]), abs=1e-15)
    by = tuple(multipletests(ps, method="fdr_by")[1])
    assert benjamini_hochberg(ps, dependent=True) == pytest.approx(by, abs=1e-15)


def test_no_answer_keeps_its_place_and_counts_in_the_family() -> None:
    assert holm((0.01, None, 0.04)) == pytest.approx((0.03, None, 0.08))
    assert benjamini_hochberg((0.01, None, 0.04)) == pytest.approx((0.03, None, 0.06))
    assert holm((None, None)) == (None, None)
    assert holm(()) == benjamini_hochberg(()) == ()


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(bad: float) -> None:
    with pytest.raises(StatsError):
        holm((0.1, bad))
    with pytest.raises(StatsError):
        benjamini_hochberg((bad,))
