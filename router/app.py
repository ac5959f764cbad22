"""The router service: start, serve, stop, in one screen.

Start: local log → control record and models → HTTP. Stop: no new connections → shadow queue empty → log closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import gauntlet
from gauntlet import adapters, keys, telemetry
from gauntlet import clock as clocks
from gauntlet.config import Config
from gauntlet.errors import ConfigError, GauntletError
from router import admin
from router.auth import Keys, NotAllowed
from router.control_follower import Follower
from router.forwarder import Forwarder
from router.http_v1 import HotRoutes, Receive, Scope, Send, refuse
from router.inference import Predictions
from router.recorder import Recorder
from router.shadow import Shadower

_log = logging.getLogger("gauntlet.router")

_DRAIN_SECONDS = 5.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WRITER = "router"  # the router's own folder of the local log


async def serve(config: Config, stop: asyncio.Event, *, replica: str = "router-0") -> None:
    """Serve until `stop` is set. Raises `GauntletError` when it can't start, with the path and the cause."""
    auth = Keys(config.keys)
    clock = clocks.make(config.clock)
    state = adapters.state(config)
    registry = adapters.registry(config)
    follower = Follower(config, state, registry, clock, replica, Path(config.data) / f"control-{replica}.json")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(state.close)
        await follower.start()
        recorder = Recorder(
            adapters.local_writer(config, _WRITER, indexed=[keys.PREDICTIONS]),
            adapters.local_reader(config),
            _WRITER,
            config.router.delivery,
        )
        stack.push_async_callback(recorder.close)
        shadower = Shadower(
            config.experiment, recorder, config.router.shadow_queue, config.router.deadline, follower.trip
        )
        predictions = Predictions(
            config.router,
            config.experiment,
            clock,
            recorder,
            shadower,
            follower.trip,
            replayed=config.clock == "events",
        )
        hot = HotRoutes(config, follower, predictions, recorder, auth, clock)
        operating = admin.routes(config, state, registry, follower, auth, clock)
        app = _dispatcher(config, hot, _operator_app(config, follower, operating, recorder))
        background = [asyncio.create_task(follower.run()), asyncio.create_task(shadower.run())]
        stack.push_async_callback(_cancel, background)
        async with _forwarding(config):
            await _serve_http(config, app, stop)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await shadower.drained()
                    await recorder.settled()


@contextlib.asynccontextmanager
async def _forwarding(config: Config) -> AsyncIterator[None]:
    """Ship the local log to the shared one, where there is one; on leaving, also what was recorded last."""
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
    showing = asyncio.create_task(_show_lag(forwarder))
    try:
        yield
    finally:
        stop.set()
        await forwarding
        await _cancel([showing])
        await own.close()


async def _show_lag(forwarder: Forwarder) -> None:
    lost: dict[str, int] = {}
    while True:
        for topic, events in forwarder.lag().items():
            telemetry.EVENTS_SPILLED.labels(topic).set(events)
        for topic, events in forwarder.lost().items():
            telemetry.EVENTS_LOST.labels(topic, "unknown").inc(events - lost.get(topic, 0))
            lost[topic] = events
        await asyncio.sleep(1.0)


def _dispatcher(config: Config, hot: HotRoutes, operator_app: FastAPI):  # type: ignore[no-untyped-def]
    """The hot routes go straight to their handlers, past every framework; all the rest is FastAPI's."""
    direct = {("POST", "/v1/predict"): hot.predict, ("POST", "/v1/outcomes"): hot.outcomes}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not config.keys and (refusal := _foreign(scope["headers"])):
                await refuse(send, refusal)
                return
            handler = direct.get((scope["method"], scope["path"]))
            if handler is not None:
                await handler(scope, receive, send)
                return
        await operator_app(scope, receive, send)

    return app


def _operator_app(config: Config, follower: Follower, routes: object, recorder: Recorder) -> FastAPI:
    app = FastAPI(title="Gauntlet router", version=gauntlet.__version__)
    app.include_router(routes)  # type: ignore[arg-type]

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        telemetry.REFUSED.labels("operate", "bad_request").inc()
        return JSONResponse(
            {"error": {"code": "bad_request", "message": f"{where}: {first['msg']}", "retriable": False}}, 400
        )

    @app.get("/healthz", tags=["observe"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["observe"])
    async def readyz() -> JSONResponse:
        """Predictions can be answered and recorded; a stale control record does not make a router unready."""
        table = follower.table
        ready = table is not None and recorder.healthy
        return JSONResponse(
            {
                "ready": ready,
                "version": table.version if table else 0,
                "problem": follower.problem if recorder.healthy else "the event log can't be written",
            },
            200 if ready else 503,
        )

    @app.get("/metrics", tags=["observe"])
    async def scrape() -> Response:
        """Prometheus metrics."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


def _foreign(headers: Iterable[tuple[bytes, bytes]]) -> GauntletError | None:
    """Why a request did not come from this machine's own user, or None.

    Without keys the loopback address is the only guard, and any page in a browser on this machine can send to it: by a
    form (Origin), or by a name that it points here (Host).
    """
    for name, value in headers:
        if name in (b"host", b"origin"):
            host = value.decode("latin-1").rpartition("//")[2]
            host = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
            if host not in _LOOPBACK:
                return NotAllowed(
                    f"without keys only this machine is served, not {name.decode()} {host!r}: give `keys`"
                )
    return None


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the service's `stop` event is the only way to end it."""

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
        _log.info("listening on http://%s:%d", host, port)
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
        listener.listen(1024)  # from here on nobody is refused: the address may be told
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what is there, or set router.port",
            code="port_taken",
        ) from error
    return listener


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
