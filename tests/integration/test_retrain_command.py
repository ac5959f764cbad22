"""Jobs by a command (`retrain.command`): the same job elsewhere, and its end wherever it runs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from builders import retraining_data
from builders.retrainer_loop import RetrainerLoop
from builders.retraining_jobs import order
from builders.service_processes import alive

from gauntlet import keys, preflight
from gauntlet.config.load import parse
from gauntlet.errors import ConfigError
from retrainer.jobs import job

pytestmark = pytest.mark.asyncio

# As `docker run` or `ray job submit`: what waits is not the parent of what works.
ELSEWHERE = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-m", "retrainer.jobs.job", sys.argv[1]], start_new_session=True)
print("on some other machine", flush=True)
sys.exit(worker.wait())
"""


async def test_a_job_by_a_command_is_the_same_job(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, command=json.dumps([sys.executable, "-c", ELSEWHERE, "{spec}"]))
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.store.live is None)
        done = loop.only_job
        assert (done.status, done.answer.version) == ("completed", "v0002"), done.answer
        assert loop.worker.runner.folder(done.id).log(100) == "on some other machine\n"


async def test_a_job_elsewhere_ends_when_it_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killing the command that waits for it does not reach it: it ends by itself, and registers nothing."""
    monkeypatch.setenv("TRAINER_FOLDER", str(tmp_path))
    config = retraining_data.configuration(
        tmp_path,
        command=json.dumps([sys.executable, "-c", ELSEWHERE, "{spec}"]),
        trainer="builders.retraining_data:patient_trainer",
    )
    now = await retraining_data.lay(config)
    started = tmp_path / "started"
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: started.exists() and started.read_text() != "")
        worker = int(started.read_text())
        cancelled = await loop.worker.runner.cancel(loop.only_job.id, "ann", "not today")
        assert cancelled.status == "cancelled"
        assert not alive(worker)
        assert [version.version for version in loop.registry.versions()] == ["v0001"]


async def test_a_job_that_was_given_up_before_its_machine_was_free_does_nothing(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path)
    folder = await order(config, await retraining_data.lay(config))
    folder.withdraw()
    with pytest.raises(SystemExit, match="2"):
        job.main([str(folder.spec_path)])
    assert folder.answer() is None


async def test_a_command_that_waits_for_nothing_fails_its_job_by_name(tmp_path: Path) -> None:
    quick = [sys.executable, "-c", "print('submitted')", "{spec}"]
    config = retraining_data.configuration(tmp_path, command=json.dumps(quick))
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.store.live is None)
        assert loop.only_job.status == "failed"
        assert loop.only_job.answer.error == "retrain.command ended with code 0 and without an answer: submitted"


async def test_a_command_over_its_time_is_aborted(tmp_path: Path) -> None:
    command = json.dumps(["sh", "-c", "sleep 600", "{spec}"])
    config = retraining_data.configuration(tmp_path, time_limit="300ms", command=command)
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.store.live is None)
        assert (loop.only_job.status, loop.only_job.answer.alert) == ("aborted", "training_timeout")
        assert loop.worker.runner.folder(loop.only_job.id).withdrawn


async def test_a_command_may_only_wait_for_who_does_the_job(tmp_path: Path) -> None:
    """As a task of Airflow's does it: the command given to the retrainer is the same with `--wait`."""
    config = retraining_data.configuration(tmp_path)
    folder = await order(config, await retraining_data.lay(config))
    waiting = asyncio.create_task(asyncio.to_thread(job.main, [str(folder.spec_path), "--wait"]))
    assert await asyncio.to_thread(job.main, [str(folder.spec_path)]) == 0
    async with asyncio.timeout(60):
        assert await waiting == 0
    answer = folder.answer()
    assert answer is not None
    assert answer.version == "v0002"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("[docker, run, gauntlet]", "`command` must have the word {spec}"),
        ('["{spec}"]', "`command` must have the word {spec}"),
    ],
)
async def test_a_command_without_the_job_is_refused(command: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse(f"experiment: e\nchampion: {{model: m.skops}}\nretrain: {{command: {command}}}")


async def test_a_program_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, command='[no-such-program, "{spec}"]')
    with pytest.raises(ConfigError, match=r"retrain\.command: there is no program 'no-such-program' here"):
        preflight.refuse_functions(config)
