"""The opt-ins on the ramp over the whole loop: shares follow the evidence, their propensities are logged, and the A/A
slice beside them publishes its false-alarm rate."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import small_experiment
from builders.small_experiment import challenge, recorded, serving, until
from builders.small_traffic import Traffic

from gauntlet import events, keys
from gauntlet.config.load import load

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240)]

URL = "/v1/experiments/test"


async def test_shares_follow_the_evidence_and_the_aa_slice_publishes_its_rate(tmp_path: Path) -> None:
    config = load(
        small_experiment.write(
            tmp_path,
            clock="events",
            evidence={"outcome_horizon": "1h", "block": "2h", "harm_block": "1h", "min_blocks": 10, "aa_slice": 0.25},
            ramp=[{"share": 0.5, "min_time": "1000d"}],
            thompson={"enabled": True, "every": "2h"},
            retrain={"enabled": False},
        )
    )
    async with small_experiment.running(config, "router", "evaluator", "retrainer") as client:
        traffic = Traffic(client)
        await challenge(config, client, small_experiment.classifier(3))
        assert (await client.post(f"{URL}/ramp", json={"reason": "test", "stage": 0})).status_code == 200
        await serving(client, URL, share=0.5)

        async def shared() -> bool:
            await traffic.more()
            document = (await client.get(URL)).json()
            told = document["false_alarms"]
            return document["serving"]["share"] < 0.5 and bool(told) and told["rounds"] >= 1

        await until(shared, 120)
        document = (await client.get(URL)).json()
        await traffic.send(10)
        history = (await client.get(f"{URL}/history")).json()
    given = [change for change in history if change["command"] == "allocate"]
    assert {change["actor"] for change in given} == {"retrainer"}
    assert document["rollouts"][0]["look"]["ramp_share"] is not None
    assert document["false_alarms"]["level"] == pytest.approx(0.075)
    found = [event for event in await recorded(config, keys.PREDICTIONS) if isinstance(event, events.Prediction)]
    propensities = {round(contender.propensity, 6) for event in found for contender in event.contenders}
    assert propensities - {0.5}
    assert propensities <= {0.0, 0.5, *(round(change["share"], 6) for change in given)}
    assert all(event.phantom is None for event in found if event.assigned == "challenger")
    assert {event.phantom.propensity for event in found if event.phantom is not None} == {0.25}
