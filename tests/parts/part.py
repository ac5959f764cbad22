"""The life of one real server process: start, readiness by its own protocol, outage, end.
Invariant: after `with` its processes are gone, and the folder too unless something failed: then its log stays."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from parts.port import free_port
from parts.process import Process

_POLL_SECONDS = 0.02
_PORT_ATTEMPTS = 4


class PartError(Exception):
    """A part didn't start, didn't answer in time or didn't stop; the message ends with its log's last lines."""


class PortTakenError(PartError):
    """Another process bound one of the part's ports first."""


class Part:
    """One server. A subclass says what is `missing`, how to `_prepare`, the `_command`, and whether it `_answers`.

    Every method blocks; a test on an event loop calls them through `asyncio.to_thread`.
    """

    name: ClassVar[str]
    ready_seconds: ClassVar[float] = 60.0
    stop_seconds: ClassVar[float] = 30.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    folder: Path
    port: int

    def __init__(self) -> None:
        self.keep_log = False
        self._process: Process | None = None
        self._launched_at = 0

    @classmethod
    def missing(cls) -> str | None:
        """Why this part can't run here and how to get it, or None when it can."""
        raise NotImplementedError

    def _choose_ports(self) -> None:
        self.port = free_port()

    def _prepare(self) -> None:
        """Write configuration and empty data into `folder`; runs again when the ports had to change."""

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        """Ask in the server's own protocol; OSError counts as no."""
        raise NotImplementedError

    @property
    def log(self) -> Path:
        """Standard output and error of every start so far."""
        return self.folder / "log"

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log, for a failure's message."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.pid is not None and self._process.code is None

    @property
    def pid(self) -> int:
        """The server's process id, which is its group's too."""
        pid = self._process.pid if self._process is not None else None
        if pid is None:
            raise RuntimeError(f"{self.name} is not running")
        return pid

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=f"gauntlet-{self.name}-"))
        try:
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                self._choose_ports()
                self._prepare()
                try:
                    self.start()
                    break
                except PortTakenError:
                    if attempt == _PORT_ATTEMPTS:
                        raise
                    self.keep_log = False
        except BaseException:
            self.keep_log = True
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.keep_log = self.keep_log or kind is not None
        self._leave()

    def _leave(self) -> None:
        self.kill()
        if not self.keep_log:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry != self.log:
                entry.unlink(missing_ok=True)

    def start(self) -> None:
        """Start on the same ports and data and return once the server answers; PartError when it doesn't."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} is started already")
        with self.log.open("ab") as log:
            self._launched_at = log.tell()
            self._process = process = Process(self._command(), folder=self.folder, out=log, err=log)
        deadline = time.monotonic() + self.ready_seconds
        while not self._ready():
            if process.code is not None:
                self.kill()
                kind = PortTakenError if self._port_was_taken() else PartError
                raise kind(self._story(f"ended with code {process.code} before it answered"))
            if time.monotonic() > deadline:
                self.kill()
                raise PartError(self._story(f"didn't answer within {self.ready_seconds:.0f} s"))
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ask it to end (`stop_signal`) and wait; PartError when it had to be killed. Data and ports stay."""
        process, self._process = self._process, None
        if process is None:
            return
        process.signal(self.stop_signal)
        in_time = process.wait(self.stop_seconds)
        process.end()
        if not in_time:
            raise PartError(self._story(f"didn't stop within {self.stop_seconds:.0f} s and was killed"))

    def kill(self) -> None:
        """SIGKILL to every process of it, as a crash would look; nothing happens when it isn't running."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    @contextmanager
    def outage(self, *, crash: bool = False) -> Iterator[None]:
        """Stopped (or killed, with `crash`) inside the block; afterwards started again on the same ports and data."""
        if crash:
            self.kill()
        else:
            self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hung inside the block: connections open, nothing answers (SIGSTOP); afterwards it goes on."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)

    def _ready(self) -> bool:
        # Asked first: an answer counts only while our process lives, not from a stranger who holds the port.
        if not self.running:
            return False
        try:
            return self._answers()
        except OSError:
            return False

    def _port_was_taken(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._launched_at)
            return b"address already in use" in log.read().lower()

    def _story(self, what: str) -> str:
        self.keep_log = True
        return f"{self.name} {what}; the end of {self.log}:\n{self.log_tail()}"
