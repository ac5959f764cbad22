"""The whole loop on flights, with everything real: drift → job by Airflow → gate → shadow and ramp → promotion. Asked
and told through the APIs; the models are at MLflow, the records in PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import parts
import pytest
import sqlalchemy as sa
from builders import flights_loop, mlflow_database, small_experiment
from builders.retrainer_service import KEY
from builders.retraining_records import schema_of

from gauntlet import adapters
from gauntlet.cli.demo import flights
from gauntlet.config import Config
from retrainer.records.database import Database

pytestmark = [pytest.mark.xdist_group("mlflow"), *mlflow_database.WARNINGS]

DAGS = Path(__file__).parents[2] / "deploy" / "airflow" / "dags"
TURN = flights_loop.FIRST_DAY + 8
DAYS = 30
NEVER = 1e6  # days: the flights are of 2013


async def test_flights_turn_and_a_new_champion_serves_them(
    airflow: parts.Airflow,
    mlflow_server: parts.MlflowServer,
    postgres: parts.Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GAUNTLET_KEY_TEST", KEY)
    year = await asyncio.to_thread(flights.load)
    config = flights_loop.configuration(
        tmp_path,
        year,
        registry=f"mlflow+{mlflow_server.url}",
        records=schema_of(postgres),
        keys=[{"name": "airflow", "role": "operator", "env": "GAUNTLET_KEY_TEST"}],
        evidence={"outcome_horizon": "12h", "cycle": "6h", "block_offset": "9h"},
        refresh={"shadow": "1d", "duration": "10d"},
        retrain={"window": "4d", "validation": "18h", "test": "18h"},
    )
    traffic = flights_loop.Traffic(year, share=0.3, turn=TURN)
    async with flights_loop.serving(config) as (router, url):
        router.headers["authorization"] = f"Bearer {KEY}"
        async with httpx.AsyncClient(base_url=f"{url}/retraining/", headers=router.headers, timeout=60) as retrainer:

            async def told(route: str) -> Any:
                answer = await retrainer.get(route)
                assert answer.is_success, answer.text
                return answer.json()

            # Airflow alone shall start jobs: the triggers tell.
            assert (await retrainer.post("flights/stop-monitoring")).is_success
            while "drift" not in (await told("flights/check"))["triggered"]:
                assert traffic.day < TURN + DAYS
                await traffic.send_day(router)
                await flights_loop.settled(config, traffic)
            assert traffic.day > TURN, "nothing has turned before"
            assert await told("flights/jobs") == []

            known = {"GAUNTLET_KEY": KEY, "GAUNTLET_RETRAINER_URL": url}
            runs = [({"max_days_since_training": NEVER}, known)]
            found = await asyncio.to_thread(airflow.run, DAGS, "gauntlet_retraining", runs)
            done = dict.fromkeys(("check", "prepare", "train", "wait", "compare", "promote"), "success")
            assert found.runs == [{"state": "success", "tasks": {**done, "skip": "skipped"}}]

            (job,) = await told("flights/jobs")
            assert (job["status"], job["accepted"], job["version"]) == ("completed", True, "v0002")
            assert "Airflow: triggers: drift" in job["reason"]
            assert job["metrics"]["challenger"]["log_loss"] < job["metrics"]["champion"]["log_loss"]

            stages = set()
            while (serving := (await router.get("/v1/experiments/flights")).json()["serving"])["champion"] == "v0001":
                assert traffic.day < TURN + DAYS
                stages |= {challenger["share"] for challenger in serving["challengers"]}
                await traffic.send_day(router)
                await flights_loop.settled(config, traffic)
            assert 0.0 in stages, "it was in shadow first"

            report = await told("flights/report")
            assert (report["champion"], report["accepted"], report["promoted"]) == ("v0002", 1, 1)
            (line,) = report["lines"]
            assert (line["state"], line["outcome"]) == ("promoted", "serves")
        await _everywhere(config)


async def _everywhere(config: Config) -> None:
    """MLflow and PostgreSQL come to tell what the control record says."""
    registry, database = adapters.registry(config), Database(config.records, Path(config.data))

    async def mirrored() -> bool:
        aliases, statuses = await asyncio.to_thread(registry.aliases), await asyncio.to_thread(registry.statuses)
        return (aliases, statuses) == (
            {"champion": "v0002", "previous": "v0001"},
            {"v0001": "archived", "v0002": "production"},
        )

    def rows(query: str) -> list[tuple[Any, ...]]:
        with database.connected() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    async def recorded() -> bool:
        promoted = "select champion from decisions where command = 'promote'"
        return await asyncio.to_thread(rows, promoted) == [("v0002",)]

    await small_experiment.until(mirrored, 60)
    await small_experiment.until(recorded, 60)
    columns = "trigger_type, severity, execution_successful, retraining_model_version"
    (event,) = await asyncio.to_thread(rows, f"select {columns} from model_retraining_events where execution_attempted")
    assert event == ("manual", "HIGH", True, "v0002")
