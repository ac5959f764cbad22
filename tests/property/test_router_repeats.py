"""An id is answered once, whatever comes with it again: in whatever order, batch, stage, concurrency and restart."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gauntlet import events, keys, rollout, transitions
from gauntlet.clock import WallClock
from gauntlet.config import RouterConfig
from gauntlet.config.evidence import EvidenceConfig
from gauntlet.errors import BadInput, TransitionRefused
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from gauntlet.registry.artifact import Feature, Predictor, Rows, Schema
from gauntlet.status import Problems
from gauntlet.types import Task
from router.breaker import CircuitBreaker
from router.event_times import EventTimes
from router.inference import InferenceService, Instance
from router.model_worker import ModelWorker
from router.phantom_arm import PhantomArm
from router.recorder import Recorder
from router.repeats import RecentIds, Repeats
from router.routing_table import Challenger, RoutingTable
from router.shadow import ShadowScorer

SCHEMA = Schema(task=Task.REGRESSION, features=(Feature(name="x"),), input="rows")
STAGE = rollout.Stage(share=0.5, min_seconds=0.0, min_outcomes=0, approval=False)
_CALLS = itertools.count()


class NeverTheSame:
    """A model whose every answer is another number: an answer that comes twice was kept."""

    def predict(self, rows: Rows) -> Any:
        return np.array([float(next(_CALLS)) for _ in rows])


INSTANCES = st.builds(
    Instance,
    id=st.sampled_from(["a", "b", "c", "d", None]),
    features=st.sampled_from([{"x": 1}, {"x": 2.5}, {"x": 1, "y": ["other", {"z": None}]}]),
    unit=st.sampled_from([None, "a", "someone"]),
    segments=st.sampled_from([{}, {"country": "pt"}]),
)
REQUESTS = st.lists(INSTANCES, min_size=1, max_size=4)


def body(instance: Instance) -> tuple[Any, ...]:
    return instance.features, instance.unit or instance.id, instance.segments


class EveryIdHasOneAnswer(RuleBasedStateMachine):
    """Requests to a service on a real log, beside a dictionary of what each id was answered first."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.workers = {name: ModelWorker(Predictor(NeverTheSame(), SCHEMA, name)) for name in ("v0001", "v0002")}
        self.control = rollout.begin("test", "v0001", 0.0)
        self.first: dict[str, tuple[Any, events.Prediction]] = {}
        self.others = 0
        self.codes = {"id_reused"}
        self.runner.run(self.start())

    async def start(self) -> None:
        root = Path(self.folder.name)
        writer = LocalLogWriter(root, "router", segment_bytes=20_000, durable=False, indexed=[keys.PREDICTIONS])
        self.reader = LocalLogReader(root)
        self.recorder = Recorder(writer, self.reader, "router", "durable", Problems("router"))
        repeats = Repeats(self.recorder)
        await repeats.load()
        config = RouterConfig()
        breaker = CircuitBreaker(config.breaker, lambda *_: None)
        shadow = ShadowScorer(config, "test", self.recorder, breaker)
        times = EventTimes(WallClock(), replay=False)
        phantom = PhantomArm("test", EvidenceConfig(aa_slice=0.25))
        self.service = InferenceService(config, "test", times, self.recorder, repeats, shadow, breaker, phantom)

    @property
    def table(self) -> RoutingTable:
        running = self.control.rollouts
        challengers = tuple(Challenger(r, self.workers[r.challenger], self.control) for r in running)
        return RoutingTable(1, self.control, self.workers[self.control.champion], challengers, None, 0.0)

    async def answer(self, instances: list[Instance]) -> list[events.Prediction] | None:
        """The answers, or None where the ids were refused."""
        try:
            answers, recorded = await self.service.predict(self.table, instances, asyncio.get_running_loop().time())
        except BadInput as error:
            self.codes.add(error.code)
            return None
        assert recorded
        return answers

    @rule(instances=REQUESTS)
    def predict(self, instances: list[Instance]) -> None:
        expected = dict(self.first)
        conflict = False
        for instance in instances:
            known = expected.setdefault(instance.id or "", (body(instance), None))
            conflict |= instance.id is not None and known[0] != body(instance)
        answers = self.runner.run(self.answer(instances))
        assert (answers is None) == conflict
        if answers is not None:
            self.remember(instances, answers)

    @rule(requests=st.lists(REQUESTS, min_size=2, max_size=3))
    def predict_at_once(self, requests: list[list[Instance]]) -> None:
        async def together() -> list[list[events.Prediction] | None]:
            return await asyncio.gather(*map(self.answer, requests))

        for instances, answers in zip(requests, self.runner.run(together()), strict=True):
            if answers is not None:
                self.remember(instances, answers)

    def remember(self, instances: list[Instance], answers: list[events.Prediction]) -> None:
        assert len(answers) == len(instances)
        for instance, answer in zip(instances, answers, strict=True):
            if instance.id is None:
                self.others += 1
                continue
            assert self.first.setdefault(instance.id, (body(instance), answer)) == (body(instance), answer)

    @rule(name=st.sampled_from(["challenge", "ramp", "promote", "rollback"]))
    def command(self, name: str) -> None:
        other = "v0002" if self.control.champion == "v0001" else "v0001"
        given = rollout.Command(name=name, actor="test", reason="test", version=other, stages=(STAGE,), stage=0)
        if name == "challenge":
            given = msgspec.structs.replace(given, shadow=msgspec.structs.replace(STAGE, share=0.0))
        elif name != "ramp":
            given = msgspec.structs.replace(given, version=None, stage=None)
        with contextlib.suppress(TransitionRefused):
            self.control = transitions.apply(self.control, given, 1.0)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.recorder.close())
        self.runner.run(self.start())

    @invariant()
    def each_id_is_logged_once_as_it_was_answered(self) -> None:
        async def logged() -> list[events.AnyEvent]:
            return [events.decode(r.value) for r in await self.reader.read(keys.PREDICTIONS, "router", 0, 10_000)]

        on_log = self.runner.run(logged())
        found = {event.id: event for event in on_log}
        assert len(found) == len(on_log) == len(self.first) + self.others
        assert self.codes == {"id_reused"}
        assert {key: found[key] for key in self.first} == {key: answer for key, (_, answer) in self.first.items()}

    def teardown(self) -> None:
        self.runner.run(self.recorder.close())
        self.runner.close()
        for worker in self.workers.values():
            worker.close()
        self.folder.cleanup()


TestEveryIdHasOneAnswer = EveryIdHasOneAnswer.TestCase
TestEveryIdHasOneAnswer.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_the_latest_ids_are_known_and_few_others() -> None:
    """At most an id in a hundred is looked up for nothing with both generations full; none of the latest is lost."""
    recent = RecentIds(limit=4096, bits=4096 * 16)
    recent.update(f"id-{i}" for i in range(10 * 4096 + 1000))
    newest = range(9 * 4096, 10 * 4096 + 1000)
    assert all(f"id-{i}" in recent for i in newest)
    assert sum(f"id-{i}" in recent for i in range(8 * 4096)) < 8 * 4096 * 0.015
    assert sum(f"other-{i}" in recent for i in range(100_000)) < 100_000 * 0.015
