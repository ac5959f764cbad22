"""`gauntlet demo`: start the three services for the flights' January model, replay 2013, reconcile, report.

What happens in between is decided by the services and the data. The script does two things an impatient colleague would
do: it hands in a model with a unit mistake in March, and one that can't take a missing value in September.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import skops.io

from gauntlet import bootstrap, files
from gauntlet.cli.demo import flights as data
from gauntlet.cli.demo import page, summary
from gauntlet.cli.demo.replay import Replay, Submission
from gauntlet.cli.up import SERVICES, Services
from gauntlet.config import load as configs
from gauntlet.errors import ConfigError

EXPERIMENT = "flights"

_CONFIG = """\
# Written by `gauntlet demo`; the same file works with `gauntlet up`.
experiment: flights
task: classification
data: data
log: {log}
state: {state}
clock: events                  # the flights' own time, not the wall clock

champion:
  model: january.skops         # logistic regression, trained on January 2013 and never again
  reference: january.csv.gz    # what it was trained on: the reference for drift
  target: late
  input: rows

features:
{features}

router: {{port: {port}}}
observe: {{evaluator_port: {evaluator_port}, retrainer_port: {retrainer_port}}}

evidence:
  metric: log_loss
  form: paired                 # both arms are judged on the same flights
  min_samples: 40000           # about 45 days of flights with an outcome
  outcome_horizon: 1d          # all but a few flights have landed a day after their scheduled departure
  block: 12h                   # delays within half a day go together; a win is judged on half-day sums
  block_offset: 9h             # blocks begin at 4 in the morning and 4 in the afternoon in New York
  harm_block: 12h
  min_blocks: 20
  min_harm_blocks: 10

shadow: {{fraction: 1.0, min_time: 7d, min_outcomes: 5000}}
ramp:
  - {{share: 0.01, min_time: 2d}}
  - {{share: 0.05, min_time: 2d}}
  - {{share: 0.10, min_time: 3d}}
bake: {{time: 21d}}

retrain: {{window: 60d, cool_down: 14d, min_data_points: 5000, min_improvement: 0.01}}
"""

SUBMISSIONS = (
    Submission(
        day=60,
        name="fahrenheit-mixup",
        train=data.train_in_celsius,
        reason="hand-made challenger: trained with temperatures in Celsius, served in Fahrenheit",
    ),
    Submission(
        day=261,
        name="no-imputer",
        train=data.train_without_imputer,
        reason="hand-made challenger: can't take a missing weather reading",
    ),
)


def run(folder: Path, *, days: int, log: str, state: str, hold: bool) -> int:
    """Run the demo in `folder`; 0 when every flight and every outcome is accounted for."""
    ports = _free_ports(3)
    print(
        f"status  http://127.0.0.1:{ports[0]}/v1/experiments/{EXPERIMENT}  (answers from the first flight on)",
        flush=True,
    )
    with _only_one(folder):
        try:
            return asyncio.run(_run(folder.resolve(), ports, days=days, log=log, state=state, hold=hold))
        except KeyboardInterrupt:
            print("\nstopped; nothing is left running", file=sys.stderr)
            return 130


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """A fresh folder, locked: the lock dies with this process, so a killed demo blocks nobody."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = files.lock(folder.parent / f".{folder.name}.lock")
    except BlockingIOError:
        raise ConfigError(f"another demo is running in {folder}; wait for it, or give --run another folder") from None
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        yield
    finally:
        lock.release()


async def _run(folder: Path, ports: list[int], *, days: int, log: str, state: str, hold: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    began = time.monotonic()
    flights = await asyncio.to_thread(data.load)
    path = await asyncio.to_thread(_prepare, folder, flights, ports, log, state)
    config = configs.load(path)
    await bootstrap.ensure(config)
    services = Services(path, logs=folder)
    tasks = {name: asyncio.create_task(services.run(name)) for name in SERVICES}
    stopping = asyncio.create_task(stop.wait())
    replay = asyncio.create_task(Replay(config, flights, folder, ports[0], days, SUBMISSIONS).run())
    try:
        done, _ = await asyncio.wait([replay, stopping, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        if stopping in done:
            raise KeyboardInterrupt
        if replay not in done:
            ended = ", ".join(name for name, task in tasks.items() if task in done)
            raise ConfigError(f"{ended} ended early; {folder}/{ended}.log says why")
        sent = replay.result()
        print("\nreading the recorded events …", flush=True)
        facts = await summary.collect(config, flights, sent, began)
        code = _report(folder, facts)
        if hold:
            print("holding; Ctrl-C stops everything", flush=True)
            await stop.wait()
        return code
    finally:
        replay.cancel()
        stopping.cancel()
        await services.stop()
        await asyncio.gather(replay, *tasks.values(), return_exceptions=True)


def _report(folder: Path, facts: summary.Facts) -> int:
    """Print the summary, write it as JSON and as a page, name their paths; the exit code says whether it adds up."""
    report, html = folder / "summary.json", folder / "report.html"
    report.write_bytes(summary.as_json(facts))
    html.write_text(page.render(facts), encoding="utf-8")
    print(summary.as_text(facts))
    print(f"\nsummary  {_shown(report)}\npage     {_shown(html)}\nservice logs and recorded events in {_shown(folder)}")
    return 0 if facts.reconciled else 1


def _shown(path: Path) -> str:
    return os.path.relpath(path)


def _prepare(folder: Path, flights: data.Flights, ports: list[int], log: str, state: str) -> Path:
    """Train the January model and write it, its reference and the configuration into `folder`."""
    rows, labels = flights.between(data.YEAR_START, data.YEAR_START + 31 * data.DAY)
    skops.io.dump(data.train(rows, labels), folder / "january.skops")
    with gzip.open(folder / "january.csv.gz", "wt", newline="", compresslevel=1) as file:
        writer = csv.DictWriter(file, [*data.FEATURES, "late"])
        writer.writeheader()
        writer.writerows({**row, "late": int(label)} for row, label in zip(rows, labels, strict=True))
    features = [f"  - {{name: {name}, required: {str(name not in data.WEATHER).lower()}}}" for name in data.NUMERIC]
    features += [f"  - {{name: {name}, kind: text}}" for name in data.CATEGORICAL]
    path = folder / "config.yaml"
    path.write_text(
        _CONFIG.format(
            log=log,
            state=state,
            features="\n".join(features),
            port=ports[0],
            evaluator_port=ports[1],
            retrainer_port=ports[2],
        ),
        encoding="utf-8",
    )
    return path


def _free_ports(n: int) -> list[int]:
    """Ports that are free now, all at once so that they differ."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
