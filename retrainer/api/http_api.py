"""The retrainer's HTTP API: `/retraining`, for the same keys and roles as the router's.

Every command is recorded with the caller's name. Handlers raise `GauntletError`; the application turns it into an
answer.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Body, Header, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

from gauntlet.auth import ApiKeys
from gauntlet.errors import BadInput, ConfigError
from gauntlet.operator_app import Reason, guarded_route, json_response
from gauntlet.reason import LONGEST
from retrainer.api.operations import Operations, RunningOperations

_Remark = Annotated[str, Field(max_length=LONGEST), AfterValidator(str.strip)]
_NO_SETTINGS = ("model_name", "model", "reason")
"""What may stand among the settings of `configure` beside them."""
_Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[!-~]+$")]


class ReasonBody(BaseModel):
    """Why; it stands in the history."""

    model_config = ConfigDict(extra="forbid")
    reason: Reason


class TriggerBody(ReasonBody):
    """`force` waits for no minimum interval, cool-down or bake; a running job and the cap on attempts hold all the
    same."""

    trigger_type: Literal["manual"] = "manual"
    force: bool = False


class SwitchBody(BaseModel):
    """Why, if anything is to be said."""

    model_config = ConfigDict(extra="forbid")
    reason: _Remark = ""


class InitializeBody(SwitchBody):
    """Without `baseline_metrics`: those that the champion was registered with."""

    baseline_metrics: dict[str, FiniteFloat] | None = Field(None, min_length=1, max_length=100)


class RetrainingRoutes:
    """The routes of one experiment's retrainer, in `api`."""

    def __init__(self, model: str, api_keys: ApiKeys, running: RunningOperations) -> None:
        self._model = model
        self._running = running
        self.api = APIRouter(prefix="/retraining", tags=["retraining"], route_class=guarded_route(api_keys))
        self.api.get("/status")(self.status)
        self.api.post("/configure")(self.configure)
        for name in ("check", "jobs", "report", "history", "versions"):
            self.api.get(f"/{{model}}/{name}")(getattr(self, name))
        self.api.get("/{model}/jobs/{job}")(self.job)
        self.api.get("/{model}/jobs/{job}/log", response_class=PlainTextResponse)(self.log)
        self.api.post("/{model}/initialize")(self.initialize)
        self.api.post("/{model}/trigger")(self.trigger)
        self.api.post("/trigger")(self.trigger_served)
        self.api.post("/{model}/jobs/{job}/cancel")(self.cancel)
        self.api.post("/{model}/requests/{request_id}/approve")(self.approve)
        self.api.post("/{model}/requests/{request_id}/decline")(self.decline)
        self.api.post("/{model}/start-monitoring")(self.start_monitoring)
        self.api.post("/{model}/stop-monitoring")(self.stop_monitoring)

    async def status(self) -> Response:
        """What runs, what waits, what was last, and what needs somebody."""
        return json_response(200, await self._asked(self._model).status())

    async def check(self, model: str) -> Response:
        """Whether a job is due now, and every condition of every trigger with its numbers. Nothing is changed."""
        return json_response(200, await self._asked(model).check())

    async def jobs(self, model: str, limit: int = Query(100, ge=1, le=1000)) -> Response:
        """The jobs, the newest first."""
        return json_response(200, self._asked(model).jobs(limit))

    async def job(self, model: str, job: str) -> Response:
        """One job, and while it runs what it does."""
        return json_response(200, self._asked(model).job(job))

    async def log(self, model: str, job: str) -> Response:
        """The end of what a job has printed, 64 KiB at most, without secrets."""
        return PlainTextResponse(self._asked(model).log(job))

    async def report(self, model: str) -> Response:
        """The model's retraining life: one line a job, from its trigger to its outcome."""
        return json_response(200, await self._asked(model).report())

    async def history(self, model: str, after: int = Query(0, ge=0, le=2**53)) -> Response:
        """Commands later than number `after`, the oldest first: who, what, why, and what came of it."""
        return json_response(200, self._asked(model).history(after))

    async def versions(self, model: str) -> Response:
        """The versions of the registry with their lineage, the newest first."""
        return json_response(200, await self._asked(model).versions())

    async def configure(
        self, request: Request, body: dict[str, Any] = Body(min_length=1), reason: Annotated[_Remark, Query()] = ""
    ) -> Response:
        """Change settings of retraining under the names that people know, such as `performance_threshold` or
        `schedule_cron`; null takes a change back. They hold over the configuration file's, also after a restart. The
        reason stands among them, or in the address."""
        operations = self._asked(body.get("model_name", body.get("model", self._model)))
        settings = {name: value for name, value in body.items() if name not in _NO_SETTINGS}
        if "reason" in body:
            reason = _remark(body["reason"])
        if not settings:
            raise BadInput("no setting is given: name one, as in performance_threshold", code="bad_request")
        try:
            return json_response(200, await operations.configure(_caller(request), settings, reason))
        except ConfigError as error:
            raise BadInput(str(error), code=error.code) from error

    async def initialize(self, request: Request, model: str, body: InitializeBody | None = Body(None)) -> Response:
        """Set the metrics from which a fall of performance is measured."""
        given = body or InitializeBody(baseline_metrics=None)
        answer = await self._asked(model).initialize(_caller(request), given.baseline_metrics, given.reason)
        return json_response(200, answer)

    async def trigger(
        self, request: Request, model: str, body: TriggerBody = Body(), idempotency_key: _Key = None
    ) -> Response:
        """Start a round of jobs, one by each recipe: 202 with their ids; or 409 with every condition that is not met.

        The same `Idempotency-Key` gets the first one's answer, whatever happened between.
        """
        digest = hashlib.sha256(msgspec.json.encode(body.model_dump(), order="sorted")).hexdigest()
        status, answer = await self._asked(model).trigger(
            _caller(request), body.reason, force=body.force, key=idempotency_key, digest=digest
        )
        return json_response(status, answer)

    async def trigger_served(
        self, request: Request, body: TriggerBody = Body(), idempotency_key: _Key = None
    ) -> Response:
        """The same for the one model that this retrainer trains."""
        return await self.trigger(request, self._model, body, idempotency_key)

    async def cancel(self, request: Request, model: str, job: str, body: ReasonBody = Body()) -> Response:
        """End a job that waits or runs; nothing of it stays, and its siblings go on. Possible until its version has its
        rollout; repeated, it is the same answer."""
        return json_response(200, await self._asked(model).cancel(_caller(request), job, body.reason))

    async def approve(self, request: Request, model: str, request_id: str, body: ReasonBody = Body()) -> Response:
        """Let an open request that asks for it have its jobs."""
        return json_response(200, await self._asked(model).approve(_caller(request), request_id, body.reason))

    async def decline(self, request: Request, model: str, request_id: str, body: ReasonBody = Body()) -> Response:
        """Close an open request of a person, of the schedule or after a rollback: it gets no jobs."""
        return json_response(200, await self._asked(model).decline(_caller(request), request_id, body.reason))

    async def start_monitoring(self, request: Request, model: str, body: SwitchBody | None = Body(None)) -> Response:
        """Let triggers start jobs by themselves."""
        return await self._switch(request, model, body, on=True)

    async def stop_monitoring(self, request: Request, model: str, body: SwitchBody | None = Body(None)) -> Response:
        """Let no trigger start a job by itself, until monitoring is started again; people may go on."""
        return await self._switch(request, model, body, on=False)

    async def _switch(self, request: Request, model: str, body: SwitchBody | None, *, on: bool) -> Response:
        return json_response(
            200, await self._asked(model).monitor(_caller(request), body.reason if body else "", on=on)
        )

    def _asked(self, model: str) -> Operations:
        """Whom to ask. Raises `BadInput` for a model that is not trained here; `StateUnavailable`."""
        if model != self._model:
            raise BadInput(f"no model {model!r} here; this retrainer trains {self._model!r}", code="unknown_model")
        return self._running.operations


def _remark(value: object) -> str:
    """A reason that stands among settings. Raises `BadInput`."""
    if not isinstance(value, str) or len(value) > LONGEST:
        raise BadInput(f"`reason` must be a text of at most {LONGEST} characters", code="bad_request")
    return value.strip()


def _caller(request: Request) -> str:
    """The name of who commands, for the history."""
    return str(request.state.caller.name)
