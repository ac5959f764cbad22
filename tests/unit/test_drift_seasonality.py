"""Numbers held against the same season of the reference: a cycle is not drift any more, and it hides none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gauntlet
from evaluator.drift.columns import Coded, Column
from evaluator.drift.seasonality import Seasonality, season_of, sparse_seasons
from evaluator.offline.drift.data_findings import parse_timestamps
from evaluator.offline.drift.result import StreamEvent
from evaluator.offline.drift.settings import DriftFileSettings
from evaluator.offline.drift.stream import DriftStream
from gauntlet.cli.command import main
from gauntlet.errors import BadInput
from gauntlet.table import open_table

MINUTE, DAY = 60.0, 1440
REFERENCE = 10 * DAY
START = 1_700_006_400.0  # midnight (UTC)


def cyclic(days: int = 16, seed: int = 1, shifted: float = 0.0) -> pd.DataFrame:
    """A row a minute whose mean swings by 1.5 standard deviations over the day, shifted after day 13."""
    rng = np.random.default_rng(seed)
    minute = np.arange(days * DAY)
    swing = 1.5 * np.sin(2 * np.pi * minute / DAY)
    x = swing + rng.normal(size=len(minute))
    x[13 * DAY :] += shifted
    return pd.DataFrame({"when": START + MINUTE * minute, "x": x, "still": rng.normal(size=len(minute))})


def events(table: pd.DataFrame, season: str | None) -> list[StreamEvent]:
    settings = DriftFileSettings.from_options(
        season=season, time=None if season is None else "when", features=["x", "still"]
    )
    return list(DriftStream(open_table(table), REFERENCE, settings).events())


def test_the_daily_cycle_is_beyond_the_threshold_within_the_day() -> None:
    table = cyclic()
    morning, all_day = table["x"][240:490], np.sort(table["x"][:REFERENCE])
    places = np.searchsorted(all_day, np.sort(morning)) / REFERENCE
    assert np.abs(places - np.linspace(0, 1, 250)).max() > 0.3  # twice the threshold and more


def test_with_seasons_a_still_cycle_is_quiet() -> None:
    assert events(cyclic(), "hour") == []


def test_with_seasons_a_shift_is_found_that_the_cycle_hides_without_them() -> None:
    table = cyclic(shifted=0.75)
    assert [event for event in events(table, None) if event.row >= 13 * DAY and event.row < 13 * DAY + 500] == []
    found = events(table, "hour")
    assert found
    assert 13 * DAY <= found[0].row < 13 * DAY + 500
    assert found[0].features[0]["name"] == "x"
    assert {event.event for event in found} <= {"open", "escalate"}  # it stays


def test_places_are_even_in_every_season_whatever_the_seasons_are() -> None:
    table = cyclic()
    at = table["when"].to_numpy()
    seasons = Seasonality.fit({"x": table["x"].to_numpy()[:REFERENCE]}, at[:REFERENCE], "hour")
    places = np.asarray(seasons.adjusted({"x": table["x"].to_numpy()[REFERENCE:]}, at[REFERENCE:])["x"])
    hour = season_of(at[REFERENCE:], "hour")
    for own in range(24):
        ordered = np.sort(places[hour == own])
        assert np.abs(ordered - np.linspace(0, 1, len(ordered))).max() < 0.15


def test_cells_that_are_no_numbers_stay_and_far_values_stay_far() -> None:
    rng = np.random.default_rng(2)
    at = START + MINUTE * np.arange(20 * DAY)
    seasons = Seasonality.fit({"x": rng.normal(size=len(at))}, at, "hour")
    places = list(seasons.adjusted({"x": [0.0, None, "odd", np.inf, 1e6, -1e6]}, np.full(6, START))["x"])
    assert places[0] == pytest.approx(0.5, abs=0.05)
    assert np.isnan(places[1])
    assert places[2] == "odd"
    assert places[3] == np.inf
    assert places[4] > 1e4
    assert places[5] < -1e4


def test_texts_and_columns_of_few_values_are_left_as_they_are() -> None:
    at = START + MINUTE * np.arange(REFERENCE)
    columns: dict[str, Column] = {
        "c": ["x", "y"] * (REFERENCE // 2),
        "k": np.arange(REFERENCE) % 5,
        "n": np.full(REFERENCE, np.nan),
    }
    seasons = Seasonality.fit(columns, at, "hour")
    assert seasons.names == ()
    assert seasons.adjusted(columns, at) == columns


@pytest.mark.parametrize(
    ("at", "period", "season"),
    [
        (0.0, "hour", 0),
        (3599.0, "hour", 0),
        (3600.0, "hour", 1),
        (-1.0, "hour", 23),
        (0.0, "weekday", 3),  # a Thursday
        (4 * 86_400.0, "weekday", 0),
        (np.nan, "hour", -1),
        (np.inf, "weekday", -1),
    ],
)
def test_seasons_of_times(at: float, period: str, season: int) -> None:
    assert season_of([at], period).tolist() == [season]  # type: ignore[arg-type]


def test_times_as_texts_and_numbers() -> None:
    texts = Coded(np.array([0, 1, -1, 2, 3]), ("1970-01-01T01:00:00Z", "1970-01-01 02:00:00", "soon", "1970-01-02"))
    assert np.allclose(parse_timestamps(texts), [3600.0, 7200.0, np.nan, np.nan, 86_400.0], equal_nan=True)
    assert np.allclose(parse_timestamps(["1970-01-01T01:00:00+01:00", None]), [0.0, np.nan], equal_nan=True)
    assert parse_timestamps(np.array([5.0])).tolist() == [5.0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"season": "hour"}, "--season needs --time"),
        ({"season": "month", "time": "when"}, "--season must be one of hour, weekday"),
        ({"season": "hour", "time": "when", "features": ["when"]}, "is the time and can't be a feature"),
    ],
)
def test_what_can_not_be_meant_is_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        DriftFileSettings.from_options(**asked)  # type: ignore[arg-type]


def test_two_files_have_no_seasons() -> None:
    from evaluator.offline.drift.two_tables import compare_tables

    table = open_table(cyclic(2))
    with pytest.raises(BadInput, match="for a stream"):
        compare_tables(table, table, DriftFileSettings.from_options(season="hour", time="when"))
    assert gauntlet.drift(cyclic(2), cyclic(2)).severity == "NONE"


def test_the_command_reads_times_as_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = cyclic(shifted=0.75)
    table["when"] = pd.to_datetime(table["when"], unit="s", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    table.to_csv(tmp_path / "s.csv", index=False)
    asked = ["--stream", str(tmp_path / "s.csv"), "--reference-rows", str(REFERENCE), "--season", "hour"]
    assert main(["drift", *asked, "--time", "when", "--fail-on", "low"]) == 3
    output = capsys.readouterr()
    assert json.loads(output.out.splitlines()[0])["features"][0]["name"] == "x"
    assert "same hour" in output.err
    assert main(["drift", *asked, "--time", "x"]) in (0, 3)
    assert main(["drift", *asked, "--time", "nope"]) == 2
    assert main(["drift", *asked]) == 2


def test_a_season_that_came_twice_needs_fewer_rows_and_thin_ones_are_named() -> None:
    def knots(step: float, days: float) -> tuple[int, list[str]]:
        at = START + step * np.arange(int(days * 86_400 / step))
        seasons = Seasonality.fit({"x": np.random.default_rng(1).normal(size=len(at))}, at, "hour")
        own = [not np.array_equal(one, seasons.knots["x"][-1]) for one in seasons.knots["x"][:-1]]
        return sum(own), sparse_seasons(at, "hour")

    assert knots(60.0, 2.0) == (24, [])  # 120 rows an hour from two days
    assert knots(30.0, 1.0)[0] == 0  # as many from one day
    own, notes = knots(60.0, 2.5)
    assert (own, notes) == (24, [])
    own, notes = knots(10.0, 0.9)
    assert own == 21
    assert notes[0].startswith("3 of 24 hours have too few rows")
    assert "(21:00, 22:00, 23:00)" in notes[0]
    weekdays = START + 600.0 * np.arange(1000)
    assert "Saturday" in sparse_seasons(weekdays, "weekday")[0]


def test_a_stream_tells_which_hours_are_thin() -> None:
    stream = DriftStream(
        open_table(cyclic(2)), 1200, DriftFileSettings.from_options(season="hour", time="when", features=["x"])
    )
    list(stream.events())
    assert any("of 24 hours have too few rows" in note for note in stream.report().notes)
