"""The router over HTTP: challengers, shadow, breaker, operator commands, and who may send them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import small_experiment
from builders.small_experiment import challenge, recorded, serving

from gauntlet import adapters, events, keys
from gauntlet.config import Config

pytestmark = pytest.mark.asyncio


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small_experiment.load(small_experiment.write(tmp_path))


async def test_the_ramp_splits_traffic_and_a_rollback_ends_it(config: Config) -> None:
    """After a rollback 10,000 requests, and none by the challenger; nobody changes arm on a step up."""
    url = f"/v1/experiments/{config.experiment}"
    async with small_experiment.running(config) as client:
        await challenge(config, client, small_experiment.classifier(2))
        arms: dict[str, list[str]] = {}
        for stage, share in ((0, 0.01), (1, 0.05), (2, 0.10)):
            order = {"stage": stage, "reason": "step up"}
            assert (await client.post(f"{url}/ramp", json=order)).status_code == 200
            await serving(client, url, share=share)
            for start in range(0, 10_000, 1000):
                instances = [
                    {"features": small_experiment.instance(i % 50), "unit": f"user-{i}"}
                    for i in range(start, start + 1000)
                ]
                answered = (await client.post("/v1/predict", json={"instances": instances})).json()["predictions"]
                for i, one in enumerate(answered, start):
                    arms.setdefault(f"user-{i}", []).append(one["model"])
            theirs = sum(models[-1] == "v0002" for models in arms.values())
            assert abs(theirs - 10_000 * share) < 3 * math.sqrt(10_000 * share * (1 - share))
        for models in arms.values():  # once in the challenger, always in the challenger
            assert models == sorted(models)
        done = await client.post(f"{url}/rollback", json={"reason": "the operator says so"})
        assert done.json()["changed"] is True
        await serving(client, url, challengers=[])
        again = await client.post(f"{url}/rollback", json={"reason": "twice", "rollout": "test-r0001"})
        assert (again.status_code, again.json()["changed"]) == (200, False)
        for _ in range(10):
            instances = [{"features": small_experiment.instance(i % 50), "unit": f"user-{i}"} for i in range(1000)]
            answered = (await client.post("/v1/predict", json={"instances": instances})).json()["predictions"]
            assert {one["model"] for one in answered} == {"v0001"}


async def test_both_arms_are_scored_in_shadow(config: Config) -> None:
    async with small_experiment.running(config) as client:
        await challenge(config, client, small_experiment.classifier(2))
        await client.post(
            "/v1/predict", json={"instances": [{"features": small_experiment.instance(i)} for i in range(300)]}
        )
    found = await recorded(config, keys.PREDICTIONS)
    served = {e.id: e for e in found if isinstance(e, events.Prediction)}
    shadows = {e.id: e for e in found if isinstance(e, events.Shadow)}
    assert len(served) == len(shadows) == 300
    assert served.keys() == shadows.keys()
    assert all(s.arm == "challenger" and s.model == "v0002" and s.output is not None for s in shadows.values())


class Failing:
    """A challenger that fails in the way it was made for."""

    classes_ = (0, 1)

    def __init__(self, how: str) -> None:
        self.how = how

    def predict_proba(self, rows: Any) -> Any:
        if self.how == "raises":
            raise RuntimeError("no")
        if self.how == "hangs":
            import threading

            threading.Event().wait(60)
        shape = {"nan": [[math.nan, math.nan]], "shape": [[0.5, 0.25, 0.25]], "no-probability": [[0.9, 0.9]]}
        return shape[self.how] * len(rows)


MODES = ("raises", "hangs", "nan", "shape", "no-probability")


def failing_raises() -> Failing:
    return Failing("raises")


def failing_hangs() -> Failing:
    return Failing("hangs")


def failing_nan() -> Failing:
    return Failing("nan")


def failing_shape() -> Failing:
    return Failing("shape")


def failing_no_probability() -> Failing:
    return Failing("no-probability")


@pytest.mark.parametrize("how", MODES)
async def test_a_failing_challenger_never_reaches_a_caller_and_is_rolled_back(config: Config, how: str) -> None:
    source = f"test_router_rollout_http:failing_{how.replace('-', '_')}"
    url = f"/v1/experiments/{config.experiment}"
    router = msgspec.structs.replace(config.router, challenger_timeout=0.2)
    async with small_experiment.running(msgspec.structs.replace(config, router=router)) as client:
        await challenge(config, client, source)
        await client.post(f"{url}/ramp", json={"stage": 2, "reason": "up"})

        async def rolled_back() -> bool:
            instances = [{"features": small_experiment.instance(i)} for i in range(100)]
            answer = await client.post("/v1/predict", json={"instances": instances})
            assert answer.status_code == 200
            assert {one["model"] for one in answer.json()["predictions"]} == {"v0001"}
            return (await client.get(url)).json()["control"]["rollouts"] == []

        await small_experiment.until(rolled_back)
        last = (await client.get(url)).json()["control"]["last"]
        assert (last["decision"], last["actor"]) == ("rollback", "breaker")


async def test_a_challenger_that_cannot_load_is_rolled_back_and_the_old_one_serves(
    config: Config, tmp_path: Path
) -> None:
    url = f"/v1/experiments/{config.experiment}"
    async with small_experiment.running(config) as client:
        registry = adapters.registry(config)
        entry = registry.register(small_experiment.classifier(3), registry.get("v0001").schema, created_at=0.0)
        (tmp_path / "gauntlet-data" / "registry" / entry.version / "model.skops").write_bytes(
            b"not what was registered"
        )
        await client.post(f"{url}/challenge", json={"version": entry.version, "reason": "test"})

        async def out() -> bool:
            return (await client.get(url)).json()["control"]["rollouts"] == []

        await small_experiment.until(out)
        assert (await client.post("/v1/predict", json={"features": small_experiment.instance(0)})).json()[
            "model"
        ] == "v0001"
        last = (await client.get(url)).json()["control"]["last"]
        assert "SHA-256" in last["reason"]


class Picky:
    """A challenger that can't take one kind of row, and fails the whole call for it."""

    classes_ = (0, 1)

    def predict_proba(self, rows: Any) -> Any:
        if (rows[:, 0] > 100).any():
            raise ValueError("too large")
        return [[0.4, 0.6]] * len(rows)


