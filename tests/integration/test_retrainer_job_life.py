"""A job's life against every way to spoil it: cancelled in each state, too greedy, too loud, or a model of no use.

Whatever comes, the job ends with a reason, nothing of it stays, and its siblings go on.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from builders import retraining_data
from builders.retrainer_loop import RetrainerLoop
from builders.service_processes import alive

from gauntlet import control, keys
from gauntlet.errors import BadInput, TransitionRefused
from gauntlet.rollout import Control
from retrainer.jobs.job_dir import Answer, JobFolder
from retrainer.jobs.job_host import JobHost
from retrainer.records import rows

pytestmark = pytest.mark.asyncio

_TRAINERS = "builders.retraining_data:"


async def record(loop: RetrainerLoop) -> Control:
    _, found = await control.read(loop.state, "turning")
    assert found is not None
    return found


async def test_models_of_no_use_fail_their_jobs_by_name_and_their_sibling_goes_on(tmp_path: Path) -> None:
    reasons = {
        "nan_trainer": "gives no usable answer on",
        "narrow_trainer": "can't take the champion's place",
        "unsavable_trainer": "cannot be saved: TypeError: cannot pickle '_thread.lock' object",
        "broken_trainer": "no luck today",
    }
    recipes = [f"{{name: bad{i}, trainer: '{_TRAINERS}{trainer}'}}" for i, trainer in enumerate(reasons)]
    config = retraining_data.configuration(
        tmp_path, rule="refresh", recipes=f"[{', '.join(recipes)}, {{name: good, trainer: '{_TRAINERS}good_trainer'}}]"
    )
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.store.live is None)
        *bad, good = loop.store.jobs.values()
        assert [j.status for j in bad] == ["failed"] * len(reasons)
        for job, reason in zip(bad, reasons.values(), strict=True):
            assert reason in (job.answer.error or ""), job.answer.error
        assert (good.status, good.answer.version) == ("completed", "v0002")
        assert [v.note for v in loop.registry.versions()] == ["", good.id], "nothing of the others is registered"
        assert [alert.name for _, alert in loop.store.alerts()] == ["training_failed"] * len(reasons)


@pytest.mark.parametrize("fault", ["too few", "one class", "no truths", "other columns"])
async def test_rows_that_cannot_be_learned_from_fail_the_job_and_count_for_nothing(tmp_path: Path, fault: str) -> None:
    """The job says why and changes nothing; it is not an attempt, starts no cool-down and is no success in the records.
    The cause is tried again after the minimum interval."""
    reasons = {
        "too few": "not enough labelled rows",
        "one class": "have no example of [1]",
        "no truths": "the outcome is unusable in",
        "other columns": "x1 is unusable in 100% of them",
    }
    config = retraining_data.configuration(tmp_path, max_attempts=1)
    now = await retraining_data.lay(config, fault=fault)
    async with RetrainerLoop(config) as loop:
        before = await record(loop)
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.store.live is None)
        job = loop.only_job
        assert (job.status, job.accepted) == ("failed", None)
        assert reasons[fault] in (job.answer.error or "")
        assert [v.version for v in loop.registry.versions()] == ["v0001"]
        assert await record(loop) == before
        assert rows.of_event(job)["execution_successful"] is False
        bad = fault in ("no truths", "other columns")
        assert [alert.name for _, alert in loop.store.alerts()] == ["data_quality_low" if bad else "training_failed"]

        context = loop.worker.runner.context(await record(loop))
        assert (context.attempts, context.failures, context.last_attempt_ended) == (0, 1, None)
        later = now + config.retrain.min_interval
        await loop.publish(keys.DRIFT, retraining_data.drift(later - 1, event="escalate"))
        await loop.worker.step()
        assert len(loop.store.jobs) == 1
        await loop.publish(keys.DRIFT, retraining_data.drift(later, event="escalate"))
        await loop.worker.step()
        assert len(loop.store.jobs) == 2


async def test_a_job_that_eats_memory_is_aborted_with_its_children(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, trainer=f"{_TRAINERS}greedy_trainer", max_memory_bytes=400 * 2**20)
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.only_job.ended_at is not None)
        job = loop.only_job
        assert job.status == "aborted"
        assert "more than retrain.max_memory_bytes = 419,430,400" in (job.answer.error or "")
        assert [alert.name for _, alert in loop.store.alerts()] == ["training_memory"]
        assert [v.version for v in loop.registry.versions()] == ["v0001"]


async def test_a_running_job_is_cancelled_with_its_process_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINER_FOLDER", str(tmp_path))
    recipes = f"[{{name: loud, trainer: '{_TRAINERS}loud_trainer'}}, {{name: good}}, {{name: third}}]"
    config = retraining_data.configuration(tmp_path, rule="refresh", recipes=recipes)
    now = await retraining_data.lay(config)
    started = tmp_path / "started"
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: started.exists() and started.read_text() != "")
        loud, good, third = loop.store.jobs
        runner = loop.worker.runner
        folder = JobFolder(Path(config.data) / "jobs" / loud)
        await loop.turn_until(lambda: "now with token=***" in folder.log(200))  # the newest lines, without secrets
        await loop.turn_until(lambda: folder.output.stat().st_size <= 4 * 2**20 and folder.heartbeat() is not None)
        assert folder.output.read_bytes().startswith(b"[earlier output is dropped]\n")
        step = folder.step()
        assert step is not None
        assert step.step.startswith("training on")

        cancelled = await runner.cancel(loud, "ann", "too loud")
        assert (cancelled.status, cancelled.answer.error) == ("cancelled", "cancelled by ann: too loud")
        assert cancelled.seconds > 0
        assert not alive(int(started.read_text()))
        assert await runner.cancel(loud, "bob", "me too") == cancelled, "repeated, it is the same answer"
        waiting = await runner.cancel(third, "ann", "not needed")
        assert (waiting.status, waiting.seconds) == ("cancelled", 0.0)
        await loop.turn_until(lambda: loop.store.live is None)
        assert [j.status for j in loop.store.jobs.values()] == ["cancelled", "completed", "cancelled"]
        with pytest.raises(TransitionRefused, match=f"{good} is completed already"):
            await runner.cancel(good, "ann", "too late")
        with pytest.raises(BadInput, match="there is no job 'retrain_1'"):
            await runner.cancel("retrain_1", "ann", "?")
        assert loop.store.alerts() == [], "whoever cancels knows of it"
        assert [v.version for v in loop.registry.versions()] == ["v0001", "v0002"]


async def test_a_job_is_cancelled_until_its_version_has_its_rollout(tmp_path: Path) -> None:
    """A version that is registered and not challenged yet is archived with its job; one that has its rollout stays."""
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.only_job.status == "completed")
        done = loop.only_job
        loop.store.jobs[done.id] = msgspec.structs.replace(
            done, status="running"
        )  # the retrainer was killed after the challenge, before its commit
        with pytest.raises(TransitionRefused, match=r"v0002 of .* has its rollout: end that with  gauntlet abort"):
            await loop.worker.runner.cancel(done.id, "ann", "?")

        model, schema = retraining_data.champion_of("classification"), loop.registry.get("v0001").schema
        other = msgspec.structs.replace(done, id="retrain_20231225_002", status="running", answer=Answer())
        loop.store.jobs[other.id] = other
        loop.registry.register(model, schema, created_at=now, note=other.id)
        assert (await loop.worker.runner.cancel(other.id, "ann", "?")).status == "cancelled"
        assert loop.registry.statuses()["v0003"] == "archived"
        assert (await record(loop)).challenged_by("v0003") is None


async def test_side_by_side_a_job_that_hangs_holds_up_no_sibling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once: the third waits for a free slot, is not held up by the first, and all three are told one by one."""
    monkeypatch.setenv("TRAINER_FOLDER", str(tmp_path))
    recipes = f"[{{name: slow, trainer: '{_TRAINERS}patient_trainer'}}, {{name: good}}, {{name: third}}]"
    config = retraining_data.configuration(tmp_path, rule="refresh", recipes=recipes, parallel_jobs=2)
    now = await retraining_data.lay(config)
    started = tmp_path / "started"
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: len(loop.store.jobs) == 3)
        assert [j.status for j in loop.store.jobs.values()] == ["running", "running", "pending"]
        slow, good, third = loop.store.jobs
        await loop.turn_until(lambda: loop.store.jobs[third].status == "completed" and started.exists())
        assert [j.status for j in loop.store.jobs.values()] == ["running", "completed", "completed"]
        (tmp_path / "go").touch()
        await loop.turn_until(lambda: loop.store.live is None)
        versions = {v.note: v.version for v in loop.registry.versions()}
        assert set(versions) == {"", slow, good, third}
        challenged = {rollout.challenger for rollout in (await record(loop)).rollouts}
        assert challenged == {versions[id] for id in (slow, good, third)}


async def test_a_jobs_process_gets_no_api_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRAIN_TEST_KEY", "k" * 20)
    monkeypatch.setenv("TRAINER_FOLDER", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    host = JobHost(hidden={"RETRAIN_TEST_KEY"})
    folder = JobFolder(tmp_path / "jobs" / "one")
    folder.path.mkdir(parents=True)
    folder.spec_path.write_text("{}")
    await host.run(folder, 60)
    (process,) = [int(pid) for pid in _children(os.getpid()) if b"retrainer.jobs.job_host" in _file(pid, "cmdline")]
    environ = _file(str(process), "environ")
    assert b"TRAINER_FOLDER=" in environ
    assert f"OMP_NUM_THREADS={max(1, (os.cpu_count() or 1) // 2)}".encode() in environ, "half of the cores"
    assert b"RETRAIN_TEST_KEY" not in environ
    await host.close()


def _children(pid: int) -> list[str]:
    return [c for task in Path(f"/proc/{pid}/task").glob("*/children") for c in task.read_text().split()]


def _file(pid: str, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()
