"""Markov chains from counts: against chains worked out by hand and against numpy's eigenvectors."""

from __future__ import annotations

import numpy as np
import pytest

from evaluator.drift.markov import (
    RegimeReference,
    RegimeReport,
    Transitions,
    has_memory,
    judge_transitions,
    probabilities,
    spectral_gap,
    states_of,
)
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings, Mode
from evaluator.drift.state import from_builtins, to_builtins


def test_a_chain_of_two_states_by_hand() -> None:
    counts = np.array([[80, 20], [40, 60]])  # leaves 0 with 0.2, leaves 1 with 0.4: eigenvalues 1 and 0.4
    assert probabilities(counts).tolist() == [[0.8, 0.2], [0.4, 0.6]]
    assert spectral_gap(counts) == pytest.approx(0.6)


@pytest.mark.parametrize("seed", range(5))
def test_the_gap_is_that_of_numpys_eigenvalues(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(1, 50, (5, 5))
    values = np.linalg.eigvals((counts / counts.sum(axis=1, keepdims=True)).T)
    assert spectral_gap(counts) == pytest.approx(1 - np.sort(np.abs(values))[-2])


def test_the_gap_of_a_cycle_is_zero_of_a_coin_one_and_of_nothing_one() -> None:
    assert spectral_gap(np.array([[0, 9], [9, 0]])) == pytest.approx(0.0)
    assert spectral_gap(np.array([[5, 5], [5, 5]])) == pytest.approx(1.0)
    assert spectral_gap(np.zeros((3, 3), dtype=np.int64)) == 1.0
    assert spectral_gap(np.array([[8, 2, 0], [4, 6, 0], [0, 0, 0]])) == pytest.approx(0.6)


def test_blocks_add_with_their_seam_and_gaps_break_the_chain() -> None:
    path = np.array([0, 0, 1, -1, 1, 2, 2, 0])
    whole = Transitions.from_states(path, 3)
    assert whole.counts.tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 1]]
    for cut in range(len(path) + 1):
        parts = Transitions.from_states(path[:cut], 3) + Transitions.from_states(path[cut:], 3)
        assert parts.counts.tolist() == whole.counts.tolist()
        assert (parts.first, parts.last) == (0, 0)
    with pytest.raises(ValueError, match="don't add"):
        _ = whole + Transitions.from_states(path, 4)


def test_states_are_values_quantiles_or_the_most_frequent() -> None:
    assert states_of(np.array([0, 5, 0, 5, 0]), ordered=True).tolist() == [0, 0, 0, 1, 1]
    many = states_of(np.full(100, 10), ordered=True)
    assert np.bincount(many).tolist() == [12, 13, 12, 13, 12, 13, 12, 13]
    assert (np.diff(many) >= 0).all()
    named = states_of(np.array([1, 9, 2, 8, 3, 7, 4, 6, 5]), ordered=False)
    assert named[1] == 0
    assert named[0] == named[2] == 7  # the two rarest share the last


def chain(rng: np.random.Generator, rows: int, leave: float) -> np.ndarray:
    return np.asarray(np.cumsum(np.where(rng.random(rows) < leave, rng.integers(1, 3, rows), 0)) % 3)


def compare(
    before: np.ndarray, now: np.ndarray, *, inflation: float = 1.0, mode: Mode = "gated"
) -> RegimeReport | None:
    regime = RegimeReference("c", np.arange(len(before)), before, 0.0, inflation)
    return judge_transitions(regime, now, DriftSettings(mode=mode), 0.01)


def test_a_change_needs_size_rows_and_evidence() -> None:
    rng = np.random.default_rng(1)
    before = Transitions.from_states(chain(rng, 20_000, 0.2)).counts
    changed = compare(before, Transitions.from_states(chain(rng, 5000, 0.4)).counts)
    assert changed is not None
    assert changed.change == pytest.approx(0.2, abs=0.04)
    assert changed.p_value < 1e-10
    same = compare(before, Transitions.from_states(chain(rng, 5000, 0.2)).counts)
    assert same is not None
    assert same.change < 0.05
    assert same.p_value > 0.01
    short = Transitions.from_states(chain(rng, 900, 0.4)).counts
    assert compare(before, short) is None
    assert compare(before, short, mode="simple") is not None


def test_counts_that_remember_are_worth_less() -> None:
    before, now = np.array([[8000, 2000], [2000, 8000]]), np.array([[1000, 500], [400, 1600]])
    plain, worth_less = compare(before, now), compare(before, now, inflation=40.0)
    assert plain is not None
    assert worth_less is not None
    assert plain.p_value < 1e-20
    assert worth_less.p_value > 0.01
    assert compare(before, now, inflation=100.0) is None  # no row is left with enough


def test_the_row_that_is_proven_speaks_before_a_larger_one_that_is_not() -> None:
    before = np.array([[8000, 2000, 0], [2000, 8000, 0], [20, 0, 20]])
    now = np.array([[1200, 800, 0], [400, 1600, 0], [32, 0, 8]])  # the third row moved more, on forty transitions
    change = compare(before, now)
    assert change is not None
    assert change.change == pytest.approx(0.2)


def test_a_reference_whose_law_changes_by_itself_raises_the_bar() -> None:
    rng = np.random.default_rng(2)
    slots = chain(rng, 16_000, 0.2)
    counts = np.bincount(slots, minlength=3)
    calm = RegimeReference.fit("r", counts, slots, ordered=True)
    assert calm.limit == 0.0
    restless = np.concatenate([chain(rng, 8000, 0.2), chain(rng, 8000, 0.5)])
    wild = RegimeReference.fit("r", np.bincount(restless, minlength=3), restless, ordered=True)
    assert wild.limit > 0.2
    again = from_builtins(to_builtins(wild), RegimeReference)
    assert (again.limit, again.states.tolist(), again.counts.tolist()) == (
        wild.limit,
        wild.states.tolist(),
        wild.counts.tolist(),
    )
    assert calm.path(np.array([2, -1, 0])).tolist() == [2, -1, 0]


@pytest.mark.parametrize(
    ("kind", "watched"), [("sticky", True), ("turns", True), ("shuffled", False), ("sorted", False), ("still", False)]
)
def test_a_column_of_regimes_is_one_that_remembers(kind: str, watched: bool) -> None:
    rng = np.random.default_rng(31)
    moves = np.where(rng.random(3000) < 0.05, rng.integers(1, 4, 3000), 0)
    sticky = np.cumsum(moves) % 4
    column = {
        "sticky": sticky,
        "turns": np.arange(3000) % 3,
        "shuffled": rng.permutation(sticky),
        "sorted": np.sort(sticky),
        "still": np.zeros(3000, dtype=np.int64),
    }[kind]
    assert has_memory(Transitions.from_states(column).counts) is watched
    table = {"x": rng.normal(size=3000), "s": [f"s{v}" for v in column]}
    profile = Profile.fit(table, reference_id="r", regimes="auto")
    assert [regime.feature for regime in profile.regimes] == (["s"] if watched else [])
