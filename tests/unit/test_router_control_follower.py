"""What the follower keeps on the local disk for a start without the state store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builders import small_experiment

from gauntlet import adapters, control_copy, first_start
from gauntlet.clock import EventClock
from gauntlet.errors import StateUnavailable
from gauntlet.state import Versioned
from router.control_follower import ControlFollower


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
