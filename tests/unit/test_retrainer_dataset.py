"""Which rows a job learns from: joined by id, within the horizon, first record wins, forced requests never; and, where
asked, only the champion's own."""

from collections.abc import Sequence

import msgspec
import pytest

from gauntlet import events, keys
from gauntlet.config import RetrainConfig
from gauntlet.config.section import Seconds
from gauntlet.events import Contender, Holdout, Outcome, Prediction, Shadow, Shadows
from gauntlet.log import Stored
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.types import Label, Task
from retrainer.jobs import dataset
from retrainer.jobs.dataset import JobRows
from retrainer.jobs.job import split

SCHEMA = Schema(task=Task.CLASSIFICATION, features=(Feature(name="x"),), classes=(0, 1))
NUMBER = Schema(task=Task.REGRESSION, features=(Feature(name="x"),))
DAY = 86_400.0


class Shelf:
    """A log in memory: topic → partition → records."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, list[tuple[str, float, bytes]]]] = {}

    def add(self, topic: str, value: events.AnyEvent | bytes, at: float = 0.0, partition: str = "p0") -> None:
        shelf = self.records.setdefault(topic, {}).setdefault(partition, [])
        if isinstance(value, bytes):
            shelf.append(("?", at, value))
        else:
            shelf.append((value.id, value.at, events.encode(value)))

    async def partitions(self, topic: str) -> list[str]:
        return sorted(self.records.get(topic, {}))

    async def read(self, topic: str, partition: str, offset: int, limit: int) -> list[Stored]:
        found: Sequence[tuple[str, float, bytes]] = self.records[topic][partition][offset : offset + min(limit, 3)]
        return [Stored(offset + i, *record) for i, record in enumerate(found)]

    async def end(self, topic: str, partition: str) -> int:
        return len(self.records[topic][partition])

    async def seek(self, topic: str, partition: str, at: float) -> int:
        shelf = self.records[topic][partition]
        return next((i for i, record in enumerate(shelf) if record[1] >= at), len(shelf))

    async def close(self) -> None:
        return

    def predict(self, id: str, at: float, x: float = 1.0, partition: str = "p0", **more: object) -> None:
        known = {"experiment": "e", "assigned": "champion", "served": "champion", **more}
        prediction = Prediction(
            id=id, at=at, unit=id, bucket=0, allocation=1, champion="v1", output=[0.5, 0.5], features={"x": x}, **known
        )
        self.add(keys.PREDICTIONS, prediction, partition=partition)

    def learn(self, id: str, at: float, value: Label, partition: str = "p0", experiment: str = "e") -> None:
        outcome = Outcome(id=id, at=at, experiment=experiment, value=value)
        self.add(keys.OUTCOMES, outcome, partition=partition)


async def collect(shelf: Shelf, start: float, end: float, schema: Schema = SCHEMA, horizon: float = DAY) -> JobRows:
    return await dataset.collect(shelf, schema, "e", start, end, horizon, await dataset.ends(shelf))


async def test_rows_are_joined_over_partitions_and_come_in_time_order() -> None:
    shelf = Shelf()
    for i in (4, 0, 2):
        shelf.predict(f"a{i}", float(i), x=i)
        shelf.learn(f"a{i}", i + 10.0, i % 2, partition="p1")
    for i in (1, 3):
        shelf.predict(f"a{i}", float(i), x=i, partition="p1")
        shelf.learn(f"a{i}", i + 10.0, i % 2)
        score = Shadow(id=f"a{i}", at=i, experiment="e", arm="challenger", model="v2", output=[1, 0])
        shelf.add(keys.PREDICTIONS, Shadows.of([score]))
        older = b'{"type":"shadow","id":"a1","at":1.0,"experiment":"e","arm":"challenger"}'
        shelf.add(keys.PREDICTIONS, older)
    rows = await collect(shelf, 0.0, 100.0)
    assert rows.times == [0, 1, 2, 3, 4]
    assert rows.features == [{"x": float(i)} for i in range(5)]
    assert rows.targets == [0, 1, 0, 1, 0]
    assert rows.skipped == {}


async def test_what_is_left_out_is_counted() -> None:
    shelf = Shelf()
    for id in ("good", "forced", "unlabelled", "late", "other", "class"):
        shelf.predict(id, 50.0, forced=id == "forced", experiment="f" if id == "other" else "e")
    shelf.add(keys.PREDICTIONS, b"{", at=60.0)
    for id, at, value in (
        ("good", 60, 1),
        ("forced", 60, 1),
        ("late", 50 + DAY + 1, 1),
        ("other", 60, 1),
        ("class", 60, 7),
    ):
        shelf.learn(id, at, value)
    shelf.add(keys.OUTCOMES, b"[]", at=60.0)
    rows = await collect(shelf, 0.0, 100.0)
    assert (rows.times, rows.targets) == ([50.0], [1])
    assert rows.skipped == {"forced": 1, "unlabelled": 1, "late": 1, "unusable": 3}


async def test_the_champions_own_rows_are_weighted_by_their_draw() -> None:
    """On a ramp of two challengers beside a reverse holdout, with rows of all of them, and one from before."""
    shelf = Shelf()
    ramp = [Contender(rollout="r1", challenger="v2", propensity=0.25), Contender(rollout="r2", challenger="v3")]
    ramp.append(Contender(rollout="r3", challenger="v4", propensity=0.25))
    held = Holdout(promotion="r0", previous="v0", propensity=0.2)
    shelf.predict("before", 1.0)
    shelf.predict("own", 2.0, contenders=ramp, holdout=held)
    shelf.predict("theirs", 3.0, contenders=ramp, assigned="challenger", served="challenger", rollout="r1")
    shelf.predict("fallback", 4.0, contenders=ramp, assigned="challenger", rollout="r1", fallback="error")
    shelf.predict("held", 5.0, holdout=msgspec.structs.replace(held, drawn=True))
    shelf.predict("forced", 6.0, contenders=ramp, forced=True)
    for id in ("before", "own", "theirs", "fallback", "held", "forced"):
        shelf.learn(id, 10.0, 1)
    own = await dataset.collect(shelf, SCHEMA, "e", 0.0, 100.0, DAY, await dataset.ends(shelf), champion_only=True)
    assert own.times == [1.0, 2.0]
    assert own.weights == pytest.approx([1.0, 1 / (0.5 * 0.8)])
    assert own.skipped == {"challenger": 1, "fallback": 1, "reverse_holdout": 1, "forced": 1}
    assert own.between(2.0, 3.0).weights == own.weights[1:]
    rows = await collect(shelf, 0.0, 100.0)
    assert (rows.times, rows.weights, rows.skipped) == ([1.0, 2.0, 3.0, 4.0, 5.0], [], {"forced": 1})


async def test_an_outcome_at_the_horizon_is_in_time() -> None:
    shelf = Shelf()
    for id, after in (("in time", DAY), ("late", DAY + 1)):
        shelf.predict(id, 100.0)
        shelf.learn(id, 100.0 + after, 1)
    rows = await collect(shelf, 0.0, 100.0)
    assert (rows.times, rows.skipped) == ([100.0], {"unlabelled": 1}), "what comes later is not even read"


async def test_the_first_record_of_an_id_wins() -> None:
    shelf = Shelf()
    shelf.predict("a", 1.0, x=1.0)
    shelf.predict("a", 2.0, x=2.0)
    shelf.learn("a", 3.0, 1)
    shelf.learn("a", 4.0, 0)
    rows = await collect(shelf, 0.0, 100.0)
    assert (rows.features, rows.targets, rows.times) == ([{"x": 1.0}], [1], [1.0])


async def test_the_window_is_of_prediction_time_and_the_ends_are_kept() -> None:
    shelf = Shelf()
    for at in (9.0, 10.0, 20.0, 21.0):
        shelf.predict(f"a{at}", at)
        shelf.learn(f"a{at}", at + 5, 1)
    ends = await dataset.ends(shelf)
    shelf.predict("later", 15.0)
    shelf.learn("later", 16.0, 1)
    rows = await dataset.collect(shelf, SCHEMA, "e", 10.0, 20.0, DAY, ends)
    assert rows.times == [10.0, 20.0], "what came after the job was asked for is not read"
    assert ends == {"predictions/p0": 4, "outcomes/p0": 4}


async def test_labels_are_written_as_the_model_writes_them() -> None:
    shelf = Shelf()
    for id, value in (("a", True), ("b", 1.0), ("c", "1"), ("d", 0)):
        shelf.predict(id, 1.0)
        shelf.learn(id, 2.0, value)
    rows = await collect(shelf, 0.0, 10.0)
    assert [repr(t) for t in rows.targets] == ["1", "1", "0"]
    numbers = await collect(shelf, 0.0, 10.0, NUMBER)
    assert [repr(t) for t in numbers.targets] == ["1.0", "0.0"], "neither a truth value nor a text is a number"


def test_the_split_is_chronological_and_the_holdout_unseen_by_both() -> None:
    times = [float(t) for t in range(100)]
    rows = JobRows(features=[{"x": t} for t in times], targets=[0] * 100, times=times)
    settings = RetrainConfig(window=Seconds(100), validation=Seconds(10), test=Seconds(20))
    train, _, holdout = split(rows, 100.0, settings, None)
    assert (train.times, holdout.times) == (times[:70], times[70:])
    train, _, holdout = split(rows, 100.0, settings, 79.0)
    assert (train.times, holdout.times) == (times[:80], times[80:]), "the champion was fitted on rows up to 79, too"
    assert holdout.features[0] == {"x": 80.0}
    train, validation, holdout = split(rows, 100.0, settings, 85.0, search=True)
    assert (train.times, validation.times, holdout.times) == (times[:70], times[70:80], times[86:])
