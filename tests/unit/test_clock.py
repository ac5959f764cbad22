"""Texts as times: ISO 8601, as people write it; and lengths of time in words."""

from __future__ import annotations

import math

import pytest

from gauntlet.clock import lasting, parse_timestamp


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05T09:30:00Z",
        " 2026-01-05 09:30 ",
        "2026-1-5 9:30",
        "2026-01-05 09:30:00 UTC",
        "2026-01-05 09:30:00.000 Z",
        "2026-01-05T10:30:00,0+0100",
        "2026-01-05 08:30 -01:00",
        "20260105T0930",
    ],
)
def test_one_time_in_many_spellings(text: str) -> None:
    assert parse_timestamp(text) == 1_767_605_400.0


@pytest.mark.parametrize("text", ["2026-1-5", "2026-01-05"])
def test_a_date_is_its_midnight(text: str) -> None:
    assert parse_timestamp(text) == 1_767_571_200.0


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-1-5x", "5 January 2026", "12:30"])
def test_other_texts_are_no_time(text: str) -> None:
    assert math.isnan(parse_timestamp(text))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (59.6, "1 min"),
        (140, "2 min 20 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert lasting(seconds) == text
