"""The retrainer as a process: its worker, and beside it the HTTP port with the API and the metrics, in one event loop.

The port answers also while the worker waits for its files or its log; what it then can't say is 503.
"""

from __future__ import annotations

import asyncio
import functools
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from gauntlet import http_server, telemetry
from gauntlet.auth import ApiKeys, cross_origin
from gauntlet.config import Config
from gauntlet.errors import GauntletError, NotAllowed
from gauntlet.http_answers import error_answer
from gauntlet.operator_app import operator_app
from gauntlet.structured_logging import get_logger
from retrainer import worker
from retrainer.api import openapi
from retrainer.api.http_api import RetrainingRoutes
from retrainer.api.operations import RunningOperations

_log = get_logger("gauntlet.retrainer")

_MAX_BODY_BYTES = 64 * 2**10
_OPEN = ("/metrics", "/healthz")
"""What every host may ask, as Prometheus does."""


async def serve(config: Config, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises `GauntletError` when it can't start."""
    running = RunningOperations()
    app = application(config, running)
    host, port = config.observe.host, config.observe.retrainer_port
    with http_server.listen(host, port, "observe.retrainer_port") as listener:
        url = http_server.publish(listener, Path(config.data) / "retrainer.address")
        _log.info("listening", url=url, next="serving")
        answering = asyncio.create_task(http_server.serve(app, listener, config.http, _MAX_BODY_BYTES, stop))
        try:
            await worker.serve(config, stop, running)
        finally:
            stop.set()
            await answering


def application(config: Config, running: RunningOperations) -> http_server.App:
    """The ASGI application: the API, its document, and the metrics."""
    app = operator_app("retrainer")
    app.include_router(RetrainingRoutes(config.experiment, ApiKeys(config.keys), running).api)

    @functools.cache
    def document() -> dict[str, Any]:
        return openapi.document(app, config)

    app.openapi = document  # type: ignore[method-assign]

    async def guarded(scope: http_server.Scope, receive: http_server.Receive, send: http_server.Send) -> None:
        if not config.keys and scope["path"] not in _OPEN and (refusal := _foreign(scope)):
            await _refuse(send, refusal)
        else:
            await app(http_server.as_get(scope), receive, send)

    return guarded


def _foreign(scope: http_server.Scope) -> NotAllowed | None:
    """The refusal of a caller on another host, or None: without keys only this machine is served."""
    client = scope.get("client")
    try:
        here = client is not None and ip_address(client[0]).is_loopback
    except ValueError:
        here = False
    if not here:
        return NotAllowed("without keys only this machine is served; set `keys` to serve other hosts")
    return cross_origin(scope["headers"])


async def _refuse(send: http_server.Send, error: GauntletError) -> None:
    telemetry.REFUSED.labels("unrouted", error.code).inc()
    status, body = error_answer(error)
    data = msgspec.json.encode(body)
    fields = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": data})
