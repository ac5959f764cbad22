"""The job's process: started in a session of its own, ended with everything it started when its time is up.

It never outlives the retrainer: its standard input is a pipe that ends when the retrainer does, even by kill -9.

The life of a retraining job: asked for, started, watched, judged, and its model made a challenger.

Every step may be repeated after a crash: a job keeps its id, its data and its answer, and a version gets one rollout.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from gauntlet import adapters, telemetry
from gauntlet.config import Config
from gauntlet.events import Job
from gauntlet.log import LogReader
from gauntlet.registry import Registry
from gauntlet.rollout import Command, Control
from retrainer import dataset, triggers
from retrainer.control_client import Orders
from retrainer.job import registered
from retrainer.job_dir import Answer, JobFolder, Spec
from retrainer.policy import ACTOR
from retrainer.store import LIVE, JobRecord, Ledger
from retrainer.triggers import Demand, Facts, Trigger


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How the process ended: by itself with an exit code, or aborted at its time limit; wall seconds either way."""

    how: Literal["exited", "aborted"]
    code: int
    seconds: float


async def run(folder: JobFolder, time_limit: float) -> Ended:
    """Run the job in `folder` to its end, `time_limit` seconds at most. Cancelling kills it."""
    began = time.monotonic()
    # The job imports what the retrainer can import, a user's trainer among it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)}
    with folder.output.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "retrainer.job",
            str(folder.spec_path),
            "--leash",
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )
    how: Literal["exited", "aborted"] = "exited"
    try:
        await asyncio.wait_for(process.wait(), time_limit)
    except TimeoutError:
        how = "aborted"
    finally:
        with contextlib.suppress(ProcessLookupError):  # its children, too: the session is the group
            os.killpg(process.pid, signal.SIGKILL)
        code = await process.wait()
        assert process.stdin is not None
        process.stdin.close()
    return Ended(how=how, code=code, seconds=time.monotonic() - began)


_log = logging.getLogger(__name__)

_MOST_STARTS = 5  # a job that takes its retrainer down with it must not do so for ever


