"""A plan's numbers: against statsmodels for one look, against sums by hand for the traffic, and against themselves."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.power import NormalIndPower, normal_power
from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

import gauntlet
from evaluator.offline.planning.forecast import Forecast, required_score, smallest_forecast
from evaluator.offline.planning.planner import plan, planned_forecast
from evaluator.offline.planning.schedule import Schedule
from evaluator.offline.planning.settings import PlanSettings
from gauntlet.errors import BadInput


def asked(**change: Any) -> PlanSettings:
    return PlanSettings(**{"baseline": 0.8, "effect": 0.02, "traffic": 2000.0, **change})


# One look, against statsmodels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_one_look_at_a_mean_needs_what_statsmodels_says(share: float, power: float) -> None:
    settings = asked(baseline=5.0, effect=0.01, sd=2.0, power=power, ramp=f"{share}", min_samples=1000)
    forecast = Forecast(settings, 1000.0)
    units = forecast.one_look(0.01, power) / (share * (1.0 - share))
    theirs = NormalIndPower().solve_power(
        0.005, alpha=0.025, power=power, ratio=(1 - share) / share, alternative="larger"
    )
    assert units == pytest.approx(theirs / share, rel=1e-3)
    at = forecast.looks.information[-1] / (1.0 - share)
    theirs = NormalIndPower().power(0.04, at, 0.025, ratio=(1 - share) / share, alternative="larger")
    assert forecast.one_look_power(0.08) == pytest.approx(theirs, abs=1e-3)


def test_one_look_at_a_proportion_needs_what_statsmodels_says() -> None:
    forecast = Forecast(asked(ramp="0.5"), 1000.0)
    theirs = samplesize_proportions_2indep_onetail(0.02, 0.8, 0.8, ratio=1, alpha=0.025, alternative="larger")
    assert forecast.one_look(0.02, 0.8) / 0.25 == pytest.approx(2 * theirs, rel=2e-3)


@pytest.mark.parametrize("effect", [-0.1, 0.0, 0.05, 0.1])
def test_a_plan_of_one_look_has_the_classical_power(effect: float) -> None:
    settings = asked(
        baseline=5.0,
        effect=0.1,
        sd=2.0,
        sd_difference=1.5,
        form="paired",
        independent=True,
        block="4d",
        harm_block="4d",
        traffic=300.0,
        min_samples=1200,
    )
    forecast = planned_forecast(settings)
    assert len(forecast.looks.day) == 1
    theirs = normal_power(effect / math.hypot(1.5, effect), 1200, 0.025, alternative="larger", sigma=1.0)
    assert forecast.power(effect) == pytest.approx(theirs, abs=2e-3)


# The traffic ---------------------------------------------------------------------------------------------------------


def test_information_of_a_ramp_by_hand() -> None:
    looks = Schedule(asked(traffic=1000.0, ramp="0.1:2d,0.5", delay="3d", block="1d")).looks(16)
    days = [0.09 * 1000, 0.09 * 1000, 250.0, 250.0]
    assert looks.win_information[[3, 7, 11, 15]] == pytest.approx([0.0, days[1], days[1] + 250, days[1] + 500])
    assert looks.information[3] == pytest.approx(0.75 * 90)  # all but the first quarter of a day
    assert looks.units[[3, 15]].tolist() == [1000.0, 4000.0]
    assert looks.challenger[[7, 15]] == pytest.approx([200.0, 1200.0])
    assert looks.day[[3, 15]].tolist() == [4.0, 7.0]
    assert looks.exposed[3] == pytest.approx(200 + 1000)  # by day 4, of which one day has matured
    assert looks.win_equal[11] == pytest.approx((90 + 250) ** 2 / (90**2 + 250**2))
    assert looks.whole.tolist() == [False, False, False, True] * 4


def test_pairs_bring_one_each_from_the_first_block_on() -> None:
    looks = Schedule(asked(form="paired", discordance=0.1, fraction=0.5)).looks(8)
    assert looks.information.tolist() == [250.0 * k for k in range(1, 9)]
    assert looks.win_information[[3, 7]].tolist() == [1000.0, 2000.0]


def test_stages_may_change_within_a_block_and_clusters_stay_whole() -> None:
    schedule = Schedule(asked(ramp="0.1:30h,0.5", cluster_size=7, cluster_correlation=0.1, traffic=1000.0))
    slices = schedule.slices(8)
    assert (slices.units % 7 == 0).all()
    assert slices.units.sum() == 7 * math.floor(2000 / 7)
    assert slices.share[np.searchsorted(slices.end, 1.25) + 1] == 0.5
    assert slices.share[np.searchsorted(slices.end, 1.25 - 1e-6)] == 0.1


@pytest.mark.parametrize("information", [1.0, 150.0, 5000.0])
def test_the_day_of_some_information_has_it(information: float) -> None:
    schedule = Schedule(asked(ramp="0.01:2d,0.05:2d,0.1", delay="12h"))
    day, got, start = schedule.day_of(information) - 0.5, 0.0, 0.0
    for share, lasts in schedule.settings.ramp:
        got += share * (1 - share) * 2000 * max(0.0, min(day - start, lasts))
        start += lasts
    assert got == pytest.approx(information)


def test_a_test_of_a_century_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^--traffic must"):
        plan(asked(effect=0.0001, traffic=100.0))


# The whole plan ------------------------------------------------------------------------------------------------------


def test_the_planned_horizon_has_the_power_and_a_smaller_one_has_not() -> None:
    settings = asked(independent=True, delay=0, ramp="0.5", block="6h", harm_block="6h", traffic=4000.0)
    found = smallest_forecast(settings, 0.8)
    assert found.power(0.02) >= 0.8
    assert Forecast(settings, 0.93 * found.information).power(0.02) < 0.8
    # What goes into the configuration is the challenger's outcomes; each is worth 1 − π there.
    report = plan(settings)
    assert report.min_samples == pytest.approx(found.information / 0.5, abs=1.0)
    assert report.form.power >= 0.8


@pytest.mark.parametrize("spending", ["mixed", "obrien-fleming", "pocock"])
def test_no_side_is_crossed_more_often_than_its_level_and_nearly_as_often(spending: str) -> None:
    settings = asked(independent=True, ramp="0.5", min_samples=10_000, spending=spending)
    ending = planned_forecast(settings).characteristics(0.0)
    assert 0.9 * 0.025 < ending.better <= 0.02501
    assert 0.8 * 0.05 * 0.9 < ending.worse <= 0.05  # a fifth stays in reserve for after the horizon


def test_lower_is_better_mirrors_higher_is_better() -> None:
    up = plan(asked(baseline=0.95, effect=0.01, independent=True, ramp="0.2"))
    down = plan(asked(baseline=0.05, effect=-0.01, independent=True, ramp="0.2"))
    assert down.min_samples == up.min_samples
    assert [one.effect for one in down.stopping] == [-one.effect for one in up.stopping]
    for mine, theirs in zip(down.stopping, up.stopping, strict=True):
        assert (mine.better, mine.days) == pytest.approx((theirs.better, theirs.days))
    assert down.stopping[1].challenger_value == pytest.approx(0.04)


def test_yardsticks_are_in_order() -> None:
    report = plan(asked(independent=True, ramp="0.1", delay=0))
    most, mean, classical, wald, least = (one.outcomes for one in report.reference_tests)
    assert least <= wald * 1.02
    assert wald < classical < most
    assert least < mean < most


def test_clusters_and_delay_cost_what_they_should() -> None:
    plain = Forecast(asked(ramp="0.5"), 5000.0)
    clustered = Forecast(asked(ramp="0.5", cluster_size=10, cluster_correlation=0.1), 5000.0)
    blocks = Forecast(asked(ramp="0.5", block_correlation=0.5), 5000.0)
    assert clustered.one_look(0.02, 0.8) / plain.one_look(0.02, 0.8) == pytest.approx(1.9)
    assert blocks.one_look(0.02, 0.8) / plain.one_look(0.02, 0.8) == pytest.approx(3.0)
    late = Forecast(asked(ramp="0.5", delay="9d"), 5000.0)
    assert late.days - plain.days == pytest.approx(8.0)
    assert late.power(0.02) == pytest.approx(plain.power(0.02))


def test_few_blocks_cost_power_and_many_hardly_any() -> None:
    plain = -norm.ppf(0.025)
    few, many = (float(np.median(required_score(plain, n, float(n), 0.0, 1.0, 0.85))) for n in (20, 2000))
    assert few > 1.1 * plain
    assert many == pytest.approx(plain, rel=0.03)


def test_the_horizon_is_what_the_least_blocks_bring_where_that_is_more() -> None:
    report = plan(asked(traffic=20_000.0, ramp="0.5"))
    assert report.form.blocks == 21  # the first one is not scored
    assert report.form.power > 0.97
    assert any("20 blocks" in note for note in report.notes)
    assert abs(report.form.detectable or 1.0) < 0.02


def test_a_given_horizon_is_taken() -> None:
    report = plan(asked(min_samples=3000, ramp="0.25", independent=True))
    assert report.min_samples == 3000
    assert report.form.information == pytest.approx(2250.0)
    assert report.form.challenger >= 3000
    assert report.form.detectable is not None
    assert Forecast(
        PlanSettings(baseline=0.8, effect=0.02, traffic=2000.0, ramp="0.25", independent=True), 2250.0
    ).power(report.form.detectable) == pytest.approx(0.8, abs=0.01)


def test_the_paired_form_saves_what_discordance_says() -> None:
    report = gauntlet.plan(baseline=0.8, effect=0.02, traffic=5000, ramp="0.1", discordance=0.1, independent=True)
    assert report.other is not None
    assert (report.form.form, report.other.form) == ("split", "paired")
    # V/I of split is about 0.15, of pairs the discordance; a unit of split carries 0.09, a pair 1.
    assert report.form.fixed_outcomes / report.other.fixed_outcomes == pytest.approx(0.155 / 0.1 / 0.09, rel=0.1)
    back = gauntlet.plan(
        baseline=0.8, effect=0.02, traffic=5000, ramp="0.1", discordance=0.1, independent=True, form="paired"
    )
    assert back.other is not None
    assert back.form.min_samples == report.other.min_samples
    assert back.other.min_samples == report.form.min_samples


def test_a_form_that_cannot_be_planned_does_not_hide_the_other() -> None:
    report = gauntlet.plan(
        baseline=0.8, effect=0.03, traffic=50, form="paired", discordance=0.05, ramp="0.0001", independent=True
    )
    assert report.other is None
    assert "--traffic must be larger" in report.notes[-1]
    assert report.notes[-1][:20] in " ".join(gauntlet.to_text(report).split())
    assert gauntlet.to_html(report)


def test_a_plan_speaks_in_text_page_and_json() -> None:
    report = gauntlet.plan(baseline=0.5, effect=-0.05, traffic=900, ramp="0.3", delay=0, independent=True)
    again = gauntlet.plan(baseline=0.5, effect=-0.05, traffic=900, ramp="0.3", delay=0, independent=True)
    assert gauntlet.to_html(report) == gauntlet.to_html(again)
    assert gauntlet.to_html(report).count("<svg") == 1
    assert f"min_samples: {report.min_samples:,}" in gauntlet.to_text(report)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["form"]["min_samples"] == report.min_samples
    assert max(map(len, gauntlet.to_text(report).splitlines())) <= 118
