"""State is a function of the rows: however they are cut, merged, saved and restored. Distances are certified."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift.distances import distances, ks_interval, may_reach
from evaluator.drift.grid import in_single
from evaluator.drift.monitor import Monitor, with_counts
from evaluator.drift.profile import Profile
from evaluator.drift.windows import QUANTILES, Windows, count

CELLS = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3), st.sampled_from(["a", "b", 0.5])
)
PROFILE = fit_losses(
    np.random.default_rng(2).exponential(size=200),
    {
        "n": np.random.default_rng(0).normal(size=500),
        "h": np.random.default_rng(1).lognormal(0, 3, size=500),
        "k": [0, 1, 2, 3] * 125,
        "c": ["a", "b"] * 250,
    },
    pane=8,
    windows=(16, 40),
)


def rows_of(data: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in data] for i, name in enumerate(("n", "h", "k", "c"))}


ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.data())
def test_any_cut_into_batches_gives_the_same_events_and_state(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows)), max_size=5)) | {0, len(rows)})
    whole, parts = Monitor(PROFILE), Monitor(PROFILE)
    times = np.arange(float(len(rows)))
    expected = whole.observe(rows_of(rows), times)
    events = []
    for start, end in pairwise(cuts):
        events += parts.observe(rows_of(rows[start:end]), times[start:end])
        restored = Monitor(PROFILE)
        restored.restore(json.loads(json.dumps(parts.snapshot(), allow_nan=False)))
        parts = restored
    assert events == expected
    assert parts.snapshot() == whole.snapshot()


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, ROWS)
def test_counts_of_pieces_add_to_those_of_the_whole(first: list[Any], second: list[Any], third: list[Any]) -> None:
    pieces = [count(PROFILE, rows_of(rows)) for rows in (first, second, third)]
    whole = count(PROFILE, rows_of(first + second + third))
    assert sum(piece.rows for piece in pieces) == whole.rows
    assert (sum(piece.counts for piece in pieces) == whole.counts).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=15))
def test_a_window_is_the_sum_of_its_panes(seeds: list[int]) -> None:
    panes = []
    windows = Windows(PROFILE)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        columns = {name: rng.normal(size=8) for name in "nhk"} | {"c": rng.choice(["a", "z"], size=8).tolist()}
        panes.append(count(PROFILE, columns))
        windows.push(panes[-1])
    for rows in PROFILE.windows:
        view = windows.window(rows)
        if len(panes) < rows // 8:
            assert view is None
            continue
        assert view is not None
        total = sum(pane.counts for pane in panes[-(rows // 8) :])
        parts = np.split(total[: PROFILE.slots], PROFILE.starts[1:])
        assert view.slots(slice(0, PROFILE.slots)).tolist() == total[: PROFILE.slots].tolist()
        assert view.present.tolist() == [part.sum() for part in parts]
        assert view.outliers.tolist() == total[-4:].tolist()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_distance_is_beyond_its_bound_at_the_quantiles(data: st.DataObject) -> None:
    rows = st.lists(st.one_of(NUMBERS, st.just(1.0)), min_size=8, max_size=8)
    few = data.draw(st.lists(NUMBERS, min_size=3, max_size=60))
    seed, spread = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.floats(0.1, 4.0))
    many = np.random.default_rng(seed).lognormal(0, spread, size=300)
    columns = {"few": few * (300 // len(few)) + [1.0] * (300 % len(few)), "many": np.where(many > 2.0, 2.0, many)}
    frozen = Profile.fit(columns, reference_id="v1", pane=8, windows=(16, 40))
    windows = Windows(frozen)
    for _ in range(data.draw(st.integers(5, 8))):
        windows.push(count(frozen, {"few": data.draw(rows), "many": data.draw(rows)}))
    summary = windows.summary(frozen.windows)
    longest = summary.window(1)
    accepted = with_counts(frozen, longest)
    for reference, quantiles in ((frozen, windows.bounds), (accepted, windows.bounds.against(accepted.features))):
        bounds = quantiles.upper_bounds(summary.quantile_counts, summary.present)
        for window in range(2):
            exact = distances(reference, summary.window(window))
            assert (bounds[window] >= exact).all()
            if reference is frozen:  # tight enough to settle most looks: slots are a quantile apart, or a slot
                assert (bounds[window] <= exact + 2 / QUANTILES + 1e-12)[summary.present[window] > 0].all()
            possible = may_reach(reference, quantiles, summary, np.broadcast_to(exact, (2, 2)))[window]
            assert possible.all(), "a feature as far off as the least was not asked for"


NUMBERS = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.integers(-5, 5).map(float),
    st.floats(-1e149, 1e149, allow_nan=False),
    st.floats(-1.0, 1.0),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBERS, min_size=3, max_size=200), st.lists(NUMBERS, min_size=1, max_size=60))
def test_the_distance_from_counts_is_never_above_the_exact_one_and_its_interval_holds_it(
    reference: list[float], current: list[float]
) -> None:
    profile = Profile.fit({"x": reference}, reference_id="v1")
    counts = count(profile, {"x": current}).counts[: profile.slots]
    lower, upper = ks_interval(profile.cumulative, np.cumsum(counts) / len(current))
    exact = float(ks_2samp(reference, current, method="asymp").statistic)
    assert lower <= exact + 1e-12
    assert exact <= upper + 1e-12
    grid = profile.features[0].grid
    if grid.kind == "exact":  # as far as 32 bits tell its values apart, where they do
        known = in_single(np.array(grid.values))
        if len(np.unique(known)) == len(known):
            theirs = (in_single(np.array(rows)) for rows in (reference, current))
            exact = float(ks_2samp(*theirs, method="asymp").statistic)
        assert abs(lower - exact) < 1e-12


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(70, 400), st.integers(1, 80), st.floats(0.1, 5.0))
def test_the_interval_holds_on_grids_too(seed: int, rows: int, more: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    reference, current = rng.lognormal(0, spread, size=rows), rng.lognormal(0.5, spread, size=more)
    profile = Profile.fit({"x": reference}, reference_id="v1")
    assert profile.features[0].grid.kind != "exact"
    counts = count(profile, {"x": current}).counts[: profile.slots]
    lower, upper = ks_interval(profile.cumulative, np.cumsum(counts) / more)
    exact = float(ks_2samp(reference, current, method="asymp").statistic)
    assert lower <= exact + 1e-12
    assert exact <= upper + 1e-12


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=300), st.integers(1, 300))
def test_errors_one_by_one_or_together(errors: list[float], cut: int) -> None:
    whole, parts = Monitor(PROFILE), Monitor(PROFILE)
    expected = observe_losses(whole, errors, 0.0)
    events = observe_losses(parts, errors[:cut], 0.0)
    restored = Monitor(PROFILE)
    restored.restore(json.loads(json.dumps(parts.snapshot())))
    assert events + observe_losses(restored, errors[cut:], 0.0) == expected
    assert restored.snapshot() == whole.snapshot()


def test_a_value_at_the_end_of_a_slot_is_counted_alike_in_batches_of_any_length() -> None:
    """The last feature's slots begin in the tens of thousands, where a number just below the next slot has no room."""
    rng = np.random.default_rng(41)
    reference = {f"x{i:02d}": rng.random(5000) for i in range(60)}
    profile = Profile.fit(reference, reference_id="r")
    last = profile.features[-1]
    edges = last.grid.origin + np.arange(1, 513) / last.grid.step
    near = np.concatenate([np.nextafter(edges, -np.inf), edges, np.nextafter(edges, np.inf)])
    columns = dict.fromkeys(reference, near)
    whole = count(profile, columns).counts
    pieces = sum(count(profile, {n: v[i : i + 64] for n, v in columns.items()}).counts for i in range(0, len(near), 64))
    assert np.array_equal(whole, pieces)
