"""The retrainer as a service: reads the evaluator's events, decides, retrains, and never lets a job delay a decision.

Whatever fails outside (log, state, disk) means hold and try again; an event handled twice does what it does once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from gauntlet import adapters, events, keys, status, telemetry
from gauntlet.clock import beside, pause
from gauntlet.config import Config
from gauntlet.config.retrain import LOOK_SECONDS
from gauntlet.errors import ConfigError, GauntletError
from gauntlet.events import AnyEvent, Drift, Evaluation, Health
from gauntlet.faults import OUTAGES, Faults, tell
from gauntlet.log import LogReader, LogWriter, Record, Stored
from gauntlet.registry import Registry
from gauntlet.rollout import Command
from gauntlet.state import StateStore, decoded
from gauntlet.status import EvaluatorProgress, RetrainerProgress
from gauntlet.structured_logging import LimitedLog, get_logger
from gauntlet.telemetry import RollbackCause
from gauntlet.types import Severity
from retrainer import registry_sync
from retrainer.api.operations import Operations, RunningOperations
from retrainer.control_client import ControlClient
from retrainer.decisions import decide
from retrainer.notify.notifier import Notifier
from retrainer.notify.targets import Target, targets
from retrainer.records.recorder import Recorder
from retrainer.requester import Requester
from retrainer.runner import JobRunner
from retrainer.store import LIVE, RetrainerStore
from retrainer.triggers.requests import awaiting

_log = get_logger("gauntlet.retrainer")

_TOPICS = (keys.EVALUATIONS, keys.DRIFT)
_BATCH = 256
_REST_SECONDS = 0.05  # between two turns however many hints come: a busy log gives one with every write
_JOB_SECONDS = 0.1  # while a job's process works: its steps and its end give no hint
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 2.0
_JOBS_SHOWN = 20
_RECONCILE_SECONDS = 10.0
_PAUSED = "decisions_paused"
_HELD = "the allocation stays as it is; trying again"


async def serve(config: Config, stop: asyncio.Event, running: RunningOperations | None = None) -> None:
    """Run the retrainer until `stop` is set. Outages are waited out; only a cancellation ends it otherwise. `running`
    shows others how it can be asked.

    Raises `ConfigError` for a target of `notify` that can't be told of anything.
    """
    running, told = running or RunningOperations(), targets(config.notify)
    backoff, problems = _FIRST_BACKOFF, status.Problems("retrainer")
    faults = Faults(problems, _log)
    while not stop.is_set():
        try:
            async with AsyncExitStack() as stack:
                worker = await _open(config, told, problems, stack)
                with running.serve(worker.operations):
                    await worker.run(stop)
        except OUTAGES as error:
            backoff = min(2 * backoff, _LONGEST_BACKOFF)
            if faults.met(_PAUSED, error, _HELD):
                await tell(config, keys.retrainer_progress(config.experiment), problems)
            await pause(stop, backoff)


async def _open(config: Config, told: Sequence[Target], problems: status.Problems, stack: AsyncExitStack) -> Worker:
    store = RetrainerStore(adapters.data(config), config.experiment)
    stack.callback(store.close)
    writer = await adapters.log_writer(config, "retrainer")
    stack.push_async_callback(writer.close)
    reader = await adapters.log_reader(config, writers=["evaluator"])
    stack.push_async_callback(reader.close)
    state = adapters.state(config)
    stack.push_async_callback(state.close)
    registry = adapters.registry(config)
    faults = Faults(problems, _log)
    notifier = Notifier(config, store, state, faults, told)
    await stack.enter_async_context(beside(notifier.run))
    recorder = Recorder(config, store, state, registry, faults, notifier.deliveries)
    await stack.enter_async_context(beside(recorder.run))
    return Worker(config, reader, writer, state, registry, store, problems)


class Worker:
    """One experiment's retrainer on its ports. `step` is one turn of its loop; everything in it is safe to repeat."""

    def __init__(
        self,
        config: Config,
        reader: LogReader,
        writer: LogWriter,
        state: StateStore,
        registry: Registry,
        store: RetrainerStore,
        problems: status.Problems | None = None,
    ) -> None:
        self._config = config
        self._experiment = config.experiment
        self._reader = reader
        self._writer = writer
        self._state = state
        self._registry = registry
        self._store = store
        self._control = ControlClient(state, config.experiment)
        self.runner = JobRunner(config, reader, registry, store, self._control)
        self._requester = Requester(config, store, self.runner)
        self._dead_letters = LimitedLog(_log)
        self.problems = problems or status.Problems("retrainer")
        self._faults = Faults(self.problems, _log)
        self._reconciled = 0
        self._reconciled_at = -math.inf
        self._published: RetrainerProgress | None = None
        self._evaluator_report = 0
        self._asked = asyncio.Event()
        self.operations = Operations(
            config, state, registry, store, self._control, self.runner, self._requester, self.problems, self._asked.set
        )

        try:
            self.operations.restore()
        except ConfigError as error:
            self._faults.met("configured_refused", error, "the configuration file's settings hold", Severity.MEDIUM)

    async def run(self, stop: asyncio.Event) -> None:
        """Turn until `stop` is set. A job that still runs then is ended, and started again with the next start.

        Raises `DamagedFile` where the store's file is damaged: it is to be opened anew.
        """
        backoff = _FIRST_BACKOFF
        _log.info("retrainer_started", experiment=self._experiment, event_time=round(self._store.now))
        try:
            while not stop.is_set():
                try:
                    busy = await self.step()
                except Exception as error:  # fail-static: whatever it is, hold, say so and try again
                    if (damage := self._store.file.damage(error)) is not None:
                        raise damage from error
                    backoff = min(2 * backoff, _LONGEST_BACKOFF)
                    if self._faults.met(_PAUSED, error, _HELD):
                        with contextlib.suppress(GauntletError):
                            await self._publish()
                    await pause(stop, backoff)
                    continue
                backoff = _FIRST_BACKOFF
                if self._faults.over(_PAUSED):
                    continue  # the next turn tells it
                if not busy:
                    await pause(stop, _REST_SECONDS)
                    seconds = _JOB_SECONDS if self._store.live else LOOK_SECONDS
                    await pause(
                        stop, seconds, self._reader.wait(seconds), self._state.wait(seconds), self._asked.wait()
                    )
                    self._asked.clear()
        finally:
            await self.close()

    async def close(self) -> None:
        """End the job's process, if there is one; the job itself goes on with the next start."""
        async with self.operations.turn:
            await self.runner.stop()

    async def step(self) -> bool:
        """One turn: events, the job, one commit, and then the reports; True when events were handled.

        The control record is read once; compare-and-set protects every change of it. Commands are in force before the
        offsets that caused them are committed, and nothing is published before that.
        """
        async with self.operations.turn:
            return await self._turn()

    async def _turn(self) -> bool:
        if not await self._control.refresh():
            return False  # nobody has begun the experiment yet
        await self._hear_of_quality()
        found = await self._records()
        for topic, partition, record in found:
            await self._handle(topic, partition, record)
        with self._faults.held("job_not_judged", "decisions go on; the job waits"):
            await self.runner.attend()
        self._consider()
        with self._faults.held("job_not_started", "decisions go on; the job waits"):
            await self.runner.start()
        self._store.commit()
        with self._faults.held("registry_not_followed", "decisions go on", Severity.MEDIUM):
            await self._reconcile()
        await self._publish()
        with self._faults.held("jobs_not_told", "decisions go on", Severity.LOW):
            await self._send_job_events()
        return bool(found)

    async def _hear_of_quality(self) -> None:
        """Take up the quality that the evaluator reports now; while it can't be asked, what it told last."""
        key = keys.evaluator_progress(self._experiment)
        with contextlib.suppress(GauntletError):
            version, value = await self._state.get(key)
            if version and version != self._evaluator_report:
                self.runner.quality = decoded(key, value, EvaluatorProgress).quality
                self._evaluator_report = version

    async def _records(self) -> list[tuple[str, str, Stored]]:
        """What is new, in the order of event time; within a partition always in the log's."""
        found = []
        for topic in _TOPICS:
            for partition in await self._reader.partitions(topic):
                offset = self._store.offsets.get((topic, partition), 0)
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
            self._dead_letters.warning(
                "event_unreadable", place=f"{topic}/{partition}", offset=record.offset, error=error, next="skipped"
            )
            return self._store.handled(topic, partition, record.offset, None)
        if event.experiment != self._experiment:
            return self._store.handled(topic, partition, record.offset, None)
        for _ in range(2):  # once more on the record as it is, where the state machine has refused
            command = self._respond(event)
            cause: RollbackCause = "watch" if isinstance(event, Health) else "evidence"
            if command is None or not await self._has_way_back(command):
                break
            if await self._control.apply(command, event.at, cause, arrived):
                break
        self._learn(event)
        self._store.handled(topic, partition, record.offset, event.at)
        return self._consider()

    async def _has_way_back(self, command: Command) -> bool:
        """Before a promotion: whether the champion's files are kept whole. Else it waits for a later evaluation."""
        if command.name != "promote":
            return True
        try:
            await asyncio.to_thread(self._registry.verify, self._control.record.champion)
        except OUTAGES as error:
            self._faults.met("champion_not_kept", error, "the promotion waits: there would be no way back")
            return False
        self._faults.over("champion_not_kept")
        return True

    def _respond(self, event: AnyEvent) -> Command | None:
        """The command that an evaluation or the champion's health asks for."""
        try:
            if isinstance(event, Evaluation | Health):
                control = self._control.record
                if isinstance(event, Evaluation):
                    self._store.saw(event, (rollout.id for rollout in control.rollouts))
                return decide(control, event, self._config, event.at, self._store.looks)
        except Exception:  # noqa: BLE001 - the rules are pure: what fails once fails always, and must stop nothing else
            _log.exception("event_not_judged", id=event.id, next="skipped")
        return None

    def _consider(self) -> None:
        """Let the triggers ask for jobs; what is wrong with them holds up no decision."""
        try:
            self._requester.consider(self._control.record)
        except Exception as error:  # noqa: BLE001 - as above
            self._faults.met("triggers_not_judged", error, "decisions go on; no job starts by itself")
        else:
            self._faults.over("triggers_not_judged")
            self._ask_for_approval()

    def _ask_for_approval(self) -> None:
        """Show which requests need somebody, for as long as they do. One that had its jobs needs nobody before the next
        could start."""
        control = self._control.record
        waiting = [
            each
            for each in awaiting(self._store.requests)
            if not each.attempted or self.runner.judge(each, control).waits_for_approval
        ]
        if not waiting:
            self.problems.clear("approval_asked")
            return
        reasons = "; ".join(f"{each.key}: {each.reason}" for each in waiting)
        remedy = f'agree:  gauntlet retrain approve {waiting[0].id} --reason "…"'
        self.problems.report(
            "approval_asked", waiting[0].severity, f"retraining waits for approval ({reasons})", remedy
        )

    def _learn(self, event: AnyEvent) -> None:
        try:
            if isinstance(event, Health | Drift):
                self._requester.observe(event)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("event_not_learned", id=event.id, next="skipped")

    async def _send_job_events(self) -> None:
        """Job events from the outbox onto the log, ended jobs into the job log; only then they leave the outbox."""
        waiting = self._store.outbox()
        if not waiting:
            return
        await self._writer.append([Record(keys.JOBS, job.id, job.at, events.encode(job)) for _, job in waiting])
        for _, job in waiting:
            if job.status not in LIVE:
                self._store.write_line(job.id)
        self._store.confirm(waiting[-1][0])

    async def _reconcile(self) -> None:
        """The registry follows the control record, whenever that has changed, and every few seconds what others did to
        its files."""
        if self._control.version == self._reconciled and time.monotonic() < self._reconciled_at + _RECONCILE_SECONDS:
            return
        self._reconciled, self._reconciled_at = 0, time.monotonic()
        await asyncio.to_thread(registry_sync.reconcile, self._control.record, self._registry)
        self._reconciled = self._control.version

    async def _publish(self) -> None:
        report = RetrainerProgress(
            at=self._store.now,
            offsets={f"{topic}/{partition}": offset for (topic, partition), offset in self._store.offsets.items()},
            running=self.runner.running(),
            jobs=[job.event(self._experiment) for job in list(self._store.jobs.values())[-_JOBS_SHOWN:]],
            problems=self.problems.open,
            configured=self._store.configured,
        )
        if report != self._published:
            await status.publish(self._state, keys.retrainer_progress(self._experiment), report)
            self._published = report
