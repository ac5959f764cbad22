"""A retraining job whose registry is at MLflow: what it registers, and a registry that answers late."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from builders import mlflow_database, retraining_data
from mlflow import MlflowClient

from gauntlet import adapters
from gauntlet.errors import RegistryUnavailable
from gauntlet.registry.mlflow_server import MlflowServer
from retrainer.jobs import dataset, job
from retrainer.jobs.job_dir import JobFolder, Spec

pytestmark = [pytest.mark.xdist_group("mlflow"), *mlflow_database.WARNINGS]


@pytest.mark.parametrize("lost", ["the request", "the answer"])
async def test_a_job_waits_for_its_registry_and_registers_once(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    url = mlflow_database.copy(mlflow_template, tmp_path / "server")
    config = msgspec.structs.replace(retraining_data.configuration(tmp_path), registry=f"mlflow+{url}")
    now = await retraining_data.lay(config)
    reader = adapters.local_reader(config)
    spec = Spec(job="retrain_20231224_001", champion="v0001", now=now, ends=await dataset.ends(reader), config=config)
    await reader.close()
    folder = JobFolder(tmp_path / "job")
    folder.prepare(spec)
    upload, told, steps = MlflowServer.upload, [RegistryUnavailable("away"), None], []

    def late(server: MlflowServer, *given: object) -> int:
        error = told.pop(0) if told else None
        if error is not None and lost == "the request":
            raise error
        number = upload(server, *given)  # type: ignore[arg-type]
        if error is not None:
            raise error
        return number

    report = JobFolder.report
    monkeypatch.setattr(MlflowServer, "upload", late)
    monkeypatch.setattr(JobFolder, "report", lambda self, step, *more: [steps.append(step), report(self, step, *more)])
    answer = await asyncio.to_thread(job.run, folder)
    assert (answer.accepted, answer.version, answer.error) == (True, "v0002", None)
    assert "waiting for the registry: away" in steps
    registry = adapters.registry(config)
    assert [entry.version for entry in registry.versions()] == ["v0001", "v0002"]
    entry = registry.get("v0002")
    assert (entry.parent, entry.note) == ("v0001", spec.job)
    run = MlflowClient(url, url).get_run(MlflowClient(url, url).get_model_version("turning", "2").run_id)
    assert run.data.metrics == pytest.approx(entry.metrics)
    assert run.data.params["recipe"] == "default"
