"""Labelled history from the user's loader: merged before the log's rows, and refused by name where it is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import retraining_data
from builders.retraining_jobs import order, run, untimed

from gauntlet import adapters, preflight
from gauntlet.errors import ConfigError

DAY = retraining_data.DAY
BUILDERS = "builders.retraining_data:"


@pytest.mark.asyncio
async def test_history_before_the_log_is_trained_on(tmp_path: Path) -> None:
    """The log has 15 days, too few by themselves; the window of 30 days begins in the loader's time."""
    config = retraining_data.configuration(tmp_path, rule="refresh", loader=f"{BUILDERS}history")
    now = await retraining_data.lay(config, turn=0, fault="too few")
    answer = await run(await order(config, now))
    assert answer.error is None
    assert answer.version == "v0002"
    matured = now - config.evidence.outcome_horizon
    assert matured - 30 * DAY <= answer.split["train_from"] < matured - 29.9 * DAY
    # 60 rows a day from the window's begin to 14 days before its end; the log alone has those of a day.
    assert answer.split["train_rows"] == pytest.approx(16 * 60, abs=100)
    *_, times = retraining_data.rows(30, 60, 0, 11, "classification")
    early = int((times - 30 * DAY < matured - 30 * DAY).sum())
    assert answer.split["skipped_outside"] == early - 1 + 1, "before the window, one of them unusable, and one too new"
    assert answer.split["skipped_unusable"] == 1, "the row without an outcome"
    found = adapters.registry(config).get("v0002")
    assert found.parameters["loader"] == f"{BUILDERS}history"
    assert found.rows == answer.split["train_rows"] + answer.split["holdout_rows"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("loader", "reason"),
    [
        ("nameless_history", "gives no column x3, target; it has: x1, x2, label, time"),
        ("broken_history", "failed: ConnectionError: no warehouse today"),
        ("truthless_history", "gives no outcome in column target: 'ja' is not one of 0, 1"),
        ("blank_history", "gives no outcome in column target: it is empty"),
        ("timeless_history", "column time holds no times"),
    ],
)
async def test_a_loader_of_no_use_fails_its_job_by_name(tmp_path: Path, loader: str, reason: str) -> None:
    config = retraining_data.configuration(tmp_path, loader=f"{BUILDERS}{loader}")
    now = await retraining_data.lay(config, fault="too few")
    answer = await run(await order(config, now))
    assert answer.error is not None
    assert answer.error.startswith(f"retrain.loader {BUILDERS}{loader}")
    assert reason in answer.error
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001"]


@pytest.mark.asyncio
async def test_a_log_that_covers_the_window_needs_no_history(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, loader=f"{BUILDERS}history")
    alone = retraining_data.configuration(tmp_path)
    now = await retraining_data.lay(config, days=50)
    with_loader, without = (
        await run(await order(config, now)),
        await run(await order(alone, now, "retrain_20231224_002")),
    )
    assert untimed(with_loader).metrics == untimed(without).metrics


@pytest.mark.asyncio
async def test_the_same_rows_otherwise_spelled_are_the_same_rows(tmp_path: Path) -> None:
    answers = []
    for number, loader in enumerate(("history", "spelled_history"), 1):
        config = retraining_data.configuration(tmp_path / loader, loader=f"{BUILDERS}{loader}")
        now = await retraining_data.lay(config, turn=0, fault="too few")
        answers.append(await run(await order(config, now, f"retrain_20231224_00{number}")))
    plain, spelled = answers
    assert (plain.error, plain.split) == (None, spelled.split)
    assert untimed(spelled).metrics == untimed(plain).metrics


def test_what_no_job_could_call_is_refused_before_any(tmp_path: Path) -> None:
    config = retraining_data.configuration(tmp_path, loader=f"{BUILDERS}champion_of")
    with pytest.raises(ConfigError, match=r"retrain.loader .*champion_of can't be called as \(start, end\)"):
        preflight.refuse_functions(config)
