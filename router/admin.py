"""Operator API: the state of an experiment, and the commands that go through the rollout state machine.

Every command is idempotent, needs a reason, and is in the audit with the caller's name. Handlers raise
`GauntletError`; the application turns it into an HTTP answer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from gauntlet import control, keys
from gauntlet.auth import ApiKeys
from gauntlet.clock import Clock
from gauntlet.config import Config
from gauntlet.errors import DamagedFile, GauntletError, RegistryRefused, RegistryUnavailable
from gauntlet.faults import explained
from gauntlet.operator_app import Reason, guarded_route, json_response
from gauntlet.promotion_ledger import Ledger
from gauntlet.registry import Registry
from gauntlet.rollout import Command
from gauntlet.state import StateStore, decoded
from gauntlet.status import EvaluatorProgress, Problem, RetrainerProgress
from gauntlet.status_document import Document, Reports, Serving, change, changes, document, plain
from gauntlet.types import Rule, Severity
from router.backlog import Backlog
from router.control_follower import ControlFollower
from router.http_v1 import require_experiment
from router.traffic_counts import ArrivalCounter


class CommandBody(BaseModel):
    """Why, and optionally which rollout: a command that names one never hits its successor."""

    model_config = ConfigDict(extra="forbid")
    reason: Reason
    rollout: str | None = None


class RampBody(CommandBody):
    """`stage` is the index in the ramp, -1 for shadow."""

    stage: int


class RollbackBody(CommandBody):
    """`version` goes back to any kept version; without it, to the champion before the last change."""

    version: str | None = None


class ChallengeBody(CommandBody):
    """`version` is a registered model version, `rule` what it has to show before it is promoted."""

    version: str
    rule: Rule = Rule.PROVE


class AdminRoutes:
    """The operator routes of one experiment, in `api`."""

    def __init__(
        self,
        config: Config,
        state: StateStore,
        registry: Registry,
        follower: ControlFollower,
        api_keys: ApiKeys,
        clock: Clock,
        backlog: Backlog,
        arrivals: ArrivalCounter,
    ) -> None:
        self._config = config
        self._experiment = config.experiment
        self._state = state
        self._registry = registry
        self._follower = follower
        self._clock = clock
        self._backlog = backlog
        self._arrivals = arrivals
        self.api = APIRouter(prefix="/v1/experiments", tags=["admin"], route_class=guarded_route(api_keys))
        self.api.get("")(self.experiments)
        self.api.get("/{experiment}")(self.status)
        self.api.get("/{experiment}/history")(self.history)
        for command in (self.promote, self.rollback, self.pause, self.resume, self.approve, self.abort):
            self.api.post(f"/{{experiment}}/{command.__name__}")(command)
        self.api.post("/{experiment}/ramp")(self.ramp)
        self.api.post("/{experiment}/challenge")(self.challenge)

    async def experiments(self) -> Response:
        """The experiments that this router serves."""
        return json_response(200, [self._experiment])

    async def status(self, experiment: str) -> Response:
        """The status document: what serves, problems, rollouts with verdict and next step, evidence, drift, jobs."""
        require_experiment(experiment, self._experiment)
        return json_response(200, await self._status())

    async def history(self, experiment: str, after: int = Query(0, ge=0, le=2**53)) -> Response:
        """Every accepted change of the control record later than version `after`, with who, why and when, and what a
        promotion was worth."""
        require_experiment(experiment, self._experiment)
        records = await control.history(self._state, experiment, after)
        progress = await self._report(keys.evaluator_progress(experiment), EvaluatorProgress)
        return json_response(200, changes(records, progress.worth if progress else Ledger()))

    async def promote(self, request: Request, experiment: str, body: CommandBody = Body()) -> Response:
        """Make a challenger the champion now, whatever the evidence says; the bake then follows as usual. Refused while
        the champion's files are not kept whole: there would be no way back."""
        require_experiment(experiment, self._experiment)
        _, record = await control.read(self._state, experiment)
        if record is not None:
            await asyncio.to_thread(self._registry.verify, record.champion)
        return await self._command("promote", request, experiment, body, **self._config.after_promotion)

    async def rollback(self, request: Request, experiment: str, body: RollbackBody = Body()) -> Response:
        """Take a challenger out, without `rollout` all of them; without any, put the previous champion back; or go to a
        kept version."""
        return await self._command("rollback", request, experiment, body, version=body.version)

    async def pause(self, request: Request, experiment: str, body: CommandBody = Body()) -> Response:
        """Keep a challenger (without `rollout`: all) at its share, without a step up; harm still rolls it back."""
        return await self._command("pause", request, experiment, body)

    async def resume(self, request: Request, experiment: str, body: CommandBody = Body()) -> Response:
        """Let the ramp go on."""
        return await self._command("resume", request, experiment, body)

    async def approve(self, request: Request, experiment: str, body: CommandBody = Body()) -> Response:
        """Approve leaving the present stage, where its gate asks for it."""
        return await self._command("approve", request, experiment, body)

    async def abort(self, request: Request, experiment: str, body: CommandBody = Body()) -> Response:
        """End a rollout (without `rollout`: all) and archive its challenger, without calling it a failure."""
        return await self._command("abort", request, experiment, body)

    async def ramp(self, request: Request, experiment: str, body: RampBody = Body()) -> Response:
        """Set the stage of the ramp by its index (-1: shadow), up or down."""
        return await self._command("ramp", request, experiment, body, stage=body.stage, slots=self._config.slots)

    async def challenge(self, request: Request, experiment: str, body: ChallengeBody = Body()) -> Response:
        """Start a rollout of a registered version, in shadow."""
        shadow, stages = self._config.ladder(body.rule)
        return await self._command(
            "challenge",
            request,
            experiment,
            body,
            version=body.version,
            rule=body.rule,
            shadow=shadow,
            stages=stages,
            most=self._config.shadow.challengers,
        )

    async def _command(
        self, name: str, request: Request, experiment: str, body: CommandBody, version: str | None = None, **extra: Any
    ) -> Response:
        require_experiment(experiment, self._experiment)
        if version is not None:
            await asyncio.to_thread(self._registry.get, version)  # a server of models may take its time
            extra["version"] = version
        command = Command(name=name, actor=request.state.caller.name, reason=body.reason, rollout=body.rollout, **extra)
        number, record, changed = await control.change(self._state, experiment, command, self._clock.now())
        answer = {"changed": changed, "version": number, "last": change(number, record), "control": plain(record)}
        return json_response(200, answer)

    async def _status(self) -> Document:
        """What the state store holds on the experiment, and what this replica serves; the latter even without it."""
        name, table, problems = self._experiment, self._follower.table, list(self._follower.problems.open)
        version, record = (table.version, table.control) if table else (0, None)
        reports = Reports()
        try:
            version, record = await control.read(self._state, name)
            heard, silent = await self._follower.replicas.read()
            reports = Reports(
                evaluator=await self._report(keys.evaluator_progress(name), EvaluatorProgress),
                retrainer=await self._report(keys.retrainer_progress(name), RetrainerProgress),
                routers=heard,
            )
        except GauntletError as error:
            remedy = "the state store must answer again; until then nothing advances, and the router serves on"
            problems.append(
                Problem(code=error.code, severity=Severity.HIGH, source="router", text=str(error), remedy=remedy)
            )
        else:
            problems += [*silent, *await self._backlog.problems(reports)]
        serving = None
        if table is not None:
            serving = Serving(
                version=table.version,
                champion=table.champion.version,
                share=table.share,
                challengers=self._follower.challengers,
            )
        aliases = {}
        try:
            aliases = await asyncio.to_thread(self._registry.aliases)
        except (DamagedFile, RegistryRefused, RegistryUnavailable) as error:
            text, remedy = explained(error)
            problems.append(
                Problem(code=error.code, severity=Severity.LOW, source="registry", text=text, remedy=remedy)
            )
        others = [r.arrivals for r in reports.routers if r.replica != self._follower.replica and r.arrivals is not None]
        arrived = [self._arrivals.report(), *others]
        return document(self._config, version, record, serving, reports, problems, aliases, self._clock.now(), arrived)

    async def _report(self, key: str, kind: type[msgspec.Struct]) -> Any:
        version, value = await self._state.get(key)
        return decoded(key, value, kind) if version else None
