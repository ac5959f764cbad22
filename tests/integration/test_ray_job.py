"""Jobs on a real Ray cluster, submitted by `retrain.command`: one to its end, and one that is cancelled."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import parts
import pytest
from builders import retraining_data
from builders.retrainer_loop import RetrainerLoop

from gauntlet import keys
from gauntlet.config import Config

pytestmark = pytest.mark.asyncio


def configuration(folder: Path, ray: parts.Ray, **retrain: object) -> Config:
    """The cluster's workers have an environment of their own; the job needs this one's."""
    path = os.pathsep.join(filter(None, sys.path))
    job = ["env", f"PYTHONPATH={path}", f"TRAINER_FOLDER={folder}", sys.executable, "-m", "retrainer.jobs.job"]
    submit = [str(ray.program), "job", "submit", "--address", ray.url, "--", *job, "{spec}"]
    words = ["env", "-u", "PYTHONPATH", *submit]
    return retraining_data.configuration(folder, command=json.dumps(words), **retrain)


async def test_a_job_on_ray_is_the_same_job(ray_cluster: parts.Ray, tmp_path: Path) -> None:
    config = configuration(tmp_path, ray_cluster)
    now = await retraining_data.lay(config)
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: bool(loop.store.jobs) and loop.store.live is None, seconds=200)
        (done,) = loop.store.jobs.values()
        assert (done.status, done.answer.version) == ("completed", "v0002"), done.answer
        assert "succeeded" in loop.worker.runner.folder(done.id).log(2000)


async def test_a_cancelled_job_on_ray_leaves_the_cluster(ray_cluster: parts.Ray, tmp_path: Path) -> None:
    config = configuration(tmp_path, ray_cluster, trainer="builders.retraining_data:patient_trainer")
    now = await retraining_data.lay(config)
    started = tmp_path / "started"
    async with RetrainerLoop(config) as loop:
        await loop.publish(keys.DRIFT, retraining_data.drift(now))
        await loop.turn_until(lambda: started.exists() and started.read_text() != "", seconds=200)
        (job,) = loop.store.jobs
        await loop.worker.runner.cancel(job, "ann", "not today")
        stat = Path(f"/proc/{started.read_text()}/stat")
        assert not stat.exists() or stat.read_text().split()[2] == "Z"
        assert [version.version for version in loop.registry.versions()] == ["v0001"]
