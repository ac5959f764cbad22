"""Episodes: one open, escalations and one close, however long and ragged the drift is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluator.drift.episodes import DriftEvent, Episodes
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import Judgement, confidence_of, judge
from evaluator.drift.signals import Kind, LookResult, Signal
from gauntlet.types import Severity

PROFILE = Profile.fit({name: [0.0, 1.0] * 50 for name in "abcdefghij"}, reference_id="v1")
SETTINGS = DriftSettings(cooldown_rows=1000)


def signal(
    kind: Kind = "distribution", feature: str = "a", *, critical: bool = False, p: float = 1e-9, statistic: float = 0.25
) -> Signal:
    return Signal(kind, feature, statistic, statistic, statistic, 0.15, p, 256, critical)


def look(*signals: Signal) -> LookResult:
    return LookResult({one.key: one for one in signals}, frozenset(one.key for one in signals))


def judged(signals: object) -> Judgement:
    return judge(signals, PROFILE, SETTINGS)  # type: ignore[arg-type]


def fed(episodes: Episodes, looks: list[tuple[str, LookResult]], start: int = 0) -> list[DriftEvent]:
    events: list[DriftEvent] = []
    for number, (stream, one) in enumerate(looks, start + 1):
        events += episodes.update(stream, one, judged, rows=64 * number, at=float(number))
    return events


def kinds(events: list[DriftEvent]) -> list[tuple[str, str, int]]:
    return [(event.event, event.severity, event.rows // 64) for event in events]


def test_one_look_is_no_drift_and_two_are() -> None:
    calm, drift = ("x", look()), ("x", look(signal()))
    assert fed(Episodes("k", SETTINGS), [drift, calm, drift, calm]) == []
    events = fed(Episodes("k", SETTINGS), [drift, drift, drift, calm, drift, calm, calm, calm])
    assert kinds(events) == [("open", "LOW", 2), ("close", "LOW", 7)]
    assert events[0].episode == events[1].episode
    assert len({event.id for event in events}) == 2


def test_a_held_signal_keeps_its_episode_open() -> None:
    held = ("x", LookResult({}, frozenset({("distribution", "a")})))
    drift = ("x", look(signal()))
    assert kinds(fed(Episodes("k", SETTINGS), [drift, drift, *[held] * 50])) == [("open", "LOW", 2)]


def test_severity_escalates_once_and_the_close_tells_the_worst() -> None:
    data, error = look(signal()), look(signal("concept", ""))
    events = fed(
        Episodes("k", SETTINGS),
        [("x", data), ("x", data), ("e", error), ("e", error), ("e", look()), ("e", look()), ("e", error), ("e", error)]
        + [("x", look())] * 2
        + [("e", look())] * 2,
    )
    assert kinds(events) == [("open", "LOW", 2), ("escalate", "HIGH", 4), ("close", "HIGH", 12)]


def test_a_second_loss_is_told_though_the_inputs_stay_where_they_moved() -> None:
    data, error, right = ("x", look(signal())), ("e", look(signal("concept", ""))), ("e", look())
    quiet = -(-SETTINGS.cooldown_rows // 64)
    looks = [data, data, error, error, right, right, *[data] * quiet, error, error, right, right, *[data] * quiet]
    events = fed(Episodes("k", SETTINGS), looks)
    assert kinds(events) == [
        ("open", "LOW", 2),
        ("escalate", "HIGH", 4),
        ("deescalate", "LOW", 6 + quiet),
        ("escalate", "HIGH", 8 + quiet),
        ("deescalate", "LOW", 10 + 2 * quiet),
    ]
    assert {event.episode for event in events} == {events[0].episode}
    assert [signal.kind for signal in events[3].signals] == ["concept", "distribution"]
    assert [signal.kind for signal in events[4].signals] == ["distribution"]


def test_a_short_relief_is_none() -> None:
    data, error, right = ("x", look(signal())), ("e", look(signal("concept", ""))), ("e", look())
    short = SETTINGS.cooldown_rows // 64 - 4
    looks = [data, data, error, error, right, right, *[data] * short, error, error]
    assert [event.event for event in fed(Episodes("k", SETTINGS), looks)] == ["open", "escalate"]


def test_after_a_close_the_same_severity_waits_and_a_higher_one_does_not() -> None:
    drift, calm, error = ("x", look(signal())), ("x", look()), ("e", look(signal("concept", "")))
    events = fed(Episodes("k", SETTINGS), [drift, drift, calm, calm, *[drift] * 30])
    assert kinds(events) == [("open", "LOW", 2), ("close", "LOW", 4), ("open", "LOW", 20)]
    events = fed(Episodes("k", SETTINGS), [drift, drift, calm, calm, error, error])
    assert kinds(events)[-1] == ("open", "HIGH", 6)


def test_a_snapshot_in_the_middle_changes_nothing() -> None:
    drift, calm, error = ("x", look(signal())), ("x", look()), ("e", look(signal("concept", "")))
    looks = [drift, drift, error, calm, error, calm, calm, ("e", look()), ("e", look()), *[drift] * 25]
    whole = Episodes("k", SETTINGS)
    expected = fed(whole, looks)
    for cut in range(len(looks)):
        first, second = Episodes("k", SETTINGS), Episodes("k", SETTINGS)
        events = fed(first, looks[:cut])
        second.restore(json.loads(json.dumps(first.snapshot())))
        assert events + fed(second, looks[cut:], cut) == expected
        assert second.snapshot() == whole.snapshot()


def test_events_of_other_monitors_have_other_ids() -> None:
    drift = ("x", look(signal()))
    ids = {fed(Episodes(key, SETTINGS), [drift, drift])[0].id for key in ("k", "l")}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("signals", "severity", "cause", "action"),
    [
        ([], "NONE", "none", "none"),
        ([signal()], "LOW", "covariate", "observe"),
        ([signal(statistic=0.3)], "MEDIUM", "covariate", "observe"),  # one of five features, and twice its threshold
        ([signal("outliers")], "LOW", "outlier_burst", "observe"),
        ([signal(), signal(feature="b")], "MEDIUM", "covariate", "observe"),
        ([signal(), signal("outliers")], "LOW", "covariate", "observe"),
        ([signal(), signal("outliers", "b")], "MEDIUM", "covariate", "observe"),
        ([signal("missing")], "LOW", "quality", "quarantine"),
        ([signal(), signal("missing")], "MEDIUM", "quality", "quarantine"),
        ([signal("quality", "")], "MEDIUM", "quality", "quarantine"),
        ([signal("quality", "", critical=True), signal("column_gone")], "CRITICAL", "quality", "quarantine"),
        ([signal("concept", "")], "HIGH", "concept", "retrain_recent"),
        ([signal("concept", ""), signal("missing")], "HIGH", "quality", "quarantine"),
        ([signal("concept", ""), signal("missing"), signal(feature="b")], "HIGH", "concept", "retrain_recent"),
        ([signal("concept", ""), signal("column_gone")], "HIGH", "quality", "quarantine"),
        ([signal("concept", ""), signal(), signal(feature="b")], "HIGH", "covariate", "retrain_full"),
        ([signal("concept", "", critical=True)], "CRITICAL", "concept", "retrain_recent"),
        ([signal("rmse", "")], "HIGH", "concept", "retrain_recent"),
        ([signal("accuracy", ""), signal("concept", "")], "HIGH", "concept", "retrain_recent"),
        ([signal("estimated_accuracy", "")], "MEDIUM", "covariate", "observe"),
        ([signal("accuracy", ""), signal("estimated_accuracy", ""), signal()], "HIGH", "covariate", "retrain_full"),
        ([signal("prediction", "said")], "LOW", "covariate", "observe"),
        ([signal("prediction", "said"), signal("prior", "target"), signal()], "LOW", "covariate", "observe"),
        ([signal("prior", "target")], "LOW", "prior", "observe"),
        ([signal("prior", "target"), signal("concept", "")], "HIGH", "prior", "retrain_recent"),
        ([signal("regime")], "LOW", "regime", "observe"),
        ([signal("regime"), signal("regime", "b"), signal("prior", "target")], "MEDIUM", "prior", "observe"),
        ([signal("concept", ""), *(signal(feature=f) for f in "abcde")], "CRITICAL", "covariate", "retrain_full"),
    ],
)
def test_signals_fuse_to_one_judgement(signals: list[Signal], severity: str, cause: str, action: str) -> None:
    found = judged(signals)
    assert (found.severity.name, found.root_cause, found.action) == (severity, cause, action)


def test_the_worst_order_of_severities() -> None:
    order = [Severity.NONE, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL]
    assert sorted([order[3], order[1], *order[::2]]) == order
    assert max(order) is Severity.CRITICAL
    assert Severity.LOW < Severity.HIGH <= Severity.HIGH
    assert Severity.HIGH > "MEDIUM" >= Severity.MEDIUM  # the texts alone would say the opposite


def test_the_features_to_blame_are_five_by_strength_and_importance() -> None:
    signals = [replace(signal(feature=f), statistic=0.2 + 0.01 * i) for i, f in enumerate("abcdefgh")]
    assert [one.feature for one in judged(signals).features] == list("hgfed")
    profile = Profile.fit({"a": [0.0, 1.0], "b": [0.0, 1.0]}, reference_id="v1", importance={"a": 9, "b": 1})
    pair = [signal(feature="a"), replace(signal(feature="b"), statistic=0.9)]
    assert [one.feature for one in judge(pair, profile, SETTINGS).features] == ["a", "b"]


def test_certain_evidence_does_not_wait_for_the_cool_down() -> None:
    drift, calm = ("x", look(signal())), ("x", look())
    sure = (
        "x",
        LookResult({("distribution", "a"): signal()}, frozenset({("distribution", "a")}), {("distribution", "a")}),
    )
    events = fed(Episodes("k", SETTINGS), [drift, drift, calm, calm, calm, sure])
    assert kinds(events) == [("open", "LOW", 2), ("close", "LOW", 4), ("open", "LOW", 6)]


def test_a_close_says_what_it_was_about() -> None:
    data, both = ("x", look(signal())), ("x", look(signal(), signal(feature="b")))
    closed = fed(Episodes("k", SETTINGS), [data, data, both, both, data, data, ("x", look()), ("x", look())])[-1]
    assert (closed.event, closed.severity, closed.root_cause, closed.action) == ("close", "MEDIUM", "covariate", "none")
    assert [one.feature for one in closed.features] == ["a", "b"]
    assert closed.signals == ()


def scored(rng: np.random.Generator) -> Profile:
    score = rng.random(500)
    truth = (rng.random(500) < score) * 1.0
    columns = {name: rng.normal(size=500) for name in "abcde"} | {"p": score}
    return Profile.fit(columns, reference_id="r", score="p", targets=truth)


def test_inputs_explain_a_loss_only_where_the_scores_see_it() -> None:
    """Where there are scores, they know what moved inputs cost; a loss they don't see is one of concept."""
    profile = scored(np.random.default_rng(3))
    moved = [signal("concept", ""), signal(), signal(feature="b")]
    assert judge(moved, profile, SETTINGS).root_cause == "concept"
    assert judge(moved, profile, SETTINGS).action == "retrain_recent"
    assert judge([*moved, signal("estimated_accuracy", "")], profile, SETTINGS).root_cause == "covariate"
    assert judge(moved, PROFILE, SETTINGS).root_cause == "covariate"


