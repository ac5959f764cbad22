"""Small streams of events for the evaluator's tests: their making, a log that can fail, and fresh evaluators."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import NOTHING, TrackedMetrics
from evaluator.service.checkpoint import Checkpoint, EvaluatorState
from evaluator.service.join import JoinTable
from evaluator.service.pipeline import Pipeline
from evaluator.service.worker import Worker, WorkerSettings
from gauntlet import adapters, events, keys
from gauntlet.config import Config
from gauntlet.config import load as configs
from gauntlet.errors import Conflict, LogUnavailable, StateUnavailable
from gauntlet.events import Contender
from gauntlet.log import Record, Stored
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.state import Versioned
from gauntlet.types import CHALLENGER, CHAMPION, Task

HORIZON = 100.0
BLOCK = 20.0
ROLLOUT = "test-r0001"

EAGER = WorkerSettings(predictions=40, outcomes=25, commit=0.0, discover=0.0, backoff=0.001)
"""Small steps, and a commit after every one of them."""

_SETTINGS = f"""
experiment: test
task: classification
champion: {{model: "nowhere:model"}}
features: [x]
evidence: {{outcome_horizon: {HORIZON:.0f}, block: {2 * BLOCK:.0f}, harm_block: {BLOCK:.0f}, form: split}}
bake: {{window: {4 * BLOCK:.0f}}}
"""


GUARDED = """
guardrails:
  - {metric: brier, margin: 0.01}
  - {metric: recall, label: 1, margin: 0.02}
  - {metric: fallback_rate, margin: 0.01}
  - {metric: error_rate, margin: 0.01}
  - {metric: coverage, margin: 0.01}
  - {metric: latency, margin: 0.01, quantile: 0.7}
segments: [country, plan]
"""
"""More YAML for `config`: everything is watched."""


AnyEvent = events.AnyEvent | events.Shadow


def config(folder: Path, text: str = "", *, task: Task = Task.CLASSIFICATION, **evidence: Any) -> Config:
    """The experiment `test` with three versions in its registry; `text` is more YAML, `evidence` that section."""
    classes = (0, 1) if task is Task.CLASSIFICATION else ()
    made = msgspec.structs.replace(configs.parse(_SETTINGS + text), data=str(folder), task=task, classes=list(classes))
    made = msgspec.structs.replace(made, evidence=msgspec.structs.replace(made.evidence, **evidence))
    registry = adapters.registry(made)
    for _ in range(3 - len(registry.versions())):
        registry.register(
            "nowhere:model", Schema(task=made.task, features=(Feature(name="x"),), classes=classes), created_at=0.0
        )
    return made


def contender(rollout: str = ROLLOUT, challenger: str = "v0002", propensity: float = 0.5, **more: Any) -> Contender:
    return Contender(rollout=rollout, challenger=challenger, propensity=propensity, **more)


def prediction(number: int, at: float, **changes: Any) -> events.Prediction:
    """Request `number`, answered by the champion under a rollout at 50 %; `propensity`, `challenger`, `rule` and
    `rollout` (None: none runs) change that one, `contenders` all."""
    facts: dict[str, Any] = {
        "id": f"p{number:06d}",
        "at": at,
        "experiment": "test",
        "unit": f"u{number}",
        "bucket": 0,
        "assigned": CHAMPION,
        "served": CHAMPION,
        "allocation": 2,
        "champion": "v0001",
        "output": [0.25, 0.75],
        "features": {"x": float(number % 7)},
        "seconds": 0.01 * (1 + number % 5),
        "segments": {"country": ("DE", "FR", "IT")[number // 3 % 3]},
    }
    one = {name: changes.pop(name) for name in ("propensity", "challenger", "rule") if name in changes}
    name = changes.pop("rollout", ROLLOUT)
    facts["contenders"] = [] if name is None else [contender(name, **one)]
    if changes.get("assigned") == CHALLENGER:
        facts["rollout"] = name
    return events.Prediction(**(facts | changes))


def treated(number: int, at: float, **changes: Any) -> events.Prediction:
    """Request `number`, answered by the challenger."""
    return prediction(number, at, **({"assigned": CHALLENGER, "served": CHALLENGER, "output": [0.5, 0.5]} | changes))


def shadow(number: int, at: float, **changes: Any) -> events.Shadow:
    """The challenger's answer to a request that the champion served."""
    facts: dict[str, Any] = {
        "id": f"p{number:06d}",
        "at": at,
        "experiment": "test",
        "arm": CHALLENGER,
        "model": "v0002",
        "output": [0.5, 0.5],
        "rollout": ROLLOUT,
    }
    return events.Shadow(**(facts | changes))


def outcome(number: int, at: float, value: Any = 1, **changes: Any) -> events.Outcome:
    return events.Outcome(**({"id": f"p{number:06d}", "at": at, "experiment": "test", "value": value} | changes))


