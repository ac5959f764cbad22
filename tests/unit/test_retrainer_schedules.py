"""When a job is due by the clock: intervals, weekdays, cron expressions, changes of the clocks."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import AdaptiveConfig, ScheduleConfig
from gauntlet.config.section import Seconds
from retrainer.triggers.conditions import RetrainContext, check
from retrainer.triggers.requests import manual, scheduled
from retrainer.triggers.schedules import Pace, clock_times, counted_from, due, next_due

DAY = 86_400.0


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def times(schedule: ScheduleConfig, since: str, count: int) -> list[str]:
    last, found = at(since), []
    for _ in range(count):
        last = next_due(schedule, last)
        found.append(datetime.fromtimestamp(last, UTC).strftime("%a %m-%d %H:%M"))
    return found


def test_an_interval_counts_from_the_last_one() -> None:
    weekly = ScheduleConfig(every=Seconds(7 * DAY))
    assert due(weekly, 100.0, 100.0 + 7 * DAY - 1) is None
    assert due(weekly, 100.0, 100.0 + 7 * DAY) == 100.0 + 7 * DAY


def test_missed_times_count_as_one_the_latest() -> None:
    assert due(ScheduleConfig(every=Seconds(DAY)), 0.0, 10.5 * DAY) == 10 * DAY
    assert due(None, 0.0, 1e9) is None


def test_the_shortest_interval_is_counted_and_not_walked_through() -> None:
    """A microsecond, and a hundred years in which nothing ran."""
    long = 36_525 * DAY
    at = due(ScheduleConfig(every=Seconds(1e-6)), 0.0, long)
    assert at == pytest.approx(long)
    assert at is not None
    assert at <= long


def test_a_weekday_at_a_time_and_every_day() -> None:
    monday = ScheduleConfig(weekday="mon", time="02:30")
    assert times(monday, "2026-11-29T12:00", 2) == ["Mon 11-30 02:30", "Mon 12-07 02:30"]
    assert times(ScheduleConfig(time="02:30"), "2026-11-29T02:30", 2) == ["Mon 11-30 02:30", "Tue 12-01 02:30"]


def test_what_the_clock_has_shown_before_a_schedule_was_set_is_nothing_missed() -> None:
    """Set on a Friday at ten in the morning, nine days after the latest scheduled job."""
    now = at("2026-11-27T10:00")
    last = now - 9 * DAY
    for schedule, first in (
        (ScheduleConfig(weekday="sun", time="02:00"), "2026-11-29T02:00"),
        (ScheduleConfig(time="02:00"), "2026-11-28T02:00"),
        (ScheduleConfig(cron="0 2 1 * *"), "2026-12-01T02:00"),
        (ScheduleConfig(every=Seconds(7 * DAY), time="02:00"), "2026-11-28T02:00"),
        (ScheduleConfig(every=Seconds(14 * DAY), time="02:00"), "2026-12-02T02:00"),
    ):
        counted = counted_from(schedule, last, now)
        assert due(schedule, counted, now) is None
        assert next_due(schedule, counted) == at(first), schedule
        assert counted_from(schedule, now + DAY, now) == now + DAY
    for without in (None, ScheduleConfig(every=Seconds(7 * DAY)), ScheduleConfig(adaptive=AdaptiveConfig())):
        assert (clock_times(without), counted_from(without, last, now)) == ("", last), "nine days are nine days"
    named = [ScheduleConfig(time="02:00"), ScheduleConfig(time="02:00", timezone="Asia/Tokyo")]
    named += [ScheduleConfig(time="02:00", every=Seconds(days * DAY)) for days in (7, 14)]
    assert len({clock_times(each) for each in named}) == 4


def test_a_cron_expression_in_its_time_zone() -> None:
    schedule = ScheduleConfig(cron="0 2 1 * *", timezone="Asia/Tokyo")
    assert times(schedule, "2026-11-29T00:00", 2) == ["Mon 11-30 17:00", "Thu 12-31 17:00"]


def test_a_skipped_time_comes_after_the_change_and_a_repeated_one_once() -> None:
    """Berlin leaves winter time on 29 March 2026 at 02:00 (01:00 UTC) and summer time on 25 October at 03:00."""
    schedule = ScheduleConfig(time="02:30", timezone="Europe/Berlin")
    spring = times(schedule, "2026-03-28T00:00", 3)
    assert spring == ["Sat 03-28 01:30", "Sun 03-29 01:00", "Mon 03-30 00:30"]
    autumn = times(schedule, "2026-10-24T00:00", 3)
    assert [text[:9] for text in autumn] == ["Sat 10-24", "Sun 10-25", "Mon 10-26"]


@pytest.mark.parametrize(
    ("zone", "spring", "autumn"),
    [("Europe/Berlin", "2026-03-29", "2026-10-25"), ("America/New_York", "2026-03-08", "2026-11-01")],
)
@pytest.mark.parametrize(
    "settings",
    [{"every": Seconds(7 * DAY), "time": "02:30"}, {"weekday": "sun", "time": "02:30"}, {"cron": "30 2 * * sun"}],
)
def test_a_week_is_a_week_across_both_changes_of_the_clocks(
    settings: dict[str, object], zone: str, spring: str, autumn: str
) -> None:
    """On the day of the change in spring there is no 02:30, in autumn there are two: there is one job each week, at
    02:30 on the wall or right after the hour that is skipped."""
    schedule = ScheduleConfig(timezone=zone, **settings)  # type: ignore[arg-type]
    for change in (spring, autumn):
        last, found = at(change, zone) - 14 * DAY + 2.5 * 3600, []
        for _ in range(4):
            last = next_due(schedule, last)
            found.append(datetime.fromtimestamp(last, ZoneInfo(zone)))
        assert [local.date().isoformat() for local in found][1] == change
        assert [(b.date() - a.date()).days for a, b in pairwise(found)] == [7, 7, 7]
        walls = {local.strftime("%H:%M") for local in found}
        assert walls == ({"02:30", "03:00"} if change == spring else {"02:30"})


@pytest.mark.parametrize("days", [1, 3, 7])
def test_every_so_many_days_at_a_time_begins_at_that_time(days: int) -> None:
    schedule = ScheduleConfig(every=Seconds(days * DAY), time="02:00")
    first = next_due(schedule, at("2026-06-01T02:00"))
    assert first == at("2026-06-01T02:00") + days * DAY
    late = next_due(schedule, at("2026-06-01T15:00"))
    assert datetime.fromtimestamp(late, UTC).strftime("%H:%M") == "02:00"
    assert abs(late - at("2026-06-01T15:00") - days * DAY) <= DAY / 2 + 3600


@pytest.mark.parametrize(("pace", "days"), [("calm", 30.0), ("drifting", 7.0), ("degrading", 1.0), ("critical", 0.25)])
def test_an_adaptive_schedule_goes_by_what_happens(pace: Pace, days: float) -> None:
    schedule = ScheduleConfig(adaptive=AdaptiveConfig())
    assert due(schedule, 0.0, days * DAY - 1, pace) is None
    assert due(schedule, 0.0, days * DAY, pace) == days * DAY
    assert due(schedule, 0.0, 100 * DAY, "critical") == 100 * DAY, "at once"


@pytest.mark.parametrize(
    ("hours", "wall", "allowed"),
    [
        ("22:00-06:00", "2026-03-29T22:00", True),
        ("22:00-06:00", "2026-03-29T05:59", True),
        ("22:00-06:00", "2026-03-29T06:00", False),
        ("22:00-06:00", "2026-10-25T02:30", True),
        ("02:00-03:00", "2026-10-25T02:00", True),
        ("02:00-03:00", "2026-10-25T02:59", True),
        ("02:00-03:00", "2026-10-25T03:00", False),
        ("02:00-03:00", "2026-03-29T03:00", False),
        ("02:00-03:00", "2026-03-29T01:59", False),
    ],
)
def test_allowed_hours_are_those_on_the_wall(hours: str, wall: str, allowed: bool) -> None:
    schedule = ScheduleConfig(every=Seconds(DAY), hours=hours, timezone="Europe/Berlin")
    settings = RetrainConfig(schedule=schedule)
    context = RetrainContext(now=at(wall, "Europe/Berlin"), champion="v1")
    trigger = check(scheduled(context.now), context, settings)
    assert trigger.should_retrain is allowed
    assert trigger.later is not allowed, "it waits"
    assert check(scheduled(context.now, urgent=True), context, settings).should_retrain
    assert check(manual("m", context.now, "ann", "now"), context, settings).should_retrain


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "must have one of"),
        ({"every": Seconds(0)}, "greater than 0"),
        ({"every": Seconds(DAY / 2), "time": "02:00"}, "whole days"),
        ({"every": Seconds(7 * DAY), "time": "02:00", "weekday": "mon"}, "no `weekday`"),
        ({"adaptive": AdaptiveConfig(), "every": Seconds(DAY)}, "must have one of"),
        ({"every": Seconds(DAY), "hours": "22:00"}, "HH:MM-HH:MM"),
        ({"every": Seconds(DAY), "hours": "22:00-22:00"}, "two different times"),
        ({"every": Seconds(DAY), "timezone": "Mars/Olympus"}, "is not known"),
        ({"every": Seconds(DAY), "cron": "* * * * *"}, "must have one of"),
        ({"cron": "0 0 31 2 *"}, "never comes"),
        ({"cron": "often"}, "never comes"),
        ({"time": "25:00"}, "HH:MM"),
        ({"weekday": "mon", "every": Seconds(DAY)}, "needs a `time`"),
        ({"time": "02:00", "timezone": "Mars/Olympus"}, "is not known"),
    ],
)
def test_what_never_comes_is_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ScheduleConfig(**settings)  # type: ignore[arg-type]
