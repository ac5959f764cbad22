"""`gauntlet.compare` on models and rows of every sort, and what it says to hostile ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from statsmodels.stats.multitest import multipletests

import gauntlet
from evaluator.offline.comparator.curves import roc_curve
from gauntlet.errors import BadInput, ModelUnusable
from gauntlet.markov import MarkovRegimes

N, DAYS = 1500, 25


def frame(seed: int = 1, rows: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    made = pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows)})
    made["site"] = np.where(rng.random(rows) < 0.4, "north", "south")
    made["day"] = np.sort(rng.integers(0, DAYS, rows))
    made["y"] = np.where(made.a + made.b - 0.8 + rng.logistic(size=rows) > 0, "late", "on time")
    made["minutes"] = 10 * made.a + 5 * made.b + rng.normal(scale=5, size=rows)
    return made


TRAIN, TEST = frame(0), frame(1)
OLD = LogisticRegression().fit(TRAIN[["a"]], TRAIN.y)
NEW = LogisticRegression().fit(TRAIN[["a", "b"]], TRAIN.y)
QUICK: dict[str, Any] = {"repetitions": 200, "latency": False}


def compare(baseline: Any, candidate: Any, data: Any = TEST, **options: Any) -> Any:
    return gauntlet.compare(baseline, candidate, data, **{"target": "y", "cluster": "day", **QUICK, **options})


def test_a_better_model_is_promoted_on_numbers_that_scikit_learn_gives() -> None:
    report = compare(OLD, NEW, threshold=0.02, slice="site")
    assert (report.decision, report.primary, report.rows, report.blocks) == ("promote", "auc", N, DAYS)
    assert "at least the 0.02 asked for" in report.reasons[0]
    auc = report.metrics["auc"]
    for value, model, columns in ((auc.baseline, OLD, ["a"]), (auc.candidate, NEW, ["a", "b"])):
        chance = model.predict_proba(TEST[columns])[:, 1]
        assert value == pytest.approx(roc_auc_score(TEST.y == "on time", chance), abs=1e-12)
    assert auc.improvement == pytest.approx(auc.candidate - auc.baseline)
    assert 0 < auc.lower < auc.improvement < auc.upper
    loss = report.metrics["log_loss"]
    assert (loss.better, loss.role) == ("lower", "shown")
    assert loss.improvement == pytest.approx(loss.baseline - loss.candidate)
    assert [(one.column, one.value) for one in report.slices] == [("site", "north"), ("site", "south"), (None, "late")]
    holm = multipletests([one.p_value for one in report.slices], method="holm")[1]
    assert [one.adjusted_p_value for one in report.slices] == pytest.approx(holm.tolist())


def test_the_worse_and_the_same_model_are_not_promoted() -> None:
    worse = compare(NEW, OLD)
    assert worse.decision == "keep"
    assert worse.metrics["auc"].upper < 0
    same = compare(OLD, OLD)
    assert (same.decision, same.metrics["auc"].improvement, same.metrics["auc"].p_value) == ("keep", 0.0, 1.0)
    assert "both models give the same answers to every row" in same.notes


def test_a_regression_is_judged_by_its_error() -> None:
    old = LinearRegression().fit(TRAIN[["a"]], TRAIN.minutes)
    new = LinearRegression().fit(TRAIN[["a", "b"]], TRAIN.minutes)
    report = compare(old, new, target="minutes", metric=["rmse", "r2", "mae"], threshold=0.5)
    assert (report.decision, report.task) == ("promote", "regression")
    assert report.metrics["r2"].candidate == pytest.approx(r2_score(TEST.minutes, new.predict(TEST[["a", "b"]])))
    assert report.metrics["rmse"].improvement > 1
    assert report.slices == ()
    assert report.curves.roc == {}
    assert "<svg" in gauntlet.to_html(report)


def test_rows_of_a_cluster_widen_the_interval() -> None:
    """The same rows, each day ten times: no new evidence, unless rows are taken as independent."""
    copied = pd.concat([frame(3, 150)] * 10).reset_index(drop=True)
    copied["copy"] = np.tile(np.arange(150), 10)
    by_row, by_cluster = (compare(OLD, NEW, copied, cluster=one).metrics["auc"] for one in (None, "copy"))
    assert by_cluster.improvement == pytest.approx(by_row.improvement)
    assert by_cluster.upper - by_cluster.lower > 2 * (by_row.upper - by_row.lower)


def test_a_time_column_is_cut_into_days_or_hours() -> None:
    data = TEST.assign(at=1.4e9 + 3600.0 * np.arange(N) / 10)  # 150 hours, out of order
    data = data.sample(frac=1, random_state=1)
    reports = {
        one: compare(OLD, NEW, data.drop(columns="day"), time="at", cluster=one) for one in (None, "day", "hour")
    }
    assert reports[None].blocks == reports["day"].blocks == 7
    assert reports["hour"].blocks in (150, 151)
    assert "7 values of day are few" in reports["day"].notes[0]
    assert compare(OLD, NEW, data, time="at", cluster="day").blocks == DAYS, "a column of that name goes before"


def test_a_column_of_times_called_day_is_no_cluster_of_its_own_rows() -> None:
    """Scenario: `--cluster day` on a table whose column `day` has the time of each row."""
    data = TEST.assign(day=pd.date_range("2026-01-01", periods=N, freq="17min"))
    assert compare(OLD, NEW, data, time="day").blocks == 18
    alone = compare(OLD, NEW, data)
    assert "--cluster day has 1,500 values in 1,500 rows" in alone.notes[0]
    assert "--time day" in alone.notes[0]
    assert not any("values in" in note for note in compare(OLD, NEW).notes)


def test_classes_in_another_order_are_put_into_the_champions() -> None:
    class Turned:
        classes_ = NEW.classes_[::-1]
        feature_names_in_ = NEW.feature_names_in_

        def predict_proba(self, rows: Any) -> Any:
            return NEW.predict_proba(rows)[:, ::-1]

    assert compare(OLD, Turned()).metrics == compare(OLD, NEW).metrics


def test_a_slice_that_is_harmed_keeps_the_champion() -> None:
    class Blind:
        classes_, feature_names_in_ = NEW.classes_, np.array(["a", "b", "site"])

        def predict_proba(self, rows: Any) -> Any:
            out = NEW.predict_proba(rows[["a", "b"]])
            return np.where((rows["site"] == "north").to_numpy()[:, None], out[:, ::-1], out)

    twice = pd.concat([TEST[TEST.site == "south"]] * 3 + [TEST[TEST.site == "north"][:150]])
    report = compare(OLD, Blind(), twice, metric="accuracy", threshold=0.0, slice="site")
    assert report.decision == "keep"
    assert [one.harmed for one in report.slices if one.column] == [True, False]
    assert any("worse in site = north" in reason for reason in report.reasons)


def test_too_few_days_and_one_class_are_no_answer() -> None:
    few = compare(OLD, NEW, TEST[TEST.day < 4])
    assert (few.decision, few.metrics["auc"].lower) == ("no_answer", None)
    assert "4 blocks are too few" in few.reasons[0]
    one = compare(OLD, NEW, TEST[TEST.y == "late"])
    assert (one.decision, one.metrics["auc"].improvement) == ("no_answer", None)
    assert "one class only" in one.reasons[0]
    assert "no row of class on time" in one.notes
    for report in (few, one):
        assert "NO ANSWER" in gauntlet.to_text(report)
        assert "No answer" in gauntlet.to_html(report)


class Odd:
    """A model that answers as it is told."""

    classes_, feature_names_in_ = NEW.classes_, np.array(["a"])

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict_proba(self, rows: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.tile(self.answer, (len(rows), 1))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Odd(RuntimeError("no weights")), "challenger Odd fails on rows 0 to 1,499: RuntimeError: no weights"),
        (Odd([np.nan, np.nan]), "gives no usable answer to row 0"),
        (Odd([0.5, 0.2]), "gives no usable answer to row 0"),
        (Odd([0.2, 0.3, 0.5]), "answered in shape"),
        ("nowhere.skops", "challenger: model nowhere.skops: there is no such file"),
    ],
)
def test_a_model_that_cannot_answer_is_named(model: Any, named: str) -> None:
    with pytest.raises(ModelUnusable, match=named):
        compare(OLD, model)


@pytest.mark.parametrize(
    ("data", "options", "named"),
    [
        (TEST.drop(columns="b"), {}, "there is no column 'b'"),
        (TEST.drop(columns="y"), {}, "there is no column 'y'"),
        (TEST.assign(y=TEST.y.mask(TEST.index == 7)), {}, "row 7 of y .*no target; leave out the rows without one"),
        (TEST.assign(y=1), {}, "row 0 of y .*none of the classes"),
        (TEST.assign(a="x"), {}, "row 0 of a"),
        (TEST.assign(b=np.inf), {}, "an infinite number"),
        (TEST[:0], {}, "no rows"),
        (TEST.assign(day=TEST.site.mask(TEST.index == 3)), {}, "--cluster day: row 3"),
        (TEST, {"cluster": "hour"}, "--cluster hour needs --time"),
        (TEST, {"cluster": "week"}, "there is no column 'week'"),
        (TEST, {"slice": "a"}, "--slice a: it has .* values"),
        (TEST, {"metric": "acuracy"}, "did you mean 'accuracy'"),
        (TEST, {"metric": "rmse"}, "no metric of this task"),
        (TEST, {"threshold": 2}, "2 is asked of auc, which is from 0 to 1: write a percentage as a share"),
        (TEST, {"metric": ["log_loss", "recall@late:margin=1"]}, "1 is asked of recall@late"),
        (TEST, {"time": "site", "cluster": "hour"}, "no time"),
    ],
)
def test_rows_and_options_that_do_not_fit_are_refused_by_name(data: Any, options: Any, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        compare(OLD, NEW, data, **options)


def test_a_target_that_is_no_number_and_other_classes_are_refused() -> None:
    model = LinearRegression().fit(TRAIN[["a"]], TRAIN.minutes)
    with pytest.raises(BadInput, match=r"row 2 of minutes .*not a finite number"):
        compare(model, model, TEST.assign(minutes=TEST.minutes.mask(TEST.index == 2)), target="minutes")
    with pytest.raises(BadInput, match=r"row 0 of minutes .*beyond 1e\+150"):
        compare(model, model, TEST.assign(minutes=1e200), target="minutes")
    other = LogisticRegression().fit(TRAIN[["a"]], TRAIN.y.replace("late", "delayed"))
    with pytest.raises(BadInput, match="can't be compared"):
        compare(OLD, other)
    with pytest.raises(ModelUnusable, match="task"):
        compare(OLD, model)


def test_a_function_of_rows_is_a_model_as_in_a_configuration() -> None:
    def coin(rows: Any) -> Any:
        return [0.5 for _ in rows]

    found = compare(coin, NEW, features=["a", "b"], classes=list(NEW.classes_), latency=False)
    better = found.metrics["auc"]
    assert better.baseline == 0.5
    assert better.candidate == pytest.approx(
        roc_auc_score(TEST.y == NEW.classes_[1], NEW.predict_proba(TEST[["a", "b"]])[:, 1])
    )
    with pytest.raises(ModelUnusable, match=r"champion function: .*given rows, limit"):
        compare(lambda rows, limit: rows, NEW)


def test_a_model_without_names_needs_them() -> None:
    model = LogisticRegression().fit(TRAIN[["a", "b"]].to_numpy(), TRAIN.y)
    with pytest.raises(ModelUnusable, match="--features"):
        compare(OLD, model)
    named = compare(OLD, model, features=["a", "b"])
    assert named.metrics["auc"].candidate == pytest.approx(compare(OLD, NEW).metrics["auc"].candidate, abs=1e-6)


def test_the_answer_depends_on_nothing_but_its_inputs() -> None:
    first, second = (compare(OLD, NEW, seed=5) for _ in range(2))
    assert first == second
    assert gauntlet.to_html(first) == gauntlet.to_html(second)
    assert compare(OLD, NEW, seed=6).metrics["auc"].lower != first.metrics["auc"].lower


def test_a_thinned_roc_curve_keeps_its_ends_and_its_area() -> None:
    rng = np.random.default_rng(2)
    score = rng.normal(size=5000)
    positive = score + rng.logistic(size=5000) > 0
    across, up = roc_curve(score, positive)
    assert len(across) <= 200
    assert (across[0], up[0], across[-1], up[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.trapezoid(up, across) == pytest.approx(roc_auc_score(positive, score), abs=1e-3)


def test_rows_that_are_copies_are_counted_where_rows_are_taken_as_independent() -> None:
    """Scenario: a join has multiplied the rows by twenty, so that the interval is narrower by its root."""
    said = "28,500 of 30,000 rows equal an earlier one in the truth and in every feature"
    once, often = (compare(OLD, NEW, data, cluster=None) for data in (TEST, pd.concat([TEST] * 20)))
    widths = [one.metrics["auc"].upper - one.metrics["auc"].lower for one in (once, often)]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(20), rel=0.1)
    assert any(note.startswith(said) for note in often.notes)
    assert not any("equal an earlier one" in note for note in (*once.notes, *compare(OLD, NEW).notes))


def test_regime_models_are_held_against_the_limits_of_their_spectral_gap() -> None:
    rng = np.random.default_rng(5)
    present = rng.integers(0, 2, size=3000)
    following = np.where(rng.random(3000) < 0.2, 1 - present, present)
    rows = pd.DataFrame({"regime": present, "y": following})
    model = MarkovRegimes().fit(rows[["regime"]], rows.y)
    stuck = MarkovRegimes().fit(rows[["regime"]], np.where(rng.random(3000) < 0.9, present, following))
    report = compare(model, stuck, rows, cluster=None)
    (gap,) = [factor for factor in report.factors if factor.name == "spectral gap within 0.1 to 0.5"]
    assert gap.met is False
    assert f"{model.spectral_gap:.4g} → {stuck.spectral_gap:.4g}" in gap.reason


def test_slices_in_several_spellings_are_told() -> None:
    respelt = TEST.assign(site=TEST.site.where(np.arange(N) % 2 == 0, TEST.site.str.upper() + " "))
    assert (
        "--slice site has values in several spellings, each taken by itself: 'NORTH ' and 'north'; 'SOUTH ' and 'south'"
        in compare(OLD, NEW, respelt, slice="site").notes
    )
    assert not any("spellings" in note for note in compare(OLD, NEW, slice="site").notes)
