"""Two tables compared: what is found, what is not, and what is said about data that is not fit to be judged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features, finding_kinds, labelled, slow_and_quick

import gauntlet
from gauntlet.errors import BadInput

ROWS, NAMES = 800, ("a", "b", "c")


REFERENCE, SAME = features(1, ROWS, *NAMES), features(2, ROWS, *NAMES)


def test_the_same_distribution_is_quiet_and_is_json() -> None:
    found = gauntlet.drift(REFERENCE, SAME)
    assert (found.severity, found.root_cause, found.action, found.drifted) == ("NONE", "none", "none", ())
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {"severity", "confidence", "root_cause", "action", "features", "quality", "performance"} <= set(answer)
    assert {"name", "statistic", "lower", "upper", "p_value", "drifted"} <= set(answer["features"][0])
    assert set(answer["quality"]) == {"score", "findings"}
    assert answer["quality"]["score"] == 1.0


def test_a_shift_is_found_in_its_feature_alone_with_the_exact_distance_inside_its_interval() -> None:
    from scipy.stats import ks_2samp

    moved = SAME.assign(a=SAME["a"] + 1.0)
    found = gauntlet.drift(REFERENCE, moved)
    assert found.drifted == ("a",)
    assert found.root_cause == "covariate"
    assert found.features[0].name == "a"  # drifted ones come first
    for feature in found.features:
        if feature.kind == "numeric":
            exact = ks_2samp(REFERENCE[feature.name], moved[feature.name]).statistic
            assert feature.lower is not None
            assert feature.upper is not None
            assert feature.lower - 1e-12 <= exact <= feature.upper + 1e-12


def test_an_effect_without_evidence_is_no_drift_when_gated_but_is_when_simple() -> None:
    few = features(7, 40, *NAMES)  # a distance above 0.15 by chance alone
    gated, simple = gauntlet.drift(REFERENCE, few), gauntlet.drift(REFERENCE, few, mode="simple")
    assert max(feature.statistic or 0.0 for feature in gated.features) > 0.15
    assert gated.severity == "NONE"
    assert simple.severity != "NONE"


def test_evidence_without_an_effect_is_no_drift_when_gated_but_is_when_simple() -> None:
    before, now = features(3, 20_000, *NAMES), features(4, 20_000, *NAMES)
    now["a"] += 0.1
    gated, simple = gauntlet.drift(before, now), gauntlet.drift(before, now, mode="simple")
    a = next(feature for feature in gated.features if feature.name == "a")
    assert a.adjusted_p_value is not None
    assert a.adjusted_p_value < 1e-6
    assert (gated.drifted, simple.drifted) == ((), ("a",))


def test_rows_that_depend_on_their_neighbours_weigh_less_unless_order_means_nothing() -> None:
    sides = [(slow_and_quick(seed, 4000, 0.99), slow_and_quick(seed + 100, 4000, 0.99)) for seed in range(6)]
    ordered = [gauntlet.drift(*pair) for pair in sides]
    shuffled = [gauntlet.drift(*pair, ordered=False) for pair in sides]
    assert [found.severity for found in ordered] == ["NONE"] * 6
    assert sum(found.severity != "NONE" for found in shuffled) >= 3
    worth = {feature.name: feature.effective_rows for feature in ordered[0].features}
    assert worth["slow"] is not None
    assert worth["slow"] < 400
    assert any("depend" in note for note in ordered[0].notes)


def test_one_wild_value_in_the_reference_hides_nothing() -> None:
    wild = REFERENCE.copy()
    wild.loc[5, "a"] = 1e5
    found = gauntlet.drift(wild, SAME.assign(a=SAME["a"] + 0.8))
    assert found.drifted == ("a",)


@pytest.mark.parametrize(
    ("current", "finding"),
    [
        (SAME.drop(columns="a"), ("column_gone", "a")),
        (SAME.assign(a=[f"w{i % 7}" for i in range(ROWS)]), ("type_change", "a")),
        (SAME.assign(c=np.arange(ROWS) % 3), ("type_change", "c")),
        (SAME.assign(a=np.nan), ("empty", "a")),
        (SAME.assign(c=None), ("empty", "c")),
        (SAME.assign(a=np.where(np.arange(ROWS) % 3 == 0, np.inf, SAME["a"])), ("infinite", "a")),
        (SAME.assign(a=np.where(np.arange(ROWS) % 3 == 0, np.nan, SAME["a"])), ("missing", "a")),
    ],
    ids=["gone", "texts", "numbers", "empty", "empty texts", "infinite", "missing"],
)
def test_damage_is_named_and_asks_for_quarantine_not_for_retraining(
    current: pd.DataFrame, finding: tuple[str, str]
) -> None:
    found = gauntlet.drift(REFERENCE, current)
    assert finding in finding_kinds(found)
    assert (found.root_cause, found.action) == ("quality", "quarantine")
    assert found.quality.score is not None
    assert found.quality.score < 0.95


@pytest.mark.parametrize(
    ("current", "finding"),
    [
        (SAME.assign(new=1.0), ("column_extra", "new")),
        (SAME.head(10), ("few_rows", None)),
        (SAME.head(1), ("few_rows", None)),
        (SAME.assign(a=1.0), ("constant", "a")),
        (SAME.assign(c=[f"v{i % 90}" for i in range(ROWS)]), ("unseen_values", "c")),
    ],
    ids=["extra", "ten rows", "one row", "constant", "unseen"],
)
def test_oddities_are_named_and_are_no_crash(current: pd.DataFrame, finding: tuple[str, str | None]) -> None:
    assert finding in finding_kinds(gauntlet.drift(REFERENCE, current))


@pytest.mark.parametrize(
    ("reference", "severity"),
    [(REFERENCE.assign(a=np.nan), "UNKNOWN"), (REFERENCE.head(10), "NONE"), (REFERENCE.head(1), "UNKNOWN")],
    ids=["empty column", "ten rows", "one row"],
)
def test_a_poor_reference_finds_nothing_rather_than_everything(reference: pd.DataFrame, severity: str) -> None:
    found = gauntlet.drift(reference, SAME)
    assert (found.severity, found.signals) == (severity, ())


def test_ten_rows_far_away_are_evidence_enough() -> None:
    assert "a" in gauntlet.drift(REFERENCE, SAME.head(10).assign(a=50.0)).drifted


def test_times_counters_and_identifiers_are_left_out_with_a_word_unless_asked_for() -> None:
    def with_keys(table: pd.DataFrame, start: str) -> pd.DataFrame:
        stamps = pd.date_range(start, periods=ROWS, freq="h")
        return table.assign(
            at=stamps, text_at=stamps.astype(str), row=range(ROWS), user=[f"{start}-{i}" for i in range(ROWS)]
        )

    before, now = with_keys(REFERENCE, "2020-01-01"), with_keys(SAME, "2021-01-01")
    found = gauntlet.drift(before, now)
    assert {feature.name for feature in found.features} == {"a", "b", "c"}
    assert {("timestamp", "at"), ("timestamp", "text_at"), ("counter", "row"), ("identifier", "user")} <= finding_kinds(
        found
    )
    assert found.severity == "NONE"
    assert [feature.name for feature in gauntlet.drift(before, now, features="row").features] == ["row"]


def test_a_reference_sorted_by_a_feature_still_watches_it() -> None:
    found = gauntlet.drift(REFERENCE.sort_values("a"), SAME.assign(a=SAME["a"] + 1.0), ordered=False)
    assert found.drifted == ("a",)


def test_only_the_asked_features_are_watched() -> None:
    found = gauntlet.drift(REFERENCE, SAME.assign(a=SAME["a"] + 3.0), features=["b"])
    assert (found.severity, [feature.name for feature in found.features]) == ("NONE", ["b"])


def test_labels_that_miss_more_often_are_concept_drift_while_inputs_stand_still() -> None:
    found = gauntlet.drift(labelled(REFERENCE, 5, 0.1), labelled(SAME, 6, 0.3), target="y", prediction="p")
    assert found.severity in ("HIGH", "CRITICAL")
    assert (found.root_cause, found.action) == ("concept", "retrain_recent")
    assert found.performance is not None
    assert found.performance.prediction_kind == "label"
    accuracy = found.performance.metrics[0]
    assert (accuracy.name, accuracy.breached, accuracy.estimated) == ("accuracy", True, False)
    assert accuracy.reference == pytest.approx(0.9, abs=0.03)
    assert {feature.name for feature in found.features} == {"a", "b", "c"}  # outcome columns are not features
    assert found.prediction is not None
    assert found.target is not None


def test_misses_that_rise_by_half_are_concept_drift_though_accuracy_hardly_falls() -> None:
    before, now = features(21, 12_000, *NAMES), features(22, 12_000, *NAMES)
    found = gauntlet.drift(labelled(before, 5, 0.05), labelled(now, 6, 0.08), target="y", prediction="p")
    assert found.performance is not None
    assert not found.performance.metrics[0].breached
    assert [signal["kind"] for signal in found.signals] == ["concept"]
    assert found.root_cause == "concept"


def test_the_same_misses_are_quiet() -> None:
    found = gauntlet.drift(labelled(REFERENCE, 5, 0.1), labelled(SAME, 6, 0.1), target="y", prediction="p")
    assert found.severity == "NONE"


def test_a_probability_of_a_text_class_and_a_rise_of_its_misses() -> None:
    def with_probabilities(table: pd.DataFrame, wrong: float) -> pd.DataFrame:
        table = labelled(table, 9, wrong)
        return table.assign(y=np.where(table["y"] == 1, "yes", "no"), p=np.where(table["p"] == 1, 0.9, 0.1))

    before = with_probabilities(REFERENCE, 0.1)
    found = gauntlet.drift(before, with_probabilities(SAME, 0.35), target="y", prediction="p")
    assert found.performance is not None
    assert (found.performance.prediction_kind, found.performance.positive) == ("probability", "yes")
    assert found.root_cause == "concept"
    turned = gauntlet.drift(
        before.assign(p=1 - before["p"]), SAME.assign(p=0.5, y="no"), target="y", prediction="p", positive="no"
    )
    assert turned.performance is not None
    assert turned.performance.metrics[0].reference == pytest.approx(0.9, abs=0.03)


def test_numbers_are_a_regression_and_its_error_is_reported() -> None:
    def with_noise(table: pd.DataFrame, noise: float) -> pd.DataFrame:
        rng = np.random.default_rng(11)
        return table.assign(y=2 * table["a"] + noise * rng.normal(size=len(table)), p=2 * table["a"])

    found = gauntlet.drift(with_noise(REFERENCE, 0.5), with_noise(SAME, 1.0), target="y", prediction="p")
    assert found.performance is not None
    assert found.performance.task == "regression"
    rmse = next(metric for metric in found.performance.metrics if metric.name == "rmse")
    assert rmse.breached
    assert rmse.change == pytest.approx(1.0, abs=0.2)


def test_without_labels_the_probability_gives_an_estimate_and_a_word() -> None:
    scored = [t.assign(p=1 / (1 + np.exp(-3 * t["a"]))) for t in (REFERENCE, SAME)]
    reference = scored[0].assign(y=(np.random.default_rng(1).random(ROWS) < scored[0]["p"]).astype(int))
    for current in (scored[1], scored[1].assign(y=np.nan)):
        found = gauntlet.drift(reference, current, target="y", prediction="p")
        assert ("no_target", "y") in finding_kinds(found)
        assert found.performance is not None
        assert [metric.estimated for metric in found.performance.metrics] == [True]


def test_a_prediction_without_a_target_is_watched_for_drift() -> None:
    found = gauntlet.drift(REFERENCE.assign(p=REFERENCE["a"]), SAME.assign(p=SAME["a"] + 2), prediction="p")
    assert found.prediction is not None
    assert found.prediction.drifted
    assert found.severity != "NONE"
    assert found.drifted == ()


def test_a_prediction_that_is_gone_is_damage() -> None:
    before = labelled(REFERENCE, 5, 0.1)
    found = gauntlet.drift(before, labelled(SAME, 6, 0.1).drop(columns="p"), target="y", prediction="p")
    assert ("column_gone", "p") in finding_kinds(found)
    assert found.action == "quarantine"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"features": ["a", "bb"]}, "no column 'bb'; did you mean 'b'"),
        ({"target": "nope"}, "no column 'nope'"),
        ({"mode": "loose"}, "--mode must be one of gated, simple"),
        ({"features": ["a", "a"]}, "more than once"),
        ({"target": "a", "prediction": "a"}, "same column"),
        ({"target": "a", "features": ["a"]}, "can't be a feature too"),
        ({"task": "regression"}, "needs --target"),
        ({"target": "a", "prediction": "c"}, "one holds texts"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        gauntlet.drift(REFERENCE, SAME, **wanted)


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(BadInput, match="no rows"):
        gauntlet.drift(REFERENCE, SAME.head(0))


def test_values_that_all_lie_beyond_the_reference_are_not_called_constant() -> None:
    found = gauntlet.drift(REFERENCE, SAME.assign(a=SAME["a"] + 50))
    assert ("constant", "a") not in finding_kinds(found)
    assert found.drifted == ("a",)


def test_a_large_fall_on_few_rows_is_not_called_fine() -> None:
    before, now = labelled(REFERENCE, 5, 0.1), labelled(SAME.head(60), 8, 0.25)
    found = gauntlet.drift(before, now, target="y", prediction="p")
    assert found.performance is not None
    assert not found.performance.metrics[0].breached
    assert "perhaps worse, not certain" in gauntlet.to_text(found)


@pytest.mark.parametrize(("now", "found"), [(0.75, True), (0.95, False)])
@pytest.mark.parametrize("kind", ["texts", "numbers"])
def test_a_column_that_remembers_is_watched_for_its_transitions_without_being_asked(
    kind: str, now: float, found: bool
) -> None:
    def chain(seed: int, stay: float) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        state = np.cumsum(np.where(rng.random(3000) < stay, 0, rng.integers(1, 4, 3000))) % 4
        named = [f"s{s}" for s in state] if kind == "texts" else state
        return pd.DataFrame({"state": named, "x": rng.normal(size=3000)})

    report = gauntlet.drift(chain(1, 0.95), chain(2, now))
    assert [signal["feature"] for signal in report.signals if signal["kind"] == "regime"] == ["state"] * found
    assert (report.severity, report.root_cause) == (("LOW", "regime") if found else ("NONE", "none"))
    assert gauntlet.drift(chain(1, 0.95), chain(2, now), ordered=False).severity == "NONE"


def test_the_error_is_reported_as_it_is_and_judged_with_its_wild_rows_limited() -> None:
    rng = np.random.default_rng(9)
    prediction = rng.normal(size=4000)
    before = pd.DataFrame({"p": prediction, "y": prediction + 1e-9 * rng.normal(size=4000)})
    now = pd.DataFrame({"p": prediction, "y": prediction + 0.1 * rng.normal(size=4000)})
    report = gauntlet.drift(before, now, target="y", prediction="p")
    assert report.performance is not None
    (rmse,) = [metric for metric in report.performance.metrics if metric.name == "rmse"]
    assert rmse.current == pytest.approx(np.sqrt(np.mean((now["y"] - now["p"]) ** 2)))
    assert rmse.reference == pytest.approx(np.sqrt(np.mean((before["y"] - before["p"]) ** 2)))
    assert rmse.critical
