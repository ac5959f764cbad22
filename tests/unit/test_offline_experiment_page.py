"""The page of an analysis: what it shows, its plots, and that nothing from a file is taken for markup."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from builders.experiments import EVIL, analysis, comparison, history

from evaluator.offline.experiment.result import ArmComparison, SampleRatioResult, Stopped, TrafficGuard
from evaluator.offline.render import experiment, figures


def flat(report: str) -> str:
    return " ".join(report.split())


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
        guards=(TrafficGuard(EVIL, False, EVIL),),
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
def test_plots_are_whole_whatever_the_looks(one: ArmComparison) -> None:
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
