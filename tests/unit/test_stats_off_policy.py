"""Off-policy estimates: by hand, against enumeration, with their refusals; and the offline gate."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from statsmodels.api import OLS

from evaluator.stats import OutcomeError, PlanError, PropensityError, StatsError
from evaluator.stats.off_policy import (
    Estimation,
    LoggedRewards,
    NotEstimated,
    PolicyValue,
    TargetPolicy,
    bernstein_half_width,
    gate,
    policy_value,
)

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def value(log: LoggedRewards, policy: TargetPolicy, **settings: Any) -> PolicyValue:
    found = policy_value(log, policy, Estimation(**settings))
    assert isinstance(found, PolicyValue), found
    return found


def refused(log: LoggedRewards, policy: TargetPolicy, **settings: Any) -> NotEstimated:
    found = policy_value(log, policy, Estimation(**settings))
    assert isinstance(found, NotEstimated), found
    return found


def logged(seed: int, n: int = 4000, share: float = 0.3) -> tuple[LoggedRewards, TargetPolicy, Floats]:
    """0/1 rewards of two actions over a context; the target always takes action 1. True value: mean of .5 + .3 c."""
    rng = np.random.default_rng(seed)
    context = rng.random(n)
    chance = share + 0.4 * context * (share < 0.5)
    action = rng.random(n) < chance
    success = np.where(action, 0.5 + 0.3 * context, 0.4)
    rewards = (rng.random(n) < success).astype(np.float64)
    log = LoggedRewards(rewards, np.where(action, chance, 1.0 - chance), None, 0.0, 1.0, 1.0 / 0.3)
    policy = TargetPolicy(action.astype(np.float64), success, 0.5 + 0.3 * context)
    return log, policy, action.astype(np.float64)


def test_values_by_hand() -> None:
    rewards, propensity = np.array([1.0, 0.0, 2.0, 4.0] * 50), np.array([0.5, 0.5, 0.25, 0.5] * 50)
    chance = np.array([0.5, 0.3, 0.25, 0.75] * 50)
    log, policy = LoggedRewards(rewards, propensity), TargetPolicy(chance, rewards - 0.5, rewards * 0.0 + 3.0)
    # Weights 1, .6, 1, 1.5: their sum is 4.1.
    assert value(log, policy, estimator="ips").value == pytest.approx((1.0 + 2.0 + 6.0) / 4.0)
    assert value(log, policy, estimator="snips").value == pytest.approx(9.0 / 4.1)
    assert value(log, policy, estimator="dr").value == pytest.approx(3.0 + 0.5 * 4.1 / 4.0)
    found = value(log, policy)
    assert found.mean_weight == pytest.approx(1.025)
    assert found.effective == pytest.approx(50 * 4.1**2 / (1.0 + 0.36 + 1.0 + 2.25))
    assert (found.n, found.most_weight, found.cut, found.bias) == (200, 1.5, 0.0, (0.0, 0.0))


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_the_logging_policy_itself_is_worth_its_mean_reward(estimator: str) -> None:
    log, policy, _ = logged(1)
    same = TargetPolicy(log.propensity, policy.predicted, policy.predicted)
    found = value(log, same, estimator=estimator)
    error = log.rewards.std(ddof=1) / math.sqrt(len(log.rewards)) * t.ppf(0.975, len(log.rewards) - 1)
    assert found.value == pytest.approx(log.rewards.mean(), abs=1e-12)
    assert found.upper - found.value == pytest.approx(error, rel=1e-9)
    assert found.value - found.lower == pytest.approx(error, rel=1e-9)


def exact_log() -> tuple[LoggedRewards, TargetPolicy, float]:
    """Each action stands in the log exactly as often as its chance; the model of the rewards is wrong."""
    chances, target = np.array([0.2, 0.5, 0.9]), np.array([0.7, 0.1, 0.4])
    rewards, model = np.array([[1.0, 3.0], [0.0, 2.0], [5.0, 4.0]]), np.array([[0.3, 9.0], [1.0, 1.0], [-2.0, 0.0]])
    context = np.repeat([0, 1, 2], 100)
    action = np.concatenate([np.arange(100) < 100 * chance for chance in chances]).astype(np.int64)
    wanted = np.where(action, target[context], 1.0 - target[context])
    expected = target * model[:, 1] + (1.0 - target) * model[:, 0]
    true = float((target * rewards[:, 1] + (1.0 - target) * rewards[:, 0]).mean())
    log = LoggedRewards(rewards[context, action], np.where(action, chances[context], 1.0 - chances[context]))
    return log, TargetPolicy(wanted, model[context, action], expected[context]), true


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_in_a_log_of_exact_proportions_the_value_is_exact(estimator: str) -> None:
    """Such a log is the expectation over actions, so this is unbiasedness without sampling error."""
    log, policy, true = exact_log()
    found = value(log, policy, estimator=estimator)
    assert found.value == pytest.approx(true, abs=1e-12)
    assert found.mean_weight == pytest.approx(1.0, abs=1e-12)


def test_a_right_model_saves_wrong_propensities() -> None:
    """Doubly robust: weights off by a common factor, exact model."""
    log, policy, _ = logged(10, n=20_000)
    off = LoggedRewards(log.rewards, np.clip(log.propensity * 1.02, 0.0, 1.0))
    assert policy.expected is not None
    true = float(policy.expected.mean())
    assert abs(value(off, policy, estimator="dr").value - true) < 0.5 * abs(
        value(off, policy, estimator="ips").value - true
    )


def test_snips_interval_is_weighted_least_squares() -> None:
    """Its influence is that of a weighted mean: HC1's for clusters, up to the degrees of freedom."""
    log, policy, _ = logged(2)
    weights = policy.chance / log.propensity
    root = np.sqrt(weights)
    fit = OLS(log.rewards * root, root).fit(cov_type="HC1")
    found = value(log, policy)
    assert found.value == pytest.approx(fit.params[0], rel=1e-12)
    half = float(fit.bse[0]) * t.ppf(0.975, len(weights) - 1)
    assert found.upper - found.value == pytest.approx(half, rel=1e-9)


