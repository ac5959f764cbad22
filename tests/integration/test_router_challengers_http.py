"""The router over HTTP with several challengers at once: traffic, shadow, events, failures and commands."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from builders import small_experiment
from builders.small_experiment import challenge, recorded, serving

from gauntlet import adapters, control, events, keys
from gauntlet.config import Config
from gauntlet.rollout import Command
from gauntlet.types import Rule

pytestmark = pytest.mark.asyncio

URL = "/v1/experiments/test"
USERS = 4000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small_experiment.load(small_experiment.write(tmp_path, slots=3))


async def give(config: Config, rollout: str, weight: float) -> None:
    """What the retrainer does by Thompson allocation."""
    store = adapters.state(config)
    command = Command(name="allocate", actor="retrainer", reason="test", rollout=rollout, weight=weight)
    await control.change(store, "test", command, 1.0)
    await store.close()


async def order(client: httpx.AsyncClient, command: str, **body: Any) -> Any:
    answer = await client.post(f"{URL}/{command}", json={"reason": "test", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def told(config: Config, command: str) -> int:
    """Give a command that no operator has; returns the version of the record after it."""
    store = adapters.state(config)
    try:
        version, _, changed = await control.change(
            store, "test", Command(name=command, actor="retrainer", reason="test"), 0.0
        )
    finally:
        await store.close()
    assert changed
    return version


async def three(config: Config, client: httpx.AsyncClient) -> list[str]:
    """Three challengers in shadow: v0002, v0003 and v0004."""
    return [await challenge(config, client, small_experiment.classifier(seed)) for seed in (2, 3, 4)]


async def models(client: httpx.AsyncClient, users: int = USERS) -> dict[str, str]:
    """Who answers each of so many users."""
    found = {}
    for start in range(0, users, 1000):
        rows = [
            {"features": small_experiment.instance(i % 50), "unit": f"user-{i}"}
            for i in range(start, min(users, start + 1000))
        ]
        answer = await client.post("/v1/predict", json={"instances": rows})
        assert answer.status_code == 200, answer.text
        found |= {f"user-{i}": one["model"] for i, one in enumerate(answer.json()["predictions"], start)}
    return found


async def test_a_changed_share_moves_nobody_else_and_is_logged_with_each_request(config: Config) -> None:
    async with small_experiment.running(config) as client:
        await three(config, client)
        for number in (1, 2, 3):
            await order(client, "ramp", rollout=f"test-r000{number}", stage=2)
        await serving(client, URL, share=0.3)
        weights = {"v0002": 0.2, "v0003": 1.0, "v0004": 0.6}
        seen = [await models(client)]
        for rollout, weight, share in (
            ("test-r0001", 0.2, 0.22),
            ("test-r0003", 0.6, 0.18),
            ("test-r0001", 0.5, 0.21),
            ("test-r0001", 0.2, 0.18),
        ):
            await give(config, rollout, weight)
            await serving(client, URL, share=share)
            seen.append(await models(client))
            changed = {"test-r0001": "v0002", "test-r0003": "v0004"}[rollout]
            moved = {user for user in seen[-1] if seen[-1][user] != seen[-2][user]}
            assert moved
            assert all({seen[-1][user], seen[-2][user]} == {"v0001", changed} for user in moved)
        assert seen[4] == seen[2], "the same shares are the same users"
        for version, weight in weights.items():
            mine, share = sum(model == version for model in seen[-1].values()), 0.1 * weight
            assert abs(mine - USERS * share) < 3 * math.sqrt(USERS * share * (1 - share)), version
    found = [event for event in await recorded(config, keys.PREDICTIONS) if isinstance(event, events.Prediction)]
    logged = {tuple((c.challenger, round(c.propensity, 6)) for c in e.contenders) for e in found[-USERS:]}
    assert logged == {(("v0002", 0.02), ("v0003", 0.1), ("v0004", 0.06))}
    assert len({event.allocation for event in found}) == 5


async def test_three_share_the_ramp_and_nobody_moves_when_one_comes_or_goes(config: Config) -> None:
    async with small_experiment.running(config) as client:
        await three(config, client)
        shares = {"v0002": 0.01, "v0003": 0.10, "v0004": 0.05}
        steps = [("test-r0001", 0, 0.01), ("test-r0002", 2, 0.11), ("test-r0003", 1, 0.16)]
        before: dict[str, str] = {}
        for rollout, stage, share in steps:
            await order(client, "ramp", rollout=rollout, stage=stage)
            await serving(client, URL, share=share)
            now = await models(client)
            assert all(now[user] == model for user, model in before.items() if model != "v0001")
            before = now
        for version, share in shares.items():
            mine = sum(model == version for model in before.values())
            assert abs(mine - USERS * share) < 3 * math.sqrt(USERS * share * (1 - share)), version
        await order(client, "abort", rollout="test-r0001")  # the one that opened the ramp
        await serving(client, URL, challengers=["v0003", "v0004"])
        after = await models(client)
        assert after == {user: "v0001" if model == "v0002" else model for user, model in before.items()}
        await order(client, "rollback")
        await serving(client, URL, challengers=[], share=0)
        assert set((await models(client)).values()) == {"v0001"}


async def test_an_event_names_all_contenders_and_everybody_else_scores_in_shadow(config: Config) -> None:
    async with small_experiment.running(config) as client:
        await three(config, client)
        await order(client, "ramp", rollout="test-r0001", stage=2)
        await order(client, "ramp", rollout="test-r0003", stage=2)
        await serving(client, URL, share=0.2)
        await models(client, 1000)
    found = await recorded(config, keys.PREDICTIONS)
    predictions = [e for e in found if isinstance(e, events.Prediction)]
    assert len(predictions) == 1000
    contenders = [("test-r0001", "v0002", 0.1), ("test-r0002", "v0003", 0.0), ("test-r0003", "v0004", 0.1)]
    served = {None: "v0001", "test-r0001": "v0002", "test-r0003": "v0004"}
    scored = collections.defaultdict(set)
    for event in found:
        if isinstance(event, events.Shadow):
            scored[event.id].add((event.arm, event.model, event.rollout))
            assert event.output is not None
    assert {p.rollout for p in predictions} == served.keys()
    for p in predictions:
        assert [(c.rollout, c.challenger, c.propensity) for c in p.contenders] == contenders
        assert p.model == served[p.rollout]
        assert p.assigned == p.served == ("champion" if p.rollout is None else "challenger")
        others = {("challenger", c.challenger, c.rollout) for c in p.contenders if c.rollout != p.rollout}
        assert scored[p.id] == others | ({("champion", "v0001", None)} if p.rollout else set())


async def test_the_champion_before_is_scored_beside_the_challengers_in_the_bake_and_less_after_it(
    config: Config,
) -> None:
    async with small_experiment.running(config) as client:
        await three(config, client)
        await order(client, "promote", rollout="test-r0002")
        await serving(client, URL, champion="v0003", challengers=["v0002", "v0004"])
        baking = set(await models(client, 400))
        version = await told(config, "confirm")
        await serving(client, URL, version=version)
        after = set(await models(client, 2000))
        version = await told(config, "close")
        await serving(client, URL, version=version)
        await models(client, 100)
    recorded_all = await recorded(config, keys.PREDICTIONS)
    unit = {e.id: e.unit for e in recorded_all if isinstance(e, events.Prediction)}
    found = [e for e in recorded_all if isinstance(e, events.Shadow)]
    arms = collections.Counter((e.arm, e.model, e.rollout) for e in found if e.arm == "challenger")
    assert arms == {("challenger", "v0002", "test-r0004"): 2500, ("challenger", "v0004", "test-r0005"): 2500}
    before = [e for e in found if e.arm == "previous"]
    assert {(e.model, e.rollout) for e in before} == {("v0001", "test-r0002")}
    first, later = before[:400], {unit[e.id] for e in before[400:]}
    assert {unit[e.id] for e in first} == baking, "all requests in the bake"
    share = config.worth.fraction
    assert abs(len(later) - 2000 * share) < 3 * math.sqrt(2000 * share * (1 - share)), "a sample of them after it"
    assert later < after


async def test_each_challenger_has_its_own_sample_in_shadow(config: Config) -> None:
    config = msgspec.structs.replace(config, shadow=msgspec.structs.replace(config.shadow, fraction=0.3))
    async with small_experiment.running(config) as client:
        await three(config, client)
        await models(client, 2000)
    found = [e for e in await recorded(config, keys.PREDICTIONS) if isinstance(e, events.Shadow)]
    samples: dict[str, set[str]] = collections.defaultdict(set)
    for event in found:
        samples[event.model].add(event.id)
    for ids in samples.values():
        assert abs(len(ids) - 600) < 3 * math.sqrt(2000 * 0.3 * 0.7)
    both = len(samples["v0002"] & samples["v0003"])
    assert abs(both - 2000 * 0.09) < 3 * math.sqrt(2000 * 0.09 * 0.91), "independent samples"


def failing(rows: list[dict[str, float]]) -> list[float]:
    raise RuntimeError("no")


async def test_a_breaker_takes_only_its_own_challenger_out(config: Config) -> None:
    async with small_experiment.running(config) as client:
        await challenge(config, client, small_experiment.classifier(2))
        await challenge(config, client, f"{__name__}:failing")
        await challenge(config, client, small_experiment.classifier(3))
        for rollout in ("test-r0001", "test-r0002", "test-r0003"):
            await order(client, "ramp", rollout=rollout, stage=2)
        await models(client, 2000)

        async def out() -> bool:
            await models(client, 50)
            status = (await client.get(URL)).json()
            return [r["id"] for r in status["control"]["rollouts"]] == ["test-r0001", "test-r0003"]

        await small_experiment.until(out)
        await serving(client, URL, challengers=["v0002", "v0004"])
        shown = (await client.get(URL)).json()
        assert [each["breaker"] for each in shown["serving"]["challengers"]] == ["closed", "closed"]
        last = shown["control"]["last"]
        assert (last["command"], last["actor"], last["rollout"]) == ("rollback", "breaker", "test-r0002")
        metrics = (await client.get("/metrics")).text
        assert 'gauntlet_breaker_state{experiment="test",rollout="test-r0001"} 0.0' in metrics
        assert 'experiment="test",rollout="test-r0002"' not in metrics, "the series end with the rollout"
    found = [e for e in await recorded(config, keys.PREDICTIONS) if isinstance(e, events.Prediction)]
    assert {p.rollout for p in found if p.fallback} == {"test-r0002"}
    assert {p.model for p in found if p.rollout == "test-r0002"} == {"v0001"}
    # Its failure costs the others no score.
    ids = {p.id for p in found if p.rollout == "test-r0002"}
    scored = collections.Counter(
        e.model for e in await recorded(config, keys.PREDICTIONS) if isinstance(e, events.Shadow) and e.id in ids
    )
    assert scored == {"v0002": len(ids), "v0004": len(ids)}


def _missing(config: Config) -> str:
    return "v0009"


def _changed(config: Config) -> str:
    registry = adapters.registry(config)
    version = registry.register(small_experiment.classifier(9), registry.get("v0001").schema, created_at=0.0).version
    (Path(config.data) / "registry" / version / "model.skops").write_bytes(b"not what was registered")
    return version


def _other_classes(config: Config) -> str:
    registry = adapters.registry(config)
    schema = msgspec.structs.replace(registry.get("v0001").schema, classes=(0, 1, 2))
    return registry.register(f"{__name__}:failing", schema, created_at=0.0).version


async def _begin(config: Config, version: str) -> None:
    """Begin a rollout as another process would, whatever this router's registry holds."""
    shadow, stages = config.ladder(Rule.PROVE)
    command = Command(name="challenge", actor="t", reason="t", version=version, most=6, shadow=shadow, stages=stages)
    state = adapters.state(config)
    try:
        await control.change(state, config.experiment, command, 1.0)
    finally:
        await state.close()


