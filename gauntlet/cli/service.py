"""One service as a process: its log, its metrics port, its signals."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from gauntlet import files
from gauntlet.cli import load_config
from gauntlet.clock import pause
from gauntlet.errors import InUse, StateUnavailable
from gauntlet.structured_logging import get_logger

if TYPE_CHECKING:
    from gauntlet.config import Config

_log = get_logger("gauntlet.service")

_LINE = "%(asctime)s %(levelname)-7s %(name)s %(message)s"
_MODULES = {"router": "router.app", "evaluator": "evaluator.service.worker", "retrainer": "retrainer.app"}
_WAIT_SECONDS = 1.0
_PREDECESSOR_SECONDS = 15.0


def run(arguments: argparse.Namespace) -> int:
    """Run the service that the command names until SIGINT or SIGTERM, or until standard input closes: then the parent
    process is gone."""
    config = load_config.load(arguments.config)
    logging.basicConfig(level=config.observe.log_level.upper(), format=_LINE, stream=sys.stderr)
    with asyncio.Runner(loop_factory=_event_loop) as runner:
        return runner.run(_run(arguments.command, config, die_with_stdin=arguments.die_with_stdin))


def _event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it is installed: it saves a third of a request's CPU time."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _run(name: str, config: Config, *, die_with_stdin: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if die_with_stdin:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    with contextlib.ExitStack() as stack:
        lock = await _claimed(name, config, stop, _PREDECESSOR_SECONDS if die_with_stdin else 0.0)
        if lock is None:
            return 0
        stack.callback(lock.release)
        service = importlib.import_module(_MODULES[name])
        if name == "router":
            await _put_in_force(config)
        elif not await _champion_registered(name, config, stop):
            return 0
        if name == "retrainer":
            from gauntlet import preflight

            preflight.refuse_functions(config)
            preflight.refuse_records(config)
        from gauntlet import telemetry

        telemetry.initialise(config.experiment, name)  # type: ignore[arg-type]  # argparse knows only the three
        if name == "evaluator":
            stack.enter_context(_metrics(config))
        gc.freeze()  # what is imported stays: each full collection would walk all of it again
        await service.serve(config, stop)
    return 0


async def _claimed(name: str, config: Config, stop: asyncio.Event, seconds: float) -> FileLock | None:
    """The data folder for this service alone, or `InUse` after some seconds; None if `stop` came first.

    Where `up` was killed and started again, the service of before may be about to leave.
    """
    began = waited = time.monotonic()
    while not stop.is_set():
        try:
            return files.claim(Path(config.data), name)
        except InUse as error:
            if time.monotonic() >= began + seconds:
                raise
            if waited == began:
                _log.info("waiting_for_predecessor", service=name, reason=error, next=f"refused after {seconds:g} s")
        await pause(stop, _WAIT_SECONDS)
        waited = time.monotonic()
    return None


async def _put_in_force(config: Config) -> None:
    """The router's first start registers the champion. Later ones need no state store: the router keeps a copy; they
    say which settings differ from those in force, and refuse those that would corrupt."""
    from gauntlet import first_start, in_force

    with contextlib.suppress(StateUnavailable):
        await first_start.ensure(config)
    found = await in_force.read(config)
    if found is not None:
        for difference in in_force.differences(config, found):
            _log.warning("setting_differs", what=difference.at_start, next="started all the same")
    try:
        in_force.keep(config)
    except OSError as error:  # on a full disk the router serves all the same
        _log.warning("settings_not_kept", error=error, next="compared with those of the start before next time")


async def _champion_registered(name: str, config: Config, stop: asyncio.Event) -> bool:
    """Wait for the control record that the router's first start writes; False if `stop` came first."""
    from gauntlet import adapters, control

    state = adapters.state(config)
    try:
        waiting = False
        while not stop.is_set():
            _, record = await control.read(state, config.experiment)
            if record is not None:
                return True
            if not waiting:
                _log.info(
                    "waiting_for_champion", service=name, next="starts once the router has registered the champion"
                )
            waiting = True
            await state.wait(_WAIT_SECONDS)
        return False
    finally:
        await state.close()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 1024):  # the raw descriptor: a lock on sys.stdin would outlive the interpreter's end
        pass
    with contextlib.suppress(RuntimeError):  # the loop ended first
        loop.call_soon_threadsafe(stop.set)


@contextlib.contextmanager
def _metrics(config: Config) -> Iterator[None]:
    """The metrics of the evaluator over HTTP, while this lasts, from a thread of its own: its event loop computes."""
    from gauntlet import http_server
    from gauntlet.metrics_app import metrics_app

    with http_server.listen(config.observe.host, config.observe.evaluator_port, "observe.evaluator_port") as listener:
        http_server.publish(listener, Path(config.data) / "evaluator.address")
        with http_server.served_beside(metrics_app("evaluator"), listener, config.http, max_body_bytes=0):
            yield
