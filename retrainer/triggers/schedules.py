"""Schedules: when a job is due by the clock. Pure: times are arguments, in seconds since the epoch."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim

from gauntlet.config.retrain import ScheduleConfig

_HALF_A_DAY = 43_200.0

Pace = Literal["calm", "drifting", "degrading", "critical"]
"""How much happens to the champion, for an adaptive schedule."""


def next_due(schedule: ScheduleConfig, last: float, pace: Pace = "calm") -> float:
    """The first time after `last`, that of the latest scheduled job or of the experiment's begin, at which one is due.
    An adaptive schedule goes by `pace`.

    Cron expressions are read in the schedule's time zone. A time that a change of the clocks skips comes right after
    the change, and one that it repeats comes once.
    """
    if (interval := _interval(schedule, pace)) is not None:
        return last + interval
    if schedule.every is not None:
        last += schedule.every - _HALF_A_DAY  # whatever the clocks do meanwhile, the time is that of the day meant
    zone = ZoneInfo(schedule.timezone)
    return next(CronSim(schedule.expression, datetime.fromtimestamp(last, zone))).astimezone(UTC).timestamp()


def _interval(schedule: ScheduleConfig, pace: Pace) -> float | None:
    """The seconds between two jobs, None where they come at times of the clock."""
    if schedule.adaptive is not None:
        return float(getattr(schedule.adaptive, pace))
    return None if schedule.every is None or schedule.time is not None else float(schedule.every)


def clock_times(schedule: ScheduleConfig | None) -> str:
    """The times of the clock at which jobs are due, as a text; empty where there are none."""
    if schedule is None or (schedule.time is None and schedule.cron is None):
        return ""
    return f"{schedule.expression} {schedule.timezone}{'' if schedule.every is None else f' {schedule.every:g}'}"


def counted_from(schedule: ScheduleConfig | None, last: float, now: float) -> float:
    """The time from which a schedule counts that is set at `now`, where `last` was the latest of the one before: what
    its clock has shown before it was set is nothing missed."""
    if not clock_times(schedule) or schedule is None:
        return last
    return max(last, now if schedule.every is None else now - schedule.every + _HALF_A_DAY)


def due(schedule: ScheduleConfig | None, last: float, now: float, pace: Pace = "calm") -> float | None:
    """The latest time at which a job was due and none has run; None while none is due. Missed ones count as one."""
    if schedule is None or (at := next_due(schedule, last, pace)) > now:
        return None
    if (interval := _interval(schedule, pace)) is not None:
        return max(at, last + interval * math.floor((now - last) / interval))
    while (later := next_due(schedule, at, pace)) <= now:
        at = later
    return at
