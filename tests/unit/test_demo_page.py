"""The demo's page stands alone, is the same for the same report, and shows nothing unescaped."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from builders import demo_year

from gauntlet import ledger_document
from gauntlet.cli.demo import phrases, plots
from gauntlet.cli.demo import report as demo_report
from gauntlet.cli.demo.report_model import DemoReport
from gauntlet.cli.demo.run import SUBMISSIONS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    import asyncio

    async def collected(folder: Path) -> DemoReport:
        run = await demo_year.make(folder, days=90, a_day=10)
        await run.write()
        return await demo_report.collect(run.config, run.flights, run.sent, SUBMISSIONS, time.monotonic())

    return asyncio.run(collected(tmp_path_factory.mktemp("demo")))


@pytest.fixture(scope="module")
def html(report: DemoReport) -> str:
    return demo_report.to_html(report)


class _Reader(HTMLParser):
    """Which tags are open, which ids there are, what is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br", "path", "use", "rect", "link", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "clip-path"):
                self.references.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    return reader


def test_the_page_loads_nothing(html: str) -> None:
    reader = read(html)
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert all(re.fullmatch(r"#[\w-]+|url\(#[\w-]+\)", target) for target in reader.references)
    assert "@import" not in html
    assert "url(http" not in html


def test_ids_are_unique_and_every_reference_has_its_target(html: str) -> None:
    reader = read(html)
    assert len(reader.ids) == len(set(reader.ids)) > 50
    assert {re.sub(r"^(url\()?#|\)$", "", target) for target in reader.references} <= set(reader.ids)
    assert reader.open == []


def test_the_same_report_gives_the_same_page(report: DemoReport, html: str) -> None:
    assert demo_report.to_html(report) == html


def test_texts_are_escaped(report: DemoReport) -> None:
    evil = "<script>alert('x')</script> & more"
    moments = tuple(msgspec.structs.replace(m, text=evil, reason=evil, actor=evil) for m in report.timeline)
    rollouts = tuple(msgspec.structs.replace(r, reason=evil, challenger=evil) for r in report.rollouts)
    jobs = tuple(msgspec.structs.replace(j, reason=evil, version=evil) for j in report.jobs)
    drift = tuple(
        msgspec.structs.replace(d, features=tuple(msgspec.structs.replace(f, name=evil) for f in d.features))
        for d in report.drift
    )
    hostile = msgspec.structs.replace(report, timeline=moments, rollouts=rollouts, jobs=jobs, drift=drift)
    html = demo_report.to_html(hostile)
    assert "<script" not in html
    assert "alert(&#39;x&#39;)" in html


def test_template_syntax_in_a_text_stays_text(report: DemoReport) -> None:
    moments = tuple(msgspec.structs.replace(m, reason="costs {{ title }}") for m in report.timeline)
    assert "costs {{ title }}" in demo_report.to_html(msgspec.structs.replace(report, timeline=moments))


def test_what_does_not_add_up_stands_at_the_top(report: DemoReport, html: str) -> None:
    assert "Every flight and every outcome is accounted for" in html
    checks = (msgspec.structs.replace(report.checks[0], passed=False), *report.checks[1:])
    bad = demo_report.to_html(msgspec.structs.replace(report, checks=checks, reconciled=False))
    assert "Does not add up: flights answered" in bad
    assert "Every flight and every outcome is accounted for" not in bad


def test_every_table_row_is_there(report: DemoReport, html: str) -> None:
    for rollout in report.rollouts:
        assert f"<small>{rollout.id}</small>" in html
        assert phrases.interval(rollout) in html
    for one in report.worth:
        assert ledger_document.figures(one.gain, one.lower, one.upper) in html
    for check in report.checks:
        assert check.text.split(":")[0] in html
    assert html.count('class="pill drift"') == len(report.drift)


@pytest.mark.parametrize("plot", [plots.evidence, plots.ramp, plots.drift, plots.months])
def test_plots_are_well_formed_and_described(plot: object, report: DemoReport) -> None:
    assert callable(plot)
    tree = ElementTree.fromstring(plot(report))
    assert tree.tag.endswith("svg")
    assert tree.get("role") == "img"
    title = tree[0]
    assert title.get("id") == tree.get("aria-labelledby")
    assert len(title.text or "") > 60
    assert any(node.tag.endswith("text") for node in tree.iter()), "text stays text"


@pytest.mark.parametrize("plot", [plots.evidence, plots.ramp, plots.drift, plots.months])
def test_plots_of_a_run_in_which_nothing_happened(plot: object, report: DemoReport) -> None:
    assert callable(plot)
    months = tuple(msgspec.structs.replace(m, log_loss=None, log_loss_first=None) for m in report.months)
    quiet = msgspec.structs.replace(report, rollouts=(), drift=(), jobs=(), months=months, ramp=report.ramp[:1])
    ElementTree.fromstring(plot(quiet))


def test_severity_ends_with_the_champion_it_was_about(report: DemoReport) -> None:
    times, ranks = plots.severity(report)
    promoted = next(m.at for m in report.timeline if m.kind == "promotion")
    assert ranks == [0, 2, 3, 0, 1, 0]
    assert times[3] == promoted


def test_the_plot_module_leaves_no_shared_state(report: DemoReport) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.ramp(report)
    assert dict(mpl.rcParams) == before
