"""The operator API: what runs, and the commands that go through the one state machine. FastAPI, typed, documented.

Every command is idempotent, needs a reason, and is in the audit with the caller's name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from gauntlet import control, keys, telemetry
from gauntlet import status as progress
from gauntlet.clock import Clock
from gauntlet.config import Config
from gauntlet.errors import BadInput, GauntletError
from gauntlet.registry import Registry
from gauntlet.rollout import Command, Control
from gauntlet.state import StateStore
from gauntlet.types import Role
from router.auth import Keys
from router.control_follower import Follower
from router.http_v1 import error_body, status_of


class Order(BaseModel):
    """Why, and (optionally) which rollout: a command that names one never hits its successor."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(min_length=1, max_length=500)
    rollout: str | None = None


class RampOrder(Order):
    """`stage` is the index in the ramp, -1 for shadow."""

    stage: int


class RollbackOrder(Order):
    """`version` goes back to any kept version; without it, to before the last change."""

    version: str | None = None


class ChallengeOrder(Order):
    """`version` is a registered model version."""

    version: str


def routes(
    config: Config, state: StateStore, registry: Registry, follower: Follower, auth: Keys, clock: Clock
) -> APIRouter:
    """The operator routes of one experiment."""
    api = APIRouter(prefix="/v1/experiments", tags=["operate"])
    name = config.experiment

    def check(experiment: str) -> None:
        if experiment != name:
            raise BadInput(
                f"there is no experiment {experiment!r}; this router serves {name!r}", code="unknown_experiment"
            )

    async def guarded(request: Request, role: Role, experiment: str, act: Callable[[str], Awaitable[Any]]) -> Response:
        try:
            caller = auth.require(dict(request.scope["headers"]), role)
            check(experiment)
            return _json(200, await act(caller.name))
        except GauntletError as error:
            telemetry.REFUSED.labels("operate", error.code).inc()
            return _json(status_of(error), error_body(error))

    async def order(request: Request, experiment: str, command: str, given: Order, **extra: Any) -> Response:
        async def act(actor: str) -> dict[str, Any]:
            wish = Command(name=command, actor=actor, reason=given.reason, rollout=given.rollout, **extra)
            version, record, changed = await control.change(state, name, wish, clock.now())
            return {"changed": changed, "version": version, "control": record}

        return await guarded(request, Role.OPERATOR, experiment, act)

    @api.get("")
    async def experiments(request: Request) -> Response:
        """The experiments that this router serves."""

        async def act(_: str) -> list[str]:
            return [name]

        return await guarded(request, Role.VIEWER, name, act)

    @api.get("/{experiment}")
    async def status(request: Request, experiment: str) -> Response:
        """Everything about one experiment: control record, what this replica serves, evidence, drift, jobs."""

        async def act(_: str) -> dict[str, Any]:
            return await _status(config, state, registry, follower)

        return await guarded(request, Role.VIEWER, experiment, act)

    @api.get("/{experiment}/history")
    async def history(request: Request, experiment: str, after: int = Query(0, ge=0, le=2**53)) -> Response:
        """Every accepted change of the control record later than version `after`, with who, why and when."""

        async def act(_: str) -> list[dict[str, Any]]:
            kept = await control.history(state, name, after)
            return [
                {"version": version, "champion": c.champion, "share": c.share, "last": c.last} for version, c in kept
            ]

        return await guarded(request, Role.VIEWER, experiment, act)

    @api.post("/{experiment}/promote")
    async def promote(request: Request, experiment: str, body: Order = Body()) -> Response:
        """Make the running challenger the champion now, whatever the evidence says; it is then watched as usual."""
        return await order(request, experiment, "promote", body, bake_seconds=float(config.bake.time))

    @api.post("/{experiment}/rollback")
    async def rollback(request: Request, experiment: str, body: RollbackOrder = Body()) -> Response:
        """Take the challenger out; without one, put the previous champion back; or go to a kept version."""
        if body.version is not None:

            async def act(_: str) -> Any:
                return registry.get(body.version or "")

            found = await guarded(request, Role.OPERATOR, experiment, act)
            if found.status_code != 200:
                return found
        return await order(request, experiment, "rollback", body, version=body.version)

    @api.post("/{experiment}/pause")
    async def pause(request: Request, experiment: str, body: Order = Body()) -> Response:
        """Keep the challenger at its share and take no further step up; harm still rolls it back."""
        return await order(request, experiment, "pause", body)

    @api.post("/{experiment}/resume")
    async def resume(request: Request, experiment: str, body: Order = Body()) -> Response:
        """Let the ramp go on."""
        return await order(request, experiment, "resume", body)

    @api.post("/{experiment}/approve")
    async def approve(request: Request, experiment: str, body: Order = Body()) -> Response:
        """Approve leaving the present stage, where its gate asks for it."""
        return await order(request, experiment, "approve", body)

    @api.post("/{experiment}/abort")
    async def abort(request: Request, experiment: str, body: Order = Body()) -> Response:
        """End the rollout and archive the challenger, without calling it a failure."""
        return await order(request, experiment, "abort", body)

    @api.post("/{experiment}/ramp")
    async def ramp(request: Request, experiment: str, body: RampOrder = Body()) -> Response:
        """Set the stage of the ramp by its index (-1: shadow), up or down."""
        return await order(request, experiment, "ramp", body, stage=body.stage)

    @api.post("/{experiment}/challenge")
    async def challenge(request: Request, experiment: str, body: ChallengeOrder = Body()) -> Response:
        """Start a rollout of a registered version, in shadow."""

        async def act(_: str) -> Any:
            return registry.get(body.version)

        found = await guarded(request, Role.OPERATOR, experiment, act)
        if found.status_code != 200:
            return found
        return await order(
            request,
            experiment,
            "challenge",
            body,
            version=body.version,
            shadow=config.shadow.stage(),
            stages=tuple(stage.stage() for stage in config.ramp),
        )

    return api


async def _status(config: Config, state: StateStore, registry: Registry, follower: Follower) -> dict[str, Any]:
    name = config.experiment
    table = follower.table
    problem = follower.problem
    version, record = table.version if table else 0, table.control if table else None
    reports: dict[str, Any] = {"evaluator": None, "retrainer": None, "routers": []}
    try:
        version, record = await control.read(state, name)
        reports["evaluator"] = await _report(state, keys.evaluator_progress(name), progress.EvaluatorProgress)
        reports["retrainer"] = await _report(state, keys.retrainer_progress(name), progress.RetrainerProgress)
        reports["routers"] = [
            await _report(state, key, progress.RouterProgress)
            for key in await state.keys(keys.router_progress(name, ""))
        ]
    except GauntletError as error:
        problem = str(error)
    return {
        "experiment": name,
        "task": config.task,
        "metric": config.metric,
        "version": version,
        "control": record,
        "share": record.share if isinstance(record, Control) else None,
        "serving": None
        if table is None
        else {
            "version": table.version,
            "champion": table.champion.version,
            "challenger": table.challenger.version if table.challenger else None,
            "share": table.propensity,
            "breaker": "open" if table.breaker.open else "closed",
        },
        "problem": problem,
        "aliases": registry.aliases(),
        **reports,
    }


async def _report(state: StateStore, key: str, kind: type[msgspec.Struct]) -> Any:
    version, value = await state.get(key)
    return msgspec.json.decode(value, type=kind) if version else None


def _json(status: int, body: Any) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")
