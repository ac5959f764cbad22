"""Training data from the event log: predictions' features joined with their outcomes, within one window of event time.

Reads a fixed range of offsets, so that the same job reads the same rows again; decodes nothing that it doesn't use.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from gauntlet import keys
from gauntlet.log import LogReader, Stored
from gauntlet.registry.artifact import Rows as FeatureRows
from gauntlet.registry.artifact import Schema
from gauntlet.types import CHAMPION, Label, Task

_BATCH = 5000  # records a read: a few megabytes

Ends = dict[str, int]
"""Where each partition of predictions and outcomes ends for a job, keyed by `topic/partition`: the data's version."""


_SHADOWS = b'{"type":"shadow'
"""How the other kind of record on the predictions' topic begins, of which nothing is used; also as a log of an older
release has it, one by one."""


class _Draw(msgspec.Struct):
    """A draw of units away from the champion, and its probability: a challenger's, or that of a reverse holdout."""

    propensity: float = 0.0
    drawn: bool = False


class _Prediction(msgspec.Struct, tag="prediction"):
    """The fields of a prediction that training needs; its features stay bytes until an outcome asks for them."""

    id: str
    at: float
    experiment: str
    features: msgspec.Raw
    assigned: str
    fallback: str | None = None
    forced: bool = False
    contenders: list[_Draw] = []
    holdout: _Draw | None = None

    @property
    def others(self) -> str | None:
        """Whose row it is where the champion did not answer it as drawn; None for the champion's own."""
        if self.fallback is not None:
            return "fallback"
        if self.assigned != CHAMPION:
            return "challenger"
        return "reverse_holdout" if self.holdout is not None and self.holdout.drawn else None

    @property
    def propensity(self) -> float:
        """The probability with which its unit was the champion's."""
        ramp = 1.0 - sum(each.propensity for each in self.contenders)
        return ramp if self.holdout is None else ramp * (1.0 - self.holdout.propensity)


class _Outcome(msgspec.Struct, tag="outcome"):
    id: str
    at: float
    experiment: str
    value: Label


_predictions = msgspec.json.Decoder(_Prediction)
_outcomes = msgspec.json.Decoder(_Outcome)
_features = msgspec.json.Decoder(dict[str, Any])


class JobRows(msgspec.Struct, frozen=True, kw_only=True):
    """Joined rows in time order: features, targets and prediction times (seconds), and how many were left out and why.

    Targets are class labels as the schema writes them, or floats. Weights are empty where all rows count alike.
    """

    features: FeatureRows
    targets: list[Label]
    times: list[float]
    weights: list[float] = []
    skipped: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        return f"JobRows({len(self):,})"  # asyncio formats the result of what it ran: not a hundred thousand rows of it

    def between(self, start: float, end: float) -> JobRows:
        first, last = bisect_left(self.times, start), bisect_left(self.times, end)
        return JobRows(
            features=self.features[first:last],
            targets=self.targets[first:last],
            times=self.times[first:last],
            weights=self.weights[first:last],
        )


async def ends(reader: LogReader) -> Ends:
    """The present ends of the log's data: what a job that starts now will read up to."""
    return {
        f"{topic}/{partition}": await reader.end(topic, partition)
        for topic in (keys.PREDICTIONS, keys.OUTCOMES)
        for partition in await reader.partitions(topic)
    }


async def collect(
    reader: LogReader,
    schema: Schema,
    experiment: str,
    start: float,
    end: float,
    horizon: float,
    until: Ends,
    *,
    champion_only: bool = False,
) -> JobRows:
    """Predictions of [start, end] with the outcome that came within `horizon` seconds of each.

    The first record of an id wins, of predictions and of outcomes alike, in the log's order; forced requests were
    chosen by somebody and are left out. With `champion_only` so is every row that another model answered, or the
    champion in its place; each that is left is weighted by the inverse of its probability to be the champion's, so
    that the times in which a challenger had a share count as much as all others. What can't be a row of `schema` is
    counted in `skipped`. Raises `LogUnavailable`.
    """
    skipped = Counter[str]()
    truths = await _truths(reader, experiment, start, end + horizon, until, skipped)
    target = Targets(schema)
    rows: list[tuple[float, str, dict[str, Any], Label, float]] = []
    seen: set[str] = set()
    async for records in _batches(reader, keys.PREDICTIONS, start, until):
        for _, _, at, value in records:
            if value.startswith(_SHADOWS) or not start <= at <= end:
                continue
            try:
                prediction = _predictions.decode(value)
            except msgspec.MsgspecError:
                skipped["unusable"] += 1
                continue
            if prediction.experiment != experiment or prediction.id in seen:
                continue
            seen.add(prediction.id)
            if prediction.forced:
                skipped["forced"] += 1
            elif champion_only and (other := prediction.others) is not None:
                skipped[other] += 1
            elif (truth := truths.get(prediction.id)) is None:
                skipped["unlabelled"] += 1
            elif truth[0] - prediction.at > horizon:
                skipped["late"] += 1
            elif (wanted := target[truth[1]]) is None:
                skipped["unusable"] += 1
            else:
                weight = 1.0 / prediction.propensity if champion_only else 1.0
                rows.append((prediction.at, prediction.id, _features.decode(prediction.features), wanted, weight))
    rows.sort(key=lambda row: row[:2])
    return JobRows(
        features=[row[2] for row in rows],
        targets=[row[3] for row in rows],
        times=[row[0] for row in rows],
        weights=[row[4] for row in rows] if any(row[4] != 1.0 for row in rows) else [],
        skipped=dict(skipped),
    )


async def _truths(
    reader: LogReader, experiment: str, start: float, end: float, until: Ends, skipped: Counter[str]
) -> dict[str, tuple[float, Label]]:
    """The first outcome of each id up to `end`: its time and its value."""
    truths: dict[str, tuple[float, Label]] = {}
    async for records in _batches(reader, keys.OUTCOMES, start, until):
        for record in records:
            if record.at > end:
                continue
            try:
                outcome = _outcomes.decode(record.value)
            except msgspec.MsgspecError:
                skipped["unusable"] += 1
                continue
            if outcome.experiment == experiment and outcome.id not in truths:
                truths[outcome.id] = (outcome.at, outcome.value)
    return truths


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


async def _batches(reader: LogReader, topic: str, start: float, until: Ends) -> AsyncIterator[list[Stored]]:
    """The topic's records before `until`, those of a time before `start` left out where they can be skipped at once."""
    for name, end in sorted(until.items()):
        of, _, partition = name.partition("/")
        if of != topic or not end:
            continue
        offset = await reader.seek(topic, partition, start)
        while offset < end:
            records: list[Stored] = await reader.read(topic, partition, offset, min(_BATCH, end - offset))
            if not records:
                break
            offset = records[-1].offset + 1
            yield records if offset <= end else [record for record in records if record.offset < end]
