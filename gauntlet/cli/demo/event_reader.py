"""The recorded traffic of the demo as columns: a million events of the log in a few seconds and little memory.

The first record of an id counts, as everywhere: at-least-once delivery may bring it again. Nothing here is remembered.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from gauntlet import events, keys
from gauntlet.log import LogReader, Stored
from gauntlet.types import CHALLENGER, Label

_BATCH = 10_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
E = TypeVar("E", bound=events.Event)


# What is needed of the traffic's events; decoding skips all other fields, the features above all.
class _Prediction(msgspec.Struct, tag="prediction", gc=False):
    id: str
    at: float
    experiment: str
    assigned: str
    served: str
    allocation: int
    champion: str
    output: list[float] | float | None
    challenger: str | None = None
    rollout: str | None = None
    fallback: str | None = None
    forced: bool = False


class _Shadow(msgspec.Struct, tag="shadow", gc=False):
    experiment: str
    rollout: str | None = None
    error: str | None = None


class _Outcome(msgspec.Struct, tag="outcome", gc=False):
    id: str
    at: float
    experiment: str
    value: Label


class Names:
    """Texts that repeat, as small numbers; None is 0."""

    def __init__(self) -> None:
        self.all: list[str | None] = [None]
        self._numbers: dict[str | None, int] = {None: 0}

    def number(self, name: str | None) -> int:
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = len(self.all)
            self.all.append(name)
        return found


class Predictions(msgspec.Struct, frozen=True, kw_only=True):
    """Answered requests in the order of the log, each id once.

    flight: position among the ids asked for. partition: number of the log's partition. model: who answered.
    assigned, served: True for the challenger. output: the probability of the second class. `records` counts all
    records, `foreign` those of ids nobody asked for, `rerouted` those that repeat an id with another assignment.
    """

    flight: Ints
    partition: Ints
    at: Floats
    allocation: Ints
    champion: Ints
    challenger: Ints
    rollout: Ints
    model: Ints
    assigned: Flags
    served: Flags
    fallback: Flags
    forced: Flags
    output: Floats
    names: Names
    records: int
    foreign: int
    rerouted: int
    shadow_failures: dict[str, int]


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes, each id once, in the order of the log; `value` is the class's index, -1 for no class.

    `records` counts all records, `foreign` the ids nobody asked for.
    """

    flight: Ints
    at: Floats
    value: Ints
    records: int
    foreign: int
    repeated: int
    conflicting: int


async def _records(reader: LogReader, topic: str) -> AsyncIterator[tuple[int, list[Stored]]]:
    """Everything of a topic, partition by partition, in batches."""
    for number, partition in enumerate(await reader.partitions(topic)):
        offset = 0
        while rows := await reader.read(topic, partition, offset, _BATCH):
            yield number, rows
            offset = rows[-1].offset + 1


async def predictions(reader: LogReader, experiment: str, places: Mapping[str, int]) -> Predictions:
    """All predictions of `experiment`; `places` gives each expected id its position."""
    decode = msgspec.json.Decoder(_Prediction | _Shadow).decode
    names = Names()
    numbers, reals = array("q"), array("d")
    seen: dict[str, int] = {}
    failures: dict[str, int] = {}
    records = foreign = rerouted = 0
    async for partition, rows in _records(reader, keys.PREDICTIONS):
        for row in rows:
            event = decode(row.value)
            if event.experiment != experiment:
                continue
            if isinstance(event, _Shadow):
                if event.error is not None and event.rollout is not None:
                    failures[event.rollout] = failures.get(event.rollout, 0) + 1
                continue
            records += 1
            assigned = event.assigned == CHALLENGER
            route = event.allocation << 1 | assigned
            if event.id in seen:
                rerouted += seen[event.id] != route
                continue
            seen[event.id] = route
            place = places.get(event.id)
            if place is None:
                foreign += 1
                continue
            flags = assigned | (event.served == CHALLENGER) << 1 | (event.fallback is not None) << 2 | event.forced << 3
            given = event.output
            numbers.extend(
                (
                    place,
                    partition,
                    event.allocation,
                    names.number(event.champion),
                    names.number(event.challenger),
                    names.number(event.rollout),
                    flags,
                )
            )
            reals.extend((event.at, given[1] if isinstance(given, list) and len(given) > 1 else np.nan))
    flight, part, allocation, champion, challenger, rollout, bits = np.array(numbers, dtype=np.int64).reshape(-1, 7).T
    at, output = np.array(reals).reshape(-1, 2).T
    served = bits & 2 > 0
    return Predictions(
        flight=flight,
        partition=part,
        at=at,
        allocation=allocation,
        champion=champion,
        challenger=challenger,
        rollout=rollout,
        model=np.where(served, challenger, champion),
        assigned=bits & 1 > 0,
        served=served,
        fallback=bits & 4 > 0,
        forced=bits & 8 > 0,
        output=output,
        names=names,
        records=records,
        foreign=foreign,
        rerouted=rerouted,
        shadow_failures=failures,
    )


async def outcomes(
    reader: LogReader, experiment: str, places: Mapping[str, int], classes: Mapping[Label, int]
) -> Outcomes:
    """All outcomes of `experiment`; `classes` gives each label its index."""
    decode = msgspec.json.Decoder(_Outcome).decode
    flight, at, value = array("q"), array("d"), array("q")
    seen: dict[str, Label] = {}
    records = foreign = repeated = conflicting = 0
    async for _, rows in _records(reader, keys.OUTCOMES):
        for row in rows:
            event = decode(row.value)
            if event.experiment != experiment:
                continue
            records += 1
            if event.id in seen:
                same = seen[event.id] == event.value
                repeated += same
                conflicting += not same
                continue
            seen[event.id] = event.value
            place = places.get(event.id)
            if place is None:
                foreign += 1
                continue
            flight.append(place)
            at.append(event.at)
            value.append(classes.get(event.value, -1))
    return Outcomes(
        flight=np.array(flight, dtype=np.int64),
        at=np.array(at),
        value=np.array(value, dtype=np.int64),
        records=records,
        foreign=foreign,
        repeated=repeated,
        conflicting=conflicting,
    )


async def each(reader: LogReader, experiment: str, topic: str, kind: type[E]) -> list[E]:
    """The events of one kind on a small topic, in the order of their time; what was sent twice is there once."""
    found: dict[bytes, E] = {}
    async for _, rows in _records(reader, topic):
        for row in rows:
            event = events.decode(row.value)
            if isinstance(event, kind) and event.experiment == experiment:
                found.setdefault(row.value, event)
    return sorted(found.values(), key=lambda event: event.at)


def places(ids: Iterable[str]) -> dict[str, int]:
    """Each id's position."""
    return {one: number for number, one in enumerate(ids)}
