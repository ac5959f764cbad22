"""The join table's rules, one by one: what wins, what is late, what is counted, what is forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from builders.evaluator_events import HORIZON, outcome, prediction, shadow, treated

from evaluator.service.join import JoinTable


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
    assert pair.score is not None
    assert (pair.score.arm, pair.score.model, pair.score.output) == ("challenger", "v0002", [0.5, 0.5])
    again = table.apply([shadow(1, 0.0, output=[0.9, 0.1]), outcome(1, 5.0)])
    assert again.pairs == []
    assert again.counts["shadow_duplicate"] == 1


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


def test_a_sticky_unit_is_one_draw_a_rollout(table: JoinTable) -> None:
    unit = {"unit": "customer-1"}
    first = table.apply([prediction(1, 0.0, **unit), prediction(2, 1.0, **unit)])
    later = table.apply([prediction(3, 2.0, **unit), prediction(4, 3.0, unit="customer-2")])
    other = table.apply([prediction(5, 4.0, **unit, rollout="test-r0002")])
    assert [e.first for e in first.exposures + later.exposures + other.exposures] == [True, False, False, True, True]
    table.forget_units(["test-r0002"])
    assert [e.first for e in table.apply([prediction(6, 5.0, **unit)]).exposures] == [True]


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
    assert [e.moved for e in found.exposures] == [False, False, False, True, False, False, False, False]
    assert [e.first for e in found.exposures] == [True, False, False, False, False, True, True, True]


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
    assert scores[1][0][1].output is None


def test_only_declared_labels_are_kept(db: sqlite3.Connection) -> None:
    labels = {"segments": {"country": "DE", "customer": "c-123"}}
    (found,) = JoinTable(db, HORIZON, ["country", "plan"]).apply([prediction(1, 0.0, **labels)]).exposures
    assert found.segments == {"country": "DE"}
    assert JoinTable(db, HORIZON).apply([prediction(2, 0.0, **labels)]).exposures[0].segments == {}
