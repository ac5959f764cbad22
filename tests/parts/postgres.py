"""PostgreSQL from the distribution's package, in a data folder of its own.
Invariant: the server never runs as root, which it refuses; the `postgres` account of the package stands in."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

from parts.part import Part, PartError
from parts.port import HOST

_ACCOUNT = "postgres"


def _program(name: str) -> str | None:
    """Debian keeps the server's programs off the PATH, in a folder per major version."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True
    )
    return shutil.which(name) or next((str(folder / name) for folder in folders if (folder / name).exists()), None)


class Postgres(Part):
    """A real PostgreSQL at `url`, with an empty database `gauntlet` and its superuser of the same name."""

    name: ClassVar[str] = "postgres"
    # "Fast" shutdown: SIGTERM would wait for the clients to leave first.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    @classmethod
    def missing(cls) -> str | None:
        lacking = [name for name in ("initdb", "postgres", "psql") if _program(name) is None]
        return f"PostgreSQL lacks {', '.join(lacking)} (apt-get install postgresql)" if lacking else None

    @property
    def url(self) -> str:
        """postgresql://user@host:port/database; no password: only loopback is listened on."""
        return f"postgresql://gauntlet@{HOST}:{self.port}/gauntlet"

    def query(self, sql: str, *, database: str = "gauntlet") -> str:
        """Run SQL through psql; the unaligned, header-less answer. PartError with the server's message if it fails."""
        done = self._psql(sql, database)
        if done.returncode != 0:
            raise PartError(f"postgres refused {sql!r}: {done.stderr.strip()}")
        return done.stdout.strip()

    def __enter__(self) -> "Postgres":
        super().__enter__()
        self.query("create database gauntlet", database="postgres")
        return self

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, _ACCOUNT, _ACCOUNT)
        if (self.folder / "data").exists():
            return
        words = ["-D", str(self.folder / "data"), "-U", "gauntlet", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        command = self._unprivileged([_program("initdb") or "initdb", *words, "--no-sync"])
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=self.folder)
        if done.returncode != 0:
            raise PartError(f"postgres: initdb failed:\n{done.stdout}{done.stderr}")

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            # Survives our SIGKILLs, not a power cut, which no test makes.
            "fsync": "off",
        }
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return self._unprivileged([_program("postgres") or "postgres", "-D", str(self.folder / "data"), *words])

    def _answers(self) -> bool:
        return self._psql("select 1", "postgres").stdout.strip() == "1"

    def _psql(self, sql: str, database: str) -> subprocess.CompletedProcess[str]:
        target = f"postgresql://gauntlet@{HOST}:{self.port}/{database}?connect_timeout=5"
        command = [_program("psql") or "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, target]
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=self.folder)

    @staticmethod
    def _unprivileged(command: list[str]) -> list[str]:
        if os.geteuid() != 0:
            return command
        return ["setpriv", f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--init-groups", *command]