def traffic(n: int, *, every: float = 1.0, start: int = 0, delay: float = 30.0) -> list[AnyEvent]:
    """`n` requests and, `delay` later, their outcomes, in the order of time; every third by the challenger, and for
    every other a shadow score."""
    found: list[AnyEvent] = []
    for i in range(start, start + n):
        at = 1000.0 + every * i
        found.append(treated(i, at) if i % 3 == 0 else prediction(i, at))
        if i % 2 and i % 3:
            found.append(shadow(i, at, output=[0.4 - 0.001 * (i % 11), 0.6 + 0.001 * (i % 11)]))
        found.append(outcome(i, at + delay, (i * i // 3) % 2))
    return sorted(found, key=lambda event: event.at)


def labelled(stream: Iterable[AnyEvent], made: Config) -> list[AnyEvent]:
    """The stream with the labels that a router gives the champion's requests in the continuous A/A slice."""
    found: list[AnyEvent] = []
    for event in stream:
        if isinstance(event, events.Prediction) and event.assigned == CHAMPION:
            label = events.Phantom(
                round=made.evidence.aa_number(event.at),
                propensity=made.evidence.aa_slice,
                drawn=random.Random(event.unit).random() < made.evidence.aa_slice,
            )
            event = msgspec.structs.replace(event, phantom=label)
        found.append(event)
    return found


def batch(found: Iterable[AnyEvent], source: str = "predictions/a") -> list[tuple[str, Any]]:
    """As the pipeline takes them."""
    return [(source, event) for event in found]


def on_log(event: AnyEvent) -> events.AnyEvent:
    """The event as a record has it."""
    return events.Shadows.of([event]) if isinstance(event, events.Shadow) else event


class MemoryLog:
    """A log, reader and writer in one; `fail` is asked before every call and may raise."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[Stored]] = defaultdict(list)
        self.first: dict[tuple[str, str], int] = {}
        self.calls: list[tuple[str, str]] = []
        self.down: set[str] = set()
        self.after: dict[str, int] = {}
        self.failures = 0
        self.sent: list[Record] = []

    def add(self, *found: AnyEvent, partition: str = "a") -> None:
        """Append events to their topics."""
        for event in found:
            topic = keys.OUTCOMES if isinstance(event, events.Outcome) else keys.PREDICTIONS
            self.raw(topic, events.encode(on_log(event)), event.id, event.at, partition=partition)

    def raw(self, topic: str, value: bytes, key: str = "k", at: float = 0.0, *, partition: str = "a") -> None:
        records = self.records[topic, partition]
        records.append(Stored(self.first.get((topic, partition), 0) + len(records), key, at, value))

    def trim(self, topic: str, offset: int, *, partition: str = "a") -> None:
        """What retention does: the records before `offset` are gone."""
        self.records[topic, partition] = [r for r in self.records[topic, partition] if r.offset >= offset]
        self.first[topic, partition] = offset

    def fail(self, call: str, *, after: int = 0) -> None:
        """Let `call` fail, once it has worked `after` times more, until `heal`."""
        self.after[call] = after
        self.down.add(call)

    def heal(self) -> None:
        self.down.clear()

    def values(self, topic: str) -> list[bytes]:
        return [record.value for record in self.sent if record.topic == topic]

    async def partitions(self, topic: str) -> list[str]:
        self._called("partitions", topic)
        return sorted(partition for name, partition in self.records if name == topic)

    async def read(self, topic: str, partition: str, offset: int, limit: int) -> list[Stored]:
        self._called(f"read {topic}", partition)
        if offset < self.first.get((topic, partition), 0):
            raise LogUnavailable("gone", code="offset_lost")
        return [r for r in self.records[topic, partition] if r.offset >= offset][:limit]

    async def end(self, topic: str, partition: str) -> int:
        self._called(f"end {topic}", partition)
        return self.first.get((topic, partition), 0) + len(self.records[topic, partition])

    async def seek(self, topic: str, partition: str, at: float) -> int:
        self._called("seek", topic)
        for record in self.records[topic, partition]:
            if record.at >= at:
                return record.offset
        return self.first.get((topic, partition), 0) + len(self.records[topic, partition])

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(0.001)

    async def append(self, records: list[Record]) -> None:
        self._called("append", "")
        self.sent += records

    async def close(self) -> None:
        return

    def _called(self, call: str, what: str) -> None:
        self.calls.append((call, what))
        if call in self.down:
            if self.after[call] <= 0:
                self.failures += 1
                raise LogUnavailable(f"{call} fails")
            self.after[call] -= 1


class MemoryState:
    """A shared state store. `lose_answer`: the next put takes place and says that it did not answer."""

    def __init__(self) -> None:
        self.records: dict[str, Versioned] = {}
        self.lose_answer = False
        self.down = False

    async def get(self, key: str) -> Versioned:
        self._asked()
        return self.records.get(key, Versioned(0, b""))

    async def put(self, key: str, value: bytes, expected: int, *, keep: bool = False) -> int:
        self._asked()
        version = self.records.get(key, Versioned(0, b"")).version
        if version != expected:
            raise Conflict(f"{key} is at {version}, not {expected}")
        self.records[key] = Versioned(version + 1, value)
        if self.lose_answer and key.startswith("evaluator-state/"):
            self.lose_answer = False
            raise StateUnavailable("no answer")
        return version + 1

    async def close(self) -> None:
        return

    def _asked(self) -> None:
        if self.down:
            raise StateUnavailable("down")


class Evaluator:
    """One evaluator's life on a file and ports: made, turned until all is read, killed or closed."""

    def __init__(
        self, made: Config, file: Path, log: Any, state: Any = None, *, settings: WorkerSettings = EAGER
    ) -> None:
        self.checkpoint = Checkpoint(file)
        self.pipeline = Pipeline(made, adapters.registry(made), self.checkpoint)
        self.caught_up = False
        self.worker = Worker(made, self.pipeline, self.checkpoint, log, log, state or MemoryState(), settings)

    async def read_all(self, *, save: bool = True) -> Evaluator:
        """Catch up (once, as a service does at its start), read to the end and commit."""
        if not self.caught_up:
            await self.worker.catch_up()
            self.caught_up = True
        while await self.worker.step():
            pass
        if save:
            await self.worker.commit()
        return self

    def facts(self) -> dict[str, Any]:
        """What must be the same however the log was read."""
        saved = self.pipeline.state(0, {})
        return {
            "counts": {name: n for name, n in saved.counts.items() if n},
            "accumulators": saved.accumulators,
            "rollouts": saved.rollouts,
            "aa": json.loads(json.dumps(saved.aa)),
            "worth": saved.worth,
            "latest": saved.latest,
            "joins": self.pipeline.joins_held,
        }

    def close(self) -> None:
        """Also what kill -9 does to the file: an open transaction is gone."""
        self.checkpoint.close()


Make = Callable[..., Pipeline]
"""`make(made=None, saved=None)`: a fresh core of the configuration `made`, which starts from `saved`."""


@contextlib.contextmanager
def pipelines(folder: Path) -> Iterator[Make]:
    """Fresh cores on files of their own, closed at the end."""
    opened: list[Evaluator] = []

    def fresh(made: Config | None = None, saved: EvaluatorState | None = None) -> Pipeline:
        evaluator = Evaluator(made or config(folder), folder / f"{len(opened)}.db", MemoryLog())
        opened.append(evaluator)
        if saved is not None:
            evaluator.pipeline.adopt(msgspec.json.decode(msgspec.json.encode(saved), type=EvaluatorState))
        return evaluator.pipeline

    yield fresh
    for evaluator in opened:
        evaluator.close()


def one_pass(made: Config, folder: Path, stream: Iterable[AnyEvent]) -> dict[str, Any]:
    """What one step over a whole stream makes of it: the facts that every other way of reading must end with."""
    evaluator, stream = Evaluator(made, folder / "one-pass.db", MemoryLog()), list(stream)
    evaluator.pipeline.step(batch(e for e in stream if not isinstance(e, events.Outcome)))
    evaluator.pipeline.step(batch(e for e in stream if isinstance(e, events.Outcome)))
    evaluator.pipeline.settle_joins()
    evaluator.pipeline.evaluate({})
    facts = evaluator.facts()
    evaluator.close()
    return facts


def evaluations(folder: Path, made: Config, batches: Iterable[list[Any]]) -> list[events.Evaluation]:
    """All evaluations of a stream that was read in these pieces, judged after each."""
    folder.mkdir()
    evaluator = Evaluator(made, folder / "e.db", MemoryLog())
    found: list[Any] = []
    for piece in batches:
        evaluator.pipeline.step(batch(piece))
        evaluator.pipeline.settle_joins()
        found += evaluator.pipeline.evaluate({})
    evaluator.close()
    return [event for event in found if isinstance(event, events.Evaluation)]


def fold_of(
    *pieces: list[Any], task: Task = Task.CLASSIFICATION, metric: str = "log_loss", tracked: TrackedMetrics = NOTHING
) -> Accumulators:
    """The sums of a stream that was joined in these pieces."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        joins = JoinTable(db, HORIZON)
        fold = Accumulators(task, metric, BLOCK, 0.0, {0: 0, 1: 1} if task is Task.CLASSIFICATION else {}, tracked)
        for piece in pieces:
            fold.add(joins.apply(piece))
    return fold
