"""The α budget of a lineage: levels by hand, repeats, overlap, snapshots."""

import json

import pytest
from scipy.special import zeta

from evaluator.stats import OrderError, PlanError
from evaluator.stats.alpha_budget import KINDS, AlphaBudget, Kind


def spent(budget: AlphaBudget, results: list[bool]) -> tuple[list[float], AlphaBudget]:
    """Levels of tests in a row, each reported before the next."""
    levels = []
    for number, rejected in enumerate(results):
        level, budget = budget.request(f"challenger {number}")
        levels.append(level)
        budget = budget.report(f"challenger {number}", rejected)
    return levels, budget


def gamma(j: int) -> float:
    return float(j**-1.6 / zeta(1.6))


def test_power_levels() -> None:
    levels, budget = spent(AlphaBudget(0.05), [False, True, False])
    assert levels == pytest.approx([0.05 * gamma(j) for j in (1, 2, 3)], rel=1e-14)
    assert levels[0] == pytest.approx(0.02188, abs=1e-5)
    assert budget.granted == pytest.approx(sum(levels))


def test_geometric_levels() -> None:
    levels, _ = spent(AlphaBudget(0.1, "geometric", 0.5), [False, True, False])
    assert levels == pytest.approx([0.05, 0.025, 0.0125])


def test_lord_levels_by_hand() -> None:
    """Rejections at 2 and 3: the first pays back α − w₀, the second α."""
    levels, _ = spent(AlphaBudget(0.1, "lord"), [False, True, True, False, False])
    wealth, rest = 0.05, 0.05
    expected = [
        gamma(1) * wealth,
        gamma(2) * wealth,
        gamma(3) * wealth + gamma(1) * rest,
        gamma(4) * wealth + gamma(2) * rest + gamma(1) * 0.1,
        gamma(5) * wealth + gamma(3) * rest + gamma(2) * 0.1,
    ]
    assert levels == pytest.approx(expected, rel=1e-14)


def test_a_lineage_that_improves_does_not_run_dry_and_one_that_does_not_does() -> None:
    improving, _ = spent(AlphaBudget(0.05, "lord"), [True] * 30)
    failing, _ = spent(AlphaBudget(0.05, "lord"), [False] * 30)
    assert min(improving[5:]) > 0.03
    assert failing[-1] < 1e-3 * 0.05 * 5


def test_overlapping_tests_learn_of_a_rejection_only_when_it_is_reported() -> None:
    budget = AlphaBudget(0.1, "lord")
    _, budget = budget.request("a")
    second, budget = budget.request("b")
    assert second == pytest.approx(gamma(2) * 0.05)
    budget = budget.report("a", True)  # reported when two levels had been given
    third, budget = budget.request("c")
    assert third == pytest.approx(gamma(3) * 0.05 + gamma(1) * 0.05)
    budget = budget.report("b", True)  # at three
    fourth, _ = budget.request("d")
    assert fourth == pytest.approx(gamma(4) * 0.05 + gamma(2) * 0.05 + gamma(1) * 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_asking_or_reporting_again_changes_nothing(kind: Kind) -> None:
    level, budget = AlphaBudget(0.05, kind).request("a")
    assert budget.request("a") == (level, budget)
    reported = budget.report("a", True)
    assert reported.report("a", True) == reported
    assert reported.request("a")[0] == level
    with pytest.raises(OrderError):
        reported.report("a", False)
    with pytest.raises(OrderError):
        reported.report("b", False)
    assert budget.grants[0].rejected is None  # a value: the old one is as it was


@pytest.mark.parametrize("kind", KINDS)
def test_snapshot(kind: Kind) -> None:
    _, budget = spent(AlphaBudget(0.03, kind, 0.7), [True, False, True])
    _, budget = budget.request("open")
    restored = AlphaBudget.from_dict(json.loads(json.dumps(budget.to_dict())))
    assert restored == budget
    assert restored.request("next") == budget.request("next")


@pytest.mark.parametrize("settings", [(0.0,), (1.0,), (0.05, "bonferroni"), (0.05, "geometric", 1.0)])
def test_impossible_settings(settings: tuple[object, ...]) -> None:
    with pytest.raises(PlanError):
        AlphaBudget(*settings)  # type: ignore[arg-type]
