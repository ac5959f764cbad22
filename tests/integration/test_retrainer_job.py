"""The retrainer's job as a real process on a real log: what it learns, what it registers, what it refuses."""

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from builders import retraining_data
from builders.retrainer_loop import RetrainerLoop
from builders.retraining_jobs import order, run, untimed

from gauntlet import adapters, control, keys
from gauntlet.events import Job
from gauntlet.status import RetrainerProgress
from retrainer.jobs import dataset, job
from retrainer.jobs.job_dir import Answer, JobFolder
from retrainer.jobs.job_host import JobHost, ProcessEnd
from retrainer.store import RetrainerStore


def run_process(folder: JobFolder) -> tuple[int, Answer]:
    ended = subprocess.run(
        [sys.executable, "-m", "retrainer.jobs.job", str(folder.spec_path)],
        env={"PYTHONPATH": os.pathsep.join(p or "." for p in sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    answer = folder.answer()
    assert answer is not None, ended.stderr
    return ended.returncode, answer


async def test_a_turned_concept_gives_an_accepted_and_registered_challenger(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config)
    code, answer = await asyncio.to_thread(run_process, await order(config, now))
    assert (code, answer.error) == (0, None)
    assert answer.accepted, answer.reason
    assert answer.version == "v0002"
    champion, challenger, holdout = (answer.metrics[name] for name in ("champion", "challenger", "holdout"))
    assert challenger["log_loss"] < champion["log_loss"] - 0.01
    assert challenger["accuracy"] > champion["accuracy"]
    assert holdout["improvement"] == pytest.approx(champion["log_loss"] - challenger["log_loss"])
    assert 0 < holdout["lower"] < holdout["improvement"]
    assert holdout["blocks"] == 14

    registry = adapters.registry(config)
    version = registry.get("v0002")
    holdout_from = now - 15 * retraining_data.DAY  # one day more than the holdout: the outcome horizon
    assert (version.parent, version.note, version.algorithm) == ("v0001", "retrain_20231224_001", "LogisticRegression")
    assert version.data_from is not None
    assert version.data_to is not None
    assert retraining_data.START <= version.data_from < version.data_to < holdout_from
    assert version.rows == answer.split["train_rows"]
    assert version.metrics == challenger
    assert version.checksum
    predictor = registry.load("v0002")
    assert predictor.predict([{"x1": 2.0, "x2": 0.0, "x3": 0.0}])[0, 0] > 0.5, "it has learned the turned concept"

    reference = registry.reference("v0002")
    assert reference is not None
    assert list(reference.columns) == list(retraining_data.NAMES)
    assert reference.rows == len(reference.at) == version.rows + answer.split["holdout_rows"]
    assert reference.at == sorted(reference.at)
    assert reference.honest == list(range(version.rows, reference.rows)), "what it was trained on is not a measure"
    assert reference.at[version.rows - 1] < holdout_from <= reference.at[version.rows]
    assert np.mean(reference.losses[version.rows :]) == pytest.approx(challenger["log_loss"])
    row = {name: values[-1] for name, values in reference.columns.items()}
    assert reference.outputs[-1] == pytest.approx(predictor.predict([row])[0].tolist())


async def test_where_answers_change_outcomes_it_learns_from_the_champions_own_rows(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, rows="champion")
    now = await retraining_data.lay(config, ramp_from=20)
    answer = await run(await order(config, now))
    assert answer.version == "v0002", answer
    rows = answer.split["train_rows"] + answer.split["holdout_rows"]
    assert 0.1 < answer.split["skipped_challenger"] / (answer.split["skipped_challenger"] + rows) < 0.25
    assert answer.warnings == []
    assert adapters.registry(config).get("v0002").parameters["rows"] == "champion"


async def test_the_same_job_gives_the_same_answer_twice(tmp_path: Path) -> None:
    answers = []
    for name in ("one", "two"):
        config = retraining_data.configuration(tmp_path / name)
        now = await retraining_data.lay(config)
        answers.append(untimed(await run(await order(config, now))))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("rule", "most", "accepted"), [("prove", 0.1, False), ("prove", "null", True), ("refresh", 0.1, True)]
)
async def test_a_model_that_answers_more_slowly_is_refused(
    tmp_path: Path, rule: str, most: object, accepted: bool
) -> None:
    slow = "builders.retraining_data:slow_trainer"
    config = retraining_data.configuration(tmp_path, rule=rule, trainer=slow, max_latency_increase=most)
    now = await retraining_data.lay(config)
    answer = await run(await order(config, now))
    assert (answer.accepted, answer.version is not None) == (accepted, accepted)
    if accepted:
        code = hashlib.sha256(Path(retraining_data.__file__).read_bytes()).hexdigest()
        assert adapters.registry(config).get("v0002").parameters["trainer_sha256"] == code
    assert answer.metrics["latency"]["ratio"] > 2
    assert answer.metrics["latency"]["challenger_ms"] > answer.metrics["latency"]["champion_ms"] + 1
    told = "more than the +10% allowed (retrain.max_latency_increase)"
    assert (told in answer.reason) is not accepted
    assert (told in "; ".join(answer.warnings)) is (rule == "refresh")


async def test_without_drift_the_champion_stays(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config, turn=None)
    answer = await run(await order(config, now))
    assert (answer.accepted, answer.version, answer.error) == (False, None, None)
    assert "an improvement by 0.01 is asked for" in answer.reason
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001"]


async def test_under_refresh_what_is_no_worse_goes_on_fitted_anew_on_all_rows(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, rule="refresh")
    now = await retraining_data.lay(config, turn=None)
    answer = await run(await order(config, now))
    assert (answer.accepted, answer.version) == (True, "v0002")
    version = adapters.registry(config).get("v0002")
    assert version.data_to is not None
    assert version.data_to > now - 2 * retraining_data.DAY, "the held-out days are in it"


async def test_a_regression_is_retrained_too(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, "regression")
    now = await retraining_data.lay(config)
    answer = await run(await order(config, now))
    assert answer.accepted, answer.reason
    assert set(answer.metrics["challenger"]) == {"rmse", "mae", "r2"}
    assert answer.metrics["challenger"]["rmse"] < answer.metrics["champion"]["rmse"]


async def test_a_failing_trainer_is_named_and_leaves_nothing_registered(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, trainer="builders.retraining_data:broken_trainer")
    now = await retraining_data.lay(config)
    answer = await run(await order(config, now))
    assert answer.error is not None
    assert "builders.retraining_data:broken_trainer" in answer.error
    assert "no luck today" in answer.error
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001"]


async def test_a_drift_event_becomes_a_job_a_version_and_a_rollout(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: [j.status for j in loop.store.jobs.values()] == ["completed"])

        _, record = await control.read(loop.state, "turning")
        assert record is not None
        assert (record.rollouts[0].challenger, record.rollouts[0].stage, record.rollouts[0].started_at) == (
            "v0002",
            -1,
            now,
        )
        assert [s.share for s in record.rollouts[0].stages] == [0.01, 0.05, 0.1]
        assert record.last is not None
        assert record.last.actor == "retrainer"
        assert "log_loss improves by" in record.last.reason

        jobs = [e for e in await loop.events(keys.JOBS) if isinstance(e, Job)]
        assert [e.status for e in jobs] == ["pending", "running", "completed"]
        assert {e.id for e in jobs} == {"retrain_20231225_001"}
        assert (jobs[-1].accepted, jobs[-1].version) == (True, "v0002")
        lines = (Path(config.data) / "retraining_jobs.jsonl").read_text().splitlines()
        assert [msgspec.json.decode(line)["decision"] for line in lines] == ["accept the challenger"]

        assert loop.registry.aliases() == {"champion": "v0001", "challenger": "v0002"}
        assert loop.registry.statuses() == {"v0001": "production", "v0002": "staging"}
        _, value = await loop.state.get(keys.retrainer_progress("turning"))
        report = msgspec.json.decode(value, type=RetrainerProgress)
        assert (report.at, report.running, report.offsets["drift/evaluator"]) == (now, None, 1)
        assert [job.status for job in report.jobs] == ["completed"]


async def test_a_killed_job_finds_the_version_that_it_had_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config)
    folder = await order(config, now)

    def die(_: JobFolder, __: Answer) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(JobFolder, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            await asyncio.to_thread(job.run, folder)
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001", "v0002"]
    assert folder.answer() is None
    answer = await run(folder)
    assert (answer.accepted, answer.version) == (True, "v0002")
    assert answer.metrics["challenger"] == adapters.registry(config).get("v0002").metrics
    assert len(adapters.registry(config).versions()) == 2


async def test_a_running_job_delays_no_event_and_is_aborted_at_its_time_limit(tmp_path: Path) -> None:
    config = retraining_data.configuration(
        tmp_path, trainer="builders.retraining_data:patient_trainer", time_limit="1s"
    )
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.worker.step()
        live = loop.store.live
        assert live is not None
        assert live.status == "running"
        await loop.publish(keys.DRIFT, retraining_data.drift(now + 60, event="escalate"))
        await loop.worker.step()
        assert loop.store.now == now + 60, "no event waits for the job"
        assert loop.store.live == live, "single flight"
        await loop.turn_until(lambda: loop.store.jobs[live.id].status != "running")
        aborted = loop.store.jobs[live.id]
        assert (aborted.status, aborted.answer.error, aborted.accepted) == ("aborted", "it took longer than 1 s", None)
        (alert,) = [alert for _, alert in loop.store.alerts()]
        assert (alert.name, alert.severity, alert.job) == ("training_timeout", "HIGH", live.id)
        assert "drift" in loop.store.requests, "the episode is still open, and is asked again after the cool-down"
        await loop.publish(keys.DRIFT, retraining_data.drift(now + config.retrain.cool_down, event="escalate"))
        await loop.worker.step()
        assert len(loop.store.jobs) == 1, "one minute is missing"
        await loop.publish(keys.DRIFT, retraining_data.drift(now + config.retrain.cool_down + 60, event="escalate"))
        await loop.worker.step()
        assert [j.status for j in loop.store.jobs.values()] == ["aborted", "running"]
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001"]


GARBAGE = b"\x00 no JSON \xff"


async def test_a_damaged_answer_fails_its_job_by_name_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario: the job's process has ended, and its answer can't be read. Expected: this job has failed, with the file
    and the cause; the events go on."""
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config)
    answers: list[Path] = []

    async def process(_: JobHost, folder: JobFolder, limit: float) -> ProcessEnd:
        answers.append(folder.path / "answer.json")
        answers[-1].write_bytes(GARBAGE)
        return ProcessEnd(0, 1.0)

    monkeypatch.setattr(JobHost, "run", process)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: [j.status for j in loop.store.jobs.values()] == ["failed"])
        (job,) = loop.store.jobs.values()
        assert job.answer.error is not None
        assert job.answer.error.startswith(f"{answers[0].absolute()} can't be read: ")
        assert job.answer.error.endswith("; the job is given up; the next request starts another")
        await loop.publish(keys.DRIFT, retraining_data.drift(now + 60, event="escalate"))
        await loop.worker.step()
        assert loop.store.now == now + 60
        assert loop.worker.problems.open == []


async def test_a_step_that_cannot_be_read_is_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config)

    async def process(_: JobHost, folder: JobFolder, limit: float) -> ProcessEnd:
        (folder.path / "step.json").write_bytes(GARBAGE)
        await asyncio.sleep(60)
        return ProcessEnd(0, 1.0)

    monkeypatch.setattr(JobHost, "run", process)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        for _ in range(3):
            await loop.worker.step()
        _, value = await loop.state.get(keys.retrainer_progress("turning"))
        shown = msgspec.json.decode(value, type=RetrainerProgress).running
        assert shown is not None
        assert shown.step == "running"


async def test_a_job_that_cannot_be_started_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario: a file stands where the jobs' folder should be. Expected: one line and an open problem, events are
    handled and committed, and the job starts once the file is gone."""
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config)
    blocking = Path(config.data) / "jobs"
    blocking.write_text("not a folder")

    async def process(*_: object) -> ProcessEnd:
        await asyncio.sleep(60)
        return ProcessEnd(0, 1.0)

    monkeypatch.setattr(JobHost, "run", process)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        for _ in range(3):
            await loop.worker.step()
        (problem,) = loop.worker.problems.open
        assert (problem.code, str(blocking) in problem.text) == ("job_not_started", True)
        assert len([r for r in caplog.records if "event=job_not_started" in r.getMessage()]) == 1
        assert RetrainerStore(Path(config.data), "turning").offsets["drift", "evaluator"] == 1
        blocking.unlink()
        await loop.worker.step()
        assert loop.store.live is not None
        assert loop.store.live.status == "running"
        assert loop.worker.problems.open == []


async def test_a_job_on_a_full_disk_fails_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config, days=15)
    folder = await order(config, now)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def collect(*_: object, **__: object) -> None:
        raise full

    monkeypatch.setattr(dataset, "collect", collect)
    answer = await run(folder)
    assert answer.error is not None
    assert answer.error.startswith("the disk is full: [Errno 28] No space left on device; free space")
    (folder.path / "answer.json").unlink()

    def finish(*_: object) -> None:
        raise full

    monkeypatch.setattr(JobFolder, "finish", finish)
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(job.main, [str(folder.spec_path)])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("the disk is full: ")


@pytest.mark.parametrize("name", ["spec.json", "judged.json", "answer.json"])
async def test_a_restarted_job_names_what_it_cannot_read(tmp_path: Path, name: str) -> None:
    config = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config, days=15)
    folder = await order(config, now)
    (folder.path / name).write_bytes(GARBAGE)
    answer = await run(folder)
    assert answer.error is not None
    assert answer.error.startswith(f"{folder.path / name} can't be read: ")
