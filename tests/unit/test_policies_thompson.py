"""Thompson shares: probabilities of being best against draws and closed forms, floor, burn-in, refusals."""

import math

import numpy as np
import pytest
from scipy.special import betaln, ndtr

from evaluator.policies.thompson import Allocation, Contrast, allocation, best_probabilities, contrast_allocation
from evaluator.stats import Arm, NoAnswer, OutcomeError, PlanError
from evaluator.stats.e_process import SplitWealth


def binary(n: int, wins: int) -> Arm:
    return Arm(n, float(wins), float(wins))


def normal(n: int, mean: float, spread: float) -> Arm:
    """Sums of n outcomes of that mean and sample standard deviation."""
    return Arm(n, n * mean, spread**2 * (n - 1) + n * mean**2)


def best(arms: list[Arm], kind: bool) -> list[float]:
    found = best_probabilities(arms, binary=kind)
    assert not isinstance(found, NoAnswer)
    return [float(each) for each in found]


@pytest.mark.parametrize(("first", "second"), [((100, 80), (100, 85)), ((1000, 10), (150, 4)), ((400, 0), (100, 0))])
def test_two_binary_arms_in_closed_form(first: tuple[int, int], second: tuple[int, int]) -> None:
    """P(p₂ > p₁) = Σ_{i < a₂} B(a₁ + i, b₁ + b₂) / ((b₂ + i) B(1 + i, b₂) B(a₁, b₁)): a finite sum, no quadrature."""
    a1, b1 = 1 + first[1], 1 + first[0] - first[1]
    a2, b2 = 1 + second[1], 1 + second[0] - second[1]
    exact = sum(
        math.exp(betaln(a1 + i, b1 + b2) - math.log(b2 + i) - betaln(1 + i, b2) - betaln(a1, b1)) for i in range(a2)
    )
    assert best([binary(*first), binary(*second)], True) == pytest.approx([1.0 - exact, exact], abs=1e-9)


def test_two_normal_arms_in_closed_form() -> None:
    chance = float(ndtr((1.2 - 1.0) / math.hypot(2.0 / 20.0, 3.0 / math.sqrt(150.0))))
    assert best([normal(400, 1.0, 2.0), normal(150, 1.2, 3.0)], False) == pytest.approx([1 - chance, chance], abs=1e-9)


def test_several_arms_against_draws() -> None:
    arms = [binary(1000, 800), binary(120, 100), binary(5000, 3900), binary(100, 70)]
    draws = np.random.default_rng(2).beta(
        [1 + arm.total for arm in arms], [1 + arm.n - arm.total for arm in arms], size=(400_000, 4)
    )
    shares = np.bincount(draws.argmax(axis=1), minlength=4) / 400_000
    assert best(arms, True) == pytest.approx(shares.tolist(), abs=0.003)


def test_equal_arms_share_equally_and_order_does_not_matter() -> None:
    assert best([binary(500, 100)] * 5, True) == pytest.approx([0.2] * 5, abs=1e-9)
    assert best([normal(500, 3.0, 1.0)] * 4, False) == pytest.approx([0.25] * 4, abs=1e-9)
    arms = [binary(1000, 800), binary(120, 100), binary(5000, 3900)]
    assert best(arms[::-1], True) == pytest.approx(best(arms, True)[::-1], abs=1e-12)


def test_far_apart_and_of_very_different_sizes() -> None:
    assert best([binary(10_000_000, 8_000_000), binary(100, 0)], True) == pytest.approx([1.0, 0.0], abs=1e-12)
    wide, narrow = best([normal(100, 0.0, 100.0), normal(10_000_000, 1.0, 1.0)], False)
    assert wide == pytest.approx(float(ndtr(-0.1)), abs=1e-6)
    assert narrow == pytest.approx(1.0 - wide)


def given(*args: Arm, **settings: object) -> Allocation:
    found = allocation(args, binary=True, **settings)  # type: ignore[arg-type]
    assert isinstance(found, Allocation)
    return found


