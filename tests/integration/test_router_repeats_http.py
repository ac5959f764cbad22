"""Requests that come again over HTTP: the first answer whatever has changed since, or a 409 that says what differed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from builders import small_experiment
from builders.small_experiment import challenge, recorded, serving

from gauntlet import keys
from gauntlet.config import Config
from gauntlet.errors import ConfigError

pytestmark = pytest.mark.asyncio

FIRST = {"id": "order-1", "unit": "customer-7", "features": {"x1": 0.5, "x2": 1, "x3": -2.25}, "segments": {"c": "pt"}}
OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"features": {"x1": 0.5, "x2": 1, "x3": -2.5}}, "features"),
    ({"features": {"x1": 0.5, "x2": 1, "x3": -2.25, "more": None}}, "features"),
    ({"unit": "customer-8"}, "unit"),
    ({"unit": None}, "unit"),
    ({"segments": {}}, "segments"),
]


@pytest.fixture(params=["durable", "fast"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    router = {"port": 0, "deadline": "20s", "challenger_timeout": "5s", "delivery": request.param}
    return small_experiment.load(small_experiment.write(tmp_path, router=router))


async def predict(client: httpx.AsyncClient, body: Any, status: int = 200, **headers: str) -> Any:
    answer = await client.post("/v1/predict", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_an_id_keeps_its_first_answer_through_stages_a_promotion_and_a_restart(config: Config) -> None:
    url = f"/v1/experiments/{config.experiment}"
    async with small_experiment.running(config) as client:
        first = await predict(client, FIRST)
        await challenge(config, client, small_experiment.classifier(2))
        assert await predict(client, FIRST) == first
        bodies = [{"id": f"n{i}", "features": small_experiment.instance(i)} for i in range(40)]
        arms = {"v0001": "champion", "v0002": "challenger"}
        firsts = [await predict(client, bodies[0]), await predict(client, bodies[1])]
        await client.post(f"{url}/ramp", json={"stage": 2, "reason": "up"})
        await serving(client, url, share=0.1)
        firsts += (await predict(client, {"instances": bodies[2:]}))["predictions"]
        await client.post(f"{url}/promote", json={"reason": "test"})
        await serving(client, url, champion="v0002")
        assert (await predict(client, {"instances": [*reversed(bodies), FIRST]}))["predictions"] == [
            *reversed(firsts),
            first,
        ]
    async with small_experiment.running(config) as client:
        assert [await predict(client, body) for body in bodies] == firsts
        assert await predict(client, FIRST) == first
        assert "gauntlet_repeats_total" in (await client.get("/metrics")).text
    events = [e for e in await recorded(config, keys.PREDICTIONS) if e.__class__.__name__ == "Prediction"]
    assert sorted(e.id for e in events) == sorted(["order-1", *(body["id"] for body in bodies)])
    assert {e.id: e.served for e in events} == {answer["id"]: arms[answer["model"]] for answer in [first, *firsts]}


@pytest.mark.parametrize(("change", "named"), OTHERS)
async def test_another_request_with_a_used_id_is_refused_and_neither_answered_nor_logged(
    config: Config, change: dict[str, Any], named: str
) -> None:
    async with small_experiment.running(config) as client:
        first = await predict(client, FIRST)
        other = FIRST | change
        fresh = {"id": "fresh", "features": small_experiment.instance(1)}
        for body in (other, {"instances": [fresh, other]}):
            error = (await predict(client, body, 409))["error"]
            assert (error["code"], error["retriable"]) == ("id_reused", False)
            assert f"'order-1' was used before with other {named};" in error["message"]
        error = (await predict(client, {"instances": [fresh, fresh | {"unit": "u"}]}, 409))["error"]
        assert "instances[1]" in error["message"]
        assert "'fresh'" in error["message"]
        assert await predict(client, FIRST) == first
    assert [e.id for e in await recorded(config, keys.PREDICTIONS)] == ["order-1"]


async def test_an_id_that_the_router_gave_is_as_good_as_one_of_the_callers_own(config: Config) -> None:
    async with small_experiment.running(config) as client:
        row = {"features": small_experiment.instance(1)}
        first = await predict(client, row)
        assert await predict(client, row | {"id": first["id"]}) == first
        await predict(client, row | {"id": first["id"], "unit": "u"}, 409)
    assert [e.id for e in await recorded(config, keys.PREDICTIONS)] == [first["id"]]


async def test_a_forced_arm_is_part_of_the_request(config: Config) -> None:
    async with small_experiment.running(config) as client:
        forced = await predict(client, FIRST, **{"x-gauntlet-arm": "champion"})
        assert await predict(client, FIRST, **{"x-gauntlet-arm": "champion"}) == forced
        for headers in ({}, {"x-gauntlet-arm": "challenger"}):
            error = (await predict(client, FIRST, 409, **headers))["error"]
            assert "with other x-gauntlet-arm;" in error["message"]


async def test_one_request_sent_many_times_at_once_runs_once(config: Config) -> None:
    async with small_experiment.running(config) as client:
        bodies = [FIRST, {"instances": [FIRST, {"id": "n", "features": small_experiment.instance(1)}, FIRST]}] * 10
        answers = await asyncio.gather(*(predict(client, body) for body in bodies))
        whole = [answer["predictions"] for answer in answers if "predictions" in answer]
        assert all(answer == answers[0] for answer in answers if "predictions" not in answer)
        assert all(answer == [answers[0], whole[0][1], answers[0]] for answer in whole)
    assert sorted(e.id for e in await recorded(config, keys.PREDICTIONS)) == ["n", "order-1"]


async def test_a_request_that_failed_may_come_again(tmp_path: Path) -> None:
    """Nothing of it was recorded, so its id is free."""
    champion = {"model": f"{__name__}:failing_once"}
    changed = small_experiment.write(tmp_path, champion=champion, classes=[0, 1])
    async with small_experiment.running(small_experiment.load(changed)) as client:
        await predict(client, FIRST, 503)
        assert (await predict(client, FIRST))["probabilities"] == {"0": 0.5, "1": 0.5}


_failed: list[bool] = []


def failing_once(rows: list[dict[str, float]]) -> list[float]:
    """A model that fails the first time it is asked for `FIRST`; the start's own trial rows are others."""
    if not _failed and rows[0]["x3"] == FIRST["features"]["x3"]:
        _failed.append(True)
        raise OSError("the disk is full")
    return [0.5 for _ in rows]


async def test_a_replay_keeps_its_time(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path, clock="events"))
    async with small_experiment.running(config) as client:
        first = await predict(client, FIRST | {"at": 1e9})
        await predict(client, FIRST | {"id": "later", "at": 1e9 + 60})
        assert await predict(client, FIRST | {"at": 1e9}) == first
        assert "with other at;" in (await predict(client, FIRST | {"at": 1e9 + 1}, 409))["error"]["message"]
    assert [e.at for e in await recorded(config, keys.PREDICTIONS)] == [1e9, 1e9 + 60]


async def test_another_experiment_on_the_same_data_can_not_take_an_id_over(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config) as client:
        await predict(client, FIRST)
    with pytest.raises(ConfigError, match="in force test, configured other"):
        async with small_experiment.running(msgspec.structs.replace(config, experiment="other")):
            pass
