"""The two reports of an analysis: what they say, in which order, and that nothing from a file is taken for markup."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from evaluator.offline.experiment.result import (
    Analysis,
    Comparison,
    FixedHorizon,
    Guard,
    LookPoint,
    SampleRatioResult,
    Stopped,
)
from evaluator.offline.render import experiment, figures
from evaluator.offline.render import text as kit

EVIL = "<script>alert(1)</script>&\"'$x_\\frac{$\x1b[31m\x00日本"


def history(effect: float, looks: int = 40) -> tuple[LookPoint, ...]:
    rng = np.random.default_rng(11)
    points = []
    for look in range(1, looks + 1):
        width = 0.05 / math.sqrt(look)
        now = effect + float(rng.normal()) * width / 6
        early = look < 4
        points.append(
            LookPoint(
                rows=500 * look,
                effect=now,
                lower=None if early else now - width,
                upper=None if early else now + width,
                z=3 * now / width,
                bound_lower=None if early else -2.0 * math.sqrt(looks / look),
                bound_upper=None if early else 2.0 * math.sqrt(looks / look),
            )
        )
    return tuple(points)


def comparison(**changes: Any) -> Comparison:
    whole = Comparison(
        challenger="gbm",
        metric="loss",
        segment=None,
        kind="mean",
        direction="lower",
        role="primary",
        margin=0.0,
        n={"old": 10_100, "gbm": 9_900},
        mean={"old": 0.412, "gbm": 0.40046},
        effect=-0.01154,
        lower=-0.0194,
        upper=-0.0036,
        z=-4.4,
        p_value=0.0003,
        adjusted_p_value=0.0006,
        fixed=FixedHorizon(-4.5, 7e-6),
        verdict="better",
        reasons=("the interval lies on the better side of 0",),
        looks=40,
        stopped=Stopped(21, 10_500, "better", -0.0131, -0.024, -0.0022),
        information_fraction=0.93,
        blocks=60,
        widening=1.31,
        skewness=0.4,
        history=history(-0.0115),
    )
    return replace(whole, **changes)


def analysis(**changes: Any) -> Analysis:
    parts = [
        comparison(
            segment=f"country={name}",
            effect=effect,
            lower=effect - 0.01,
            upper=effect + 0.01,
            verdict=verdict,
            p_value=p,
            history=(),
            stopped=None,
            n={"old": 1000, "gbm": 1000 + rank},
        )
        for rank, (name, effect, verdict, p) in enumerate(
            [("de", -0.012, "better", 0.01), ("fr", 0.011, "worse", 0.02), ("us", 0.001, "inconclusive", 0.9)]
        )
    ]
    whole = Analysis(
        id="deadbeef",
        verdict="better",
        reasons=("loss: gbm is better", "no guardrail is harmed"),
        sample_ratio=SampleRatioResult(
            0.34,
            0.81,
            False,
            {"old": 10_100, "gbm": 9_900},
            {"old": 10_000.0, "gbm": 10_000.0},
            "the counts fit the shares",
        ),
        comparisons=(
            comparison(),
            comparison(
                metric="latency", kind="p99", role="guardrail", margin=0.02, stopped=None, verdict="inconclusive"
            ),
            *parts,
        ),
        guards=(Guard("multiple exposure", True, "no unit met two arms"), Guard("label arrival", False, "late labels")),
        champion="old",
        challengers=("gbm",),
        mode="group-sequential",
        alpha=0.05,
        rows=20_000,
        settings={"arm": "arm", "shares": {"old": 0.5, "gbm": 0.5}, "propensity": None, "cluster": None},
    )
    return replace(whole, **changes)


def flat(report: str) -> str:
    return " ".join(report.split())


# -- text


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
        fixed=FixedHorizon(None, None),
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
            {"p_value": 0.2, "fixed": FixedHorizon(-2.1, 0.03)},
            {},
            "The classical test alone .* one planned look and there were 40",
        ),
        (
            {"p_value": 0.2, "fixed": FixedHorizon(-2.1, 0.03)},
            {"cluster": "day"},
            "takes rows for independent, and they come in 60 clusters, widened 1.31-fold",
        ),
        ({"p_value": 0.2, "fixed": FixedHorizon(-2.1, 0.03)}, {"propensity": "p"}, "pools rows of different shares"),
        ({"p_value": 0.2, "fixed": FixedHorizon(-2.1, 0.03), "looks": 1}, {}, "one look, planned before the first row"),
        ({"p_value": 0.01, "fixed": FixedHorizon(-1.1, 0.3)}, {}, "had seen enough at look 21"),
        (
            {"p_value": 0.01, "fixed": FixedHorizon(-1.1, 0.3), "stopped": None},
            {"covariates": ["age"]},
            "Only the sequential.*covariates",
        ),
        (
            {"p_value": 0.8, "fixed": FixedHorizon(-0.9, 0.37)},
            {},
            "Neither sees a difference; the sequential p is larger",
        ),
        ({"p_value": 0.3, "fixed": FixedHorizon(-0.9, 0.37), "looks": 1}, {}, r"^Neither sees a difference\.$"),
        (
            {"p_value": 0.3, "fixed": FixedHorizon(-0.9, 0.37)},
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
        guards=(Guard(EVIL, True, EVIL),),
        comparisons=(
            comparison(challenger=EVIL, metric=EVIL, reasons=(EVIL,)),
            replace(parts, challenger=EVIL, metric=EVIL),
        ),
        sample_ratio=SampleRatioResult(None, None, True, {EVIL: 3}, {}, EVIL),
    )
    report = experiment.text(evil)
    assert not [c for c in report if not c.isprintable() and c != "\n"]
    assert "MISMATCH" in report


# -- page


class Reader(HTMLParser):
    """Tags and texts of a page, and whatever in it would ask for something else."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.outside: list[str] = []
        self.ids: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name.startswith("on") or (name in ("src", "href", "xlink:href") and not (value or "").startswith("#")):
                self.outside.append(f"{tag} {name}={value}")
            if name == "id" and value:
                self.ids.append(value)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_shows_what_the_text_says() -> None:
    read = Reader(experiment.html(analysis(), "log.csv"))
    words = flat(" ".join(read.texts))
    for expected in (
        "log.csv",
        "loss: gbm is better",
        "−0.0115",
        "−0.0194 to −0.0036",
        "0.4120",
        "10,100 rows",
        "at look 21 of 40",
        "corrected 0.0006",
        "Both see a difference",
        "multiple exposure",
        "not in order",
        "country=fr",
        "the counts fit",
        "old 0.5, gbm 0.5",
        "Effect on loss, with the interval that holds at every look",
        "better at look 21",
        "deadbeef",
    ):
        assert expected in words, expected
    assert not read.outside
    assert "script" not in read.tags
    assert len(read.ids) == len(set(read.ids)), "the plots' ids do not meet"


