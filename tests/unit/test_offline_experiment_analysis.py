"""An analysis of a log: effects, looks, units, clusters, modes, and what can't be read."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders.experiments import analysed, find, log, only, spoiled, units

import gauntlet
from gauntlet.errors import GauntletError


def test_a_file_is_answered_alike_in_every_form(tmp_path: Path) -> None:
    frame = log(70_000, 0.01)  # more rows than one chunk has
    paths = [tmp_path / name for name in ("log.csv", "log.csv.gz", "log.parquet")]
    frame.to_csv(paths[0], index=False)
    frame.to_csv(paths[1], index=False)
    frame.to_parquet(paths[2], index=False)
    options = {"metric": ["y:proportion", "loss:mean:lower"], "segment": "country", "look_every": 7000}
    first, *others = [analysed(source, **options).to_dict() for source in (frame, *paths)]
    assert all(other == first for other in others)


def test_an_answer_is_the_same_whatever_keeps_the_frame(tmp_path: Path) -> None:
    """Truth values, whole floats, times with a zone and lengths of time, as a CSV and as Parquet write them."""
    rng = np.random.default_rng(4)
    treated = rng.random(900) < 0.5
    frame = pd.DataFrame(
        {
            "treated": treated,
            "dose": np.where(treated, 1000.0, 0.0),
            "floor": rng.choice([0.0, 1.0, 2.5], 900),
            "y": rng.normal(treated * 0.1),
            "right": rng.random(900) < 0.8,
            "wait": pd.to_timedelta(rng.integers(1, 900, 900), unit="s"),
            "day": pd.Timestamp("2026-01-01", tz="Europe/Berlin") + pd.to_timedelta(rng.integers(0, 30, 900), unit="D"),
        }
    )
    frame.to_csv(tmp_path / "log.csv", index=False)
    frame.to_parquet(tmp_path / "log.parquet")
    metrics = ["y", "wait:mean:lower", "right/treated:recall@True"]

    def answer(arm: str, champion: Any, share: Any, name: str) -> dict[str, Any]:
        options = {"arm": arm, "champion": champion, "share": share, "metric": metrics, "cluster": "day"}
        return gauntlet.analyze(tmp_path / name, segment="floor", **options).to_dict()

    by_truth = answer("treated", "False", "False=.5,True=.5", "log.csv")
    assert by_truth["comparisons"][0]["n"] == {"false": int((~treated).sum()), "true": int(treated.sum())}
    for champion, share in ((False, {False: 1, True: 1}), ("FALSE", "false=.5,TRUE=.5")):
        assert answer("treated", champion, share, "log.parquet") == by_truth
    by_dose = answer("dose", "0.0", "0=.5,1e3=.5", "log.csv")
    assert by_dose == answer("dose", 0, {0.0: 1, 1000: 1}, "log.parquet")


CLASSES = log(seed=5, n=600).assign(outcome=["Yes", "No"] * 300, said=["yes", "no", "no"] * 200, one=1, two=2)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            "said/outcome:accuracy",
            "said and outcome share no class, .* 'no', 'yes' against 'No', 'Yes'; they differ by",
        ),
        ("one/outcome:accuracy", "one and outcome share no class, .* '1' against 'No', 'Yes'; they differ in how"),
        ("one/two:recall@2", "one and two share no class, so that no prediction is right: '1' against '2'$"),
        ("outcome/outcome:recall@yes", "no row is 'yes'; there are 'No', 'Yes'"),
        ("outcome/outcome:recall", "outcome holds texts; say which class recall is about"),
        ("one/one:recall@yes", "one holds numbers, so there is no class 'yes'"),
    ],
)
def test_predictions_of_which_none_can_be_right_are_refused(metric: str, message: str) -> None:
    with pytest.raises(GauntletError, match=message):
        analysed(CLASSES, metric=metric)


def scored(frame: pd.DataFrame, share: float) -> tuple[float, float, float, float]:
    """S, I, V and κ₃ by the definition, row by row: m is the champion's mean over the batches before."""
    ends = [0]
    target, step = 100, 10
    while ends[-1] < len(frame):  # a batch ends at a look, or where rows have grown by 5 % and by at least 10
        end = min(len(frame), target, step)
        ends.append(end)
        if end == target:
            target = end + max(100, -(-end // 50))
        if end >= step:
            step = max(end + 10, -(-end * 21 // 20))
    s = information = drawn = third = 0.0
    for start, end in pairwise(ends):
        past = frame[:start].query("arm == 'A'")["y"]
        if past.empty:
            continue
        m = past.mean()
        for row in frame[start:end].itertuples():
            a, w = float(row.arm == "B") - share, share * (1.0 - share)
            s, information = s + a * (row.y - m), information + w
            drawn, third = drawn + w * (row.y - m) ** 2, third + w * (1.0 - 2.0 * share) * (row.y - m) ** 3
    return s, information, drawn, third


def test_effect_and_z_are_those_of_the_score_process() -> None:
    frame = log(1500, 0.05)
    s, information, variance, third = scored(frame, 0.2)
    found = only(analysed(frame))
    assert found.effect == pytest.approx(s / information, rel=1e-12)
    assert found.z is not None
    g = third / variance**1.5  # z solves z + g (z² − 1) / 6 = T
    assert found.z + g * (found.z**2 - 1.0) / 6.0 == pytest.approx(s / np.sqrt(variance), rel=1e-9)
    assert found.n == {"A": int((frame.arm == "A").sum()), "B": int((frame.arm == "B").sum())}
    assert found.mean == pytest.approx(frame.groupby("arm")["y"].mean().to_dict())
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < found.effect < found.upper


def test_a_metric_turned_round_gives_the_mirrored_answer() -> None:
    frame = log(4000, 0.08)
    frame["minus"] = -frame.y
    up, down = only(analysed(frame, metric="y:mean:higher")), only(analysed(frame, metric="minus:mean:lower"))
    assert up.verdict == down.verdict == "better"
    assert (up.effect, up.z) == (pytest.approx(-(down.effect or 0)), pytest.approx(-(down.z or 0)))
    assert (up.lower, up.upper) == (pytest.approx(-(down.upper or 0)), pytest.approx(-(down.lower or 0)))
    assert up.stopped is not None
    assert down.stopped is not None
    assert up.stopped.look == down.stopped.look


def test_swapping_arms_of_pairs_flips_every_sign() -> None:
    rng = np.random.default_rng(3)
    one = rng.exponential(1.0, 3000)
    frame = pd.DataFrame({"one": one, "other": one * rng.uniform(0.8, 1.17, 3000), "day": np.arange(3000) // 100})
    options = {"arm": None, "champion": None, "metric": None, "share": None, "cluster": "day"}
    there = only(analysed(frame, paired="one,other", **options))
    back = only(analysed(frame, paired=("other", "one"), **options))
    assert there.effect == pytest.approx(-(back.effect or 0.0))
    assert there.effect == pytest.approx(float((frame.other - frame.one).mean()))
    # Harm is looked for from five clusters on and a win from twenty, so the two sides' bounds differ a little.
    assert there.lower == pytest.approx(-(back.upper or 0), rel=0.02)
    assert there.upper == pytest.approx(-(back.lower or 0), rel=0.02)
    assert there.verdict == "better"
    assert back.verdict == "worse"


def test_nothing_behind_a_look_changes_it() -> None:
    frame = log(6000, 0.06)
    whole = only(analysed(frame, min_samples=1000))
    assert whole.stopped is not None
    assert whole.stopped.rows < 5000
    cut = only(analysed(frame[: whole.stopped.rows + 150], min_samples=1000))
    assert cut.stopped is not None
    assert cut.stopped.effect == pytest.approx(whole.stopped.effect, rel=1e-9)
    assert replace(cut.stopped, effect=0.0, lower=None, upper=None) == replace(
        whole.stopped, effect=0.0, lower=None, upper=None
    )


def test_a_ramp_over_a_drifting_baseline_shows_nothing_where_the_pooled_test_shows_much() -> None:
    rng, n = np.random.default_rng(5), 12_000
    pi = np.repeat([0.01, 0.05, 0.1], n // 3)
    base = np.repeat([0.4, 0.6, 0.8], n // 3)
    frame = pd.DataFrame({"arm": np.where(rng.random(n) < pi, "B", "A"), "pi": pi, "y": rng.random(n) < base})
    found = analysed(frame, share=None, propensity="pi")
    assert found.verdict == "inconclusive"
    assert abs(only(found).z or 9.0) < 2.0
    assert (only(found).fixed.z or 0.0) > 4.0
    assert found.sample_ratio is not None
    assert not found.sample_ratio.mismatch


def test_each_challenger_is_compared_with_the_champion_alone() -> None:
    rng, n = np.random.default_rng(20), 20_000
    arm = rng.choice(["A", "B", "C"], n, p=[0.6, 0.2, 0.2])
    frame = pd.DataFrame({"arm": arm, "y": rng.random(n) < np.where(arm == "C", 0.7, 0.6)})
    found = analysed(frame, share="A=60%,B=20%,C=20%")
    assert [c.challenger for c in found.comparisons] == ["B", "C"]
    assert find(found, challenger="C").verdict == "better"
    assert find(found, challenger="B").verdict == "inconclusive"
    assert found.verdict == "better"
    assert found.reasons[-1].startswith("C: ")
    assert found.sample_ratio is not None
    assert found.sample_ratio.expected == pytest.approx({"A": 12_000, "B": 4000, "C": 4000})
    one = analysed(frame, share="A=60%,B=20%,C=20%", challenger="C")
    assert only(one).effect == find(found, challenger="C").effect


def test_rows_of_one_unit_are_no_independent_evidence() -> None:
    frame, options = units(20_000, 4), {"metric": "y", "share": {"A": 1, "B": 1}}
    rows, people = only(analysed(frame, **options)), only(analysed(frame, unit="user", **options))
    assert people.effect == pytest.approx(rows.effect)
    ratio = ((rows.z or 0.0) / (people.z or 1.0)) ** 2
    assert 5.0 < ratio < 12.0  # 1 + (about 10 − 1 + 1) · 4/5
    assert analysed(frame, unit="user", **options).sample_ratio.observed["B"] < 1100  # type: ignore[union-attr]


@pytest.mark.parametrize("clusters", [40, 1500])
def test_clusters_widen_the_interval_and_are_counted(clusters: int) -> None:
    rng, n = np.random.default_rng(12), 30_000
    frame = log(n)
    cluster = np.arange(n) // 750 if clusters == 40 else rng.integers(0, clusters, n)
    # Within a cluster B differs from A by the cluster's own amount: no effect on average, but no independent rows.
    frame["y"] = rng.normal(0.0, 1.0, n) + rng.normal(0.0, 1.5, clusters)[cluster] * (frame.arm == "B")
    frame["day"] = cluster
    alone, clustered = only(analysed(frame, metric="y")), only(analysed(frame, metric="y", cluster="day"))
    assert clustered.blocks == clusters
    assert abs(clustered.z or 9.0) < 0.75 * abs(alone.z or 0.0)
    assert (clustered.widening is not None) == (clusters == 40)


def test_looks_fall_between_days_where_days_are_the_clusters() -> None:
    frame = log(9000, 0.1)
    frame["day"] = np.arange(9000) // 300
    found = only(analysed(frame, cluster="day"))
    assert {point.rows % 300 for point in found.history} == {0}
    assert found.stopped is not None
    assert found.stopped.rows >= 20 * 300


def test_rows_are_taken_in_the_order_of_time() -> None:
    frame = log(5000, 0.06)
    frame["at"] = pd.date_range("2026-01-01", periods=5000, freq="min").astype(str)
    shuffled = frame.sample(frac=1.0, random_state=3)
    assert analysed(shuffled, time="at").to_dict()["comparisons"] == analysed(frame).to_dict()["comparisons"]
    assert only(analysed(shuffled)).z != only(analysed(frame)).z


def test_covariates_known_before_make_the_interval_narrower() -> None:
    frame = log(10_000)
    rng = np.random.default_rng(13)
    frame["before"] = rng.normal(0.0, 1.0, len(frame))
    frame["y"] = 0.8 * frame.before + 0.6 * rng.normal(0.0, 1.0, len(frame))
    plain, adjusted = only(analysed(frame, metric="y")), only(analysed(frame, metric="y", covariate="before"))
    assert None not in (plain.upper, plain.lower, adjusted.upper, adjusted.lower)
    width = ((adjusted.upper or 0) - (adjusted.lower or 0)) / ((plain.upper or 0) - (plain.lower or 0))
    assert width == pytest.approx(0.6, abs=0.06)


@pytest.mark.parametrize("mode", ["group-sequential", "anytime", "exact", "msprt", "sprt", "fixed"])
def test_every_mode_finds_a_large_effect_and_holds_it_in_its_interval(mode: str) -> None:
    found = only(analysed(log(8000, 0.12, seed=2), mode=mode))
    assert found.verdict == "better"
    assert found.stopped is not None
    assert found.lower is not None
    assert found.upper is not None
    assert 0.0 <= found.lower < 0.12 < found.upper
    assert found.p_value is not None
    assert found.p_value <= 0.05
    assert (found.stopped.rows == 8000) == (mode == "fixed")


def test_the_exact_mode_of_pairs() -> None:
    rng = np.random.default_rng(14)
    truth = rng.random(4000) < 0.5
    right = [np.where(rng.random(4000) < p, truth, ~truth) for p in (0.70, 0.80)]
    frame = pd.DataFrame({"a": right[0].astype(int), "b": right[1].astype(int), "outcome": truth.astype(int)})
    found = analysed(
        frame, arm=None, champion=None, share=None, paired="a,b", metric="accuracy", mode="exact", challenger="new"
    )
    assert only(found).verdict == "better"
    shares = [float((each == truth).mean()) for each in right]
    assert only(found).mean == pytest.approx({"champion": shares[0], "new": shares[1]})
    assert found.champion == "champion"


def test_classes_may_be_texts() -> None:
    rng, frame = np.random.default_rng(15), log(4000)
    frame["outcome"] = rng.choice(["cat", "dog", "cow"], 4000)
    hit = rng.random(4000) < np.where(frame.arm == "B", 0.8, 0.6)
    frame["prediction"] = np.where(hit, frame.outcome, rng.choice(["cat", "dog", "cow"], 4000))
    frame["score"] = np.clip((frame.outcome == "dog") * 0.3 + rng.random(4000) * 0.7, 0.0, 1.0)
    found = analysed(frame, metric=["accuracy", "recall@dog", "macro_f1", "score:auc@dog"])
    assert find(found, metric="accuracy").verdict == "better"
    dogs = frame[frame.outcome == "dog"]
    recall = (dogs.prediction == "dog").groupby(dogs.arm).mean()
    assert find(found, metric="recall@dog").mean == pytest.approx(recall.to_dict())
    assert 0.7 < (find(found, kind="auc").mean["A"] or 0.0) < 1.0


def test_a_horizon_further_than_the_file_decides_later_and_says_what_is_missing() -> None:
    frame = log(6000, 0.04, seed=16)
    near, far = only(analysed(frame)), only(analysed(frame, min_samples=1_000_000_000))
    assert near.verdict == "better"
    assert far.verdict == "inconclusive"
    assert far.information_fraction is not None
    assert far.information_fraction < 1e-5
    assert any("more rows would complete it" in reason for reason in far.reasons)


def test_metrics_with_a_minimum_wait_for_it() -> None:
    frame = log(4000, 0.2)
    found = only(analysed(frame, metric="y:proportion:min=700"))
    assert found.stopped is not None
    assert (frame[: found.stopped.rows].arm == "B").sum() >= 700
    waiting = only(analysed(frame, metric="y:proportion:min=5000"))
    assert (waiting.verdict, waiting.effect, waiting.p_value) == ("inconclusive", None, None)
    assert "of at least 5000" in waiting.reasons[0]


def test_the_same_data_and_settings_have_the_same_id() -> None:
    frame = log(1000)
    assert analysed(frame).id == analysed(frame.copy()).id
    assert analysed(frame).id != analysed(frame, alpha=0.1).id
    assert analysed(frame).id != analysed(log(1000, seed=9)).id


@pytest.mark.parametrize(
    ("frame", "options", "named"),
    [
        (spoiled("y", np.inf), {}, r"row 77 of y .* inf"),
        (spoiled("y", 2.0), {}, r"row 77 of y .* is 2.0, which is neither 0 nor 1"),
        (spoiled("y", "yes"), {}, r"row 77 of y .*'yes' is not a number"),
        (spoiled("arm", None), {}, r"row 77 of arm .* is empty"),
        (spoiled("arm", "NA"), {}, r"row 77 of arm .* is empty \(or a word for that: NA, null, None"),
        (spoiled("arm", "C"), {}, r"row 77 of arm .*'C', an arm without a share; shares are given for 'A', 'B'"),
        (spoiled("arm", " a"), {}, r"row 77 of arm .*' a', an arm without a share; did you mean 'A'\?"),
        (spoiled("pi", 0.0), {"share": None, "propensity": "pi"}, r"row 77 of pi .* is 0; a propensity"),
        (spoiled("pi", 1.0), {"share": None, "propensity": "pi"}, r"row 77 of pi .* is 1; a propensity"),
        (spoiled("pi", None), {"share": None, "propensity": "pi"}, r"row 77 of pi .* is nan; a propensity"),
        (spoiled("country", None), {"cluster": "country"}, r"row 77 of country .* is empty"),
        (log(400), {"champion": "Z", "share": "Z=1,A=1,B=1"}, "no row of arm is 'Z'"),
        (log(400)[lambda rows: rows.arm == "A"], {"share": None, "propensity": "pi"}, "nothing to compare"),
        (log(400), {"metric": "nothing"}, "no column 'nothing'"),
        (log(400), {"metric": "loss:mean", "mode": "exact"}, "exact needs outcomes between 0 and 1"),
        (spoiled("arm", "C"), {"share": None, "propensity": "pi"}, "several challengers: 'B', 'C'"),
        (log(400), {"cluster": "country", "mode": "exact"}, "exact can't be combined with --cluster"),
        (log(400).assign(user=0), {"unit": "user", "mode": "exact"}, "row 1 of user .* was there before"),
        (log(400).assign(country=range(400)), {"segment": "country"}, "more than 100 values"),
        (log(400)[:0], {}, "no rows"),
        (log(400), {"min_samples": 0}, "min-samples"),
        (log(400), {"look_every": 0}, "look-every"),
        (log(400), {"alpha": 1.0}, "alpha"),
    ],
)
def test_what_cannot_be_read_is_named(frame: pd.DataFrame, options: dict[str, Any], named: str) -> None:
    with pytest.raises(GauntletError, match=named):
        analysed(frame, **options)
