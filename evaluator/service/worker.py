"""The evaluator as a service: read, fold, commit, send, report, for ever.

Predictions first, then outcomes up to where their log stood after that, and only then the looks, so that an exposure
never matures before the outcomes that were there for it were read. An outage of log or state only delays: an offset
moves when its record was folded, and a commit that was begun is finished before anything else is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from evaluator.service import gauges
from evaluator.service.checkpoint import Checkpoint, EvaluatorState
from evaluator.service.pipeline import OutputEvent, Pipeline
from evaluator.service.validation import TOPICS, InputEvent
from gauntlet import adapters, events, keys, status, telemetry
from gauntlet.clock import pause
from gauntlet.config import Config
from gauntlet.errors import Conflict, DamagedFile, GauntletError, LogUnavailable, ModelUnusable, StateUnavailable
from gauntlet.faults import Faults, tell
from gauntlet.log import LogReader, LogWriter, Record, Stored
from gauntlet.recent import RecentCounts
from gauntlet.state import StateStore, decoded
from gauntlet.structured_logging import LimitedLog, get_logger
from gauntlet.types import Severity

_log = get_logger("gauntlet.evaluator")

_PAUSED, _UNTOLD = "evaluation_paused", "status_not_published"

Records = list[tuple[str, Stored]]
"""Records with the `topic/partition` that each came from."""


@dataclass(frozen=True)
class WorkerSettings:
    """Batch sizes (records of a partition) and intervals (seconds) of the worker's loop."""

    predictions: int = 1000
    """About 0.1 s of work with the scores of six challengers, which lie in few records: a stop is never far away."""
    outcomes: int = 5000
    gather: float = 0.05
    """After all there was is read: so long events come together, as a step costs as much as tens of them."""
    commit: float = 0.2
    """How much work a crash repeats, and how late a verdict can be."""
    discover: float = 2.0
    """Between two looks for new partitions, and at records of which no hint came."""
    backoff: float = 0.5
    """After an outage of the log or the state store."""
    reopen: float = 2.0
    """After a fault for which everything is reopened."""


class _Commit(NamedTuple):
    """A commit that is ready to be written: its number, its bytes, its outbox, and the events to show after it."""

    number: int
    data: bytes
    outbox: list[Record]
    events: list[OutputEvent]


async def serve(config: Config, stop: asyncio.Event) -> None:
    """Evaluate until `stop` is set. Raises `Conflict` when another evaluator works on the same experiment.

    An outage, a full disk or a damaged file is waited out: everything is reopened then, as after a crash.
    """
    settings, problems = WorkerSettings(), status.Problems("evaluator")
    faults = Faults(problems, _log)
    while not stop.is_set():
        try:
            async with contextlib.AsyncExitStack() as stack:
                worker = await _open(config, settings, problems, stack)
                await worker.run(stop)
        except (DamagedFile, LogUnavailable, ModelUnusable, StateUnavailable, OSError, sqlite3.Error) as error:
            if faults.met(_PAUSED, error, f"nothing is counted meanwhile; tried again every {settings.reopen:g} s"):
                await tell(config, keys.evaluator_progress(config.experiment), problems)
            await pause(stop, settings.reopen)


async def _open(
    config: Config, settings: WorkerSettings, problems: status.Problems, stack: contextlib.AsyncExitStack
) -> Worker:
    checkpoint = Checkpoint(Path(config.data) / "evaluator.db")
    stack.callback(checkpoint.close)
    state = adapters.state(config)
    stack.push_async_callback(state.close)
    reader = await adapters.log_reader(config)
    stack.push_async_callback(reader.close)
    writer = await adapters.log_writer(config, "evaluator")
    stack.push_async_callback(writer.close)
    pipeline = await asyncio.to_thread(Pipeline, config, adapters.registry(config), checkpoint)
    return Worker(config, pipeline, checkpoint, reader, writer, state, settings, problems)


