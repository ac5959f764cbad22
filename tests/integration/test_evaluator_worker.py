"""The worker between log, pipeline and checkpoint: nothing is skipped or folded twice, every verdict goes out once."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders.evaluator_events import (
    BLOCK,
    EAGER,
    GUARDED,
    HORIZON,
    Evaluator,
    MemoryLog,
    MemoryState,
    batch,
    config,
    on_log,
    one_pass,
    outcome,
    prediction,
    shadow,
    traffic,
)
from builders.samples import sample

from evaluator.service.checkpoint import Checkpoint
from evaluator.service.worker import WorkerSettings, serve
from gauntlet import adapters, events, keys, status
from gauntlet.errors import Conflict, LogUnavailable, StateUnavailable
from gauntlet.log import Record
from gauntlet.log.local import LocalLogWriter

pytestmark = pytest.mark.asyncio


def filled(stream: list[Any]) -> MemoryLog:
    log = MemoryLog()
    log.add(*stream)
    return log


def ids(log: MemoryLog) -> list[str]:
    return [msgspec.json.decode(value)["id"] for value in log.values(keys.EVALUATIONS)]


async def test_a_whole_log_is_read_committed_and_reported(tmp_path: Path) -> None:
    made, stream = config(tmp_path, GUARDED), traffic(300)
    log, state = filled(stream), MemoryState()
    evaluator = await Evaluator(made, tmp_path / "e.db", log, state).read_all()
    assert evaluator.facts() == one_pass(made, tmp_path, stream)
    offsets = {"predictions/a": len(log.records["predictions", "a"]), "outcomes/a": 300}
    assert evaluator.checkpoint.outbox() == []
    evaluator.close()
    assert Checkpoint(tmp_path / "e.db").saved.offsets == offsets
    evaluations = [event for event in ids(log) if event.startswith("test-r0001/")]
    assert evaluations == [f"test-r0001/{i}" for i in range(50, 50 + len(evaluations))]
    assert len(evaluations) == (299 - int(HORIZON)) // int(BLOCK)
    progress = msgspec.json.decode(state.records[keys.evaluator_progress("test")].value, type=status.EvaluatorProgress)
    assert progress.counts["joined"] == 300
    assert evaluations[-1] in {found.id for found in progress.evaluations.values()}


async def test_a_restarted_evaluator_still_tells_its_latest_judgement(tmp_path: Path) -> None:
    made, log, state = config(tmp_path), filled(traffic(300)), MemoryState()
    (await Evaluator(made, tmp_path / "e.db", log, state).read_all()).close()
    log.add(prediction(900, 1300.0))
    (await Evaluator(made, tmp_path / "e.db", log, state).read_all()).close()
    progress = msgspec.json.decode(state.records[keys.evaluator_progress("test")].value, type=status.EvaluatorProgress)
    assert progress.evaluations
    assert progress.health is not None


DEEP = b"[" * 90_000 + b"]" * 90_000

BAD: list[tuple[str, bytes]] = [
    (keys.PREDICTIONS, b""),
    (keys.PREDICTIONS, b"\x80\xff not utf-8"),
    (keys.OUTCOMES, b'{"type":"outcome","id":"a\xff","at":1005,"experiment":"test","value":1}'),
    (keys.OUTCOMES, b'{"type":"outcome","id":"p000001","at":1e999,"experiment":"test","value":1}'),
    (keys.OUTCOMES, b'{"type":"outcome","id":"p000001","at":1005,"experiment":"test","value":NaN}'),
    (keys.OUTCOMES, events.encode(outcome(1, 1005.0, "cancelled"))),  # no class; read before any prediction was
    (keys.OUTCOMES, events.encode(outcome(1, 1005.0, 7))),
    (keys.OUTCOMES, events.encode(outcome(1, 1_700_000_000_000.0))),  # milliseconds
    (keys.OUTCOMES, events.encode(prediction(2, 1005.0))),  # on the wrong topic: its exposure would be of no partition
    (keys.PREDICTIONS, events.encode(outcome(1, 1005.0, 0))),
    (keys.PREDICTIONS, events.encode(prediction(1, 1000.0, output=[0.2, 0.3, 0.5]))),
    (keys.PREDICTIONS, events.encode(prediction(1, 1000.0)).replace(b"0.25", b"NaN")),
    (keys.PREDICTIONS, events.encode(prediction(1, 1000.0)).replace(b"0.25", b"1e999")),
    (keys.PREDICTIONS, events.encode(prediction(1, 1000.0, output=[1e300, -1e300]))),
    (keys.PREDICTIONS, events.encode(prediction(1, 1000.0, output=None))),
    (keys.PREDICTIONS, events.encode(prediction(1, 1000.0, champion="v0042"))),
    (keys.PREDICTIONS, events.encode(prediction(1, 1000.0)).replace(b'"type":"prediction"', b'"type":"wish"')),
    (keys.PREDICTIONS, events.encode(on_log(shadow(1, 1000.0, model="v0042")))),
    (keys.PREDICTIONS, events.encode(prediction(1, 1000.0, features={"x": 0})).replace(b'"x":0', b'"x":' + DEEP)),
]


async def test_what_can_not_be_used_is_set_aside_and_nothing_of_it_counted(tmp_path: Path) -> None:
    """In the first batch of all, where no champion is known yet, and each of them once."""
    made, log = config(tmp_path), MemoryLog()
    for topic, value in BAD:
        log.raw(topic, value, at=1000.0)
    log.add(prediction(1, 1000.0), shadow(1, 1000.0), outcome(1, 1010.0))
    evaluator = await Evaluator(made, tmp_path / "e.db", log).read_all()
    assert sorted(log.values(keys.DEAD_LETTERS)) == sorted(value for _, value in BAD)
    counts = {name: n for name, n in evaluator.pipeline.counts.items() if n}
    assert counts == {"predictions": 1, "shadows": 1, "outcomes": 1, "joined": 1}
    (await evaluator.read_all()).close()
    assert len(log.values(keys.DEAD_LETTERS)) == len(BAD)


async def test_a_poisoned_topic_fills_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every record is counted and kept on the dead-letter topic; the line says for how many it stands."""
    made, log = config(tmp_path), MemoryLog()
    before = sample("gauntlet_dead_letters_total", topic=keys.PREDICTIONS) or 0
    for _ in range(200):
        log.raw(keys.PREDICTIONS, b"no event", at=1000.0)
    (await Evaluator(made, tmp_path / "e.db", log).read_all()).close()
    assert len(log.values(keys.DEAD_LETTERS)) == 200
    assert sample("gauntlet_dead_letters_total", topic=keys.PREDICTIONS) == before + 200
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 1
    assert "event=event_invalid count=1 place=predictions/a offset=0" in lines[0]
    assert 'next="sent to the dead-letter topic"' in lines[0]


