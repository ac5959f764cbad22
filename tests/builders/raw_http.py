"""An HTTP client that may break every rule: it sends bytes over a socket and reads what comes back."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

HOST = b"Host: localhost\r\n"


class Answer:
    """A parsed answer."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


def connect(url: str, **options: Any) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20, **options)


def send(connection: socket.socket, pieces: Iterable[bytes], pause: float = 0.0) -> None:
    """Send until all is sent, or the server has left."""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)


def drip(connection: socket.socket, piece: bytes, pause: float, seconds: float) -> bool:
    """Send a piece again and again until an answer comes; whether it came within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        send(connection, [piece])
        if select.select([connection], [], [], pause)[0]:
            return True
    return False


def read(connection: socket.socket) -> bytes:
    """All that comes until the server closes; it must within 20 s."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(1 << 16):
            data += chunk
    return bytes(data)


def ask(url: str, *pieces: bytes, pause: float = 0.0) -> Answer:
    """Send pieces over a connection of their own, and read until the server closes it."""
    with connect(url) as connection:
        send(connection, pieces, pause)
        return Answer(read(connection))


def request(method: str, path: str, *headers: bytes, body: bytes = b"") -> bytes:
    """A well-formed request after which the server is asked to close."""
    lines = [f"{method} {path} HTTP/1.1".encode("latin-1"), HOST.strip(), b"Connection: close", *headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])
