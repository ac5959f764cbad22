"""Schedules and recipes of retraining: when a job starts by the clock, and how each of its models is trained."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from gauntlet.config.section import Seconds, Section, check
from gauntlet.types import Label, TriggerMode

_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class WindowLength(Seconds):
    """How far back training data goes: a duration, or `all` (its value is then 0)."""

    @classmethod
    def parse(cls, value: object) -> WindowLength:
        if value == "all":
            return cls(0)
        length = cls(Seconds.parse(value))
        if not length:
            raise ValueError("a window must be `all` or longer than 0")
        return length


class RecipeConfig(Section, frozen=True, kw_only=True):
    """One way to train a successor. Every job trains a model by each recipe; the rollouts compete."""

    name: str
    window: WindowLength | None = None
    """How far back its rows go: a duration or `all`. Default: `retrain.window`."""
    trainer: str | None = None
    """`module:function(rows, targets, **parameters) -> fitted model`. Default: `retrain.trainer`."""
    parameters: dict[str, Label | None] = {}
    """Set on the cloned estimator (`model__C: 0.1` reaches into a pipeline), or given to the trainer."""

    def __post_init__(self) -> None:
        check(
            re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,40}", self.name) is not None,
            f"`name` must be lower-case letters, digits, dots and dashes, not {self.name!r}",
        )


class AdaptiveConfig(Section, frozen=True, kw_only=True):
    """Intervals between scheduled jobs by what the champion meets now."""

    calm: Seconds = Seconds(30 * 86_400)
    """Without drift, and with its figures where they were."""
    drifting: Seconds = Seconds(7 * 86_400)
    """With an open drift episode."""
    degrading: Seconds = Seconds(86_400)
    """With a loss that drift (HIGH) or the champion's figures show."""
    critical: Seconds = Seconds(6 * 3600)
    """With a CRITICAL one: at once, unless a scheduled job has come within this time."""

    def __post_init__(self) -> None:
        check(
            0 < self.critical <= self.degrading <= self.drifting <= self.calm,
            "`adaptive` must have rising times from `critical` over `degrading` and `drifting` to `calm`",
        )


class ScheduleConfig(Section, frozen=True, kw_only=True):
    """When a job starts whatever drift says: every so often, on a weekday at a time, by a cron expression, or the more
    often the more happens (`adaptive`)."""

    every: Seconds | None = None
    """This long after the last scheduled job, or after the experiment began; whole days with a `time`."""
    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] | None = None
    """With `time`: on this day of the week only."""
    time: str | None = None
    """HH:MM in `timezone`."""
    cron: str | None = None
    """Minute, hour, day, month, weekday."""
    adaptive: AdaptiveConfig | None = None
    """`{}` for monthly, weekly, daily, and at once on a critical fall."""
    timezone: str = "UTC"
    hours: str | None = None
    """HH:MM-HH:MM in `timezone`: the hours in which a job that is due may start; over midnight is fine."""
    mode: TriggerMode = "automatic"

    def __post_init__(self) -> None:
        given = [name for name in ("every", "time", "cron", "adaptive") if getattr(self, name) is not None]
        check(
            len(given) == 1 or given == ["every", "time"],
            f"`schedule` must have one of `every`, `time`, `cron` and `adaptive`, not {given or 'none'}",
        )
        check(
            given != ["every", "time"]
            or (self.weekday is None and self.every is not None and self.every % 86_400 == 0),
            "`every` must be whole days with a `time`, and there is no `weekday` then",
        )
        check(self.weekday is None or self.time is not None, "`weekday` needs a `time`")
        check(self.every is None or self.every > 0, "`every` must be greater than 0")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            check(False, f"`timezone` {self.timezone!r} is not known: write it as in Europe/Berlin")
        if self.hours is not None:
            first, dash, last = self.hours.partition("-")
            check(
                bool(dash) and first != last and all(re.fullmatch(_CLOCK, each) for each in (first, last)),
                f"`hours` must be HH:MM-HH:MM with two different times, not {self.hours!r}",
            )
        if self.time is None and self.cron is None:
            return
        if self.time is not None:
            check(re.fullmatch(_CLOCK, self.time) is not None, f"`time` must be HH:MM, not {self.time!r}")
        try:
            CronSim(self.expression, _SOME_DAY)
        except CronSimError as error:
            check(False, f"`cron` {self.cron!r} never comes or is no cron expression: {error}")

    @property
    def expression(self) -> str:
        """The cron expression of `cron`, or of `weekday` and `time`."""
        if self.cron is not None:
            return self.cron
        assert self.time is not None, "checked at the start"
        hour, minute = self.time.split(":")
        return f"{int(minute)} {int(hour)} * * {self.weekday or '*'}"