async def test_a_call_that_fails_as_a_whole_is_one_failure(config: Config) -> None:
    url = f"/v1/experiments/{config.experiment}"
    one = msgspec.structs.replace(config, shadow=msgspec.structs.replace(config.shadow, fraction=1e-6))
    async with small_experiment.running(one) as client:
        await challenge(config, client, "test_router_rollout_http:Picky")
        await client.post(f"{url}/ramp", json={"stage": 2, "reason": "up"})
        await serving(client, url, share=0.1)
        for number in range(4):
            instances = [{"features": small_experiment.instance(i), "unit": f"{number}-{i}"} for i in range(200)]
            for instance in instances:
                instance["features"]["x1"] = 1.0  # type: ignore[index]
            instances += [{"features": {"x1": 101.0, "x2": 0.0, "x3": 0.0}} for _ in range(40)]
            assert (await client.post("/v1/predict", json={"instances": instances})).status_code == 200
        assert (await client.get(url)).json()["control"]["rollouts"]


async def test_forced_requests_are_marked(config: Config) -> None:
    async with small_experiment.running(config) as client:
        forced = {"X-Gauntlet-Arm": "challenger"}
        refused = await client.post("/v1/predict", json={"features": small_experiment.instance(0)}, headers=forced)
        assert refused.json()["error"]["code"] == "no_challenger"
        for other in ("candidate", "baseline", "Champion", ""):
            unknown = {"X-Gauntlet-Arm": other}
            answer = await client.post("/v1/predict", json={"features": small_experiment.instance(0)}, headers=unknown)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "bad_arm")
        await challenge(config, client, small_experiment.classifier(2))
        answer = await client.post("/v1/predict", json={"features": small_experiment.instance(0)}, headers=forced)
        assert answer.json()["model"] == "v0002"
    (found,) = [e for e in await recorded(config, keys.PREDICTIONS) if isinstance(e, events.Prediction)]
    assert found.forced


