"""What may be asked of a plan: durations, ramps, signs, and refusals that name the option."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from evaluator.offline.planning.settings import PlanSettings, SimulatedWorld, stages
from gauntlet.errors import BadInput

GOOD: dict[str, Any] = {"baseline": 0.8, "effect": 0.02, "traffic": 2000.0}
MEAN: dict[str, Any] = {"baseline": 5.0, "effect": 0.1, "traffic": 2000.0, "sd": 1.0}


def test_durations_are_days_and_harm_blocks_a_quarter() -> None:
    asked = PlanSettings(**GOOD, delay="36h", block="12h")
    assert (asked.delay, asked.block, asked.harm_block) == (1.5, 0.5, 0.125)
    assert PlanSettings(**GOOD, delay=43_200).delay == 0.5
    assert PlanSettings(**GOOD, block_correlation=0.3).harm_block == 1.0


def test_a_ramp_in_words_is_that_in_tuples() -> None:
    ramp = stages("0.01:2d,0.05:12h,0.1")
    assert ramp == ((0.01, 2.0), (0.05, 0.5), (0.1, math.inf))
    assert stages([(0.01, "2d"), (0.05, 43_200), (0.1, "9d")]) == ramp
    assert stages("0.5") == ((0.5, math.inf),)


@pytest.mark.parametrize(
    ("base", "change", "option"),
    [
        (GOOD, {"baseline": 1.2}, "baseline"),
        (GOOD, {"baseline": math.nan}, "baseline"),
        (GOOD, {"effect": 0.0}, "effect"),
        (GOOD, {"effect": 0.25}, "effect"),
        (GOOD, {"traffic": 0.0}, "traffic"),
        (GOOD, {"alpha": 0.0}, "alpha"),
        (GOOD, {"harm_alpha": 0.9}, "harm-alpha"),
        (GOOD, {"power": 0.01}, "power"),
        (GOOD, {"power": 1.0}, "power"),
        (GOOD, {"form": "both"}, "form"),
        (GOOD, {"form": "paired"}, "form paired needs --discordance"),
        (MEAN, {"form": "paired"}, "form paired needs --sd-difference"),
        (GOOD, {"discordance": 0.01}, "discordance"),
        (GOOD, {"discordance": 0.5}, "discordance"),
        (MEAN, {"discordance": 0.1}, "discordance"),
        (GOOD, {"sd_difference": 0.1}, "sd-difference"),
        (GOOD, {"challenger_sd": 0.1}, "challenger-sd"),
        (MEAN, {"sd": -1.0}, "sd"),
        (GOOD, {"ramp": "0.1:2d,1.0"}, "ramp"),
        (GOOD, {"ramp": "0.1,0.2"}, "ramp"),
        (GOOD, {"ramp": "a"}, "ramp"),
        (GOOD, {"ramp": "0.1:0s,0.2"}, "ramp"),
        (GOOD, {"ramp": []}, "ramp"),
        (GOOD, {"delay": "soon"}, "delay"),
        (GOOD, {"block": 0}, "block"),
        (GOOD, {"harm_block": "7h"}, "harm-block"),
        (GOOD, {"harm_block": "6h", "block_correlation": 0.3}, "harm-block"),
        (GOOD, {"traffic": 2.0}, "block"),
        (GOOD, {"cluster_size": 5}, "cluster-size"),
        (GOOD, {"cluster_correlation": 0.1}, "cluster-size"),
        (GOOD, {"cluster_correlation": 1.0, "cluster_size": 2}, "cluster-correlation"),
        (GOOD, {"block_correlation": 0.9}, "block-correlation"),
        (GOOD, {"block_correlation": 0.3, "independent": True}, "independent"),
        (GOOD, {"min_samples": 0}, "min-samples"),
        (GOOD, {"min_blocks": -1}, "min-blocks"),
        (GOOD, {"fraction": 0.0}, "fraction"),
        (GOOD, {"spending": "all"}, "spending"),
    ],
)
def test_an_impossible_question_is_refused_by_the_name_of_its_option(
    base: dict[str, Any], change: dict[str, Any], option: str
) -> None:
    PlanSettings(**base)
    with pytest.raises(BadInput, match=rf"^--{option}\b"):
        PlanSettings(**{**base, **change})


def test_unknown_agreement_of_the_arms_is_taken_as_none() -> None:
    other, assumed = PlanSettings(**GOOD).other()
    assert (other.form, assumed) == ("paired", True)
    assert other.discordance == pytest.approx(0.8 * 0.18 + 0.82 * 0.2)
    other, assumed = PlanSettings(**MEAN, challenger_sd=2.0).other()
    assert (other.sd_difference, assumed) == (pytest.approx(math.sqrt(5.0)), True)
    other, assumed = PlanSettings(**GOOD, discordance=0.1).other()
    assert (other.discordance, assumed) == (0.1, False)
    other, assumed = PlanSettings(**GOOD, discordance=0.1, form="paired").other()
    assert (other.form, assumed) == ("split", False)


def test_a_question_is_fit_for_json() -> None:
    given = json.loads(json.dumps(PlanSettings(**GOOD).to_dict(), allow_nan=False))
    assert given["ramp"] == [[0.01, 2.0], [0.05, 2.0], [0.1, None]]


@pytest.mark.parametrize(
    ("base", "world", "option"),
    [
        (GOOD, {"drift": 0.3}, "drift"),
        (GOOD, {"weekly": 0.3}, "weekly"),
        (GOOD, {"drift": math.inf}, "drift"),
        (GOOD, {"skewness": 1.0}, "skewness"),
        (MEAN, {"skewness": 99.0}, "skewness"),
    ],
)
def test_an_impossible_world_is_refused_too(base: dict[str, Any], world: dict[str, float], option: str) -> None:
    with pytest.raises(BadInput, match=rf"^--{option}\b"):
        SimulatedWorld(**world).check_against(PlanSettings(**base), [0.02, -0.02], 30.0)
