"""The list of problems: one entry a code, which keeps its time, ordered by severity."""

from __future__ import annotations

from datetime import UTC, datetime

from builders.operator_status import FRESH, found

from gauntlet.cli import status_text
from gauntlet.status import Problem, Problems, worst_first
from gauntlet.types import Severity


def problem(severity: Severity, hour: int | None, code: str = "x") -> Problem:
    since = None if hour is None else datetime(2026, 1, 1, hour, tzinfo=UTC)
    return Problem(code=code, severity=severity, source="router", text="t", remedy="r", since=since)


def test_the_worst_comes_first_and_of_equals_the_oldest() -> None:
    low, old, new, untimed, critical = (
        problem(Severity.LOW, 1),
        problem(Severity.HIGH, 2),
        problem(Severity.HIGH, 3),
        problem(Severity.HIGH, None),
        problem(Severity.CRITICAL, 4),
    )
    assert worst_first([low, untimed, new, critical, old]) == [critical, old, new, untimed, low]


def test_a_problem_that_lasts_keeps_its_time_and_takes_the_latest_words() -> None:
    problems = Problems("router-0")
    problems.report("disk_full", Severity.HIGH, "12 events are lost", "free some space")
    (first,) = problems.open
    problems.report("disk_full", Severity.CRITICAL, "13 events are lost", "free some space")
    (second,) = problems.open
    assert (second.since, second.text, second.severity) == (first.since, "13 events are lost", Severity.CRITICAL)
    assert second.source == "router-0"


def test_a_problem_that_is_over_is_gone_and_clearing_twice_is_no_mistake() -> None:
    problems = Problems("router-0")
    problems.report("disk_full", Severity.HIGH, "t", "r")
    assert problems.clear("disk_full")
    assert not problems.clear("disk_full")
    assert problems.open == []


def test_what_is_only_to_know_is_no_work() -> None:
    text = status_text.status(found(FRESH, 3, problems=(problem(Severity.LOW, None),)))
    assert text.split("\n\n")[1] == "nothing needs you; to know:\n  LOW         t\n              → r"
    worse = (problem(Severity.LOW, None), problem(Severity.MEDIUM, None, "y"))
    assert "\nto do, the most severe first:\n  MEDIUM " in status_text.status(found(FRESH, 3, problems=worse))
