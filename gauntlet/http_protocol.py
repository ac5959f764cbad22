"""One HTTP connection within limits: uvicorn's httptools protocol, which bounds neither the size of headers nor the
time that a request may take to arrive.

Invariant: what one connection holds in memory, and how long it keeps its place without a whole request, is bounded,
whatever it sends. A refusal is answered, counted, and ends the connection.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from functools import partial
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gauntlet import telemetry
from gauntlet.config import HttpConfig
from gauntlet.http_answers import error_body

_LINGER_SECONDS = 5.0  # a refused sender still sends: its bytes are dropped until it has seen the answer
_PENDING_BODIES = 32  # incomplete bodies of all connections together may hold as much as so many of the largest
_EXCESS = 16  # bytes on the wire for each byte of a chunked body, as Go's net/http has it; chunks can be all framing


class HttpRefusal(Exception):
    """A request that is refused before any handler sees it: HTTP status and machine-readable code."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[bytes, bytes], retriable: bool = False):
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers
        self.retriable = retriable


class _Phase(Enum):
    """Where a connection is in reading its request."""

    NOTHING = 0  # no byte of it
    HEAD = 1
    BODY = 2
    WHOLE = 3  # all of it: it is being answered, or was


class SharedLimits:
    """What the connections of one server share: their limits, and what bodies in arrival hold in memory."""

    def __init__(self, limits: HttpConfig, max_body_bytes: int) -> None:
        self.limits = limits
        self.max_body_bytes = max_body_bytes
        self.connections: set[LimitedProtocol] = set()
        self.pending_bytes = 0
        self.seconds = {
            _Phase.NOTHING: float(limits.header_timeout),
            _Phase.HEAD: float(limits.header_timeout),
            _Phase.BODY: float(limits.body_timeout),
        }

    def protocol(self) -> partial[LimitedProtocol]:
        """A factory of protocols, as uvicorn's `http` setting takes it."""
        return partial(LimitedProtocol, self)

    def admit(self, connection: LimitedProtocol) -> None:
        """Take a connection in. Beyond the limit the one goes that would first be sent away anyway.

        Raises `HttpRefusal` if all others are being served.
        """
        most = self.limits.max_connections
        if len(self.connections) >= most:
            waiting = [(when, each) for each in self.connections if (when := each.expires) is not None]
            if not waiting:
                reason = f"http.max_connections = {most} are being served; try again"
                raise HttpRefusal(503, "too_many_connections", reason, (b"retry-after", b"1"), retriable=True)
            telemetry.REFUSED.labels("unrouted", "crowded_out").inc()
            _, idle = min(waiting, key=lambda pair: pair[0])
            self.connections.discard(idle)
            idle.drop()
        self.connections.add(connection)

    def check_head(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Raise `HttpRefusal` for a head that is over a limit, or that announces a body which is."""
        limits, size = self.limits, len(url)
        for name, value in headers:
            size += len(name) + len(value)
            if name == b"content-length":
                self.check_body(int(value))
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise HttpRefusal(
                    415,
                    "unsupported_encoding",
                    f"content-encoding {value[:40].decode('latin-1')!r}: send the body as it is",
                    (b"accept-encoding", b"identity"),
                )
        if size > limits.max_header_bytes:
            self.refuse_head(
                f"request line and headers are larger than http.max_header_bytes = {limits.max_header_bytes}"
            )
        if len(headers) > limits.max_headers:
            self.refuse_head(f"{len(headers)} headers; http.max_headers is {limits.max_headers}")

    @staticmethod
    def refuse_head(reason: str) -> None:
        raise HttpRefusal(431, "headers_too_large", reason)

    def check_body(self, size: int) -> None:
        """Raise `HttpRefusal` for a body of this size."""
        if size > self.max_body_bytes:
            raise HttpRefusal(413, "body_too_large", f"the body is larger than {self.max_body_bytes} bytes")

    def hold(self, more: int) -> None:
        """Account for bytes of bodies in arrival. Raises `HttpRefusal` when all connections hold too much together."""
        self.pending_bytes += more
        if more > 0 and self.pending_bytes > _PENDING_BODIES * max(self.max_body_bytes, 2**20):
            raise HttpRefusal(503, "overloaded", "too many large bodies arrive at once; try again", retriable=True)


class LimitedProtocol(HttpToolsProtocol):
    """A connection that keeps to the limits of its `SharedLimits`.

    A request that arrives in one read, as nearly all do, costs no timer: they run for requests in parts only.
    """

    def __init__(self, shared: SharedLimits, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shared = shared
        self._phase = self._timed = _Phase.WHOLE
        self._moved = False  # whether the read in hand has begun a message or ended its head
        self._wire = 0  # bytes of reads that brought nothing but more of this head, or of this body
        self._payload = 0  # bytes of this body
        self._held = 0  # how many of them are counted there
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    # Arrival ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._phase = _Phase.NOTHING
        self._watch()
        try:
            self._shared.admit(self)
        except HttpRefusal as refusal:
            self._refuse(refusal)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._unset_keepalive_if_required()
        self._moved = False
        try:
            self._feed(data)
            if self._phase is _Phase.WHOLE and not self._moved:  # line ends after a request begin no other
                self._phase = _Phase.NOTHING
            if self._phase is not _Phase.WHOLE:
                self._bound(len(data))
        except HttpRefusal as refusal:
            self._refuse(refusal)
        else:
            if self._phase is not self._timed:
                self._watch()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # no other protocol is spoken here: the request is answered as it is
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, HttpRefusal):
                raise error.__context__ from None
            raise HttpRefusal(400, "malformed_http", f"this is not HTTP/1.1: {error}") from error

    def _bound(self, size: int) -> None:
        """Hold a request in parts within the limits that its callbacks don't see."""
        if not self._moved:  # else how much of this read is its own is not known; it is one read at most
            self._wire += size
        slack = self._shared.limits.max_header_bytes
        if self._wire > slack + _EXCESS * self._payload:
            if self._phase is not _Phase.BODY:
                self._shared.refuse_head(f"request line and headers are larger than http.max_header_bytes = {slack}")
            raise HttpRefusal(413, "body_too_large", "the body is framing rather than content: send larger chunks")
        more, self._held = self._payload - self._held, self._payload
        if more:
            self._shared.hold(more)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase, self._moved, self._wire, self._payload = _Phase.HEAD, True, 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is _Phase.HEAD:  # trailers of a chunked body are dropped (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._shared.check_head(self.url, self.headers)
        super().on_headers_complete()
        self._phase, self._moved, self._wire = _Phase.BODY, True, 0

    def on_body(self, body: bytes) -> None:
        self._payload += len(body)
        self._shared.check_body(self._payload)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = _Phase.WHOLE

    # Time ---------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Let the timer of the present phase run, and no other."""
        self._timed = self._phase
        seconds = self._shared.seconds.get(self._phase)
        self._set_timer(seconds, self._late)
        if self._phase is not _Phase.BODY:
            self._release()

    def _set_timer(self, seconds: float | None, then: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, then)

    def _late(self) -> None:
        if self._phase is _Phase.NOTHING or self.flow.write_paused:
            self._close()
        elif self._earlier_unanswered():  # nothing is read meanwhile, so the sender is not to blame
            self._watch()
        else:
            part = "headers" if self._phase is _Phase.HEAD else "body"
            setting = "header_timeout" if self._phase is _Phase.HEAD else "body_timeout"
            seconds = self._shared.seconds[self._phase]
            reason = f"the request's {part} did not arrive within http.{setting} = {seconds:g} s"
            self._refuse(HttpRefusal(408, "request_timeout", reason, retriable=True))

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_timer(float(self._shared.limits.write_timeout), self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._ended:
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()

    # Departure ----------------------------------------------------------------------------------------------------

    @property
    def expires(self) -> float | None:
        """When the connection loses its place if nothing comes; None while it is being served."""
        if self._ended or self._phase is not _Phase.WHOLE:
            return self._timer.when() if self._timer is not None else 0.0
        return self.timeout_keep_alive_task.when() if self.timeout_keep_alive_task is not None else None

    def _earlier_unanswered(self) -> bool:
        """Whether a request before the one that is being read has no answer yet."""
        if self._phase is _Phase.BODY:
            return bool(self.pipeline)
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, refusal: HttpRefusal) -> None:
        """Answer, count, and end the connection; the handler, if there is one, sees its caller leave."""
        telemetry.REFUSED.labels("unrouted", refusal.code).inc()
        answered = self._earlier_unanswered()
        if self._phase is _Phase.BODY and self.cycle is not None:
            answered = answered or self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if answered:  # another answer on the wire would be taken for that of the request before
            self._close()
            return
        data = msgspec.json.encode(error_body(refusal.code, str(refusal), refusal.retriable))
        headers = [
            *self.server_state.default_headers,
            *refusal.headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(data)).encode()),
            (b"connection", b"close"),
        ]
        fields = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *fields, b"\r\n", data]))
        if self._phase is _Phase.NOTHING:
            self._close()
            return
        self._end(_LINGER_SECONDS)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def drop(self) -> None:
        """End the connection now, without a word."""
        self._end(0.0)

    def _close(self) -> None:
        self._end(float(self._shared.limits.write_timeout))
        self.transport.close()

    def _end(self, seconds: float) -> None:
        """Read no more requests, and be gone after some seconds even if the other side takes nothing."""
        self._ended = True
        self._unset_keepalive_if_required()
        self._release()
        self._set_timer(seconds, self.transport.abort)

    def _release(self) -> None:
        if self._held:
            self._shared.hold(-self._held)
            self._held = 0

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended and self._phase in (_Phase.HEAD, _Phase.BODY):
            telemetry.REFUSED.labels("unrouted", "incomplete_request").inc()
        self._shared.connections.discard(self)
        self._end(0.0)
        self._set_timer(None, None)
        super().connection_lost(exc)
