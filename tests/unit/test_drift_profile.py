"""The reference profile: what it makes of odd references, and that it survives its own serialisation."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from evaluator.drift.calibration import (
    QUANTILE,
    calibrate,
    calibrate_blocks,
    calibrate_share,
    null_limit,
    variance_inflation,
)
from evaluator.drift.feature import ABSENT, INFINITE, MISSING, MISTYPED, SPECIALS
from evaluator.drift.grid import BINS, Grid, numeric_grid
from evaluator.drift.profile import Profile
from evaluator.drift.windows import count, count_parts


def specials(profile: Profile, columns: dict[str, Any], name: str) -> list[int]:
    pane = count(profile, columns)
    start = profile.slots + SPECIALS * profile.index[name]
    return pane.counts[start : start + SPECIALS].tolist()


def test_a_profile_survives_json_with_the_same_hash_and_the_same_codes() -> None:
    rng = np.random.default_rng(1)
    columns = {
        "even": rng.random(size=3000),
        "heavy": rng.lognormal(0, 2, size=3000),
        "few": rng.integers(0, 5, size=3000),
        "city": rng.choice(["b", "a", "c"], size=3000).tolist(),
    }
    profile = Profile.fit(columns, reference_id="v1", errors=rng.exponential(size=500))
    again = Profile.from_dict(json.loads(json.dumps(profile.to_dict())))
    assert again.hash == profile.hash
    assert (again.encode(columns) == profile.encode(columns)).all()
    assert {feature.name: feature.grid.kind for feature in profile.features} == {
        "even": "linear",
        "heavy": "asinh",
        "few": "exact",
        "city": "categories",
    }


def test_counting_the_reference_gives_the_references_counts() -> None:
    rng = np.random.default_rng(2)
    columns = {"x": rng.normal(size=5000), "y": rng.lognormal(0, 2, 5000), "c": rng.choice(list("xyz"), 5000).tolist()}
    profile = Profile.fit(columns, reference_id="v1")
    counted = count(profile, columns).counts
    assert counted[: profile.slots].tolist() == np.concatenate([f.counts for f in profile.features]).tolist()
    assert counted[-3:].tolist() == [feature.outliers for feature in profile.features]


def test_other_references_have_other_hashes() -> None:
    first = Profile.fit({"x": [1.0, 2.0]}, reference_id="v1")
    assert first.hash != Profile.fit({"x": [1.0, 2.0]}, reference_id="v2").hash
    assert first.hash != Profile.fit({"x": [1.0, 3.0]}, reference_id="v1").hash


def test_a_version_from_the_future_is_refused() -> None:
    raw = Profile.fit({"x": [1.0, 2.0]}, reference_id="v1").to_dict()
    with pytest.raises(ValueError, match="version 99"):
        Profile.from_dict({**raw, "version": 99})


@pytest.mark.parametrize(
    "values",
    [
        [3.0] * 100,
        [None] * 100,
        [float("nan")] * 100,
        [float("inf"), float("-inf")] * 50,
        [1e308, -1e308] * 50,
        np.linspace(-1.0, 1.0, 100) * 1.7e308,
        [5e-324] * 99 + [1e308],
        [0.0] * 99 + [1.0],
        ["a", None, 3, b"x"] * 25,
        [True, False] * 50,
        [2**80] * 50 + [10**400] * 50,
        [[1], [2, 3]] * 50,
        [object()] * 100,
        np.arange(100).astype("datetime64[s]"),
        list(range(100)),
        [f"id{i}" for i in range(1000)],
        [1.0],
    ],
)
def test_any_column_makes_a_profile_and_is_counted_in_full(values: Any) -> None:
    profile = Profile.fit({"x": values}, reference_id="v1")
    json.dumps(profile.to_dict(), allow_nan=False)
    pane = count(profile, {"x": values})
    assert pane.counts[: profile.slots + SPECIALS].sum() == pane.rows == len(values)


def test_cells_without_a_slot_are_told_apart() -> None:
    profile = Profile.fit({"x": np.arange(200.0), "c": ["a", "b"] * 100}, reference_id="v1")
    columns = {"x": [1.0, None, float("nan"), "7", float("inf"), 2], "c": ["a", None, 4, "new", "b", True]}
    found = specials(profile, columns, "x")
    assert [found[MISSING], found[ABSENT], found[MISTYPED], found[INFINITE]] == [2, 0, 1, 1]
    found = specials(profile, columns, "c")
    assert [found[MISSING], found[ABSENT], found[MISTYPED], found[INFINITE]] == [1, 0, 2, 0]
    pane = count(profile, columns)
    other = int(profile.starts[profile.index["c"]] + profile.sizes[profile.index["c"]] - 1)
    assert pane.counts[other] == 1


def test_a_column_gone_and_a_column_more_are_counted() -> None:
    profile = Profile.fit({"x": np.arange(200.0), "y": np.arange(200.0)}, reference_id="v1")
    pane = count(profile, {"x": [1.0, 2.0], "surprise": [1, 2]})
    assert specials(profile, {"x": [1.0, 2.0]}, "y")[ABSENT] == 2
    assert dict(pane.extra) == {"surprise": 2}


def test_a_wild_value_moves_neither_grid_nor_deviation() -> None:
    values = np.random.default_rng(3).normal(size=100)
    wild = values.copy()
    wild[50] = 1e5
    grid = Profile.fit({"x": wild}, reference_id="v1").features[0]
    assert abs(grid.deviation - values.std()) < 0.2
    assert max(grid.counts) <= 8  # a grid stretched to 1e5 has all but one of the hundred in one bin


def test_bad_references_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Profile.fit({}, reference_id="v1")
    with pytest.raises(ValueError, match="differ in length"):
        Profile.fit({"x": [1.0], "y": [1.0, 2.0]}, reference_id="v1")
    with pytest.raises(ValueError, match="importances"):
        Profile.fit({"x": [1.0]}, reference_id="v1", importance={"x": -1.0})
    with pytest.raises(ValueError, match="at least 30"):
        Profile.fit({"x": [1.0]}, reference_id="v1", errors=[0.1] * 29)
    with pytest.raises(ValueError, match="can't be negative"):
        Profile.fit({"x": [1.0]}, reference_id="v1", errors=[-0.1] * 50)


def test_a_dependent_reference_is_worth_fewer_rows() -> None:
    rng = np.random.default_rng(4)
    slow = np.repeat(rng.normal(size=500), 40)
    profile = Profile.fit({"slow": slow, "quick": rng.permutation(slow)}, reference_id="v1")
    by_name = {feature.name: feature for feature in profile.features}
    assert all(calibration.efficiency == 1.0 for calibration in by_name["quick"].shape)
    # Runs of forty equal values: one independent row in forty.
    assert 1 / 80 < by_name["slow"].shape[1].efficiency < 1 / 25
    assert by_name["slow"].shape[0].limit > 2 * by_name["quick"].shape[0].limit


@pytest.mark.parametrize("spread", [0.8, 1.0, 5.0, 40.0])
def test_single_precision_never_moves_a_value_to_another_slot(spread: float) -> None:
    """Also on both sides of every edge; by the definition of the grid, value by value."""
    values = np.random.default_rng(7).lognormal(0, spread, 5000)
    grid = numeric_grid(values, np.sort(values))
    assert grid.kind == "asinh"
    edges = np.sinh(grid.low + np.arange(BINS + 1) / grid.step) * grid.scale + grid.centre
    near = [edges * (1 + e) for e in (0.0, 1e-15, -1e-15, 1e-8, -1e-8, 1e-5, -1e-5)]
    asked = np.concatenate([values, -values, [1e150, -1e150, 0.0], *near])
    axis = np.arcsinh((asked - grid.centre) / grid.scale)
    expected = np.clip((axis - grid.origin) * grid.step, 0, BINS + 1).astype(np.int64)
    np.testing.assert_array_equal(grid.slot_of(asked), expected)


def test_grids_that_single_precision_cannot_tell_apart_are_taken_in_double() -> None:
    for grid in (Grid("asinh", 39.0, 39.5), Grid("asinh", -1e-9, 1e-9), Grid("asinh", 0.0, 345.0)):
        edges = np.sinh(grid.low + np.arange(BINS + 1) / grid.step)
        expected = np.clip((np.arcsinh(edges) - grid.origin) * grid.step, 0, BINS + 1).astype(np.int64)
        np.testing.assert_array_equal(grid.slot_of(edges), expected)


def test_parts_of_a_batch_are_counted_as_each_by_itself() -> None:
    rng = np.random.default_rng(8)
    reference = {name: rng.normal(size=5000) for name in "abc"} | {"t": rng.choice(["u", "v"], 5000)}
    profile = Profile.fit(reference, reference_id="r")
    batch: dict[str, Any] = {"a": rng.normal(size=4000), "b": rng.normal(0, 3, 4000), "t": rng.choice(["u", "w"], 4000)}
    batch["b"][[5, 2000, 3999]] = [np.nan, np.inf, -1e300]
    ends = [1, 1500, 1501, 3000, 4000]
    parts = count_parts(profile, batch, ends)
    for first, last, counts in zip([0, *ends], ends, parts, strict=False):
        alone = count(profile, {name: values[first:last] for name, values in batch.items()}).counts
        np.testing.assert_array_equal(counts, alone)


@pytest.mark.parametrize("rows", [1, 100, 20_000])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.4, 1.0])
def test_a_share_is_calibrated_as_two_slots_are(rows: int, share: float) -> None:
    flags = np.random.default_rng(4).random(rows) < share
    windows = (64, 256, 4000)
    assert calibrate_share(flags, windows) == calibrate(flags.astype(np.int64), 2, windows, ordered=False)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("gaps", [0, 3])
def test_blocks_are_held_against_the_rows_outside_them(ordered: bool, gaps: int) -> None:
    """The definition, straight from shares; rows without a slot make stretches of different weight."""
    rng = np.random.default_rng(9)
    slots, places = 30, 400
    codes = (np.cumsum(rng.integers(0, 2, 40_000)) // 50 + rng.integers(0, 9, 40_000)) % (slots + gaps)
    codes = np.minimum(codes, slots)
    rows, window = len(codes), 1000
    starts = np.linspace(0, rows - window, places).astype(int)
    counts = np.array([np.bincount(codes[s : s + window], minlength=slots + 1)[:slots] for s in starts])
    total = np.bincount(codes, minlength=slots + 1)[:slots].astype(float)
    own, present, mass = counts.sum(axis=1, keepdims=True), total.sum(), total / total.sum()
    gap = counts / own - (total - counts) / (present - own)
    if ordered:
        gap, below = np.cumsum(gap, axis=1), np.cumsum(mass)
        distance, squared, variance = abs(gap).max(axis=1), gap**2 @ mass, mass @ (below * (1 - below))
    else:
        distance, squared, variance = abs(gap).sum(axis=1) / 2, (gap**2).sum(axis=1), 1 - (mass**2).sum()
    raw = squared.sum() / (variance * (1 / own + 1 / (present - own)).sum())
    inflation = variance_inflation(float(raw), window, window, rows)
    limit = null_limit(float(np.quantile(distance, QUANTILE)), inflation, window, window, rows)
    found = calibrate_blocks(counts, total, rows, window, ordered=ordered)
    assert found.efficiency == pytest.approx(1 / inflation, rel=1e-12)
    assert found.limit == pytest.approx(min(limit, (1 + limit / 1.25) / 2), rel=1e-12)


def test_the_axis_is_linear_where_that_is_fine_enough() -> None:
    rng = np.random.default_rng(17)
    for rows in (500, 5000, 100_000):
        drawn = {"normal": rng.normal(size=rows), "uniform": rng.random(rows), "skewed": rng.lognormal(0, 1.5, rows)}
        kinds = {name: numeric_grid(values, np.sort(values)).kind for name, values in drawn.items()}
        assert kinds == {"normal": "linear", "uniform": "linear", "skewed": "asinh"}
