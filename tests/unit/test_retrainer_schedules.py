"""When a job is due by the clock: intervals, weekdays, cron expressions, changes of the clocks."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gauntlet.config.retrain import ScheduleConfig
from gauntlet.config.section import Seconds
from retrainer.schedules import due, next_due

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


def test_a_weekday_at_a_time_and_every_day() -> None:
    monday = ScheduleConfig(weekday="mon", time="02:30")
    assert times(monday, "2026-11-29T12:00", 2) == ["Mon 11-30 02:30", "Mon 12-07 02:30"]
    assert times(ScheduleConfig(time="02:30"), "2026-11-29T02:30", 2) == ["Mon 11-30 02:30", "Tue 12-01 02:30"]


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
    ("settings", "reason"),
    [
        ({}, "must have one of"),
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
