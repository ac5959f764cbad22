"""The retrainer as a service: reads the evaluator's events, decides, retrains, and never lets a job delay a decision.

Whatever fails outside (log, state, disk) means hold and try again; an event handled twice does what it does once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from contextlib import AsyncExitStack

import msgspec

from gauntlet import adapters, events, keys, status, telemetry
from gauntlet import control as records
from gauntlet.config import Config
from gauntlet.errors import GauntletError
from gauntlet.events import AnyEvent, Drift, Evaluation, Health
from gauntlet.log import LogReader, LogWriter, Record, Stored
from gauntlet.registry import Registry
from gauntlet.rollout import Command
from gauntlet.state import StateStore
from gauntlet.status import RetrainerProgress
from gauntlet.telemetry import Cause
from retrainer import registry_sync, triggers
from retrainer.control_client import Orders
from retrainer.policy import decide
from retrainer.runner import JobRunner
from retrainer.store import LIVE, Ledger
from retrainer.triggers import Trigger

_log = logging.getLogger(__name__)

_TOPICS = (keys.EVALUATIONS, keys.DRIFT)
_BATCH = 256
_POLL_SECONDS = 0.1  # how late a verdict is noticed; a rollback is to be in force well within a second
_LONGEST_BACKOFF = 2.0
_JOBS_SHOWN = 20
_OUTAGES = (GauntletError, OSError, sqlite3.Error)


async def serve(config: Config, stop: asyncio.Event) -> None:
    """Run the retrainer until `stop` is set. Outages are waited out; only a cancellation ends it otherwise."""
    backoff = _POLL_SECONDS
    while not stop.is_set():
        try:
            async with AsyncExitStack() as stack:
                worker = await _open(config, stack)
                await worker.run(stop)
        except _OUTAGES as error:
            _log.warning("the retrainer can't start yet, it tries again: %s", error)
            backoff = min(2 * backoff, _LONGEST_BACKOFF)
            await _sleep(stop, backoff)


async def _open(config: Config, stack: AsyncExitStack) -> Worker:
    ledger = Ledger(adapters.data(config), config.experiment)
    stack.callback(ledger.close)
    writer = await adapters.log_writer(config, "retrainer")
    stack.push_async_callback(writer.close)
    reader = await adapters.log_reader(config)
    stack.push_async_callback(reader.close)
    store = adapters.state(config)
    stack.push_async_callback(store.close)
    return Worker(config, reader, writer, store, adapters.registry(config), ledger)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class Worker:
    """One experiment's retrainer on its ports. `step` is one turn of its loop; everything in it is safe to repeat."""

    def __init__(
        self,
        config: Config,
        reader: LogReader,
        writer: LogWriter,
        store: StateStore,
        registry: Registry,
        ledger: Ledger,
    ) -> None:
        self._config = config
        self._experiment = config.experiment
        self._reader = reader
        self._writer = writer
        self._store = store
        self._registry = registry
        self._ledger = ledger
        self._orders = Orders(store, config.experiment)
        self._runner = JobRunner(config, reader, registry, ledger, self._orders)
        self._reconciled = 0
        self._published: RetrainerProgress | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Turn until `stop` is set. A job that still runs then is ended, and started again with the next start."""
        backoff = _POLL_SECONDS
        _log.info("retrainer of %s starts at event time %.0f", self._experiment, self._ledger.now)
        try:
            while not stop.is_set():
                try:
                    busy = await self.step()
                except Exception as error:  # noqa: BLE001 - fail-static: whatever it is, hold, say so and try again
                    trace = None if isinstance(error, _OUTAGES) else error
                    _log.warning("holding, then trying again: %s", error, exc_info=trace)
                    backoff = min(2 * backoff, _LONGEST_BACKOFF)
                    await _sleep(stop, backoff)
                    continue
                backoff = _POLL_SECONDS
                if not busy:
                    await _sleep(stop, _POLL_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """End the job's process, if there is one; the job itself goes on with the next start."""
        await self._runner.stop()

    async def step(self) -> bool:
        """One turn: events, the job, one commit, and then everybody is told; True when events were handled.

        Commands are in force before the offsets that caused them are committed, and nothing is told before that.
        """
        _, control = await records.read(self._store, self._experiment)
        if control is None:
            return False  # nobody has begun the experiment yet
        found = await self._records()
        for topic, partition, record in found:
            await self._handle(topic, partition, record)
        await self._runner.attend()
        await self._consider()
        await self._runner.start()
        self._ledger.commit()
        await self._reconcile()
        await self._publish()
        await self._tell()
        return bool(found)

    async def request(self, actor: str, reason: str, *, urgent: bool = False) -> Trigger:
        """A person asks for a job; the answer names every condition. The job starts with the next turn."""
        _, control = await self._orders.control()
        now = self._ledger.now
        demand = triggers.manual(f"manual-{now:.0f}", now, control.champion, actor, reason, urgent=urgent)
        trigger = self._runner.consider(demand, control)
        self._ledger.commit()
        return trigger

    async def _records(self) -> list[tuple[str, str, Stored]]:
        """What is new, in the order of event time; within a partition always in the log's."""
        found = []
        for topic in _TOPICS:
            for partition in await self._reader.partitions(topic):
                offset = self._ledger.offsets.get((topic, partition), 0)
                latest = float("-inf")
                for record in await self._reader.read(topic, partition, offset, _BATCH):
                    latest = max(latest, record.at)
                    found.append(((latest, topic, partition, record.offset), record))
        found.sort(key=lambda item: item[0])
        return [(place[1], place[2], record) for place, record in found]

    async def _handle(self, topic: str, partition: str, record: Stored) -> None:
        """Act on one record; afterwards it counts as handled. Raises only what a retry can help."""
        arrived = time.monotonic()
        try:
            event = events.decode(record.value)
        except msgspec.MsgspecError as error:
            telemetry.DEAD_LETTERS.labels(topic).inc()
            _log.error("skipped, no event: %s/%s offset %d: %s", topic, partition, record.offset, error)
            return self._ledger.handled(topic, partition, record.offset, None)
        if event.experiment != self._experiment:
            return self._ledger.handled(topic, partition, record.offset, None)
        command = await self._respond(event)
        if command is not None:
            cause: Cause = "watch" if isinstance(event, Health) else "evidence"
            await self._orders.give(command, event.at, cause, arrived)
        self._ledger.handled(topic, partition, record.offset, event.at)
        return await self._consider()

    async def _respond(self, event: AnyEvent) -> Command | None:
        """The command that an evaluation or the champion's health asks for; a drift event only changes the demand."""
        _, control = await self._orders.control()
        try:
            if isinstance(event, Evaluation | Health):
                return decide(control, event, self._config, event.at)
            if isinstance(event, Drift):
                self._ledger.remember(triggers.from_drift(event, self._ledger.demand))
                _log.info("drift %s %s: %s, %s", event.event, event.episode, event.severity, event.root_cause)
        except Exception:  # noqa: BLE001 - the rules are pure: what fails once fails always, and must stop nothing else
            _log.exception("skipped, the rules can't judge it: %s", event.id)
        return None

    async def _consider(self) -> None:
        """Ask again for the open demand; it is forgotten when waiting can't help, and marked when it got its job."""
        demand = self._ledger.demand
        if demand is None:
            return
        _, control = await self._orders.control()
        trigger = self._runner.consider(demand, control)
        if trigger.should_retrain:
            self._ledger.remember(msgspec.structs.replace(demand, attempted=True))
        elif not trigger.later:
            self._ledger.remember(None)

    async def _tell(self) -> None:
        """Job events from the outbox onto the log, ended jobs into the job log; only then they leave the outbox."""
        told = self._ledger.outbox()
        if not told:
            return
        await self._writer.append([Record(keys.JOBS, job.id, job.at, events.encode(job)) for _, job in told])
        for _, job in told:
            if job.status not in LIVE:
                self._ledger.write_line(job.id)
        self._ledger.confirm(told[-1][0])

    async def _reconcile(self) -> None:
        """The registry follows the control record, whenever that has changed."""
        version, control = await self._orders.control()
        if version != self._reconciled:
            await asyncio.to_thread(registry_sync.reconcile, control, self._registry)
            self._reconciled = version

    async def _publish(self) -> None:
        report = RetrainerProgress(
            at=self._ledger.now,
            offsets={f"{topic}/{partition}": offset for (topic, partition), offset in self._ledger.offsets.items()},
            running=self._runner.running(),
            jobs=[job.event(self._experiment) for job in list(self._ledger.jobs.values())[-_JOBS_SHOWN:]],
        )
        if report != self._published:
            await status.publish(self._store, keys.retrainer_progress(self._experiment), report)
            self._published = report
