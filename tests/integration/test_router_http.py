"""The router over HTTP: predictions and outcomes, what is recorded, and what is refused."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import skops.io
from builders import small_experiment
from builders.small_experiment import recorded

from gauntlet import adapters, control, keys, telemetry
from gauntlet.config import Config
from gauntlet.errors import ModelUnusable

pytestmark = pytest.mark.asyncio


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return small_experiment.load(small_experiment.write(tmp_path))


async def test_one_and_many_predictions_are_answered_and_recorded(config: Config) -> None:
    async with small_experiment.running(config) as client:
        one = await client.post("/v1/predict", json={"features": small_experiment.instance(1), "id": "first"})
        assert one.status_code == 200
        body = one.json()
        assert body["id"] == "first"
        assert body["model"] == "v0001"
        assert math.isclose(sum(body["probabilities"].values()), 1)
        best = max(body["probabilities"], key=body["probabilities"].get)
        assert str(body["prediction"]) == best
        many = await client.post(
            "/v1/predict", json={"instances": [{"features": small_experiment.instance(i)} for i in range(5)]}
        )
        ids = [p["id"] for p in many.json()["predictions"]]
        assert len(set(ids)) == 5
        assert ids == sorted(ids) or len({i[:13] for i in ids}) == 1  # time-ordered to the millisecond
        outcome = await client.post("/v1/outcomes", json={"id": "first", "value": 1})
        assert outcome.status_code == 202
    found = await recorded(config, keys.PREDICTIONS)
    assert [e.id for e in found] == ["first", *ids]
    assert all(e.assigned == e.served == "champion" and e.contenders == [] for e in found)
    assert [(o.id, o.value) for o in await recorded(config, keys.OUTCOMES)] == [("first", 1)]


async def test_the_aa_slice_is_logged_with_its_propensity_and_changes_no_answer(tmp_path: Path) -> None:
    plain = small_experiment.load(small_experiment.write(tmp_path / "plain"))
    sliced = small_experiment.load(small_experiment.write(tmp_path / "sliced", evidence={"aa_slice": 0.25}))
    instances = [{"features": small_experiment.instance(i), "id": f"p{i}", "unit": f"u{i % 300}"} for i in range(900)]
    answers = []
    for made in (plain, sliced):
        async with small_experiment.running(made) as client:
            answer = await client.post("/v1/predict", json={"instances": instances})
            answers.append([(one["id"], one["probabilities"]) for one in answer.json()["predictions"]])
            forced = {"features": small_experiment.instance(0), "id": "forced"}
            assert (
                await client.post("/v1/predict", json=forced, headers={"x-gauntlet-arm": "champion"})
            ).status_code == 200
    assert answers[0] == answers[1]
    assert all(event.phantom is None for event in await recorded(plain, keys.PREDICTIONS))
    *found, last = await recorded(sliced, keys.PREDICTIONS)
    assert (last.forced, last.phantom) == (True, None)
    assert {event.phantom.propensity for event in found} == {0.25}
    labels = {event.unit: event.phantom.drawn for event in found}
    assert all(labels[event.unit] == event.phantom.drawn for event in found)
    assert abs(sum(labels.values()) - 75) <= 3 * math.sqrt(300 * 0.25 * 0.75)


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
    (b'{"features": {"x1": ' + b"[" * 5000, 400, "nested_too_deeply"),
    (b'{"instances": ' + json.dumps([{"features": {}}] * 5000).encode() + b"}", 413, "too_many_instances"),
]


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b'{"features": {"x1": NaN, "x2": 0, "x3": 0}}', "JSON has no NaN and no Infinity"),
        (b'{"features": {"x1": 0, "x2": -Infinity, "x3": 0}}', "JSON has no NaN and no Infinity"),
        (b'\xef\xbb\xbf{"features": {"x1": 1, "x2": 0, "x3": 0}}', "byte order mark"),
        ('{"features": {"x1": 1, "x2": 0, "x3": 0}}'.encode("utf-16"), "byte order mark"),
    ],
)
async def test_what_often_makes_a_body_no_json_is_told(config: Config, body: bytes, hint: str) -> None:
    async with small_experiment.running(config) as client:
        answer = await client.post("/v1/predict", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_json")
    assert hint in answer.json()["error"]["message"]


@pytest.mark.parametrize(("body", "status", "code"), BAD)
async def test_a_bad_request_gets_its_reason_and_leaves_nothing(
    config: Config, body: bytes, status: int, code: str | None
) -> None:
    async with small_experiment.running(config) as client:
        answer = await client.post("/v1/predict", content=body)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert code is None or error["code"] == code
        assert error["message"]
        assert (await client.post("/v1/predict", json={"features": small_experiment.instance(0)})).status_code == 200
    assert len(await recorded(config, keys.PREDICTIONS)) == 1


async def test_fifty_megabytes_are_refused_and_the_next_request_is_unharmed(config: Config) -> None:
    async with small_experiment.running(config) as client:
        for route in ("/v1/predict", "/v1/outcomes"):
            answer = await client.post(route, content=b" " * 50_000_000)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "body_too_large"
        assert (await client.post("/v1/predict", json={"features": small_experiment.instance(0)})).status_code == 200


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
        ({"outcomes": [{"id": "never-made", "value": 1}, {"id": "nor-this", "value": 1}]}, 404, "unknown_prediction"),
        ({"outcomes": [{"id": "known", "value": 1}, {"id": "never-made", "value": 7}]}, 400, "unknown_class"),
        ({"id": "known", "value": 1, "experiment": "other"}, 404, "unknown_experiment"),
    ],
)
async def test_a_bad_outcome_is_refused_whole(config: Config, body: Any, status: int, code: str) -> None:
    async with small_experiment.running(config) as client:
        await client.post("/v1/predict", json={"features": small_experiment.instance(0), "id": "known"})
        answer = await client.post("/v1/outcomes", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert await recorded(config, keys.OUTCOMES) == []


async def test_an_outcome_of_an_unknown_prediction_refuses_no_other(config: Config) -> None:
    async with small_experiment.running(config) as client:
        for name in ("one", "two"):
            await client.post("/v1/predict", json={"features": small_experiment.instance(0), "id": name})
        names = ("one", "never-made", "two", "03a35294-4000-7000-8000-000000000000")
        sent = [{"id": name, "value": 1} for name in names]
        answer = await client.post("/v1/outcomes", json={"outcomes": sent})
        assert answer.status_code == 207
        body = answer.json()
        assert body["accepted"] == 2
        assert [(each["index"], each["id"], each["error"]["code"]) for each in body["refused"]] == [
            (1, names[1], "unknown_prediction"),
            (3, names[3], "unknown_prediction"),
        ]
        assert {each["error"]["retriable"] for each in body["refused"]} == {False}
        assert "was never made here" in body["refused"][0]["error"]["message"]
        assert "carries a time in the future" in body["refused"][1]["error"]["message"]
    assert [outcome.id for outcome in await recorded(config, keys.OUTCOMES)] == ["one", "two"]


async def test_an_outcome_that_contradicts_the_label_is_told_so_and_recorded(config: Config) -> None:
    """The first outcome is the label, through a restart; the evaluator counts what contradicts it."""
    async with small_experiment.running(config) as client:
        for name in ("one", "two", "three"):
            await client.post("/v1/predict", json={"features": small_experiment.instance(0), "id": name})
        assert (await client.post("/v1/outcomes", json={"id": "one", "value": 1})).status_code == 202
    async with small_experiment.running(config) as client:
        assert (await client.post("/v1/outcomes", json={"id": "one", "value": True})).status_code == 202
        answer = await client.post("/v1/outcomes", json={"id": "one", "value": 0})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "label_stands")
        assert answer.json()["error"]["message"].startswith(
            "the label is 1, the first outcome of this prediction; 0 is"
        )
        sent = [("one", 0), ("two", 1), ("two", 0), ("never-made", 1), ("three", 0)]
        answer = await client.post("/v1/outcomes", json={"outcomes": [{"id": i, "value": v} for i, v in sent]})
        assert (answer.status_code, answer.json()["accepted"]) == (207, 2)
        assert [(each["index"], each["error"]["code"]) for each in answer.json()["refused"]] == [
            (0, "label_stands"),
            (2, "label_stands"),
            (3, "unknown_prediction"),
        ]
    kept = [(outcome.id, outcome.value) for outcome in await recorded(config, keys.OUTCOMES)]
    assert kept == [("one", 1), ("one", True), ("one", 0), *(each for each in sent if each[0] != "never-made")]


async def test_a_correction_that_may_count_is_accepted(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path, outcomes={"correction": "last"}))
    async with small_experiment.running(config) as client:
        await client.post("/v1/predict", json={"features": small_experiment.instance(0), "id": "one"})
        for value in (1, 0):
            assert (await client.post("/v1/outcomes", json={"id": "one", "value": value})).status_code == 202


async def test_a_regression_of_ones_own(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path, small_experiment.regressor(), task="regression"))
    async with small_experiment.running(config) as client:
        answer = (await client.post("/v1/predict", json={"features": small_experiment.instance(3), "id": "r"})).json()
        assert isinstance(answer["prediction"], float)
        assert "probabilities" not in answer
        assert (await client.post("/v1/outcomes", json={"id": "r", "value": 1.25})).status_code == 202
        refused = await client.post("/v1/outcomes", json={"id": "r", "value": "much"})
        assert refused.json()["error"]["code"] == "wrong_type"


async def test_start_up_refuses_a_model_that_does_not_load(tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path)
    (tmp_path / "model.skops").write_bytes(b"nothing")
    with pytest.raises(ModelUnusable, match=r"model\.skops"):
        async with small_experiment.running(small_experiment.load(path)):
            pass
    (tmp_path / "model.skops").unlink()
    with pytest.raises(ModelUnusable, match="no such file"):
        async with small_experiment.running(small_experiment.load(path)):
            pass


async def test_the_state_store_going_away_changes_nothing_for_callers(config: Config) -> None:
    async with small_experiment.running(config) as client:
        state = Path(config.data) / "state.db"
        aside = state.with_name("gone")
        state.rename(aside)
        assert (await client.post("/v1/predict", json={"features": small_experiment.instance(0)})).status_code == 200
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
    path = small_experiment.write(tmp_path, champion={"model": "other.skops"})
    skops.io.dump(small_experiment.classifier(), tmp_path / "other.skops")
    async with small_experiment.running(small_experiment.load(path)) as client:
        assert (await client.get("/readyz")).json()["ready"] is True


async def test_a_replay_can_not_be_thrown_into_the_future(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path, clock="events"))
    body = {"features": small_experiment.instance(0)}
    async with small_experiment.running(config) as client:
        assert (await client.post("/v1/predict", json={**body, "at": 1e9})).status_code == 200
        refused = await client.post("/v1/predict", json={**body, "at": 9.9e10})
        assert refused.json()["error"]["code"] == "bad_time"
        assert (await client.post("/v1/predict", json={**body, "at": 1e9 + 86_400})).status_code == 200


async def test_a_refused_request_leaves_the_replay_clock_where_it_was(tmp_path: Path) -> None:
    """The time of an event without `at` tells where the clock stands."""
    config = small_experiment.load(small_experiment.write(tmp_path, clock="events"))
    row = small_experiment.instance(0)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("predict", {"instances": [{"features": row, "at": 9e8}, {"features": {}}]}),
        ("predict", {"instances": [{"features": row, "at": 9e8}, {"features": row, "id": ""}]}),
        ("predict", {"instances": [{"features": row, "at": 9e8}, {"features": row, "at": -1}]}),
        ("outcomes", {"outcomes": [{"id": "first", "value": 1, "at": 9e8}, {"id": "first", "value": 7}]}),
        ("outcomes", {"outcomes": [{"id": "never-made", "value": 1, "at": 9e8}]}),
    ]
    async with small_experiment.running(config) as client:
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
    config = small_experiment.load(small_experiment.write(tmp_path, clock="events"))
    row = small_experiment.instance(0)
    async with small_experiment.running(config) as client:
        steps = [{"features": row, "at": 1e9}, {"features": row, "at": 1e9 + 401 * 86_400}]
        refused = await client.post("/v1/predict", json={"instances": steps})
        assert refused.json()["error"]["code"] == "bad_time"
        assert "instances[1]" in refused.json()["error"]["message"]


async def test_every_refusal_has_a_series_from_the_start(config: Config) -> None:
    """A counter that is absent until its first increase hides that increase from `rate`."""
    telemetry.initialise(config.experiment, "router")
    async with small_experiment.running(config) as client:
        before = (await client.get("/metrics")).text
        for route in ("predict", "outcomes", "admin"):
            assert f'gauntlet_refused_total{{reason="bad_request",route="{route}"}}' in before
        assert 'gauntlet_refused_total{reason="forbidden",route="unrouted"}' in before


def picky(rows: list[dict[str, float]]) -> list[float]:
    """A model that refuses one value for what it is, and another because of a passing fault."""
    if rows[0]["x1"] == 7:
        raise ValueError("no sevens")
    if rows[0]["x1"] == 8:
        raise OSError("the disk is full")
    return [0.5 for _ in rows]


async def test_a_value_that_the_champion_refuses_is_not_worth_a_retry(tmp_path: Path) -> None:
    champion = {"model": f"{__name__}:picky"}
    async with small_experiment.running(
        small_experiment.load(small_experiment.write(tmp_path, champion=champion, classes=[0, 1]))
    ) as client:
        for x1, retriable in ((7, False), (8, True)):
            refused = await client.post("/v1/predict", json={"features": {"x1": x1, "x2": 0, "x3": 0}})
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["retriable"]) == (503, "champion_failed", retriable)
        served = await client.post("/v1/predict", json={"features": {"x1": 0, "x2": 0, "x3": 0}})
        assert served.json()["probabilities"] == {"0": 0.5, "1": 0.5}


def thoughtful(rows: list[dict[str, float]]) -> list[float]:
    """A model that takes its time."""
    time.sleep(0.05)
    return [0.5 for _ in rows]


async def test_a_body_that_comes_slowly_does_not_use_up_the_champions_deadline(tmp_path: Path) -> None:
    settings = {"port": 0, "deadline": "400ms", "challenger_timeout": "100ms"}
    champion = {"model": f"{__name__}:thoughtful"}
    path = small_experiment.write(tmp_path, champion=champion, classes=[0, 1], router=settings)
    body = json.dumps({"features": small_experiment.instance(0)}).encode()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:10]
        await asyncio.sleep(0.6)
        yield body[10:]

    async with small_experiment.running(small_experiment.load(path)) as client:
        assert (await client.post("/v1/predict", content=slowly())).status_code == 200
