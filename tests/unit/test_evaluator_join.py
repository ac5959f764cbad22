"""The join table's rules, one by one: what wins, what is late, what is counted, what is forgotten."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from typing import ClassVar

import msgspec
import pytest
from builders.evaluator_events import HORIZON, contender, outcome, prediction, shadow, treated

from evaluator.service.join import JoinTable
from evaluator.service.join_records import Contest, JoinResult


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def table(db: sqlite3.Connection) -> JoinTable:
    return JoinTable(db, HORIZON)


@pytest.mark.parametrize("first", ["prediction", "outcome"])
def test_a_prediction_and_its_outcome_meet_once_in_either_order(table: JoinTable, first: str) -> None:
    pair = [prediction(1, 0.0), outcome(1, 5.0, 0)]
    for event in pair if first == "prediction" else pair[::-1]:
        joined = table.apply([event])
    assert [(m.exposure.at, m.truth.at, m.truth.value, m.score) for m in joined.matches] == [(0.0, 5.0, 0, None)]
    again = table.apply(pair)
    assert (again.exposures, again.matches, again.pairs) == ([], [], [])
    assert again.counts == {"prediction_duplicate": 1, "outcomes": 1, "duplicate": 1}


def test_the_horizon_itself_is_in_time_and_whatever_is_after_it_late(table: JoinTable) -> None:
    joined = table.apply(
        [prediction(1, 10.0), prediction(2, 10.0), outcome(1, 10.0 + HORIZON), outcome(2, 10.001 + HORIZON)]
    )
    assert (joined.counts["joined"], joined.counts["late"], len(joined.matches)) == (1, 1, 1)
    late = table.apply([shadow(2, 10.0)])
    assert (late.counts["shadows"], late.pairs, late.matches) == (1, [], [])


def test_the_first_outcome_wins_and_a_second_is_a_duplicate_or_a_conflict(table: JoinTable) -> None:
    joined = table.apply([outcome(1, 5.0, 1), outcome(1, 6.0, True), outcome(1, 7.0, 0), prediction(1, 0.0)])
    assert joined.counts["duplicate"] == joined.counts["conflict"] == 1
    assert joined.counts["outcomes"] == 3
    assert [m.truth.value for m in joined.matches] == [1]


def test_a_pair_needs_prediction_score_and_outcome_and_comes_once(table: JoinTable) -> None:
    for event in (shadow(1, 0.0), outcome(1, 5.0)):
        assert table.apply([event]).pairs == []
    (pair,) = table.apply([prediction(1, 0.0)]).pairs
    assert pair.contest is not None
    assert (pair.contest.challenger, pair.champion, pair.other) == ("v0002", [0.25, 0.75], [0.5, 0.5])
    again = table.apply([shadow(1, 0.0, output=[0.9, 0.1]), outcome(1, 5.0)])
    assert again.pairs == []
    assert again.counts["shadow_duplicate"] == 1


def test_two_challengers_that_answered_one_request_are_a_pair_once_in_any_order(db: sqlite3.Connection) -> None:
    """Also where one of them served it; without the champion's answer there is nothing to be paired with yet."""
    contenders = [contender("test-r0001", "v0003"), contender("test-r0002", "v0002", 0.0)]
    events = [
        prediction(1, 0.0, contenders=contenders, rollout="test-r0001", assigned="challenger", served="challenger"),
        shadow(1, 0.0, model="v0002", rollout="test-r0002", output=[0.4, 0.6]),
        shadow(1, 0.0, arm="champion", model="v0001"),
        outcome(1, 5.0, 1),
    ]
    for number, order in enumerate(itertools.permutations(events)):
        table = JoinTable(db, HORIZON)
        found = [
            rivals for event in order for rivals in table.apply([msgspec.structs.replace(event, id=f"{number}")]).rivals
        ]
        assert [(r.first, r.second, r.outputs, r.truth.value) for r in found] == [
            ("v0002", "v0003", ([0.4, 0.6], [0.25, 0.75]), 1)
        ]
        assert table.apply([msgspec.structs.replace(event, id=f"{number}") for event in order]).rivals == []
    failed = [events[0], msgspec.structs.replace(events[1], output=None, error="timeout"), *events[2:]]
    assert JoinTable(db, HORIZON).apply([msgspec.structs.replace(event, id="failed") for event in failed]).rivals == []


@pytest.mark.parametrize(
    ("event", "score"),
    [
        (prediction(1, 0.0), shadow(1, 0.0, output=None, error="timeout")),
        (prediction(1, 0.0, assigned="challenger", fallback="error"), shadow(1, 0.0)),
        (treated(1, 0.0, forced=True), shadow(1, 0.0, arm="champion", model="v0001")),
    ],
)
def test_failed_scores_fallbacks_and_forced_requests_are_no_pairs(
    table: JoinTable, event: object, score: object
) -> None:
    joined = table.apply([event, score, outcome(1, 5.0)])  # type: ignore[list-item]
    assert joined.pairs == []
    assert joined.counts["joined"] == 1


