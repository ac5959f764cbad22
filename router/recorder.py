"""Recorder: writes every prediction, shadow score and outcome to the router's own local log first."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Sequence

import msgspec

from gauntlet import events, keys, telemetry
from gauntlet.errors import LogUnavailable
from gauntlet.faults import explained
from gauntlet.log import Record
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from gauntlet.status import Problems
from gauntlet.structured_logging import get_logger
from gauntlet.types import Severity

_log = get_logger("gauntlet.router")

_LOST = "events_not_recorded"
RECORD_BYTES = 64 * 2**10  # of shadow scores: any log takes it, and it is worth hundreds of records


class Recorder:
    """Appends events; `healthy` is False from a failed append until the next one that succeeds.

    While it is False the challenger gets no traffic: requests that can't be recorded are no part of an experiment.
    What is lost meanwhile is counted in an open problem.
    """

    def __init__(
        self, writer: LocalLogWriter, reader: LocalLogReader, partition: str, delivery: str, problems: Problems
    ) -> None:
        """`reader` reads `partition`, the log that `writer` writes, to look predictions up by id."""
        self._writer = writer
        self._reader = reader
        self._partition = partition
        self._durable = delivery == "durable"
        self._pending: set[asyncio.Task[bool]] = set()
        self._problems = problems
        self._lost: Counter[str] = Counter()
        self.healthy = True

    async def predictions(self, predictions: Sequence[events.Prediction]) -> bool:
        """Record answered requests. True once they are on disk; `fast` delivery returns True without waiting."""
        records = [Record(keys.PREDICTIONS, p.id, p.at, events.encode(p)) for p in predictions]
        append = self._append(records, [p.assigned for p in predictions], "predictions")
        if self._durable:
            return await append
        self._in_background(append)
        return True

    def shadows(self, shadows: Sequence[events.Shadow]) -> None:
        """Record shadow scores, at least one."""
        self._in_background(self._append(_gathered(shadows), [s.arm for s in shadows], "shadow scores"))

    async def outcomes(self, outcomes: Sequence[events.Outcome]) -> None:
        """Record outcomes. Raises `LogUnavailable` when they are not on disk: the sender keeps them and tries again."""
        try:
            await self._writer.append([Record(keys.OUTCOMES, o.id, o.at, events.encode(o)) for o in outcomes])
        except LogUnavailable as error:
            self._failed(error, "outcomes", len(outcomes))
            raise
        self._works()

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
            _log.warning("repeats_not_found", error=error, next="answered again")
            return {}
        return {key: event for key, event in made.items() if isinstance(event, events.Prediction)}

    async def labels(self, ids: Sequence[str]) -> dict[str, events.Outcome]:
        """The first outcome of those among `ids` that this router has a record of; none where its log can't be read."""
        try:
            found = await self._reader.first(keys.OUTCOMES, self._partition, ids)
            made = {key: events.decode(record.value) for key, record in found.items()}
        except (LogUnavailable, msgspec.MsgspecError) as error:
            _log.warning("labels_not_found", error=error, next="outcomes are taken without a look at earlier labels")
            return {}
        return {key: event for key, event in made.items() if isinstance(event, events.Outcome)}

    async def latest_ids(self, topic: str, least: int) -> list[str]:
        """The ids of at least so many of the latest events of a topic (all, if there are fewer)."""
        return await self._reader.latest_keys(topic, self._partition, least)

    async def latest_time(self, topic: str) -> float:
        """The time of the latest event of a topic; 0 without any, or where it can't be read."""
        with contextlib.suppress(LogUnavailable):
            end = await self._reader.end(topic, self._partition)
            for record in await self._reader.read(topic, self._partition, max(0, end - 1), 1):
                return record.at
        return 0.0

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

    async def _append(self, records: Sequence[Record], arms: Sequence[str], kind: str) -> bool:
        """Append events of the predictions' topic, of these arms."""
        try:
            await self._writer.append(records)
        except LogUnavailable as error:
            self._failed(error, kind, len(arms))
            for arm in arms:
                telemetry.EVENTS_LOST.labels(keys.PREDICTIONS, arm).inc()
            return False
        self._works()
        return True

    def _failed(self, error: LogUnavailable, kind: str, count: int) -> None:
        reason, remedy = explained(error)
        if self.healthy:
            _log.error(_LOST, reason=reason, remedy=remedy, next="champion serves all until the log recovers")
        self.healthy = False
        self._lost[kind] += count
        lost = self._lost
        text = (
            f"{lost['predictions']:,} predictions are answered and not recorded, {lost['shadow scores']:,} shadow "
            f"scores are lost, and {lost['outcomes']:,} outcomes are refused, which their senders keep: {reason}"
        )
        self._problems.report(_LOST, Severity.CRITICAL, text, remedy)

    def _works(self) -> None:
        if not self.healthy:
            lost = {f"lost_{kind.replace(' ', '_')}": count for kind, count in self._lost.items() if kind != "outcomes"}
            _log.info("events_recorded_again", **lost, next="challengers serve again")
            self._problems.clear(_LOST)
            self._lost.clear()
        self.healthy = True


def _gathered(shadows: Sequence[events.Shadow]) -> list[Record]:
    """In one record, or in several of which each is small enough or a single score."""
    event = events.Shadows.of(shadows)
    data = events.encode(event)
    if len(data) <= RECORD_BYTES or len(shadows) == 1:
        return [Record(keys.PREDICTIONS, event.id, event.at, data)]
    half = len(shadows) // 2
    return _gathered(shadows[:half]) + _gathered(shadows[half:])
