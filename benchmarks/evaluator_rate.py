"""Events a second of the evaluator: a local log of predictions, outcomes and shadow scores, read by the real worker.

A champion with a drift reference of 12 features against a challenger at 10 %; outcomes an hour later, for nine of ten.
`as it came` shows the worker the log in the steps in which it was written; `a backlog` shows all of it at once.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks import header, main, row
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
from gauntlet.registry.reference import Reference
from gauntlet.types import Task

FEATURES = [f"f{i:02d}" for i in range(12)]
START = 1_700_000_000.0
SHARE = 0.1
_EVERY = 3.0  # seconds of event time between predictions
_STEP = 2000  # predictions in one step of a log that is read as it comes
_GATHERED = 20  # shadow scores in a record: those of 20 ms at a thousand requests a second
_DELAY = 3600.0

_VERSIONS = {"champion": "v0001", "challenger": "v0002"}
_CONTENDER = events.Contender(rollout="bench-r0001", challenger=_VERSIONS["challenger"], propensity=SHARE)
_SETTINGS = """
experiment: bench
task: classification
champion: {model: "benchmarks.predict_route:LinearModel"}
evidence: {outcome_horizon: 2h, block: 4h, harm_block: 1h, form: FORM}
"""


def run(predictions: int = 40_000, rounds: int = 3) -> Iterator[str]:
    """The table's lines: the median of `rounds` runs each, over the worker's own CPU time (all its threads)."""
    what = f"{predictions:,} predictions of {len(FEATURES)} features, outcomes for 90 %, drift on"
    yield header(what, "events", "events/s of CPU", "microseconds an event")
    with tempfile.TemporaryDirectory() as name:
        for shadow in (False, True):
            config, count = asyncio.run(_prepare(Path(name) / f"shadow-{shadow}", predictions, shadow))
            for stepwise in (True, False):
                seconds = statistics.median(
                    asyncio.run(_evaluate(config, count, stepwise=stepwise, run=run)) for run in range(rounds)
                )
                title = f"{'with' if shadow else 'without'} shadow scores, {'as it came' if stepwise else 'a backlog'}"
                yield row(title, f"{count:,}", f"{count / seconds:,.0f}", f"{1e6 * seconds / count:.1f}")


async def _prepare(folder: Path, n: int, shadow: bool) -> tuple[Config, int]:
    """A registry with two versions and a log of `n` predictions with what belongs to them; the number of its events."""
    config = configs.parse(_SETTINGS.replace("FORM", "paired" if shadow else "split"))
    config = msgspec.structs.replace(config, data=str(folder))
    rng = np.random.default_rng(20130101)
    x = rng.normal(size=(n, len(FEATURES)))
    truth = rng.random(n) < 1 / (1 + np.exp(-x[:, 0]))
    champion, challenger = (_probabilities(x @ rng.normal(0.2, 0.1, len(FEATURES))) for _ in range(2))
    treated, answered = rng.random(n) < SHARE, rng.random(n) < 0.9
    _register(config, x[:5000], champion[:5000], truth[:5000])
    writer = LocalLogWriter(folder / "log", "router", durable=False)
    names, lag = [ids.uuid7(START + _EVERY * i) for i in range(n)], int(_DELAY / _EVERY)
    for start in range(0, n + lag, 1000):
        records: list[Record] = []
        scored: list[events.Shadow] = []
        for i in range(start, min(n, start + 1000)):
            arms = ("challenger", "champion") if treated[i] else ("champion", "challenger")
            outputs = {"champion": champion[i].tolist(), "challenger": challenger[i].tolist()}
            shared: Any = {"id": names[i], "at": START + _EVERY * i, "experiment": "bench"}
            prediction = events.Prediction(
                unit=names[i],
                bucket=0,
                assigned=arms[0],
                served=arms[0],
                allocation=2,
                champion=_VERSIONS["champion"],
                contenders=[_CONTENDER],
                rollout=_CONTENDER.rollout if treated[i] else None,
                output=outputs[arms[0]],
                features=dict(zip(FEATURES, x[i].tolist(), strict=True)),
                **shared,
            )
            records.append(_record(keys.PREDICTIONS, prediction))
            if shadow:
                rollout = None if treated[i] else _CONTENDER.rollout
                model, output = _VERSIONS[arms[1]], outputs[arms[1]]
                scored.append(events.Shadow(arm=arms[1], model=model, output=output, rollout=rollout, **shared))
            if scored and (len(scored) == _GATHERED or i == n - 1):
                records.append(_record(keys.PREDICTIONS, events.Shadows.of(scored)))
                scored = []
        for i in filter(answered.__getitem__, range(max(0, start - lag), min(n, start + 1000 - lag))):
            at = START + _EVERY * i + _DELAY
            outcome = events.Outcome(id=names[i], at=at, experiment="bench", value=int(truth[i]))
            records.append(_record(keys.OUTCOMES, outcome))
        await writer.append(records)
    await writer.close()
    return config, n * (2 if shadow else 1) + int(answered.sum())


def _register(config: Config, x: np.ndarray, outputs: np.ndarray, truth: np.ndarray) -> None:
    """Both versions; the first with these rows as its drift reference."""
    schema = Schema(task=Task.CLASSIFICATION, features=tuple(Feature(name=f) for f in FEATURES), classes=(0, 1))
    reference = Reference(
        columns=dict(zip(FEATURES, x.T.tolist(), strict=True)),
        at=list(map(float, range(len(x)))),
        outputs=outputs.tolist(),
        truths=truth.astype(float).tolist(),
        losses=loss("log_loss", outputs, truth).tolist(),
    )
    registry = adapters.registry(config)
    registry.register(config.champion.model, schema, created_at=0.0, reference=reference)
    registry.register(config.champion.model, schema, created_at=0.0)


def _probabilities(logits: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-logits))
    return np.column_stack([1 - p, p])


def _record(topic: str, event: Any) -> Record:
    return Record(topic, event.id, event.at, events.encode(event))


class Nowhere:
    """A log and a state that take everything and keep nothing."""

    async def append(self, records: Any) -> None:
        return

    async def get(self, key: str) -> tuple[int, bytes]:
        return 0, b""

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return expected + 1


class GrowingLog:
    """A reader that shows the log up to a moment of event time; `advance` moves it on."""

    def __init__(self, reader: LocalLogReader, last: float) -> None:
        self._reader = reader
        self._last = last
        self._now = START

    async def partitions(self, topic: str) -> list[str]:
        return await self._reader.partitions(topic)

    async def read(self, topic: str, partition: str, offset: int, limit: int) -> list[Stored]:
        found = await self._reader.read(topic, partition, offset, limit)
        return list(itertools.takewhile(lambda record: record.at <= self._now, found))

    async def end(self, topic: str, partition: str) -> int:
        return await self._reader.seek(topic, partition, self._now + 1e-6)

    async def seek(self, topic: str, partition: str, at: float) -> int:
        return await self._reader.seek(topic, partition, at)

    async def close(self) -> None:
        return

    def advance(self) -> bool:
        self._now += _STEP * _EVERY
        return self._now <= self._last + _STEP * _EVERY


async def _evaluate(config: Config, count: int, *, stepwise: bool, run: int) -> float:
    """CPU seconds that a fresh worker needs for the whole log; checks that it counted all of it."""
    folder = Path(config.data) / f"evaluator-{stepwise}-{run}"
    checkpoint = Checkpoint(folder / "evaluator.db")
    pipeline = Pipeline(config, adapters.registry(config), checkpoint)
    reader: Any = LocalLogReader(Path(config.data) / "log")
    growing = GrowingLog(reader, START + _EVERY * count + _DELAY)
    sink: Any = Nowhere()
    worker = Worker(config, pipeline, checkpoint, growing if stepwise else reader, sink, sink)  # type: ignore[arg-type]
    gc.freeze()  # as the service's process does
    before = time.process_time()
    while True:
        while await worker.step():
            pass
        if not stepwise or not growing.advance():
            break
    await worker.commit()
    seconds = time.process_time() - before
    await reader.close()
    checkpoint.close()
    counts = pipeline.counts
    seen = counts["predictions"] + counts["shadows"] + counts["outcomes"]
    if seen != count or counts["joined"] != counts["outcomes"]:
        raise SystemExit(f"{count} events were written, and the evaluator counted {dict(counts)}")
    return seconds


if __name__ == "__main__":
    main(run)
