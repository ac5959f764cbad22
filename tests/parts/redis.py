"""redis-server with an append-only file.
Invariant: what was acknowledged before a stop or a crash of the process is there after the start."""

import shutil
import socket
from typing import ClassVar

from parts.part import Part
from parts.port import HOST


class Redis(Part):
    """A real Redis at `url`; tests share it, so they bring key prefixes or database numbers (0-15) of their own."""

    name: ClassVar[str] = "redis"

    @classmethod
    def missing(cls) -> str | None:
        return (
            None if shutil.which("redis-server") else "redis-server is not on the PATH (apt-get install redis-server)"
        )

    @property
    def url(self) -> str:
        """redis://host:port/0, as the configuration and the client library spell it."""
        return f"redis://{HOST}:{self.port}/0"

    def _prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)

    def _command(self) -> list[str]:
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.folder / "data"),
            "appendonly": "yes",
            # Each reply waits for the disk: with "everysec" Redis puts writes off while an fsync runs, and a kill costs
            # them.
            "appendfsync": "always",
            # The append-only file is the durability; snapshots beside it would only cost a fork.
            "save": "",
            "daemonize": "no",
        }
        return ["redis-server", *(word for key, value in settings.items() for word in (f"--{key}", value))]

    def _answers(self) -> bool:
        """PING; while the append-only file loads, the answer is an error instead of PONG."""
        with socket.create_connection((HOST, self.port), timeout=2.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
