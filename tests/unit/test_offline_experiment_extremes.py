"""Extremes of an analysis: the clearest cases are decided, in every mode, each against SciPy's own answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders.experiments import analysed, only
from scipy import stats

import gauntlet

MODES = ["group-sequential", "anytime", "exact", "msprt", "sprt", "fixed"]


def counted(champion: tuple[int, int], challenger: tuple[int, int], seed: int = 0) -> pd.DataFrame:
    """Rows with so many y = 1 of so many, in a random order."""
    parts = [np.repeat([1.0, 0.0], [k, n - k]) for k, n in (champion, challenger)]
    frame = pd.DataFrame({"arm": np.repeat(["A", "B"], [champion[1], challenger[1]]), "y": np.concatenate(parts)})
    return frame.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def answered(frame: pd.DataFrame, **options: Any) -> Any:
    return analysed(frame, **{"metric": "y:proportion:lower", "share": {"A": 1, "B": 1}} | options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("champion", "challenger", "verdict"),
    [
        ((83, 1526), (0, 1474), "better"),  # the issue's
        ((0, 1526), (83, 1474), "worse"),
        ((1000, 1000), (800, 1000), "better"),
        ((800, 1000), (1000, 1000), "worse"),
        ((500, 500), (0, 500), "better"),
        ((0, 500), (500, 500), "worse"),
    ],
)
def test_arms_that_fail_never_or_always_are_decided(
    mode: str, champion: tuple[int, int], challenger: tuple[int, int], verdict: str
) -> None:
    found = answered(counted(champion, challenger), mode=mode)
    assert found.verdict == verdict
    one = only(found)
    assert one.effect is not None
    assert one.p_value is not None
    assert one.p_value < 1e-5
    lower, upper = (-1.0 if one.lower is None else one.lower), (1.0 if one.upper is None else one.upper)
    assert lower <= one.effect <= upper
    assert lower > 0.0 or upper < 0.0


def test_one_look_has_twice_the_exact_one_sided_p() -> None:
    one = only(answered(counted((14, 300), (1, 300)), mode="fixed"))
    table = [[1, 299], [14, 286]]
    assert one.p_value == pytest.approx(2.0 * stats.fisher_exact(table, alternative="less").pvalue, rel=1e-6)
    assert one.verdict == "better"
    few = only(answered(counted((6, 300), (1, 300)), mode="fixed"))
    assert few.p_value == pytest.approx(2.0 * stats.fisher_exact([[1, 299], [6, 294]], alternative="less").pvalue)
    assert few.verdict == "inconclusive"


@pytest.mark.parametrize(("lost", "won"), [(0, 40), (3, 40)])
def test_pairs_of_which_one_arm_is_hardly_ever_right_alone(lost: int, won: int) -> None:
    a, b = np.ones(2000), np.ones(2000)
    a[:won], b[won : won + lost] = 0.0, 0.0
    frame = pd.DataFrame({"a": a, "b": b}).sample(frac=1.0, random_state=1)
    one = only(
        analysed(
            frame, arm=None, champion=None, share=None, paired="a,b", metric="right:proportion:higher", mode="fixed"
        )
    )
    assert one.verdict == "better"
    assert one.p_value == pytest.approx(2.0 * stats.binomtest(won, lost + won, alternative="greater").pvalue, rel=1e-6)
    assert one.effect == pytest.approx((won - lost) / 2000)


def test_an_arm_of_zeros_is_no_two_kinds_of_outcome() -> None:
    """Nobody of the champion's paid: that is a mean of 0, and no rarer kind of two."""
    rng = np.random.default_rng(3)
    frame = counted((0, 600), (0, 600))
    frame["y"] = np.where(frame.arm == "B", rng.uniform(1.0, 3.0, len(frame)), 0.0)
    one = only(answered(frame, metric="y:mean:higher"))
    assert one.verdict == "better"
    assert not any("rarer kind" in reason for reason in one.reasons)


