"""`gauntlet demo`: start the three services for the flights' January model, replay 2013, reconcile, report.

The services and the data decide what happens. The demo itself only hands in two broken challengers: one with a unit
mistake in March, one that can't take a missing value in September.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from importlib.resources import files as package_files
from pathlib import Path
from string import Template

import pandas as pd
import skops.io
from threadpoolctl import threadpool_limits

from gauntlet import first_start
from gauntlet.cli.demo import flights as data
from gauntlet.cli.demo import report
from gauntlet.cli.demo.replay import Replay, Submission
from gauntlet.cli.demo.report_model import DemoReport
from gauntlet.cli.demo.run_folder import fresh
from gauntlet.cli.up import SERVICES, Services
from gauntlet.config import load as configs
from gauntlet.errors import BadInput, ConfigError
from gauntlet.faults import disk_full

EXPERIMENT = "flights"

_CELSIUS = "hand-made challenger: trained with temperatures in Celsius, served in Fahrenheit"
_NO_IMPUTER = "hand-made challenger: can't take a missing weather reading"
SUBMISSIONS = (
    Submission(day=60, name="fahrenheit-mixup", train=data.train_in_celsius, reason=_CELSIUS),
    Submission(day=261, name="no-imputer", train=data.train_without_imputer, reason=_NO_IMPUTER),
)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo in its folder; 0 when every flight and every outcome is accounted for.

    Raises `BadInput` for a folder that holds anything but a demo's run, and where its disk is full.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # replay, services and jobs share the cores already
        os.environ.setdefault(name, "1")
    threadpool_limits(1)  # this process has loaded its libraries before
    ports = _free_ports(3)
    status = f"http://127.0.0.1:{ports[0]}/v1/experiments/{EXPERIMENT}"
    folder = Path(arguments.folder)
    try:
        with fresh(folder):
            print(f"status  {status}  (answers from the first flight on)", flush=True)
            return asyncio.run(_run(folder.resolve(), ports, arguments))
    except KeyboardInterrupt:
        print("\nstopped; nothing is left running", file=sys.stderr)
        return 130
    except OSError as error:
        if not disk_full(error):
            raise
        raise BadInput(f"--run {folder}: {error.strerror}: free space on its disk, and start again") from error


async def _run(folder: Path, ports: list[int], arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    began = time.monotonic()
    flights = await asyncio.to_thread(data.load)
    path = await asyncio.to_thread(_prepare, folder, flights, ports, arguments.log, arguments.state)
    config = configs.load(path)
    await first_start.ensure(config)
    services = Services(path, logs=folder)
    tasks = {name: asyncio.create_task(services.run(name)) for name in SERVICES}
    stopping = asyncio.create_task(stop.wait())
    replay = asyncio.create_task(Replay(config, flights, folder, ports[0], arguments.days, SUBMISSIONS).run())
    try:
        done, _ = await asyncio.wait([replay, stopping, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        if stopping in done:
            raise KeyboardInterrupt
        if replay not in done:
            ended = ", ".join(name for name, task in tasks.items() if task in done)
            raise ConfigError(f"{ended} ended early; {folder}/{ended}.log says why")
        sent = replay.result()
        print("\nreading the recorded events …", flush=True)
        code = _write(folder, await report.collect(config, flights, sent, SUBMISSIONS, began))
        if arguments.hold:
            print("holding; Ctrl-C stops everything", flush=True)
            await stop.wait()
        return code
    finally:
        replay.cancel()
        stopping.cancel()
        await services.stop()
        await asyncio.gather(replay, *tasks.values(), return_exceptions=True)


def _write(folder: Path, found: DemoReport) -> int:
    """Print the report, write it as JSON and as a page, name their paths; 0 if everything adds up, else 1."""
    summary, html = folder / "summary.json", folder / "report.html"
    summary.write_bytes(report.to_json(found))
    html.write_text(report.to_html(found), encoding="utf-8")
    print(report.to_text(found))
    print(f"\nsummary  {os.path.relpath(summary)}\npage     {os.path.relpath(html)}")
    print(f"service logs and recorded events in {os.path.relpath(folder)}")
    return 0 if found.reconciled else 1


def _prepare(folder: Path, flights: data.Flights, ports: list[int], log: str, state: str) -> Path:
    """Train the January model and write it, its reference and the configuration into `folder`."""
    rows, labels = flights.between(data.YEAR_START, data.YEAR_START + 31 * data.DAY)
    skops.io.dump(data.train(rows, labels), folder / "january.skops")
    reference = pd.DataFrame(rows).assign(late=labels.astype(int))
    reference.to_csv(folder / "january.csv.gz", index=False, compression={"method": "gzip", "compresslevel": 1})
    features = [f"  - {{name: {name}, required: {str(name not in data.WEATHER).lower()}}}" for name in data.NUMERIC]
    features += [f"  - {{name: {name}, kind: text}}" for name in data.CATEGORICAL]
    settings = dict(zip(("port", "evaluator_port", "retrainer_port"), map(str, ports), strict=True))
    settings |= {"log": log, "state": state, "features": "\n".join(features)}
    template = Template(package_files(__package__).joinpath("flights.yaml").read_text(encoding="utf-8"))
    path = folder / "config.yaml"
    path.write_text(template.substitute(settings), encoding="utf-8")
    return path


def _free_ports(n: int) -> list[int]:
    """Ports that are free now, all at once so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [int(free.getsockname()[1]) for free in sockets]
