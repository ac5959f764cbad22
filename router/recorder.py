"""Recorder: writes every prediction, shadow score and outcome to the router's own local log first."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence

import msgspec

from gauntlet import events, keys, telemetry
from gauntlet.errors import LogUnavailable
from gauntlet.log import Record
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from gauntlet.structured_logging import get_logger

_log = get_logger("gauntlet.router")


class Recorder:
    """Appends events; `healthy` is False from a failed append until the next one that succeeds.

    While it is False the challenger gets no traffic: requests that can't be recorded are no part of an experiment.
    """

    def __init__(self, writer: LocalLogWriter, reader: LocalLogReader, partition: str, delivery: str) -> None:
        """`reader` reads `partition`, the log that `writer` writes, to look predictions up by id."""
        self._writer = writer
        self._reader = reader
        self._partition = partition
        self._durable = delivery == "durable"
        self._pending: set[asyncio.Task[bool]] = set()
        self.healthy = True

    async def predictions(self, predictions: Sequence[events.Prediction]) -> bool:
        """Record answered requests. True once they are on disk; `fast` delivery returns True without waiting."""
        records = [Record(keys.PREDICTIONS, p.id, p.at, events.encode(p)) for p in predictions]
        arms = [p.assigned for p in predictions]
        if self._durable:
            return await self._append(records, arms)
        self._in_background(self._append(records, arms))
        return True

    def shadows(self, shadows: Sequence[events.Shadow]) -> None:
        records = [Record(keys.PREDICTIONS, s.id, s.at, events.encode(s)) for s in shadows]
        self._in_background(self._append(records, [s.arm for s in shadows]))

    async def outcomes(self, outcomes: Sequence[events.Outcome]) -> None:
        """Record outcomes. Raises `LogUnavailable` when they are not on disk: the sender keeps them and tries again."""
        try:
            await self._writer.append([Record(keys.OUTCOMES, o.id, o.at, events.encode(o)) for o in outcomes])
        except LogUnavailable:
            self.healthy = False
            raise
        self.healthy = True

    async def unknown(self, ids: Sequence[str]) -> list[int]:
        """Indexes into `ids` of the predictions that this router has no record of."""
        known = await self._reader.known(keys.PREDICTIONS, self._partition, ids)
        if len(known) < len(set(ids)) and self._pending:  # `fast` delivery: it may be on its way to the disk
            await self.settled()
            known = await self._reader.known(keys.PREDICTIONS, self._partition, ids)
        return [index for index, prediction_id in enumerate(ids) if prediction_id not in known]

    async def recorded(self, ids: Sequence[str]) -> dict[str, events.Prediction]:
        """The predictions among `ids` that this router has a record of. None where its log can't be read: then a
        prediction is rather made twice, of which the evaluator counts the first, than refused."""
        await self.settled()  # `fast` delivery: it may be on its way to the disk
        try:
            found = await self._reader.first(keys.PREDICTIONS, self._partition, ids)
            made = {key: events.decode(record.value) for key, record in found.items()}
        except (LogUnavailable, msgspec.MsgspecError) as error:
            _log.warning("repeats_not_found", error=error, next="answered anew")
            return {}
        return {key: event for key, event in made.items() if isinstance(event, events.Prediction)}

    async def latest_ids(self, least: int) -> list[str]:
        """The ids of at least so many of the latest predictions (all, if there are fewer)."""
        return await self._reader.latest_keys(keys.PREDICTIONS, self._partition, least)

    async def settled(self) -> None:
        """Return when everything accepted so far is on disk, or counted as lost."""
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def close(self) -> None:
        """Wait for pending appends, then close the log."""
        await self.settled()
        await self._writer.close()
        await self._reader.close()

    def _in_background(self, append: Coroutine[None, None, bool]) -> None:
        task = asyncio.get_running_loop().create_task(append)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _append(self, records: Sequence[Record], arms: Sequence[str]) -> bool:
        try:
            await self._writer.append(records)
        except LogUnavailable as error:
            if self.healthy:
                _log.error("events_not_recorded", error=error, next="champion serves all until the log recovers")
            self.healthy = False
            for record, arm in zip(records, arms, strict=True):
                telemetry.EVENTS_LOST.labels(record.topic, arm).inc()
            return False
        self.healthy = True
        return True