def test_a_guardrail_that_never_failed_is_within_its_margin() -> None:
    for champion, challenger in (((0, 2000), (0, 2000)), ((5, 2000), (5, 2000)), ((40, 2000), (0, 2000))):
        found = answered(counted(champion, challenger), metric="y:proportion:lower:margin=0.01")
        assert only(found).verdict in ("equivalent", "better"), champion
    small = only(answered(counted((0, 100), (0, 100)), metric="y:proportion:lower:margin=0.01"))
    assert small.verdict == "inconclusive"  # .99^100 = .37


def test_outcomes_that_never_vary_are_no_answer_without_a_margin() -> None:
    one = only(answered(counted((0, 2000), (0, 2000))))
    assert (one.verdict, one.effect, one.p_value) == ("inconclusive", None, None)


def test_units_that_come_back_are_not_counted_as_so_many_draws() -> None:
    """The champion's 80 failures are those of one user: no proof."""
    frame = counted((0, 400), (0, 400))
    frame["user"] = np.arange(800)
    sick = frame.index[frame.arm == "A"][::5]
    frame.loc[sick, "user"] = int(sick[0])
    frame.loc[sick, "y"] = 1.0
    alone = only(answered(frame, mode="fixed"))
    assert alone.verdict == "better"
    assert only(answered(frame, mode="fixed", unit="user")).verdict == "inconclusive"


def test_a_ramp_with_drift_makes_no_winner_of_an_arm_that_was_not_there() -> None:
    """The champion's failures are all of the days before the challenger got traffic."""
    rng = np.random.default_rng(4)
    pi = np.repeat([0.01, 0.5], [2000, 1000])
    frame = pd.DataFrame({"arm": np.where(rng.random(3000) < pi, "B", "A"), "pi": pi})
    frame["y"] = ((pi == 0.01) & (rng.random(3000) < 0.05) & (frame.arm == "A")).astype(float)
    one = only(answered(frame, share=None, propensity="pi", mode="fixed"))
    assert frame[frame.arm == "B"].y.sum() == 0.0
    assert one.verdict == "inconclusive"


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, 1e-9])
def test_outcomes_that_are_one_number_have_no_effect_of_rounding(value: float) -> None:
    frame = counted((0, 700), (0, 700)).assign(y=value)
    one = only(answered(frame, metric="y:mean:lower"))
    assert (one.effect, one.z, one.fixed.z) == (None, None, None)
    assert "alike throughout" in one.reasons[0]


def test_the_classical_answer_holds_far_from_zero() -> None:
    rng = np.random.default_rng(8)
    frame = counted((0, 500), (0, 500))
    frame["small"] = rng.normal(0.0, 1.0, 1000) - 0.5 * (frame.arm == "B")
    frame["large"] = frame.small + 1e9
    expected = stats.ttest_ind(frame.small[frame.arm == "B"], frame.small[frame.arm == "A"], equal_var=False)
    for column, close in (("small", 1e-9), ("large", 1e-4)):
        one = only(answered(frame, metric=f"{column}:mean:lower"))
        assert one.fixed.z == pytest.approx(expected.statistic, rel=close)
        assert one.verdict == "better"
    pairs = pd.DataFrame({"a": 1e9 + frame.small, "b": 1e9 + frame.small - 0.5 + rng.normal(0.0, 1.0, 1000)})
    one = only(analysed(pairs, arm=None, champion=None, share=None, metric=None, paired="a,b"))
    assert one.fixed.z == pytest.approx(stats.ttest_rel(pairs.b, pairs.a).statistic, rel=1e-4)


def test_models_that_answer_alike_are_said_to_be_alike() -> None:
    y = np.random.default_rng(9).random(500)
    one = only(analysed(pd.DataFrame({"a": y, "b": y}), arm=None, champion=None, share=None, metric=None, paired="a,b"))
    assert "both arms' outcomes are alike throughout" in one.reasons[0]


