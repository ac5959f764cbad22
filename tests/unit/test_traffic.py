"""Recorded traffic beside the configuration: names that match nothing, and settings that ask for more than comes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import small_experiment

from gauntlet import adapters, events, first_start, keys, traffic_notes
from gauntlet.cli import main
from gauntlet.config import Config
from gauntlet.log import Record

DAY = 86_400.0


def logged(config: Config, n: int, *, days: float, segments: dict[str, str], **more: float) -> None:
    """`n` predictions with their outcomes, evenly over so many days, on the router's own log."""

    async def write() -> None:
        writer = adapters.local_writer(config, "router", indexed=[keys.PREDICTIONS])
        records = []
        for i in range(n):
            at = 1_700_000_000.0 + i * days * DAY / (n - 1)
            prediction = events.Prediction(
                id=f"p{i}",
                at=at,
                experiment=config.experiment,
                unit=f"u{i}",
                bucket=i,
                assigned="champion",
                served="champion",
                allocation=1,
                champion="v0001",
                output=[0.5, 0.5],
                features=small_experiment.instance(i) | more,
                segments=segments,
            )
            outcome = events.Outcome(id=f"p{i}", at=at, experiment=config.experiment, value=1)
            records += [
                Record(topic, event.id, at, events.encode(event))
                for topic, event in ((keys.PREDICTIONS, prediction), (keys.OUTCOMES, outcome))
            ]
        await writer.append(records)
        await writer.close()

    asyncio.run(write())


def noted(capsys: pytest.CaptureFixture[str], folder: Path, **changes: Any) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    capsys.readouterr()
    assert main(["check", str(path)]) == 0
    return [line.removeprefix("note: ") for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]


def started(folder: Path, **changes: Any) -> Config:
    config = small_experiment.load(small_experiment.write(folder, **changes))
    asyncio.run(first_start.ensure(config))
    return config


def test_names_that_match_nothing_are_told_with_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = started(tmp_path, segments=["contry", "device"], bake={"min_outcomes": 50})
    assert noted(capsys, tmp_path) == [], "nothing is said of traffic that there has not been"
    logged(config, 60, days=1, segments={"country": "it"}, x33=1.0, unrelated_label=2.0)
    assert noted(capsys, tmp_path) == [
        "segments: none of the latest 60 requests has 'contry'; did you mean 'country'?",
        "segments: none of the latest 60 requests has 'device'; they bring 'country'",
        "features: the latest 60 requests bring 'x33', which is not a feature of the model and is ignored; "
        "did you mean 'x3'?",
    ]
    assert len(noted(capsys, tmp_path, segments=["country"])) == 1


def test_a_feature_that_may_be_missing_and_always_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    features = ["x1", "x2", "x3", {"name": "wind", "required": False}]
    config = started(
        tmp_path, features=features, champion={"model": f"{__name__}:half"}, classes=[0, 1], retrain={"enabled": False}
    )
    logged(config, 30, days=1, segments={})
    assert "features: none of the latest 30 requests has a value for 'wind'" in noted(capsys, tmp_path)


def half(rows: Any) -> list[float]:
    return [0.5 for _ in rows]


AMOUNTS = {
    "too few rows to train on": (
        {"retrain": {"min_data_points": 200}},
        "retrain.min_data_points: at 10 outcomes a day, `validation` and `test` hold 140 rows in 14 d, and 200 are "
        "asked for: every job would be refused",
    ),
    "too short a window": (
        {"retrain": {"window": "18d", "min_data_points": 50}},
        "retrain.min_data_points: at 10 outcomes a day, `window` leaves to train on 40 rows in 4 d, and 50 are "
        "asked for: every job would be refused",
    ),
    "a watch that sees too little": (
        {"bake": {"min_outcomes": 100}},
        "bake.min_outcomes: at 10 outcomes a day, `bake.window` (7 d) holds 70, and 100 are asked for: a promoted "
        "model would never be taken back",
    ),
    "a stage that nobody leaves": (
        {"ramp": [{"share": 0.01, "min_outcomes": 9}]},
        "ramp[0].min_outcomes: at 10 outcomes a day, 9 of the challenger take 90 d, more than twice "
        "`evidence.max_duration` (80 d)",
    ),
    "explicit blocks": (
        {"evidence": {"block": "1d", "min_samples": 1000}},
        "evidence.min_samples: at 10 outcomes a day, 1,000 of the challenger take 100 d, more than twice "
        "`evidence.max_duration` (80 d)",
    ),
}
ENOUGH = {"retrain": {"min_data_points": 100}, "bake": {"min_outcomes": 50}, "shadow": {"min_outcomes": 100}}


@pytest.mark.parametrize("name", AMOUNTS)
def test_settings_that_ask_for_more_than_comes(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    changes, words = AMOUNTS[name]
    config = started(tmp_path, **{**ENOUGH, **changes})
    logged(config, 41, days=4.1, segments={})  # 41 outcomes over 4.1 days: ten a day
    assert [note for note in noted(capsys, tmp_path) if "no effect" not in note] == [words]


def test_enough_traffic_is_worth_no_note(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    logged(started(tmp_path, **ENOUGH), 41, days=4.1, segments={})
    assert noted(capsys, tmp_path) == []


def test_an_hour_says_nothing_of_a_day(tmp_path: Path) -> None:
    config = started(tmp_path)
    logged(config, 500, days=0.5 / 24, segments={})
    found = asyncio.run(traffic_notes.recorded(config))
    assert found is not None
    assert (found.predictions, found.features["x1"], found.rate) == (500, 500, None)
