"""Rows that come again: told where the reference has fewer, whatever the columns hold, in both forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features

import gauntlet
from evaluator.drift.columns import Coded
from evaluator.offline.duplicate_rows import DuplicateRows


def repeated(before: pd.DataFrame, now: pd.DataFrame) -> list[str]:
    return [f.message for f in gauntlet.drift(before, now).quality.findings if f.kind == "repeated_rows"]


def test_a_hundred_rows_that_come_twenty_times_are_reported() -> None:
    (message,) = repeated(features(1, 2000), pd.concat([features(2, 100)] * 20))
    assert message.startswith("95.0% of rows repeat an earlier one exactly, 0.0%")


def test_a_file_that_was_written_twice_is_reported_though_no_half_of_it_repeats() -> None:
    assert repeated(features(1, 2000), pd.concat([features(2, 2000)] * 2))


@pytest.mark.parametrize("rows", [300, 2000, 20_000])
@pytest.mark.parametrize("columns", [["k", "c"], ["a", "k", "c"], ["c"]])
def test_rows_of_few_values_repeat_by_nature(columns: list[str], rows: int) -> None:
    assert repeated(features(1, 2000)[columns], features(2, rows)[columns]) == []


def test_rounded_numbers_repeat_the_more_the_more_rows_there_are() -> None:
    before, now = features(1, 2000)[["a"]].round(3), features(2, 6000)[["a"]].round(3)
    assert repeated(before, now) == []


def test_a_target_that_has_not_come_yet_makes_no_repetitions() -> None:
    before = features(1, 2000).assign(y=lambda t: t["a"])[["k", "c", "y"]]
    found = gauntlet.drift(before, features(2, 2000)[["k", "c"]], target="y")
    assert "repeated_rows" not in {f.kind for f in found.quality.findings}


def test_a_stream_tells_them_too() -> None:
    for rows, kinds in ((features(2, 2000), set()), (pd.concat([features(2, 100)] * 20), {"repeated_rows"})):
        stream = gauntlet.drift_stream(pd.concat([features(1, 2000), rows]), 2000, features=["a", "k", "c"])
        list(stream.events())
        assert {f.kind for f in stream.report().quality.findings} == kinds


def test_whole_numbers_and_codes_do_not_collide() -> None:
    rows = DuplicateRows()
    a, b = np.divmod(np.arange(90_000), 300)
    rows.add({"a": a.astype(float), "b": b.astype(float)}, len(a))
    assert rows.share(len(a)) == 0.0
    coded = DuplicateRows()
    coded.add({"a": Coded(a, tuple(map(str, range(300)))), "b": [float(v) if v % 2 else f"t{v}" for v in b]}, len(a))
    assert coded.share(len(a)) == 0.0
