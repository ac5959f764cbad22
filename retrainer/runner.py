"""Job runner: retraining jobs, each in a process of its own, from request to rollout.

Every step may be repeated after a crash: a job keeps its id, its data and its answer, and a version gets one rollout.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gauntlet import adapters, telemetry
from gauntlet.config import Config, RetrainConfig
from gauntlet.config.records import LOCAL
from gauntlet.config.rehearsal import pace
from gauntlet.errors import BadInput, DamagedFile, GauntletError, TransitionRefused
from gauntlet.events import Job
from gauntlet.log import LogReader
from gauntlet.registry import Registry
from gauntlet.rollout import Command, Control
from gauntlet.status import Quality
from gauntlet.structured_logging import get_logger
from gauntlet.succession import replaceable
from gauntlet.types import Rule
from retrainer import ACTOR, alerts, attempts
from retrainer.control_client import ControlClient
from retrainer.jobs import dataset, process_memory
from retrainer.jobs.job import registered
from retrainer.jobs.job_dir import Answer, JobFolder, Spec
from retrainer.jobs.job_host import ProcessEnd
from retrainer.jobs.job_slots import JobSlots
from retrainer.store import LIVE, JobRecord, RetrainerStore
from retrainer.triggers import conditions
from retrainer.triggers.conditions import RetrainContext, Trigger
from retrainer.triggers.requests import RetrainRequest
from retrainer.triggers.view import ChampionTraining, View

_log = get_logger("gauntlet.retrainer")

_MOST_STARTS = 5  # a job that takes its retrainer down with it must not do so for ever


class JobRunner:
    """One request's jobs at a time, `retrain.parallel_jobs` of them side by side; their state goes into the store, and
    the caller commits."""

    def __init__(
        self, config: Config, reader: LogReader, registry: Registry, store: RetrainerStore, control: ControlClient
    ) -> None:
        # A job's process writes no records and tells nobody: the addresses of those stay out of its folder.
        self._config = msgspec.structs.replace(config, data=str(Path(config.data).absolute()), records=LOCAL)
        self._reader = reader
        self._registry = registry
        self._store = store
        self._control = control
        self._folders = adapters.data(self._config) / "jobs"
        self._slots = JobSlots({key.env for key in config.keys}, config.retrain.command)
        self._refused: dict[str, list[str]] = {}
        self._training: dict[str, ChampionTraining] = {}
        self.quality: Quality | None = None
        """As the evaluator has last reported it."""

    @property
    def settings(self) -> RetrainConfig:
        """The settings in force."""
        return self._config.retrain

    def view(self, control: Control) -> View:
        """What the triggers look at, as it is now."""
        set_here, told = self._store.baseline, self.quality
        view = View(
            own=self._store.learned.of(control.champion),
            labelled=self._store.learned.labelled,
            training=self._trained(control),
            context=self._context(control),
            task=self._config.task,
            horizon=float(self._config.evidence.outcome_horizon),
            baselines=set_here.metrics if set_here is not None and set_here.version == control.champion else {},
            live_quality=told.score if told is not None and told.model == control.champion else None,
            began=control.began,
            speed=pace(self._config.profile),
        )
        left = view.left_to_train(self.settings)
        known = msgspec.structs.replace(
            view.context,
            new_samples=view.new_samples,
            left_to_train=left,
            trainable_in=view.trainable_in(self.settings),
            quality=view.quality,
        )
        return msgspec.structs.replace(view, context=known)

    def _trained(self, control: Control) -> ChampionTraining:
        """The champion's training as the registry has it; the experiment's begin stands for what is not known."""
        champion = control.champion
        if champion not in self._training:
            try:
                version = self._registry.get(champion)
            except (GauntletError, OSError):  # told by whoever needs the model; asked again
                return ChampionTraining(at=control.began, to=control.began)
            newest = version.data_to or control.began
            self._training[champion] = ChampionTraining(
                at=newest, to=newest, rows=version.rows, metrics=version.metrics
            )
        return self._training[champion]

    def context(self, control: Control) -> RetrainContext:
        """What every request is judged on, as it is now."""
        return self.view(control).context

    def _context(self, control: Control) -> RetrainContext:
        past, live = attempts.attempt_history(self._store.jobs.values(), control.champion), self._store.live
        return RetrainContext(
            now=self._store.now,
            champion=control.champion,
            rollouts=tuple(r.id for r in control.rollouts),
            replaceable=len(replaceable(control)),
            most=self._config.shadow.challengers,
            baking=control.bake.rollout if control.bake else None,
            running_job=live.id if live else None,
            last_job_started=past.last_started,
            last_attempt_ended=past.last_attempt_ended,
            failures=past.failures,
            unanswered=past.unanswered,
            asked=asked.id if (asked := self._store.requests.get("manual")) is not None else None,
            last_rollout_ended=control.ended[-1].at if control.ended else None,
            monitoring=self._store.monitoring,
            attempts=past.attempts,
        )

    def judge(self, request: RetrainRequest, control: Control) -> Trigger:
        """Every condition for `request`; nothing is changed."""
        return conditions.check(request, self.context(control), self._config.retrain)

    def consider(self, request: RetrainRequest, control: Control) -> Trigger:
        """Ask for a job by each recipe if every condition is met; a refusal is logged when its reasons change."""
        context = self.context(control)
        trigger = conditions.check(request, context, self._config.retrain)
        refused = [c.name for c in trigger.obstacles]
        if trigger.should_retrain:
            for recipe in self._config.retrain.all_recipes:
                self._create(request, trigger, context, recipe.name)
        elif refused != self._refused.get(request.key):
            _log.info(
                "retraining_refused",
                request=request.id,
                reasons="; ".join(trigger.refusals),
                next="asked again as time passes" if trigger.later else "it gets no job",
            )
        self._refused[request.key] = refused
        return trigger

    def _create(self, request: RetrainRequest, trigger: Trigger, context: RetrainContext, recipe: str) -> None:
        day = datetime.fromtimestamp(context.now, UTC).strftime("%Y%m%d")
        job = JobRecord(
            id=self._store.next_id(day),
            status="pending",
            trigger=request.kind,
            request=request.id,
            severity=request.severity,
            reason=request.reason,
            drift_type=request.root_cause,
            conditions=msgspec.to_builtins(trigger.conditions),
            champion=context.champion,
            recipe=recipe,
            by=request.asked_by or request.approved_by or "",
            created_at=context.now,
            updated_at=context.now,
        )
        self._store.put(job)
        _log.info("job_created", job=job.id, recipe=recipe, reasons="; ".join(trigger.reasons))

    async def start(self) -> None:
        """Give live jobs processes, as many as may run at once: new ones, and those that a killed retrainer left."""
        live = self._store.live_jobs
        telemetry.JOB_RUNNING.labels(self._config.experiment).set(len(live))
        for job in live:
            if len(self._slots) >= self._config.retrain.parallel_jobs:
                return
            if job.id not in self._slots:
                await self._start(job)

    async def _start(self, job: JobRecord) -> None:
        if job.starts >= _MOST_STARTS:
            await self._end(job, "failed", Answer(error=f"given up after {job.starts} starts without an end"), 0.0)
            return
        folder = self.folder(job.id)
        ends = await dataset.ends(self._reader)
        recipe = next((r for r in self._config.retrain.all_recipes if r.name == job.recipe), None)
        if recipe is None:
            await self._end(job, "failed", Answer(error=f"there is no recipe {job.recipe!r} any more"), 0.0)
            return
        spec = Spec(
            job=job.id, champion=job.champion, recipe=recipe, now=job.created_at, ends=ends, config=self._config
        )
        await asyncio.to_thread(folder.prepare, spec)
        self._store.put(msgspec.structs.replace(job, status="running", starts=job.starts + 1))
        limit = self._config.retrain.time_limit
        self._slots.start(job.id, folder, limit, self._memory_limit)
        _log.info("job_started", job=job.id, start=job.starts + 1, time_limit=limit)

    @property
    def _memory_limit(self) -> int | None:
        """Bytes that each job may hold."""
        settings, most = self._config.retrain, process_memory.default_limit()
        return settings.max_memory_bytes or (most and most // settings.parallel_jobs)

    async def attend(self) -> None:
        """Take up the answers of jobs whose processes have ended. Repeating it after an outage does no harm."""
        for id, process in self._slots.ended().items():
            if (job := self._store.jobs[id]).status in LIVE:
                await self._judge(job, process)
            self._slots.release(id)
        await self._slots.rest()

    async def ended(self) -> None:
        """Wait until the processes of the jobs have ended, if there are any."""
        await self._slots.wait()

    async def stop(self) -> None:
        """End the jobs' processes; the jobs stay live and start again with the next retrainer."""
        await self._slots.close()

    async def cancel(self, id: str, by: str, reason: str) -> JobRecord:
        """End a job that waits or runs, its process and whatever it registered with it; the others go on.

        One that is cancelled already stays as it is. Raises `BadInput` for no job, `TransitionRefused` for one that is
        over or whose version has its rollout.
        """
        job = self.job(id)
        if job.status == "cancelled":
            return job
        if job.status not in LIVE:
            raise TransitionRefused(f"{id} is {job.status} already: there is nothing to cancel", code="job_over")
        version = await asyncio.to_thread(registered, self._registry, id)
        control = self._control.record
        running, ended = (each.challenger for each in control.rollouts), (each.challenger for each in control.ended)
        known = (control.champion, *running, *ended)
        if version is not None and version.version in known:
            remedy = "end that with  gauntlet abort"
            raise TransitionRefused(f"{version.version} of {id} has its rollout: {remedy}", code="job_has_rollout")
        seconds = await self._slots.stop(id)
        await self._end(job, "cancelled", Answer(error=f"cancelled by {by}: {reason}"), seconds)
        return self._store.jobs[id]

    def job(self, id: str) -> JobRecord:
        """Raises `BadInput`."""
        found = self._store.jobs.get(id)
        if found is None:
            raise BadInput(f"there is no job {id!r}", code="unknown_job")
        return found

    def folder(self, id: str) -> JobFolder:
        """The folder of a job that there is."""
        return JobFolder(self._folders / id)

    def memory(self, id: str) -> int | None:
        """Bytes that the processes of a running job hold."""
        return self._slots.memory(id)

    def configure(self, retrain: RetrainConfig) -> None:
        """Let these settings hold for what is considered and started from now on."""
        self._config = msgspec.structs.replace(self._config, retrain=retrain)
        self._slots.limit(self._memory_limit)

    def running(self) -> Job | None:
        """The oldest live job with the step that its process has reported."""
        job = self._store.live
        if job is None:
            return None
        step = self.folder(job.id).step()
        return job.event(self._config.experiment, step.step if step is not None else "")

    async def _judge(self, job: JobRecord, task: asyncio.Task[ProcessEnd]) -> None:
        folder = self.folder(job.id)
        try:
            ended = task.result()
        except OSError as error:
            return await self._end(job, "failed", Answer(error=f"its process could not start: {error}"), 0.0)
        status = "failed"
        try:
            answer = folder.answer()
        except DamagedFile as error:
            return await self._end(job, status, Answer(error=str(error)), ended.seconds)
        if answer is None and ended.bytes is not None:
            limit = f"retrain.max_memory_bytes = {self._memory_limit or 0:,}"
            reason = f"its processes held {ended.bytes:,} bytes in memory, more than {limit}"
            status, answer = "aborted", Answer(error=reason, alert="training_memory")
        elif answer is None and ended.code is None:
            reason = f"it took longer than {self._config.retrain.time_limit:g} s"
            status, answer = "aborted", Answer(error=reason, alert="training_timeout")
        elif answer is None:
            what = "retrain.command" if self._config.retrain.command else "its process"
            said = folder.output_tail() or "no output"
            answer = Answer(error=f"{what} ended with code {ended.code} and without an answer: {said}")
        elif answer.error is None:
            status = "completed"
            if answer.version is not None:
                answer = msgspec.structs.replace(answer, reason=await self._challenge(job, answer))
        return await self._end(job, status, answer, ended.seconds)

    async def _challenge(self, job: JobRecord, answer: Answer) -> str:
        """Give an accepted version its rollout, once; the answer's reason with what became of that."""
        control = self._control.record
        if control.champion == answer.version or any(e.challenger == answer.version for e in control.ended):
            return answer.reason  # done before the retrainer was killed, and over by now
        rule = self._config.retrain.rule
        if control.champion != job.champion and rule is Rule.PROVE:
            return f"{answer.reason}; not challenged: the champion is {control.champion} by now"
        if self._config.retrain.up_to == "staging":
            return f"{answer.reason}; registered and not challenged: retrain.up_to is staging"
        shadow, stages = self._config.ladder(rule)
        if self._config.retrain.up_to == "canary":
            stages = (*stages[:-1], msgspec.structs.replace(stages[-1], approval=True))
        command = Command(
            name="challenge",
            actor=ACTOR,
            reason=f"{job.id}: {answer.reason}",
            version=answer.version,
            evidence=job.id,
            rule=rule,
            recipe=job.recipe,
            most=self._config.shadow.challengers,
            shadow=shadow,
            stages=stages,
        )
        if not await self._control.apply(command, self._store.now, "evidence", time.monotonic()):
            return f"{answer.reason}; not challenged: the state machine refused it"
        return answer.reason

    async def _end(self, job: JobRecord, status: str, answer: Answer, seconds: float) -> None:
        now = self._store.now
        if status != "completed":  # killed between registering and answering: such a version gets no turn
            version = await asyncio.to_thread(registered, self._registry, job.id)
            if version is not None:
                await asyncio.to_thread(self._registry.set_status, version.version, "archived")
        self._store.put(
            msgspec.structs.replace(job, status=status, updated_at=now, ended_at=now, seconds=seconds, answer=answer)
        )
        if (name := alerts.of_answer(status, answer)) is not None:
            text = f"{job.id}: {answer.error or answer.reason}"
            self._store.alert(alerts.alert(name, now, self._config.experiment, text, job.id))
        telemetry.JOBS.labels(self._config.experiment, job.trigger, status).inc()
        _log.info("job_ended", job=job.id, status=status, reason=answer.error or answer.reason)