def test_clusters_are_summed_first() -> None:
    """Each row ten times over: the same value, and the interval of the rows alone, not one √10 narrower."""
    log, policy, _ = logged(3, n=500)
    rows = np.repeat(np.arange(500), 10)
    copied = LoggedRewards(log.rewards[rows], log.propensity[rows], rows)
    again = TargetPolicy(policy.chance[rows])
    once, ten = value(log, policy), value(copied, again)
    assert (ten.value, ten.lower, ten.upper) == pytest.approx((once.value, once.lower, once.upper), abs=1e-12)
    assert (ten.n, ten.n_clusters, once.n_clusters) == (5000, 500, 500)
    assert ten.certain_lower is None


def test_bernstein_is_maurer_and_pontil() -> None:
    terms = np.array([0.0, 1.0, 1.0, 0.5, 0.25])
    log = math.log(2.0 / 0.05)
    expected = math.sqrt(2.0 * terms.var(ddof=1) * log / 5.0) + 7.0 * 3.0 * log / 12.0
    assert bernstein_half_width(terms, 3.0, 0.05) == pytest.approx(expected)
    log_, policy, _ = logged(4)
    found = value(log_, policy, estimator="ips")
    assert found.certain_lower is not None
    half = bernstein_half_width(policy.chance / log_.propensity * log_.rewards, 1.0 / 0.3, 0.025)
    assert found.certain_lower == pytest.approx(found.value - half)
    assert found.certain_upper == pytest.approx(found.value + half)
    assert found.certain_lower < found.lower
    doubly = value(log_, policy, estimator="dr")
    weights = policy.chance / log_.propensity
    rows = policy.expected + weights * (log_.rewards - policy.predicted)
    assert doubly.certain_upper == pytest.approx(doubly.value + bernstein_half_width(rows, 1.0 + 2.0 / 0.3, 0.025))
    assert value(log_, policy).certain_lower is None  # no such bound for a ratio


