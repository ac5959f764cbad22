"""Forwarder (outbox): copies the router's own log to the shared one; an outage of the shared log is only lag.

At-least-once: progress is written after the broker's acknowledgement. A crash in between sends some records twice,
which readers deduplicate by id, and loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from gauntlet import telemetry
from gauntlet.clock import pause
from gauntlet.errors import LogUnavailable
from gauntlet.faults import OUTAGES
from gauntlet.files import atomic_write
from gauntlet.log import LogReader, LogWriter, Record, Stored
from gauntlet.structured_logging import get_logger

_log = get_logger("gauntlet.router")

BATCH = 1000  # records of one topic in one append: a few milliseconds of the router's time
_LOOK_SECONDS = 2.0  # between two looks at the own log where no hint of news comes
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_FINISH_SECONDS = 5.0  # for the last records when the router stops; the rest goes out after the next start


class Forwarder:
    """Forwards `topics` until told to stop; an unavailable log, at either end, never raises.

    `connect` opens the shared log and is called until it succeeds. `progress` is the file with the next offset of each
    topic; without it everything is sent again.
    """

    def __init__(
        self,
        source: LogReader,
        connect: Callable[[], Awaitable[LogWriter]],
        progress: Path,
        *,
        topics: Sequence[str],
        partition: str = "router",
    ) -> None:
        self._source = source
        self._connect = connect
        self._progress = Path(progress)
        self._partition = partition
        self._target: LogWriter | None = None
        self._forwarded = dict.fromkeys(topics, 0) | _load(self._progress, topics)
        self._ends = dict(self._forwarded)

    def lag(self) -> dict[str, int]:
        """Records in the router's own log that are not yet on the shared one, by topic, when last read."""
        return {topic: max(0, self._ends[topic] - at) for topic, at in self._forwarded.items()}

    async def run(self, stop: asyncio.Event) -> None:
        """Forward until `stop`, then send what is left as far as the shared log takes it within a few seconds."""
        backoff = 0.0
        try:
            while not stop.is_set():
                try:
                    moved = await self._step()
                except Exception as error:  # noqa: BLE001 - the router must not fall with its forwarder
                    if not backoff:  # once per outage
                        unexpected = None if isinstance(error, OUTAGES) else error
                        _log.warning("forwarding_paused", error=error, next="trying again", exc_info=unexpected)
                    backoff = min(max(_FIRST_PAUSE, 2 * backoff), _LONGEST_PAUSE)
                    await pause(stop, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the replicas' tries
                    continue
                if backoff:
                    _log.warning("forwarding_resumed", waiting=sum(self.lag().values()), next="catching up")
                backoff = 0.0
                if not moved:
                    await pause(stop, _LOOK_SECONDS, self._source.wait(_LOOK_SECONDS))
            if not backoff:
                await self._finish()
        finally:
            await self._disconnect()

    async def _step(self) -> bool:
        """Forward one batch of each topic; False when there was none."""
        reached: dict[str, int] = {}
        batch: list[Record] = []
        for topic, offset in self._forwarded.items():
            self._ends[topic] = await self._source.end(topic, self._partition)
            telemetry.EVENTS_SPILLED.labels(topic).set(max(0, self._ends[topic] - offset))
            rows = await self._read(topic, offset)
            if rows:
                batch += [Record(topic, row.key, row.at, row.value) for row in rows]
                reached[topic] = rows[-1].offset + 1
        if not batch:
            return False
        if self._target is None:
            self._target = await self._connect()
        await self._target.append(batch)
        self._forwarded |= reached
        await asyncio.to_thread(atomic_write, self._progress, json.dumps(self._forwarded).encode())
        return True

    async def _read(self, topic: str, offset: int) -> list[Stored]:
        try:
            return await self._source.read(topic, self._partition, offset, BATCH)
        except LogUnavailable as error:
            if error.code != "offset_lost":
                raise
        kept = await self._source.seek(topic, self._partition, -math.inf)
        telemetry.EVENTS_LOST.labels(topic, "unknown").inc(max(0, kept - offset))
        _log.error("records_lost_before_forwarding", topic=topic, offset=offset, next=f"forwarding from offset {kept}")
        self._forwarded[topic] = kept
        return await self._source.read(topic, self._partition, kept, BATCH)

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                while await self._step():
                    pass
        except Exception as error:  # noqa: BLE001 - as above
            waiting = sum(self.lag().values())
            _log.warning("forwarding_unfinished", waiting=waiting, error=error, next="sent after the next start")

    async def _disconnect(self) -> None:
        target, self._target = self._target, None
        if target is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FINISH_SECONDS):
                    await target.close()


def _load(path: Path, topics: Sequence[str]) -> dict[str, int]:
    """The next offset of each topic. An unreadable file means from the start: duplicates do no harm."""
    try:
        found = json.loads(path.read_bytes())
        return {topic: int(found[topic]) for topic in topics if topic in found}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        _log.warning("progress_unreadable", path=path, error=error, next="all records are forwarded again")
        return {}
