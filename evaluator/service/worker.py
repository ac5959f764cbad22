"""The evaluator service: read, fold, commit, send, report, for ever.

Predictions first, then outcomes up to where their log stood after that, and only then judgement, so that an exposure
never matures before the outcomes that were there for it were read. An outage of log or state only delays: an offset
moves when its record was folded, and a commit that was begun is finished before anything else is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec

from evaluator.service import gauges
from evaluator.service.checkpoint import Checkpoint, Saved
from evaluator.service.pipeline import Core
from gauntlet import adapters, events, keys, status, telemetry
from gauntlet.config import Config
from gauntlet.errors import Conflict, GauntletError, LogUnavailable, StateUnavailable
from gauntlet.log import LogReader, LogWriter, Record, Stored
from gauntlet.state import StateStore

_log = logging.getLogger("gauntlet.evaluator")

_BATCH = 2000  # predictions of a partition in one round: about 0.1 s of work, so that a stop is never far away
_OUTCOMES = 5000  # the same for outcomes
_COMMIT_SECONDS = 0.2  # how much work a crash repeats, and how late a verdict can be
_IDLE_SECONDS = 0.02
_DISCOVER_SECONDS = 2.0
_BACKOFF_SECONDS = 0.5

Happening = events.Prediction | events.Shadow | events.Outcome
Read = list[tuple[str, Stored]]
"""Records with the `topic/partition` that each came from."""

_DECODERS: dict[str, msgspec.json.Decoder[Happening]] = {
    keys.PREDICTIONS: msgspec.json.Decoder(events.Prediction | events.Shadow),
    keys.OUTCOMES: msgspec.json.Decoder(events.Outcome),
}


class _Commit(NamedTuple):
    """A commit that is ready to be written: its number, its bytes, what to send after it, what to show after it."""

    number: int
    data: bytes
    outbox: list[Record]
    events: list[events.AnyEvent]


async def serve(config: Config, stop: asyncio.Event) -> None:
    """Evaluate until `stop` is set. Raises `Conflict` when another evaluator works on the same experiment."""
    async with contextlib.AsyncExitStack() as stack:
        checkpoint = Checkpoint(Path(config.data) / "evaluator.db")
        stack.callback(checkpoint.close)
        state = adapters.state(config)
        stack.push_async_callback(state.close)
        reader = await _patiently(lambda: adapters.log_reader(config), stop)
        if reader is None:
            return
        stack.push_async_callback(reader.close)
        writer = await _patiently(lambda: adapters.log_writer(config, "evaluator"), stop)
        if writer is None:
            return
        stack.push_async_callback(writer.close)
        core = await asyncio.to_thread(Core, config, adapters.registry(config), checkpoint)
        worker = Worker(config, core, checkpoint, reader, writer, state)
        await worker.run(stop)


async def _patiently(connect, stop: asyncio.Event):  # type: ignore[no-untyped-def]
    """Connect, however long the other side needs to come up; None when stopped first."""
    while not stop.is_set():
        try:
            return await connect()
        except (LogUnavailable, StateUnavailable) as error:
            _log.warning("waiting: %s", error)
            await _pause(stop, _BACKOFF_SECONDS)
    return None


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


class Worker:
    """Moves events between the ports and the core."""

    def __init__(
        self,
        config: Config,
        core: Core,
        checkpoint: Checkpoint,
        reader: LogReader,
        writer: LogWriter,
        state: StateStore,
    ) -> None:
        self._config = config
        self._name = config.experiment
        self._core = core
        self._checkpoint = checkpoint
        self._reader = reader
        self._writer = writer
        self._state = state
        self._shared = config.state != "local"
        self._shared_version = 0
        self._commit = checkpoint.saved.commit
        self._offsets = dict(checkpoint.saved.offsets)
        self._partitions: dict[str, list[str]] = {}
        self._discovered = 0.0
        self._targets: dict[str, int] = {}  # how far each outcome partition is to be read before the next judgement
        self._drained = False
        self._committed = time.monotonic()
        self._dirty = False
        self._prepared: _Commit | None = None
        self._unsure = False
        self._unsent = True
        self._letters: list[Record] = []
        self._joined = telemetry.JOIN_LAG.labels(self._name)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until stopped; what was read and not committed is simply read again next time."""
        ready = False
        with self._checkpoint.undone_on_error():
            while not stop.is_set():
                try:
                    if not ready:
                        await self._catch_up()
                        ready = True
                    if not await self._round():
                        await _pause(stop, _IDLE_SECONDS)
                except (LogUnavailable, StateUnavailable) as error:
                    _log.warning("holding: %s", error)
                    await _pause(stop, _BACKOFF_SECONDS)
            if self._dirty:
                with contextlib.suppress(LogUnavailable, StateUnavailable):
                    await self._save()

    async def _catch_up(self) -> None:
        """Scaled out: agree with the shared state, which commits first, by replaying joins that only it knows of."""
        if not self._shared:
            return
        version, value = await self._state.get(keys.evaluator_state(self._name))
        self._shared_version = version
        if not version:
            return
        shared = msgspec.json.decode(value, type=Saved)
        if shared.commit <= self._commit:
            return
        _log.info("replaying joins from commit %d to %d", self._commit, shared.commit)
        for place, end in shared.offsets.items():
            topic, partition = place.split("/", 1)
            oldest = await self._reader.seek(topic, partition, self._core.oldest(shared, topic))
            offset = max(self._offsets.get(place, 0), oldest)
            while offset < end:
                found = await self._reader.read(topic, partition, offset, min(_OUTCOMES, end - offset))
                if not found:
                    raise LogUnavailable(f"{place} ends at {offset}, the shared state knows {end}", code="offset_lost")
                await asyncio.to_thread(self._rebuild, topic, [(place, one) for one in found])
                offset = found[-1].offset + 1
        await asyncio.to_thread(self._adopt, shared, value)
        self._offsets = dict(shared.offsets)
        self._commit = shared.commit

    def _rebuild(self, topic: str, records: Read) -> None:
        self._checkpoint.begin()
        self._core.rebuild(self._decode(topic, records)[0])

    def _adopt(self, shared: Saved, data: bytes) -> None:
        self._checkpoint.begin()
        self._core.adopt(shared)
        self._checkpoint.forget_outbox()  # what of it was not sent stands in the shared one
        self._checkpoint.commit(data, shared.commit, shared.outbox, after=self._commit)

    async def _round(self) -> bool:
        """Read, fold and (when it is time) commit; False when there was nothing to do."""
        if self._prepared is not None:
            await self._save()
        if self._unsent:
            await self._send()
        await self._discover()
        busy = await self._read_on()
        if self._dirty and time.monotonic() - self._committed >= _COMMIT_SECONDS:
            await self._save()
        return busy

    async def _discover(self) -> None:
        if self._partitions and time.monotonic() - self._discovered < _DISCOVER_SECONDS:
            return
        found = {topic: await self._reader.partitions(topic) for topic in _DECODERS}
        for topic, partitions in found.items():
            for partition in partitions:
                place = f"{topic}/{partition}"
                if place not in self._offsets:  # new, or this evaluator is: the log may not begin at 0 any more
                    self._offsets[place] = await self._reader.seek(topic, partition, float("-inf"))
        self._partitions = found
        self._discovered = time.monotonic()

    async def _read_on(self) -> bool:
        """The next predictions, or more of the outcomes that were there after the last ones; False when all is read."""
        busy = False
        if not self._targets:
            self._drained = False
            predictions, offsets = await self._read(keys.PREDICTIONS, None)
            busy = await self._take(keys.PREDICTIONS, predictions, offsets)
            ends = {
                f"{keys.OUTCOMES}/{partition}": await self._reader.end(keys.OUTCOMES, partition)
                for partition in self._partitions[keys.OUTCOMES]
            }
            self._targets = {place: end for place, end in ends.items() if self._offsets[place] < end}
        outcomes, offsets = await self._read(keys.OUTCOMES, self._targets)
        busy = await self._take(keys.OUTCOMES, outcomes, offsets) or busy
        self._targets = {  # one that gives nothing more is compacted, or not visible yet: the next round goes on there
            place: end for place, end in self._targets.items() if place in offsets and offsets[place] < end
        }
        self._drained = not self._targets
        return busy

    async def _read(self, topic: str, ends: dict[str, int] | None) -> tuple[Read, dict[str, int]]:
        """Records from where each partition stands (up to its end in `ends`), and where it stands after them."""
        found: Read = []
        offsets: dict[str, int] = {}
        for partition in self._partitions[topic]:
            place = f"{topic}/{partition}"
            limit = _BATCH
            if ends is not None:
                limit = min(_OUTCOMES, ends.get(place, 0) - self._offsets[place])
            if limit <= 0:
                continue
            records = await self._reader.read(topic, partition, self._offsets[place], limit)
            if records:
                found.extend((place, record) for record in records)
                offsets[place] = records[-1].offset + 1
        return found, offsets

    async def _take(self, topic: str, records: Read, offsets: dict[str, int]) -> bool:
        if not records:
            return False
        await asyncio.to_thread(self._fold, topic, records)
        self._offsets.update(offsets)
        self._dirty = True
        return True

    def _fold(self, topic: str, records: Read) -> None:
        """In a thread: SQLite and numpy must not hold up heartbeats."""
        self._checkpoint.begin()
        batch, dead = self._decode(topic, records)
        self._count(self._core.step(batch))
        for lag in self._core.lags:
            self._joined.observe(lag)
        for letter in dead:
            telemetry.DEAD_LETTERS.labels(letter.topic).inc()
        self._letters += [Record(keys.DEAD_LETTERS, r.key, r.at, r.value) for r in dead]

    def _count(self, counts: Counter[str]) -> None:
        for result in ("joined", "late", "duplicate", "conflict", "orphan"):
            if counts[result]:
                telemetry.OUTCOMES.labels(self._name, result).inc(counts[result])

    def _decode(self, topic: str, records: Read) -> tuple[list[tuple[str, Happening]], list[Record]]:
        """Usable events of this experiment, and the records that are none (for the dead-letter topic)."""
        good: list[tuple[str, Happening]] = []
        dead: list[Record] = []
        decode = _DECODERS[topic].decode
        for place, record in records:
            try:
                event = decode(record.value)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # also no UTF-8, or nested without end
                complaint: str | None = str(error)
            else:
                if event.experiment != self._name:
                    continue
                complaint = self._core.complaint(event)
                if complaint is None:
                    good.append((place, event))
                    continue
            _log.warning("%s at %d is set aside: %s", place, record.offset, complaint)
            dead.append(Record(topic, record.key, record.at, record.value))
        return good, dead

    async def _save(self) -> None:
        """Judge what has matured and commit everything: shared state first, local file second, outbox last.

        A commit that an outage interrupts stays as it is and is tried again: its events exist only once.
        """
        if self._prepared is None:
            self._prepared = await asyncio.to_thread(self._prepare, self._commit + 1, dict(self._offsets))
        commit = self._prepared
        if self._shared:
            await self._share(commit.data)
        await asyncio.to_thread(self._checkpoint.commit, commit.data, commit.number, commit.outbox, after=self._commit)
        self._prepared = None
        self._commit = commit.number
        self._committed = time.monotonic()
        self._dirty = False
        self._unsent = bool(commit.outbox)
        await self._send()
        gauges.show(self._name, self._core, commit.events)
        await self._report()

    def _prepare(self, number: int, offsets: dict[str, int]) -> _Commit:
        self._checkpoint.begin()
        found: list[events.AnyEvent] = []
        if self._drained:
            self._count(self._core.settle())
            found += self._core.judge(offsets)
        new = [Record(_TOPIC[type(event)], event.id, event.at, events.encode(event)) for event in found]
        new, self._letters = new + self._letters, []
        saved = self._core.saved(number, offsets)
        if self._shared:
            saved.outbox = [record for _, record in self._checkpoint.outbox()] + new
        return _Commit(number, msgspec.json.encode(saved), new, found)

    async def _share(self, data: bytes) -> None:
        """Replace the shared state; it is the fence, so `Conflict` means that another evaluator is at work."""
        key = keys.evaluator_state(self._name)
        try:
            self._shared_version = await self._state.put(key, data, self._shared_version)
        except StateUnavailable:
            self._unsure = True  # it may have taken place all the same
            raise
        except Conflict:
            version, value = await self._state.get(key)
            if not self._unsure or value != data:
                raise
            self._shared_version = version
        self._unsure = False

    async def _send(self) -> None:
        """Send what was committed; a crash in here sends it again, and its readers know the ids."""
        waiting = await asyncio.to_thread(self._checkpoint.outbox)
        if waiting:
            await self._writer.append([record for _, record in waiting])
            await asyncio.to_thread(self._checkpoint.sent, waiting[-1][0])
        self._unsent = False

    async def _report(self) -> None:
        lag = 0
        for topic, partitions in self._partitions.items():
            for partition in partitions:
                end = await self._reader.end(topic, partition)
                lag += max(0, end - self._offsets.get(f"{topic}/{partition}", 0))
        telemetry.EVALUATOR_LAG.labels(self._name).set(lag)
        report = status.EvaluatorProgress(
            at=time.time(),
            watermark=self._core.watermark,
            offsets=dict(self._offsets),
            counts=dict(self._core.counts),
            evaluation=self._core.evaluation,
            health=self._core.health,
            drift=self._core.drift,
        )
        try:
            await status.publish(self._state, keys.evaluator_progress(self._name), report)
        except GauntletError as error:
            _log.warning("could not report: %s", error)


_TOPIC: dict[type, str] = {
    events.Evaluation: keys.EVALUATIONS,
    events.Health: keys.EVALUATIONS,
    events.Drift: keys.DRIFT,
}
