"""Events a second of the evaluator: a local log of predictions, outcomes and shadow scores, read by the real worker.

A champion with a drift reference of 12 features against a challenger at 10 %; outcomes an hour later, for nine of ten.
`as it came` shows the worker the log in the steps in which it was written; `a backlog` shows all of it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from evaluator.service.checkpoint import Checkpoint
from evaluator.service.pipeline import Pipeline
from evaluator.service.worker import Worker
from gauntlet import adapters, events, ids, keys
from gauntlet.config import Config
from gauntlet.config import load as configs
from gauntlet.log import Record, Stored
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from gauntlet.losses import loss
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.types import CHALLENGER, CHAMPION, Task

FEATURES = [f"f{i:02d}" for i in range(12)]
START = 1_700_000_000.0
SHARE = 0.1
_EVERY = 3.0  # seconds of event time between predictions
_STEP = 2000  # predictions in one step of a log that is read as it comes
_DELAY = 3600.0

_SETTINGS = """
experiment: bench
task: classification
champion: {model: "benchmarks.predict_route:LinearModel"}
evidence: {outcome_horizon: 2h, block: 4h, harm_block: 1h, form: FORM}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    arguments = parser.parse_args()
    if arguments.profile:
        _profile(arguments.predictions)
        return
    for line in run(arguments.predictions, arguments.rounds):
        print(line)


def run(predictions: int = 40_000, rounds: int = 3) -> list[str]:
    """The table's lines: the median of `rounds` runs each, over the worker's own CPU time (all its threads)."""
    lines = [
        f"| {predictions:,} predictions of {len(FEATURES)} features, outcomes for 90 %, drift on"
        " | events | events/s of CPU | microseconds an event |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        for shadow in (False, True):
            config, count = asyncio.run(_prepare(Path(name) / f"shadow-{shadow}", predictions, shadow))
            for stepwise in (True, False):
                seconds = statistics.median(
                    asyncio.run(_evaluate(config, count, stepwise=stepwise, run=run)) for run in range(rounds)
                )
                title = f"{'with' if shadow else 'without'} shadow scores, {'as it came' if stepwise else 'a backlog'}"
                lines.append(f"| {title} | {count:,} | {count / seconds:,.0f} | {1e6 * seconds / count:.1f} |")
    return lines


def _profile(predictions: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        config, count = asyncio.run(_prepare(Path(name), predictions, True))
        profile = cProfile.Profile()
        asyncio.run(_evaluate(config, count, stepwise=True, run=0, profile=profile))
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)


async def _prepare(folder: Path, n: int, shadow: bool) -> tuple[Config, int]:
    """A registry with two versions and a log of `n` predictions with what belongs to them; the number of its events."""
    config = msgspec.structs.replace(
        configs.parse(_SETTINGS.replace("FORM", "paired" if shadow else "split")), data=str(folder)
    )
    rng = np.random.default_rng(20130101)
    x = rng.normal(size=(n, len(FEATURES)))
    truth = rng.random(n) < 1 / (1 + np.exp(-x[:, 0]))
    champion, challenger = (_probabilities(x @ rng.normal(0.2, 0.1, len(FEATURES))) for _ in range(2))
    treated = rng.random(n) < SHARE
    answered = rng.random(n) < 0.9
    schema = Schema(task=Task.CLASSIFICATION, features=tuple(Feature(name=f) for f in FEATURES), classes=(0, 1))
    registry = adapters.registry(config)
    first = slice(0, min(n, 5000))
    registry.register(
        config.champion.model,
        schema,
        created_at=0.0,
        reference={
            "columns": dict(zip(FEATURES, x[first].T.tolist(), strict=True)),
            "at": list(range(first.stop)),
            "errors": loss("log_loss", champion[first], truth[first]).tolist(),
            "errors_at": list(range(first.stop)),
        },
    )
    registry.register(config.champion.model, schema, created_at=0.0)
    lag = int(_DELAY / _EVERY)
    names = [ids.uuid7(START + _EVERY * i) for i in range(n)]
    rows, served, shadowed = (
        x.tolist(),
        np.where(treated[:, None], challenger, champion),
        np.where(treated[:, None], champion, challenger),
    )
    writer = LocalLogWriter(folder / "log", "router", durable=False)
    count = 0
    for start in range(0, n + lag, 1000):
        records: list[Record] = []
        for i in range(start, min(n, start + 1000)):
            arm = CHALLENGER if treated[i] else CHAMPION
            at = START + _EVERY * i
            records.append(
                _record(
                    keys.PREDICTIONS,
                    events.Prediction(
                        id=names[i],
                        at=at,
                        experiment="bench",
                        unit=names[i],
                        bucket=0,
                        assigned=arm,
                        served=arm,
                        propensity=SHARE,
                        allocation=2,
                        champion="v0001",
                        challenger="v0002",
                        rollout="bench-r0001",
                        output=served[i].tolist(),
                        features=dict(zip(FEATURES, rows[i], strict=True)),
                    ),
                )
            )
            if shadow:
                records.append(
                    _record(
                        keys.PREDICTIONS,
                        events.Shadow(
                            id=names[i],
                            at=at,
                            experiment="bench",
                            arm=CHAMPION if treated[i] else CHALLENGER,
                            model="v0001" if treated[i] else "v0002",
                            output=shadowed[i].tolist(),
                            rollout="bench-r0001",
                        ),
                    )
                )
        for i in range(max(0, start - lag), min(n, start + 1000 - lag)):
            if answered[i]:
                records.append(
                    _record(
                        keys.OUTCOMES,
                        events.Outcome(
                            id=names[i], at=START + _EVERY * i + _DELAY, experiment="bench", value=int(truth[i])
                        ),
                    )
                )
        await writer.append(records)
        count += len(records)
    await writer.close()
    return config, count


def _probabilities(logits: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-logits))
    return np.column_stack([1 - p, p])


