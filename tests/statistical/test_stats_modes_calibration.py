"""Error rates and power of the named modes, of evidence carried over stages, and of plans, by seeded simulation.

A limit is binom.ppf(.999, runs, rate): a correct rate fails it once in a thousand seeds, and the seed is fixed.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from builders.statistics import at_least, at_most, expected_time, group_sequential
from scipy.stats import norm

from evaluator.stats import Boundary
from evaluator.stats.always_valid import MixtureSPRT, WaldSPRT
from evaluator.stats.cluster_robust import evidence_of
from evaluator.stats.e_process import HARM, WIN, SplitWealth, effects
from evaluator.stats.evidence import Evidence
from evaluator.stats.power import split_variance
from evaluator.stats.sequential_test import HARM_SIDE, FixedHorizon, Side

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Mode = MixtureSPRT | WaldSPRT | FixedHorizon

RUNS, HORIZON, EFFECT, ALPHA = 20_000, 1000.0, 0.1, 0.025
LEVELS = (0.002, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4)
MODES: dict[str, Callable[[int], Mode]] = {
    "msprt": lambda cells: MixtureSPRT.start(ALPHA, cells, tau=EFFECT, horizon=HORIZON),
    "sprt": lambda cells: WaldSPRT.start(ALPHA, cells, effect=EFFECT, beta=0.1, horizon=HORIZON),
    "fixed": lambda cells: FixedHorizon.start(ALPHA, cells),
}
# V/I by information time: steady, rising nine-fold, falling ten-fold.
RATES: dict[str, Callable[[float], float]] = {
    "steady": lambda t: 1.0,
    "rising": lambda t: 0.25 + 2.0 * t,
    "falling": lambda t: 1.0 / (0.1 + t),
}


def watched(name: str, rate: str, effect: float, seed: int, runs: int = RUNS, times: int = 40) -> Mode:
    """The mode after looks at t = 1/times … 2 at scores with that effect."""
    rng, monitor = np.random.default_rng(seed), MODES[name](runs)
    score, variance, last = np.zeros(runs), 0.0, 0.0
    for k in range(1, 2 * times + 1):
        t = k / times
        step = RATES[rate](t) * (t - last) * HORIZON
        score += effect * (t - last) * HORIZON + math.sqrt(step) * rng.standard_normal(runs)
        variance, last = variance + step, t
        looks = (np.full(runs, t), score / math.sqrt(variance), np.full(runs, variance), np.ones(runs, dtype=bool))
        monitor = monitor.look(*looks)[1]
    return monitor


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", MODES)
def test_p_values_are_valid_at_every_level_however_the_variance_goes(name: str, rate: str) -> None:
    p = watched(name, rate, 0.0, 31).p
    for level in LEVELS:
        assert (p <= level).sum() <= at_most(RUNS, level), level


def test_p_values_are_not_needlessly_large() -> None:
    assert (watched("fixed", "steady", 0.0, 32).p <= ALPHA).sum() >= at_least(RUNS, ALPHA)
    assert (watched("msprt", "steady", 0.0, 33).p <= 0.1).sum() >= at_least(RUNS, 0.025)
    assert (watched("sprt", "steady", 0.0, 34).p <= 0.1).sum() >= at_least(RUNS, 0.05)


def test_power_at_the_stated_effect() -> None:
    """θ = 3.16 at the horizon: one look there has power .885; these looked on to twice that."""
    assert (watched("fixed", "steady", EFFECT, 35).p <= ALPHA).sum() >= at_least(RUNS, 0.87)
    assert (watched("msprt", "steady", EFFECT, 36).p <= ALPHA).sum() >= at_least(RUNS, 0.92)
    assert (watched("sprt", "steady", EFFECT, 37).p <= ALPHA).sum() >= at_least(RUNS, 0.95)


@pytest.mark.parametrize("rate", RATES)
def test_wald_rules_out_a_true_effect_no_more_often_than_beta(rate: str) -> None:
    found = watched("sprt", rate, EFFECT, 38)
    assert isinstance(found, WaldSPRT)
    assert found.accepted.sum() <= at_most(RUNS, 0.1)


def test_wald_rules_out_an_effect_that_is_not_there() -> None:
    found = watched("sprt", "steady", 0.0, 39)
    assert isinstance(found, WaldSPRT)
    assert found.accepted.sum() >= at_least(RUNS, 0.9)


def clustered(scores: Floats, infos: Floats | None = None) -> Evidence:
    """Evidence of runs of blocks, shape (runs, blocks)."""
    information = np.ones_like(scores) if infos is None else np.broadcast_to(infos, scores.shape)
    rows = np.stack([scores, information, np.full_like(scores, 1e-12), np.ones_like(scores)], axis=2)
    return evidence_of(rows, margin=np.zeros(len(rows)), clustered=True, most_correlation=0.85)


@pytest.mark.parametrize("law", ["normal", "storms", "skewed", "correlated"])
@pytest.mark.parametrize("name", ["msprt", "sprt"])
def test_few_blocks_keep_the_level(name: str, law: str) -> None:
    """Thirty blocks, looks from the fifth on, V estimated from the blocks; both directions of the skewed law."""
    runs, blocks, rng = 4000, 30, np.random.default_rng(40)
    noise = rng.standard_normal((runs, blocks))
    if law == "storms":
        noise *= np.where(rng.random((runs, blocks)) < 0.1, 5.0, 1.0)
    elif law == "skewed":
        noise = 1.0 - rng.exponential(size=(runs, blocks))
    elif law == "correlated":
        for k in range(1, blocks):
            noise[:, k] = 0.5 * noise[:, k - 1] + math.sqrt(0.75) * noise[:, k]
    sizes = {"tau": 0.6} if name == "msprt" else {"effect": 0.6, "beta": 0.1}
    start = MixtureSPRT.start if name == "msprt" else WaldSPRT.start
    win = start(ALPHA, runs, horizon=30.0, **sizes)  # type: ignore[arg-type]
    harm = win
    ready = np.ones(runs, dtype=bool)
    for k in range(5, blocks + 1):
        found = clustered(noise[:, :k])
        win = win.look(found.information / 30.0, found.z_win, found.variance, ready)[1]
        harm = harm.look(found.information / 30.0, found.z_harm, found.variance, ready)[1]
    for side in (win, harm):
        for level in (0.01, 0.025, 0.1):
            assert (side.p <= level).sum() <= at_most(runs, level), level


def test_a_plans_power_and_stopping_are_what_happens() -> None:
    """90/10, 0.80 → 0.82 over 50,000 units: simulated score tests against the integration."""
    runs, looks, per_look = 6000, 50, 1000
    rng, share = np.random.default_rng(43), 0.1
    treated = rng.binomial(per_look, share, (runs, looks))
    others = per_look - treated
    counts = {1: (treated, rng.binomial(treated, 0.82)), 0: (others, rng.binomial(others, 0.80))}
    score, variance = np.zeros((runs, looks)), np.zeros((runs, looks))
    for arm, (units, good) in counts.items():
        for y, times_seen in ((1.0, good), (0.0, units - good)):
            score += times_seen * (arm - share) * (y - 0.8)
            variance += times_seen * ((arm - share) * (y - 0.8)) ** 2
    score, variance = np.cumsum(score, axis=1), np.cumsum(variance, axis=1)
    z = score / np.sqrt(variance)
    times = [k / looks for k in range(1, looks + 1)]
    drift = 0.02 * math.sqrt(50_000 * 0.09 / split_variance(share, 0.16, 0.82 * 0.18, 0.02))
    planned = group_sequential(drift, times, harm=HARM_SIDE)
    bounds = {}
    for name, side in (("win", Side()), ("harm", HARM_SIDE)):
        boundary, found = Boundary(side.alpha, side.spending), []
        for t in times:
            bound, boundary = boundary.look(t)
            found.append(bound)
        bounds[name] = np.array(found)
    won, harmed = z >= bounds["win"], -z >= bounds["harm"]
    ended = won | harmed
    first = np.where(ended.any(axis=1), ended.argmax(axis=1), looks - 1)
    wins = int(won[np.arange(runs), first].sum())
    assert at_least(runs, planned.above) <= wins <= at_most(runs, planned.above)
    stopped = (first + 1) / looks
    assert stopped.mean() == pytest.approx(
        expected_time(times, planned), abs=4 * stopped.std() / math.sqrt(runs) + 0.01
    )
    fixed = norm.cdf(0.02 * math.sqrt(4500.0 / split_variance(share, 0.16, 0.82 * 0.18, 0.02)) + norm.ppf(ALPHA))
    assert at_least(runs, fixed) <= (z[:, -1] >= 1.959964).sum() <= at_most(runs, fixed)


def test_exact_limits_hold_at_every_look_and_the_exact_test_finds_what_is_there() -> None:
    """Ramp 5 % → 20 %, drifting level, effect +0.1: each limit misses at any look at most α of the time."""
    runs, rng, missed, found = 300, np.random.default_rng(44), np.zeros(2), 0
    for _ in range(runs):
        wealth, test = SplitWealth.start(effects()), SplitWealth.start()
        total, count = 0.5, 1.0
        low_missed = high_missed = False
        for look in range(12):
            share, level = (0.05, 0.1, 0.2)[look // 4], 0.4 + 0.02 * look
            arm = rng.random(300) < share
            y = (rng.random(300) < level + 0.1 * arm).astype(float)
            m = total / count
            wealth, test = wealth.add(arm, share, y, m), test.add(arm, share, y, m)
            low, high = wealth.limits(0.1)
            low_missed, high_missed = low_missed or low > 0.1, high_missed or high < 0.1
            total, count = total + y[~arm].sum(), count + (~arm).sum()
        missed += (low_missed, high_missed)
        found += bool(test.p[WIN, 0] <= 0.1)
        assert test.p[HARM, 0] > 0.001
    assert (missed <= at_most(runs, 0.1)).all()
    assert found >= at_least(runs, 0.5)
