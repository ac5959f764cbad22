"""The HTTP servers of all services: one listener, one set of limits, one way to start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn

from gauntlet.config import HttpConfig
from gauntlet.errors import ConfigError
from gauntlet.http_protocol import SharedLimits
from gauntlet.structured_logging import get_logger

_log = get_logger("gauntlet.http")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DRAIN_SECONDS = 5.0
"""How long requests in hand may take once a server stops."""


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket; connections queue up from here on, so its address may be published.

    Raises `ConfigError`, which names `setting`, where the port is not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: without it every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; free the port, or set {setting}", code="port_taken"
        ) from error
    return listener


def url(listener: socket.socket) -> str:
    """The address that a listener is reached at."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def publish(listener: socket.socket, path: Path) -> str:
    """Write the listener's address to a file, for people and for `gauntlet up`, and return it. On a full disk it is
    served all the same."""
    address = url(listener)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{address}\n")
    except OSError as error:
        _log.warning("address_not_written", file=path, error=error, next=f"serving all the same on {address}")
    return address


async def serve(
    app: App, listener: socket.socket, limits: HttpConfig, max_body_bytes: int, stop: asyncio.Event
) -> None:
    """Serve until `stop` is set; requests in hand are then still answered."""
    server = _server(app, limits, max_body_bytes)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.stop()
    await serving


@contextlib.contextmanager
def served_beside(app: App, listener: socket.socket, limits: HttpConfig, max_body_bytes: int) -> Iterator[None]:
    """Serve from a thread of its own, for a service whose event loop computes."""
    server = _server(app, limits, max_body_bytes)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, ended by `stop` only, and awake once a second instead of ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """End the server, from any thread; requests in hand are still answered."""
        self.should_exit = True  # all it needs before its loop runs
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):  # what uvicorn does once a second: the answers' Date
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1.0)


def _server(app: App, limits: HttpConfig, max_body_bytes: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            http=SharedLimits(limits, max_body_bytes).protocol(),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # whatever a client can cause is counted and not logged
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=1024,
            timeout_keep_alive=float(limits.keep_alive),  # type: ignore[arg-type]
            timeout_graceful_shutdown=int(DRAIN_SECONDS),
        )
    )


def as_get(scope: Scope) -> Scope:
    """HEAD is answered as GET, and the protocol leaves the body out (RFC 9110, 9.3.2); other requests as they are."""
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
