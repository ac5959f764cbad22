"""Queries to a running retrainer, without any transport: what people and programs may ask.

Nothing here changes anything, and nothing waits for the worker's turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from gauntlet import keys
from gauntlet.config import Config
from gauntlet.errors import GauntletError
from gauntlet.promotion_ledger import Ledger
from gauntlet.registry import Registry
from gauntlet.retraining_document import (
    BaselineDocument,
    CheckDocument,
    CommandDocument,
    JobDocument,
    ReportDocument,
    RetrainingStatus,
    VersionDocument,
)
from gauntlet.rollout import Control
from gauntlet.state import StateStore, decoded
from gauntlet.status import EvaluatorProgress, Problems, moment
from retrainer.api import documents
from retrainer.api.report import report
from retrainer.control_client import ControlClient
from retrainer.requester import Requester
from retrainer.runner import JobRunner
from retrainer.store import Baseline, JobRecord, RetrainerStore

_LOG_CHARACTERS = 64 * 1024
_HISTORY = 1_000


@dataclass(eq=False)
class Questions:
    """One experiment's retrainer, asked from outside its loop."""

    config: Config
    state: StateStore
    registry: Registry
    store: RetrainerStore
    control: ControlClient
    runner: JobRunner
    requester: Requester
    problems: Problems

    async def check(self) -> CheckDocument:
        """Whether a job is due, the open requests, and every condition."""
        found = self.requester.check(await self._record())
        return CheckDocument(
            model=self.config.experiment,
            at=moment(found.at),
            should_retrain=found.should_retrain,
            urgent=found.urgent,
            monitoring=self.store.monitoring,
            triggered=found.triggered,
            reasons=found.reasons,
            waits=found.waits,
            requests=[documents.request(each) for each in self.store.requests.values()],
            conditions=[documents.condition(each) for each in found.conditions],
        )

    def jobs(self, limit: int) -> list[JobDocument]:
        """The jobs, the newest first."""
        newest = sorted(self.store.jobs.values(), key=lambda job: (job.created_at, job.id), reverse=True)
        return [self._job(each) for each in newest[:limit]]

    def job(self, id: str) -> JobDocument:
        """Raises `BadInput` for no job."""
        return self._job(self.runner.job(id))

    def log(self, id: str) -> str:
        """The end of what a job has printed, without secrets. Raises `BadInput` for no job."""
        return self.runner.folder(self.runner.job(id).id).log(_LOG_CHARACTERS)

    def history(self, after: int) -> list[CommandDocument]:
        """Commands later than number `after`, the oldest first."""
        return self.store.commands.after(after, _HISTORY)

    async def report(self) -> ReportDocument:
        """The model's retraining life."""
        control, ledger = await self._record(), await self._ledger()
        return report(self.store.jobs.values(), control, self.config.metric, self.store.now, ledger)

    async def versions(self) -> list[VersionDocument]:
        """The registry's versions, the newest first."""

        def read() -> list[VersionDocument]:
            return documents.versions(self.registry.versions(), self.registry.statuses(), self.registry.aliases())

        return await asyncio.to_thread(read)

    async def status(self) -> RetrainingStatus:
        """The retrainer at a glance."""
        control, live = await self._record(), self.store.live
        ended = [job for job in self.store.jobs.values() if job.ended_at is not None]
        last = max(ended, key=lambda job: (job.ended_at or 0.0, job.id), default=None)
        baseline = self.store.baseline
        return RetrainingStatus(
            model=self.config.experiment,
            at=moment(self.store.now),
            champion=control.champion,
            enabled=self.runner.settings.enabled,
            monitoring=self.store.monitoring,
            running=self._job(live) if live is not None and live.status == "running" else None,
            waiting=[job.id for job in self.store.jobs.values() if job.status == "pending"],
            last=self._job(last) if last is not None else None,
            requests=[documents.request(each) for each in self.store.requests.values()],
            baseline=self._baseline_document(baseline) if baseline is not None else None,
            configured=self.store.configured,
            problems=self.problems.open,
        )

    async def _record(self) -> Control:
        """The control record as it is now."""
        if self.control.version == 0:
            await self.control.refresh()
        return self.control.record

    def _job(self, job: JobRecord) -> JobDocument:
        running = (
            documents.progress(self.runner.folder(job.id), self.runner.memory(job.id))
            if job.status == "running"
            else None
        )
        return documents.job(job, self.config.experiment, running)

    def _baseline_document(self, found: Baseline) -> BaselineDocument:
        return BaselineDocument(
            model=self.config.experiment, version=found.version, metrics=found.metrics, by=found.by, at=moment(found.at)
        )

    async def _ledger(self) -> Ledger:
        """The ledger of promotions as the evaluator last told it."""
        key = keys.evaluator_progress(self.config.experiment)
        with contextlib.suppress(GauntletError):
            version, value = await self.state.get(key)
            if version:
                progress: Any = decoded(key, value, EvaluatorProgress)
                return progress.worth if isinstance(progress, EvaluatorProgress) else Ledger()
        return Ledger()
