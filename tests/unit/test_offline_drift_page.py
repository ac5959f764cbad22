"""The drift pages: one file that needs nothing else, nothing from the data unescaped, the same bytes each time."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import gauntlet

EVIL = "<script>alert(1)</script>&$x^2$"
VOID = {"meta", "br", "path", "use", "rect", "image", "link"}


class Checked(HTMLParser):
    """Every tag is closed in order; scripts and outside addresses are collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(page: str) -> Checked:
    parsed = Checked()
    parsed.feed(page)
    assert parsed.open == []
    assert "script" not in parsed.tags
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in parsed.addresses)
    assert not re.search(r"url\((?!#)", page)
    return parsed


def frame(seed: int, shift: float, rows: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values = [f"{EVIL}{i}" for i in range(3)]
    return pd.DataFrame(
        {EVIL: rng.normal(size=rows) + shift, "c": rng.choice(values, rows), "k": rng.integers(0, 4, rows)}
    )


def test_names_and_values_from_the_data_are_text_never_markup() -> None:
    found = gauntlet.drift(frame(1, 0.0), frame(2, 1.0).assign(**{f"{EVIL}new": 1}))
    page = gauntlet.to_html(found)
    parsed = checked(page)
    assert "svg" in parsed.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;$x^2$" in page
    assert EVIL not in page
    assert found.severity in page


def test_the_same_answer_is_the_same_page() -> None:
    pair = frame(1, 0.0), frame(2, 1.0)
    assert gauntlet.to_html(gauntlet.drift(*pair)) == gauntlet.to_html(gauntlet.drift(*pair))


def test_a_quiet_answer_has_a_page_too() -> None:
    page = gauntlet.to_html(gauntlet.drift(frame(1, 0.0), frame(2, 0.0)))
    checked(page)
    assert "No drift" in page


@pytest.mark.parametrize("current", [frame(2, 0.0, 1), frame(2, 0.0).assign(k=np.nan), frame(2, 0.0).drop(columns="c")])
def test_poor_data_has_a_page(current: pd.DataFrame) -> None:
    found = gauntlet.drift(frame(1, 0.0), current)
    page = gauntlet.to_html(found)
    checked(page)
    assert found.severity in page
    assert f"{len(current):,}" in page


def test_a_stream_has_a_page_with_its_events() -> None:
    rows = frame(3, 0.0, 4000)
    rows.loc[2000:, EVIL] += 2.0
    stream = gauntlet.drift_stream(rows, 1000)
    events = list(stream.events())
    page = gauntlet.to_html(stream.report())
    checked(page)
    assert events
    assert f"{events[0].row:,}" in page
    assert EVIL not in page


def test_a_stream_without_a_full_window_has_a_page() -> None:
    stream = gauntlet.drift_stream(frame(3, 0.0, 200), 150)
    assert list(stream.events()) == []
    checked(gauntlet.to_html(stream.report()))


def test_two_files_have_a_band_over_the_current_rows() -> None:
    now = frame(2, 0.0, 2000)
    now.loc[1000:1499, EVIL] += 3.0
    found = gauntlet.drift(frame(1, 0.0), now)
    page = gauntlet.to_html(found)
    checked(page)
    assert "Over the current rows" in page
    assert 'id="severity-t"' in page
    assert "Over the current rows" not in gauntlet.to_html(gauntlet.drift(frame(1, 0.0), frame(2, 0.0, 50)))


def test_a_stream_shows_the_columns_to_blame_beside_the_reference() -> None:
    rows = frame(3, 0.0, 4000)
    rows.loc[2000:, EVIL] += 2.0
    stream = gauntlet.drift_stream(rows, 1000)
    list(stream.events())
    report = stream.report()
    assert list(report.samples) == [EVIL]
    assert 1000 <= report.last_rows <= 1088
    assert "The columns to blame" in gauntlet.to_html(report)
    assert {"samples", "last_rows", "steps"}.isdisjoint(report.to_dict())
    still = gauntlet.drift_stream(frame(3, 0.0, 4000), 1000)
    list(still.events())
    assert set(still.report().samples) == {EVIL, "c", "k"}
    assert "moved most" in gauntlet.to_html(still.report())


def test_one_figure_alone_is_no_wider_than_two() -> None:
    assert "auto-fill, minmax(min(100%, 460px)" in gauntlet.to_html(gauntlet.drift(frame(1, 0.0), frame(2, 0.0)))
