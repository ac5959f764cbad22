"""The status says whether traffic arrives, across a restart of the router."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from builders import small_experiment

URL = "/v1/experiments/test"


async def traffic(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get(URL)).json()["traffic"])


async def test_the_status_says_what_arrives(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config, "router", "evaluator") as client:
        silent = await traffic(client)
        assert (silent["predictions"]["latest"], silent["predictions"]["count"]) == (None, 0)
        rows = [{"id": f"p-{i}", "features": small_experiment.instance(i)} for i in range(4)]
        assert (await client.post("/v1/predict", json={"instances": rows})).status_code == 200
        truths = [{"id": name, "value": 1} for name in ("p-0", "p-1", "nobody's")]
        assert (await client.post("/v1/outcomes", json={"outcomes": truths})).status_code == 207
        wrong = [{"features": {"unknown": 1}}] * 25
        assert (await client.post("/v1/predict", json={"instances": wrong})).status_code == 400

        async def joined() -> bool:
            return bool((await traffic(client))["joined"] == 2)

        await small_experiment.until(joined)
        found = await traffic(client)
        assert (found["predictions"]["count"], found["predictions"]["refused"]) == (4, 25)
        outcomes = found["outcomes"]
        assert (outcomes["count"], outcomes["refused"], outcomes["refusal"]) == (2, 1, "unknown_prediction")
        known = {p["code"]: p for p in (await client.get(URL)).json()["problems"]}
        assert known["predictions_refused"]["severity"] == "HIGH"
    async with small_experiment.running(config) as client:
        again = await traffic(client)
        assert again["predictions"]["count"] == 0
        latest = datetime.fromisoformat(again["predictions"]["latest"])
        assert abs((latest - datetime.fromisoformat(found["predictions"]["latest"])).total_seconds()) < 1
        assert latest < datetime.now(UTC)