def heavy(n: int = 20_000) -> tuple[LoggedRewards, TargetPolicy]:
    """Action 1 with a chance of 2 % in half of the rows and 50 % in the others, always rewarded in the first half."""
    rng = np.random.default_rng(8)
    rare = rng.random(n) < 0.5
    chance = np.where(rare, 0.02, 0.5)
    action = rng.random(n) < chance
    rewards = np.where(rare & action, 1.0, (rng.random(n) < 0.2).astype(np.float64))
    log = LoggedRewards(rewards, np.where(action, chance, 1.0 - chance), None, 0.0, 1.0, 50.0)
    return log, TargetPolicy(action.astype(np.float64), np.full(n, 0.5), np.full(n, 0.5))


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_clipping_states_its_bias_and_the_interval_still_holds_the_truth(estimator: str) -> None:
    """Truth .5 + .1 = .6; weights of 50 clipped at 5 lose nine tenths of the rare half."""
    log, policy = heavy()
    whole = value(log, policy, estimator=estimator)
    clipped = value(log, policy, estimator=estimator, clip=5.0)
    assert whole.lower < 0.6 < whole.upper
    assert clipped.cut == pytest.approx(0.45, abs=0.04)
    assert clipped.most_weight == 5.0
    assert clipped.effective > 2.0 * whole.effective
    assert abs(clipped.value - 0.6) > 0.1  # biased, as said
    assert clipped.bias[0] < 0.0 < clipped.bias[1] or estimator == "ips"
    assert clipped.lower < 0.6 < clipped.upper
    narrower = (clipped.upper - clipped.lower) - (clipped.bias[1] - clipped.bias[0])
    assert narrower < whole.upper - whole.lower
    if estimator == "ips":
        assert clipped.bias == (0.0, pytest.approx(clipped.cut))
        assert clipped.certain_lower is not None
        assert clipped.certain_upper is not None
        assert clipped.certain_lower < clipped.value - 0.01
        assert clipped.certain_upper > clipped.upper
    if estimator == "dr":
        assert clipped.bias == (pytest.approx(-clipped.cut), pytest.approx(clipped.cut))
    if estimator == "snips":
        assert clipped.bias == pytest.approx((-clipped.cut * clipped.value, clipped.cut * (1.0 - clipped.value)))


def test_refusals_have_kinds() -> None:
    log, policy, _ = logged(6)
    n = len(log.rewards)
    none = refused(log, TargetPolicy(np.zeros(n)))
    assert none.kind == "no overlap"
    heavy_log = LoggedRewards(log.rewards, np.full(n, 0.5))
    one = np.full(n, 0.001)
    one[:40] = 1.0
    few = refused(heavy_log, TargetPolicy(one))
    assert few.kind == "heavy weights"
    assert "are worth" in few.reason
    rng = np.random.default_rng(1)
    spiky = LoggedRewards(rng.random(200), np.full(200, 0.5))
    chance = np.full(200, 0.03)
    chance[0] = 1.0
    assert refused(spiky, TargetPolicy(chance), min_effective=2.0).kind == "heavy weights"
    assert "one row carries" in refused(spiky, TargetPolicy(chance), min_effective=2.0).reason
    # The target wants an action that was never possible in four rows of ten.
    missing = np.where(np.arange(n) % 10 < 4, 0.0, policy.chance)
    assert refused(log, TargetPolicy(missing)).kind == "no overlap"
    # Propensities logged at half of what they were.
    wrong = LoggedRewards(log.rewards, log.propensity / 2.0)
    assert refused(wrong, policy).kind == "weights off"
    assert refused(LoggedRewards(np.ones(1), np.ones(1)), TargetPolicy(np.ones(1))).kind == "few rows"
    days = LoggedRewards(log.rewards, log.propensity, np.arange(n) % 19)
    assert refused(days, policy).kind == "few rows"


