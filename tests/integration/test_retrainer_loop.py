"""The retrainer's loop on real local ports, turned by hand: verdicts in, decisions in force, outages held out."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from builders import retraining_data
from builders.decision_loop import DecisionLoop
from builders.samples import sample

from gauntlet import control, events, keys
from gauntlet.errors import LogUnavailable, StateUnavailable
from gauntlet.events import Health
from gauntlet.log import Record
from gauntlet.rollout import Command
from gauntlet.types import VerdictCause
from retrainer.store import JobRecord

DAY = retraining_data.DAY
T0 = retraining_data.START


@pytest.fixture
async def loop(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[DecisionLoop]:
    built = DecisionLoop(tmp_path, request.node.name.replace("_", "-")[:60].strip("-"))
    await built.begin()
    yield built
    await built.close()


async def test_no_promotion_while_the_champion_is_not_kept_whole(loop: DecisionLoop) -> None:
    champion = loop.data / "registry" / "v0001" / "version.json"
    kept = champion.read_bytes()
    champion.write_bytes(kept[:-9])
    await loop.publish(*(loop.look(day) for day in range(1, 20)))
    await loop.publish(loop.look(20, result="better", cause=VerdictCause.WIN, lower=0.001))
    await loop.worker.step()
    assert (await loop.record()).champion == "v0001"
    problem = next(one for one in loop.worker.problems.open if one.code == "champion_not_kept")
    assert "v0001/version.json can't be read" in problem.text
    champion.write_bytes(kept)
    await loop.publish(loop.look(21, result="better", cause=VerdictCause.WIN, lower=0.001))
    await loop.worker.step()
    assert (await loop.record()).champion == "v0002"
    assert loop.worker.problems.open == []


async def test_a_whole_ramp_a_promotion_and_the_watch_that_takes_it_back(loop: DecisionLoop) -> None:
    name = loop.config.experiment
    await loop.publish(*(loop.look(day) for day in range(1, 20)))
    await loop.worker.step()
    record = await loop.record()
    assert record.rollouts[0].last_stage
    assert await loop.decisions() == ["begin", "challenge", "advance", "advance", "advance"]
    assert record.rollouts[0].stage_since == T0 + 6 * DAY, "two days each: decisions are dated by the evidence"
    assert loop.registry.aliases() == {"champion": "v0001", "challenger": "v0002"}

    await loop.publish(loop.look(20, result="better", cause=VerdictCause.WIN, lower=0.001))
    await loop.worker.step()
    record = await loop.record()
    assert (record.champion, record.previous) == ("v0002", "v0001")
    assert record.bake is not None
    assert record.bake.reference == {"accuracy": 0.9}
    assert record.last is not None
    assert record.last.evidence == "look-20"
    assert "log_loss effect +0.02 [+0.001, +0.05] after 10 blocks" in record.last.reason

    degraded = Health(
        id="h1",
        at=T0 + 25 * DAY,
        experiment=name,
        model="v0002",
        outcomes=600,
        metrics={},
        window_outcomes=600,
        window={"accuracy": 0.84},
    )
    await loop.publish(degraded)
    await loop.worker.step()
    record = await loop.record()
    assert (record.champion, record.bake) == ("v0001", None)
    assert record.ended[-1].state == "rolled_back"
    assert loop.registry.aliases() == {"champion": "v0001", "previous": "v0002"}
    assert sample("gauntlet_rollback_total", experiment=name, cause="watch") == 1
    assert sample("gauntlet_decisions_total", experiment=name, decision="advance") == 3
    assert sample("gauntlet_decisions_total", experiment=name, decision="promote") == 1


async def test_harm_is_rolled_back_though_no_retraining_is_wanted(loop: DecisionLoop) -> None:
    await loop.publish(loop.look(0.5, result="worse", cause=VerdictCause.HARM, effect=-0.1))
    await loop.worker.step()
    record = await loop.record()
    assert not record.rollouts
    assert record.ended[-1].state == "rolled_back"
    assert sample("gauntlet_rollback_total", experiment=loop.config.experiment, cause="evidence") == 1


async def test_events_handled_again_after_a_kill_change_nothing(loop: DecisionLoop) -> None:
    await loop.publish(*(loop.look(day) for day in range(1, 5)))

    def crash() -> bool:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.store, "commit", crash)  # dies after its commands are in force, before its offsets are
        with pytest.raises(KeyboardInterrupt):
            await loop.worker.step()
    before = await loop.decisions()
    assert before == ["begin", "challenge", "advance", "advance"]
    loop.store.close()
    loop.open()
    assert loop.store.offsets == {}
    await loop.worker.step()
    assert await loop.decisions() == before
    assert loop.store.offsets["evaluations", "evaluator"] == 4


async def test_old_news_of_an_ended_rollout_is_read_and_not_acted_upon(loop: DecisionLoop) -> None:
    name = loop.config.experiment
    await control.change(loop.state, name, Command(name="abort", actor="op", reason="r"), T0 + 1)
    stages = tuple(stage.stage() for stage in loop.config.ramp)
    again = Command(name="challenge", actor="op", reason="r", version="v0003", shadow=stages[0], stages=stages)
    await control.change(loop.state, name, again, T0 + 2)
    await loop.publish(
        loop.look(5, result="worse", cause=VerdictCause.HARM), loop.look(6, result="better", cause=VerdictCause.WIN)
    )
    await loop.worker.step()
    record = await loop.record()
    assert record.rollouts[0].challenger == "v0003"
    assert loop.store.offsets["evaluations", "evaluator"] == 2


async def test_what_is_no_event_or_cannot_be_judged_is_skipped(loop: DecisionLoop) -> None:
    await loop.evaluator.append(
        [
            Record(keys.EVALUATIONS, "junk", T0, b"not json"),
            Record(
                keys.DRIFT,
                "odd",
                T0,
                events.encode(
                    msgspec.structs.replace(
                        retraining_data.drift(T0), severity="PURPLE", experiment=loop.config.experiment
                    )
                ),
            ),
        ]
    )
    await loop.publish(loop.look(3))
    await loop.worker.step()
    assert await loop.decisions() == ["begin", "challenge", "advance"]
    assert loop.store.offsets["drift", "evaluator"] == 1


async def test_an_outage_of_the_state_holds_and_loses_nothing(
    loop: DecisionLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await loop.publish(*(loop.look(day) for day in range(1, 8)))

    async def down(*_: object, **__: object) -> None:
        raise StateUnavailable("gone for lunch")

    with monkeypatch.context() as outage:
        outage.setattr(loop.state, "put", down)
        for _ in range(3):
            with pytest.raises(StateUnavailable):
                await loop.worker.step()
        assert await loop.decisions() == ["begin", "challenge"]
    await loop.worker.step()
    assert await loop.decisions() == ["begin", "challenge", "advance", "advance", "advance"]


async def test_an_outage_of_the_log_never_stops_decisions(loop: DecisionLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: object, **__: object) -> None:
        raise LogUnavailable("disk full")

    job = JobRecord(
        id="retrain_20231115_001",
        status="failed",
        trigger="drift",
        request="e1",
        severity="HIGH",
        reason="drift",
        champion="v0001",
        recipe="default",
        created_at=T0,
        updated_at=T0,
        ended_at=T0,
    )
    loop.store.put(job)
    with monkeypatch.context() as outage:
        outage.setattr(loop.writer, "append", down)
        for day in (3, 6):
            await loop.publish(loop.look(day))
            with pytest.raises(LogUnavailable):
                await loop.worker.step()
    assert await loop.decisions() == ["begin", "challenge", "advance", "advance"]
    assert [e.id for _, e in loop.store.outbox()] == [job.id]
    await loop.worker.step()
    assert loop.store.outbox() == []
    assert await loop.reader.end(keys.JOBS, "retrainer") == 1
    assert job.id in (loop.data / "retraining_jobs.jsonl").read_text()
