"""Two whole tables: what moved is named with its numbers, both modes, and odd input is a finding, never a crash."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from evaluator.drift import Coded, DriftSettings, Profile, ProfileMismatchError, TableComparison, TableReport

Table = dict[str, Any]


def table(seed: int, rows: int, shift: float = 0.0, *, turned: bool = False, prior: float = 0.0) -> Table:
    """A 0/1 outcome with its true probability as score; `turned` speaks against it, `prior` moves the outcomes only."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.0, rows)
    score = 1 / (1 + np.exp(-2 * x))
    truth = rng.random(rows) < np.clip((1 - score if turned else score) + prior, 0, 1)
    return {
        "x": x,
        "heavy": rng.lognormal(size=rows),
        "city": rng.choice(["rome", "oslo", "lima"], size=rows, p=[0.5, 0.3, 0.2]).tolist(),
        "regime": np.cumsum(np.where(rng.random(rows) < 0.2, rng.integers(1, 4, rows), 0)) % 4,
        "score": score,
        "prediction": (score > 0.5) * 1,
        "y": truth * 1,
    }


ROLES: Table = {"target": "y", "prediction": "prediction", "score": "score", "regimes": ["regime"]}
REFERENCE = table(0, 10_000)


def compare(
    reference: Table, current: Table, *, settings: DriftSettings | None = None, target: str | None = None, **roles: Any
) -> TableReport:
    """Two whole tables, the target a column of both."""
    profile = Profile.fit(
        {name: values for name, values in reference.items() if name != target},
        reference_id="reference",
        targets=None if target is None else reference[target],
        **roles,
    )
    comparison = TableComparison(profile, settings)
    inputs = {name: values for name, values in current.items() if name != target}
    comparison.add(inputs, targets=None if target is None else current.get(target))
    return comparison.report()


def against(current: Table, **settings: Any) -> TableReport:
    return compare(REFERENCE, current, settings=DriftSettings(**settings), **ROLES)


def kinds(report: TableReport) -> set[tuple[str, str]]:
    return {signal.key for signal in report.signals}


def test_a_table_like_the_reference_is_quiet_and_says_so_in_json() -> None:
    report = against(table(1, 5000))
    assert (report.severity, report.root_cause, report.action, report.confidence) == ("NONE", "none", "none", 0.0)
    assert [feature.name for feature in report.features] == ["x", "heavy", "city", "regime"]
    assert [output.name for output in report.outputs] == ["score", "prediction", "target"]
    assert not any(feature.drifted for feature in (*report.features, *report.outputs))
    assert report.quality.score == 1.0
    assert report.quality.findings == ()
    assert report.performance is not None
    assert [metric.breached for metric in report.performance.metrics] == [False, False]
    assert [regime.drifted for regime in report.regimes] == [False]
    raw = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert raw["features"][0]["name"] == "x"
    assert (raw["reference_rows"], raw["current_rows"]) == (10_000, 5000)


def test_moved_inputs_are_covariate_and_the_distances_are_those_of_the_libraries() -> None:
    current = table(2, 5000, shift=0.8)
    report = against(current)
    assert (report.root_cause, report.action) == ("covariate", "observe")
    assert ("distribution", "x") in kinds(report)
    x = report.features[0]
    exact = float(ks_2samp(REFERENCE["x"], current["x"]).statistic)
    assert x.drifted
    assert x.lower <= exact <= x.upper
    assert x.p_value < 1e-10
    assert x.wasserstein == pytest.approx(
        wasserstein_distance(REFERENCE["x"], current["x"]) / np.std(REFERENCE["x"]), rel=0.02
    )
    assert report.features[1].psi < 0.02 < 0.25 < x.psi
    assert [signal.feature for signal in report.blamed] == ["x"]


def test_a_turned_concept_is_seen_on_outcomes_and_not_by_the_scores() -> None:
    report = against(table(3, 5000, turned=True))
    assert (report.severity, report.root_cause, report.action) == ("CRITICAL", "concept", "retrain_recent")
    assert kinds(report) == {("accuracy", "")}
    assert report.performance is not None
    seen, estimated = report.performance.metrics
    assert seen.breached
    assert seen.change < seen.bound < seen.limit < 0
    assert estimated.estimated
    assert estimated.current == pytest.approx(estimated.reference, abs=0.02)


