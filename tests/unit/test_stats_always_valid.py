"""The normal mixture against the reference implementation's values (confseq's unit tests and its own output)."""

import pytest

from evaluator.stats import PlanError
from evaluator.stats.always_valid import best_rho, log_mixture, mixture_bound

RHO = best_rho(100.0, 0.05)


def test_rho_one_sided_is_the_two_sided_one_at_twice_the_level() -> None:
    assert best_rho(100.0, 0.025) == pytest.approx(12.60056, abs=1e-4)


def test_log_mixture() -> None:
    assert log_mixture(10.0, 100.0, RHO) == pytest.approx(-0.06502391, abs=1e-4)


@pytest.mark.parametrize(
    ("v", "expected"),
    [(50.0, 19.945260489737393), (100.0, 27.660708830694603), (500.0, 64.61851365014581), (1e4, 332.7971567838972)],
)
def test_bound(v: float, expected: float) -> None:
    assert mixture_bound(v, 0.05, RHO) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("v", "alpha"), [(0.0, 0.05), (-1.0, 0.05), (float("inf"), 0.05), (1.0, 0.5), (1.0, 0.0)])
def test_impossible_settings_are_refused(v: float, alpha: float) -> None:
    with pytest.raises(PlanError):
        best_rho(v, alpha)