def test_shares_have_a_floor_and_add_to_one() -> None:
    found = given(binary(10_000, 9000), binary(1000, 100), binary(1000, 110))
    assert found.shares == pytest.approx((0.98, 0.01, 0.01), abs=1e-9)
    assert sum(found.shares) == pytest.approx(1.0, abs=1e-12)
    assert found.best is not None
    middling = given(binary(500, 400), binary(500, 410))
    assert middling.best is not None
    assert middling.shares == pytest.approx([0.01 + 0.98 * chance for chance in middling.best])
    assert "arm 2 of 2 is the best" in middling.reason


def test_burn_in_keeps_the_starting_shares() -> None:
    found = given(binary(5000, 4500), binary(99, 0))
    assert (found.shares, found.best) == ((0.5, 0.5), None)
    assert "99 of 100" in found.reason
    assert given(binary(5000, 4500), binary(99, 0), start=(0.9, 0.1)).shares == (0.9, 0.1)
    assert given(binary(5000, 4500), binary(100, 0), start=(0.9, 0.1)).shares == pytest.approx((0.99, 0.01))


def test_an_arm_that_never_varies_takes_the_pooled_variance() -> None:
    constant, varying = Arm(100, 50.0, 25.0), normal(300, 0.5, 1.0)
    pooled = 299.0 / 398.0
    chance = float(ndtr((0.5 - 0.6) / math.sqrt(pooled / 100.0 + 1.0 / 300.0)))
    assert best([constant, normal(300, 0.6, 1.0)], False)[0] == pytest.approx(chance, abs=1e-9)
    assert best([constant, varying], False) == pytest.approx([0.5, 0.5], abs=1e-9)


def test_no_answer_and_refusals() -> None:
    still = Arm(200, 20.0, 2.0)
    assert isinstance(allocation([still, Arm(200, 40.0, 8.0)], binary=False), NoAnswer)
    with pytest.raises(OutcomeError):
        allocation([still, still], binary=True)
    with pytest.raises(OutcomeError):
        allocation([binary(200, 100), Arm(200, math.nan, 1.0)], binary=False)
    for settings in (
        {"floor": 0.6},
        {"floor": -0.1},
        {"burn_in": 0},
        {"start": (0.5, 0.6)},
        {"start": (1.0,)},
        {"start": (0.999, 0.001)},
    ):
        with pytest.raises(PlanError):
            given(binary(200, 100), binary(200, 100), **settings)
    with pytest.raises(PlanError):
        given(binary(200, 100))


@pytest.mark.parametrize(("champion", "challenger"), [(0.3, 0.3), (0.3, 0.6)])
def test_the_exact_test_stays_exact_while_the_shares_follow_the_outcomes(champion: float, challenger: float) -> None:
    """E[E] over every history of five units, each assigned with the share that the history before it gives.

    No sampling error: 1 without an effect, on both sides; with one the win side grows and the harm side shrinks.
    """
    settings = {"binary": True, "floor": 0.01, "burn_in": 2}

    def expected(
        wealth: SplitWealth, arms: tuple[Arm, Arm], left: int
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        if not left:
            return np.exp(wealth.log_e[:, 0])
        found = allocation(arms, **settings)  # type: ignore[arg-type]
        assert isinstance(found, Allocation)
        share = found.shares[1]
        shares_seen.add(share)
        m = sum(arm.total for arm in arms) / sum(arm.n for arm in arms)
        total = np.zeros(2)
        for arm, success in ((0, champion), (1, challenger)):
            for y, chance in ((1.0, success), (0.0, 1.0 - success)):
                after = [Arm(each.n, each.total, each.squares) for each in arms]
                after[arm] = Arm(arms[arm].n + 1, arms[arm].total + y, arms[arm].squares + y)
                grown = wealth.add(np.array([arm == 1]), np.array([share]), np.array([y]), m)
                total += (share if arm else 1.0 - share) * chance * expected(grown, (after[0], after[1]), left - 1)
        return total

    shares_seen: set[float] = set()
    win, harm = expected(SplitWealth.start(), (binary(3, 1), binary(3, 1)), 5)
    assert len(shares_seen) > 50
    if champion == challenger:
        assert (win, harm) == pytest.approx((1.0, 1.0), abs=1e-12)
    else:
        assert win > 1.01
        assert harm < 0.99


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
