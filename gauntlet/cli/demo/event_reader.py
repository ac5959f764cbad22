"""The recorded events of one experiment, read back: traffic as data frames, everything else as a list of events.

Delivery is at least once, so an id can be on the log several times; its first record counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import msgspec
import pandas as pd

from gauntlet import events, keys
from gauntlet.log import LogReader
from gauntlet.types import CHALLENGER, Label

_BATCH = 10_000  # records a read

E = TypeVar("E", bound=events.Event)


class _Contender(msgspec.Struct, gc=False):
    rollout: str
    challenger: str


class _Prediction(msgspec.Struct, tag="prediction", gc=False):
    """The fields of `events.Prediction` that the report needs; the decoder skips the others, above all the features."""

    id: str
    at: float
    experiment: str
    assigned: str
    served: str
    allocation: int
    champion: str
    output: list[float] | float | None
    contenders: list[_Contender] = []
    rollout: str | None = None
    fallback: str | None = None
    forced: bool = False


class _Score(msgspec.Struct, array_like=True, gc=False):
    id: str
    at: float
    output: msgspec.Raw
    error: str | None = None


class _ModelScores(msgspec.Struct):
    arm: str
    scores: list[_Score]
    rollout: str | None = None


class _Shadows(msgspec.Struct, tag="shadows"):
    experiment: str
    models: list[_ModelScores]


class _Outcome(msgspec.Struct, tag="outcome", gc=False):
    id: str
    at: float
    experiment: str
    value: Label


class Predictions(msgspec.Struct, frozen=True, kw_only=True):
    """Answered requests.

    table: one row an id that was asked for, indexed by it, in the log's order within each partition; columns
    partition, at, allocation, champion, challenger and rollout (those that it was assigned to, none for the champion),
    model (which version answered), assigned and served (True: a challenger), fallback, forced, output (probability of
    the second class).
    foreign: ids that nobody asked for. rerouted: records that repeat an id with another assignment.
    shadow_failures: failed shadow scores by rollout.
    """

    table: pd.DataFrame
    foreign: int
    rerouted: int
    shadow_failures: dict[str, int]


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes. table: one row an id that was asked for, indexed by it; columns at, value (index of the class, -1: no
    class of the model). records: all records, repetitions included. conflicting: repetitions with another value."""

    table: pd.DataFrame
    records: int
    foreign: int
    conflicting: int


async def predictions(reader: LogReader, experiment: str, ids: Sequence[str]) -> Predictions:
    """All predictions of `experiment`; `ids` are those of the requests that were sent. Raises `LogUnavailable`."""
    decode = msgspec.json.Decoder(_Prediction | _Shadows).decode
    parts = [_table(_Prediction, []).assign(challenger=None)]
    failures: dict[str, int] = {}
    async for partition, batch in _batches(reader, keys.PREDICTIONS, decode, experiment):
        for of in (of for event in batch if isinstance(event, _Shadows) for of in event.models):
            failed = sum(score.error is not None for score in of.scores)
            if failed and of.arm == CHALLENGER and of.rollout is not None:
                failures[of.rollout] = failures.get(of.rollout, 0) + failed
        answered = [event for event in batch if isinstance(event, _Prediction)]
        part = _table(_Prediction, answered).assign(partition=partition)
        part["challenger"] = [_challenger(e) for e in answered]
        part["output"] = [e.output[1] if isinstance(e.output, list) and len(e.output) > 1 else None for e in answered]
        parts.append(part)
    table = pd.concat(parts[1:] or parts, ignore_index=True)
    table["assigned"], table["served"] = table["assigned"] == CHALLENGER, table["served"] == CHALLENGER
    table["fallback"] = table["fallback"].notna()
    table["model"] = table["challenger"].where(table["served"], table["champion"])
    table["output"] = table["output"].astype(float)
    first, again = _first(table)
    route = ["allocation", "assigned"]
    rerouted = (again[route].to_numpy() != first.loc[again.index, route].to_numpy()).any(axis=1)
    expected = pd.Index(ids).get_indexer(first.index) >= 0
    return Predictions(
        table=first[expected], foreign=int((~expected).sum()), rerouted=int(rerouted.sum()), shadow_failures=failures
    )


async def outcomes(reader: LogReader, experiment: str, ids: Sequence[str], classes: Sequence[Label]) -> Outcomes:
    """All outcomes of `experiment`; `classes` in the model's order. Raises `LogUnavailable`."""
    decode = msgspec.json.Decoder(_Outcome).decode
    index = {label: position for position, label in enumerate(classes)}
    parts = [_table(_Outcome, [])]
    async for _, batch in _batches(reader, keys.OUTCOMES, decode, experiment):
        parts.append(_table(_Outcome, batch).assign(value=[index.get(e.value, -1) for e in batch]))
    table = pd.concat(parts[1:] or parts, ignore_index=True)
    first, again = _first(table)
    conflicting = again["value"].to_numpy() != first.loc[again.index, "value"].to_numpy()
    expected = pd.Index(ids).get_indexer(first.index) >= 0
    return Outcomes(
        table=first[expected], records=len(table), foreign=int((~expected).sum()), conflicting=int(conflicting.sum())
    )


async def all_of(reader: LogReader, topic: str, kind: type[E], experiment: str) -> list[E]:
    """The events of one kind on a small topic, each id and content once, in order of time. Raises `LogUnavailable`."""
    once: dict[bytes, E] = {}
    async for _, batch in _batches(reader, topic, events.decode, experiment):
        for event in batch:
            if isinstance(event, kind):
                once.setdefault(events.encode(event), event)
    return sorted(once.values(), key=lambda event: event.at)


async def _batches(
    reader: LogReader, topic: str, decode: Callable[[bytes], Any], experiment: str
) -> AsyncIterator[tuple[int, list[Any]]]:
    """A topic's events of one experiment in batches, partition by partition; with the partition's number."""
    for number, partition in enumerate(await reader.partitions(topic)):
        offset = 0
        while records := await reader.read(topic, partition, offset, _BATCH):
            decoded = [decode(record.value) for record in records]
            yield number, [event for event in decoded if event.experiment == experiment]
            offset = records[-1].offset + 1


def _table(kind: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> pd.DataFrame:
    return pd.DataFrame.from_records(map(msgspec.structs.astuple, rows), columns=list(kind.__struct_fields__))


def _challenger(event: _Prediction) -> str | None:
    """The version that the request was assigned to, None for the champion."""
    return next((each.challenger for each in event.contenders if each.rollout == event.rollout), None)


def _first(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each id's first record, and all later ones, indexed by id."""
    repeated = table.duplicated("id")
    by_id = table.set_index("id")
    return by_id[~repeated.to_numpy()], by_id[repeated.to_numpy()]
