"""The evaluator service: read, fold, commit, send, report, for ever.

One round: predictions first, then outcomes up to where their log stood after that, so that an exposure never matures
before the outcomes that were there for it were read. An outage of log or state only delays; nothing is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from evaluator.checkpoint import Checkpoint, Saved
from evaluator.core import Core
from gauntlet import events, keys, metrics, progress, wiring
from gauntlet.config import Config
from gauntlet.errors import GauntletError, LogUnavailable, StateUnavailable
from gauntlet.log import LogReader, LogWriter, Record, Stored
from gauntlet.model import Severity
from gauntlet.state import StateStore

_log = logging.getLogger("gauntlet.evaluator")

_BATCH = 2000  # predictions in one round: about 0.1 s of work, so that a stop is never far away
_OUTCOMES = 5000
_COMMIT_SECONDS = 0.2  # how much work a crash repeats, and how late a verdict can be
_IDLE_SECONDS = 0.02
_DISCOVER_SECONDS = 2.0
_BACKOFF_SECONDS = 0.5

_stream_decoder = msgspec.json.Decoder(events.Prediction | events.Shadow | events.Outcome)

Read = list[tuple[str, Stored]]


async def serve(config: Config, stop: asyncio.Event) -> None:
    """Evaluate until `stop` is set. Raises `Conflict` when another evaluator works on the same experiment."""
    async with contextlib.AsyncExitStack() as stack:
        checkpoint = Checkpoint(Path(config.data) / "evaluator.db")
        stack.callback(checkpoint.close)
        state = wiring.state(config)
        stack.push_async_callback(state.close)
        reader = await _patiently(lambda: wiring.log_reader(config), stop)
        if reader is None:
            return
        stack.push_async_callback(reader.close)
        writer = await _patiently(lambda: wiring.log_writer(config, "evaluator"), stop)
        if writer is None:
            return
        stack.push_async_callback(writer.close)
        core = await asyncio.to_thread(Core, config, wiring.registry(config), checkpoint)
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
        self, config: Config, core: Core, checkpoint: Checkpoint, reader: LogReader, writer: LogWriter, state: StateStore
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
        self._committed = time.monotonic()
        self._dirty = False
        self._letters: list[Record] = []
        self._joined = metrics.JOIN_LAG.labels(self._name)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until stopped; what was read and not committed is simply read again next time."""
        ready = False
        with self._checkpoint.undone_on_error():
            while not stop.is_set():
                try:
                    if not ready:
                        await self._catch_up()
                        await self._send()
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
            offset = self._offsets.get(place, 0)
            while offset < end:
                found = await self._reader.read(topic, partition, offset, min(_OUTCOMES, end - offset))
                if not found:
                    raise LogUnavailable(f"{place} ends at {offset}, the shared state knows {end}", code="offset_lost")
                batch, _ = self._decode([(place, one) for one in found])
                self._checkpoint.begin()
                self._core.rebuild(batch)
                offset = found[-1].offset + 1
        self._core.adopt(shared)
        self._offsets = dict(shared.offsets)
        self._checkpoint.commit(value, shared.commit, [], after=self._commit)
        self._commit = shared.commit

    async def _round(self) -> bool:
        """Read, fold and (when it is time) commit; False when there was nothing to do."""
        await self._discover()
        predictions = await self._read(keys.PREDICTIONS, _BATCH)
        outcomes = await self._drain(keys.OUTCOMES)
        if predictions or outcomes:
            await asyncio.to_thread(self._fold, predictions, outcomes)
            self._dirty = True
        if self._dirty and time.monotonic() - self._committed >= _COMMIT_SECONDS:
            await self._save()
        return bool(predictions or outcomes)

    async def _discover(self) -> None:
        if self._partitions and time.monotonic() - self._discovered < _DISCOVER_SECONDS:
            return
        for topic in (keys.PREDICTIONS, keys.OUTCOMES):
            self._partitions[topic] = await self._reader.partitions(topic)
        self._discovered = time.monotonic()

    async def _read(self, topic: str, limit: int) -> Read:
        found: Read = []
        for partition in self._partitions[topic]:
            place = f"{topic}/{partition}"
            records = await self._reader.read(topic, partition, self._offsets.get(place, 0), limit)
            found.extend((place, record) for record in records)
            if records:
                self._offsets[place] = records[-1].offset + 1
        return found

    async def _drain(self, topic: str) -> Read:
        """Everything up to where the topic stands now."""
        found: Read = []
        for partition in self._partitions[topic]:
            place = f"{topic}/{partition}"
            end = await self._reader.end(topic, partition)
            offset = self._offsets.get(place, 0)
            while offset < end:
                records = await self._reader.read(topic, partition, offset, min(_OUTCOMES, end - offset))
                if not records:
                    break  # compacted or not visible yet: the next round goes on from here
                found.extend((place, record) for record in records)
                offset = self._offsets[place] = records[-1].offset + 1
        return found

    def _fold(self, predictions: Read, outcomes: Read) -> None:
        """In a thread: SQLite and numpy must not hold up heartbeats."""
        self._checkpoint.begin()
        ours, dead = self._decode(predictions)
        truths, more = self._decode(outcomes)
        counts = self._core.step(ours, truths)
        for lag in self._core.lags:
            self._joined.observe(lag)
        for letter in dead + more:
            metrics.DEAD_LETTERS.labels(letter.topic).inc()
        self._letters += [Record(keys.DEAD_LETTERS, r.key, r.at, r.value) for r in dead + more]
        for result in ("joined", "late", "duplicate", "conflict", "orphan"):
            if counts[result]:
                metrics.OUTCOMES.labels(self._name, result).inc(counts[result])

    def _decode(
        self, records: Sequence[tuple[str, Stored]]
    ) -> tuple[list[tuple[str, events.Prediction | events.Shadow | events.Outcome]], list[Record]]:
        """Usable events of this experiment, and the records that are none (for the dead-letter topic)."""
        good: list[tuple[str, events.Prediction | events.Shadow | events.Outcome]] = []
        dead: list[Record] = []
        for place, record in records:
            try:
                event = _stream_decoder.decode(record.value)
                if event.experiment != self._name:
                    continue
                complaint = self._core.complaint(event)
            except msgspec.MsgspecError as error:
                complaint = str(error)
            if complaint is None:
                good.append((place, event))
            else:
                _log.warning("%s at %d is set aside: %s", place, record.offset, complaint)
                dead.append(Record(place.split("/", 1)[0], record.key, record.at, record.value))
        return good, dead

    async def _save(self) -> None:
        """Judge what has matured and commit everything: shared state first, local file second, outbox last."""
        number = self._commit + 1
        offsets = dict(self._offsets)
        out, data = await asyncio.to_thread(self._judge, number, offsets)
        if self._shared:
            self._shared_version = await self._state.put(
                keys.evaluator_state(self._name), data, self._shared_version
            )
        records = [Record(_TOPIC[type(event)], event.id, event.at, events.encode(event)) for event in out]
        await asyncio.to_thread(self._checkpoint.commit, data, number, records + self._letters, after=self._commit)
        self._letters = []
        self._commit = number
        self._committed = time.monotonic()
        self._dirty = False
        await self._send()
        self._show(out)
        await self._report()

    def _judge(self, number: int, offsets: dict[str, int]) -> tuple[list[events.AnyEvent], bytes]:
        self._checkpoint.begin()
        out: list[events.AnyEvent] = list(self._core.judge(offsets))
        return out, msgspec.json.encode(self._core.saved(number, offsets))

    async def _send(self) -> None:
        """Send what was committed; a crash in here sends it again, and its readers know the ids."""
        waiting = await asyncio.to_thread(self._checkpoint.outbox)
        if waiting:
            await self._writer.append([record for _, record in waiting])
            await asyncio.to_thread(self._checkpoint.sent, waiting[-1][0])

    def _show(self, out: Sequence[events.AnyEvent]) -> None:
        name = self._name
        metrics.WATERMARK.labels(name).set(self._core.watermark)
        metrics.DRIFT_SEVERITY.labels(name).set(Severity(self._core.severity).rank)
        for feature, score in self._core.scores().items():
            metrics.DRIFT_SCORE.labels(name, feature).set(score)
        for event in out:
            if isinstance(event, events.Evaluation):
                self._show_evaluation(event)
            elif isinstance(event, events.Health):
                for metric, value in event.window.items():
                    metrics.HEALTH.labels(name, metric).set(value)

    def _show_evaluation(self, event: events.Evaluation) -> None:
        name = self._name
        metrics.VERDICTS.labels(name, event.result).inc()
        metrics.INFORMATION.labels(name).set(event.information_fraction)
        for gauge, value in (
            (metrics.EFFECT, event.effect), (metrics.EFFECT_LOWER, event.lower), (metrics.EFFECT_UPPER, event.upper),
        ):  # fmt: skip
            gauge.labels(name, event.metric).set(float("nan") if value is None else value)
        if event.srm_p_value is not None:
            metrics.SRM.labels(name).set(event.srm_p_value)
        for arm, summary in event.arms.items():
            for metric, value in summary.metrics.items():
                metrics.ARM_METRIC.labels(name, arm, metric).set(value)

    async def _report(self) -> None:
        lag = 0
        for topic, partitions in self._partitions.items():
            for partition in partitions:
                end = await self._reader.end(topic, partition)
                lag += max(0, end - self._offsets.get(f"{topic}/{partition}", 0))
        metrics.EVALUATOR_LAG.labels(self._name).set(lag)
        report = progress.EvaluatorProgress(
            at=time.time(),
            watermark=self._core.watermark,
            offsets=dict(self._offsets),
            counts=dict(self._core.counts),
            evaluation=self._core.evaluation,
            health=self._core.health,
            drift=self._core.drift,
        )
        try:
            await progress.publish(self._state, keys.evaluator_progress(self._name), report)
        except GauntletError as error:
            _log.warning("could not report: %s", error)


_TOPIC: dict[type, str] = {
    events.Evaluation: keys.EVALUATIONS,
    events.Health: keys.EVALUATIONS,
    events.Drift: keys.DRIFT,
}
