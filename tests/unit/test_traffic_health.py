"""Whether traffic arrives: what the status says of it, and when it is a problem."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders.operator_status import CONFIG, FRESH, HOUR, START

from gauntlet import traffic_health
from gauntlet.cli import status_text
from gauntlet.status import Arrivals, EvaluatorProgress, Flow, Problem, moment
from gauntlet.status_document import Document, Reports, document
from gauntlet.types import Severity

NOW = START + 3 * HOUR
MINUTE = 60.0


def flow(ago: float | None, count: int = 0, **more: Any) -> Flow:
    return Flow(latest=0.0 if ago is None else NOW - ago, count=count, **more)


def report(predictions: Flow, outcomes: Flow, unanswered: float | None = None, since: float = HOUR) -> Arrivals:
    waiting = 0.0 if unanswered is None else NOW - unanswered
    return Arrivals(at=NOW, since=NOW - since, predictions=predictions, outcomes=outcomes, unanswered_since=waiting)


def shown(*reports: Arrivals, **evaluator: Any) -> list[str]:
    """The lines of the status on traffic."""
    progress = EvaluatorProgress(at=NOW, **evaluator)
    made = document(CONFIG, 1, FRESH, None, Reports(evaluator=progress), (), {}, NOW, reports)
    made = msgspec.json.decode(msgspec.json.encode(made), type=Document)
    lines = " ".join(status_text.status(made).split("\n\n")[0].split()).split("challenge ")[1]
    first, second = lines.split(" outcomes ", 1)
    return [first, f"outcomes {second}"]


def test_the_status_says_first_whether_traffic_arrives() -> None:
    alive = report(flow(1, 2400), flow(2, 2391))
    assert shown(alive, recent={"joined": 2379, "late": 12}) == [
        "predictions the latest 1 s ago; 2,400 in the last 5 min (8 a second)",
        "outcomes the latest 2 s ago; 2,391 in the last 5 min (7.97 a second); "
        "99.4 % of those counted met their prediction in time",
    ]
    silent = report(flow(12 * MINUTE), flow(None, refused=40, refusal="unknown_prediction"))
    assert shown(silent) == [
        "predictions the latest 12 min ago; none in the last 5 min",
        "outcomes none yet; 40 refused, the latest with `unknown_prediction`",
    ]


def test_the_replicas_count_together() -> None:
    one, two = report(flow(600, 0), flow(None)), report(flow(3, 9), flow(40, 6), since=30)
    assert shown(one, two)[0] == "predictions the latest 3 s ago; 9 in the last 5 min (1.8 a minute)"
    assert shown(two)[0] == "predictions the latest 3 s ago; 9 in the last 30 s (18 a minute)"


def test_without_a_report_nothing_is_said() -> None:
    assert traffic_health.traffic([], None) is None
    assert list(traffic_health.findings([], CONFIG)) == []


def problems(one: Arrivals, **settings: Any) -> list[Problem]:
    return list(traffic_health.findings([one], msgspec.structs.replace(CONFIG, **settings)))


def test_an_unusual_silence_is_a_problem() -> None:
    (problem,) = problems(report(flow(12 * MINUTE, longest_gap=40), flow(13 * MINUTE, longest_gap=60)))
    assert (problem.code, problem.severity) == ("no_predictions", Severity.MEDIUM)
    assert problem.text == "no prediction for 12 min, and before that never more than 40 s passed between two"
    assert problem.since == moment(NOW - 12 * MINUTE)


@pytest.mark.parametrize(
    "usual",
    [
        flow(4 * MINUTE, longest_gap=1),  # no silence yet
        flow(9 * HOUR, longest_gap=8 * HOUR),  # they come by day only
        flow(9 * HOUR),  # nobody knows
        flow(None),
    ],
)
def test_a_usual_silence_is_none(usual: Flow) -> None:
    assert problems(report(usual, flow(None))) == []


def test_predictions_without_outcomes() -> None:
    day = float(CONFIG.evidence.outcome_horizon)
    come = flow(1, 300, longest_gap=2)
    (some,) = problems(report(come, flow(20 * MINUTE, longest_gap=30), unanswered=19 * MINUTE))
    assert (some.code, some.severity) == ("no_outcomes", Severity.MEDIUM)
    assert some.text == (
        "predictions were made, and no outcomes come: no outcome for 20 min, and before that never more than 30 s "
        "passed between two"
    )
    for latest, text in ((None, "no outcome yet"), (day + HOUR, "no outcome for 1 d 1 h")):
        (none,) = problems(report(come, flow(latest), unanswered=day + MINUTE))
        assert (none.code, none.severity) == ("no_outcomes", Severity.HIGH)
        assert none.text.startswith(
            f"predictions were made, and no outcomes come: {text}, and none counts 1 d after its prediction"
        )


@pytest.mark.parametrize(
    ("outcomes", "unanswered"),
    [
        (flow(23 * HOUR), 22 * HOUR),  # they come once a day
        (flow(None), 2 * HOUR),  # the first have time left
        (flow(60 * HOUR, longest_gap=30), None),  # a weekend: every prediction has its outcome
        (flow(60 * HOUR, longest_gap=30), 1 * MINUTE),  # and the first on Monday
    ],
)
def test_outcomes_that_need_not_have_come(outcomes: Flow, unanswered: float | None) -> None:
    assert problems(report(flow(1, 300, longest_gap=2), outcomes, unanswered)) == []


def test_another_replicas_outcomes_answer() -> None:
    """Behind a load balancer a prediction's outcome may come to another router."""
    day = float(CONFIG.evidence.outcome_horizon)
    one = report(flow(1, 9), flow(None), unanswered=2 * day)
    two = report(flow(None), flow(1, 9))
    assert list(traffic_health.findings([one, two], CONFIG)) == []


def test_what_is_refused_most_of_the_time_is_a_problem() -> None:
    wrong = flow(None, refused=30, refusal="unknown_feature")
    (problem,) = problems(report(wrong, flow(None)), clock="events")
    assert (problem.code, problem.severity) == ("predictions_refused", Severity.HIGH)
    assert "30 of 30 in the last 5 min, the latest with `unknown_feature`" in problem.text
    (problem,) = problems(report(flow(1, 9), flow(1, 10, refused=20, refusal="unknown_prediction")))
    assert problem.code == "outcomes_refused"
    assert problems(report(flow(1, 300, refused=30, refusal="x"), flow(1, 10, refused=9, refusal="y"))) == []


def test_a_replay_stands_still_without_a_problem() -> None:
    silent = report(flow(12 * MINUTE, longest_gap=1), flow(None), unanswered=9 * HOUR * 24)
    assert {one.code for one in problems(silent)} == {"no_predictions", "no_outcomes"}
    assert problems(silent, clock="events") == []
