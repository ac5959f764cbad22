"""Thompson shares: probabilities of being best against draws and closed forms, floor, burn-in, refusals."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from evaluator.stats import NoAnswer, OutcomeError, PlanError
from evaluator.stats.thompson import Allocation, Contrast, contrast_allocation


def contrasted(*contrasts: Contrast, **settings: float) -> Allocation:
    found = contrast_allocation(contrasts, **settings)  # type: ignore[arg-type]
    assert isinstance(found, Allocation)
    return found


@pytest.mark.parametrize(("effect", "error"), [(0.0, 1.0), (0.02, 0.01), (-0.5, 0.1), (30.0, 1.0), (-30.0, 1.0)])
def test_one_effect_against_the_champion_in_closed_form(effect: float, error: float) -> None:
    chance = float(ndtr(effect / error))
    found = contrasted(Contrast(500, effect, error), floor=0.0)
    assert found.shares == pytest.approx((1.0 - chance, chance), abs=1e-9)


def test_several_effects_against_draws_with_the_champion_at_zero() -> None:
    means, errors = np.array([0.0, 0.3, 0.1, -0.2]), np.array([1e-300, 0.2, 0.5, 0.4])
    draws = np.random.default_rng(3).normal(means, errors, size=(400_000, 4))
    expected = np.bincount(draws.argmax(axis=1), minlength=4) / 400_000
    found = contrasted(*(Contrast(200, m, e) for m, e in zip(means[1:], errors[1:], strict=True)))
    assert found.best == pytest.approx(expected.tolist(), abs=0.003)
    assert found.shares == pytest.approx([0.01 + 0.96 * chance for chance in found.best or ()])


def test_effects_wait_for_their_burn_in_and_impossible_ones_are_refused() -> None:
    waits = contrast_allocation([Contrast(500, 0.1, 0.1), Contrast(99, 0.1, 0.1)])
    assert isinstance(waits, NoAnswer)
    assert "99 of 100" in waits.reason
    with pytest.raises(PlanError):
        contrast_allocation([])
    with pytest.raises(PlanError):
        contrasted(Contrast(500, 0.1, 0.1), floor=0.6)
    for effect, error in ((math.nan, 1.0), (0.1, 0.0), (0.1, math.inf)):
        with pytest.raises(OutcomeError):
            Contrast(500, effect, error)
