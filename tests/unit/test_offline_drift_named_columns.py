"""Every column that is named is judged by its values, whatever keeps them, or refused by its name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import finding_kinds
from scipy.stats import ks_2samp

import gauntlet
from evaluator.offline.drift.result import ColumnDrift, DriftReport
from gauntlet.errors import BadInput

ROWS = 1500
BORN = pd.Timestamp("1973-01-01")


def days(rng: np.random.Generator, later: int) -> pd.Series[pd.Timestamp]:
    return pd.Series(BORN + pd.to_timedelta(rng.integers(later, later + 3000, ROWS), unit="D"))


def moments(rng: np.random.Generator, later: int) -> pd.Series[pd.Timestamp]:
    return days(rng, later) + pd.to_timedelta(rng.integers(0, 86_400_000, ROWS), unit="ms")


def clock(rng: np.random.Generator, later: int) -> list[dt.time]:
    return [dt.time(int(hour), 30) for hour in rng.integers(0, 12, ROWS) + (12 if later else 0)]


Make = Callable[[np.random.Generator, int], object]
KINDS: dict[str, Make] = {
    "times": moments,
    "times with a zone": lambda rng, later: moments(rng, later).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
    "days": lambda rng, later: days(rng, later).dt.date,
    "times as texts": lambda rng, later: moments(rng, later).astype(str),
    "times of day": clock,
    "lengths of time": lambda rng, later: pd.to_timedelta(rng.integers(later, later + 3000, ROWS) * 700, unit="ms"),
    "truth values": lambda rng, later: np.full(ROWS, later > 0),
    "decimals": lambda rng, later: [Decimal(int(cents)) / 100 for cents in rng.integers(later, later + 3000, ROWS)],
    "whole numbers above 2^53": lambda rng, later: 2**60 + rng.integers(later, later + 3000, ROWS) * 1000,
    "categories": lambda rng, later: pd.Series(["z" if later else "a"] * ROWS, dtype="category"),
}


def check(tmp_path: Path, form: str, before: object, now: object) -> DriftReport:
    tables = [pd.DataFrame({"x": cells}) for cells in (before, now)]
    if form == "frame":
        return gauntlet.drift(*tables, features="x")
    paths = [tmp_path / f"{name}.{form}" for name in ("before", "now")]
    for table, path in zip(tables, paths, strict=True):
        table.to_csv(path, index=False) if form == "csv" else table.to_parquet(path)
    return gauntlet.drift(*paths, features="x")


@pytest.mark.parametrize("form", ["frame", "csv", "parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_ranges_that_do_not_overlap_are_a_distance_of_one(kind: str, form: str, tmp_path: Path) -> None:
    rng, make = np.random.default_rng(3), KINDS[kind]
    (moved,) = check(tmp_path, form, make(rng, 0), make(rng, 10_000)).features
    (same,) = check(tmp_path, form, make(rng, 0), make(rng, 0)).features
    assert moved.statistic == pytest.approx(1.0, abs=0.01)
    assert moved.upper == pytest.approx(1.0)
    assert moved.drifted
    assert not same.drifted
    assert same.statistic is not None
    assert same.statistic < 0.1


def test_times_with_and_without_a_zone_are_compared_as_moments_with_a_note() -> None:
    rng = np.random.default_rng(4)
    before, now = moments(rng, 0), moments(rng, 300)
    told = [
        gauntlet.drift(pd.DataFrame({"x": before}), pd.DataFrame({"x": cells}), features="x")
        for cells in (now, now.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
    ]
    plain, zoned = (report.features[0] for report in told)
    exact = ks_2samp(before.astype("int64"), now.astype("int64")).statistic
    for column in (plain, zoned):
        assert column.lower is not None
        assert column.upper is not None
        assert column.lower - 1e-9 <= exact <= column.upper + 1e-9
    assert "x (timestamp" in "".join(told[1].notes)
    assert "taken as UTC" in "".join(told[1].notes)


def test_some_cells_that_are_no_time_are_bad_cells() -> None:
    rng = np.random.default_rng(5)
    before, now = (moments(rng, 0).astype(object) for _ in range(2))
    now[:150] = "unknown"
    found = gauntlet.drift(pd.DataFrame({"x": before}), pd.DataFrame({"x": now}), features="x")
    assert found.features[0].missing == (0.0, 0.1)
    assert ("type_change", "x") in finding_kinds(found)
    assert found.severity != "NONE"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[1, 2]] * ROWS, "column 'x' holds list"),
        ([{"a": 1}] * ROWS, "column 'x' holds struct"),
        (["1,5", "2,25"] * (ROWS // 2), "column 'x' holds '1,5', which is not a number; is its comma a decimal point"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name_or_left_out_with_a_word(cells: list[object], message: str) -> None:
    table = pd.DataFrame({"x": cells, "a": np.arange(ROWS) % 7})
    with pytest.raises(BadInput, match=message):
        gauntlet.drift(table, table, features=["x", "a"])
    told = [finding for finding in gauntlet.drift(table, table).quality.findings if finding.column == "x"]
    assert [finding.kind for finding in told] == ["unreadable"]
    assert message in told[0].message


def column(before: object, now: object) -> tuple[ColumnDrift, DriftReport]:
    found = gauntlet.drift(pd.DataFrame({"x": before}), pd.DataFrame({"x": now}), features="x")
    return found.features[0], found


@pytest.mark.parametrize("turned", [False, True])
def test_prices_are_the_same_in_single_and_in_double_precision(turned: bool) -> None:
    rng = np.random.default_rng(6)
    double, other = (rng.choice([9.99, 19.99, 29.99], 3000) for _ in range(2))
    single = other.astype(np.float32)
    exact = ks_2samp(double.astype(np.float32), single).statistic
    found, report = column(single, double) if turned else column(double, single)
    assert found.statistic == pytest.approx(exact, abs=1e-12)
    assert (report.severity, report.quality.findings) == ("NONE", ())
    assert "x (float, now double)" in report.notes[-1] if turned else "x (double, now float)" in report.notes[-1]
    constant, _ = column(np.full(300, 9.99), np.full(300, 9.99, np.float32))
    assert (constant.statistic, constant.drifted) == (0.0, False)


def test_whole_numbers_and_neighbours_that_32_bits_cannot_tell_apart_stay_apart() -> None:
    for before, now in ((20_240_101, 20_240_100), (1e9 + 0.25, 1e9 + 0.5)):
        pair = np.array([before, now]).repeat(300)
        assert column(pair, np.full(600, now))[0].statistic == pytest.approx(0.5)
    assert column(np.full(300, 20_240_101), np.full(300, 20_240_100))[0].drifted
