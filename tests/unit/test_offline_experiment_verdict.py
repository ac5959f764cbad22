"""Verdicts of an analysis: what holds a win, what makes it invalid, and when there is no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders.experiments import analysed, find, log, only, units

import gauntlet


def test_harm_in_a_segment_holds_what_is_better_overall() -> None:
    frame = log(20_000)
    rng, b, here = np.random.default_rng(6), frame.arm == "B", frame.country == "FR"
    frame["y"] = (rng.random(len(frame)) < 0.6 + np.where(here, -0.12, 0.25) * b).astype(float)
    found = analysed(frame, segment="country")
    assert find(found, segment=None).verdict == "better"
    assert find(found, segment="country=FR").verdict == "worse"
    assert find(found, segment="country=DE").verdict == "better"
    assert found.verdict == "inconclusive"
    assert "country=FR" in found.reasons[0]


def test_a_guardrail_beyond_its_margin_is_worse_whatever_the_primary_says() -> None:
    frame = log(8000, 0.15)
    frame["latency"] = np.random.default_rng(7).exponential(1.0, len(frame)) + 0.5 * (frame.arm == "B")
    found = analysed(frame, metric=["y:proportion", "latency:mean:lower:margin=0.1"])
    assert find(found, metric="y").verdict == "better"
    assert find(found, metric="latency").verdict == "worse"
    assert found.verdict == "worse"
    assert found.reasons[0].startswith("latency")


def test_within_its_margin_and_no_better_is_equivalent() -> None:
    found = only(analysed(log(20_000), metric="y:proportion:margin=0.08:primary"))
    assert found.verdict == "equivalent"
    assert found.lower is not None
    assert -0.08 < found.lower < 0.0


def test_several_questions_need_stronger_answers() -> None:
    rng, frame = np.random.default_rng(8), log(6000, 0.04, seed=16)
    alone = only(analysed(frame))
    assert alone.verdict == "better"
    assert alone.p_value is not None
    assert 0.01 < alone.p_value <= 0.05
    for name in ("n1", "n2", "n3", "n4"):
        frame[name] = rng.random(len(frame))
    many = analysed(frame, metric=["y:proportion", "n1", "n2", "n3", "n4"])
    assert find(many, metric="y").verdict == "inconclusive"
    assert find(many, metric="y").adjusted_p_value == pytest.approx(5 * alone.p_value)
    assert "once 5 comparisons are asked" in find(many, metric="y").reasons[0]
    signals = analysed(frame, metric=["y:proportion", "n1:signal", "n2:signal"])
    assert signals.verdict == "better"


def test_arms_that_do_not_fit_their_shares_make_it_invalid() -> None:
    found = analysed(log(5000, 0.1, share=0.26))
    assert found.verdict == "invalid"
    assert found.sample_ratio is not None
    assert found.sample_ratio.mismatch
    assert "sample ratio" in found.reasons[0]


def test_a_propensity_of_the_rows_own_arm_is_recognised() -> None:
    frame = log(5000)
    frame["pi"] = np.where(frame.arm == "B", 0.2, 0.8)
    found = analysed(frame, share=None, propensity="pi")
    assert found.verdict == "invalid"
    assert "give P(B)" in found.reasons[0]


def test_withholding_the_labels_of_failures_makes_nothing_win() -> None:
    frame = log(8000)
    fails = (frame.arm == "B") & (frame.y == 0.0) & (np.random.default_rng(10).random(len(frame)) < 0.4)
    frame.loc[fails, "y"] = np.nan
    found = analysed(frame)
    assert only(found).verdict == "better"  # what the outcomes that came seem to say
    assert found.verdict == "invalid"
    assert "label arrival" in found.reasons[0]


def test_units_in_both_arms_make_it_invalid() -> None:
    frame = units(3000, 5, exposed_twice=True)
    found = analysed(frame, metric="y", share={"A": 1, "B": 1}, unit="user")
    assert found.verdict == "invalid"
    assert "multiple exposure" in found.reasons[0]


@pytest.mark.parametrize(("change", "why"), [({"y": 1.0}, "no noise to compare"), ({"y": np.nan}, "has no outcomes")])
def test_no_answer_is_no_number(change: dict[str, Any], why: str) -> None:
    found = only(analysed(log(4000).assign(**change)))
    assert why in found.reasons[0]
    assert found.verdict == "inconclusive"
    assert (found.effect, found.lower, found.upper, found.z, found.p_value) == (None,) * 5


def test_an_arm_of_failures_only_is_no_reason_to_wait() -> None:
    frame = log(2000)
    found = only(analysed(frame.assign(y=(frame.arm == "B").astype(float))))
    assert (found.verdict, found.mean) == ("better", {"A": 0.0, "B": 1.0})
    assert found.p_value is not None
    assert found.p_value < 1e-5
    exact = only(analysed(frame.assign(y=(frame.arm == "B").astype(float)), mode="exact"))
    assert exact.verdict == "better"


@pytest.mark.parametrize("rows", [1, 2, 10, 40])
def test_a_handful_of_rows_is_no_answer(rows: int) -> None:
    frame = log(40)
    frame.loc[0, "arm"] = "A"
    found = only(analysed(frame[:rows]))
    assert (found.verdict, found.effect, found.p_value) == ("inconclusive", None, None)
    assert "no answer yet" in found.reasons[0]


def test_withheld_labels_of_any_deciding_metric_are_seen() -> None:
    frame = log(8000)
    frame["x"] = np.random.default_rng(21).normal(size=8000)
    fails = (frame.arm == "B") & (frame.y == 0.0) & (np.random.default_rng(22).random(8000) < 0.4)
    frame.loc[fails, "y"] = np.nan
    found = analysed(frame, metric=["x", "y:proportion"])
    assert found.verdict == "invalid"
    assert "label arrival" in found.reasons[0]
    assert analysed(frame, metric=["x", "y:coverage"]).verdict != "invalid"


def test_withholding_one_arms_values_of_pairs_is_seen() -> None:
    rng = np.random.default_rng(23)
    frame = pd.DataFrame({"a": (rng.random(6000) < 0.3) * 1.0, "b": (rng.random(6000) < 0.3) * 1.0})
    frame.loc[(frame.b == 1.0) & (rng.random(6000) < 0.5), "b"] = np.nan
    found = analysed(frame, arm=None, champion=None, metric=None, share=None, paired="a,b")
    assert only(found).verdict == "better"
    assert found.verdict == "invalid"
    assert "missing more often" in found.reasons[0]


def test_a_gap_in_arrival_that_is_not_proof_yet_holds_a_win() -> None:
    frame = log(8000, 0.15)
    frame.loc[(frame.arm == "B") & (np.random.default_rng(26).random(8000) < 0.011), "y"] = np.nan
    frame.loc[(frame.arm == "A") & (np.random.default_rng(25).random(8000) < 0.002), "y"] = np.nan
    found = analysed(frame)
    assert only(found).verdict == "better"
    assert found.verdict == "inconclusive"
    assert found.reasons[0].startswith("held: values may not come alike")


def test_a_covariate_that_the_arm_has_changed_is_none() -> None:
    frame = log(8000)
    frame["after"] = np.random.default_rng(24).normal(size=8000) - 0.3 * (frame.arm == "B")
    frame["y"] = frame.after + 0.3 * (frame.arm == "B")
    found = analysed(frame, metric="y", covariate="after")
    assert found.verdict == "invalid"
    assert "balance of after" in found.reasons[0]


@pytest.mark.parametrize(("mode", "samples"), [("group-sequential", 100), ("exact", None), ("fixed", 100)])
def test_a_win_that_turned_round_is_not_called_one(mode: str, samples: int | None) -> None:
    rng, n = np.random.default_rng(27), 3000
    b = rng.random(n) < 0.5
    effect = np.where(np.arange(n) < 700, 0.35, -0.2)
    y = (rng.random(n) < 0.5 + effect * b).astype(float)
    frame = pd.DataFrame({"arm": np.where(b, "B", "A"), "y": y})
    found = only(analysed(frame, share="A=1,B=1", mode=mode, min_samples=samples))
    assert found.effect is not None
    assert found.effect < 0.0
    assert found.verdict != "better"
    assert found.lower is None or found.upper is None or found.lower <= found.effect <= found.upper


def test_guardrails_alone_make_no_winner_and_margins_no_way_round_the_correction() -> None:
    frame = log(6000, 0.1)
    alone = analysed(frame, metric="y:proportion:guardrail")
    assert (alone.verdict, alone.reasons[0][:10]) == ("equivalent", "no primary")
    frame["z"] = frame.y
    both = analysed(frame, metric=["y:proportion:primary:margin=0.3", "z:proportion:primary:margin=0.3"])
    assert {c.verdict for c in both.comparisons} == {"equivalent"}


def test_a_metric_of_one_class_waits_for_rows_of_it() -> None:
    rng, frame = np.random.default_rng(28), log(4000)
    frame["outcome"] = (rng.random(4000) < 0.02).astype(float)
    frame["score"] = rng.random(4000)
    found = only(analysed(frame, metric="score:auc"))
    assert found.effect is None
    assert "rows of the metric's class" in found.reasons[0]


def test_segments_in_several_spellings_are_told() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"arm": rng.choice(["A", "B"], 2000), "y": rng.normal(size=2000)})
    for cities, told in ((["NY", "ny ", "LA"], True), (["NY", "LA"], False)):
        found = gauntlet.analyze(
            frame.assign(city=rng.choice(cities, 2000)),
            arm="arm",
            champion="A",
            share={"A": 1, "B": 1},
            metric="y",
            segment="city",
        )
        said = "--segment city has values in several spellings, each taken by itself: 'NY' and 'ny '"
        assert (said in found.reasons) is told