@pytest.mark.parametrize(
    ("spoilt", "reason"), [(_missing, "no version"), (_changed, "SHA-256"), (_other_classes, "other classes")]
)
async def test_a_challenger_that_can_not_be_loaded_is_alone_in_going(
    config: Config, spoilt: Callable[[Config], str], reason: str
) -> None:
    async with small_experiment.running(config) as client:
        await three(config, client)
        await order(client, "ramp", rollout="test-r0002", stage=2)
        await _begin(config, spoilt(config))

        async def out() -> bool:
            return (await client.get(URL)).json()["control"]["last"]["command"] == "rollback"

        await small_experiment.until(out)
        last = (await client.get(URL)).json()["control"]["last"]
        assert (last["actor"], last["rollout"]) == ("preflight", "test-r0004")
        assert reason in last["reason"]
        await serving(client, URL, challengers=["v0002", "v0003", "v0004"], share=0.1)
        assert set((await models(client, 300)).values()) == {"v0001", "v0003"}


async def test_a_request_may_name_its_challenger(config: Config) -> None:
    async def ask(arm: str, id: str = "") -> Any:
        body = {"features": small_experiment.instance(0), "id": id or arm}
        return (await client.post("/v1/predict", json=body, headers={"X-Gauntlet-Arm": arm})).json()

    async with small_experiment.running(config) as client:
        await challenge(config, client, small_experiment.classifier(2))
        assert (await ask("challenger"))["model"] == "v0002"
        await challenge(config, client, small_experiment.classifier(3))
        assert [(await ask(arm))["model"] for arm in ("champion", "test-r0001", "v0003")] == ["v0001", "v0002", "v0003"]
        for arm, id in (("challenger", "none"), ("v0009", "unknown"), ("test-r0003", "over")):
            refused = (await ask(arm, id))["error"]
            assert refused["code"] == "bad_arm"
            assert "test-r0001 (v0002), test-r0002 (v0003)" in refused["message"]
    found = {e.id: e for e in await recorded(config, keys.PREDICTIONS) if isinstance(e, events.Prediction)}
    assert {arm: e.rollout for arm, e in found.items()} == {
        "challenger": "test-r0001",
        "champion": None,
        "test-r0001": "test-r0001",
        "v0003": "test-r0002",
    }
    assert all(e.forced for e in found.values())