def test_expiry_counts_orphans_once_and_requests_without_an_outcome_not_at_all(table: JoinTable) -> None:
    table.apply([prediction(1, 10.0), prediction(2, 10.0), outcome(2, 20.0), outcome(3, 15.0), shadow(4, 12.0)])
    assert table.expire(10.0) == {}
    assert table.expire(15.0) == {}
    assert len(table) == 1
    assert table.expire(15.5) == {"orphan": 1}
    assert table.expire(1e9) == {}
    assert len(table) == 0


def test_a_row_expires_by_its_predictions_time_whatever_came_first(table: JoinTable) -> None:
    table.apply([outcome(1, 90.0)])
    table.apply([prediction(1, 10.0)])
    assert table.expire(50.0) == {}
    assert len(table) == 0


def test_what_comes_after_expiry_joins_nothing(table: JoinTable) -> None:
    table.apply([prediction(1, 10.0), outcome(2, 10.0)])
    table.expire(50.0)
    assert table.apply([outcome(1, 60.0)]).matches == []
    assert table.apply([prediction(2, 55.0)]).matches == []
    assert table.expire(1e9) == {"orphan": 1}


def test_a_redelivered_batch_writes_nothing(db: sqlite3.Connection, table: JoinTable) -> None:
    found = [e for i in range(50) for e in (prediction(i, i), shadow(i, i), outcome(i, i + 1.0))]
    table.apply(found)
    before = db.total_changes
    table.apply(found)
    assert db.total_changes == before


def test_rows_are_found_again_whatever_their_ids_look_like(db: sqlite3.Connection) -> None:
    """Ids beyond the greatest are not looked for: the greatest must be known after a restart and after expiry."""
    names = ["zz", "a", "m", "", "é", "p10", "p9", "\U0001f600"]
    JoinTable(db, HORIZON).apply([prediction(0, 1.0, id=name) for name in names])
    again = JoinTable(db, HORIZON)
    assert again.apply([outcome(0, 2.0, id=name) for name in reversed(names)]).counts["joined"] == len(names)
    again.apply([prediction(0, 50.0, id="b")])
    again.expire(20.0)
    assert again.apply([prediction(0, 51.0, id="zz"), outcome(0, 52.0, id="b")]).counts["joined"] == 1
    assert again.apply([outcome(0, 52.0, id="zz")]).counts["joined"] == 1


def test_a_batch_larger_than_one_look_up_finds_all_of_its_rows(table: JoinTable) -> None:
    table.apply([prediction(i, i) for i in range(1234)])
    assert table.apply([outcome(i, i + 1.0) for i in reversed(range(1234))]).counts["joined"] == 1234


def contests(joined: JoinResult) -> list[Contest]:
    """Of exposures to one rollout each."""
    return [exposure.contests[0] for exposure in joined.exposures]


def test_a_sticky_unit_is_one_draw_a_rollout(table: JoinTable) -> None:
    unit = {"unit": "customer-1"}
    first = table.apply([prediction(1, 0.0, **unit), prediction(2, 1.0, **unit)])
    later = table.apply([prediction(3, 2.0, **unit), prediction(4, 3.0, unit="customer-2")])
    other = table.apply([prediction(5, 4.0, **unit, rollout="test-r0002")])
    found = contests(first) + contests(later) + contests(other)
    assert [contest.first for contest in found] == [True, False, False, True, True]
    table.units.forget(["test-r0002"])
    assert [contest.first for contest in contests(table.apply([prediction(6, 5.0, **unit)]))] == [True]


def test_a_score_of_another_rollouts_model_makes_no_pair(table: JoinTable) -> None:
    other = shadow(1, 0.0, model="v0003")
    assert table.apply([prediction(1, 0.0), outcome(1, 1.0), other]).pairs == []


def test_a_unit_that_changes_arms_under_one_allocation_has_moved_once(table: JoinTable) -> None:
    """Under another allocation its share may have grown into the challenger's."""
    unit = {"unit": "customer-1"}
    found = table.apply(
        [
            prediction(1, 0.0, **unit),
            prediction(2, 1.0, **unit),
            treated(3, 2.0, **unit, allocation=3),
            prediction(4, 3.0, **unit, allocation=3),
            treated(5, 4.0, **unit, allocation=3),
            treated(6, 5.0, **unit, rollout="test-r0002"),
            treated(7, 6.0),
            treated(8, 7.0, **unit, forced=True),
        ]
    )
    assert [c.moved for c in contests(found)] == [False, False, False, True, False, False, False, False]
    assert [c.first for c in contests(found)] == [True, False, False, False, False, True, True, True]


