"""What people and programs may tell a running retrainer to do, without any transport.

Commands run between two turns of the worker's loop, never inside one, and answer only when what they have changed is
durable. Every one is recorded with its actor.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gauntlet.clock import WallClock
from gauntlet.config.rehearsal import as_written
from gauntlet.config.retraining_aliases import check_name, flat, named_settings
from gauntlet.errors import BadInput, StateUnavailable, TransitionRefused
from gauntlet.ids import uuid7
from gauntlet.retraining_document import (
    BaselineDocument,
    ConfiguredDocument,
    JobDocument,
    RequestDocument,
    SwitchDocument,
    TriggerDocument,
)
from gauntlet.rollout import Control
from gauntlet.types import Task
from retrainer.api import documents
from retrainer.api.questions import Questions
from retrainer.command_log import KeptAnswer
from retrainer.store import Baseline
from retrainer.triggers import requests
from retrainer.triggers.requests import RetrainRequest

TURN_SECONDS = 10.0
"""How long a command waits for the worker's turn to end."""

_LONGEST_SHOWN = 200


class RunningOperations:
    """The operations of the worker that runs now; there are none while its files can't be opened."""

    def __init__(self) -> None:
        self._present: Operations | None = None

    @contextlib.contextmanager
    def serve(self, operations: Operations) -> Iterator[None]:
        """While this lasts, these are the ones that are found."""
        self._present = operations
        try:
            yield
        finally:
            self._present = None

    @property
    def operations(self) -> Operations:
        """Raises `StateUnavailable` where there are none."""
        if self._present is None:
            raise StateUnavailable("the retrainer can't open its files or its log just now", code="starting")
        return self._present


