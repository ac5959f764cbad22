"""From rows to numbers: the figures against scikit-learn, each linearisation by hand, and what a past may change."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from evaluator.stats.errors import OutcomeError, StatsError
from evaluator.stats.metrics.base import FEWEST_EVENTS, MEMORY, matched
from evaluator.stats.metrics.cuped import Adjustment
from evaluator.stats.metrics.declaration import ColumnError, MetricError, declare
from evaluator.stats.metrics.influence_function import Influence, from_dict, influence
from evaluator.stats.metrics.quantile import SCORES, VALUES, Grid, Histogram

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Columns = tuple[Floats, ...]
NAN = math.nan

VALUE = ("mean", "reward", "proportion", "error_rate", "coverage", "p50", "p99")
ROWS = {
    **dict.fromkeys(("mean", "reward", "p50", "p99"), "amount"),
    **dict.fromkeys(("proportion", "error_rate"), "flag"),
    "coverage": "amount",
    "ratio": "ratio",
    **dict.fromkeys(("accuracy", "precision", "recall", "f1"), "label"),
    **dict.fromkeys(("macro_f1", "recall@2", "f1@2"), "labels"),
    **dict.fromkeys(("auc", "log_loss", "brier"), "score"),
    **dict.fromkeys(("mae", "mse", "rmse", "r2"), "number"),
}
KINDS = tuple(ROWS)


def made(kind: str) -> Influence:
    return influence(declare("m", kind, ("a",) if kind in (*VALUE, "p95") else ("a", "b")))


def rows(kind: str, n: int, seed: int) -> tuple[Bools, Columns]:
    rng = np.random.default_rng(seed)
    treated = rng.random(n) < 0.3
    match ROWS[kind]:
        case "amount":
            return treated, (rng.lognormal(3.0, 1.0, n),)
        case "flag":
            return treated, ((rng.random(n) < 0.3).astype(float),)
        case "ratio":
            denominator = rng.poisson(2.0, n).astype(float)
            return treated, (rng.binomial(denominator.astype(int), 0.4).astype(float), denominator)
        case "label" | "labels" as labels:
            classes = 2 if labels == "label" else 4
            outcome = rng.integers(0, classes, n)
            return treated, (np.where(rng.random(n) < 0.7, outcome, rng.integers(0, classes, n)) * 1.0, outcome * 1.0)
        case "score":
            outcome = rng.random(n) < 0.2
            return treated, (1.0 / (1.0 + np.exp(1.5 - rng.normal(outcome * 1.2))), outcome.astype(float))
    outcome = rng.normal(1e4, 3.0, n)
    return treated, (outcome + rng.normal(0.2, 2.0, n), outcome)


def learned(kind: str, batches: int = 3, n: int = 700, seed: int = 0) -> Influence:
    found = made(kind)
    for batch in range(batches):
        found.learn(*rows(kind, n, seed + batch))
    return found


REFERENCE: dict[str, Callable[[Floats, Floats], float]] = {
    "accuracy": lambda p, y: sk.accuracy_score(y, p),
    "precision": lambda p, y: sk.precision_score(y, p),
    "recall": lambda p, y: sk.recall_score(y, p),
    "f1": lambda p, y: sk.f1_score(y, p),
    "recall@2": lambda p, y: sk.recall_score(y, p, labels=[2.0], average="macro"),
    "f1@2": lambda p, y: sk.f1_score(y, p, labels=[2.0], average="macro"),
    "macro_f1": lambda p, y: sk.f1_score(y, p, average="macro"),
    "auc": lambda p, y: sk.roc_auc_score(y, p),
    "log_loss": lambda p, y: sk.log_loss(y, p),
    "brier": lambda p, y: sk.brier_score_loss(y, p),
    "mae": lambda p, y: sk.mean_absolute_error(y, p),
    "mse": lambda p, y: sk.mean_squared_error(y, p),
    "rmse": lambda p, y: math.sqrt(sk.mean_squared_error(y, p)),
    "r2": lambda p, y: sk.r2_score(y, p),
}


@pytest.mark.parametrize("kind", list(REFERENCE))
def test_figures_are_those_of_scikit_learn(kind: str) -> None:
    parts = [rows(kind, 900, seed) for seed in range(4)]
    found = made(kind)
    for part in parts:
        found.learn(*part)
    treated = np.concatenate([part[0] for part in parts])
    columns = [np.concatenate([part[1][i] for part in parts]) for i in (0, 1)]
    close = 2e-4 if kind == "auc" else 1e-10
    for figure, arm in zip(found.figures(), (~treated, treated), strict=True):
        assert figure == pytest.approx(REFERENCE[kind](columns[0][arm], columns[1][arm]), rel=close)


def test_figures_of_means_ratios_and_quantiles() -> None:
    for kind in ("mean", "ratio", "p50", "p99", "coverage"):
        treated, columns = rows(kind, 5000, 8)
        if kind == "coverage":
            columns = (np.where(columns[0] > 60.0, NAN, columns[0]),)
        found = made(kind)
        found.learn(treated, columns)
        for figure, arm in zip(found.figures(), (~treated, treated), strict=True):
            here = [column[arm] for column in columns]
            match kind:
                case "mean":
                    assert figure == pytest.approx(here[0].mean(), rel=1e-12)
                case "ratio":
                    assert figure == pytest.approx(here[0].sum() / here[1].sum(), rel=1e-12)
                case "coverage":
                    assert figure == pytest.approx(np.isfinite(here[0]).mean(), rel=1e-12)
                case _:
                    level = float(kind[1:]) / 100
                    assert figure == pytest.approx(np.quantile(here[0], level, method="inverted_cdf"), rel=2**-7)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_learned_has_no_figures_and_a_plain_mean_needs_no_past(kind: str) -> None:
    found = made(kind)
    assert found.figures() == (None, None)
    treated, columns = rows(kind, 50, 3)
    values = found.values(treated, columns)
    assert values.shape == (50,)
    assert np.isfinite(values).all() if declare("m", kind, ("a", "b")[: len(columns)]).plain else np.isnan(values).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_depends_on_its_row_and_on_earlier_batches_alone(kind: str) -> None:
    found = learned(kind)
    treated, columns = rows(kind, 400, 99)
    whole = found.values(treated, columns)
    assert np.isfinite(whole).all()
    order = np.random.default_rng(1).permutation(400)
    np.testing.assert_array_equal(found.values(treated[order], tuple(c[order] for c in columns)), whole[order])
    alone = [found.values(treated[i : i + 1], tuple(c[i : i + 1] for c in columns))[0] for i in range(0, 400, 40)]
    np.testing.assert_array_equal(alone, whole[::40])
    np.testing.assert_array_equal(found.values(treated, columns), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_have_the_mean_of_the_figures_on_the_past_they_come_from(kind: str) -> None:
    """A linearisation taken back over the rows it was learned from gives the difference of the figures itself."""
    treated, columns = rows(kind, 40_000, 5)
    found = made(kind)
    found.learn(treated, columns)
    values = found.values(treated, columns)
    champion, challenger = found.figures()
    assert champion is not None
    assert challenger is not None
    difference = (values[treated].mean() - values[~treated].mean()) * found.scale
    spread = found.scale * values.std() / math.sqrt(treated.sum())
    # A quantile is curved between the arms.
    close = 0.5 if kind in ("p50", "p99") else 0.15
    assert difference == pytest.approx(challenger - champion, abs=close * spread + 1e-12)
    if not kind.startswith("p") or kind in ("precision", "proportion"):
        assert values[~treated].mean() == pytest.approx(champion, rel=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_through_json_gives_the_same_numbers_bit_for_bit(kind: str) -> None:
    found = learned(kind)
    back = from_dict(json.loads(json.dumps(found.to_dict())))
    batch, later = rows(kind, 300, 50), rows(kind, 300, 51)
    for one in (found, back):
        one.learn(*batch)
    assert back.figures() == found.figures()
    assert back.scale == found.scale
    np.testing.assert_array_equal(back.values(*later), found.values(*later))
    assert back.to_dict() == found.to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_merging_is_learning_the_later_part_after_the_earlier(kind: str) -> None:
    whole, parts = made(kind), []
    for batch in range(4):
        part = made(kind)
        for one in (whole, part):
            one.learn(*rows(kind, 500, batch))
        parts.append(part)
    left = parts[0].merge(parts[1]).merge(parts[2]).merge(parts[3])
    right = parts[0].merge(parts[1].merge(parts[2].merge(parts[3])))
    probe = rows(kind, 300, 60)
    for merged in (left, right):
        assert merged.figures() == pytest.approx(whole.figures(), rel=1e-12)
        np.testing.assert_allclose(merged.values(*probe), whole.values(*probe), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(left.values(*probe), right.values(*probe), rtol=1e-9, atol=1e-9)
    with pytest.raises(StatsError):
        left.merge(made("f1" if kind != "f1" else "mean"))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_input_carry_no_evidence_and_teach_nothing(kind: str) -> None:
    with_holes, without = learned(kind), learned(kind)
    treated, columns = rows(kind, 300, 70)
    missing = np.random.default_rng(2).random(300) < 0.2
    holed = tuple(np.where(missing, NAN, column) for column in columns)
    values = with_holes.values(treated, holed)
    if kind == "coverage":
        assert values.tolist() == (~missing).astype(float).tolist()
        return
    np.testing.assert_array_equal(np.isnan(values), missing)
    np.testing.assert_array_equal(values[~missing], without.values(treated, columns)[~missing])
    with_holes.learn(treated, holed)
    without.learn(treated[~missing], tuple(column[~missing] for column in columns))
    assert with_holes.to_dict() == without.to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_batch_and_an_empty_one_leave_everything_as_it_was(kind: str) -> None:
    found = learned(kind)
    before = found.to_dict()
    treated, columns = rows(kind, 20, 80)
    if kind != "coverage":
        broken = tuple(np.where(np.arange(20) == 7, -math.inf, column) for column in columns)
        for act in (found.values, found.learn):
            with pytest.raises(ColumnError, match="position 7"):
                act(treated, broken)
    with pytest.raises(StatsError):
        found.learn(treated[:5], columns)
    nothing = np.zeros(0, dtype=bool), tuple(np.zeros(0) for _ in columns)
    assert found.values(*nothing).shape == (0,)
    found.learn(*nothing)
    assert found.to_dict() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_arm_is_learned_without_comparing(kind: str) -> None:
    found = made(kind)
    treated, columns = rows(kind, 4000, 4)
    found.learn(np.zeros_like(treated), columns)
    champion, challenger = found.figures()
    assert champion is not None
    assert challenger is None
    values = found.values(treated, columns)
    if kind == "auc":
        assert np.isnan(values).all()
    else:
        assert np.isfinite(values).all()


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_the_two_arms_on_one_request(kind: str) -> None:
    found = made(kind)
    for seed in range(3):
        found.learn_paired(rows(kind, 500, seed)[1], rows(kind, 500, seed + 10)[1])
    one, other = rows(kind, 200, 90)[1], rows(kind, 200, 91)[1]
    champion, challenger = found.paired_values(one, other)
    np.testing.assert_array_equal(champion, found.values(np.zeros(200, dtype=bool), one))
    np.testing.assert_array_equal(challenger, found.values(np.ones(200, dtype=bool), other))
    if kind != "coverage":
        gone = tuple(np.where(np.arange(200) == 3, NAN, column) for column in other)
        champion, challenger = found.paired_values(one, gone)
        assert np.flatnonzero(np.isnan(champion)).tolist() == [3] == np.flatnonzero(np.isnan(challenger)).tolist()
    with pytest.raises(StatsError):
        found.paired_values(one, tuple(column[:5] for column in other))


def test_ratio_by_hand() -> None:
    found = made("ratio")
    treated = np.repeat([False, True], [60, 40])
    denominator = np.where(treated, 3.0, 2.0)
    numerator = np.where(treated, 1.0, 0.5)
    found.learn(treated, (numerator, denominator))
    # R̂ = 30/120, D̄ = 2; matched ΣD: 120·40/100 and 120·60/100; an event is worth 240/120 = 2.
    share = (72.0 + 2.0 * FEWEST_EVENTS) / (48.0 + 2.0 * FEWEST_EVENTS)
    values = found.values(np.array([False, True]), (np.array([1.0, 1.0]), np.array([1.0, 1.0])))
    np.testing.assert_allclose(values, [0.25 + 0.75 / 2.0, 0.25 + 0.75 / (2.0 * share)], rtol=1e-12)


def test_what_was_learned_fades_over_events() -> None:
    found = made("ratio")
    n = 250
    for level in (1.0, 3.0):
        found.learn(np.zeros(n, dtype=bool), (np.full(n, level), np.ones(n)))
    kept = math.exp(-n / MEMORY)
    expected = (kept * 1.0 + 3.0) / (kept + 1.0)
    values = found.values(np.array([False]), (np.array([0.0]), np.array([0.0])))
    assert values[0] == pytest.approx(expected, rel=1e-12)
    assert found.figures()[0] == pytest.approx(2.0, rel=1e-12)


def test_what_a_class_has_taught_fades_over_its_events() -> None:
    found = made("macro_f1")
    n = 250
    found.learn(np.zeros(n, dtype=bool), (np.zeros(n), np.zeros(n)))
    found.learn(np.zeros(n, dtype=bool), (np.ones(n), np.zeros(n)))
    kept = math.exp(-n / MEMORY)
    first = 2 * n * kept / (2 * n * kept + n)
    values = found.values(np.array([False]), (np.array([7.0]), np.array([7.0])))
    assert values[0] == pytest.approx((first + 0.0) / 2, rel=1e-12)


def test_rmse_by_hand() -> None:
    found = made("rmse")
    error = np.array([3.0, 4.0] * 100)
    found.learn(np.zeros(200, dtype=bool), (error, np.zeros(200)))
    root = math.sqrt(12.5)
    values = found.values(np.array([False, True]), (np.array([5.0, 5.0]), np.zeros(2)))
    np.testing.assert_allclose(values, root + (25.0 - 12.5) / (2.0 * root), rtol=1e-12)
    # With twice the error in the challenger the way between the two roots is three r̂ (but for the shrinkage).
    treated = np.arange(40_000) % 2 == 1
    found = made("rmse")
    found.learn(treated, (np.where(treated, 2.0, 1.0), np.zeros(40_000)))
    low, high = found.values(np.array([False, True]), (np.array([1.0, 2.0]), np.zeros(2)))
    assert high - low == pytest.approx(1.0, rel=2e-3)


def test_r2_by_hand() -> None:
    found = made("r2")
    outcome = np.array([1.0, 3.0] * 50)
    found.learn(np.zeros(100, dtype=bool), (outcome + 0.5, outcome))
    # R̂ = 0.25 / 1, σ̂² = 1, ȳ = 2: Y = 1 − 0.25 − (e² − 0.25 (y−2)²).
    values = found.values(np.array([False, True]), (np.array([5.0, 5.0]), np.array([4.0, 4.0])))
    np.testing.assert_allclose(values, 0.75 - (1.0 - 0.25 * 4.0), rtol=1e-12)
    values = found.values(np.array([True]), (np.array([2.0]), np.array([2.0])))
    np.testing.assert_allclose(values, 0.75, rtol=1e-12)


def test_auc_by_hand() -> None:
    found = made("auc")
    arm, score, outcome = [], [], []
    for a, others, class_ in ((0, (0.1, 0.3), (0.2, 0.4)), (1, (0.1, 0.2), (0.3, 0.4))):
        for s, y in [(s, 0.0) for s in others] + [(s, 1.0) for s in class_]:
            n = 20 if y else 40
            arm += [a] * n
            score += [s] * n
            outcome += [y] * n
    found.learn(np.array(arm, dtype=bool), (np.array(score), np.array(outcome)))
    assert found.figures() == (0.75, 1.0)
    # Champion: θ̂ = 3/4; a row of the class at 0.25 is above half of the others, one of the others at 0.3 below half.
    at = (np.array([0.25, 0.3, 0.3, 0.25, 0.35, 0.2]), np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0]))
    values = found.values(np.array([False, False, False, True, True, True]), at)
    # The third ties with one of the two others: rank 3/4. One row in three is of the class.
    expected = [0.75 - 0.25 * 3, 0.75 - 0.25 * 1.5, 0.75, 1.0, 1.0 - 0.5 * 1.5, 1.0]
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12)


def test_auc_measures_each_arm_against_its_own_scores() -> None:
    rng = np.random.default_rng(6)
    n = 40_000
    treated, outcome = rng.random(n) < 0.5, (rng.random(n) < 0.3).astype(float)
    score = rng.normal(outcome) + 5.0 * treated
    found = made("auc")
    found.learn(treated, (score, outcome))
    values = found.values(treated, (score, outcome))
    assert abs(values[treated].mean() - values[~treated].mean()) < 4.0 * values.std() * math.sqrt(4.0 / n)


@pytest.mark.parametrize(("origin", "unit"), [(0.0, 1.0), (650.0, 60.0), (-1e6, 0.5), (1e-9, 1e-12)])
def test_auc_is_close_wherever_the_scores_lie(origin: float, unit: float) -> None:
    rng = np.random.default_rng(16)
    parts, found = [], [made("auc"), made("auc")]
    for part, shift in zip(found, (0.0, 2.0), strict=True):
        outcome = (rng.random(6000) < 0.1).astype(float)
        score = origin + unit * rng.normal(outcome * 1.2 + shift)
        part.learn(np.zeros(6000, dtype=bool), (score, outcome))
        parts.append((score, outcome))
    score, outcome = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    for merged in (found[0].merge(found[1]), found[1].merge(found[0]), made("auc").merge(found[0]).merge(found[1])):
        assert merged.figures()[0] == pytest.approx(sk.roc_auc_score(outcome, score), abs=1e-4)


@pytest.mark.parametrize("grid", [VALUES, SCORES])
def test_the_middle_of_a_bucket_lies_in_it(grid: Grid) -> None:
    ends = grid.buckets(np.array([-1e9, 1e9]))
    buckets = np.arange(ends[0] + 1, ends[1])
    np.testing.assert_array_equal(grid.buckets(grid.middles(buckets)), buckets)


def test_macro_f1_by_hand() -> None:
    found = made("macro_f1")
    predicted, outcome = np.array([0.0, 0.0, 1.0, 1.0] * 20), np.array([0.0, 1.0, 1.0, 1.0] * 20)
    found.learn(np.zeros(80, dtype=bool), (predicted, outcome))
    first, second = 2 * 1 / 3, 2 * 2 / 5
    assert found.figures()[0] == pytest.approx((first + second) / 2, rel=1e-12)
    # D̄: 60/80 and 100/80 of a row. The row says 0 where there is 1; the class 9 was never seen.
    values = found.values(np.zeros(2, dtype=bool), (np.array([0.0, 9.0]), np.array([1.0, 9.0])))
    expected = (first + (0 - first) / 0.75 + second + (0 - second) / 1.25) / 2
    np.testing.assert_allclose(values, [expected, (first + second) / 2], rtol=1e-12)


def test_macro_f1_measures_each_arm_by_its_own_number_of_events() -> None:
    """The challenger names class 0 in every row, the champion as often as it is there."""
    n = 40_000
    treated, outcome = np.arange(n) % 2 == 1, np.arange(n) // 2 % 2 * 1.0
    found = made("macro_f1")
    columns = (np.where(treated, 0.0, outcome), outcome)
    found.learn(treated, columns)
    values = found.values(treated, columns)
    champion, challenger = found.figures()
    assert champion == pytest.approx(1.0)
    assert challenger == pytest.approx(1 / 3)
    assert values[~treated].mean() == pytest.approx(1.0)
    assert values[treated].mean() == pytest.approx(1 / 3, abs=2e-3)


def test_log_loss_of_a_certainty_that_fails_is_finite_and_that_of_scikit_learn() -> None:
    score, outcome = np.array([0.0, 1.0, 1.0, 0.25]), np.array([1.0, 0.0, 1.0, 0.0])
    found = made("log_loss")
    found.learn(np.zeros(4, dtype=bool), (score, outcome))
    assert found.figures()[0] == pytest.approx(sk.log_loss(outcome, score), rel=1e-12)


def test_a_quantile_is_tested_as_a_share_above_the_champions() -> None:
    found = made("p50")
    found.learn(np.zeros(1000, dtype=bool), (np.linspace(1.0, 3.0, 1000),))
    values = found.values(np.array([True, False, True]), (np.array([2.1, 1.9, 5.0]),))
    assert values.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_the_scale_of_a_quantile_gives_its_own_units(shift: float) -> None:
    rng = np.random.default_rng(7)
    found = made("p95")
    score = information = 0.0
    for _ in range(20):
        treated = rng.random(4000) < 0.3
        columns = (np.exp(rng.normal(shift * treated, 0.5)) * 80.0,)
        values = found.values(treated, columns)
        if np.isfinite(values).all():
            score += float(((treated - 0.3) * values).sum())
            information += 0.21 * len(values)
        found.learn(treated, columns)
    champion, challenger = found.figures()
    assert champion is not None
    assert challenger is not None
    gap = 80.0 * math.exp(0.5 * 1.6449) * (math.exp(shift) - 1.0)
    assert score / information * found.scale == pytest.approx(gap, rel=0.1, abs=6.0)


def test_memory_is_bounded_whatever_comes() -> None:
    rng = np.random.default_rng(9)
    for kind, most in (("p99", 2 * 81 * 128), ("auc", 8 * 7200)):
        found = made(kind)
        n = 200_000
        values = np.ldexp(rng.normal(size=n), rng.integers(-300, 300, n))
        columns = (values,) if kind == "p99" else (values, (rng.random(n) < 0.5).astype(float))
        found.learn(rng.random(n) < 0.5, columns)
        state = found.state()
        parts = [part for part in state.values() if isinstance(part, dict)]
        assert sum(len(part["buckets"]) * len(part["counts"]) for part in parts) <= 3 * most
    with pytest.raises(StatsError, match="classes are more"):
        made("macro_f1").learn(np.zeros(20_000, dtype=bool), (np.arange(20_000.0), np.arange(20_000.0)))


@pytest.mark.parametrize("grid", [VALUES, SCORES])
def test_buckets_keep_the_order_and_lie_close(grid: Grid) -> None:
    rng = np.random.default_rng(10)
    values = np.sort(
        np.concatenate([rng.normal(size=4000) * 3, rng.random(4000), 1 - rng.random(2000) ** 9, [0, 0.5, 1]])
    )
    buckets = grid.buckets(values)
    assert (np.diff(buckets) >= 0).all()
    same = buckets[1:] == buckets[:-1]
    room = np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
    if grid.mirrored:
        room = np.where((values[:-1] > 0.5) & (values[1:] <= 1.0), 1.0 - values[:-1], room)
    assert (np.diff(values)[same] <= 2.0**-grid.bits * room[same] + 2.0**grid.lowest * 2).all()


def test_a_histogram_reads_back_quantiles_within_its_relative_error() -> None:
    rng = np.random.default_rng(11)
    values = np.concatenate([rng.lognormal(-3, 2, 20_000), -rng.lognormal(1, 1, 5_000)])
    histogram = Histogram(1)
    for part in np.array_split(values, 7):
        histogram.add(np.zeros(len(part), dtype=np.int64), VALUES.buckets(part))
    for level in (0.001, 0.05, 0.25, 0.5, 0.9, 0.99, 0.999):
        exact = float(np.quantile(values, level, method="inverted_cdf"))
        found = histogram.quantile(0, level, VALUES)
        assert found == pytest.approx(exact, rel=2**-7, abs=2**-40)
        assert found is not None
        assert histogram.below(0, found, VALUES) == pytest.approx(level, abs=1e-9)
    assert histogram.below(0, -1e9, VALUES) == 0.0
    assert histogram.below(0, 1e9, VALUES) == 1.0
    assert Histogram(1).quantile(0, 0.5, VALUES) is None


def test_matched_sums_compare_the_arms_and_not_the_calendar() -> None:
    """Simpson: both arms have 1 a row early and 3 late, but the challenger is mostly late."""
    total = np.zeros(2)
    for n, mean in (((990, 10), 1.0), ((500, 500), 3.0)):
        counts = np.array(n, dtype=np.float64)
        total += matched(counts, counts * mean)
    assert total[1] / total[0] == pytest.approx(1.0, rel=1e-12)
    assert matched(np.array([5.0, 0.0]), np.array([5.0, 0.0])).tolist() == [0.0, 0.0]


def test_a_named_class_may_be_a_text_once_its_number_is_known() -> None:
    metric = declare("m", "recall@spam", ("a", "b"))
    with pytest.raises(MetricError, match="spam"):
        influence(metric)
    found = influence(metric, positive=3.0)
    found.learn(np.zeros(4, dtype=bool), (np.array([3.0, 1.0, 3.0, 3.0]), np.array([3.0, 3.0, 1.0, 3.0])))
    assert found.figures()[0] == pytest.approx(2 / 3)
    assert from_dict(found.to_dict()).figures() == found.figures()


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_snapshot_is_refused(kind: str) -> None:
    good = learned(kind).to_dict()
    for key in good:
        broken = dict(good)
        if key in ("kind", "level"):
            broken[key] = "nonsense"
        elif key == "positive":
            broken[key] = [1]
        else:
            del broken[key]
        with pytest.raises(StatsError):
            from_dict(broken)
    with pytest.raises(StatsError):
        from_dict({})


def covariates(n: int, rng: np.random.Generator, rho: float = 0.8) -> tuple[Columns, Floats]:
    x = rng.normal(50.0, 4.0, n)
    y = 7.0 + rho * (x - 50.0) / 4.0 + math.sqrt(1 - rho * rho) * rng.normal(size=n)
    return (x,), y


def test_an_adjustment_takes_off_the_share_of_variance_that_its_covariate_explains() -> None:
    rng = np.random.default_rng(12)
    adjustment = Adjustment(1)
    plain = adjusted = 0.0
    for _ in range(40):
        columns, y = covariates(500, rng)
        treated = rng.random(500) < 0.1
        m = adjustment.predict(columns)
        if adjustment.to_dict()["n"]:
            plain += float(np.square((treated - 0.1) * (y - 7.0)).sum())
            adjusted += float(np.square((treated - 0.1) * (y - m)).sum())
        adjustment.learn(columns, y)
    assert adjusted / plain == pytest.approx(1 - 0.8**2, abs=0.03)


def test_an_adjustment_is_least_squares_on_the_past() -> None:
    rng = np.random.default_rng(13)
    x = rng.normal(size=(600, 3)) @ rng.normal(size=(3, 3)) + 1e6
    y = x @ [0.5, -1.0, 2.0] + rng.normal(size=600)
    adjustment = Adjustment(3)
    for part in np.array_split(np.arange(600), 5):
        adjustment.learn(tuple(x[part].T), y[part])
    design = np.column_stack([np.ones(600), x - x.mean(axis=0)])
    expected = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(adjustment.predict(tuple(x.T)), expected, rtol=1e-9)


def test_an_adjustment_merges_and_comes_back_from_a_snapshot() -> None:
    rng = np.random.default_rng(14)
    whole, left, right = Adjustment(1), Adjustment(1), Adjustment(1)
    for part in (left, right):
        columns, y = covariates(300, rng)
        whole.learn(columns, y)
        part.learn(columns, y)
    probe = covariates(50, rng)[0]
    np.testing.assert_allclose(left.merge(right).predict(probe), whole.predict(probe), rtol=1e-12)
    back = Adjustment.from_dict(json.loads(json.dumps(whole.to_dict())))
    np.testing.assert_array_equal(back.predict(probe), whole.predict(probe))
    with pytest.raises(StatsError):
        left.merge(Adjustment(2))
    with pytest.raises(StatsError):
        Adjustment.from_dict({"columns": 1})


def test_dependent_constant_and_missing_covariates_do_no_harm() -> None:
    rng = np.random.default_rng(15)
    (x,), y = covariates(2000, rng)
    simple, crowded = Adjustment(1), Adjustment(4)
    simple.learn((x,), y)
    crowded.learn((x, -3.0 * x, np.full(2000, 1e7), np.full(2000, NAN)), y)
    np.testing.assert_allclose(
        crowded.predict((x, -3.0 * x, np.full(2000, 2e7), np.full(2000, NAN))), simple.predict((x,)), rtol=1e-6
    )
    assert simple.predict((np.array([NAN]),))[0] == pytest.approx(y.mean())


def test_an_adjustment_without_past_or_covariates() -> None:
    assert Adjustment(1).predict((np.array([3.0, 4.0]),)).tolist() == [0.0, 0.0]
    few = Adjustment(1)
    few.learn((np.array([1.0, 2.0]),), np.array([1.0, 5.0]))
    assert few.predict((np.array([9.0]),)).tolist() == [3.0]
    few.learn((np.array([1.0, 2.0]),), np.array([NAN, NAN]))
    assert few.predict((np.array([9.0]),)).tolist() == [3.0]
    for columns, values in (((np.array([math.inf]),), [1.0]), ((np.array([1.0]),), [-math.inf])):
        with pytest.raises(OutcomeError, match="position 0"):
            few.learn(columns, np.array(values))
    with pytest.raises(StatsError):
        few.predict((np.zeros(2), np.zeros(2)))
    with pytest.raises(StatsError):
        Adjustment(0)