def test_other_outcomes_are_a_prior_only_where_the_model_says_so_too() -> None:
    profile = scored(np.random.default_rng(4))
    lost = [signal("concept", ""), signal("prior", "target")]
    assert judge(lost, profile, SETTINGS).root_cause == "concept"
    assert judge([*lost, signal("prediction", "p")], profile, SETTINGS).root_cause == "prior"
    assert judge([signal("prior", "target"), signal("prediction", "p")], profile, SETTINGS).root_cause == "prior"


def test_quality_has_three_steps() -> None:
    for lack, severity in ((0.25, "MEDIUM"), (0.35, "HIGH"), (0.45, "CRITICAL")):
        bad = Signal("quality", "", lack, lack, lack, 0.2, 0.0, 256, lack > 0.4)
        found = judge([bad], PROFILE, SETTINGS)
        assert (found.severity.name, found.root_cause, found.action) == (severity, "quality", "quarantine")


def test_confidence_grows_with_evidence_and_families_and_facts_are_certain() -> None:
    weak, strong = (confidence_of([signal(p=p, statistic=0.3)], PROFILE) for p in (1e-5, 1e-9))
    assert 0.5 < weak < 0.95 < strong < 1.0
    assert confidence_of([signal(p=1e-5), signal("outliers", p=1e-5)], PROFILE) > weak
    assert confidence_of([signal("column_gone", p=0.0)], PROFILE) == 1.0


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="ks must be above 0"):
        DriftSettings(ks=0.0)
    with pytest.raises(ValueError, match="confirm"):
        DriftSettings(confirm=0)
