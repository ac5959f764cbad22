"""Outcomes, scores and regimes in a stream: any cut gives the same events and state, also through JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift.concept import ErrorReference
from evaluator.drift.markov import STATES, Transitions
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.state import from_builtins, to_builtins
from evaluator.drift.windows import count

RNG = np.random.default_rng(0)
SCORE = RNG.random(800)
TRUTH = (RNG.random(800) < SCORE) * 1
PROFILE = Profile.fit(
    {"x": RNG.normal(size=800), "c": ["a", "b"] * 400, "score": SCORE, "prediction": (SCORE > 0.5) * 1},
    reference_id="r",
    pane=8,
    windows=(16, 600, 1200),
    prediction="prediction",
    score="score",
    targets=TRUTH,
    regimes=["c", "x"],
)


def rows(seed: int, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    score = np.where(rng.random(n) < 0.05, np.nan, 0.5 + 0.2 * (rng.random(n) - 0.5))
    return {
        "x": rng.normal(0.5, 1.0, n),
        "c": rng.choice(["a", "b", "z"], size=n).tolist(),
        "score": score,
        "prediction": (score > 0.5) * 1,
    }


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sets(st.integers(1, 1399), max_size=4))
def test_rows_with_scores_and_regimes_in_any_cut(seed: int, cuts: set[int]) -> None:
    table = rows(seed, 1400)
    whole, parts = Monitor(PROFILE), Monitor(PROFILE)
    times = np.arange(1400.0)
    expected = whole.observe(table, times)
    assert expected
    events = []
    for start, end in pairwise(sorted(cuts | {0, 1400})):
        events += parts.observe({name: values[start:end] for name, values in table.items()}, times[start:end])
        restored = Monitor(Profile.from_dict(json.loads(json.dumps(PROFILE.to_dict()))))
        restored.restore(json.loads(json.dumps(parts.snapshot(), allow_nan=False)))
        parts = restored
    assert events == expected
    assert parts.snapshot() == whole.snapshot()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sets(st.integers(1, 1499), max_size=4))
def test_outcomes_in_any_cut(seed: int, cuts: set[int]) -> None:
    rng = np.random.default_rng(seed)
    truth: list[Any] = [None if rng.random() < 0.1 else int(rng.random() < 0.7) for _ in range(1500)]
    prediction: list[Any] = [None if rng.random() < 0.1 else int(rng.random() < 0.5) for _ in range(1500)]
    whole, parts = Monitor(PROFILE), Monitor(PROFILE)
    times = np.arange(1500.0)
    expected = whole.observe_outcomes(truth, prediction, times)
    assert expected
    events = []
    for start, end in pairwise(sorted(cuts | {0, 1500})):
        events += parts.observe_outcomes(truth[start:end], prediction[start:end], times[start:end])
        restored = Monitor(PROFILE)
        restored.restore(json.loads(json.dumps(parts.snapshot(), allow_nan=False)))
        parts = restored
    assert events == expected
    assert parts.snapshot() == whole.snapshot()


CELLS = st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=40), st.integers(1100, 1300))
def test_columns_counted_one_at_a_time_are_the_rows_counted_together(cells: list[tuple[Any, Any]], n: int) -> None:
    """Many rows are counted column by column, few row by row: the counts are the same."""
    table = {"x": [cells[i % len(cells)][0] for i in range(n)], "c": [cells[i % len(cells)][1] for i in range(n)]}
    whole = count(PROFILE, table)
    pieces = [count(PROFILE, {name: v[i : i + 100] for name, v in table.items()}) for i in range(0, n, 100)]
    assert whole.counts.tolist() == sum(piece.counts for piece in pieces).tolist()
    assert whole.rows == n


PATHS = st.lists(st.integers(-1, STATES - 1), max_size=30)


@settings(max_examples=100, deadline=None)
@given(PATHS, PATHS, PATHS)
def test_merging_transitions_is_associative(a: list[int], b: list[int], c: list[int]) -> None:
    first, second, third = (Transitions.from_states(np.array(path, dtype=np.int64)) for path in (a, b, c))
    whole = Transitions.from_states(np.array(a + b + c, dtype=np.int64))
    for merged in ((first + second) + third, first + (second + third)):
        assert merged.counts.tolist() == whole.counts.tolist()
        assert (merged.first, merged.last) == (whole.first, whole.last)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1e149), min_size=30, max_size=300))
def test_any_reference_of_errors_fits_and_survives_json(errors: list[float]) -> None:
    reference = ErrorReference.fit(errors)
    assert from_builtins(json.loads(json.dumps(to_builtins(reference), allow_nan=False)), ErrorReference) == reference
    assert 0.0 <= reference.scaled <= reference.most <= 1.0
    monitor = Monitor(fit_losses(errors))
    observe_losses(monitor, errors, 0.0)
    json.dumps(monitor.snapshot(), allow_nan=False)
