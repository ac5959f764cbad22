"""The router service: start, serve, stop.

Start: control record and models, local log, HTTP. Stop: no new connections, shadow queue empty, log closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import gauntlet
from gauntlet import adapters, keys, telemetry
from gauntlet import clock as clocks
from gauntlet.config import Config
from gauntlet.errors import BadInput, ConfigError, GauntletError
from gauntlet.structured_logging import get_logger
from router.admin import AdminRoutes, json_response
from router.auth import ApiKeys, cross_origin
from router.control_follower import ControlFollower
from router.event_times import EventTimes
from router.forwarder import Forwarder
from router.http_v1 import InferenceRoutes, Receive, Scope, Send, error_answer
from router.inference import InferenceService
from router.recorder import Recorder
from router.repeats import Repeats
from router.shadow import ShadowScorer

_log = get_logger("gauntlet.router")

_DRAIN_SECONDS = 5.0
_WRITER = "router"  # the router's own partition of the local log


async def serve(config: Config, stop: asyncio.Event, *, replica: str = "router-0") -> None:
    """Serve until `stop` is set. Raises `GauntletError` when it can't start."""
    api_keys = ApiKeys(config.keys)
    clock = clocks.make(config.clock)
    times = EventTimes(clock, replay=config.clock == "events")
    state = adapters.state(config)
    registry = adapters.registry(config)
    follower = ControlFollower(config, state, registry, clock, replica)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(state.close)
        await follower.start()
        writer = adapters.local_writer(config, _WRITER, indexed=[keys.PREDICTIONS])
        recorder = Recorder(writer, adapters.local_reader(config), _WRITER, config.router.delivery)
        stack.push_async_callback(recorder.close)
        repeats = Repeats(recorder)
        await repeats.load()
        shadow = ShadowScorer(config.router, config.experiment, recorder, follower.breaker)
        service = InferenceService(config.router, config.experiment, times, recorder, repeats, shadow, follower.breaker)
        inference = InferenceRoutes(config, follower, service, recorder, api_keys, times)
        admin = AdminRoutes(config, state, registry, follower, api_keys, clock)
        app = _dispatcher(config, inference, _operator_app(admin, follower, recorder))
        stack.callback(shadow.close)
        stack.push_async_callback(_cancel, [asyncio.create_task(follower.run())])
        async with _forwarding(config):
            await _serve_http(config, app, stop)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
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


def _dispatcher(config: Config, inference: InferenceRoutes, operator_app: FastAPI):  # type: ignore[no-untyped-def]
    """The ASGI application: traffic goes straight to its handlers, everything else to FastAPI."""
    direct = {("POST", "/v1/predict"): inference.predict, ("POST", "/v1/outcomes"): inference.outcomes}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not config.keys and (refusal := cross_origin(scope["headers"])):
                await inference.refuse(send, "unrouted", refusal)
                return
            handler = direct.get((scope["method"], scope["path"]))
            if handler is not None:
                await handler(scope, receive, send)
                return
        await operator_app(scope, receive, send)

    return app


def _operator_app(admin: AdminRoutes, follower: ControlFollower, recorder: Recorder) -> FastAPI:
    """The operator API, the probes and the metrics."""
    app = FastAPI(title="Gauntlet router", version=gauntlet.__version__)
    app.include_router(admin.api)

    @app.exception_handler(GauntletError)
    async def refused(_: Request, error: GauntletError) -> Response:
        telemetry.REFUSED.labels("admin", error.code).inc()
        return json_response(*error_answer(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        json_sent = request.headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json")
        hint = "" if json_sent else "; send it with the header `content-type: application/json`"
        return await refused(request, BadInput(f"{where}: {first['msg']}{hint}", code="bad_request"))

    @app.get("/healthz", tags=["observe"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["observe"])
    async def readyz() -> Response:
        """Whether predictions can be answered and recorded; a stale control record does not make a router unready."""
        version = follower.table.version if follower.table else 0
        ready = version > 0 and recorder.healthy
        known = follower.problems.open
        problem = (known[0].text if known else None) if recorder.healthy else "the event log can't be written"
        return json_response(200 if ready else 503, {"ready": ready, "version": version, "problem": problem})

    @app.get("/metrics", tags=["observe"])
    async def scrape() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the service's `stop` event is the only way to end it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve_http(config: Config, app: object, stop: asyncio.Event) -> None:
    server = _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=int(_DRAIN_SECONDS),
            server_header=False,
        )
    )
    with _socket(config.router.host, config.router.port) as listener:
        host, port = listener.getsockname()[:2]
        (Path(config.data) / "router.address").write_text(f"http://{host}:{port}\n")
        _log.info("listening", url=f"http://{host}:{port}", next="serving")
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.wait([serving, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving


def _socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: without it every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)  # connections queue up from here on, so the address may be published
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; free the port, or set router.port", code="port_taken"
        ) from error
    return listener


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