def test_the_same_answer_is_the_same_page() -> None:
    assert experiment.html(analysis(), "log") == experiment.html(analysis(), "log")


def test_the_page_takes_no_name_for_markup() -> None:
    parts = [comparison(challenger=EVIL, metric=EVIL, segment=f"{EVIL}={i}", stopped=None) for i in range(3)]
    evil = analysis(
        verdict="better",
        reasons=(EVIL,),
        champion=EVIL,
        challengers=(EVIL,),
        id=EVIL,
        guards=(Guard(EVIL, False, EVIL),),
        comparisons=(
            comparison(
                challenger=EVIL,
                metric=EVIL,
                kind=EVIL,
                reasons=(EVIL,),
                verdict=EVIL,
                mean={EVIL: 0.4},
                stopped=Stopped(2, 1000, EVIL, 0.0, None, None),
            ),
            *parts,
        ),
        sample_ratio=SampleRatioResult(0.5, 0.5, False, {EVIL: 3}, {EVIL: 3.0}, EVIL),
        mode=EVIL,
        settings={"arm": EVIL, EVIL: [EVIL], "metrics": [{EVIL: EVIL}]},
    )
    content = experiment.html(evil, EVIL)
    read = Reader(content)
    assert "script" not in read.tags
    assert not read.outside
    assert "<script" not in content
    assert "\x00" not in content
    assert "\x1b" not in content
    assert "$x_" in content, "mathematics is not typeset"
    assert "日本" in content


@pytest.mark.parametrize(
    "one",
    [
        comparison(),
        comparison(margin=0.05, direction="higher"),
        comparison(history=history(0.0, 1)),
        comparison(history=history(-5000.0, 3000), mean={"old": 1e6, "gbm": None}),
        comparison(history=tuple(replace(p, lower=None, upper=None, z=None) for p in history(0.0))),
        comparison(history=tuple(replace(p, effect=0.0, lower=0.0, upper=0.0, z=0.0) for p in history(0.0))),
        comparison(lower=None, upper=None, mean={}, n={}),
    ],
)
def test_plots_are_whole_whatever_the_looks(one: Comparison) -> None:
    drawn = figures.looks(analysis(), one, "looks0")
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert len(drawn) < 150_000
    assert figures.looks(analysis(), replace(one, history=()), "x") is None


def test_the_forest_has_a_row_for_each_segment() -> None:
    parts = [comparison(segment=f"s{i}", effect=i / 100, lower=None if i else -9.0, upper=None) for i in range(5)]
    unknown = comparison(segment="unknown", effect=None)
    drawn = figures.forest(comparison(), [*parts, unknown], "forest0")
    names = [element.text for element in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"all rows", "s0", "s1", "s2", "s3", "s4"} <= set(names)
    assert "unknown" not in names
    assert figures.forest(comparison(), [unknown], "forest0") is None


def test_the_forest_keeps_the_largest_segments_and_the_table_all() -> None:
    parts = [
        comparison(segment=f"s={i:03d}", n={"old": 10 + i, "gbm": 10}, stopped=None, history=()) for i in range(100)
    ]
    content = experiment.html(analysis(comparisons=(comparison(), *parts)), "log")
    assert "The 60 largest segments are drawn" in content
    assert content.count("s=039") == 1
    assert content.count("s=099") == 2


def test_arrows_say_which_side_is_better() -> None:
    assert "← challenger better" in figures.looks(analysis(), comparison(), "a")
    assert "challenger better →" in figures.looks(analysis(), comparison(direction="higher"), "a")
