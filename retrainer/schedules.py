"""Schedules: when a job is due by the clock. Pure: times are arguments, in seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from gauntlet.config.retrain import ScheduleConfig


def next_due(schedule: ScheduleConfig, last: float) -> float:
    """The first time after `last`, that of the latest scheduled job or of the experiment's begin, at which one is due.

    Cron expressions are read in the schedule's time zone. A time that a change of the clocks skips comes right after
    the change, and one that it repeats comes once.
    """
    if schedule.every is not None:
        return last + schedule.every
    zone = ZoneInfo(schedule.timezone)
    return next(CronSim(schedule.expression, datetime.fromtimestamp(last, zone))).astimezone(UTC).timestamp()


def due(schedule: ScheduleConfig | None, last: float, now: float) -> float | None:
    """The latest time at which a job was due and none has run; None while none is due. Missed ones count as one."""
    if schedule is None or (at := next_due(schedule, last)) > now:
        return None
    while (later := next_due(schedule, at)) <= now:
        at = later
    return at