def test_label_arrival_of_two_metrics_is_told_apart() -> None:
    frame = counted((50, 500), (40, 500)).assign(x=1.5)
    frame["x"] += np.random.default_rng(10).random(1000)
    names = [guard.name for guard in answered(frame, metric=["y:proportion", "x:mean"]).guards]
    assert names == ["label arrival of y", "label arrival of x"]
    assert [guard.name for guard in answered(frame).guards] == ["label arrival"]


def test_the_report_says_what_the_effect_is_beside_the_two_means() -> None:
    assert "differ a little from the difference of the two means" in " ".join(
        gauntlet.to_text(answered(counted((50, 500), (40, 500)))).split()
    )


@pytest.mark.parametrize("kept_as", ["int64", "object", "texts"])
def test_identifiers_that_a_float_cannot_tell_apart_are_compared_digit_by_digit(kept_as: str) -> None:
    """The item that was recommended against the one that was bought: 2^60 and 2^60 + 1 are one float64."""
    rng = np.random.default_rng(5)
    first = 2**60 if kept_as == "int64" else 10**30
    arm = np.where(rng.random(1500) < 0.5, "A", "B")
    bought = rng.integers(0, 5, 1500)
    right = rng.random(1500) < np.where(arm == "B", 0.9, 0.7)
    said = np.where(right, bought, (bought + 1) % 5)
    kinds: dict[str, Any] = {"int64": int, "object": int, "texts": str}
    columns = {
        name: [kinds[kept_as](first + int(k)) for k in part] for name, part in (("said", said), ("bought", bought))
    }
    one = only(analysed(pd.DataFrame({"arm": arm, **columns}), metric="said/bought:accuracy"))
    assert one.mean == {name: pytest.approx(right[arm == name].mean()) for name in ("A", "B")}
    assert one.verdict == "better"


def test_differences_that_vanish_when_squared_are_not_called_none() -> None:
    frame = counted((30, 200), (60, 200))
    one = only(answered(frame.assign(y=frame.y * 1e-200), metric="y"))
    assert one.verdict == "inconclusive"
    assert "or differ by less than 1e-150, which is lost when squared: multiply the column" in one.reasons[0]


@pytest.mark.parametrize("arm", ["A", "B"])
@pytest.mark.parametrize(
    ("metric", "one", "other", "why"),
    [
        ("revenue/visits:ratio", "visits", 0.0, "its denominator is 0 in every row"),
        ("said/is:precision", "said", 0, "it has predicted none of the class"),
        ("said/is:recall", "is", 0, "it has no outcome of the class"),
        ("score/is:auc", "is", 1, "its outcomes are of one class"),
    ],
)
def test_a_metric_that_an_arm_does_not_have_is_no_win_for_it(
    arm: str, metric: str, one: str, other: float, why: str
) -> None:
    """Scenario: the challenger's revenue came without a single visit. Expected: no ratio, so no verdict, and why."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"arm": rng.choice(["A", "B"], 3000), "revenue": rng.exponential(size=3000), "visits": 1.0})
    frame = frame.assign(said=rng.integers(0, 2, 3000), score=rng.random(3000), **{"is": rng.integers(0, 2, 3000)})
    frame.loc[frame.arm == arm, one] = other
    found = answered(frame, metric=metric)
    one_comparison = only(found)
    assert (found.verdict, one_comparison.effect, one_comparison.mean[arm]) == ("inconclusive", None, None)
    name = metric.split(":")[1]
    assert one_comparison.reasons == (f"no answer yet, because {arm} has no {name}: {why}",)


def test_a_ratio_counts_from_the_first_denominator_on() -> None:
    """Unbiased all the same: the rows before it say nothing of a ratio."""
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"arm": rng.choice(["A", "B"], 20_000), "n": rng.exponential(size=20_000), "d": 1.0})
    frame.loc[(frame.arm == "B") & (frame.index < 2000), ["n", "d"]] = 0.0
    one = only(answered(frame, metric="n/d:ratio"))
    assert one.effect == pytest.approx(0.0, abs=0.06)
    assert one.verdict == "inconclusive"