def test_outcomes_that_moved_alone_are_prior_drift() -> None:
    columns = ("x", "heavy", "city", "y")
    current = table(4, 5000, prior=0.35)
    report = compare({n: REFERENCE[n] for n in columns}, {n: current[n] for n in columns}, target="y")
    assert ("prior", "target") in kinds(report)
    assert (report.root_cause, report.action) == ("prior", "observe")


def test_scores_see_a_loss_without_outcomes_and_are_never_critical_alone() -> None:
    # Traffic that moved to where the model can't tell: the scores know.
    current = table(5, 5000)
    current["score"] = 0.5 + (current["score"] - 0.5) / 10
    report = compare(REFERENCE, {n: v for n, v in current.items() if n != "y"}, **ROLES)
    assert ("estimated_accuracy", "") in kinds(report)
    assert report.severity == "MEDIUM"
    assert report.root_cause == "covariate"


def test_transitions_that_changed_are_a_regime_and_nothing_else() -> None:
    current = table(6, 5000)
    rng = np.random.default_rng(6)
    current["regime"] = np.cumsum(np.where(rng.random(5000) < 0.4, rng.integers(1, 4, 5000), 0)) % 4
    report = against(current)
    assert kinds(report) == {("regime", "regime")}
    assert (report.severity, report.root_cause) == ("LOW", "regime")
    assert report.regimes[0].change == pytest.approx(0.2, abs=0.05)
    assert report.regimes[0].spectral_gap_now > 1.5 * report.regimes[0].spectral_gap_before


def test_the_bare_thresholds_alarm_on_little_where_the_gated_rules_wait() -> None:
    rng = np.random.default_rng(7)
    few = {name: values[:60] for name, values in table(7, 60).items()}
    few["x"] = rng.normal(0.3, 1.0, 60)
    assert against(few).severity == "NONE"
    assert against(few, mode="simple").severity != "NONE"
    # A certain, small shift: the p value alone says drift, effect and evidence together do not.
    many = table(8, 5000, shift=0.25)
    assert ("distribution", "x") in kinds(against(many, mode="simple"))
    assert ("distribution", "x") not in kinds(against(many))


def test_outliers_are_a_burst_and_no_shift() -> None:
    current = table(9, 4000)
    current["x"] = np.where(np.arange(4000) % 12 == 0, 40.0, current["x"])
    report = compare({"x": REFERENCE["x"]}, {"x": current["x"]})
    assert kinds(report) == {("outliers", "x")}
    assert report.root_cause == "outlier_burst"
    assert ("outliers", "x") in kinds(compare({"x": REFERENCE["x"]}, {"x": current["x"]}, settings=SIMPLE))


SIMPLE = DriftSettings(mode="simple")


def test_pieces_in_any_cut_give_the_whole() -> None:
    current = table(10, 3000, shift=0.5)
    names = [name for name in current if name != "y"]
    profile = Profile.fit(
        {name: REFERENCE[name] for name in names},
        reference_id="r",
        targets=REFERENCE["y"],
        prediction="prediction",
        score="score",
        regimes=["regime"],
    )

    def part(start: int, end: int) -> TableComparison:
        one = TableComparison(profile)
        one.add({name: current[name][start:end] for name in names}, targets=current["y"][start:end])
        return one

    whole = part(0, 3000).report()
    for cuts in ([0, 1, 700, 3000], [0, 1500, 1500, 3000], [0, 2999, 3000]):
        fed = TableComparison(profile)
        merged: TableComparison | None = None
        for start, end in itertools.pairwise(cuts):
            fed.add({name: current[name][start:end] for name in names}, targets=current["y"][start:end])
            merged = part(start, end) if merged is None else merged + part(start, end)
        assert merged is not None
        assert fed.report() == merged.report() == whole
    with pytest.raises(ProfileMismatchError):
        _ = part(0, 10) + TableComparison(Profile.fit({"x": [1.0]}, reference_id="r"))