async def test_another_experiments_events_are_passed_over(tmp_path: Path) -> None:
    made, log = config(tmp_path), MemoryLog()
    log.add(
        prediction(1, 1000.0),
        prediction(2, 9e9, experiment="other", champion="v0077"),
        outcome(1, 1010.0),
        outcome(2, 1010.0, "no class of ours", experiment="other"),
        shadow(1, 1000.0, experiment="other"),
    )
    evaluator = await Evaluator(made, tmp_path / "e.db", log).read_all()
    assert log.values(keys.DEAD_LETTERS) == []
    assert evaluator.pipeline.watermark == 1000.0
    assert evaluator.pipeline.counts == {"predictions": 1, "outcomes": 1, "joined": 1}
    assert evaluator.worker.offsets == {"predictions/a": 3, "outcomes/a": 2}
    evaluator.close()


async def test_an_idle_evaluator_sleeps_until_the_log_has_more(tmp_path: Path) -> None:
    """Scenario: everything is read; no call reaches the log until a hint comes. Expected: the hint is enough."""
    log, hint, asleep = filled(traffic(50)), asyncio.Event(), asyncio.Event()

    async def wait(_: float) -> None:
        asleep.set()
        try:
            await hint.wait()
        finally:
            hint.clear()
            asleep.clear()

    log.wait = wait  # type: ignore[method-assign]
    patient = WorkerSettings(commit=0.0, discover=3600.0)
    evaluator = Evaluator(config(tmp_path), tmp_path / "e.db", log, settings=patient)
    stop = asyncio.Event()
    running = asyncio.create_task(evaluator.worker.run(stop))
    for count in (50, 51):
        async with asyncio.timeout(60):
            while not (
                evaluator.pipeline.counts["predictions"] == count and evaluator.worker.flushed and asleep.is_set()
            ):
                await asyncio.sleep(0.01)
        calls = len(log.calls)
        await asyncio.sleep(0.1)
        assert len(log.calls) == calls
        log.add(prediction(1000 + count, 5000.0 + count))
        hint.set()
    stop.set()
    await running
    evaluator.close()


