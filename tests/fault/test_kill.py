"""kill -9 of each service in the middle of a run: every count and every sum is that of one pass over the log."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import service_processes, small_experiment

from evaluator.service.checkpoint import Checkpoint
from gauntlet.errors import Conflict

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240)]

EVIDENCE = {"outcome_horizon": "2h", "block": "4h", "harm_block": "1h", "min_samples": 4000}


@pytest.mark.parametrize("challengers", [1, 3])
async def test_kill_nine_of_each_service_changes_no_count(tmp_path: Path, challengers: int) -> None:
    """Scenario 1: router, evaluator (twice) and retrainer are killed while traffic, shadow scores and outcomes flow,
    with one rollout and in a tournament."""
    path = small_experiment.write(tmp_path, clock="events", evidence=EVIDENCE)
    killed = {8: "evaluator", 14: "router", 20: "retrainer", 26: "evaluator"}
    n = 4000
    async with service_processes.loop(path) as running:
        for seed in range(2, 2 + challengers):
            await running.challenge(seed)

        async def kill(number: int) -> None:
            if number in killed:
                running.kill(killed[number])

        predictions, outcomes = await service_processes.send(running, n, 100, kill)
        await running.counted(predictions, outcomes)
    config = small_experiment.load(path)
    checkpoint = Checkpoint(Path(config.data) / "evaluator.db")
    saved = checkpoint.saved
    checkpoint.close()
    assert saved.counts["predictions"] == n
    assert saved.counts["joined"] == outcomes
    assert saved.counts.get("late", 0) == saved.counts.get("conflict", 0) == 0
    assert len(saved.rollouts) == challengers
    assert (
        saved.counts["shadows"] > 0.8 * n * challengers
    )  # what the killed router had not scored yet is lost, and only that
    again = (await service_processes.evaluated_in_one_pass(config, tmp_path / "again")).state(0, {})
    assert again.accumulators == saved.accumulators  # bit for bit
    assert {k: v for k, v in again.counts.items() if k != "orphan"} == saved.counts
    assert again.rollouts == saved.rollouts


async def test_kill_nine_changes_nothing_of_what_a_promotion_was_worth(tmp_path: Path) -> None:
    """Scenario 3: a challenger is promoted in the middle of the traffic, with a reverse holdout, and then evaluator
    (twice) and router are killed while pairs with the champion before come in."""
    path = small_experiment.write(
        tmp_path, clock="events", evidence=EVIDENCE, bake={"time": "1d"}, worth={"holdout": 0.2, "revert": False}
    )
    killed = {14: "evaluator", 20: "router", 26: "evaluator"}
    n = 4000
    async with service_processes.loop(path) as running:
        await running.challenge()

        async def between(number: int) -> None:
            if number % 4 == 3:  # a horizon is seven batches: the events' clock must not outrun the scores
                await running.counted(min(n, 100 * number), 0)
            if number == 8:
                await running.post(f"{running.url}/promote", {"reason": "in the middle"})
            if number in killed:
                running.kill(killed[number])

        predictions, outcomes = await service_processes.send(running, n, 100, between)
        await running.counted(predictions, outcomes)
    config = small_experiment.load(path)
    checkpoint = Checkpoint(Path(config.data) / "evaluator.db")
    saved = checkpoint.saved
    checkpoint.close()
    (entry,) = saved.worth["entries"]
    assert (entry["promotion"], entry["champion"], entry["previous"]) == ("test-r0001", "v0002", "v0001")
    assert entry["pairs"] > 500
    again = (await service_processes.evaluated_in_one_pass(config, tmp_path / "again")).state(0, {})
    assert again.accumulators == saved.accumulators  # bit for bit, units that were held out with them
    assert again.worth == saved.worth


async def test_a_second_evaluator_stops_instead_of_counting_twice(tmp_path: Path) -> None:
    """Scenario 2: two evaluators on one file; the fence lets one of them commit."""
    first, second = Checkpoint(tmp_path / "e.db"), Checkpoint(tmp_path / "e.db")
    first.commit(b"{}", 1, [], after=0)
    with pytest.raises(Conflict):
        second.commit(b"{}", 1, [], after=0)
    first.commit(b"{}", 2, [], after=1)
    first.close()
    second.close()
