"""Settings that `POST /retraining/configure` has made hold over the file, and `gauntlet diff` says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from builders import small_experiment
from unit.test_in_force import changed, lines, started

from gauntlet import adapters, keys, status
from gauntlet.config import Config

REMEDY = "null there takes one back"


def by_name(config: Config, **configured: Any) -> None:
    """As the retrainer reports it."""

    async def report() -> None:
        store = adapters.state(config)
        try:
            progress = status.RetrainerProgress(configured=configured)
            await status.publish(store, keys.retrainer_progress(config.experiment), progress)
        finally:
            await store.close()

    asyncio.run(report())


def test_they_are_shown_with_the_way_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = started(tmp_path)
    by_name(config, performance_threshold=0.1, schedule_enabled=True, schedule_interval_days=14)
    found = lines(capsys, tmp_path / "config.yaml")
    fall = next(line for line in found if line.startswith("retrain.triggers.performance.fall: "))
    assert fall == (
        "retrain.triggers.performance.fall: in force 0.1, configured 0.05; never takes effect by itself: POST "
        "/retraining/configure has set performance_threshold, schedule_enabled, schedule_interval_days; " + REMEDY
    )
    (schedule,) = [line for line in found if line.startswith("retrain.schedule: in force ")]
    assert "configured null; never takes effect by itself" in schedule
    assert all(line.endswith(REMEDY) for line in found)
    by_name(config)
    assert lines(capsys, tmp_path / "config.yaml") == []


def test_a_change_of_the_file_below_one_changes_nothing_and_beside_it_counts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = started(tmp_path)
    by_name(config, performance_threshold=0.1)
    performance = {"fall": 0.07, "confidence": 0.9, "mode": "automatic"}
    path = changed(tmp_path, retrain={"triggers": {"performance": performance}})
    found = lines(capsys, path)
    assert any("fall: in force 0.1, configured 0.07; never takes effect" in line for line in found)
    assert any("confidence: in force 0.95, configured 0.9; takes effect at the next start" in line for line in found)
    same = changed(tmp_path, retrain={"triggers": {"performance": {"fall": 0.1, "mode": "automatic"}}})
    assert not [line for line in lines(capsys, same) if REMEDY in line], "the file says the same by now"


def test_what_no_longer_fits_the_file_is_not_in_force(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    by_name(started(tmp_path), training_data_window_days=1)
    assert lines(capsys, tmp_path / "config.yaml") == []
    assert small_experiment.load(tmp_path / "config.yaml").retrain.window > 86_400
