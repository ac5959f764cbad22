"""What the follower keeps on the local disk for a start without the state store."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from builders import small_experiment
from prometheus_client import REGISTRY

from gauntlet import adapters, control_copy, first_start, traffic_health
from gauntlet.clock import EventClock
from gauntlet.errors import StateUnavailable
from gauntlet.state import Versioned
from gauntlet.status import Arrivals, Flow, RouterProgress
from gauntlet.types import Severity
from router.control_follower import ControlFollower
from router.replicas import ReplicaReports
from router.traffic_counts import ArrivalCounter


async def test_the_last_known_record_is_safe_on_disk_before_it_replaces_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    await first_start.ensure(config)
    copy = control_copy.path(config)
    synced: list[int] = []
    renamed: list[Path] = []
    fsync, replace = os.fsync, os.replace

    def count(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def check(source: str | Path, target: str | Path) -> None:
        assert os.stat(source).st_ino in synced, f"{source} is renamed to {target} before its content is on disk"
        renamed.append(Path(target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", count)
    monkeypatch.setattr(os, "replace", check)
    state = adapters.state(config)
    try:
        await ControlFollower(config, state, adapters.registry(config), EventClock(), "a").start()
    finally:
        await state.close()
    assert renamed == [copy]
    assert copy.parent.stat().st_ino in synced


async def test_a_start_without_the_state_store_serves_the_copy_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    await first_start.ensure(config)
    state, registry = adapters.state(config), adapters.registry(config)

    async def unavailable(*_: object) -> Versioned:
        raise StateUnavailable("gone")

    try:
        await ControlFollower(config, state, registry, EventClock(), "a").start()
        monkeypatch.setattr(state, "get", unavailable)
        follower = ControlFollower(config, state, registry, EventClock(), "a")
        await follower.start()
        assert follower.table is not None
        assert follower.table.champion.version == "v0001"
        assert follower.problems.open
        control_copy.path(config).unlink()
        with pytest.raises(StateUnavailable):
            await ControlFollower(config, state, registry, EventClock(), "a").start()
    finally:
        await state.close()


async def test_a_silence_at_all_replicas_is_a_metric_that_an_alert_can_read(tmp_path: Path) -> None:
    """Scenario: another replica gets predictions, and no outcomes any more; this one gets nothing. Expected: the
    status' problem, no_outcomes, with its severity, until they come again."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    await first_start.ensure(config)
    state, registry = adapters.state(config), adapters.registry(config)
    other = ReplicaReports(state, config.experiment, "other")

    async def shown(silent: float) -> dict[str, float | None]:
        now = time.time()
        arrived = Arrivals(
            at=now,
            since=now - 200_000,
            predictions=Flow(latest=now, count=5, longest_gap=9.0),
            outcomes=Flow(latest=now - silent, count=5, longest_gap=9.0),
            unanswered_since=now - silent + 1 if silent > 1 else 0.0,
        )
        report = {"at": now, "seen": now, "replica": "other", "version": 1, "allocation": 1, "champion": "v0001"}
        await other.publish(RouterProgress(**report, arrivals=arrived))
        await ControlFollower(config, state, registry, EventClock(), "a", ArrivalCounter()).start()
        labels = {"experiment": config.experiment}
        return {
            code: REGISTRY.get_sample_value("gauntlet_traffic_problem", {**labels, "code": code})
            for code in traffic_health.CODES
        }

    try:
        quiet = dict.fromkeys(traffic_health.CODES, 0.0)
        assert await shown(1.0) == quiet
        assert (await shown(100_000.0))["no_outcomes"] == Severity.HIGH.rank
        assert await shown(1.0) == quiet
    finally:
        await state.close()
