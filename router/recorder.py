"""The recorder: every prediction, shadow score and outcome goes to the router's own local log before anything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence

from gauntlet import events, keys, telemetry
from gauntlet.errors import LogUnavailable
from gauntlet.log import Record
from gauntlet.log.local import LocalLogReader, LocalLogWriter

_log = logging.getLogger("gauntlet.router")


class Recorder:
    """Appends events; `healthy` is False from a failed append until the next one that works.

    While it is not healthy the challenger gets no traffic: what can't be recorded must not be experimented on.
    """

    def __init__(self, writer: LocalLogWriter, reader: LocalLogReader, partition: str, delivery: str) -> None:
        """`reader` and `partition`: the same log, for looking predictions up."""
        self._writer = writer
        self._reader = reader
        self._partition = partition
        self._durable = delivery == "durable"
        self._under_way: set[asyncio.Task[bool]] = set()
        self.healthy = True

    async def predictions(self, predictions: Sequence[events.Prediction]) -> bool:
        """Record answered requests; True when they are safe on disk (`fast` delivery does not wait to know)."""
        records = [Record(keys.PREDICTIONS, p.id, p.at, events.encode(p)) for p in predictions]
        arms = [p.assigned for p in predictions]
        if self._durable:
            return await self._append(records, arms)
        self._in_background(self._append(records, arms))
        return True

    def shadows(self, shadows: Sequence[events.Shadow]) -> None:
        """Record shadow scores without making anybody wait."""
        records = [Record(keys.PREDICTIONS, s.id, s.at, events.encode(s)) for s in shadows]
        self._in_background(self._append(records, [s.arm for s in shadows]))

    async def outcomes(self, outcomes: Sequence[events.Outcome]) -> None:
        """Record outcomes. Raises `LogUnavailable` when they are not safe: the sender keeps them and tries again."""
        try:
            await self._writer.append([Record(keys.OUTCOMES, o.id, o.at, events.encode(o)) for o in outcomes])
        except LogUnavailable:
            self.healthy = False
            raise
        self.healthy = True

    async def unknown(self, ids: Sequence[str]) -> list[int]:
        """The places in `ids` of predictions that this router has no record of."""
        found = await self._reader.known(keys.PREDICTIONS, self._partition, ids)
        if len(found) < len(set(ids)) and self._under_way:  # `fast` delivery: it may be on its way to the disk
            await asyncio.gather(*self._under_way, return_exceptions=True)
            found = await self._reader.known(keys.PREDICTIONS, self._partition, ids)
        return [index for index, one in enumerate(ids) if one not in found]

    async def settled(self) -> None:
        """Return when everything taken on so far is on the disk, or counted as lost."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def close(self) -> None:
        """Wait for what is under way, then close the log."""
        await self.settled()
        await self._writer.close()
        await self._reader.close()

    def _in_background(self, append: Coroutine[None, None, bool]) -> None:
        task = asyncio.get_running_loop().create_task(append)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _append(self, records: Sequence[Record], arms: Sequence[str]) -> bool:
        try:
            await self._writer.append(records)
        except LogUnavailable as error:
            if self.healthy:
                _log.error("events are being lost, the challenger gets no traffic until this ends: %s", error)
            self.healthy = False
            for record, arm in zip(records, arms, strict=True):
                telemetry.EVENTS_LOST.labels(record.topic, arm).inc()
            return False
        self.healthy = True
        return True