@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("seek", 0),
        ("seek", 1),
        *(
            (call, after)
            for after in (0, 1, 2, 5)
            for call in ("partitions", "read predictions", "read outcomes", "end outcomes", "append")
        ),
    ],
)
async def test_an_outage_of_the_log_anywhere_only_delays(tmp_path: Path, call: str, after: int) -> None:
    """Predictions are read and then the outcomes' partition fails: the predictions must not be lost for that."""
    made, stream = config(tmp_path, GUARDED), traffic(300)
    log = filled(stream)
    evaluator = Evaluator(made, tmp_path / "e.db", log)
    stop = asyncio.Event()
    log.fail(call, after=after)
    running = asyncio.create_task(evaluator.worker.run(stop))
    async with asyncio.timeout(20):
        while log.failures < 2:
            await asyncio.sleep(0)
            assert not running.done(), running.result()
        log.heal()
        while evaluator.pipeline.counts["joined"] < 300 or not evaluator.worker.flushed:
            await asyncio.sleep(0)
            assert not running.done(), running.result()
    stop.set()
    await running
    assert evaluator.facts() == one_pass(made, tmp_path, stream)
    assert ids(log) == list(dict.fromkeys(ids(log)))
    assert len([i for i in ids(log) if i.startswith("test-r")]) == (299 - int(HORIZON)) // int(BLOCK)
    evaluator.close()


async def test_a_verdict_that_could_not_be_sent_goes_out_when_nothing_new_comes(tmp_path: Path) -> None:
    made, log = config(tmp_path), filled(traffic(300))
    evaluator = Evaluator(made, tmp_path / "e.db", log)
    log.fail("append")
    with pytest.raises(LogUnavailable):
        await evaluator.read_all()
    for _ in range(3):
        with pytest.raises(LogUnavailable):
            await evaluator.worker.step()
    assert log.sent == []
    log.heal()
    while await evaluator.worker.step():
        pass
    evaluator.close()
    assert len([i for i in ids(log) if i.startswith("test-r")]) == (299 - int(HORIZON)) // int(BLOCK)


async def test_a_crash_after_the_commit_sends_the_same_events_again(tmp_path: Path) -> None:
    made, log = config(tmp_path), filled(traffic(300))
    first = Evaluator(made, tmp_path / "e.db", log)
    log.fail("append")
    with pytest.raises(LogUnavailable):
        await first.read_all()
    committed = [record for _, record in first.checkpoint.outbox()]
    first.close()
    assert committed
    log.heal()
    second = await Evaluator(made, tmp_path / "e.db", log).read_all()
    assert log.sent[: len(committed)] == committed
    assert ids(log) == list(dict.fromkeys(ids(log)))
    second.close()


@pytest.mark.parametrize("rounds", [1, 3, 7, 12])
async def test_killed_between_two_rounds_it_goes_on_where_it_had_committed(tmp_path: Path, rounds: int) -> None:
    made, stream = config(tmp_path, GUARDED), traffic(300)
    log = filled(stream)
    first = Evaluator(made, tmp_path / "e.db", log)
    for _ in range(rounds):
        await first.worker.step()
    first.checkpoint.begin()
    first.pipeline.step(batch(traffic(50, start=9000)))  # folded and not committed
    first.close()
    second = await Evaluator(made, tmp_path / "e.db", log).read_all()
    assert second.facts() == one_pass(made, tmp_path, stream)
    second.close()


async def test_nothing_is_judged_before_the_outcomes_of_its_time_are_read(tmp_path: Path) -> None:
    """A long backlog of outcomes is read in pieces, with commits in between; each look has all of its outcomes."""
    made, stream = config(tmp_path, GUARDED), traffic(300)
    log = filled([e for e in stream if not isinstance(e, events.Outcome)])
    log.add(*(outcome(10**6 + i, 900.0) for i in range(500)))  # of somebody else's requests, before ours
    log.add(*(e for e in stream if isinstance(e, events.Outcome)))
    settings = dataclasses.replace(EAGER, predictions=1000)
    evaluator = await Evaluator(made, tmp_path / "e.db", log, settings=settings).read_all()
    assert sum(call == f"read {keys.OUTCOMES}" for call, _ in log.calls) >= 800 / 25
    looks = [msgspec.json.decode(v, type=events.Evaluation) for v in log.values(keys.EVALUATIONS) if b"test-r" in v]
    for found in looks:
        matured = round((found.at - HORIZON - 1000.0) / BLOCK) * 20
        assert sum(arm.outcomes for arm in found.arms.values()) == matured
    assert evaluator.pipeline.counts["orphan"] == 500
    evaluator.close()


async def test_a_log_that_no_longer_begins_at_its_beginning_is_read_from_where_it_does(tmp_path: Path) -> None:
    made, stream = config(tmp_path), traffic(200)
    log = filled(stream)
    log.trim(keys.PREDICTIONS, 50)
    log.trim(keys.OUTCOMES, 40)
    evaluator = await Evaluator(made, tmp_path / "e.db", log).read_all()
    kept = [msgspec.json.decode(r.value)["type"] for r in log.records[keys.PREDICTIONS, "a"]]
    assert evaluator.pipeline.counts["predictions"] == kept.count("prediction")
    assert evaluator.pipeline.counts["outcomes"] == 160
    evaluator.close()


