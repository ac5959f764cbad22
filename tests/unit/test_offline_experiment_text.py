"""The text of an analysis: what it says, in which order, and that no name can drive the terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders.experiments import EVIL, analysed, analysis, comparison, only

from evaluator.offline import render as kit
from evaluator.offline.experiment.result import ClassicalTest, SampleRatioResult, TrafficGuard
from evaluator.offline.render import experiment


def flat(report: str) -> str:
    return " ".join(report.split())


def test_the_verdict_and_its_reasons_come_first() -> None:
    lines = experiment.text(analysis()).splitlines()
    assert lines[:3] == ["BETTER: gbm against old", "  - loss: gbm is better", "  - no guardrail is harmed"]


def test_a_line_for_each_metric() -> None:
    report = experiment.text(analysis())
    (line,) = [line for line in report.splitlines() if line.startswith("  loss (primary)")]
    figures = ["gbm", "10,100", "9,900", "0.4120", "0.4005", "−0.0115", "−0.0194", "to", "−0.0036", "0.0003", "better"]
    assert line.split()[2:] == figures
    assert report.index("loss (primary)") < report.index("latency (guardrail)")
    assert "p 0.0006 after the correction" in report
    assert "stopped at look 21 after 10,500 rows: better, effect −0.0131 (−0.0240 to −0.0022)" in report
    words = flat(report)
    assert "40 looks, 93% of the planned evidence, z −4.40, 60 blocks, variance widened 1.31-fold" in words
    assert "lower is better, margin 0.02" in words


def test_segments_ratio_guards_and_foot() -> None:
    report = experiment.text(analysis())
    words = flat(report)
    assert [line.split()[0] for line in report.splitlines() if line.startswith("  country=")] == [
        "country=de",
        "country=fr",
        "country=us",
    ]
    assert "Sample ratio: in order (p 0.8100 at any look, 0.3400 at one)" in words
    assert "the counts fit the shares" in words
    assert "multiple exposure: in order. no unit met two arms" in words
    assert "label arrival: NOT IN ORDER. late labels" in words
    assert report.endswith("20,000 rows, group-sequential, alpha 0.05, answer deadbeef\n")


def test_many_segments_are_cut_with_a_word() -> None:
    parts = [comparison(segment=f"s={i:03d}", p_value=i / 1000, stopped=None) for i in range(100, 0, -1)]
    report = experiment.text(analysis(comparisons=(comparison(), *parts)))
    assert report.count("\n  s=") == 30
    assert "s=001" in report
    assert "s=031" not in report
    assert f"… and {100 - 30} more" in report


def test_nothing_known_is_a_dash() -> None:
    nothing = comparison(
        n={"old": 0, "gbm": 0},
        mean={"old": None, "gbm": None},
        effect=None,
        lower=None,
        upper=None,
        z=None,
        p_value=None,
        adjusted_p_value=None,
        fixed=ClassicalTest(None, None),
        verdict="inconclusive",
        looks=0,
        stopped=None,
        information_fraction=None,
        blocks=None,
        widening=None,
        skewness=None,
        history=(),
        reasons=("no outcome of gbm yet",),
    )
    empty = analysis(comparisons=(nothing,), sample_ratio=None, guards=(), verdict="inconclusive", reasons=())
    (line,) = [line for line in experiment.text(empty).splitlines() if line.startswith("  loss (primary)")]
    assert line.split()[2:] == ["gbm", "0", "0", "–", "–", "–", "–", "–", "inconclusive"]
    assert "no outcome of gbm yet" in experiment.text(empty)
    assert "no look with an effect" in experiment.html(empty, "log")
    assert experiment.text(replace(empty, comparisons=())).startswith("INCONCLUSIVE")
    experiment.html(replace(empty, comparisons=()), "log")


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({}, {}, "Both see a difference; the sequential p is larger because it holds at every look"),
        (
            {"p_value": 0.2, "fixed": ClassicalTest(-2.1, 0.03)},
            {},
            "The classical test alone .* one planned look and there were 40",
        ),
        (
            {"p_value": 0.2, "fixed": ClassicalTest(-2.1, 0.03)},
            {"cluster": "day"},
            "takes rows for independent, and they come in 60 clusters, widened 1.31-fold",
        ),
        ({"p_value": 0.2, "fixed": ClassicalTest(-2.1, 0.03)}, {"propensity": "p"}, "pools rows of different shares"),
        (
            {"p_value": 0.2, "fixed": ClassicalTest(-2.1, 0.03), "looks": 1},
            {},
            "one look, planned before the first row",
        ),
        ({"p_value": 0.01, "fixed": ClassicalTest(-1.1, 0.3)}, {}, "had seen enough at look 21"),
        (
            {"p_value": 0.01, "fixed": ClassicalTest(-1.1, 0.3), "stopped": None},
            {"covariates": ["age"]},
            "Only the sequential.*covariates",
        ),
        (
            {"p_value": 0.8, "fixed": ClassicalTest(-0.9, 0.37)},
            {},
            "Neither sees a difference; the sequential p is larger",
        ),
        ({"p_value": 0.3, "fixed": ClassicalTest(-0.9, 0.37), "looks": 1}, {}, r"^Neither sees a difference\.$"),
        (
            {"p_value": 0.3, "fixed": ClassicalTest(-0.9, 0.37)},
            {},
            "Neither .* smaller one because it keeps the evidence of its best",
        ),
        ({}, {"cluster": "day"}, "at one alone, and because the rows of a cluster are correlated"),
        ({"p_value": None}, {}, "not enough evidence"),
    ],
)
def test_why_the_classical_answer_differs(changes: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    answer = analysis(settings=settings)
    sentence = experiment.difference(answer, comparison(**changes))
    assert re.search(words, sentence)
    assert sentence.endswith(".")
    assert sentence in flat(experiment.text(replace(answer, comparisons=(comparison(**changes),))))


def test_a_fixed_horizon_says_that_its_p_is_for_one_look() -> None:
    assert "hold at the one look that was planned" in experiment.text(analysis(mode="fixed"))
    assert "hold at every look at once" in experiment.text(analysis())
    assert "hold at the one look that was planned" in experiment.html(analysis(mode="fixed"), "x")


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (-0.123456, 0.1, "−0.123 to +0.100"),
        (0.1, 12.6, "+0.1 to +12.6"),
        (None, 2.0, "at most +2"),
        (None, None, "–"),
        (-3.0, None, "at least −3"),
        (1.0, 1.0, "+1 to +1"),
        (10_000.0, 90_000.0, "+10,000 to +90,000"),
    ],
)
def test_intervals_have_as_many_decimals_as_they_mean(lower: float | None, upper: float | None, expected: str) -> None:
    one = comparison(lower=lower, upper=upper)
    assert kit.interval(lower, upper, experiment.decimals(one)) == expected


def test_a_name_cannot_drive_the_terminal() -> None:
    parts = comparison(segment=f"country={EVIL}", stopped=None)
    evil = analysis(
        verdict="better",
        reasons=(EVIL,),
        challengers=(EVIL,),
        champion=EVIL,
        id=EVIL,
        guards=(TrafficGuard(EVIL, True, EVIL),),
        comparisons=(
            comparison(challenger=EVIL, metric=EVIL, reasons=(EVIL,)),
            replace(parts, challenger=EVIL, metric=EVIL),
        ),
        sample_ratio=SampleRatioResult(None, None, True, {EVIL: 3}, {}, EVIL),
    )
    report = experiment.text(evil)
    assert not [c for c in report if not c.isprintable() and c != "\n"]
    assert "MISMATCH" in report


def test_one_look_is_one_and_nothing_is_minus_zero() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"arm": np.tile(["A", "B"], 20), "y": rng.normal(size=40)})
    found = experiment.text(analysed(frame, share={"A": 1, "B": 1}, metric="y"))
    assert "in 1 look\n" in found
    assert "1 looks" not in found
    assert (kit.number(-1e-9, 2), kit.signed(1e-9, 2), kit.signed(-1e-9, 2), kit.number(-0.0)) == (
        "0.00",
        "0.00",
        "0.00",
        "0",
    )


def test_with_a_margin_the_classical_test_asks_something_else() -> None:
    """A true difference of nothing within a margin of .1: the classical p is large, the sequential one tiny."""
    frame = pd.DataFrame({"arm": np.tile(["A", "B"], 1500), "y": np.repeat([0.0, 1.0], 1500)})
    frame = frame.sample(frac=1.0, random_state=1)
    found = analysed(frame, share={"A": 1, "B": 1}, metric="y:proportion:margin=.1")
    one = only(found)
    assert one.fixed.p_value is not None
    assert one.p_value is not None
    assert one.p_value < 0.001 < 0.5 < one.fixed.p_value
    text = " ".join(experiment.text(found).split())
    assert "They are not about the same: the classical test asks for any difference" in text
    assert "whether it is below −0.1, the margin" in text
    assert "keeps the evidence of its best look" not in text


def test_coverage_of_a_column_of_ones_and_zeros_says_what_it_counts() -> None:
    """One arm fails in 5 % by the column; both are covered, as every row has a value."""
    frame = pd.DataFrame({"arm": np.tile(["A", "B"], 1000), "answered": 1})
    frame.loc[frame.index % 40 == 1, "answered"] = 0
    found = analysed(frame, share={"A": 1, "B": 1}, metric="answered:coverage")
    assert found.verdict == "inconclusive"
    assert "a column that says so by 1 and 0 is a proportion" in found.reasons[0]
    assert analysed(frame, share={"A": 1, "B": 1}, metric="answered:proportion").verdict == "worse"
