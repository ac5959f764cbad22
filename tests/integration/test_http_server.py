"""The shared HTTP server where its connections meet: all places taken, bodies that fill the memory, answers that nobody
takes, requests one after the other on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
from builders import raw_http
from builders.raw_http import HOST, Answer, ask, request
from prometheus_client import REGISTRY

from gauntlet import http_server
from gauntlet.config import HttpConfig
from gauntlet.config.section import Seconds

MEGABYTE = 2**20
SECOND = Seconds(1)
LIMITS = HttpConfig(header_timeout=SECOND, body_timeout=SECOND, write_timeout=SECOND, keep_alive=SECOND)
BIG = 32 * MEGABYTE  # more than the buffers of both sides' sockets


class App:
    """/wait answers when it is let, /big with much, /stream with much in pieces, /headers with how many there were,
    any other path with the number of bytes that came."""

    def __init__(self) -> None:
        self.waiting = 0
        self.let = threading.Event()

    async def __call__(self, scope: http_server.Scope, receive: http_server.Receive, send: http_server.Send) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size, more = size + len(message["body"]), message["more_body"]
        if scope["path"] == "/wait":
            self.waiting += 1
            await asyncio.to_thread(self.let.wait, 20)
        pieces = {"/big": [b"b" * BIG], "/stream": [b"b" * MEGABYTE] * 32, "/headers": [b"%d" % len(scope["headers"])]}
        body = pieces.get(scope["path"], [b"%d" % size])
        headers = [(b"content-length", b"%d" % sum(map(len, body)))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@contextlib.contextmanager
def serving(max_body: int = MEGABYTE, **changes: float) -> Iterator[tuple[str, App]]:
    app, limits = App(), msgspec.structs.replace(LIMITS, **changes)
    with (
        http_server.listen("127.0.0.1", 0, "a port") as listener,
        http_server.served_beside(app, listener, limits, max_body),
    ):
        try:
            yield http_server.url(listener), app
        finally:
            app.let.set()


def refused(reason: str) -> float:
    labels = {"route": "unrouted", "reason": reason}
    return REGISTRY.get_sample_value("gauntlet_refused_total", labels) or 0.0


def until(condition: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_is_served_is_never_sent_away_for_a_newcomer() -> None:
    with serving(max_connections=3) as (url, app), contextlib.ExitStack() as stack:
        served = [stack.enter_context(raw_http.connect(url)) for _ in range(3)]
        for connection in served:
            connection.sendall(request("GET", "/wait"))
        until(lambda: app.waiting == 3)
        before = refused("too_many_connections")
        with raw_http.connect(url) as newcomer:
            answer = Answer(raw_http.read(newcomer))
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "too_many_connections", "1")
        assert refused("too_many_connections") == before + 1
        app.let.set()
        assert [Answer(raw_http.read(connection)).body for connection in served] == [b"0"] * 3
        assert ask(url, request("GET", "/")).status == 200


def test_the_connection_that_waits_longest_gives_way() -> None:
    with serving(max_connections=2, header_timeout=Seconds(60)) as (url, app), contextlib.ExitStack() as stack:
        busy, idle = (stack.enter_context(raw_http.connect(url)) for _ in range(2))
        busy.sendall(request("GET", "/wait"))
        until(lambda: app.waiting == 1)
        assert ask(url, request("GET", "/")).status == 200
        began = time.monotonic()
        assert raw_http.read(idle) == b""
        assert time.monotonic() - began < 20
        app.let.set()
        assert Answer(raw_http.read(busy)).status == 200


def test_bodies_in_arrival_are_bounded_together() -> None:
    with serving(max_body=8 * MEGABYTE, max_connections=100) as (url, _), contextlib.ExitStack() as stack:
        before = refused("overloaded")
        head = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 8000000\r\n\r\n"
        connections = [stack.enter_context(raw_http.connect(url)) for _ in range(40)]
        for connection in connections:
            raw_http.send(connection, [head, b"x" * 7_900_000])
        assert refused("overloaded") > before
        assert ask(url, request("POST", "/", body=b"small")).body == b"5"
        for connection in connections:
            assert Answer(raw_http.read(connection)).code in ("overloaded", "request_timeout")
        large = b"POST / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"Content-Length: 8000000\r\n\r\n"
        assert ask(url, large, b"x" * 4_000_000, b"x" * 4_000_000, pause=0.05).body == b"8000000"


@pytest.mark.parametrize("path", [b"/big", b"/stream"])
@pytest.mark.parametrize("close", [b"Connection: close\r\n", b""])
def test_an_answer_that_nobody_takes_is_given_up(path: bytes, close: bytes) -> None:
    with serving() as (url, _), raw_http.connect(url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, HOST, close))
        time.sleep(2.5)  # write_timeout and more, in which nothing is read
        assert len(raw_http.read(connection)) < BIG


def test_an_answer_that_is_taken_slowly_but_in_time_is_whole() -> None:
    with serving(write_timeout=Seconds(20)) as (url, _), raw_http.connect(url) as connection:
        connection.sendall(request("GET", "/big"))
        time.sleep(0.3)
        assert Answer(raw_http.read(connection)).body == b"b" * BIG


def test_trailers_are_no_headers() -> None:
    head = b"POST /headers HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n"
    with serving() as (url, _):
        assert ask(url, head, b"0\r\n", b"X-Trailer: t\r\n", b"\r\n", pause=0.05).body == b"3"


def test_requests_in_a_row_are_answered_in_their_order() -> None:
    def sent(size: int, close: bytes = b"") -> bytes:
        return b"POST / HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n%b" % (HOST, close, size, b"x" * size)

    last = sent(4, b"Connection: close\r\n")
    with serving() as (url, _), raw_http.connect(url) as connection:
        raw_http.send(connection, [sent(1) + sent(70_000) + sent(3)[:20], sent(3)[20:] + last], pause=0.1)
        answers = raw_http.read(connection).split(b"HTTP/1.1 ")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"1", b"70000", b"3", b"4"]


def test_a_request_that_waits_behind_a_slow_one_is_not_to_blame() -> None:
    with serving() as (url, app), raw_http.connect(url) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\nGET / HT")
        time.sleep(1.5)  # the header_timeout of the second is over while the first is being answered
        app.let.set()
        connection.sendall(b"TP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
        assert raw_http.read(connection).count(b"200 OK") == 2


def test_garbage_behind_a_request_never_answers_for_it() -> None:
    with serving() as (url, app), raw_http.connect(url) as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n\x00\x01garbage\r\n\r\n")
        app.let.set()
        assert b"400" not in raw_http.read(connection)