class JobRunner:
    """At most one job at a time, in a process of its own; what became of it goes into the ledger, not yet committed."""

    def __init__(self, config: Config, reader: LogReader, registry: Registry, ledger: Ledger, orders: Orders) -> None:
        self._config = msgspec.structs.replace(config, data=str(Path(config.data).absolute()))
        self._reader = reader
        self._registry = registry
        self._ledger = ledger
        self._orders = orders
        self._folders = adapters.data(self._config) / "jobs"
        self._process: asyncio.Task[Ended] | None = None
        self._refusals: list[str] = []

    def consider(self, demand: Demand, control: Control) -> Trigger:
        """Ask for a job if every condition is met; a refusal is logged when its reasons change."""
        jobs, live = list(self._ledger.jobs.values()), self._ledger.live
        facts = Facts(
            now=self._ledger.now,
            champion=control.champion,
            rollout=control.rollout.id if control.rollout else None,
            baking=control.bake.rollout if control.bake else None,
            running_job=live.id if live else None,
            last_job_started=max((j.created_at for j in jobs), default=None),
            last_job_ended=max((j.ended_at for j in jobs if j.ended_at is not None), default=None),
            last_rollout_ended=control.ended[-1].at if control.ended else None,
            attempts=sum(j.champion == control.champion for j in jobs),
        )
        trigger = triggers.check(demand, facts, self._config.retrain)
        names = [c.name for c in trigger.conditions if not c.met]
        if trigger.should_retrain:
            self._ask(demand, trigger, facts)
        elif names != self._refusals:
            _log.info("no job for %s now: %s", demand.id, "; ".join(trigger.refusals))
        self._refusals = names
        return trigger

    def _ask(self, demand: Demand, trigger: Trigger, facts: Facts) -> None:
        day = datetime.fromtimestamp(facts.now, UTC).strftime("%Y%m%d")
        job = JobRecord(
            id=self._ledger.next_id(day),
            status="pending",
            trigger=demand.kind,
            demand=demand.id,
            severity=demand.severity,
            reason=demand.reason,
            champion=facts.champion,
            created_at=facts.now,
            updated_at=facts.now,
        )
        self._ledger.put(job)
        _log.info("job %s asked for: %s", job.id, "; ".join(trigger.reasons))

    async def start(self) -> None:
        """Give the live job a process if it has none: a new job, or one that a killed retrainer has left behind."""
        job = self._ledger.live
        telemetry.JOB_RUNNING.labels(self._config.experiment).set(0 if job is None else 1)
        if job is None or self._process is not None:
            return
        if job.starts >= _MOST_STARTS:
            await self._end(job, "failed", Answer(error=f"given up after {job.starts} starts without an end"), 0.0)
            return
        folder = JobFolder(self._folders / job.id)
        ends = await dataset.ends(self._reader)
        spec = Spec(job=job.id, champion=job.champion, now=job.created_at, ends=ends, config=self._config)
        await asyncio.to_thread(folder.prepare, spec)
        self._ledger.put(msgspec.structs.replace(job, status="running", starts=job.starts + 1))
        limit = self._config.retrain.time_limit
        self._process = asyncio.create_task(run(folder, limit), name=job.id)
        _log.info("job %s runs (start %d, at most %g s)", job.id, job.starts + 1, limit)

    async def attend(self) -> None:
        """Take up the answer of a job whose process has ended. Repeating it after an outage does no harm."""
        if self._process is None or not self._process.done():
            return
        job = self._ledger.live
        if job is not None:
            await self._judge(job, self._process)
        self._process = None

    async def stop(self) -> None:
        """End the job's process; the job stays live and starts again with the next retrainer."""
        if self._process is not None and not self._process.done():
            self._process.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._process
        self._process = None

    def running(self) -> Job | None:
        """The live job with the step that its process has reported."""
        job = self._ledger.live
        return None if job is None else job.event(self._config.experiment, JobFolder(self._folders / job.id).step())

    async def _judge(self, job: JobRecord, task: asyncio.Task[Ended]) -> None:
        folder = JobFolder(self._folders / job.id)
        try:
            ended = task.result()
        except OSError as error:
            return await self._end(job, "failed", Answer(error=f"its process could not start: {error}"), 0.0)
        answer = folder.answer()
        if answer is None and ended.how == "aborted":
            limit = self._config.retrain.time_limit
            return await self._end(job, "aborted", Answer(error=f"it took longer than {limit:g} s"), ended.seconds)
        if answer is None:
            error_text = f"its process ended with code {ended.code}: {folder.last_words() or 'it said nothing'}"
            return await self._end(job, "failed", Answer(error=error_text), ended.seconds)
        if answer.error is not None:
            return await self._end(job, "failed", answer, ended.seconds)
        if answer.version is not None:
            answer = msgspec.structs.replace(answer, reason=await self._challenge(job, answer))
        return await self._end(job, "completed", answer, ended.seconds)

    async def _challenge(self, job: JobRecord, answer: Answer) -> str:
        """Give an accepted version its rollout, once; the answer's reason with what became of that."""
        _, control = await self._orders.control()
        if control.champion == answer.version or any(e.challenger == answer.version for e in control.ended):
            return answer.reason  # done before the retrainer was killed, and over by now
        if control.champion != job.champion:
            return f"{answer.reason}; not challenged: the champion is {control.champion} by now"
        command = Command(
            name="challenge",
            actor=ACTOR,
            reason=f"{job.id}: {answer.reason}",
            version=answer.version,
            evidence=job.id,
            shadow=self._config.shadow.stage(),
            stages=tuple(stage.stage() for stage in self._config.ramp),
        )
        if await self._orders.give(command, self._ledger.now, "evidence", time.monotonic()) is None:
            return f"{answer.reason}; not challenged: the state machine refused it"
        return answer.reason

    async def _end(self, job: JobRecord, status: str, answer: Answer, seconds: float) -> None:
        now = self._ledger.now
        if status != "completed":  # killed between registering and answering: such a version gets no turn
            version = await asyncio.to_thread(registered, self._registry, job.id)
            if version is not None:
                await asyncio.to_thread(self._registry.set_status, version.version, "archived")
        ended = msgspec.structs.replace(
            job,
            status=status,
            updated_at=now,
            ended_at=now,
            version=answer.version,
            seconds=seconds,
            accepted=answer.accepted if status == "completed" else None,
            metrics=answer.metrics,
            split=answer.split,
            training_seconds=answer.training_seconds,
            decision=answer.reason,
            error=answer.error,
        )
        self._ledger.put(ended)
        telemetry.JOBS.labels(self._config.experiment, job.trigger, status).inc()
        assert status not in LIVE
        _log.info("job %s %s: %s", job.id, status, answer.error or answer.reason)
