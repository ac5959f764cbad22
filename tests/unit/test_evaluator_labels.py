"""Which of several outcomes of one request is its label: by each rule, in whatever order and pieces they are read."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from builders.evaluator_events import HORIZON, outcome, prediction, shadow, treated
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.service.join import JoinTable
from evaluator.service.join_records import JoinResult, Truth, settled_label

ASKED = 50.0


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def lasting(db: sqlite3.Connection) -> JoinTable:
    return JoinTable(db, HORIZON, correction="last")


@pytest.mark.parametrize(
    ("reports", "label", "contradicted", "counts"),
    [
        ([(60, 1)], 1, None, {}),
        ([(60, 1), (70, 0)], 0, None, {"corrected": 1}),
        ([(60, 1), (70, 0), (80, 1)], 1, None, {"corrected": 2}),
        ([(70, 0), (60, 1)], 0, None, {"corrected": 1}),  # by their time, not by the order in which they came
        ([(60, 1), (60, 0)], 0, None, {"corrected": 1}),  # of one time, the one that came last
        ([(60, 1), (150, 0)], 0, None, {"corrected": 1}),  # the horizon itself is in time
        ([(60, 1), (150.5, 0), (151, 0)], 1, 150.5, {"conflict": 2}),
        ([(150.5, 0), (60, 1)], 1, 150.5, {"conflict": 1}),
        ([(60, 1), (160, 1)], 1, None, {"duplicate": 1}),
        ([(160, 1)], 1, None, {}),
        ([(170, 0), (160, 1)], 1, 170, {"conflict": 1}),  # none in time: the earliest, which is late
    ],
)
def test_the_label_is_the_latest_in_time(
    reports: Sequence[tuple[float, int]], label: int, contradicted: float | None, counts: dict[str, int]
) -> None:
    found = settled_label([Truth(at, value) for at, value in reports], ASKED, HORIZON)
    assert (found[0].value, found[1], {name: n for name, n in found[2].items() if n}) == (label, contradicted, counts)


def test_an_outcome_counts_when_its_horizon_is_over_with_the_corrected_value(db: sqlite3.Connection) -> None:
    table = lasting(db)
    joined = table.apply([treated(1, ASKED), shadow(1, ASKED, arm="champion", model="v0001"), outcome(1, 60.0, 1)])
    assert (joined.matches, joined.pairs, joined.rated, joined.counts["joined"]) == ([], [], [], 0)
    assert [arrival.truth for arrival in joined.arrivals] == [Truth(60.0, 1)]
    assert table.apply([outcome(1, 70.0, 0)]).arrivals == []
    assert table.settle(ASKED + HORIZON).matches == []  # one of this very moment may still be on its way
    settled = table.settle(ASKED + HORIZON + 0.1)
    assert [match.truth for match in settled.matches] == [Truth(70.0, 0)]
    assert (len(settled.pairs), len(settled.rated)) == (1, 1)
    assert settled.counts == {"corrected": 1, "joined": 1}
    assert settled.arrivals == []
    assert table.settle(1e9) == JoinResult.nothing()


def test_a_shadow_score_after_that_is_paired_with_the_corrected_label(db: sqlite3.Connection) -> None:
    table = lasting(db)
    table.apply([prediction(1, ASKED), outcome(1, 60.0, 1), outcome(1, 61.0, 0)])
    table.settle(1e9)
    assert [pair.truth.value for pair in table.apply([shadow(1, ASKED)]).pairs] == [0]


@pytest.mark.parametrize("correction", ["first", "last"])
def test_a_label_that_is_contradicted_in_vain_is_told_once_with_when_it_is_known(
    db: sqlite3.Connection, correction: Any
) -> None:
    table = JoinTable(db, HORIZON, correction=correction)
    first = table.apply([treated(1, ASKED), outcome(1, 60.0, 1)])
    table.settle(1e9)
    late = table.apply([outcome(1, 170.0, 0), outcome(1, 171.0, 0), outcome(1, 172.0, 1)])
    assert first.contradictions == []
    assert [found.at for found in late.contradictions] == [70.0]  # a request of then matures as it comes
    assert late.counts == {"outcomes": 3, "conflict": 2, "duplicate": 1}
    again = table.apply([outcome(1, 180.0, 0), shadow(1, ASKED, arm="champion", model="v0001")])
    assert (again.contradictions, len(again.pairs)) == ([], 1)


def test_what_was_corrected_and_is_delivered_again_contradicts_nothing(db: sqlite3.Connection) -> None:
    table = lasting(db)
    stream = [treated(1, ASKED), outcome(1, 60.0, 1), outcome(1, 61.0, 0)]
    table.apply(stream)
    table.settle(1e9)
    again = table.apply(stream)
    assert (again.contradictions, again.counts["conflict"], again.counts["duplicate"]) == ([], 0, 2)


def test_a_correction_in_time_contradicts_under_first_and_not_under_last(db: sqlite3.Connection) -> None:
    stream = [outcome(1, 60.0, 1), outcome(1, 61.0, 0), treated(1, ASKED)]
    assert [found.at for found in JoinTable(db, HORIZON).apply(stream).contradictions] == [ASKED]
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as other:
        table = lasting(other)
        assert table.apply(stream).contradictions == table.settle(1e9).contradictions == []


@pytest.mark.parametrize("correction", ["first", "last"])
def test_a_label_that_is_late_is_no_evidence_and_nobody_contradicts_it(db: sqlite3.Connection, correction: Any) -> None:
    table = JoinTable(db, HORIZON, correction=correction)
    found = [table.apply([treated(1, ASKED), outcome(1, 160.0, 1), outcome(1, 161.0, 0)]), table.settle(1e9)]
    assert [(joined.matches, joined.arrivals, joined.contradictions) for joined in found] == [([], [], [])] * 2
    assert sum(joined.counts["late"] for joined in found) == 1


def test_outcomes_that_wait_for_a_prediction_are_one_orphan(db: sqlite3.Connection) -> None:
    table = lasting(db)
    table.apply([outcome(1, 60.0, 1), outcome(1, 61.0, 0), outcome(1, 62.0, 0)])
    assert table.expire(1e9) == {"orphan": 1}


def test_what_one_caller_repeats_without_end_does_not_grow(db: sqlite3.Connection) -> None:
    table = lasting(db)
    table.apply([prediction(1, ASKED)])
    for i in range(500):
        table.apply([outcome(1, 60.0 + 0.01 * i, i % 2)])
    joined = table.apply([outcome(1, 60.0, 0)])
    assert joined.counts["duplicate"] == 1
    (size,) = db.execute("SELECT length(row) FROM joins").fetchone()
    assert size < 2000
    assert [match.truth.value for match in table.settle(1e9).matches] == [1]


@st.composite
def readings(draw: st.DrawFn) -> tuple[list[Any], list[int]]:
    """Requests and their outcomes in the order of time, and where the reading is cut."""
    found: list[Any] = []
    for number in range(draw(st.integers(1, 5))):
        at = 1000.0 + 40.0 * number
        found.append(draw(st.sampled_from([prediction, treated]))(number, at))
        for delay in draw(st.lists(st.sampled_from([1.0, 30.0, 60.0, HORIZON, HORIZON + 1, 150.0]), max_size=4)):
            found.append(outcome(number, at + delay, draw(st.sampled_from([0, 1]))))
    found.append(prediction(99, 2000.0))
    found.sort(key=lambda event: event.at)
    return found, sorted(draw(st.lists(st.integers(1, len(found) - 1), max_size=6)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(readings())
def test_reading_in_pieces_and_reopening_the_file_changes_no_label_and_no_count(reading: Any) -> None:
    stream, cuts = reading

    def read(pieces: list[list[Any]]) -> tuple[Any, ...]:
        results = []
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            for piece in pieces:
                table = lasting(db)
                results += [table.apply(piece), table.settle(piece[-1].at)]
        counts = results[0].counts
        for result in results[1:]:
            counts += result.counts
        matches = sorted((m.exposure.at, m.truth.at, m.truth.value) for r in results for m in r.matches)
        contradictions = sorted((c.exposure.at, c.at) for r in results for c in r.contradictions)
        return matches, contradictions, counts

    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]
    matches, contradictions, counts = read([stream])
    assert read(pieces) == (matches, contradictions, counts)
    parts = ("joined", "late", "duplicate", "corrected", "conflict")
    assert sum(counts[name] for name in parts) == counts["outcomes"]
