"""What a promotion was worth, over the whole loop: a promoted model that does harm after its bake is taken back by
itself, and the ledger tells it, in the status and the history; and who is held out from a promotion."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from builders import small_experiment
from builders.small_experiment import challenge, recorded, serving, until
from builders.small_traffic import Traffic

from gauntlet import adapters, events, keys, status
from gauntlet.config import Config
from gauntlet.promotion_ledger import Entry, Ledger
from gauntlet.state import decoded
from router.model_worker import ModelWorker

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240)]

URL = "/v1/experiments/test"
# The events' clock flies: with the horizon of half a day, the shadow scores are in time.
EVIDENCE = {"outcome_horizon": "12h", "block": "2h", "harm_block": "1h", "min_samples": 4000}
WORSE = (0.2, 0.4, 0.1)
"""Weights of a model that has learned next to nothing."""


def configuration(folder: Path, **worth: Any) -> Config:
    path = small_experiment.write(
        folder,
        clock="events",
        evidence=EVIDENCE,
        bake={"time": 0},
        worth={"fraction": 1.0, **worth},
        retrain={"enabled": False},
    )
    return small_experiment.load(path)


async def ledger(config: Config) -> Ledger:
    store = adapters.state(config)
    try:
        key = keys.evaluator_progress("test")
        version, value = await store.get(key)
    finally:
        await store.close()
    return decoded(key, value, status.EvaluatorProgress).worth if version else Ledger()


async def entry(config: Config, traffic: Traffic, shows: Callable[[Entry], bool]) -> None:
    """Send requests until the ledger's first entry shows something."""

    async def shown() -> bool:
        await traffic.more()
        entries = (await ledger(config)).entries
        return bool(entries) and shows(entries[0])

    await until(shown, 120)


async def promoted(config: Config, client: httpx.AsyncClient, weights: tuple[float, ...]) -> str:
    version = await challenge(config, client, small_experiment.classifier(3, weights=weights))
    answer = await client.post(f"{URL}/promote", json={"reason": "a person says so"})
    assert answer.status_code == 200, answer.text
    await serving(client, URL, champion=version)
    return version


async def test_harm_that_shows_after_the_bake_is_taken_back_and_stays_in_the_ledger(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    async with small_experiment.running(config, "router", "evaluator", "retrainer") as client:
        traffic = Traffic(client)
        await traffic.send(300)
        worse = await promoted(config, client, WORSE)

        async def back() -> bool:
            await traffic.more()
            return bool((await client.get(URL)).json()["champion"] == "v0001")

        await until(back, 120)
        document = (await client.get(URL)).json()
        (one,) = document["worth"]
        assert (one["champion"], one["previous"], one["state"]) == (worse, "v0001", "taken_back")
        assert one["upper"] < 0 > one["gain"]
        assert document["lineage"] is None, "v0001 is nobody's successor"
        assert document["bake"] is None
        assert f"worse than v0001 since the promotion by {-one['gain']:.2g}"[:40] in document["last"]["reason"]
        history = (await client.get(f"{URL}/history")).json()
        (promotion,) = [change for change in history if change["command"] == "promote"]
        assert promotion["worth"]["promotion"] == promotion["rollout"] == "test-r0001"
        assert [change["command"] for change in history][-1] == "rollback"
        # The champion that is back is compared with nobody, and a better one after it begins an entry of its own.
        better = await promoted(config, client, (1.5, -1.0, 0.5))
        traffic.as_much_again()

        async def known() -> bool:
            await traffic.more()
            return len((await ledger(config)).entries) == 2

        await until(known, 120)
        found = await ledger(config)
        assert [entry.champion for entry in found.entries] == [worse, better]
        assert found.lineage is not None
        assert (found.lineage.base, found.lineage.links) == ("v0001", 1)


async def test_where_it_is_switched_off_harm_after_the_bake_is_told_and_nothing_is_done(tmp_path: Path) -> None:
    config = configuration(tmp_path, revert=False)
    async with small_experiment.running(config, "router", "evaluator", "retrainer") as client:
        traffic = Traffic(client)
        await traffic.send(60)  # an experiment on the events' clock has no time before its first request
        await promoted(config, client, WORSE)

        await entry(config, traffic, lambda one: one.upper is not None and one.upper < 0)
        await traffic.send(240)
        assert (await client.get(URL)).json()["champion"] == "v0002"


async def test_a_held_out_share_stays_with_the_champion_before_and_tells_the_causal_effect(tmp_path: Path) -> None:
    config = configuration(tmp_path, revert=False, holdout=0.2)
    async with small_experiment.running(config, "router", "evaluator", "retrainer") as client:
        traffic = Traffic(client)
        await traffic.send(60)  # an experiment on the events' clock has no time before its first request
        await promoted(config, client, WORSE)

        await entry(config, traffic, lambda one: one.split is not None and one.split.upper is not None)
        (one,) = (await client.get(URL)).json()["worth"]
    assert one["split"]["upper"] < 0
    assert one["split"]["gain"] == pytest.approx(one["gain"], abs=0.1), "the same effect, on the same traffic"
    made = [e for e in await recorded(config, keys.PREDICTIONS) if isinstance(e, events.Prediction)][60:]
    assert all(e.holdout is not None for e in made), "each request tells its propensity"
    held = [e for e in made if e.held_out]
    assert {e.model for e in held} == {"v0001"}
    assert {e.model for e in made if not e.held_out} == {"v0002"}
    assert {e.champion for e in made} == {"v0002"}
    assert abs(len(held) - 0.2 * len(made)) < 3 * math.sqrt(len(made) * 0.2 * 0.8)


async def test_who_is_held_out_gets_the_champion_where_the_one_before_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes all the same, and counts for the share that the unit was drawn for."""
    config = configuration(tmp_path, holdout=0.5)
    attempt = ModelWorker.attempt

    async def failing(self: ModelWorker, rows: Any, seconds: float, *, shadow: bool = False) -> Any:
        return "error" if broken and self.version == "v0001" else await attempt(self, rows, seconds, shadow=shadow)

    broken = False
    monkeypatch.setattr(ModelWorker, "attempt", failing)
    rows = [{"features": small_experiment.instance(i), "unit": f"u{i % 40}"} for i in range(80)]

    async def models(**headers: str) -> list[str]:
        answer = await client.post("/v1/predict", json={"instances": rows}, headers=headers)
        return [one["model"] for one in answer.json()["predictions"]]

    async with small_experiment.running(config) as client:
        await promoted(config, client, WORSE)
        found = await models()
        assert set(found) == {"v0001", "v0002"}
        assert found[:40] == found[40:] == (await models())[:40], "sticky"
        assert set(await models(**{"X-Gauntlet-Arm": "champion"})) == {"v0002"}, "asked for by name"
        broken = True
        assert set(await models()) == {"v0002"}
    made = [e for e in await recorded(config, keys.PREDICTIONS) if isinstance(e, events.Prediction)][-80:]
    assert ["v0001" if e.held_out else "v0002" for e in made] == found
    assert {(e.held_out, e.fallback, e.model) for e in made} == {(True, "error", "v0002"), (False, None, "v0002")}