@pytest.mark.parametrize("command", ["promote", "rollback", "pause", "resume", "approve", "abort", "ramp", "challenge"])
async def test_operator_commands_need_a_reason_and_something_to_act_on(config: Config, command: str) -> None:
    url = f"/v1/experiments/{config.experiment}/{command}"
    extra: dict[str, Any] = {"ramp": {"stage": 0}, "challenge": {"version": "v0009"}}.get(command, {})
    async with small_experiment.running(config) as client:
        assert (await client.post(url, json=extra)).json()["error"]["code"] == "bad_request"
        untyped = (await client.post(url, content=json.dumps({"reason": "why not", **extra}))).json()["error"]
        assert untyped["message"].endswith("send it with the header `content-type: application/json`")
        answer = await client.post(url, json={"reason": "why not", **extra})
        assert answer.status_code in (404, 409)
        other = await client.post(f"/v1/experiments/other/{command}", json={"reason": "x", **extra})
        assert other.json()["error"]["code"] == "unknown_experiment"


async def test_an_operator_promotes_and_goes_back(config: Config) -> None:
    url = f"/v1/experiments/{config.experiment}"
    async with small_experiment.running(config) as client:
        await challenge(config, client, small_experiment.classifier(2))
        assert (await client.post(f"{url}/promote", json={"reason": "I know better"})).status_code == 200
        await serving(client, url, champion="v0002", challengers=[])
        assert (await client.post("/v1/predict", json={"features": small_experiment.instance(0)})).json()[
            "model"
        ] == "v0002"
        assert (await client.post(f"{url}/rollback", json={"reason": "I did not"})).status_code == 200
        await serving(client, url, champion="v0001")
        history = (await client.get(f"{url}/history")).json()
        assert [entry["command"] for entry in history] == ["begin", "challenge", "promote", "rollback"]
        assert [entry["actor"] for entry in history[1:]] == ["loopback"] * 3


async def test_keys_and_their_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_KEY", "ingest-" + "i" * 20)
    monkeypatch.setenv("OPERATOR_KEY", "operator-" + "o" * 20)
    monkeypatch.setenv("VIEWER_KEY", "viewer-" + "v" * 20)
    path = small_experiment.write(
        tmp_path,
        keys=[
            {"name": "shop", "role": "ingest", "env": "INGEST_KEY"},
            {"name": "ann", "role": "operator", "env": "OPERATOR_KEY"},
            {"name": "wall", "role": "viewer", "env": "VIEWER_KEY"},
        ],
    )
    config = small_experiment.load(path)
    body = {"features": small_experiment.instance(0)}
    url = "/v1/experiments/test"
    shop = {"Authorization": "Bearer ingest-" + "i" * 20}
    ann = {"X-API-Key": "operator-" + "o" * 20}
    wall = {"X-API-Key": "viewer-" + "v" * 20}
    async with small_experiment.running(config) as client:
        assert (await client.post("/v1/predict", json=body)).status_code == 401
        assert (await client.post("/v1/predict", json=body, headers={"X-API-Key": "wrong"})).status_code == 401
        assert (await client.post("/v1/predict", json=body, headers=wall)).status_code == 403
        assert (await client.post("/v1/predict", json=body, headers=shop)).status_code == 200
        assert (await client.get(url)).status_code == 401
        assert (await client.get(url, headers=wall)).status_code == 200
        order = {"reason": "x"}
        assert (await client.post(f"{url}/rollback", json=order, headers=shop)).status_code == 403
        refused = await client.post(f"{url}/rollback", json=order, headers=ann)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "no_previous")
        forced = {**shop, "X-Gauntlet-Arm": "champion"}
        assert (await client.post("/v1/predict", json=body, headers=forced)).status_code == 403


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
async def test_without_keys_no_web_page_may_send(config: Config, headers: dict[str, str]) -> None:
    async with small_experiment.running(config) as client:
        for route in ("/v1/predict", "/v1/outcomes", "/v1/experiments/test/pause"):
            refused = await client.post(route, json={"reason": "x"}, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        own = {"Origin": "http://localhost:3000"}
        body = {"features": small_experiment.instance(0)}
        assert (await client.post("/v1/predict", json=body, headers=own)).status_code == 200


async def test_the_arms_have_one_name_each_on_the_wire(config: Config) -> None:
    async with small_experiment.running(config) as client:
        await challenge(config, client, small_experiment.classifier(2))
        await client.post("/v1/predict", json={"features": small_experiment.instance(0)})
        for path in ("/metrics", "/openapi.json", "/v1/experiments/test", "/v1/experiments/test/history"):
            text = (await client.get(path)).text
            assert "champion" in text, path
            assert "baseline" not in text, path
            assert "candidate" not in text, path
