"""Drift baseline of one champion version: the fitted reference profile, and the conversion of events to columns. Pure.

A baseline is fitted once, to the version's reference or the first rows it served, and never changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from evaluator.drift import DriftSettings, Monitor, Profile, Seasonality
from evaluator.drift.columns import Column
from gauntlet.config.drift import DriftConfig
from gauntlet.events import Prediction
from gauntlet.registry import Reference
from gauntlet.registry.artifact import Schema
from gauntlet.types import Task

Output = Sequence[float] | float

FEWEST_HONEST = 30
"""Rows with an honest prediction (the model was not fitted on them) and a truth that a reference needs; with fewer the
champion's usual error is learned from its first live outcomes."""


def rules(config: DriftConfig) -> DriftSettings:
    """The thresholds of the configuration: the fields that both have."""
    shared = {field.name for field in fields(DriftSettings)} & {*config.__struct_fields__}
    return DriftSettings(**{name: getattr(config, name) for name in shared})


class ColumnReader:
    """Reads a model's requests, predictions and truths as values of columns: of two classes the second's probability,
    of more the likeliest label, of a regression the number."""

    def __init__(self, schema: Schema) -> None:
        self._classes = schema.classes
        self.task = schema.task
        self.names = [feature.name for feature in schema.features]
        self.prediction = "(prediction)"
        """The name of the column of predictions; no feature is called so."""
        while self.prediction in self.names:
            self.prediction = f"({self.prediction})"

    @property
    def scored(self) -> bool:
        """Whether a prediction is the probability of the second class."""
        return len(self._classes) == 2

    def value(self, output: Output | None) -> float | str | None:
        """A prediction as one value."""
        if output is None or isinstance(output, int | float):
            return output
        if self.scored:
            return output[1]
        return str(self._classes[max(range(len(output)), key=output.__getitem__)])

    def target(self, value: float) -> float | str:
        """A truth (a class index, or a number) as a value of the same kind as the outputs', 0 or 1 beside a score."""
        return value if self.scored or self.task is Task.REGRESSION else str(self._classes[int(value)])

    def columns(self, predictions: Sequence[Prediction]) -> dict[str, Column]:
        """Requests as columns."""
        found: dict[str, Column] = {name: [p.features.get(name) for p in predictions] for name in self.names}
        found[self.prediction] = [self.value(p.output) for p in predictions]
        return found


@dataclass(frozen=True)
class ReferenceRows:
    """Rows that a baseline is fitted to: `columns` with their times (or none), and predictions with their truths and
    losses, in an order of their own."""

    columns: Mapping[str, Column]
    at: Sequence[float]
    predictions: Column
    truths: Column
    losses: Sequence[float]

    @classmethod
    def of(cls, reference: Reference, reader: ColumnReader) -> ReferenceRows:
        """The registry's rows."""
        table: dict[str, Column] = {name: reference.columns[name] for name in reader.names}
        outputs = reference.outputs or [None] * reference.rows
        table[reader.prediction] = [reader.value(output) for output in outputs]
        honest = reference.honest
        return cls(
            table,
            reference.at,
            [table[reader.prediction][row] for row in honest],
            [reader.target(float(reference.truths[row] or 0.0)) for row in honest],
            [float(reference.losses[row] or 0.0) for row in honest],
        )


class DriftBaseline:
    """The reference profile, and the seasonality that is taken out of numbers first."""

    def __init__(self, profile: Profile, seasons: Seasonality | None) -> None:
        self.profile, self._seasons = profile, seasons

    @classmethod
    def fit(cls, version: str, rows: ReferenceRows, reader: ColumnReader, config: DriftConfig) -> DriftBaseline:
        """The baseline fitted to rows in time order. Raises ValueError for none."""
        table = dict(rows.columns)
        seasons = None
        if config.season is not None and len(rows.at):
            inputs = {name: values for name, values in table.items() if name != reader.prediction}
            seasons = Seasonality.fit(inputs, rows.at, config.season)
            table |= seasons.adjusted(inputs, rows.at)
        honest = len(rows.losses) > 0
        profile = Profile.fit(
            table,
            reference_id=version,
            pane=config.pane,
            errors=rows.losses if honest else None,
            prediction=None if reader.scored else reader.prediction,
            score=reader.prediction if reader.scored else None,
            targets=rows.truths if honest else None,
            answers=rows.predictions if honest else None,
            task="regression" if reader.task is Task.REGRESSION else "classification",
            regimes=config.regimes,
        )
        return cls(profile, seasons)

    def monitor(self, config: DriftConfig, key: str) -> Monitor:
        """A fresh monitor against it."""
        return Monitor(self.profile, rules(config), key=key)

    def adjusted(self, table: dict[str, Column], at: Sequence[float]) -> dict[str, Column]:
        """ColumnReader as the profile knows them."""
        return table if self._seasons is None else self._seasons.adjusted(table, at)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "profile": self.profile.to_dict(),
            "seasons": None if self._seasons is None else self._seasons.to_dict(),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> DriftBaseline:
        """The inverse of `to_dict`. Raises ValueError for a profile that this code does not know."""
        seasons = raw["seasons"]
        return cls(Profile.from_dict(raw["profile"]), None if seasons is None else Seasonality.from_dict(seasons))
