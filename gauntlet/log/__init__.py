"""The event log: two small ports, `LogWriter` and `LogReader`. `gauntlet.adapters` chooses the implementation by URL.

Offsets are not kept here: a consumer keeps them with its own state and commits both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """What a writer appends: a topic, a key (records of one key stay in order), the event's time and its bytes."""

    topic: str
    key: str
    at: float
    value: bytes


class Stored(NamedTuple):
    """What a reader gets: the record's place in its partition beside what was appended."""

    offset: int
    key: str
    at: float
    value: bytes


class LogWriter(Protocol):
    """Appends records; returns when they are safe (fsynced locally, or acknowledged by every in-sync replica)."""

    async def append(self, records: Sequence[Record]) -> None:
        """Append in order. Raises `LogUnavailable` when nothing, or not everything, could be made safe."""

    async def close(self) -> None: ...


class LogReader(Protocol):
    """Reads partitions by offset. A partition's name is stable; its offsets grow and are never used twice."""

    async def partitions(self, topic: str) -> list[str]: ...

    async def read(self, topic: str, partition: str, offset: int, limit: int) -> list[Stored]:
        """Up to `limit` records from `offset` on, in order; empty at the end. Does not wait for more."""

    async def end(self, topic: str, partition: str) -> int:
        """The offset that the next record of this partition will get."""

    async def seek(self, topic: str, partition: str, at: float) -> int:
        """The first offset whose record is of time `at` or later (the end if there is none)."""

    async def wait(self, seconds: float) -> None:
        """Return when there may be new records, or after `seconds`; only a hint: the caller reads again."""

    async def close(self) -> None: ...
