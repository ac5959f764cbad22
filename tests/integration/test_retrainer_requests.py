"""From the evaluator's events to requests and jobs, through the worker's loop: every trigger, kills, bad data."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from builders import retraining_data
from builders.retrainer_loop import RetrainerLoop

from gauntlet import control, keys, status
from gauntlet.config import Config
from gauntlet.config.retrain import ScheduleConfig
from gauntlet.config.section import Seconds
from gauntlet.config.triggers import (
    DriftTrigger,
    PerformanceTrigger,
    QualityTrigger,
    RuleConfig,
    TriggersConfig,
    VolumeTrigger,
)
from gauntlet.events import Health
from gauntlet.rollout import Command
from retrainer.jobs.job_dir import Answer, JobFolder
from retrainer.jobs.job_host import JobHost, ProcessEnd

DAY = retraining_data.DAY
T0 = retraining_data.START


def health(day: int, accuracy: float, outcomes: int = 100, model: str = retraining_data.CHAMPION) -> Health:
    return Health(
        id=f"{model}/{day}",
        at=T0 + day * DAY,
        experiment="turning",
        model=model,
        outcomes=outcomes,
        metrics={"accuracy": accuracy},
    )


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """A configuration with these triggers, whose jobs have history to train on, and end at once without an answer."""

    async def process(_: JobHost, folder: JobFolder, limit: float) -> ProcessEnd:
        return ProcessEnd(1, 0.0)

    monkeypatch.setattr(JobHost, "run", process)

    def make(**triggers: object) -> Config:
        config = retraining_data.configuration(tmp_path, loader="builders.retraining_data:history")
        retrain = msgspec.structs.replace(config.retrain, triggers=TriggersConfig(**triggers))  # type: ignore[arg-type]
        return msgspec.structs.replace(config, retrain=retrain)

    return make


async def test_a_fall_of_the_champions_accuracy_asks_and_ends_with_it(configured: Callable[..., Config]) -> None:
    config = configured(performance=PerformanceTrigger(mode="automatic"))
    await retraining_data.lay(config, days=1)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.EVALUATIONS, *(health(day, 0.9) for day in range(1, 5)))
        await loop.worker.step()
        assert loop.store.requests == {}
        await loop.publish(keys.EVALUATIONS, *(health(day, 0.75 + 0.01 * (day % 2)) for day in range(10, 16)))
        await loop.worker.step()
        (job,) = loop.store.jobs.values()
        assert (job.trigger, job.severity) == ("performance", "CRITICAL")
        assert "baseline 0.9000 of its first 100 outcomes" in job.reason
        assert loop.store.requests["performance"].attempted
        await loop.publish(keys.EVALUATIONS, *(health(day, 0.9) for day in range(20, 28)))
        await loop.worker.step()
        assert loop.store.requests == {}, "the fall is over"


async def test_what_only_suggests_or_waits_for_approval_starts_nothing(configured: Callable[..., Config]) -> None:
    rules = [RuleConfig(name="few", condition="accuracy < 0.95", action="investigate_and_retrain")]
    config = configured(volume=VolumeTrigger(samples=99), rules=rules)
    await retraining_data.lay(config, days=1)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.EVALUATIONS, health(1, 0.9), health(2, 0.9))
        await loop.worker.step()
        assert {key: r.mode for key, r in loop.store.requests.items()} == {"volume": "suggest", "rule:few": "approve"}
        assert not loop.store.jobs
        few = loop.store.requests["rule:few"]
        loop.store.open_request(msgspec.structs.replace(few, approved_by="ann"))
        await loop.worker.step()
        assert [j.trigger for j in loop.store.jobs.values()] == ["rule"]
        assert all(r.attempted and r.approved_by is None for r in loop.store.requests.values())
        await loop.turn_until(lambda: loop.store.live is None)
        await loop.worker.step()
        assert not loop.worker.problems.open, "nobody is asked again before the next job could start"
        await loop.publish(keys.EVALUATIONS, health(3, 0.9))
        await loop.worker.step()
        assert [problem.code for problem in loop.worker.problems.open] == ["approval_asked"]


async def test_a_cause_must_last_also_across_a_kill(configured: Callable[..., Config], tmp_path: Path) -> None:
    config = configured(drift=DriftTrigger(lasting=Seconds(DAY)))
    await retraining_data.lay(config, days=1)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(T0 + DAY))
        await loop.worker.step()
        assert loop.store.requests == {}
        learned = loop.store.learned
    async with RetrainerLoop(config) as loop:
        assert loop.store.learned == learned, "nothing is forgotten"
        await loop.publish(keys.EVALUATIONS, health(1, 0.9), health(2, 0.9))
        await loop.worker.step()
        assert [j.trigger for j in loop.store.jobs.values()] == ["drift"]


async def test_events_handled_again_after_a_kill_count_once(configured: Callable[..., Config]) -> None:
    config = configured(volume=VolumeTrigger(samples=250))
    await retraining_data.lay(config, days=1)

    def crash() -> bool:
        raise KeyboardInterrupt

    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.EVALUATIONS, health(1, 0.9), health(2, 0.9))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.store, "commit", crash)
            with pytest.raises(KeyboardInterrupt):
                await loop.worker.step()
    async with RetrainerLoop(config) as loop:
        await loop.worker.step()
        assert sum(rows for _, rows in loop.store.learned.labelled) == 200
        assert loop.store.requests == {}


async def test_bad_data_starts_nothing_and_is_told_once(configured: Callable[..., Config]) -> None:
    rules = [RuleConfig(name="always", condition="accuracy < 1", severity="CRITICAL")]
    config = configured(rules=rules)
    await retraining_data.lay(config, days=1)
    damaged = {"root_cause": "quality", "action": "quarantine"}
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(T0 + DAY, quality=0.69, **damaged))
        await loop.publish(keys.EVALUATIONS, health(2, 0.9), health(3, 0.9))
        await loop.worker.step()
        assert sorted(loop.store.requests) == ["drift", "quality", "rule:always"]
        assert not loop.store.jobs
        await loop.worker.step()
        (alert,) = [alert for _, alert in loop.store.alerts()]
        assert (alert.name, alert.severity) == ("data_quality_low", "CRITICAL")
        await loop.publish(keys.DRIFT, retraining_data.drift(T0 + 4 * DAY, event="close", **damaged))
        await loop.worker.step()
        assert [j.trigger for j in loop.store.jobs.values()] == ["rule"]


async def test_the_latest_quality_is_known_without_an_episode_and_over_a_restart(
    configured: Callable[..., Config],
) -> None:
    """As the evaluator reports it of the champion; of another model it says nothing."""
    config = configured(quality=QualityTrigger(score=0.95))
    await retraining_data.lay(config, days=1)

    async def reported(loop: RetrainerLoop, model: str, score: float) -> None:
        quality = status.Quality(model=model, score=score)
        key = keys.evaluator_progress(config.experiment)
        await status.publish(loop.state, key, status.EvaluatorProgress(quality=quality))
        await loop.worker.step()

    async def checked(loop: RetrainerLoop) -> tuple[bool | None, float | None]:
        found = await loop.worker.operations.check()
        (one,) = [one for one in found.conditions if one.name == "data_quality"]
        return one.met, one.value

    async with RetrainerLoop(config) as loop:
        await loop.worker.step()
        assert await checked(loop) == (None, None)
        await reported(loop, retraining_data.CHAMPION, 0.97)
        assert await checked(loop) == (False, 0.97)
        await reported(loop, "v0099", 0.5)
        assert await checked(loop) == (None, None)
        await reported(loop, retraining_data.CHAMPION, 0.94)
        assert await checked(loop) == (True, 0.94)
        assert [*loop.store.requests] == ["quality"]
        await loop.killed()
        await loop.worker.step()
        assert await checked(loop) == (True, 0.94)


async def test_triggers_that_fail_hold_up_no_decision(
    configured: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured()
    await retraining_data.lay(config, days=1)
    async with RetrainerLoop(config) as loop:
        monkeypatch.setattr("retrainer.triggers.causes.find", lambda *_: 1 / 0)
        await loop.publish(keys.EVALUATIONS, health(1, 0.9))
        await loop.worker.step()
        assert loop.store.offsets["evaluations", "evaluator"] == 1
        assert [p.code for p in loop.worker.problems.open] == ["triggers_not_judged"]
        monkeypatch.undo()
        await loop.worker.step()
        assert not loop.worker.problems.open


async def test_a_model_that_its_bake_takes_back_asks_urgently_once(configured: Callable[..., Config]) -> None:
    config = configured()
    await retraining_data.lay(config, days=1)
    async with RetrainerLoop(config) as loop:
        stages = config.ladder(config.retrain.rule)
        name = config.experiment
        for command in (
            Command(name="challenge", actor="t", reason="r", version="v0002", shadow=stages[0], stages=stages[1]),
            Command(
                name="promote", actor="t", reason="r", rollout="turning-r0001", from_stage=-1, bake_seconds=9 * DAY
            ),
        ):
            await control.change(loop.state, name, command, T0 + DAY)
        worse = Health(
            id="h",
            at=T0 + 2 * DAY,
            experiment=name,
            model="v0002",
            outcomes=600,
            metrics={"accuracy": 0.5},
            previous="v0001",
            promotion="turning-r0001",
            realised_gain=-0.2,
            realised_upper=-0.1,
            realised_pairs=600,
        )
        await loop.publish(keys.EVALUATIONS, health(1, 0.9), worse)
        await loop.worker.step()
        (job,) = loop.store.jobs.values()
        assert (job.trigger, job.severity, job.champion) == ("rollback", "CRITICAL", "v0001")
        assert "v0002 was taken back: worse than v0001" in job.reason
        for _ in range(3):
            await loop.worker.step()
        assert len(loop.store.jobs) == 1
    async with RetrainerLoop(config) as loop:
        await loop.worker.step()
        assert len(loop.store.jobs) == 1, "a restart does not ask again"
        await loop.turn_until(lambda: loop.store.live is None)
        await loop.publish(keys.EVALUATIONS, health(9, 0.9))  # after the cool-down since the rollout's end
        await loop.worker.step()
        assert [j.trigger for j in loop.store.jobs.values()] == ["rollback", "rollback"], "its job failed"


async def test_no_job_starts_while_all_rows_would_be_held_out(configured: Callable[..., Config]) -> None:
    known = configured(volume=VolumeTrigger(samples=50, mode="automatic"))
    config = msgspec.structs.replace(known, retrain=msgspec.structs.replace(known.retrain, loader=None))
    await retraining_data.lay(config, days=1)
    async with RetrainerLoop(config) as loop:
        for day, left in ((1, 0), (14, 0), (15, 100)):
            await loop.publish(keys.EVALUATIONS, health(day, 0.9))
            await loop.worker.step()
            checked = await loop.worker.operations.check()
            (rows,) = [condition for condition in checked.conditions if condition.name == "rows to train on"]
            assert (rows.value, rows.limit, rows.met) == (left, 100, left == 100)
            told, _, wait = rows.detail.partition("; ")
            assert told == f"{left} labelled rows are left, 100 wanted: the newest 14 d are held out"
            assert wait == {1: "enough in 14 d at the earliest", 14: "enough in 1 d at the earliest"}.get(day, "")
            assert len(loop.store.jobs) == (left == 100)


@pytest.mark.parametrize("fails", [True, False])
async def test_what_the_schedule_asked_for_is_tried_again_where_its_jobs_failed(
    fails: bool, configured: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def process(_: JobHost, folder: JobFolder, limit: float) -> ProcessEnd:
        folder.finish(Answer(error="no warehouse today") if fails else Answer(reason="no better"))
        return ProcessEnd(0, 0.0)

    monkeypatch.setattr(JobHost, "run", process)
    known = configured()
    monthly = ScheduleConfig(every=Seconds(30 * DAY))
    config = msgspec.structs.replace(known, retrain=msgspec.structs.replace(known.retrain, schedule=monthly))
    await retraining_data.lay(config, days=1)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.EVALUATIONS, health(1, 0.9))
        await loop.worker.step()
        await loop.publish(keys.EVALUATIONS, health(31, 0.9))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.store.live is None)
        await loop.worker.step()
        assert ("schedule" in loop.store.requests) is fails
        assert len(loop.store.jobs) == 1
        await loop.publish(keys.EVALUATIONS, health(32, 0.9))
        await loop.turn_until(lambda: loop.store.offsets["evaluations", "evaluator"] == 3 and loop.store.live is None)
        assert [job.request for job in loop.store.jobs.values()] == [f"schedule-{T0 + 31 * DAY:.0f}"] * (1 + fails)


@pytest.mark.parametrize("up_to", ["staging", "canary", "production"])
async def test_a_model_goes_as_far_as_it_may(
    up_to: str, configured: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def process(_: JobHost, folder: JobFolder, limit: float) -> ProcessEnd:
        folder.finish(Answer(accepted=True, version="v0002", reason="better"))
        return ProcessEnd(0, 0.0)

    monkeypatch.setattr(JobHost, "run", process)
    known = configured()
    config = msgspec.structs.replace(known, retrain=msgspec.structs.replace(known.retrain, up_to=up_to))
    await retraining_data.lay(config, days=1)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(T0 + DAY))
        await loop.turn_until(lambda: [j.status for j in loop.store.jobs.values()] == ["completed"])
        (job,) = loop.store.jobs.values()
        _, record = await control.read(loop.state, config.experiment)
        assert record is not None
        if up_to == "staging":
            assert record.rollouts == ()
            assert "registered and not challenged" in job.answer.reason
        else:
            (rollout,) = record.rollouts
            assert rollout.challenger == "v0002"
            asks = up_to == "canary"
            assert [stage.approval for stage in rollout.stages] == [False, False, asks]