async def test_commands_name_a_rollout_where_several_run(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path, shadow={"challengers": 2}, slots=2))
    async with small_experiment.running(config) as client:
        await challenge(config, client, small_experiment.classifier(2))
        await challenge(config, client, small_experiment.classifier(3))
        assert (await order(client, "challenge", version="v0003"))["changed"] is False
        registry = adapters.registry(config)
        registry.register(small_experiment.classifier(4), registry.get("v0001").schema, created_at=0.0)
        for command, body, code in (
            ("challenge", {"version": "v0004"}, "rollout_running"),
            ("ramp", {"stage": 0}, "rollout_unnamed"),
            ("promote", {}, "rollout_unnamed"),
        ):
            refused = await client.post(f"{URL}/{command}", json={"reason": "test", **body})
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, code)
        paused = await order(client, "pause")
        assert [each["paused"] for each in paused["control"]["rollouts"]] == [True, True]
        await order(client, "ramp", rollout="test-r0002", stage=1)
        await order(client, "ramp", rollout="test-r0001", stage=0)
        await serving(client, URL, share=0.06)
        shown = await client.get(URL)
        both = [
            {"rollout": "test-r0001", "version": "v0002", "share": 0.01, "stage": 0, "breaker": "closed"},
            {"rollout": "test-r0002", "version": "v0003", "share": 0.05, "stage": 1, "breaker": "closed"},
        ]
        assert shown.json()["serving"]["challengers"] == both
        assert shown.json()["routers"][0]["challengers"] == both
        aborted = await order(client, "abort")
        assert aborted["control"]["rollouts"] == []
