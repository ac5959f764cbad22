"""The profile `rehearsal`: all times by one factor, nothing else, and never beside what only production has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from builders import small_experiment

from gauntlet import first_start, in_force
from gauntlet.config import Config, load
from gauntlet.config.rehearsal import SPEED, as_written, is_real, notice, rehearsed
from gauntlet.config.section import Seconds, Section
from gauntlet.config.takes_effect import TakesEffect, flat
from gauntlet.errors import ConfigError

BASE: dict[str, Any] = {"experiment": "e", "task": "classification", "champion": {"model": "m.skops"}}


def parsed(**more: Any) -> Config:
    return load.parse(yaml.safe_dump({**BASE, **more}))


def values(section: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its place."""
    if isinstance(section, Section):
        for name in section.__struct_fields__:
            yield from values(getattr(section, name), f"{where}.{name}".lstrip("."))
    elif isinstance(section, list):
        for place, each in enumerate(section):
            yield from values(each, f"{where}[{place}]")
    else:
        yield where, section


FULL: dict[str, Any] = {
    "evidence": {"block": "1d", "harm_block": "6h", "block_offset": "1m"},
    "retrain": {
        "schedule": {"every": "7d"},
        "recipes": [{"name": "a", "window": "30d"}, {"name": "b", "window": "all"}],
    },
    "guardrails": [{"metric": "latency", "margin": 0.01}],
}


@pytest.mark.parametrize("more", [{}, FULL])
def test_every_time_passes_faster_by_one_factor_and_nothing_else_changes(more: dict[str, Any]) -> None:
    before, after = dict(values(parsed(**more))), dict(values(parsed(profile="rehearsal", **more)))
    assert before.keys() == after.keys()
    times = {where for where, value in before.items() if isinstance(value, Seconds)}
    assert {"evidence.cycle", "ramp[2].min_time", "refresh.ramp[0].min_time", "bake.time", "retrain.cool_down"} < times
    for where in before.keys() - times - {"profile"}:
        assert after[where] == before[where], where
    for where in times:
        assert after[where] == pytest.approx(before[where] / (1 if is_real(where) else SPEED)), where
        assert type(after[where]) is type(before[where])
    written = as_written(parsed(profile="rehearsal", **more))
    assert dict(values(written)) == before | {"profile": "rehearsal"}
    assert as_written(parsed(**more)) == parsed(**more)


def test_only_the_limits_of_a_computer_are_as_in_production() -> None:
    real = {where for where, value in values(parsed()) if isinstance(value, Seconds) and is_real(where)}
    assert real > {"router.deadline", "router.challenger_timeout", "retrain.time_limit"}
    assert {where.partition(".")[0] for where in real - {"retrain.time_limit"}} == {"http", "router"}


def test_a_day_passes_in_ten_seconds() -> None:
    config = parsed(profile="rehearsal")
    assert config.evidence.cycle == 10
    assert config.shadow.min_time + sum(stage.min_time for stage in config.ramp) == 90
    assert (notice(config) or "").startswith("REHEARSAL, never for production: a day passes in 10 s")
    assert notice(parsed()) is None


def test_counts_and_levels_stay() -> None:
    quick, usual = flat(parsed(profile="rehearsal")), flat(parsed())
    for name in (
        "evidence.min_samples",
        "evidence.alpha",
        "bake.min_outcomes",
        "retrain.min_data_points",
        "drift.pane",
    ):
        assert quick[name] == usual[name]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"log": "kafka://b:9092"}, "`log` must be local"),
        ({"state": "redis://b:6379/0"}, "`state` must be local"),
        ({"clock": "events"}, "`clock` must be wall"),
        ({"drift": {"season": "hour"}}, "`drift.season` must be null"),
        ({"retrain": {"schedule": {"cron": "0 2 * * *"}}}, "`retrain.schedule` must have `every`"),
        ({"retrain": {"schedule": {"weekday": "mon", "time": "02:00"}}}, "`retrain.schedule` must have `every`"),
        (
            {"router": {"host": "0.0.0.0"}, "keys": [{"name": "a", "role": "admin", "env": "A"}]},
            "`router.host` must be 127.0.0.1",
        ),
    ],
)
def test_what_only_production_has_is_refused_with_its_line(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(profile="rehearsal", **more)
    assert said in str(refused.value)
    assert "`profile: rehearsal`" in str(refused.value)
    text = yaml.safe_dump({**BASE, **more, "profile": "rehearsal"}).splitlines()
    named = int(str(refused.value).split(":")[1])
    assert next(iter(more)) in "\n".join(text[named - 3 : named])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"evidence": {"cycle": "12s"}}, "`evidence.cycle` of 12s would pass in 1.39 ms"),
        ({"ramp": [{"share": 0.1, "min_time": "30s"}]}, "`ramp` (ramp[0].min_time) of 30s would pass in 3.47 ms"),
        ({"bake": {"time": "2d", "window": "1m"}}, None),
    ],
)
def test_times_that_were_written_for_minutes_are_not_scaled_twice(more: dict[str, Any], said: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(profile="rehearsal", **more)
    if said is not None:
        assert f"{said} with `profile: rehearsal`, where a day passes in 10 s: write all times" in str(refused.value)


@pytest.mark.parametrize("profile", ["production", "rehearsal"])
def test_a_schedule_of_less_than_an_hour_is_refused_in_either(profile: str) -> None:
    assert parsed(profile=profile, retrain={"schedule": {"every": "1h"}}).retrain.schedule
    with pytest.raises(ConfigError, match="must have an `every` of an hour or more, not 59m"):
        parsed(profile=profile, retrain={"schedule": {"every": "59m"}})


def test_another_word_is_no_profile() -> None:
    with pytest.raises(ConfigError, match="profile: must be production or rehearsal, not 'rehersal'"):
        parsed(profile="rehersal")


def test_no_time_may_be_scaled_twice() -> None:
    once = parsed(profile="rehearsal")
    with pytest.raises(ValueError, match="write all times as for production"):
        rehearsed(msgspec.structs.replace(once))


def test_on_a_data_folder_of_the_other_profile_that_alone_is_told(tmp_path: Path) -> None:
    """Every time differs with it, and says nothing more."""
    usual = small_experiment.load(small_experiment.write(tmp_path))
    asyncio.run(first_start.ensure(usual))
    in_force.keep(usual)
    found = asyncio.run(in_force.read(usual))
    assert found is not None
    quick = small_experiment.load(small_experiment.write(tmp_path, profile="rehearsal"))
    (one,) = in_force.differences(quick, found)
    assert (one.setting, one.in_force, one.configured, one.effect) == (
        "profile", "production", "rehearsal", TakesEffect.REFUSED
    )  # fmt: skip