class Worker:
    """Moves events between the ports and the pipeline. After `catch_up`, `step` is one turn of its loop."""

    def __init__(
        self,
        config: Config,
        pipeline: Pipeline,
        checkpoint: Checkpoint,
        reader: LogReader,
        writer: LogWriter,
        state: StateStore,
        settings: WorkerSettings = WorkerSettings(),
        problems: status.Problems | None = None,
    ) -> None:
        self._name = config.experiment
        self._pipeline = pipeline
        self._settings = settings
        self._checkpoint = checkpoint
        self._reader = reader
        self._writer = writer
        self._state = state
        self._shared = config.state != "local"
        self._shared_version = 0
        self._commit = checkpoint.saved.commit
        self.offsets = dict(checkpoint.saved.offsets)
        """Where each `topic/partition` is read next; committed or not."""
        self._partitions: dict[str, list[str]] = {}
        self._discovered = 0.0
        self._targets: dict[str, int] = {}  # how far each outcome partition is to be read before the next looks
        self._drained = False
        self._committed = time.monotonic()
        self._gauges = gauges.Gauges(config.experiment)
        self._dirty = False
        self._behind = False
        self._prepared: _Commit | None = None
        self._unsure = False
        self._unsent = True
        self._dead_letters: list[Record] = []
        self._recent = RecentCounts()
        self._limited_log = LimitedLog(_log)
        self.problems = problems or status.Problems("evaluator")
        self._faults = Faults(self.problems, _log)

    @property
    def flushed(self) -> bool:
        """Whether everything that was read is committed, and its events are sent."""
        return not self._dirty and not self._unsent

    async def run(self, stop: asyncio.Event) -> None:
        """Work until stopped; what was read and not committed is simply read again next time."""
        ready = False
        with self._checkpoint.undone_on_error():
            while not stop.is_set():
                try:
                    if not ready:
                        await self.catch_up()
                        ready = True
                    busy = await self.step()
                    if self.flushed and self._faults.over(_PAUSED):  # reading works on a full disk, too
                        await self._report()
                    if not self._behind:
                        if busy:
                            await pause(stop, self._settings.gather)
                        seconds = self._settings.commit if self._dirty else self._settings.discover
                        await pause(stop, seconds, self._reader.wait(seconds))
                except (LogUnavailable, StateUnavailable) as error:
                    wait = self._settings.backoff
                    if self._faults.met(_PAUSED, error, f"nothing is counted meanwhile; tried again every {wait:g} s"):
                        with contextlib.suppress(GauntletError):
                            key = keys.evaluator_progress(self._name)
                            await status.publish_problems(self._state, key, self.problems.open)
                    await pause(stop, wait)
            if self._dirty:
                with contextlib.suppress(LogUnavailable, StateUnavailable):
                    await self.commit()

    async def catch_up(self) -> None:
        """Scaled out: agree with the shared state, which commits first, by replaying joins that only it knows of."""
        if not self._shared:
            return
        key = keys.evaluator_state(self._name)
        version, value = await self._state.get(key)
        self._shared_version = version
        if not version:
            return
        shared = decoded(key, value, EvaluatorState)
        if shared.commit <= self._commit:
            return
        _log.info("joins_replayed", since_commit=self._commit, to_commit=shared.commit, next="reading goes on there")
        for place, end in shared.offsets.items():
            topic, partition = place.split("/", 1)
            oldest = await self._reader.seek(topic, partition, self._pipeline.replay_from(shared, topic))
            offset = max(self.offsets.get(place, 0), oldest)
            while offset < end:
                limit = min(self._settings.outcomes, end - offset)
                found = await self._reader.read(topic, partition, offset, limit)
                if not found:
                    reason = f"the log at {place} ends at {offset}, and {end} was already counted: was it deleted?"
                    raise LogUnavailable(reason, code="offset_lost")
                await asyncio.to_thread(self._rebuild, topic, [(place, one) for one in found])
                offset = found[-1].offset + 1
        await asyncio.to_thread(self._adopt, shared, value)
        self.offsets = dict(shared.offsets)
        self._commit = shared.commit

    async def step(self) -> bool:
        """Read, fold and (when it is time) commit; False when there was nothing to do."""
        if self._prepared is not None:
            await self.commit()
        if self._unsent:
            await self._send()
        await self._discover()
        busy = await self._read_on()
        if self._dirty and time.monotonic() - self._committed >= self._settings.commit:
            await self.commit()
        self._gauges.refresh(self._pipeline)
        return busy

    async def commit(self) -> None:
        """Take the looks that are due and commit everything: shared state first, local file second, outbox last.

        A commit that an outage interrupts stays as it is and is tried again: its events exist only once.
        """
        if self._prepared is None:
            self._prepared = await asyncio.to_thread(self._prepare, self._commit + 1, dict(self.offsets))
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
        self._gauges.committed(commit.events)
        await self._report()

    def _rebuild(self, topic: str, records: Records) -> None:
        self._checkpoint.begin()
        self._pipeline.rebuild_joins(self._decode(topic, records)[0])

    def _adopt(self, shared: EvaluatorState, data: bytes) -> None:
        self._checkpoint.begin()
        self._pipeline.adopt(shared)
        self._checkpoint.forget_outbox()  # what of it was not sent stands in the shared one
        self._checkpoint.commit(data, shared.commit, shared.outbox, after=self._commit)

    async def _discover(self) -> None:
        if self._partitions and time.monotonic() - self._discovered < self._settings.discover:
            return
        found = {topic: await self._reader.partitions(topic) for topic in TOPICS}
        for topic, partitions in found.items():
            for partition in partitions:
                place = f"{topic}/{partition}"
                if place not in self.offsets:  # new, or this evaluator is: the log may not begin at 0 any more
                    self.offsets[place] = await self._reader.seek(topic, partition, float("-inf"))
        self._partitions = found
        self._discovered = time.monotonic()

    async def _read_on(self) -> bool:
        """The next predictions, or more of the outcomes that were there after the last ones; False when all is read."""
        busy = False
        if not self._targets:
            self._drained = False
            predictions, offsets = await self._read(keys.PREDICTIONS, None)
            self._behind = len(predictions) >= self._settings.predictions
            busy = await self._fold(keys.PREDICTIONS, predictions, offsets)
            ends = {
                f"{keys.OUTCOMES}/{partition}": await self._reader.end(keys.OUTCOMES, partition)
                for partition in self._partitions[keys.OUTCOMES]
            }
            self._targets = {place: end for place, end in ends.items() if self.offsets[place] < end}
        outcomes, offsets = await self._read(keys.OUTCOMES, self._targets)
        busy = await self._fold(keys.OUTCOMES, outcomes, offsets) or busy
        self._targets = {  # one that gives nothing more is compacted, or not visible yet: the next round goes on there
            place: end for place, end in self._targets.items() if place in offsets and offsets[place] < end
        }
        self._drained = not self._targets
        self._behind = self._behind or not self._drained
        return busy

    async def _read(self, topic: str, ends: dict[str, int] | None) -> tuple[Records, dict[str, int]]:
        """Records from where each partition stands (up to its end in `ends`), and where it stands after them."""
        found: Records = []
        offsets: dict[str, int] = {}
        for partition in self._partitions[topic]:
            place = f"{topic}/{partition}"
            limit = self._settings.predictions
            if ends is not None:
                limit = min(self._settings.outcomes, ends.get(place, 0) - self.offsets[place])
            if limit <= 0:
                continue
            records = await self._reader.read(topic, partition, self.offsets[place], limit)
            if records:
                found.extend((place, record) for record in records)
                offsets[place] = records[-1].offset + 1
        return found, offsets

    async def _fold(self, topic: str, records: Records, offsets: dict[str, int]) -> bool:
        if not records:
            return False
        await asyncio.to_thread(self._fold_in_thread, topic, records)
        self.offsets.update(offsets)
        self._dirty = True
        return True

    def _fold_in_thread(self, topic: str, records: Records) -> None:
        """SQLite and numpy must not hold up heartbeats."""
        self._checkpoint.begin()
        batch, dead = self._decode(topic, records)
        gauges.count(self._name, self._pipeline.step(batch), self._pipeline.lags, self._recent)
        telemetry.DEAD_LETTERS.labels(topic).inc(len(dead))
        self._dead_letters += dead

    def _decode(self, topic: str, records: Records) -> tuple[list[tuple[str, InputEvent]], list[Record]]:
        """Valid events of this experiment, and dead letters: records of which not all is such events."""
        valid: list[tuple[str, InputEvent]] = []
        dead: list[Record] = []
        for place, record in records:
            found, reason = self._pipeline.validator.decode(topic, record.value)
            valid += [(place, event) for event in found]
            if reason is not None:
                why = {"place": place, "offset": record.offset, "error": reason}
                self._limited_log.warning("event_invalid", **why, next="sent to the dead-letter topic")
                dead.append(Record(keys.DEAD_LETTERS, record.key, record.at, record.value))
        return valid, dead

    def _prepare(self, number: int, offsets: dict[str, int]) -> _Commit:
        self._checkpoint.begin()
        found: list[OutputEvent] = []
        if self._drained:
            gauges.count(self._name, self._pipeline.settle_joins(), self._pipeline.lags, self._recent)
            found += self._pipeline.evaluate(offsets)
        new = [Record(_topic(event), event.id, event.at, events.encode(event)) for event in found]
        new, self._dead_letters = new + self._dead_letters, []
        saved = self._pipeline.state(number, offsets)
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
        places = [(topic, partition) for topic, partitions in self._partitions.items() for partition in partitions]
        ends = {f"{topic}/{partition}": await self._reader.end(topic, partition) for topic, partition in places}
        lag = sum(max(0, end - self.offsets.get(place, 0)) for place, end in ends.items())
        telemetry.EVALUATOR_LAG.labels(self._name).set(lag)
        report = status.EvaluatorProgress(
            at=time.time(),
            watermark=self._pipeline.watermark,
            offsets=dict(self.offsets),
            counts=dict(self._pipeline.counts),
            evaluations=dict(self._pipeline.evaluations),
            health=self._pipeline.health,
            drift=self._pipeline.drift,
            worth=self._pipeline.ledger,
            quality=self._pipeline.quality,
            problems=[*self.problems.open, *self._pipeline.problems],
            settings=self._pipeline.settings,
            plans=self._pipeline.plans,
            false_alarms=self._pipeline.false_alarms,
            recent=dict(self._recent.total()),
        )
        try:
            await status.publish(self._state, keys.evaluator_progress(self._name), report)
            self._faults.over(_UNTOLD)
        except GauntletError as error:
            self._faults.met(_UNTOLD, error, "published with the next commit", Severity.LOW)


def _topic(event: OutputEvent) -> str:
    return keys.DRIFT if isinstance(event, events.Drift) else keys.EVALUATIONS
