"""Training data from the event log: predictions' features joined with their outcomes, within one window of event time.

Reads a fixed range of offsets, so that the same job reads the same rows again; decodes nothing that it doesn't use.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from gauntlet import keys
from gauntlet.log import LogReader, Stored
from gauntlet.registry.artifact import Rows as FeatureRows
from gauntlet.registry.artifact import Schema
from gauntlet.types import Label, Task

_BATCH = 5000  # records a read: a few megabytes

Ends = dict[str, int]
"""Where each partition of predictions and outcomes ends for a job, keyed by `topic/partition`: the data's version."""


class _Shadow(msgspec.Struct, tag="shadow"):
    """The other kind of record on the predictions' topic; nothing of it is used."""


class _Prediction(msgspec.Struct, tag="prediction"):
    """The fields of a prediction that training needs; its features stay bytes until an outcome asks for them."""

    id: str
    at: float
    experiment: str
    features: msgspec.Raw
    forced: bool = False


class _Outcome(msgspec.Struct, tag="outcome"):
    id: str
    at: float
    experiment: str
    value: Label


_predictions = msgspec.json.Decoder(_Prediction | _Shadow)
_outcomes = msgspec.json.Decoder(_Outcome)
_features = msgspec.json.Decoder(dict[str, Any])


class JobRows(msgspec.Struct, frozen=True, kw_only=True):
    """Joined rows in time order: features, targets and prediction times (seconds), and how many were left out and why.

    Targets are class labels as the schema writes them, or floats.
    """

    features: FeatureRows
    targets: list[Label]
    times: list[float]
    skipped: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        return f"JobRows({len(self):,})"  # asyncio formats the result of what it ran: not a hundred thousand rows of it

    def between(self, start: float, end: float) -> JobRows:
        first, last = bisect_left(self.times, start), bisect_left(self.times, end)
        return JobRows(
            features=self.features[first:last], targets=self.targets[first:last], times=self.times[first:last]
        )


async def ends(reader: LogReader) -> Ends:
    """The present ends of the log's data: what a job that starts now will read up to."""
    return {
        f"{topic}/{partition}": await reader.end(topic, partition)
        for topic in (keys.PREDICTIONS, keys.OUTCOMES)
        for partition in await reader.partitions(topic)
    }


async def collect(
    reader: LogReader, schema: Schema, experiment: str, start: float, end: float, horizon: float, until: Ends
) -> JobRows:
    """Predictions of [start, end] with the outcome that came within `horizon` seconds of each.

    The first record of an id wins, of predictions and of outcomes alike, in the log's order; forced requests were
    chosen by somebody and are left out. What can't be a row of `schema` is counted in `skipped`.
    Raises `LogUnavailable`.
    """
    skipped = dict.fromkeys(("forced", "unlabelled", "late", "unusable"), 0)
    truths: dict[str, tuple[float, Label]] = {}
    target = Targets(schema)
    async for record in _records(reader, keys.OUTCOMES, start, until):
        if record.at > end + horizon:
            continue
        try:
            outcome = _outcomes.decode(record.value)
        except msgspec.MsgspecError:
            skipped["unusable"] += 1
            continue
        if outcome.experiment == experiment and outcome.id not in truths:
            truths[outcome.id] = (outcome.at, outcome.value)
    rows: list[tuple[float, str, dict[str, Any], Label]] = []
    seen: set[str] = set()
    async for record in _records(reader, keys.PREDICTIONS, start, until):
        if not start <= record.at <= end:
            continue
        try:
            prediction = _predictions.decode(record.value)
        except msgspec.MsgspecError:
            skipped["unusable"] += 1
            continue
        if isinstance(prediction, _Shadow) or prediction.experiment != experiment or prediction.id in seen:
            continue
        seen.add(prediction.id)
        if prediction.forced:
            skipped["forced"] += 1
        elif (truth := truths.get(prediction.id)) is None:
            skipped["unlabelled"] += 1
        elif truth[0] - prediction.at > horizon:
            skipped["late"] += 1
        elif (wanted := target[truth[1]]) is None:
            skipped["unusable"] += 1
        else:
            rows.append((prediction.at, prediction.id, _features.decode(prediction.features), wanted))
    rows.sort(key=lambda row: row[:2])
    return JobRows(
        features=[row[2] for row in rows],
        targets=[row[3] for row in rows],
        times=[row[0] for row in rows],
        skipped={reason: count for reason, count in skipped.items() if count},
    )


class Targets(dict[Label, Label | None]):
    """The truth as the model writes it, or None where it can't be one: JSON's true may stand for the class 1."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def __missing__(self, value: Label) -> Label | None:
        schema, target = self._schema, None
        if schema.task is Task.CLASSIFICATION:
            index = schema.class_index(value)
            target = None if index is None else schema.classes[index]
            self[value] = target  # few distinct ones; 1, 1.0 and true are one label here as in the schema
        elif not isinstance(value, bool | str) and abs(value) < float("inf"):
            target = float(value)
        return target


async def _records(reader: LogReader, topic: str, start: float, until: Ends) -> AsyncIterator[Stored]:
    for name, end in sorted(until.items()):
        of, _, partition = name.partition("/")
        if of != topic or not end:
            continue
        offset = await reader.seek(topic, partition, start)
        while offset < end:
            records: list[Stored] = await reader.read(topic, partition, offset, min(_BATCH, end - offset))
            if not records:
                break
            for record in records:
                if record.offset < end:
                    yield record
            offset = records[-1].offset + 1
