"""The router over real HTTP: answers, records, bad input, operators, keys."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import skops.io
import workbench

from gauntlet import adapters, control, events, keys, telemetry
from gauntlet.config import Config
from gauntlet.errors import ModelUnusable

pytestmark = pytest.mark.asyncio


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return workbench.load(workbench.write(tmp_path))


async def recorded(config: Config, topic: str) -> list[Any]:
    reader = adapters.local_reader(config)
    try:
        return [events.decode(r.value) for r in await reader.read(topic, "router", 0, 100_000)]
    finally:
        await reader.close()


async def challenge(config: Config, client: httpx.AsyncClient, model: Any, **order: Any) -> str:
    """Register `model` and start its rollout; returns the version once the router serves it."""
    registry = adapters.registry(config)
    entry = registry.register(model, registry.get("v0001").schema, created_at=0.0)
    url = f"/v1/experiments/{config.experiment}"
    body = {"version": entry.version, "reason": "test", **order}
    assert (await client.post(f"{url}/challenge", json=body)).status_code == 200
    await serving(client, url, challenger=entry.version)
    return entry.version


async def serving(client: httpx.AsyncClient, url: str, **expected: Any) -> None:
    async def there() -> bool:
        now = (await client.get(url)).json()["serving"]
        return all(now[name] == value for name, value in expected.items())

    await workbench.until(there)


async def test_one_and_many_predictions_are_answered_and_recorded(config: Config) -> None:
    async with workbench.running(config) as client:
        one = await client.post("/v1/predict", json={"features": workbench.instance(1), "id": "first"})
        assert one.status_code == 200
        body = one.json()
        assert body["id"] == "first"
        assert body["model"] == "v0001"
        assert math.isclose(sum(body["probabilities"].values()), 1)
        best = max(body["probabilities"], key=body["probabilities"].get)
        assert str(body["prediction"]) == best
        many = await client.post(
            "/v1/predict", json={"instances": [{"features": workbench.instance(i)} for i in range(5)]}
        )
        ids = [p["id"] for p in many.json()["predictions"]]
        assert len(set(ids)) == 5
        assert ids == sorted(ids) or len({i[:13] for i in ids}) == 1  # time-ordered to the millisecond
        outcome = await client.post("/v1/outcomes", json={"id": "first", "value": 1})
        assert outcome.status_code == 202
    found = await recorded(config, keys.PREDICTIONS)
    assert [e.id for e in found] == ["first", *ids]
    assert all(e.assigned == e.served == "champion" and e.propensity == 0 for e in found)
    assert [(o.id, o.value) for o in await recorded(config, keys.OUTCOMES)] == [("first", 1)]


BAD = [
    (b"{", 400, "malformed_json"),
    (b'{"features": {"x1": NaN, "x2": 0, "x3": 0}}', 400, "malformed_json"),
    (b'{"features": {"x1": 1e999, "x2": 0, "x3": 0}}', 400, None),
    (b"\xff\xfe", 400, "malformed_json"),
    (b"", 400, "malformed_json"),
    (b"[]", 400, "bad_request"),
    (b"{}", 400, "bad_request"),
    (b'{"instances": []}', 400, "no_instances"),
    (b'{"instances": [{"features": {"x1": 1, "x2": 2}}]}', 400, "missing_feature"),
    (b'{"features": {"x1": "1", "x2": 2, "x3": 3}}', 400, "wrong_type"),
    (b'{"features": {"x1": [1], "x2": 2, "x3": 3}}', 400, "wrong_type"),
    (b'{"features": {"x1": null, "x2": 2, "x3": 3}}', 400, "missing_feature"),
    (b'{"features": {"x1": 1, "x2": 2, "x3": 3}, "experiment": "other"}', 404, "unknown_experiment"),
    (b'{"features": {"x1": 1, "x2": 2, "x3": 3}, "ID": "x"}', 400, "bad_request"),
    (b'{"features": {"x1": 1, "x2": 2, "x3": 3}, "id": ""}', 400, None),
    (b'{"features": {"x1": 1, "x2": 2, "x3": 3}, "at": 1.0}', 400, "time_not_allowed"),
    (b"[" * 100_000, 400, None),
    (b'{"instances": ' + json.dumps([{"features": {}}] * 5000).encode() + b"}", 413, "too_many_instances"),
]


@pytest.mark.parametrize(("body", "status", "code"), BAD)
async def test_a_bad_request_gets_its_reason_and_leaves_nothing(
    config: Config, body: bytes, status: int, code: str | None
) -> None:
    async with workbench.running(config) as client:
        answer = await client.post("/v1/predict", content=body)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert code is None or error["code"] == code
        assert error["message"]
        assert (await client.post("/v1/predict", json={"features": workbench.instance(0)})).status_code == 200
    assert len(await recorded(config, keys.PREDICTIONS)) == 1


async def test_fifty_megabytes_are_refused_and_the_next_request_is_unharmed(config: Config) -> None:
    async with workbench.running(config) as client:
        for route in ("/v1/predict", "/v1/outcomes"):
            answer = await client.post(route, content=b" " * 50_000_000)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "body_too_large"
        assert (await client.post("/v1/predict", json={"features": workbench.instance(0)})).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"id": "never-made", "value": 1}, 404, "unknown_prediction"),
        ({"id": "known", "value": 7}, 400, "unknown_class"),
        ({"id": "known", "value": "1"}, 400, "unknown_class"),
        ({"id": "known"}, 400, "bad_request"),
        ({"id": "known", "value": None}, 400, "bad_request"),
        ({"id": "known", "value": {"a": 1}}, 400, "bad_request"),
        ({"outcomes": []}, 400, "no_outcomes"),
        ({"outcomes": [{"id": "known", "value": 1}, {"id": "never-made", "value": 1}]}, 404, "unknown_prediction"),
        ({"id": "known", "value": 1, "experiment": "other"}, 404, "unknown_experiment"),
    ],
)
async def test_a_bad_outcome_is_refused_whole(config: Config, body: Any, status: int, code: str) -> None:
    async with workbench.running(config) as client:
        await client.post("/v1/predict", json={"features": workbench.instance(0), "id": "known"})
        answer = await client.post("/v1/outcomes", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert await recorded(config, keys.OUTCOMES) == []


async def test_a_regression_of_ones_own(tmp_path: Path) -> None:
    config = workbench.load(workbench.write(tmp_path, workbench.regressor(), task="regression"))
    async with workbench.running(config) as client:
        answer = (await client.post("/v1/predict", json={"features": workbench.instance(3), "id": "r"})).json()
        assert isinstance(answer["prediction"], float)
        assert "probabilities" not in answer
        assert (await client.post("/v1/outcomes", json={"id": "r", "value": 1.25})).status_code == 202
        refused = await client.post("/v1/outcomes", json={"id": "r", "value": "much"})
        assert refused.json()["error"]["code"] == "wrong_type"


async def test_the_ramp_splits_traffic_and_a_rollback_ends_it(config: Config) -> None:
    """After a rollback 10,000 requests, and none by the challenger; nobody changes arm on a step up."""
    url = f"/v1/experiments/{config.experiment}"
    async with workbench.running(config) as client:
        await challenge(config, client, workbench.classifier(2))
        arms: dict[str, list[str]] = {}
        for stage, share in ((0, 0.01), (1, 0.05), (2, 0.10)):
            order = {"stage": stage, "reason": "step up"}
            assert (await client.post(f"{url}/ramp", json=order)).status_code == 200
            await serving(client, url, share=share)
            for start in range(0, 10_000, 1000):
                instances = [
                    {"features": workbench.instance(i % 50), "unit": f"user-{i}"} for i in range(start, start + 1000)
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
        await serving(client, url, challenger=None)
        again = await client.post(f"{url}/rollback", json={"reason": "twice", "rollout": "test-r0001"})
        assert (again.status_code, again.json()["changed"]) == (200, False)
        for _ in range(10):
            instances = [{"features": workbench.instance(i % 50), "unit": f"user-{i}"} for i in range(1000)]
            answered = (await client.post("/v1/predict", json={"instances": instances})).json()["predictions"]
            assert {one["model"] for one in answered} == {"v0001"}


async def test_both_arms_are_scored_in_shadow(config: Config) -> None:
    async with workbench.running(config) as client:
        await challenge(config, client, workbench.classifier(2))
        await client.post("/v1/predict", json={"instances": [{"features": workbench.instance(i)} for i in range(300)]})
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
    source = f"test_router_http:failing_{how.replace('-', '_')}"
    url = f"/v1/experiments/{config.experiment}"
    router = msgspec.structs.replace(config.router, challenger_timeout=0.2)
    async with workbench.running(msgspec.structs.replace(config, router=router)) as client:
        await challenge(config, client, source)
        await client.post(f"{url}/ramp", json={"stage": 2, "reason": "up"})

        async def rolled_back() -> bool:
            instances = [{"features": workbench.instance(i)} for i in range(100)]
            answer = await client.post("/v1/predict", json={"instances": instances})
            assert answer.status_code == 200
            assert {one["model"] for one in answer.json()["predictions"]} == {"v0001"}
            return (await client.get(url)).json()["control"].get("rollout") is None

        await workbench.until(rolled_back)
        last = (await client.get(url)).json()["control"]["last"]
        assert (last["decision"], last["actor"]) == ("rollback", "breaker")


async def test_a_challenger_that_cannot_load_is_rolled_back_and_the_old_one_serves(
    config: Config, tmp_path: Path
) -> None:
    url = f"/v1/experiments/{config.experiment}"
    async with workbench.running(config) as client:
        registry = adapters.registry(config)
        entry = registry.register(workbench.classifier(3), registry.get("v0001").schema, created_at=0.0)
        (tmp_path / "gauntlet-data" / "registry" / entry.version / "model.skops").write_bytes(
            b"not what was registered"
        )
        await client.post(f"{url}/challenge", json={"version": entry.version, "reason": "test"})

        async def out() -> bool:
            return (await client.get(url)).json()["control"]["rollout"] is None

        await workbench.until(out)
        assert (await client.post("/v1/predict", json={"features": workbench.instance(0)})).json()["model"] == "v0001"
        last = (await client.get(url)).json()["control"]["last"]
        assert "SHA-256" in last["reason"]


async def test_start_up_refuses_a_model_that_does_not_load(tmp_path: Path) -> None:
    path = workbench.write(tmp_path)
    (tmp_path / "model.skops").write_bytes(b"nothing")
    with pytest.raises(ModelUnusable, match=r"model\.skops"):
        async with workbench.running(workbench.load(path)):
            pass
    (tmp_path / "model.skops").unlink()
    with pytest.raises(ModelUnusable, match="no such file"):
        async with workbench.running(workbench.load(path)):
            pass


async def test_keys_and_their_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_KEY", "ingest-" + "i" * 20)
    monkeypatch.setenv("OPERATOR_KEY", "operator-" + "o" * 20)
    monkeypatch.setenv("VIEWER_KEY", "viewer-" + "v" * 20)
    path = workbench.write(
        tmp_path,
        keys=[
            {"name": "shop", "role": "ingest", "env": "INGEST_KEY"},
            {"name": "ann", "role": "operator", "env": "OPERATOR_KEY"},
            {"name": "wall", "role": "viewer", "env": "VIEWER_KEY"},
        ],
    )
    config = workbench.load(path)
    body = {"features": workbench.instance(0)}
    url = "/v1/experiments/test"
    shop = {"Authorization": "Bearer ingest-" + "i" * 20}
    ann = {"X-API-Key": "operator-" + "o" * 20}
    wall = {"X-API-Key": "viewer-" + "v" * 20}
    async with workbench.running(config) as client:
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


async def test_forced_requests_are_marked(config: Config) -> None:
    async with workbench.running(config) as client:
        forced = {"X-Gauntlet-Arm": "challenger"}
        refused = await client.post("/v1/predict", json={"features": workbench.instance(0)}, headers=forced)
        assert refused.json()["error"]["code"] == "no_challenger"
        for other in ("candidate", "baseline", "Champion", ""):
            unknown = {"X-Gauntlet-Arm": other}
            answer = await client.post("/v1/predict", json={"features": workbench.instance(0)}, headers=unknown)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_arm")
        await challenge(config, client, workbench.classifier(2))
        answer = await client.post("/v1/predict", json={"features": workbench.instance(0)}, headers=forced)
        assert answer.json()["model"] == "v0002"
    (found,) = [e for e in await recorded(config, keys.PREDICTIONS) if isinstance(e, events.Prediction)]
    assert found.forced


@pytest.mark.parametrize("command", ["promote", "rollback", "pause", "resume", "approve", "abort", "ramp", "challenge"])
async def test_operator_commands_need_a_reason_and_something_to_act_on(config: Config, command: str) -> None:
    url = f"/v1/experiments/{config.experiment}/{command}"
    extra: dict[str, Any] = {"ramp": {"stage": 0}, "challenge": {"version": "v0009"}}.get(command, {})
    async with workbench.running(config) as client:
        assert (await client.post(url, json=extra)).json()["error"]["code"] == "bad_request"
        answer = await client.post(url, json={"reason": "why not", **extra})
        assert answer.status_code in (404, 409)
        other = await client.post(f"/v1/experiments/other/{command}", json={"reason": "x", **extra})
        assert other.json()["error"]["code"] == "unknown_experiment"


async def test_an_operator_promotes_and_goes_back(config: Config) -> None:
    url = f"/v1/experiments/{config.experiment}"
    async with workbench.running(config) as client:
        await challenge(config, client, workbench.classifier(2))
        assert (await client.post(f"{url}/promote", json={"reason": "I know better"})).status_code == 200
        await serving(client, url, champion="v0002", challenger=None)
        assert (await client.post("/v1/predict", json={"features": workbench.instance(0)})).json()["model"] == "v0002"
        assert (await client.post(f"{url}/rollback", json={"reason": "I did not"})).status_code == 200
        await serving(client, url, champion="v0001")
        history = (await client.get(f"{url}/history")).json()
        assert [entry["last"]["command"] for entry in history] == ["begin", "challenge", "promote", "rollback"]
        assert [entry["last"]["actor"] for entry in history[1:]] == ["loopback"] * 3


async def test_the_state_store_going_away_changes_nothing_for_callers(config: Config) -> None:
    async with workbench.running(config) as client:
        state = Path(config.data) / "state.db"
        aside = state.with_name("gone")
        state.rename(aside)
        assert (await client.post("/v1/predict", json={"features": workbench.instance(0)})).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
        aside.rename(state)
    _, record = await _control(config)
    assert record is not None


async def _control(config: Config) -> Any:
    store = adapters.state(config)
    try:
        return await control.read(store, config.experiment)
    finally:
        await store.close()


async def test_a_model_file_is_checked_by_its_path(tmp_path: Path) -> None:
    path = workbench.write(tmp_path, champion={"model": "other.skops"})
    skops.io.dump(workbench.classifier(), tmp_path / "other.skops")
    async with workbench.running(workbench.load(path)) as client:
        assert (await client.get("/readyz")).json()["ready"] is True


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
async def test_without_keys_no_web_page_may_send(config: Config, headers: dict[str, str]) -> None:
    async with workbench.running(config) as client:
        for route in ("/v1/predict", "/v1/outcomes", "/v1/experiments/test/pause"):
            refused = await client.post(route, json={"reason": "x"}, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        own = {"Origin": "http://localhost:3000"}
        body = {"features": workbench.instance(0)}
        assert (await client.post("/v1/predict", json=body, headers=own)).status_code == 200


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
    async with workbench.running(one) as client:
        await challenge(config, client, "test_router_http:Picky")
        await client.post(f"{url}/ramp", json={"stage": 2, "reason": "up"})
        await serving(client, url, share=0.1)
        for number in range(4):
            instances = [{"features": workbench.instance(i), "unit": f"{number}-{i}"} for i in range(200)]
            for instance in instances:
                instance["features"]["x1"] = 1.0  # type: ignore[index]
            instances += [{"features": {"x1": 101.0, "x2": 0.0, "x3": 0.0}} for _ in range(40)]
            assert (await client.post("/v1/predict", json={"instances": instances})).status_code == 200
        assert (await client.get(url)).json()["control"]["rollout"] is not None


async def test_a_replay_can_not_be_thrown_into_the_future(tmp_path: Path) -> None:
    config = workbench.load(workbench.write(tmp_path, clock="events"))
    body = {"features": workbench.instance(0)}
    async with workbench.running(config) as client:
        assert (await client.post("/v1/predict", json={**body, "at": 1e9})).status_code == 200
        refused = await client.post("/v1/predict", json={**body, "at": 9.9e10})
        assert refused.json()["error"]["code"] == "bad_time"
        assert (await client.post("/v1/predict", json={**body, "at": 1e9 + 86_400})).status_code == 200


async def test_a_refused_request_leaves_the_replay_clock_where_it_was(tmp_path: Path) -> None:
    """The time of an event without `at` tells where the clock stands."""
    config = workbench.load(workbench.write(tmp_path, clock="events"))
    row = workbench.instance(0)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("predict", {"instances": [{"features": row, "at": 9e8}, {"features": {}}]}),
        ("predict", {"instances": [{"features": row, "at": 9e8}, {"features": row, "id": ""}]}),
        ("predict", {"instances": [{"features": row, "at": 9e8}, {"features": row, "at": -1}]}),
        ("outcomes", {"outcomes": [{"id": "first", "value": 1, "at": 9e8}, {"id": "first", "value": 7}]}),
        ("outcomes", {"outcomes": [{"id": "first", "value": 1, "at": 9e8}, {"id": "never-made", "value": 1}]}),
    ]
    async with workbench.running(config) as client:
        await client.post("/v1/predict", json={"features": row, "id": "first", "at": 8.9e8})
        for number, (route, body) in enumerate(refused):
            assert (await client.post(f"/v1/{route}", json=body)).status_code in (400, 404), body
            assert (await client.post("/v1/predict", json={"features": row, "id": f"n{number}"})).status_code == 200
        forced = {"X-Gauntlet-Arm": "challenger"}
        answer = await client.post("/v1/predict", json={"features": row, "at": 9e8}, headers=forced)
        assert answer.json()["error"]["code"] == "no_challenger"
        await client.post("/v1/outcomes", json={"id": "first", "value": 1})
    assert {e.at for e in await recorded(config, keys.PREDICTIONS)} == {8.9e8}
    assert [o.at for o in await recorded(config, keys.OUTCOMES)] == [8.9e8]


async def test_one_request_can_not_jump_over_the_longest_gap_in_two_steps(tmp_path: Path) -> None:
    config = workbench.load(workbench.write(tmp_path, clock="events"))
    row = workbench.instance(0)
    async with workbench.running(config) as client:
        steps = [{"features": row, "at": 1e9}, {"features": row, "at": 1e9 + 401 * 86_400}]
        refused = await client.post("/v1/predict", json={"instances": steps})
        assert refused.json()["error"]["code"] == "bad_time"
        assert "instances[1]" in refused.json()["error"]["message"]


async def test_every_refusal_has_a_series_from_the_start(config: Config) -> None:
    """A counter that is absent until its first increase hides that increase from `rate`."""
    telemetry.initialise(config.experiment, "router")
    async with workbench.running(config) as client:
        before = (await client.get("/metrics")).text
        for route in ("predict", "outcomes", "admin"):
            assert f'gauntlet_refused_total{{reason="bad_request",route="{route}"}}' in before
        assert 'gauntlet_refused_total{reason="forbidden",route="unrouted"}' in before