@dataclass(eq=False)
class Operations(Questions):
    """One experiment's retrainer, asked and told from outside its loop. `wake` lets the loop turn at once; `turn` is
    held by the worker for a turn of its loop, and by a command."""

    wake: Callable[[], object]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def trigger(
        self, actor: str, reason: str, *, force: bool, key: str | None = None, digest: str = ""
    ) -> tuple[int, msgspec.Raw]:
        """Start a round of jobs if every condition is met: HTTP status and body of the answer, with all conditions.

        The same `key` of the same actor gives the first answer again, also after a restart. Raises `TransitionRefused`
        where it comes with another request, whose `digest` tells it.
        """
        async with self._command() as control:
            if key is not None and (kept := self.store.commands.answer(actor, key)) is not None:
                if kept.digest != digest:
                    raise TransitionRefused(
                        f"the idempotency key {key!r} came with another request before: give this one a new key",
                        code="id_reused",
                    )
                return kept.status, kept.body
            if self.config.clock == "wall":
                self.store.advance(WallClock().now())
            now = self.store.now or control.began
            request = requests.manual(uuid7(time.time()), now, actor, reason, urgent=force)
            request = msgspec.structs.replace(request, mode=self.runner.settings.triggers.manual.mode)
            before = set(self.store.jobs)
            judged = self.runner.consider(request, control)
            jobs = [id for id in self.store.jobs if id not in before]
            waiting = judged.waits_for_approval
            answer = TriggerDocument(
                model=self.config.experiment,
                request=request.id,
                accepted=bool(jobs),
                waiting=waiting,
                jobs=jobs,
                conditions=[documents.condition(c) for c in judged.conditions],
            )
            status, outcome, body = 202, "started", msgspec.json.encode(answer)
            if waiting:
                self.store.open_request(request)
                outcome = "waits for somebody's approval"
            elif not jobs:
                outcome = f"refused: {'; '.join(judged.refusals)}"
                refusal = {"code": "retraining_refused", "message": "; ".join(judged.refusals)}
                error = {**refusal, "retriable": judged.later}
                status, body = 409, msgspec.json.encode({**msgspec.to_builtins(answer), "error": error})
            self.store.commands.add("trigger --force" if force else "trigger", actor, reason, outcome, jobs)
            if key is not None:
                self.store.commands.keep(actor, key, KeptAnswer(digest=digest, status=status, body=msgspec.Raw(body)))
            return status, msgspec.Raw(body)

    async def configure(self, actor: str, settings: dict[str, Any], reason: str) -> ConfiguredDocument:
        """Let these settings, under their known names, hold over the configuration file's; null takes one back.

        Raises `ConfigError` with the name and the reason; then nothing has changed.
        """
        async with self._command():
            before = dict(flat(self.store.configured))
            settings = dict(flat(settings))
            for name, value in settings.items():
                if name not in before:  # what an older release knew can be taken back
                    check_name(name, value, as_written(self.config))
            asked = {**before, **settings}
            configured = {name: value for name, value in asked.items() if value is not None}
            retrain = named_settings(self.config, configured)
            changed = configured != self.store.configured
            self.store.configure(configured)
            self.runner.configure(retrain)
            self.problems.clear("configured_refused")
            self.store.commands.add("configure", actor, reason, _shown(settings))
            return ConfiguredDocument(model=self.config.experiment, changed=changed, configured=configured)

    def restore(self) -> None:
        """Put what was configured before this start in force. Raises `ConfigError` where it no longer fits the file."""
        self.runner.configure(named_settings(self.config, self.store.configured))

    async def cancel(self, actor: str, job: str, reason: str) -> JobDocument:
        """End a job that waits or runs. Raises `BadInput` for no job, `TransitionRefused` for one that is over."""
        async with self._command():
            before = self.runner.job(job).status
            done = await self.runner.cancel(job, actor, reason)
            outcome = "cancelled" if before != "cancelled" else "was cancelled already"
            self.store.commands.add("cancel", actor, reason, outcome, [job])
            return documents.job(done, self.config.experiment)

    async def approve(self, actor: str, request: str, reason: str) -> RequestDocument:
        """Agree to an open request, which then starts its jobs as soon as the other conditions are met."""
        async with self._command():
            found = self._open(request)
            if found.mode == "suggest":
                remedy = "start jobs by hand, or let the trigger ask for approval (mode: approve)"
                raise TransitionRefused(f"{request} is a suggestion only: {remedy}", code="no_approval_asked")
            if found.asked_by == actor and self.config.keys:
                raise TransitionRefused(f"{actor} asked for it: somebody else has to agree", code="own_request")
            agreed = found
            if found.mode == "approve" and found.approved_by is None:
                agreed = msgspec.structs.replace(found, approved_by=actor)
                self.store.open_request(agreed)
            outcome = f"approved by {agreed.approved_by}" if agreed.approved_by else "asks for no approval"
            self.store.commands.add("approve", actor, reason, outcome, [request])
            return documents.request(agreed)

    async def decline(self, actor: str, request: str, reason: str) -> RequestDocument:
        """Close an open request of a person, of the schedule or after a rollback without jobs. Raises `BadInput` for no
        such request, `TransitionRefused` for one whose cause would ask again."""
        async with self._command():
            found = self._open(request)
            if found.kind not in requests.ONCE:
                remedy = f"its cause would ask again; switch {found.key} off, or let it suggest (mode: suggest)"
                raise TransitionRefused(f"{request} can't be declined: {remedy}", code="cause_lasts")
            self.store.close_request(found.key)
            self.store.commands.add("decline", actor, reason, "closed without jobs", [request])
            return documents.request(found)

    def _open(self, request: str) -> RetrainRequest:
        """Raises `BadInput`."""
        found = next((each for each in self.store.requests.values() if each.id == request), None)
        if found is None:
            known = ", ".join(each.id for each in self.store.requests.values()) or "none"
            raise BadInput(f"there is no open request {request!r}; open: {known}", code="unknown_request")
        return found

    async def monitor(self, actor: str, reason: str, *, on: bool) -> SwitchDocument:
        """Let triggers start jobs by themselves, or not. Manual jobs go on either way."""
        async with self._command():
            changed = self.store.monitoring != on
            self.store.monitor(on)
            name = "start-monitoring" if on else "stop-monitoring"
            self.store.commands.add(name, actor, reason, "done" if changed else "it was so already")
            return SwitchDocument(model=self.config.experiment, monitoring=on, changed=changed)

    async def initialize(self, actor: str, metrics: dict[str, float] | None, reason: str = "") -> BaselineDocument:
        """Set the metrics from which a fall is measured; without any, those that the champion was registered with."""
        async with self._command() as control:
            if metrics is None:
                version = await asyncio.to_thread(self.registry.get, control.champion)
                metrics = dict(version.metrics)
                if not metrics:
                    remedy = f"{control.champion} was registered without metrics: give `baseline_metrics`"
                    raise TransitionRefused(remedy, code="no_metrics")
            else:
                _check_baseline(metrics, self.config.task)
            baseline = Baseline(version=control.champion, metrics=metrics, by=actor, at=time.time())
            self.store.set_baseline(baseline)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.store.commands.add("initialize", actor, reason, f"baseline {shown}", [control.champion])
            return self._baseline_document(baseline)

    @contextlib.asynccontextmanager
    async def _command(self) -> AsyncIterator[Control]:
        """One command: the record as it is now, the turn, and at the end one commit of everything.

        Raises `StateUnavailable` while the turn does not end or nobody has begun the experiment.
        """
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self.turn.acquire()
        except TimeoutError:
            raise StateUnavailable("the retrainer is busy just now; try again", code="busy") from None
        try:
            if not await self.control.refresh():
                raise StateUnavailable("nobody has begun the experiment yet", code="starting")
            try:
                yield self.control.record
            finally:
                self._commit()
        finally:
            self.turn.release()
            self.wake()

    def _commit(self) -> None:
        """Raises `StateUnavailable` where the disk does not take it; the next commit has it then."""
        try:
            self.store.commit()
        except (sqlite3.Error, OSError) as error:
            raise StateUnavailable(f"it could not be written: {error}; try again", code="not_written") from error


def _check_baseline(metrics: dict[str, float], task: Task) -> None:
    """Raises `BadInput` where no fall could be measured from these metrics."""
    name, highest = ("accuracy", 1.0) if task is Task.CLASSIFICATION else ("rmse", math.inf)
    if name not in metrics:
        given = ", ".join(sorted(metrics))
        raise BadInput(f"`baseline_metrics` must have {name!r}, from which a fall is measured, beside {given}")
    if not 0 < metrics[name] <= highest:
        limits = "between 0 and 1" if highest == 1 else "above 0"
        raise BadInput(f"`baseline_metrics`: {name} must be {limits}, not {metrics[name]:g}")


def _shown(settings: dict[str, Any]) -> str:
    """Settings with their values as the history has them."""
    listed = (f"{name}: {msgspec.json.encode(value).decode()}" for name, value in sorted(settings.items()))
    return "; ".join(one if len(one) <= _LONGEST_SHOWN else f"{one[:_LONGEST_SHOWN]} …" for one in listed) or "nothing"