async def test_a_partition_that_appears_later_is_found(tmp_path: Path) -> None:
    made, log = config(tmp_path), filled(traffic(50))
    evaluator = await Evaluator(made, tmp_path / "e.db", log).read_all()
    for event in traffic(50, start=50):
        log.add(event, partition="b")
    await evaluator.read_all()
    assert evaluator.pipeline.counts["joined"] == 100
    assert set(evaluator.worker.offsets) == {f"{t}/{p}" for t in ("predictions", "outcomes") for p in "ab"}
    evaluator.close()


async def test_a_put_whose_answer_was_lost_is_recognised(tmp_path: Path) -> None:
    """It took place; another try conflicts with oneself and must neither stop the evaluator nor lose its verdicts."""
    made, stream = config(tmp_path, GUARDED), traffic(300)
    made = msgspec.structs.replace(made, state="redis://memory")
    log, state = filled(stream), MemoryState()
    evaluator = Evaluator(made, tmp_path / "e.db", log, state)
    stop = asyncio.Event()
    running = asyncio.create_task(evaluator.worker.run(stop))
    async with asyncio.timeout(20):
        while evaluator.pipeline.counts["joined"] < 300 or not evaluator.worker.flushed:
            state.lose_answer = True
            await asyncio.sleep(0.002)
            assert not running.done(), running.result()
    state.lose_answer = False
    stop.set()
    await running
    assert evaluator.facts() == one_pass(made, tmp_path, stream)
    assert len([i for i in ids(log) if i.startswith("test-r")]) == (299 - int(HORIZON)) // int(BLOCK)
    evaluator.close()


async def test_an_outage_of_the_state_holds_the_commit_and_reads_no_further(tmp_path: Path) -> None:
    made = msgspec.structs.replace(config(tmp_path), state="redis://memory")
    log, state = filled(traffic(300)), MemoryState()
    evaluator = Evaluator(made, tmp_path / "e.db", log, state)
    evaluator.caught_up = True
    state.down = True
    with pytest.raises(StateUnavailable):
        await evaluator.worker.step()
    offsets, calls = dict(evaluator.worker.offsets), len(log.calls)
    for _ in range(5):
        with pytest.raises(StateUnavailable):
            await evaluator.worker.step()
    assert evaluator.worker.offsets == offsets
    assert len(log.calls) == calls
    state.down = False
    await evaluator.read_all()
    assert evaluator.pipeline.counts["joined"] == 300
    assert len([i for i in ids(log) if i.startswith("test-r")]) == (299 - int(HORIZON)) // int(BLOCK)
    evaluator.close()


async def test_a_conflict_that_is_not_ones_own_stops_it(tmp_path: Path) -> None:
    made = msgspec.structs.replace(config(tmp_path), state="redis://memory")
    log, state = filled(traffic(300)), MemoryState()
    evaluator = Evaluator(made, tmp_path / "e.db", log, state)
    evaluator.caught_up = True
    await evaluator.worker.step()
    key = keys.evaluator_state("test")
    await state.put(key, b"another's", state.records[key].version)
    with pytest.raises(Conflict):
        await evaluator.read_all()
    evaluator.close()


async def test_the_service_serves_the_embedded_log_until_it_is_stopped(tmp_path: Path) -> None:
    made, stream = config(tmp_path, GUARDED), traffic(300)
    writer = LocalLogWriter(tmp_path / "log", "router", durable=False)
    for event in stream:
        topic = keys.OUTCOMES if isinstance(event, events.Outcome) else keys.PREDICTIONS
        await writer.append([Record(topic, event.id, event.at, events.encode(on_log(event)))])
    await writer.close()
    stop = asyncio.Event()
    running = asyncio.create_task(serve(made, stop))
    state = adapters.state(made)
    async with asyncio.timeout(30):
        while True:
            version, value = await state.get(keys.evaluator_progress("test"))
            if version and msgspec.json.decode(value, type=status.EvaluatorProgress).counts.get("joined") == 300:
                break
            await asyncio.sleep(0.01)
            assert not running.done(), running.result()
    stop.set()
    await running
    await state.close()
    checkpoint = Checkpoint(tmp_path / "evaluator.db")
    assert checkpoint.saved.accumulators == one_pass(made, tmp_path, stream)["accumulators"]
    checkpoint.close()
    reader = adapters.local_reader(made)
    found = await reader.read(keys.EVALUATIONS, "evaluator", 0, 1000)
    await reader.close()
    names = [msgspec.json.decode(record.value)["id"] for record in found]
    assert names == list(dict.fromkeys(names))
    assert len([n for n in names if n.startswith("test-r")]) == (299 - int(HORIZON)) // int(BLOCK)
