"""From rows to numbers: the figures against scikit-learn, each linearisation by hand, and what a past may change."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from evaluator.stats.errors import StatsError
from evaluator.stats.metrics import Influence, influence
from evaluator.stats.metrics.base import FEWEST_EVENTS, MEMORY, matched
from evaluator.stats.metrics.declaration import ColumnError, MetricError, declare

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


def state_of(found: Influence, kind: str) -> tuple[object, ...]:
    """What it has learned, as far as any answer shows it; NaNs are alike."""
    return found.figures(), found.in_units(0.01), repr(found.values(*rows(kind, 200, 51)).tolist())


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
    difference = values[treated].mean() - values[~treated].mean()
    spread = values.std() / math.sqrt(treated.sum())
    assert found.in_units(difference) == pytest.approx(challenger - champion, abs=0.15 * found.in_units(spread) + 1e-12)
    if not kind.startswith("p") or kind in ("precision", "proportion"):
        assert values[~treated].mean() == pytest.approx(champion, rel=2e-3)


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
    assert state_of(with_holes, kind) == state_of(without, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_batch_and_an_empty_one_leave_everything_as_it_was(kind: str) -> None:
    found = learned(kind)
    before = state_of(found, kind)
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
    assert state_of(found, kind) == before


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


def test_memory_is_bounded_whatever_comes() -> None:
    rng = np.random.default_rng(9)
    for kind, most in (("p99", 2 * 81 * 128), ("auc", 8 * 7200)):
        found = made(kind)
        n = 200_000
        values = np.ldexp(rng.normal(size=n), rng.integers(-300, 300, n))
        columns = (values,) if kind == "p99" else (values, (rng.random(n) < 0.5).astype(float))
        found.learn(rng.random(n) < 0.5, columns)
        assert len(pickle.dumps(found)) <= 8 * 3 * most
    with pytest.raises(StatsError, match="classes are more"):
        made("macro_f1").learn(np.zeros(20_000, dtype=bool), (np.arange(20_000.0), np.arange(20_000.0)))


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