def test_regression_has_r2_and_rmse() -> None:
    rng = np.random.default_rng(11)

    def rows(n: int, noise: float) -> Table:
        prediction = rng.normal(size=n)
        return {"prediction": prediction, "y": prediction + rng.normal(scale=noise, size=n)}

    reference = rows(8000, 0.5)
    for noise, found in ((0.5, set()), (0.65, {("rmse", ""), ("r2", "")})):
        report = compare(reference, rows(4000, noise), target="y", prediction="prediction")
        assert kinds(report) == found
        assert report.performance is not None
        assert report.performance.task == "regression"
        rmse = next(metric for metric in report.performance.metrics if metric.name == "rmse")
        assert rmse.current == pytest.approx(noise, rel=0.05)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda t: t.pop("x"), ("column_gone", "x")),
        (lambda t: t.update(new=[1.0] * 2000), ("column_extra", "new")),
        (lambda t: t.update(x=[str(value) for value in t["x"]]), ("type_change", "x")),
        (lambda t: t.update(city=list(range(2000))), ("type_change", "city")),
        (lambda t: t.update(x=[None] * 2000), ("empty", "x")),
        (lambda t: t.update(x=[None if i % 9 == 0 else 0.1 * i for i in range(2000)]), ("missing", "x")),
        (lambda t: t.update(x=np.full(2000, 1.5)), ("constant", "x")),
        (lambda t: t.update(x=np.where(np.arange(2000) % 50 == 0, np.inf, t["x"])), ("infinite", "x")),
        (lambda t: t.update(city=[f"c{i}" for i in range(2000)]), ("unseen_values", "city")),
        (lambda t: t.update(regime=np.full(2000, 77)), ("unseen_values", "regime")),
    ],
)
def test_odd_input_is_a_named_finding(change: Any, finding: tuple[str, str]) -> None:
    current = table(12, 2000)
    change(current)
    report = against(current)
    assert finding in {(one.kind, one.feature) for one in report.quality.findings}
    assert all(one.text and 0 < one.share <= 1 for one in report.quality.findings)
    json.dumps(report.to_dict(), allow_nan=False)
    against(current, mode="simple")


def test_a_required_column_gone_is_quarantine_never_retraining() -> None:
    current = table(13, 3000, turned=True)
    del current["x"]
    report = against(current)
    assert (report.root_cause, report.action) == ("quality", "quarantine")
    assert report.quality.score <= 0.5
    assert report.quality.findings[0].text == "column x is gone"


@pytest.mark.parametrize("rows", [0, 1, 10])
def test_few_rows_are_said_to_be_few_on_either_side(rows: int) -> None:
    few = {name: values[:rows] for name, values in REFERENCE.items()}
    report = against(few)
    assert report.severity == "NONE"
    assert report.quality.findings[0].kind == "few_rows"
    json.dumps(report.to_dict(), allow_nan=False)
    if rows:
        report = compare(few, table(14, 2000), **ROLES)
        assert "few_rows" in {one.kind for one in report.quality.findings}
        json.dumps(report.to_dict(), allow_nan=False)


def test_a_constant_or_empty_reference_column_crashes_nothing() -> None:
    reference = {"k": [5.0] * 500, "n": [None] * 500, "s": ["a"] * 500, "i": [np.inf] * 500}
    for current in (reference, {"k": [6.0] * 300, "n": [1.0] * 300, "s": ["b"] * 300, "i": [-np.inf] * 300}):
        json.dumps(compare(reference, current).to_dict(), allow_nan=False)
    moved = compare(reference, {"k": [6.0] * 300, "n": [None] * 300, "s": ["b"] * 300, "i": [np.inf] * 300})
    assert {("distribution", "k"), ("categories", "s")} <= kinds(moved)


def test_wrong_calls_are_the_callers_error() -> None:
    with pytest.raises(ValueError, match="no such column: nope"):
        compare(REFERENCE, REFERENCE, prediction="nope")
    with pytest.raises(ValueError, match="3 rows with 2 targets"):
        TableComparison(Profile.fit({"x": [1.0]}, reference_id="r")).add({"x": [1.0] * 3}, targets=[1, 2])
    with pytest.raises(ValueError, match="mode is gated or simple"):
        DriftSettings(mode="loose")  # type: ignore[arg-type]


def test_coded_columns_are_the_strings_they_stand_for() -> None:
    words = REFERENCE["city"]
    names = tuple(sorted(set(words)))
    coded = Coded(np.array([names.index(word) for word in words]), names)
    assert list(coded) == words
    assert coded[:3][1] == words[1]
    first, second = Profile.fit({"c": words}, reference_id="r"), Profile.fit({"c": coded}, reference_id="r")
    assert first.hash == second.hash
    holes = Coded(np.array([0, -1, 1, -1] * 600), ("rome", "kyiv"))
    for rows in (100, 2400):  # one row at a time and column by column
        strings = list(holes)[:rows]
        assert (first.encode({"c": holes[:rows]}) == first.encode({"c": strings})).all()
        one, other = TableComparison(first), TableComparison(first)
        one.add({"c": holes[:rows]})
        other.add({"c": strings})
        assert (one.counts == other.counts).all()