def test_bad_input_raises() -> None:
    ones = np.ones(3)
    for propensity in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(PropensityError):
            LoggedRewards(ones, np.array([0.5, propensity, 0.5]))
    for reward in (math.nan, math.inf, 2.0):
        with pytest.raises(OutcomeError):
            LoggedRewards(np.array([1.0, reward, 1.0]), ones, None, 0.0, 1.0)
    with pytest.raises(StatsError):
        LoggedRewards(ones, np.ones(2))
    with pytest.raises(StatsError):
        LoggedRewards(ones, ones, np.zeros(2, dtype=np.int64))
    log, policy, _ = logged(7)
    for chance in (-0.1, 1.1, math.nan):
        with pytest.raises(PropensityError):
            policy_value(log, TargetPolicy(np.full(len(log.rewards), chance)))
    with pytest.raises(StatsError):
        policy_value(log, TargetPolicy(ones))
    for settings in ({"estimator": "magic"}, {"alpha": 0.0}, {"clip": 0.5}, {"estimator": "dr"}):
        with pytest.raises(PlanError):
            policy_value(log, TargetPolicy(policy.chance), Estimation(**settings))  # type: ignore[arg-type]
    with pytest.raises(OutcomeError):
        policy_value(log, TargetPolicy(policy.chance, ones, ones), Estimation("dr"))
    with pytest.raises(PlanError):
        gate(log, policy, needed=math.nan)


def test_gate_passes_fails_and_says_when_it_does_not_know() -> None:
    log, policy, _ = logged(8)
    better = gate(log, policy)
    assert better.result == "pass"
    assert better.lower is not None
    assert better.lower > 0.0
    assert better.challenger is not None
    assert better.champion is not None
    assert better.difference == pytest.approx(better.challenger.value - better.champion.value)
    assert better.champion.value == pytest.approx(log.rewards.mean())
    worse = gate(log, TargetPolicy(1.0 - policy.chance))
    assert worse.result == "fail"
    assert gate(log, policy, needed=better.upper or 0.0).result == "fail"
    assert better.upper is not None
    for share in (0.1, 0.5, 0.9):
        inside = better.lower + share * (better.upper - better.lower)
        assert gate(log, policy, needed=inside).result == "no answer"
    assert gate(log, TargetPolicy(1.0 - policy.chance), needed=-0.5).result == "pass"
    unknown = gate(log, TargetPolicy(np.zeros(len(log.rewards))))
    assert unknown.result == "no answer"
    assert "can't be told" in unknown.reason
    assert unknown.difference is None


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
def test_gate_allows_for_what_clipping_took(estimator: str) -> None:
    """The challenger is worth .6. Clipped, ips sees a fraction of it: that is not a proof of being worse."""
    log, policy = heavy()
    reading = gate(log, policy, settings=Estimation(estimator, clip=5.0))  # type: ignore[arg-type]
    assert reading.challenger is not None
    assert reading.champion is not None
    assert reading.difference is not None
    assert reading.lower is not None
    assert reading.upper is not None
    assert reading.champion.bias == (0.0, 0.0)
    assert reading.lower < 0.6 - log.rewards.mean() < reading.upper
    unclipped = reading.upper - reading.lower - (reading.challenger.bias[1] - reading.challenger.bias[0])
    assert 0.0 < unclipped < 0.05
    champion = TargetPolicy(log.propensity, policy.predicted, policy.predicted)
    back = gate(log, champion, policy, Estimation(estimator, clip=5.0))  # type: ignore[arg-type]
    assert (back.lower, back.upper) == pytest.approx((-reading.upper, -reading.lower))


def test_gate_compares_row_by_row() -> None:
    """A challenger that differs in one row of a hundred: what both earn alike cancels."""
    log, policy, _ = logged(9)
    nearly = policy.chance.copy()
    nearly[::100] = log.propensity[::100]
    paired = gate(log, TargetPolicy(nearly), policy)
    alone = value(log, policy)
    assert paired.lower is not None
    assert paired.upper is not None
    assert paired.upper - paired.lower < 0.3 * (alone.upper - alone.lower)
    same = gate(log, policy, policy)
    assert (same.result, same.difference, same.lower, same.upper) == ("fail", 0.0, 0.0, 0.0)
