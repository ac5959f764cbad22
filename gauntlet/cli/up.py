"""`gauntlet up`: supervises the three services, each a process.

They start side by side, a crashed one is restarted, and all stop together.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from gauntlet import files
from gauntlet.cli import load_config
from gauntlet.config.rehearsal import notice
from gauntlet.errors import ConfigError, StateUnavailable

if TYPE_CHECKING:
    from gauntlet.config import Config

SERVICES = ("router", "evaluator", "retrainer")
BACKOFF_SECONDS = (0.2, 1.0, 5.0, 15.0)
_STABLE_SECONDS = 60.0  # a service that ran this long restarts without a longer pause again
STOP_SECONDS = 10.0
_REFUSED = 2  # exit code of a configuration error


class Services:
    """The processes of one configuration.

    `backoff` holds the seconds before the first, second, ... restart in a row; the last one repeats. A service that is
    asked to stop has `stop_seconds` to do so.
    """

    def __init__(
        self,
        path: Path,
        logs: Path | None = None,
        *,
        backoff: Sequence[float] = BACKOFF_SECONDS,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._path = path
        self._logs = logs
        self._backoff = backoff
        self._stop_seconds = stop_seconds
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    async def run(self, name: str) -> int:
        """Run a service, restarting it when it dies; returns its exit code once it is stopped, or refuses to start.

        A refusal after a crash is tried again: the others serve on meanwhile.
        """
        failures = 0
        while True:
            began = time.monotonic()
            process = await self._start(name)
            code = await process.wait()
            if self._stopping.is_set() or (code == _REFUSED and not failures):
                return code
            failures = 1 if time.monotonic() - began > _STABLE_SECONDS else failures + 1
            pause = self._backoff[min(failures, len(self._backoff)) - 1]
            _say(f"gauntlet: {name} ended with {code}; starting it again in {pause:g} s", sys.stderr)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return code

    async def _start(self, name: str) -> asyncio.subprocess.Process:
        log = (self._logs / f"{name}.log").open("ab") if self._logs else None
        try:
            # Standard input is a pipe that closes with this process, however that ends: then the service stops too.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gauntlet.cli",
                name,
                str(self._path),
                "--die-with-stdin",
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            if log is not None:
                log.close()
        self.processes[name] = process
        if self._stopping.is_set():  # `stop` was called during the start and did not see this process
            process.kill()
        return process

    async def stop(self) -> None:
        """Ask all services to stop; those still running after `stop_seconds` are killed."""
        self._stopping.set()
        running = [p for p in self.processes.values() if p.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        if not running:
            return
        waits = [asyncio.create_task(process.wait()) for process in running]
        _, pending = await asyncio.wait(waits, timeout=self._stop_seconds)
        if pending:
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.wait(pending)


def run(arguments: argparse.Namespace) -> int:
    """Start everything for the configuration and stay until Ctrl-C."""
    path = Path(arguments.config)
    config = load_config.load(path)
    lock = files.claim(Path(config.data), "up")
    try:
        return asyncio.run(_run(path, config))
    finally:
        lock.release()


async def _run(path: Path, config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await _refuse_damaged(config)
    address = Path(config.data) / "router.address"
    try:
        address.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{address}: {files.unusable(address) or error.strerror}") from error
    services = Services(path)
    tasks = {name: asyncio.create_task(services.run(name)) for name in SERVICES}
    waiting = asyncio.create_task(stop.wait())
    try:
        await _announce(path, config, address, [*tasks.values(), waiting])
        await asyncio.wait([*tasks.values(), waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await services.stop()
        waiting.cancel()
    codes = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
    if stop.is_set():
        return 0
    refused = [name for name, code in codes.items() if code == _REFUSED]
    if not refused:
        raise SystemExit(1)
    raise ConfigError(f"the {refused[0]} refused to start, for the reason printed above; everything is stopped")


async def _refuse_damaged(config: Config) -> None:
    """Raise `DamagedFile` where no service could read the state: said once, instead of by each of them."""
    from gauntlet import adapters

    with contextlib.suppress(StateUnavailable):  # it may answer when they ask
        await adapters.state(config).close()


async def _announce(path: Path, config: Config, address: Path, ends: list[asyncio.Task[object]]) -> None:
    """Print the URLs as soon as the router listens; return silently if anything ends before that."""
    while not (address.exists() and address.read_text().endswith("\n")):  # the router may be writing it
        done, _ = await asyncio.wait(ends, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return
    url = address.read_text().strip()
    if (rehearsal := notice(config)) is not None:
        _say(rehearsal)
    _say(f"""\
gauntlet is up: {config.experiment}, champion {await _champion(config)}
  predict   POST {url}/v1/predict
  outcomes  POST {url}/v1/outcomes
  status    gauntlet status {path}, or GET {url}/v1/experiments/{config.experiment}
  retrain   gauntlet retrain check {path}, or trigger, jobs, report
  metrics   GET  {url}/metrics, API page {url}/docs
Ctrl-C stops everything.""")


def _say(text: str, stream: TextIO | None = None) -> None:
    """Print a line; where nobody can read it (a full disk, a closed pipe), the services go on all the same."""
    with contextlib.suppress(OSError):
        print(text, file=stream, flush=True)


async def _champion(config: Config) -> str:
    from gauntlet import adapters, control

    state = adapters.state(config)
    try:
        _, record = await control.read(state, config.experiment)
    except StateUnavailable:
        record = None
    finally:
        await state.close()
    return record.champion if record else "unknown (the state store does not answer)"
