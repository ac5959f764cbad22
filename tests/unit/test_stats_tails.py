"""What is asked of tails, against SciPy's moments; and that what shows no tail waits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders.experiments import analysed, only
from scipy import stats

from evaluator.service import primary_metric
from evaluator.service.block_sums import BlockSums
from evaluator.service.design import evaluation_design
from evaluator.stats import Look, PairedSums, Plan, SplitSums, State, TailSums, advance, paired_blocks, split_blocks
from evaluator.stats.tails import CLEAR, LEAST_EFFECTIVE, MOST_SKEWNESS, PowerSums, Tails
from gauntlet.config.load import parse

RNG = np.random.default_rng(2)


def tails(champion: Any, challenger: Any) -> Tails:
    sums = PowerSums()
    for arm, y in enumerate((champion, challenger)):
        for part in np.array_split(np.asarray(y, dtype=float), 7):
            sums.add(arm, part)
    return Tails.of_sums(sums.sums[None])


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_moments_are_scipys_also_far_from_zero(offset: float) -> None:
    arms = offset + RNG.gamma(2.0, 3.0, 500), offset - RNG.lognormal(0.0, 1.0, 300)
    found = tails(*arms)
    for arm, y in enumerate(arms):
        assert found.variance[0, arm] == pytest.approx(np.var(y), rel=1e-6)
        assert found.third[0, arm] / found.variance[0, arm] ** 1.5 == pytest.approx(stats.skew(y), rel=1e-5)
        assert found.fourth[0, arm] / found.variance[0, arm] ** 2 == pytest.approx(
            stats.kurtosis(y, fisher=False), rel=1e-5
        )
    third = (stats.moment(arms[0], 3) / 500**2 - stats.moment(arms[1], 3) / 300**2) / (
        np.var(arms[0]) / 500 + np.var(arms[1]) / 300
    ) ** 1.5
    alone = stats.skew(arms[0]) / np.sqrt(500), -stats.skew(arms[1]) / np.sqrt(300)
    assert found.skewness[0] == pytest.approx(max(third, *alone), rel=1e-5)


def test_the_noise_of_the_other_arm_hides_no_tail_and_arms_of_one_law_are_asked_no_more() -> None:
    calm, long = 3.0 * RNG.standard_normal(500), -RNG.gamma(0.15, 1.0, 500)
    assert tails(calm, long).skewness[0] < 0.01  # its part of the estimate's variance is small
    calm, both = calm / 6.0, (-RNG.exponential(1.0, 400), -RNG.exponential(1.0, 400))
    assert tails(calm, long).skewness[0] == pytest.approx(-stats.skew(long) / np.sqrt(500), abs=0.02)
    variance = sum(np.var(y) for y in both) / 400
    estimate = -stats.moment(both[1], 3) / 400**2 / variance**1.5
    assert tails(*both).skewness[0] == pytest.approx(estimate, abs=0.03)


def test_only_the_tails_that_would_take_a_win_away_count() -> None:
    calm, long = RNG.standard_normal(600), RNG.lognormal(0.0, 1.5, 600)
    assert tails(calm, long).skewness[0] < 0.05  # windfalls of the challenger
    assert tails(calm, -long).skewness[0] > MOST_SKEWNESS  # disasters of the challenger
    assert tails(long, calm).skewness[0] > MOST_SKEWNESS  # windfalls of the champion
    assert "skewness" in (tails(calm, -long).lacking(0) or "")


def test_harm_is_asked_for_the_other_tails() -> None:
    """Its bound is half as high again where windfalls make much of a mean, and none of few outcomes or an even arm."""
    calm, long = RNG.standard_normal(600), RNG.lognormal(0.0, 1.5, 600)
    for arms, factor in (((calm, long), CLEAR), ((calm, -long), 1.0), ((long, calm), 1.0), ((-long, calm), CLEAR)):
        assert tails(*arms).harm_factor[0] == factor
    assert tails(calm, long[:399]).harm_factor[0] == np.inf
    for n, factor in ((399, np.inf), (400, 1.0)):
        assert tails(calm, np.full(n, 7.0)).harm_factor[0] == factor
    few = np.array([[(600.0, 0.0, 600.0), (20.0, 140.0, 980.0)]])
    assert Tails.of_two_moments(few).harm_factor[0] == 1.0  # bounded losses, of which no more is kept


@pytest.mark.parametrize(("effect", "held"), [(0.04, False), (0.07, True), (0.1, False)])
def test_harm_that_rare_windfalls_may_undo_is_held_unless_it_is_clear(effect: float, held: bool) -> None:
    """2,000 differences of ±1 about their mean: T = −1.8, −3.1 and −4.5 by hand, and a little less in 40 blocks;
    the bound is 2.05."""
    n = 2000
    blocks = []
    for _ in range(40):
        sums = PairedSums()
        sums.add(np.zeros(n // 40), np.tile([-1.0, 1.0], n // 80) - effect)
        blocks.append(sums)
    long = tails([], RNG.lognormal(0.0, 1.5, 600))
    plan = Plan(horizon=float(n))
    (_, plain), (after, asked) = (
        advance(State.start(plan), paired_blocks(blocks), plan, tails=t) for t in (None, long)
    )
    assert isinstance(plain, Look)
    assert isinstance(asked, Look)
    assert plain.bound_harm is not None
    assert asked.bound_harm == pytest.approx(CLEAR * plain.bound_harm)
    assert (plain.crossed, asked.crossed) == (None if effect < 0.05 else "worse", "worse" if effect == 0.1 else None)
    assert any("not enough for worse yet: rare outcomes far out" in reason for reason in asked.reasons) is held
    assert asked.p_harm > plain.p_harm
    assert (asked.upper < 0.0) is (effect == 0.1)
    assert State.from_dict(plan, after.to_dict()).stop == after.stop


def test_the_skewness_of_many_outcomes_must_be_smaller() -> None:
    """Challenger and champion alike: the smaller arm counts; of pairs there is one arm alone."""
    for n, most in ((100, 0.14), (300, 0.14), (600, 0.13), (60_000, 0.1201)):
        moments = [np.array([[count, n]], dtype=float) for count in (9 * n, 0)]
        ones = np.ones((1, 2))
        for counts in moments:
            assert Tails(counts, ones, ones, ones, 3.0 * ones).most_skewness[0] == pytest.approx(most)


def test_an_arm_that_hardly_varies_shows_nothing_before_four_hundred() -> None:
    calm = RNG.standard_normal(5000)
    for n, shown in ((30, False), (399, False), (400, True)):
        assert tails(calm, np.full(n, 7.0)).shown[0] == shown, n  # no tail yet, or none at all
        assert tails(calm, 7.0 + 0.01 * RNG.standard_normal(n)).shown[0] == shown, n  # beside the effect it is even
    assert f"{399}" in (tails(calm, np.full(399, 7.0)).lacking(0) or "")


@pytest.mark.parametrize(
    ("draw", "n"),
    [(RNG.standard_normal, 60), (lambda n: -RNG.exponential(1.0, n), 250), (lambda n: RNG.gamma(4.0, 1.0, n), 100)],
)
def test_light_tails_are_shown_soon(draw: Any, n: int) -> None:
    shown = [bool(tails(draw(9 * n), draw(n)).shown[0]) for _ in range(200)]
    assert np.mean(shown) > 0.9
    assert LEAST_EFFECTIVE < 60 / 3


def frame(y: Any, seed: int, rows: int = 3000) -> pd.DataFrame:
    """`y(rng, n)` is the challenger's loss; the champion's is .995 throughout."""
    rng = np.random.default_rng(seed)
    treated = rng.random(rows) < 0.1
    return pd.DataFrame({"arm": np.where(treated, "B", "A"), "loss": np.where(treated, y(rng, rows), 0.995)})


@pytest.mark.parametrize(("loss", "verdict"), [(0.5, "better"), (1.5, "worse")])
def test_what_comes_once_in_a_hundred_may_not_have_come_yet_for_either_arm(loss: float, verdict: str) -> None:
    """A disaster would take the win away, and a windfall the harm."""
    options = {"metric": "loss:mean:lower", "share": {"A": 0.9, "B": 0.1}}
    for rows, said in ((3000, "inconclusive"), (5000, verdict)):  # 300 and 500 outcomes, all alike
        found = only(analysed(frame(lambda rng, n: np.full(n, loss), 1, rows), **options))
        assert found.verdict == said
        assert any("show what its mean rests on" in reason for reason in found.reasons) is (rows == 3000)


@pytest.mark.parametrize("metric", ["loss:mean:lower", "loss/sessions:ratio:lower"])
@pytest.mark.parametrize("unit", [None, "who"])
def test_means_ratios_and_units_all_wait_for_the_tail(metric: str, unit: str | None) -> None:
    """Equal means; most outcomes of the challenger lie below the champion's."""
    won = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        log = frame(lambda rng, n: rng.lognormal(0.0, 2.0, n) * 0.995 / np.exp(2.0), seed)
        log["loss"] += np.where(log.arm == "A", rng.normal(0.0, 0.1, 3000), 0.0)
        log = log.assign(sessions=1.0, who=np.arange(3000))
        won += only(analysed(log, metric=metric, share={"A": 0.9, "B": 0.1}, unit=unit)).verdict == "better"
    assert won == 0


