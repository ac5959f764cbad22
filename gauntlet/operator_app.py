"""The FastAPI application of a service's operator API: one body for every error, the probes, and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import AfterValidator, Field
from starlette.exceptions import HTTPException

import gauntlet
from gauntlet import reason, telemetry
from gauntlet.auth import ApiKeys
from gauntlet.errors import BadInput, GauntletError
from gauntlet.http_answers import error_answer, error_body
from gauntlet.types import Role

ROUTE = "admin"
"""The label under which refusals of operator routes are counted."""

Reason = Annotated[
    str,
    Field(min_length=1, max_length=reason.LONGEST, json_schema_extra={"pattern": r"\S"}),
    AfterValidator(reason.stated),
]
"""The reason in a command's body."""


def guarded_route(api_keys: ApiKeys) -> type[APIRoute]:
    """Routes that check the caller's role before anything else of a request is read, so that a stranger learns nothing
    of what fits: viewers read (GET), operators command. The caller is in `request.state.caller`.
    """

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            answer = super().get_route_handler()
            role = Role.VIEWER if self.methods == {"GET"} else Role.OPERATOR

            async def guarded(request: Request) -> Response:
                request.state.caller = api_keys.require(dict(request.scope["headers"]), role)
                return await answer(request)

            return guarded

    return GuardedRoute


def operator_app(service: str) -> FastAPI:
    """The application of `service`, without its own routes yet: /healthz, /metrics, /docs, and answers to errors."""
    app = FastAPIOffline(
        title=f"Gauntlet {service}",
        version=gauntlet.__version__,
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # the page asks no other host for anything
    )
    _answer_errors(app, service)

    @app.get("/healthz", tags=["observe"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/metrics", tags=["observe"])
    async def scrape() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


def json_response(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as JSON; msgspec also encodes the records of the kernel."""
    return Response(msgspec.json.encode(body), status_code=status, headers=headers, media_type="application/json")


def internal_error(service: str) -> GauntletError:
    """A fault of the service's own, as its callers see it."""
    return GauntletError(f"the {service} failed; its log says why", code="internal_error")


def _answer_errors(app: FastAPI, service: str) -> None:
    """Let every error of the operator routes have the same body, and be counted."""

    @app.exception_handler(GauntletError)
    async def refused(_: Request, error: GauntletError) -> Response:
        telemetry.REFUSED.labels(ROUTE, error.code).inc()
        return json_response(*error_answer(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        json_sent = request.headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json")
        absent = first["loc"] == ("body",) and first["type"] == "missing"
        said = "there is none: send a JSON object, as /docs shows it" if absent else first["msg"]
        unread = first["loc"][0] == "body" and not json_sent
        hint = "; send it with the header `content-type: application/json`" if unread else ""
        return await refused(request, BadInput(f"{where}: {said}{hint}", code="bad_request"))

    @app.exception_handler(HTTPException)
    async def unserved(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        text = "nothing is here; /docs has every route" if code == "not_found" else str(error.detail)
        telemetry.REFUSED.labels(ROUTE, code).inc()
        headers = dict(error.headers or {})
        if headers.get("Allow") == "GET":
            headers["Allow"] = "GET, HEAD"
        return json_response(error.status_code, error_body(code, text, False), headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, _: Exception) -> Response:
        return await refused(request, internal_error(service))
