"""The router service: start, serve, stop.

Start: control record and models, local log, HTTP. Stop: no new connections, shadow queue empty, log closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from gauntlet import adapters, http_server, keys
from gauntlet import clock as clocks
from gauntlet.auth import ApiKeys, cross_origin
from gauntlet.config import Config
from gauntlet.errors import BadInput
from gauntlet.operator_app import internal_error, json_response, operator_app
from gauntlet.structured_logging import get_logger
from router import openapi
from router.admin import AdminRoutes
from router.backlog import Backlog
from router.control_follower import ControlFollower
from router.event_times import EventTimes
from router.forwarder import Forwarder
from router.http_v1 import InferenceRoutes
from router.inference import InferenceService
from router.phantom_arm import PhantomArm
from router.recorder import Recorder
from router.repeats import FirstLabels, Repeats
from router.shadow import ShadowScorer
from router.traffic_counts import ArrivalCounter

_log = get_logger("gauntlet.router")

_WRITER = "router"  # the router's own partition of the local log


def replica_name(config: Config) -> str:
    """This router's name among the replicas, under which it reports to the state store: host and port, which no other
    has; where the port is any free one, the process."""
    return f"{socket.gethostname()}:{config.router.port or f'process-{os.getpid()}'}"


async def serve(config: Config, stop: asyncio.Event, *, replica: str | None = None) -> None:
    """Serve until `stop` is set. Raises `GauntletError` when it can't start."""
    api_keys = ApiKeys(config.keys)
    clock = clocks.make(config.clock)
    times = EventTimes(clock, replay=config.clock == "events")
    state = adapters.state(config)
    registry = adapters.registry(config)
    arrivals = ArrivalCounter()
    follower = ControlFollower(config, state, registry, clock, replica or replica_name(config), arrivals)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(state.close)
        await follower.start()
        stack.push_async_callback(follower.replicas.withdraw)
        first_counts = config.outcomes.correction == "first"
        indexed = [keys.PREDICTIONS, *([keys.OUTCOMES] if first_counts else [])]
        writer = adapters.local_writer(config, _WRITER, indexed=indexed)
        recorder = Recorder(writer, adapters.local_reader(config), _WRITER, config.router.delivery, follower.problems)
        stack.push_async_callback(recorder.close)
        repeats = Repeats(recorder)
        await repeats.load()
        labels = FirstLabels(recorder) if first_counts else None
        if labels is not None:
            await labels.load()
        shadow = ShadowScorer(config.router, config.experiment, recorder, follower.breaker)
        phantom = PhantomArm(config.experiment, config.evidence)
        service = InferenceService(
            config.router, config.experiment, times, recorder, repeats, shadow, follower.breaker, phantom
        )
        inference = InferenceRoutes(config, follower, service, recorder, labels, api_keys, times, arrivals)
        if config.clock == "wall":
            arrivals.load(*[await recorder.latest_time(topic) for topic in (keys.PREDICTIONS, keys.OUTCOMES)])
        reader = adapters.local_reader(config)
        stack.push_async_callback(reader.close)
        backlog = Backlog(config, reader, clock)
        admin = AdminRoutes(config, state, registry, follower, api_keys, clock, backlog, arrivals)
        app = _dispatcher(config, inference, _operator_app(config, admin, follower, recorder))
        stack.callback(shadow.close)
        stack.push_async_callback(_cancel, [asyncio.create_task(follower.run())])
        async with _forwarding(config):
            await _serve_http(config, app, stop)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(http_server.DRAIN_SECONDS):
                    await shadow.drained()
                    await recorder.settled()


@contextlib.asynccontextmanager
async def _forwarding(config: Config) -> AsyncIterator[None]:
    """Forward the local log to the shared one, if there is one; on exit, also the last records."""
    if config.log == "local":
        yield
        return
    own = adapters.local_reader(config)
    forwarder = Forwarder(
        own,
        lambda: adapters.log_writer(config, _WRITER),
        adapters.data(config) / "forwarded.json",
        topics=[keys.PREDICTIONS, keys.OUTCOMES],
        partition=_WRITER,
    )
    stop = asyncio.Event()
    forwarding = asyncio.create_task(forwarder.run(stop))
    try:
        yield
    finally:
        stop.set()
        await forwarding
        await own.close()


def _dispatcher(config: Config, inference: InferenceRoutes, operator_app: FastAPI) -> http_server.App:
    """The ASGI application: traffic goes straight to its handlers, everything else to FastAPI."""
    direct = {"/v1/predict": ("predict", inference.predict), "/v1/outcomes": ("outcomes", inference.outcomes)}

    async def app(scope: http_server.Scope, receive: http_server.Receive, send: http_server.Send) -> None:
        if not config.keys and (refusal := cross_origin(scope["headers"])):
            await inference.refuse(send, "unrouted", refusal)
            return
        found = direct.get(scope["path"])
        if found is None:
            await operator_app(http_server.as_get(scope), receive, send)
            return
        route, handler = found
        if scope["method"] != "POST":
            refused = BadInput(f"{scope['path']} takes POST only", code="method_not_allowed")
            await inference.refuse(send, route, refused, (b"allow", b"POST"))
            return
        try:
            await handler(scope, receive, send)
        except ClientDisconnect:
            pass  # it has left, or the server has told it why
        except Exception as error:  # noqa: BLE001 - a fault of ours; the caller gets the same body as for any error
            _log.error("failed", route=route, next="answered with 500", exc_info=error)
            await inference.refuse(send, route, internal_error("router"))

    return app


def _operator_app(config: Config, admin: AdminRoutes, follower: ControlFollower, recorder: Recorder) -> FastAPI:
    """The operator API, the probes, the metrics, and the documentation of all routes."""
    app = operator_app("router")
    app.include_router(admin.api)

    @functools.cache
    def document() -> dict[str, Any]:
        assert follower.table is not None, "the first table is there before the server is"
        return openapi.document(app, config, follower.table.champion.schema)

    app.openapi = document  # type: ignore[method-assign]

    @app.get("/readyz", tags=["observe"])
    async def readyz() -> Response:
        """Whether predictions can be answered. A stale control record or a full disk does not make a router unready:
        `problem` is the most severe one, and `recording` whether what is answered is recorded, too."""
        version = follower.table.version if follower.table else 0
        known = follower.problems.open
        body = {
            "ready": version > 0,
            "version": version,
            "recording": recorder.healthy,
            "problem": known[0].text if known else None,
        }
        return json_response(200 if version > 0 else 503, body)

    return app


async def _serve_http(config: Config, app: http_server.App, stop: asyncio.Event) -> None:
    with http_server.listen(config.router.host, config.router.port, "router.port") as listener:
        url = http_server.publish(listener, Path(config.data) / "router.address")
        _log.info("listening", url=url, next="serving")
        await http_server.serve(app, listener, config.http, config.router.max_body_bytes, stop)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