@pytest.mark.parametrize("paired", [True, False])
def test_live_evidence_waits_for_an_arm_that_hardly_varies(paired: bool) -> None:
    """Losses of an even .995 against .5: what comes once in a hundred is not among so few outcomes; harm waits not."""
    for a_day, sign, crossed in ((10, 1.0, None), (40, 1.0, "better"), (10, -1.0, "worse")):
        blocks = []
        for _ in range(30):
            noise = 0.001 * RNG.standard_normal(2 * a_day)
            y = -np.where(np.arange(2 * a_day) < a_day, 0.995, 0.5) * sign + noise
            sums = PairedSums() if paired else SplitSums()
            if isinstance(sums, PairedSums):
                sums.add(y[:a_day], y[a_day:])
            else:
                sums.add(np.arange(2 * a_day) >= a_day, 0.5, y)
            blocks.append(sums)
        made = paired_blocks(blocks) if paired else split_blocks(blocks, -0.995 * sign)
        _, look = advance(State.start(plan := Plan(horizon=1.0)), made, plan)
        assert isinstance(look, Look)
        assert look.crossed == crossed
        assert any("vary too little" in reason for reason in look.reasons) is (a_day == 10)


def test_a_regressions_rare_disasters_hold_a_win_of_the_running_evaluator() -> None:
    """Pairs that are mostly better by .5, and one in two hundred worse by 60: the sums of hours don't show it."""
    design = evaluation_design(parse('experiment: test\ntask: regression\nchampion: {model: "nowhere:model"}'))
    plan = design.plan.with_traffic(1000.0, 86_400.0, 86_400.0)
    crossed = []
    for kept in (True, False):
        blocks = {}
        rng = np.random.default_rng(4)
        for hour in range(8 * 24):
            block = blocks[hour] = BlockSums()
            d = 0.5 + 0.1 * rng.standard_normal(42) - 60.0 * (rng.random(42) < 0.005)
            block.paired.add(np.zeros(42), d)
            if kept:
                block.tails["challenger"] = TailSums()
                block.tails["challenger"].add(d)
        test = plan.not_worse(10.0)
        _, look = primary_metric.look(design, plan, test, State.start(test), blocks, 8 * 24 - 1)
        assert isinstance(look, Look)
        crossed.append(look.crossed)
        assert any("rare outcomes far out" in reason for reason in look.reasons) is kept
    assert crossed == [None, "better"]
