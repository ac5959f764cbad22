"""The registry at a real MLflow server: versions and labels over HTTP, and a router that serves while it hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import parts
import pytest
from builders import mlflow_database, small_experiment

from gauntlet.registry.mlflow import MlflowRegistry
from gauntlet.registry.mlflow_server import MlflowServer

pytestmark = [pytest.mark.xdist_group("mlflow"), *mlflow_database.WARNINGS]
ROWS = [small_experiment.instance(i) for i in range(3)]


async def test_a_router_serves_and_is_operated_through_a_hung_server(
    mlflow_server: parts.MlflowServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = small_experiment.write(tmp_path, experiment="hung", registry=f"mlflow+{mlflow_server.url}")
    config = small_experiment.load(path)
    url = "/v1/experiments/hung"
    async with small_experiment.running(config) as client:
        kept = await small_experiment.challenge(config, client, small_experiment.classifier(seed=2))
    elsewhere = MlflowRegistry(MlflowServer(mlflow_server.url, "hung"), tmp_path / "elsewhere")
    assert [v.version for v in elsewhere.versions()] == ["v0001", kept]
    unmet = elsewhere.register(small_experiment.classifier(), elsewhere.get(kept).schema, created_at=1.0).version
    with mlflow_server.frozen(), monkeypatch.context() as impatient:
        impatient.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        impatient.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        async with small_experiment.running(config) as client:
            for row in ROWS:
                answer = await client.post("/v1/predict", json={"features": row})
                assert answer.status_code == 200
            status = (await client.get(url)).json()
            assert status["serving"]["champion"] == "v0001"
            assert "registry_unavailable" in [problem["code"] for problem in status["problems"]]
            promoted = await client.post(f"{url}/promote", json={"reason": "its files are kept here"})
            assert promoted.status_code == 200
            await small_experiment.serving(client, url, champion=kept)
            refused = await client.post(f"{url}/challenge", json={"version": unmet, "reason": "not met"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "registry_unavailable")
    async with small_experiment.running(config, "router", "retrainer") as client:
        answer = await client.post(f"{url}/challenge", json={"version": unmet, "reason": "it answers again"})
        assert answer.status_code == 200
        wanted = {"champion": kept, "previous": "v0001", "challenger": unmet}

        async def mirrored() -> bool:
            return await asyncio.to_thread(elsewhere.aliases) == wanted

        await small_experiment.until(mirrored, 60)
        assert elsewhere.statuses() == {"v0001": "archived", kept: "production", unmet: "staging"}
    printed = capfd.readouterr()
    assert "mlflow" not in (printed.out + printed.err).replace(mlflow_server.url, "").lower().replace("mlflow/", "")
