"""A begun experiment on real local ports, and the retrainer's worker, which a test turns by hand."""

from pathlib import Path

import msgspec

from builders import retraining_data
from gauntlet import adapters, control, events, keys
from gauntlet.events import ArmSummary, Evaluation, Event
from gauntlet.log import Record
from gauntlet.registry.artifact import Schema
from gauntlet.rollout import Command, Control, begin
from retrainer.store import RetrainerStore
from retrainer.worker import Worker

DAY = retraining_data.DAY
T0 = retraining_data.START


def look(experiment: str, day: float, **changes: object) -> Evaluation:
    """What the evaluator would say of v0002 in the first rollout, a day of the stream after its start."""
    arm = ArmSummary(model="v0002", exposures=9000, outcomes=9000, metrics={"accuracy": 0.9})
    known = Evaluation(
        id=f"look-{day}",
        at=T0 + day * DAY,
        experiment=experiment,
        rollout=f"{experiment}-r0001",
        champion="v0001",
        challenger="v0002",
        form="paired",
        metric="log_loss",
        result="inconclusive",
        reasons=[],
        effect=0.02,
        lower=-0.01,
        upper=0.05,
        pairs=9000,
        information_fraction=0.5,
        blocks=10,
        gross_harm_excluded=True,
        arms={"challenger": arm},
    )
    return msgspec.structs.replace(known, **changes)


class DecisionLoop:
    """A begun experiment with a challenger v0002 in shadow, an evaluator's voice, and a worker."""

    def __init__(self, folder: Path, experiment: str) -> None:
        self.config = msgspec.structs.replace(
            retraining_data.configuration(folder, enabled="false"), experiment=experiment
        )
        self.data = Path(self.config.data)
        self.state = adapters.state(self.config)
        self.reader = adapters.local_reader(self.config)
        self.writer = adapters.local_writer(self.config, "retrainer")
        self.evaluator = adapters.local_writer(self.config, "evaluator")
        self.registry = adapters.registry(self.config)
        self.open()

    def open(self) -> None:
        self.store = RetrainerStore(self.data, self.config.experiment)
        self.worker = Worker(self.config, self.reader, self.writer, self.state, self.registry, self.store)

    async def begin(self) -> None:
        schema = Schema(task=self.config.task, features=(), classes=(0, 1))
        for _ in range(2):
            self.registry.register("builders.small_experiment:classifier", schema, created_at=T0)
        await control.create(self.state, begin(self.config.experiment, "v0001", T0))
        stages = tuple(stage.stage() for stage in self.config.ramp)
        challenge = Command(
            name="challenge", actor="t", reason="r", version="v0002", shadow=self.config.shadow.stage(), stages=stages
        )
        await control.change(self.state, self.config.experiment, challenge, T0)

    async def publish(self, *new: Event) -> None:
        records = [Record(keys.EVALUATIONS, e.id, e.at, events.encode(e)) for e in new]  # type: ignore[arg-type]
        await self.evaluator.append(records)

    def look(self, day: float, **changes: object) -> Evaluation:
        return look(self.config.experiment, day, **changes)

    async def record(self) -> Control:
        _, found = await control.read(self.state, self.config.experiment)
        assert found is not None
        return found

    async def decisions(self) -> list[str]:
        history = await control.history(self.state, self.config.experiment)
        return [c.last.command for _, c in history if c.last is not None]

    async def close(self) -> None:
        await self.worker.close()
        self.store.close()
        for part in (self.writer, self.evaluator, self.reader, self.state):
            await part.close()
