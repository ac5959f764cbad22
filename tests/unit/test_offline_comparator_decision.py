"""What a comparison decides, at the exact boundary of every threshold, and how an unknown weighs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evaluator.offline.comparator.decision import decide, factors, quick, steady, unharmed
from evaluator.offline.comparator.result import MetricImprovement, SliceImprovement
from evaluator.offline.comparator.settings import ComparatorError, ComparatorSettings, Requirement
from gauntlet.latency import Latency, latency, timed

CHANGE = MetricImprovement(0.70, 0.72, 0.02, 0.01, 0.03, 0.001, "higher", "primary")
UNKNOWN = replace(CHANGE, lower=None, upper=None, p_value=None)
SLOW = Latency(1.0, 1.1, 1.1, True, 100, 31)


def answer(
    *asked: tuple[Requirement, MetricImprovement], slices: Any = (), latency: Any = None
) -> tuple[str, tuple[str, ...]]:
    found, primary = factors(
        [one for one, _ in asked],
        {one.metric: change for one, change in asked},
        slices,
        latency,
        alpha=0.05,
        blocks=14,
        most_latency=0.10,
    )
    return decide(found, primary)


AUC = Requirement("auc", threshold=0.02)


@pytest.mark.parametrize(
    ("baseline", "candidate", "decision"),
    [(0.81, 0.83, "promote"), (0.81, 0.8299, "keep"), (0.70, 0.72, "promote"), (0.0, 0.02, "promote")],
)
def test_the_threshold_itself_is_enough(baseline: float, candidate: float, decision: str) -> None:
    """0.83 − 0.81 is a little less than 0.02 in binary."""
    change = replace(CHANGE, improvement=candidate - baseline)
    found, reasons = answer((AUC, change))
    assert found == decision
    assert ("less than the 0.02" in reasons[0]) == (decision == "keep")


def test_a_loss_that_is_sure_is_called_one() -> None:
    """It used to read: not significant, p 0.001, not below 0.05."""
    change = replace(CHANGE, improvement=-0.03, lower=-0.04, upper=-0.02, p_value=0.001)
    found, reasons = answer((AUC, change))
    assert found == "keep"
    assert "auc is significantly worse: by at least 0.02, p 0.001" in reasons
    assert reasons[0] == "auc gets worse by 0.03, where an improvement by 0.02 is asked for"


@pytest.mark.parametrize(("lower", "decision"), [(1e-12, "promote"), (0.0, "keep"), (-0.001, "keep"), (None, "keep")])
def test_it_must_be_significant_too(lower: float | None, decision: str) -> None:
    found, reasons = answer((AUC, replace(CHANGE, lower=lower, p_value=0.05 if decision == "promote" else 0.0501)))
    assert found == decision
    assert ("not significant" in reasons[0]) == (decision == "keep")


@pytest.mark.parametrize(
    ("upper", "decision"), [(-0.01, "promote"), (-0.0101, "keep"), (0.2, "promote"), (None, "promote")]
)
def test_a_guardrail_breaks_only_beyond_its_margin(upper: float | None, decision: str) -> None:
    recall = replace(CHANGE, improvement=-0.05, lower=-0.1, upper=upper, p_value=0.01)
    found, reasons = answer((AUC, CHANGE), (Requirement("recall", margin=0.01), recall))
    assert found == decision
    assert decision == "promote" or reasons[0].startswith("guardrail recall: worse by at least 0.0101")


def test_a_further_metric_may_be_required_to_improve() -> None:
    f1 = Requirement("f1", threshold=0.03)
    assert answer((AUC, CHANGE), (f1, CHANGE))[0] == "keep"
    assert answer((AUC, CHANGE), (f1, replace(CHANGE, improvement=0.03)))[0] == "promote"


def test_an_unknown_primary_metric_is_no_answer_whatever_else_is_known() -> None:
    decision, reasons = answer((AUC, UNKNOWN), latency=replace(SLOW, ratio=3.0))
    assert (decision, len(reasons)) == ("no_answer", 1)
    assert "14 blocks are too few" in reasons[0]
    assert "one class only" in answer((AUC, replace(UNKNOWN, improvement=None)))[1][0]


def test_an_unknown_guardrail_is_no_answer_unless_something_else_keeps_the_champion() -> None:
    recall = (Requirement("recall", margin=0.0), UNKNOWN)
    assert answer((AUC, CHANGE), recall)[0] == "no_answer"
    assert answer((AUC, replace(CHANGE, improvement=0.0)), recall)[0] == "keep"


@pytest.mark.parametrize(
    ("ratio", "slower", "met"), [(1.1, True, True), (1.1001, True, False), (1.1001, False, True), (0.5, False, True)]
)
def test_latency_may_rise_by_its_limit_and_no_more(ratio: float, slower: bool, met: bool) -> None:
    factor = quick(replace(SLOW, ratio=ratio, slower=slower), 0.10)
    assert factor is not None
    assert factor.met is met


@pytest.mark.parametrize(
    ("before", "after", "met", "reason"),
    [
        (0.345, 0.382, True, "the spectral gap, 0.345 → 0.382, is within 0.1 to 0.5"),
        (0.345, 0.1, True, "the spectral gap, 0.345 → 0.1, is within 0.1 to 0.5"),
        (0.345, 0.5, True, "the spectral gap, 0.345 → 0.5, is within 0.1 to 0.5"),
        (0.345, 0.099, False, "the spectral gap, 0.345 → 0.099, is outside 0.1 to 0.5"),
        (0.05, 0.06, True, "the spectral gap, 0.05 → 0.06, is outside 0.1 to 0.5, as the champion's is"),
        (0.05, 0.04, False, "the spectral gap, 0.05 → 0.04, is outside 0.1 to 0.5"),
        (None, 0.501, False, "the spectral gap, 0.501, is outside 0.1 to 0.5"),
    ],
)
def test_a_regime_models_spectral_gap_keeps_its_limits(
    before: float | None, after: float, met: bool, reason: str
) -> None:
    found = steady(before, after)
    assert found is not None
    assert (found.met, found.reason) == (met, reason)
    assert steady(0.3, None) is None


def test_latency_is_the_median_of_paired_runs_and_chance_is_told_from_slowness() -> None:
    found = latency([1.0, 2.0, 4.0, 1.0, 1.0], [1.2, 2.2, 2.0, 1.3, 1.1], 100, 0.0)
    assert (found.ratio, found.slower) == (pytest.approx(1.1), False), "4 of 5 are no more than chance"
    assert latency([1.0] * 5, [1.2] * 5, 100, 0.1).slower
    assert not latency([1.0] * 5, [1.2] * 5, 100, 0.2).slower
    assert not latency([1.0] * 4, [1.2] * 4, 100, 0.1).slower


def test_a_challenger_that_is_a_little_slower_than_allowed_in_half_of_the_runs_is_no_slower() -> None:
    found = quick(latency([1.0] * 31, [1.12] * 17 + [1.08] * 14, 100, 0.10), 0.10)
    assert found is not None
    assert (found.met, found.reason) == (True, "a batch takes +12%, which is no more than chance in 31 runs")


def test_both_models_are_timed_in_turn_by_the_clock_that_is_given() -> None:
    now, calls = [0.0], []

    def model(name: str, seconds: float) -> Any:
        def call() -> None:
            calls.append(name)
            now[0] += seconds

        return call

    found = timed(model("a", 0.25), model("b", 0.5), 100, lambda: now[0], 0.1)
    assert (found.baseline, found.candidate, found.ratio, found.slower) == (0.25, 0.5, 2.0, True)
    assert calls[2:6] == ["b", "a", "a", "b"], "who is first changes, after a warm-up"
    assert found.runs == 6, "it ends after four seconds"


def test_a_harmed_slice_keeps_the_champion_and_one_without_an_answer_does_not() -> None:
    one = SliceImprovement("site", "north", "auc", 100, 0.7, 0.6, -0.1, -0.2, -0.01, 0.01, 0.02, True)
    unknown = replace(one, harmed=None, adjusted_p_value=None)
    decision, reasons = answer((AUC, CHANGE), slices=(one, unknown))
    assert decision == "keep"
    assert reasons == ("worse in site = north (auc -0.1, adjusted p 0.02)",)
    assert answer((AUC, CHANGE), slices=(unknown,))[0] == "promote"
    assert unharmed(()) is None


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        ("auc", Requirement("auc", margin=0.0)),
        ("f1:threshold=0.005", Requirement("f1", threshold=0.005)),
        ("recall@a:b:margin=0.1", Requirement("recall@a:b", margin=0.1)),
        ("recall@a:b", Requirement("recall@a:b", margin=0.0)),
    ],
)
def test_a_metric_is_written_with_its_threshold_or_margin(text: str, requirement: Requirement) -> None:
    assert Requirement.parse(text) == requirement


def test_the_first_metric_is_primary_and_its_own_threshold_goes_before() -> None:
    settings = ComparatorSettings.from_options({"target": "y", "metric": ["auc", "brier"], "threshold": 0.03})
    assert settings.requirements("auc") == (Requirement("auc", threshold=0.03), Requirement("brier", margin=0.0))
    own = ComparatorSettings.from_options({"target": "y", "metric": "auc:threshold=0.5"})
    assert own.requirements("auc") == (Requirement("auc", threshold=0.5),)
    assert ComparatorSettings(target="y").requirements("rmse") == (Requirement("rmse", threshold=0.01),)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"metric": "auc:margin=x"}, "'x' is no number"),
        ({"metric": "auc:margin=-1"}, "'-1' is no number"),
        ({"metric": "auc:threshold=nan"}, "'nan' is no number"),
        ({"metric": ":margin=1"}, "a name comes first"),
        ({"metric": ["auc", "auc:margin=1"]}, "--metric names 'auc' twice"),
        ({"slice": ["a", "a"]}, "--slice names 'a' twice"),
        ({"slice": "y"}, "is the target"),
        ({"features": ["a", "y"]}, "told the truth"),
        ({"threshold": -0.1}, "--threshold must be at least 0"),
        ({"threshold": float("nan")}, "finite"),
        ({"alpha": 0.0}, "--alpha must be greater than 0"),
        ({"repetitions": 10}, "--repetitions must be at least 200"),
        ({"task": "ranking"}, "--task must be one of"),
    ],
)
def test_impossible_settings_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ComparatorError, match=named):
        ComparatorSettings.from_options({"target": "y", **options})


def test_the_first_metric_can_have_no_margin_and_an_unknown_option_is_named() -> None:
    with pytest.raises(ComparatorError, match="the first metric must improve"):
        ComparatorSettings.from_options({"target": "y", "metric": "auc:margin=0.1"}).requirements("auc")
    with pytest.raises(TypeError, match="did you mean 'threshold'"):
        ComparatorSettings.from_options({"target": "y", "treshold": 0.1})