def test_a_request_and_its_shadow_score_are_reported_once_whatever_the_outcome_does(table: JoinTable) -> None:
    scores = [
        table.apply([event]).scored
        for event in (
            shadow(1, 0.0, output=None),
            prediction(1, 0.0),
            shadow(1, 0.0),
            outcome(1, 1.0),
            prediction(1, 0.0),
            prediction(2, 0.0),
            shadow(2, 0.0),
            prediction(3, 0.0, fallback="error"),
            shadow(3, 0.0),
        )
    ]
    assert [len(found) for found in scores] == [0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert (scores[1][0].champion, scores[1][0].challenger) == (True, False)


def test_only_declared_labels_are_kept(db: sqlite3.Connection) -> None:
    labels = {"segments": {"country": "DE", "customer": "c-123"}}
    (found,) = JoinTable(db, HORIZON, ["country", "plan"]).apply([prediction(1, 0.0, **labels)]).exposures
    assert found.segments == {"country": "DE"}
    assert JoinTable(db, HORIZON).apply([prediction(2, 0.0, **labels)]).exposures[0].segments == {}


class TestSeveralChallengers:
    """Three contenders: two on the ramp at 10 % and 30 %, one in shadow."""

    CONTENDERS: ClassVar = [
        contender("test-r0001", "v0002", 0.1),
        contender("test-r0002", "v0003", 0.3),
        contender("test-r0003", "v0004", 0.0),
    ]

    def test_the_share_of_each_is_that_among_it_and_the_champion(self, table: JoinTable) -> None:
        (exposure,) = table.apply([prediction(1, 0.0, contenders=self.CONTENDERS)]).exposures
        assert [contest.share for contest in exposure.contests] == pytest.approx([0.1 / 0.7, 0.3 / 0.9, 0.0])
        assert [exposure.arm_in(contest) for contest in exposure.contests] == ["champion"] * 3

    def test_a_unit_of_one_challenger_says_nothing_about_another(self, table: JoinTable) -> None:
        event = treated(1, 0.0, contenders=self.CONTENDERS, rollout="test-r0002")
        (exposure,) = table.apply([event]).exposures
        assert [contest.share for contest in exposure.contests] == pytest.approx([0.0, 0.3 / 0.9, 0.0])
        assert [exposure.arm_in(contest) for contest in exposure.contests] == [None, "challenger", None]
        assert exposure.model == "v0003"

    def test_pairs_come_from_served_answers_and_scores_alike_each_once(self, table: JoinTable) -> None:
        event = treated(1, 0.0, contenders=self.CONTENDERS, rollout="test-r0002", output=[0.3, 0.7])
        scores = [
            shadow(1, 0.0, arm="champion", model="v0001", output=[0.1, 0.9], rollout=None),
            shadow(1, 0.0, model="v0002", output=[0.2, 0.8]),
            shadow(1, 0.0, model="v0004", output=None, rollout="test-r0003"),
        ]
        stream = [event, *scores, outcome(1, 5.0), *scores, shadow(1, 0.0, arm="previous", model="v0000")]
        found = [pair for each in stream for pair in table.apply([each]).pairs]
        named = [(pair.contest and pair.contest.rollout, pair.champion, pair.other) for pair in found]
        assert named == [
            ("test-r0001", [0.1, 0.9], [0.2, 0.8]),
            ("test-r0002", [0.1, 0.9], [0.3, 0.7]),
            (None, [0.1, 0.9], [0.5, 0.5]),
        ]
        assert found[2].previous == "v0000"

    def test_any_order_reports_the_same(self, db: sqlite3.Connection) -> None:
        event = prediction(1, 0.0, contenders=self.CONTENDERS)
        scores = [shadow(1, 0.0, model=f"v000{n}", output=[0.1 * n, 1 - 0.1 * n]) for n in (2, 3, 4)]
        for number, order in enumerate(itertools.permutations([event, *scores, outcome(1, 5.0)])):
            table = JoinTable(db, HORIZON)
            stream = [msgspec.structs.replace(each, id=f"q{number:06d}") for each in order]
            joined = [table.apply([each]) for each in stream]
            assert {pair.contest.rollout for each in joined for pair in each.pairs if pair.contest} == {
                "test-r0001",
                "test-r0002",
                "test-r0003",
            }
            assert sum(len(each.pairs) for each in joined) == sum(len(each.scored) for each in joined) == 3
            assert sum(len(each.rated) for each in joined) == 3
