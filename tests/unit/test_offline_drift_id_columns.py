"""Columns that count or name rows are left out with a word; a feature by which a file is sorted never is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features
from scipy.stats import ks_2samp

import gauntlet
from evaluator.offline.drift.columns import ColumnStats
from evaluator.offline.drift.result import DriftReport
from gauntlet.errors import BadInput

ROWS = 600
RNG = np.random.default_rng(5)
ORDERS = np.arange(ROWS) // 3
CLOCK = np.sort(RNG.integers(0, 86_400, 2 * ROWS)).astype(float) + 1_700_000_000
STAMPS = np.sort(RNG.choice(np.arange(1_700_000_000, 1_700_086_400), 2 * ROWS, replace=False))
IDS = RNG.permutation(ROWS) + 10_000


def frame(seed: int, **more: object) -> pd.DataFrame:
    return features(seed, ROWS, "a", "b").assign(**more)


def left_out(found: DriftReport) -> dict[str, str]:
    return {f.column or "": f.kind for f in found.quality.findings if f.message.startswith("left out")}


@pytest.mark.parametrize(
    ("before", "now", "kind"),
    [
        (np.arange(ROWS), np.arange(ROWS), "counter"),
        (np.arange(ROWS), np.arange(ROWS) + ROWS, "counter"),
        (ORDERS, ORDERS + 200, "counter"),
        (CLOCK[:ROWS], CLOCK[ROWS:], "counter"),
        (STAMPS[:ROWS], STAMPS[ROWS:], "counter"),
        (np.arange(ROWS), RNG.permutation(ROWS) + ROWS, "counter"),
        (np.arange(ROWS), RNG.permutation(ROWS), "counter"),
        (ORDERS, RNG.permutation(ORDERS) + 200, "counter"),
        (STAMPS[:ROWS], RNG.permutation(STAMPS[ROWS:]), "counter"),
        (IDS, IDS + 2 * ROWS, "identifier"),
        (RNG.choice(10**9, ROWS, replace=False), RNG.choice(10**9, ROWS, replace=False), "identifier"),
    ],
)
def test_what_counts_or_names_rows_is_left_out(before: np.ndarray, now: np.ndarray, kind: str) -> None:
    found = gauntlet.drift(frame(1, k=before), frame(2, k=now))
    assert left_out(found) == {"k": kind}
    assert found.severity == "NONE"
    assert {feature.name for feature in found.features} == {"a", "b"}


def test_what_counts_rows_is_left_out_of_few_current_rows_too() -> None:
    for before, now in ((np.arange(ROWS), ROWS + np.arange(20)), (STAMPS[:ROWS], STAMPS[ROWS : ROWS + 20])):
        assert left_out(gauntlet.drift(frame(1, k=before), frame(2).head(20).assign(k=now))) == {"k": "counter"}


def test_a_feature_that_both_files_are_sorted_by_is_watched_and_reported() -> None:
    before, now = frame(1).sort_values("a"), frame(2, a=lambda t: t["a"] + 1).sort_values("a")
    found = gauntlet.drift(before, now)
    assert left_out(found) == {}
    assert {feature.name for feature in found.features} == {"a", "b"}
    assert any("sorted by a" in note and "--unordered" in note for note in found.notes)
    assert gauntlet.drift(before, now, ordered=False).drifted == ("a",)


def test_without_an_order_a_shift_is_found_where_the_order_would_be_a_counter() -> None:
    before = frame(1).sort_values("a")
    later = frame(2, a=lambda t: t["a"] + 9).sort_values("a")  # goes on where the reference ended
    assert left_out(gauntlet.drift(before, later)) == {"a": "counter"}
    assert gauntlet.drift(before, later, ordered=False).drifted == ("a",)


def test_a_sorted_feature_of_a_long_file_does_not_look_like_one_that_goes_on() -> None:
    rng = np.random.default_rng(3)
    before, now = (pd.DataFrame({"x": np.sort(rng.normal(size=60_000) + shift)}) for shift in (0, 3))
    found = gauntlet.drift(before, now)  # the first current rows are beyond the first of the reference, not its last
    assert [feature.name for feature in found.features] == ["x"]


@pytest.mark.parametrize(
    "values",
    [
        np.arange(ROWS) >= 400,
        np.sort(RNG.integers(18, 90, ROWS)),
        np.round(RNG.normal(50_000, 9000, ROWS)),
        RNG.integers(0, 50, ROWS),
        RNG.normal(size=ROWS),
    ],
    ids=["switch", "ages", "incomes", "whole", "numbers"],
)
def test_features_are_watched(values: np.ndarray) -> None:
    moved = values.astype(float)
    found = gauntlet.drift(frame(1, k=moved), frame(2, k=np.random.default_rng(1).permutation(moved)))
    assert left_out(found) == {}


@pytest.mark.parametrize("values", [np.arange(ROWS) // 2, np.sort(RNG.random(ROWS)), IDS])
def test_a_stream_leaves_them_out_too(values: np.ndarray) -> None:
    stream = gauntlet.drift_stream(frame(1, k=values), 300)
    assert list(stream.events()) == []
    (finding,) = stream.report().quality.findings
    assert (finding.column, finding.kind in ("counter", "identifier")) == ("k", True)


def test_a_stream_watches_what_rises_at_first_and_not_to_the_references_end() -> None:
    rising = np.concatenate([np.linspace(0, 1, 10_100) ** 2, np.random.default_rng(1).random(5000)])
    rows = pd.DataFrame({"k": rising, "z": np.random.default_rng(2).normal(size=len(rising))})
    stream = gauntlet.drift_stream(rows, 12_000)
    list(stream.events())
    assert [f for f in stream.report().quality.findings if f.column == "k"] == []


def test_nothing_left_to_watch_is_refused_with_what_was_left_out() -> None:
    with pytest.raises(BadInput, match=r"no column is left .*; k: rises with the rows: a time or a counter"):
        gauntlet.drift(pd.DataFrame({"k": ORDERS}), pd.DataFrame({"k": ORDERS + 200}))
    lists = pd.DataFrame({name: [[1, 2]] * 60 for name in "abcde"})
    with pytest.raises(BadInput, match=r"; a: the frame: column 'a' holds list<.* is not text; .*; and 2 more$"):
        gauntlet.drift(lists, lists)
    with pytest.raises(BadInput, match="no column is left"):
        list(gauntlet.drift_stream(pd.DataFrame({"k": ORDERS}), 300).events())


def test_few_or_missing_values_say_nothing() -> None:
    assert ColumnStats.of(np.arange(20.0)).exclusion() is None
    assert ColumnStats.of(np.append(np.arange(100.0), np.nan)).exclusion() is None
    assert ColumnStats.of(np.array([6.0, 7.0])).continues(5.0)
    assert not ColumnStats.of(np.array([6.0, 7.0])).continues(6.5)


def test_a_counter_with_a_broken_cell_behind_its_first_rows_is_no_crash(tmp_path: Path) -> None:
    before = pd.DataFrame({"k": np.sort(RNG.random(11_000)), "x": RNG.normal(size=11_000)}).astype({"k": str})
    before.loc[10_500, "k"] = "ERR"
    before.to_csv(tmp_path / "a.csv", index=False)
    now = pd.DataFrame({"k": 1 + np.sort(RNG.random(600)), "x": RNG.normal(size=600)})
    assert left_out(gauntlet.drift(tmp_path / "a.csv", now)) == {"k": "counter"}


@pytest.mark.parametrize("kept_as", [int, str])
def test_identifiers_that_a_float_cannot_tell_apart_are_names(kept_as: type) -> None:
    """Five identifiers give way to five others: all are one float64, and the total variation is 1."""
    before, now = (
        frame(seed, shop=[kept_as(2**60 + first + int(k)) for k in RNG.integers(0, 5, ROWS)])
        for seed, first in ((1, 0), (2, 5))
    )
    shop = next(column for column in gauntlet.drift(before, now).features if column.name == "shop")
    assert (shop.kind, shop.statistic, shop.drifted) == ("categorical", 1.0, True)
    still = next(c for c in gauntlet.drift(before, before[::-1]).features if c.name == "shop")
    assert (still.statistic, still.drifted) == (0.0, False)


def test_a_shift_of_nanoseconds_since_1970_is_a_shift_of_numbers() -> None:
    """Whole numbers above 2^53 that a float64 does tell apart are not taken for names."""
    day = 86_400_000_000_000
    before, now = (pd.DataFrame({"at": RNG.integers(0, day, ROWS) + 20_000 * day + k * day // 2}) for k in (0, 1))
    (at,) = gauntlet.drift(before, now, features=["at"]).features
    assert (at.kind, at.drifted) == ("numeric", True)
    assert at.statistic == pytest.approx(ks_2samp(before["at"], now["at"]).statistic, abs=0.01)
