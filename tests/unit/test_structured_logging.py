"""Log lines: an event with fields on one line, exceptions with their traceback, repeated events at a limited rate."""

from __future__ import annotations

import logging

import pytest

from gauntlet.structured_logging import LimitedLog, get_logger


def test_a_line_is_an_event_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("t").warning("paused", error=ValueError("two\nlines"), waiting=3, version=None)
    [line] = caplog.messages
    assert line == 'event=paused error="two lines" waiting=3 version='


def test_levels_are_the_standard_librarys(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "t")
    get_logger("t").warning("quiet")
    get_logger("t").error("loud")
    assert caplog.messages == ["event=loud"]


def test_an_exception_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("bad")
    except ValueError as error:
        get_logger("t").warning("failed", error=error, exc_info=True)
    assert caplog.messages == ["event=failed error=bad"]
    assert caplog.records[0].exc_info is not None


def test_repeated_events_are_counted_and_logged_once_an_interval(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    limited = LimitedLog(get_logger("t"), seconds=60.0, clock=lambda: now[0])
    for at in (0.0, 1.0, 2.0, 59.9, 60.0, 61.0):
        now[0] = at
        limited.warning("dead_letter", topic="predictions")
    assert caplog.messages == [
        "event=dead_letter count=1 topic=predictions",
        "event=dead_letter count=4 topic=predictions",
    ]
