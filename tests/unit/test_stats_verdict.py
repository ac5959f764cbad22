"""From looks and guards to verdicts."""

import dataclasses

import pytest

from evaluator.stats import Guardrail, Look, NoAnswer, PlanError, Stop, judge

OPEN = Look(
    number=7,
    n_champion=9000,
    n_challenger=1000,
    mean_champion=0.8,
    mean_challenger=0.81,
    effect=0.01,
    lower=-0.02,
    upper=0.04,
    z=1.5,
    bound_win=2.5,
    bound_harm=2.6,
    information=900.0,
    information_fraction=0.25,
    p_value=0.4,
    p_win=0.2,
    p_harm=0.9,
    standard_error=0.01,
    detectable_win=None,
    fixed_p=0.07,
    widening=1.2,
    autocorrelation=0.1,
    skewness=-0.3,
    n_blocks=22,
    margin=0.0,
    final=False,
    crossed=None,
    stop=None,
    reasons=("not decided",),
)


def crossed(side: str) -> Look:
    sign = 1 if side == "better" else -1
    stop = Stop(7, side, sign * 0.05, None, None, 0.25, 9000, 1000)  # type: ignore[arg-type]
    limits = {"lower": 0.01, "upper": 0.09} if sign > 0 else {"lower": -0.09, "upper": -0.01}
    return dataclasses.replace(OPEN, crossed=side, stop=stop, reasons=(f"{side}: crossed",), **limits)


@pytest.mark.parametrize("side", ["better", "worse"])
def test_a_crossed_boundary_is_the_verdict(side: str) -> None:
    verdict = judge(crossed(side))
    assert (verdict.result, verdict.final, verdict.reasons) == (side, True, (f"{side}: crossed",))


def test_no_answer_is_inconclusive_with_its_reason() -> None:
    verdict = judge(NoAnswer("3 of at least 5 blocks are closed"))
    assert (verdict.result, verdict.final) == ("inconclusive", False)
    assert "3 of at least 5" in verdict.reasons[0]


def test_a_breached_guardrail_outweighs_a_win() -> None:
    guard = Guardrail("recall", dataclasses.replace(OPEN, lower=-0.3, upper=-0.12), margin=0.1)
    assert guard.standing == "breached"
    verdict = judge(crossed("better"), guardrails=[guard])
    assert verdict.result == "worse"
    assert "recall is worse by at least 0.12, beyond its margin 0.1" in verdict.reasons[0]
    assert judge(NoAnswer("none"), guardrails=[guard]).result == "worse"


@pytest.mark.parametrize(
    ("lower", "upper", "standing"),
    [
        (-0.05, 0.2, "safe"),
        (-0.3, -0.05, "open"),
        (-0.3, -0.11, "breached"),
        (None, None, "open"),
        (None, -0.2, "breached"),
    ],
)
def test_standing_of_a_guardrail(lower: float | None, upper: float | None, standing: str) -> None:
    assert Guardrail("latency", dataclasses.replace(OPEN, lower=lower, upper=upper), 0.1).standing == standing
    assert Guardrail("latency", NoAnswer("none"), 0.1).standing == "open"


def test_equivalent_is_an_interval_inside_the_margin() -> None:
    assert judge(OPEN, equivalence=0.05).result == "equivalent"
    assert judge(OPEN, equivalence=0.03).result == "inconclusive"
    assert judge(dataclasses.replace(OPEN, lower=None), equivalence=0.05).result == "inconclusive"


def test_time_left_is_reported_in_outcomes() -> None:
    verdict = judge(OPEN)
    assert verdict.eta_horizon == 30000
    assert verdict.eta_decision == round(40000 * (0.25 * (2.5 / 1.5) ** 2 - 0.25) + 0.5)
    assert judge(dataclasses.replace(OPEN, z=0.5)).eta_decision is None
    final = judge(dataclasses.replace(OPEN, final=True, information_fraction=1.1))
    assert (final.result, final.final, final.eta_horizon, final.eta_decision) == ("inconclusive", True, 0, None)


def test_impossible_margins_are_refused() -> None:
    with pytest.raises(PlanError):
        judge(OPEN, equivalence=0.0)
    with pytest.raises(PlanError):
        Guardrail("latency", OPEN, -0.1)
