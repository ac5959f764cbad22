"""The profile `rehearsal`: every time of a configuration passes 8,640 times faster, so that a rollout takes minutes.

A day passes in ten seconds. All times are scaled by one factor, those of the file and the defaults alike, so that they
fit each other as in production; counts, levels and margins stay, because evidence needs them whatever the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from gauntlet.clock import lasting
from gauntlet.config.section import Seconds, Section, check, span

if TYPE_CHECKING:
    from gauntlet.config import Config

Profile = Literal["production", "rehearsal"]

SPEED = 8_640.0
"""How much faster time passes in a rehearsal."""

_REAL = ("http", "router", "retrain.time_limit")
"""Settings and sections with times that a computer needs: the same in a rehearsal."""

_SHORTEST = 0.02
"""Seconds. A time that would pass faster was written for a rehearsal, and would be scaled twice."""
_ANY_LENGTH = ("evidence.block_offset",)


def pace(profile: Profile) -> float:
    """How much faster than in production time passes."""
    return SPEED if profile == "rehearsal" else 1.0


def is_real(setting: str) -> bool:
    """Whether the times of a setting are the same in a rehearsal."""
    return any(setting == real or setting.startswith(f"{real}.") for real in _REAL)


def rehearsed(config: Config) -> Config:
    """A configuration as a rehearsal runs it. Raises `ValueError` for what contradicts one."""
    _refuse_production(config)
    faster: Config = _timed(config, _faster)
    return faster


def as_written(config: Config) -> Config:
    """A configuration with its times as its file has them: what `rehearsed` takes, in a rehearsal."""
    if config.profile != "rehearsal":
        return config
    written: Config = _timed(config, lambda time, _: float(f"{time * SPEED:.12g}"))
    return written


def notice(config: Config) -> str | None:
    """What has to be said wherever a rehearsal shows itself; None in production."""
    if config.profile != "rehearsal":
        return None
    day, horizon = lasting(86_400 / SPEED), lasting(config.evidence.outcome_horizon)
    return (
        f"REHEARSAL, never for production: a day passes in {day}, and an outcome counts {horizon} after its "
        "prediction; verdicts hold for the traffic of these minutes only"
    )


def _refuse_production(config: Config) -> None:
    why = "with `profile: rehearsal`, which"
    for name in ("log", "state"):
        value = getattr(config, name)
        check(value == "local", f"`{name}` must be local {why} stays on this machine, not {value!r}")
    host = config.router.host
    check(
        host in ("127.0.0.1", "::1", "localhost"),
        f"`router.host` must be 127.0.0.1 {why} serves this machine only, not {host!r}",
    )
    check(config.clock == "wall", f"`clock` must be wall {why} has a clock of its own: a replay brings its own times")
    check(
        config.drift.season is None,
        f"`drift.season` must be null {why} has no hours and weekdays: they pass in moments",
    )
    schedule = config.retrain.schedule
    check(
        schedule is None or (schedule.time is None and schedule.cron is None and schedule.hours is None),
        f"`retrain.schedule` must have `every` or `adaptive` {why} has no hours and weekdays: they pass in moments",
    )


def _timed(section: Any, change: Callable[[Seconds, str], float], prefix: str = "") -> Any:
    """A section with the times that are not real changed; `prefix` is its place."""
    values = {name: _changed(getattr(section, name), change, prefix + name) for name in section.__struct_fields__}
    return msgspec.structs.replace(section, **values)


def _changed(value: Any, change: Callable[[Seconds, str], float], where: str) -> Any:
    if isinstance(value, list):
        return [_changed(each, change, f"{where}[{place}]") for place, each in enumerate(value)]
    if isinstance(value, Section):
        return _timed(value, change, f"{where}.")
    if not isinstance(value, Seconds) or is_real(where):
        return value
    return type(value)(change(value, where))


def _faster(time: Seconds, where: str) -> float:
    faster = time / SPEED
    name, listed, _ = where.partition("[")
    check(
        not time or faster >= _SHORTEST or where in _ANY_LENGTH,
        f"`{name}`{f' ({where})' if listed else ''} of {span(time)} would pass in {lasting(faster)} with `profile: "
        f"rehearsal`, where a day passes in {lasting(86_400 / SPEED)}: write all times as for production",
    )
    return faster
