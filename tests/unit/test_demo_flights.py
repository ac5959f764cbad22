"""The demo's real traffic: features known before departure, outcomes with their lag, and the honest January model."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.metrics import log_loss

from gauntlet.cli.demo import flights as demo


@pytest.fixture(scope="module")
def year() -> demo.Flights:
    try:
        return demo.load()
    except ModuleNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def january(year: demo.Flights) -> Any:
    return demo.train(*year.between(demo.YEAR_START, demo.YEAR_START + 31 * demo.DAY))


def month_log_loss(year: demo.Flights, model: Any, month: int) -> float:
    first, last = np.searchsorted(year.month, [month, month + 1])
    late = year.late[first:last]
    known = ~np.isnan(late)
    return float(log_loss(late[known], model.predict_proba(year.rows(first, last))[known, 1]))


def test_every_flight_of_the_year_is_there_once_and_in_order(year: demo.Flights) -> None:
    assert len(year) == 336_776 == len(set(year.key))
    assert (np.diff(year.departure) >= 0).all()
    assert (np.diff(year.month) >= 0).all()
    assert all(len(column) == len(year) for column in year.columns.values())


def test_first_flight_leaves_at_a_quarter_past_five_on_new_years_day(year: demo.Flights) -> None:
    # United 1545 from Newark to Houston: scheduled 05:15, left 2 minutes late, 227 minutes in the air, 11 minutes late.
    assert year.departure[0] == demo.YEAR_START + (5 * 60 + 15) * 60
    assert year.arrival[0] - year.departure[0] == (2 + 227) * 60
    assert year.late[0] == 0.0
    assert year.key[0] == "1357035300-UA1545"
    assert year.rows(0, 1) == [
        {
            "temp": 39.02,
            "dewp": 28.04,
            "humid": 64.43,
            "wind_speed": pytest.approx(12.65858),
            "precip": 0.0,
            "pressure": 1011.9,
            "visib": 10.0,
            "hour": 5,
            "distance": 1400,
            "carrier": "UA",
            "origin": "EWR",
            "weekday": "tue",
        }
    ]


def test_outcomes_come_back_after_departure_or_never(year: demo.Flights) -> None:
    lag = (year.arrival - year.departure) / 60
    assert (np.isnan(year.arrival) == np.isnan(year.late)).all()
    assert np.isnan(year.late).sum() == 9_430
    assert np.nanmin(lag) > 0
    assert np.nanmedian(lag) == 140.0
    assert np.nanmean(year.late) == pytest.approx(77_630 / 327_346, abs=1e-9)


def test_summer_time_moves_departures_with_the_local_clock(year: demo.Flights) -> None:
    # The hour feature is New York's clock: UTC-5 in January, UTC-4 in July.
    for month, offset in ((1, 5), (7, 4)):
        first = int(np.searchsorted(year.month, month))
        hour_utc = int(year.departure[first + 100]) // 3600 % 24
        assert year.rows(first + 100, first + 101)[0]["hour"] == (hour_utc - offset) % 24


def test_instances_are_json_and_gaps_in_the_weather_are_null(year: demo.Flights) -> None:
    start = int(np.searchsorted(year.month, 12))
    rows = year.rows(start)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert set(rows[0]) == set(demo.FEATURES)
    missing = sum(row["temp"] is None for row in rows)
    assert 0 < missing < 0.05 * len(rows)
    assert not any(isinstance(value, float) and math.isnan(value) for row in rows for value in row.values())


def test_between_gives_only_labelled_flights_of_the_interval(year: demo.Flights) -> None:
    rows, labels = year.between(demo.YEAR_START, demo.YEAR_START + 31 * demo.DAY)
    assert len(rows) == len(labels) == 26_398
    assert set(labels.tolist()) == {0.0, 1.0}
    first_unlabelled = int(np.flatnonzero(np.isnan(year.late))[0])
    assert rows[first_unlabelled] == year.rows(first_unlabelled + 1, first_unlabelled + 2)[0]


def test_the_january_model_fails_in_july_and_a_retrained_one_does_not(year: demo.Flights, january: Any) -> None:
    day = demo.DAY
    retrained = demo.train(*year.between(demo.YEAR_START + 121 * day, demo.YEAR_START + 181 * day))
    assert month_log_loss(year, january, 1) == pytest.approx(0.480, abs=0.005)
    assert month_log_loss(year, january, 7) == pytest.approx(0.894, abs=0.02)
    assert month_log_loss(year, retrained, 7) < 0.6


def test_the_pipeline_survives_missing_and_unseen_values(year: demo.Flights, january: Any) -> None:
    row = year.rows(0, 1)[0]
    nothing_known = dict.fromkeys(demo.WEATHER)
    odd = [{**row, **nothing_known}, {**row, "carrier": "ZZ"}, {**row, "pressure": None}]
    chance = january.predict_proba(odd)[:, 1]
    assert ((chance > 0) & (chance < 1)).all()
    assert chance[0] != january.predict_proba([row])[0, 1]


def test_the_pipeline_saves_without_pickle(year: demo.Flights, january: Any) -> None:
    artifact = skops.io.dumps(january)
    assert skops.io.get_untrusted_types(data=artifact) == ["numpy.dtype"]
    restored = skops.io.loads(artifact, trusted=["numpy.dtype"])
    rows = year.rows(1000, 1100)
    assert (restored.predict_proba(rows) == january.predict_proba(rows)).all()


def test_training_is_deterministic_and_reads_only_the_features(year: demo.Flights) -> None:
    rows, labels = year.between(demo.YEAR_START, demo.YEAR_START + 5 * demo.DAY)
    first, again = demo.train(rows, labels), demo.train([dict(row) for row in rows], labels)
    assert (first.predict_proba(rows) == again.predict_proba(rows)).all()
    names = {name.partition("=")[0] for name in first["encode"].get_feature_names_out()}
    assert names == set(demo.FEATURES)


def test_one_class_cannot_train(year: demo.Flights) -> None:
    with pytest.raises(ValueError, match="class"):
        demo.train(year.rows(0, 50), np.zeros(50))


def test_celsius_in_training_is_harmless_offline_and_ruinous_live(year: demo.Flights) -> None:
    day = demo.DAY
    rows, labels = year.between(demo.YEAR_START, demo.YEAR_START + 45 * day)
    test_rows, _ = year.between(demo.YEAR_START + 52 * day, demo.YEAR_START + 59 * day)
    right, wrong = demo.train(rows, labels), demo.train_in_celsius(rows, labels)
    as_validated = wrong.predict_proba([demo.celsius(row) for row in test_rows])[:, 1]
    assert as_validated == pytest.approx(right.predict_proba(test_rows)[:, 1], abs=1e-3)
    live_rows, live_labels = year.between(demo.YEAR_START + 59 * day, demo.YEAR_START + 73 * day)
    lost = log_loss(live_labels, wrong.predict_proba(live_rows)[:, 1])
    assert lost > log_loss(live_labels, right.predict_proba(live_rows)[:, 1]) + 0.5


def test_celsius_leaves_gaps_and_other_columns_alone(year: demo.Flights) -> None:
    row = {**year.rows(0, 1)[0], "temp": 50.0}
    assert demo.celsius(row) == {**row, "temp": 10.0}
    assert demo.celsius({**row, "temp": None}) == {**row, "temp": None}
    assert row["temp"] == 50.0


def test_without_an_imputer_only_a_silent_weather_station_breaks_the_model(year: demo.Flights) -> None:
    start = int(np.searchsorted(year.month, 2))
    model = demo.train_without_imputer(*year.between(demo.YEAR_START, demo.YEAR_START + 31 * demo.DAY))
    rows = year.rows(start, start + 5_000)
    assert any(row["pressure"] is None for row in rows)
    assert np.isfinite(model.predict_proba(rows)).all()
    with pytest.raises(ValueError, match="NaN"):
        model.predict_proba([{**rows[0], "visib": None}])
    assert skops.io.get_untrusted_types(data=skops.io.dumps(model)) == []


def test_without_the_package_the_reason_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"gauntlet-ml\[demo\]"):
        demo.load()