def _record(topic: str, event: Any) -> Record:
    return Record(topic, event.id, event.at, events.encode(event))


class _Nowhere:
    """A log and a state that take everything and keep nothing."""

    async def append(self, records: Any) -> None:
        return

    async def get(self, key: str) -> tuple[int, bytes]:
        return 0, b""

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return expected + 1


class _Unrolled:
    """A reader that shows the log up to a moment of event time, which moves on when all before it was read."""

    def __init__(self, reader: LocalLogReader, last: float) -> None:
        self._reader = reader
        self._last = last
        self._now = START
        self._read = 0
        self.more = True

    async def partitions(self, topic: str) -> list[str]:
        return await self._reader.partitions(topic)

    async def read(self, topic: str, partition: str, offset: int, limit: int) -> list[Stored]:
        found = await self._reader.read(topic, partition, offset, limit)
        return [record for record in found if record.at <= self._now]

    async def end(self, topic: str, partition: str) -> int:
        return await self._reader.seek(topic, partition, self._now + 1e-6)

    async def seek(self, topic: str, partition: str, at: float) -> int:
        return await self._reader.seek(topic, partition, at)

    async def close(self) -> None:
        return

    def go_on(self) -> bool:
        self._now += _STEP * _EVERY
        return self._now <= self._last + _STEP * _EVERY


async def _evaluate(
    config: Config, count: int, *, stepwise: bool, run: int, profile: cProfile.Profile | None = None
) -> float:
    """CPU seconds that a fresh worker needs for the whole log; checks that it counted all of it."""
    folder = Path(config.data) / f"evaluator-{stepwise}-{run}"
    checkpoint = Checkpoint(folder / "evaluator.db")
    pipeline = Pipeline(config, adapters.registry(config), checkpoint)
    reader: Any = LocalLogReader(Path(config.data) / "log")
    unrolled = _Unrolled(reader, START + _EVERY * count + _DELAY)
    sink: Any = _Nowhere()
    worker = Worker(config, pipeline, checkpoint, unrolled if stepwise else reader, sink, sink)  # type: ignore[arg-type]
    if profile is not None:
        asyncio.to_thread = _inline  # type: ignore[assignment] - the profiler sees one thread
        profile.enable()
    before = time.process_time()
    while True:
        while await worker.step():
            pass
        if not stepwise or not unrolled.go_on():
            break
    await worker.commit()
    seconds = time.process_time() - before
    if profile is not None:
        profile.disable()
    await reader.close()
    checkpoint.close()
    counts = pipeline.counts
    seen = counts["predictions"] + counts["shadows"] + counts["outcomes"]
    if seen != count or counts["joined"] != counts["outcomes"]:
        raise SystemExit(f"{count} events were written, and the evaluator counted {dict(counts)}")
    return seconds


async def _inline(call: Any, /, *arguments: Any, **named: Any) -> Any:
    return call(*arguments, **named)


if __name__ == "__main__":
    main()
