"""Guards, corrections, budgets, gates and adaptive shares by simulation: seeded, with binomial limits.

A limit is binom.ppf(.999, runs, rate): a correct rate fails it once in a thousand seeds, and the seed is fixed. Where a
naive method is shown to fail, it is shown on the same runs.
"""

import math

import numpy as np
import pytest
from builders.statistics import arrival_plan, at_least, at_most, expose
from scipy.special import ndtr

from evaluator.stats import Arm, Plan, SplitSums, split_blocks
from evaluator.stats.aa_monitor import AAMonitor, Round
from evaluator.stats.alpha_budget import AlphaBudget, Kind
from evaluator.stats.always_valid import best_rho, log_mixture
from evaluator.stats.e_process import SplitWealth
from evaluator.stats.guards import ArrivalState, Exposures, GuardReading, label_arrival
from evaluator.stats.multiplicity import benjamini_hochberg, holm
from evaluator.stats.off_policy import Estimation, LoggedRewards, PolicyValue, TargetPolicy, policy_value
from evaluator.stats.thompson import Allocation, Contrast, contrast_allocation

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@pytest.mark.parametrize(
    ("capacity", "rate", "low", "high"), [(4096, 0.05, 0.005, 0.05), (128, 0.05, 0.0, 0.05), (4096, 0.10, 0.8, 1.0)]
)
def test_multiple_exposure_keeps_its_level_though_units_turn_late(
    capacity: int, rate: float, low: float, high: float
) -> None:
    """Half of the second exposures come at the end; a reading after every 150 of 600 units; 5 % are allowed."""
    rng, runs, breached = np.random.default_rng(31), 120, 0
    for run in range(runs):
        sketch, smallest, ever = Exposures(capacity), 1.0, False
        twice, late = rng.random(600) < rate, rng.random(600) < 0.5
        for unit in range(600):
            expose(sketch, [(f"{run} {unit}", "a")])
            if twice[unit] and not late[unit]:
                expose(sketch, [(f"{run} {unit}", "b")])
            if unit % 150 == 149:
                if unit == 599:
                    expose(sketch, [(f"{run} {other}", "b") for other in np.flatnonzero(twice & late)])
                reading = sketch.reading(allowed=0.05, smallest_p=smallest, alpha=0.05)
                assert reading.p_value is not None
                smallest, ever = reading.p_value, ever or not reading.ok
        breached += ever
    assert at_least(runs, low) <= breached <= at_most(runs, high)


ANYTIME = arrival_plan(300.0, margin=0.0, alpha=0.05)
PLANNED = arrival_plan(732.0, margin=0.0, alpha=0.05, mode="group-sequential", clustered=False)


def arrival(
    rng: np.random.Generator, champion: float, challenger: float, days: bool, plan: Plan = ANYTIME
) -> list[bool]:
    """A ramp over 24 blocks in which the arrival of labels falls; with days of their own if asked. Breached at each
    look."""
    state, sums, breached = ArrivalState.start(plan), [], []
    for block, share in enumerate(np.repeat([0.05, 0.2, 0.5], 8)):
        shift = -0.01 * block + (0.1 * rng.standard_normal() if days else 0.0)
        treated = rng.random(200) < share
        chance = np.clip(np.where(treated, challenger, champion) + shift, 0.02, 0.98)
        part = SplitSums()
        part.add(treated, np.full(200, share), (rng.random(200) < chance).astype(np.float64))
        sums.append(part)
        if block % 4 == 3:
            state, reading = label_arrival(state, split_blocks(sums), plan)
            breached.append(not reading.ok)
            assert (reading.p_value is not None and reading.p_value <= 0.05) is not reading.ok
    return breached


def test_label_arrival_alike_in_both_arms_is_no_breach_on_a_ramp() -> None:
    rng, runs = np.random.default_rng(32), 60
    assert sum(any(arrival(rng, 0.8, 0.8, run % 2 == 0)) for run in range(runs)) <= at_most(runs, 0.05)


def test_label_arrival_spends_its_level_where_the_horizon_is_known_and_units_are_independent() -> None:
    rng, runs = np.random.default_rng(43), 150
    breached = sum(any(arrival(rng, 0.8, 0.8, False, PLANNED)) for _ in range(runs))
    assert at_least(runs, 0.04) <= breached <= at_most(runs, 0.05)


@pytest.mark.parametrize(("champion", "challenger"), [(0.85, 0.70), (0.70, 0.85)])
def test_label_arrival_finds_what_is_withheld_in_both_directions(champion: float, challenger: float) -> None:
    rng, runs = np.random.default_rng(33), 25
    assert sum(arrival(rng, champion, challenger, True)[-1] for _ in range(runs)) >= at_least(runs, 0.9)


LOOKS = 12


def running_ps(rng: np.random.Generator, runs: int, drifts: list[float], common: float) -> Floats:
    """Always-valid one-sided p of correlated Brownian motions at 12 looks, shape (runs, looks, comparisons)."""
    step = 1.0 / LOOKS
    shared = rng.standard_normal((runs, LOOKS, 1))
    own = rng.standard_normal((runs, LOOKS, len(drifts)))
    noise = math.sqrt(common) * shared + math.sqrt(1.0 - common) * own
    s = np.cumsum(noise * math.sqrt(step) + np.array(drifts) * step, axis=1)
    v = (np.arange(1, LOOKS + 1) * step)[None, :, None]
    e = np.exp(log_mixture(s, np.broadcast_to(v, s.shape), best_rho(0.5, 0.05)))
    return 1.0 / np.maximum(1.0, np.maximum.accumulate(e, axis=1))


@pytest.mark.parametrize("common", [0.0, 0.5])
def test_holm_on_always_valid_p_values_keeps_the_family_at_every_look(common: float) -> None:
    rng, runs, ever, plain, found = np.random.default_rng(34), 800, 0, 0, 0
    ps = running_ps(rng, runs, [0.0] * 8 + [6.0], common)
    for run in ps:
        adjusted = np.array([holm(look.tolist()) for look in run])
        ever += bool((adjusted[:, :8] <= 0.05).any())
        plain += bool((run[:, :8] <= 0.05).any())
        found += bool(adjusted[-1, 8] <= 0.05)
    assert ever <= at_most(runs, 0.05)
    assert found >= at_least(runs, 0.95)
    if not common:
        assert plain > at_most(runs, 0.05)  # without a correction these runs break it


def test_false_discoveries_at_the_worst_moment_to_stop() -> None:
    """Stopped where the share of false discoveries looks largest, which no rule could know. BY's promise is for
    rules; BH at a fixed look is as promised."""
    rng, runs = np.random.default_rng(35), 500
    ps = running_ps(rng, runs, [0.0] * 6 + [3.5] * 2, 0.3)
    worst, fixed = [], []
    for run in ps:
        shares = []
        for look in run:
            rejected = np.array(benjamini_hochberg(look.tolist(), dependent=True)) <= 0.1
            shares.append(rejected[:6].sum() / max(1, rejected.sum()))
        worst.append(max(shares))
        last = np.array(benjamini_hochberg(run[-1].tolist())) <= 0.1
        fixed.append(last[:6].sum() / max(1, last.sum()))
    for rates in (worst, fixed):
        assert float(np.mean(rates)) <= 0.1 + 3.1 * float(np.std(rates)) / math.sqrt(runs)


@pytest.mark.parametrize(("kind", "low"), [("power", 0.042), ("geometric", 0.048)])
def test_a_lineage_of_nulls_sees_one_false_promotion_with_the_promised_chance(kind: Kind, low: float) -> None:
    rng, runs, ever = np.random.default_rng(37), 2000, 0
    levels, budget = [], AlphaBudget(0.05, kind)
    for number in range(25):
        level, budget = budget.request(str(number))
        levels.append(level)
    ever = int((rng.random((runs, 25)) <= levels).any(axis=1).sum())
    assert at_least(runs, low) <= ever <= at_most(runs, 0.05)


def test_lord_keeps_the_share_of_false_promotions_and_finds_more_than_the_family_wise_budget() -> None:
    """25 challengers, two in five better by 3 standard errors."""
    rng, runs, rates, found = np.random.default_rng(38), 400, [], {"lord": 0, "power": 0}
    for _ in range(runs):
        better = rng.random(25) < 0.4
        ps = ndtr(-(rng.standard_normal(25) + 3.0 * better))
        for kind in ("lord", "power"):
            budget, false, true = AlphaBudget(0.1, kind), 0, 0  # type: ignore[arg-type]
            for number in range(25):
                level, budget = budget.request(str(number))
                rejected = bool(ps[number] <= level)
                budget = budget.report(str(number), rejected)
                false += rejected and not better[number]
                true += rejected and bool(better[number])
            found[kind] += true
            if kind == "lord":
                rates.append(false / max(1, false + true))
    assert float(np.mean(rates)) <= 0.1 + 3.1 * float(np.std(rates)) / math.sqrt(runs)
    assert found["lord"] > 1.3 * found["power"]


def test_the_aa_monitor_seldom_accuses_a_machine_that_keeps_its_level() -> None:
    """60 rounds at the limit of what is allowed, the level of each reading 5 %; and one that does not keep it."""
    rng, runs = np.random.default_rng(39), 60
    accused, caught = np.zeros(3, dtype=int), 0
    for run in range(2 * runs):
        broken = run >= runs
        monitor = AAMonitor(0.05)
        for crossed, p, fixed in zip(
            rng.random(60) < (0.25 if broken else 0.05), rng.random(60), rng.random(60), strict=True
        ):
            monitor = monitor.add(Round(bool(crossed), float(p), float(fixed)))
        readings: list[GuardReading] = list(monitor.read(level=0.05))
        if broken:
            caught += not readings[0].ok
        else:
            accused += [not reading.ok for reading in readings[:3]]
    assert (accused <= at_most(runs, 0.05)).all()
    assert caught >= at_least(runs, 0.85)


def logged(rng: np.random.Generator, n: int, days: bool) -> tuple[LoggedRewards, TargetPolicy, float]:
    """Two actions; the target takes action 1. With days, rewards share an error within each of 60 days."""
    context = rng.random(n)
    chance = 0.2 + 0.5 * context
    action = rng.random(n) < chance
    model = np.where(action, 0.4 + 0.3 * context, 0.3)
    day = np.arange(n) % 60
    rewards = (rng.random(n) < model).astype(np.float64)
    propensity = np.where(action, chance, 1.0 - chance)
    if days:
        log = LoggedRewards(rewards + 0.5 * rng.standard_normal(60)[day], propensity, day)
    else:
        log = LoggedRewards(rewards, propensity, None, 0.0, 1.0, 5.0)
    return log, TargetPolicy(action.astype(np.float64), model, 0.4 + 0.3 * context), 0.55


@pytest.mark.parametrize("estimator", ["ips", "snips", "dr"])
@pytest.mark.parametrize("days", [False, True])
def test_off_policy_intervals_cover(estimator: str, days: bool) -> None:
    rng, runs, missed, uncertain, naive = np.random.default_rng(40), 400, 0, 0, 0
    for _ in range(runs):
        log, policy, true = logged(rng, 1200, days)
        found = policy_value(log, policy, Estimation(estimator))  # type: ignore[arg-type]
        assert isinstance(found, PolicyValue)
        missed += not found.lower <= true <= found.upper
        if found.certain_lower is not None and found.certain_upper is not None:
            uncertain += not found.certain_lower <= true <= found.certain_upper
        if days:
            apart = LoggedRewards(log.rewards, log.propensity)
            alone = policy_value(apart, policy, Estimation(estimator))  # type: ignore[arg-type]
            assert isinstance(alone, PolicyValue)
            naive += not alone.lower <= true <= alone.upper
    assert at_least(runs, 0.035) <= missed <= at_most(runs, 0.055)
    assert uncertain <= at_most(runs, 0.05)
    if days:
        assert naive > at_most(runs, 0.05)


def adaptive(rng: np.random.Generator, challenger: float, exact: bool, floor: float = 0.01) -> tuple[float, float]:
    """Two arms of 0/1 outcomes, the champion's at .5, under Thompson shares in 12 batches of 200: the naive z of the
    end, and the smallest always-valid p over the batches of the exact mode (1 if not asked for)."""
    arms = [Arm(0, 0.0, 0.0), Arm(0, 0.0, 0.0)]
    wealth, share, m = SplitWealth.start(), 0.5, 0.5
    for _ in range(12):
        treated = rng.random(200) < share
        y = (rng.random(200) < np.where(treated, challenger, 0.5)).astype(np.float64)
        if exact:
            wealth = wealth.add(treated, share, y, m)
        for index, mine in enumerate((y[~treated], y[treated])):
            total = float(mine.sum())
            arms[index] = Arm(arms[index].n + len(mine), arms[index].total + total, arms[index].squares + total)
        m = (arms[0].total + arms[1].total) / (arms[0].n + arms[1].n)
        effect = arms[1].total / arms[1].n - arms[0].total / arms[0].n
        error = math.sqrt(m * (1.0 - m) * (1.0 / arms[0].n + 1.0 / arms[1].n))
        found = contrast_allocation([Contrast(min(arm.n for arm in arms), effect, error)], burn_in=80, floor=floor)
        share = found.shares[1] if isinstance(found, Allocation) else share
    return effect / error, float(2.0 * wealth.p.min()) if exact else 1.0


def test_under_thompson_shares_the_naive_z_breaks_its_level_and_the_exact_mode_keeps_it() -> None:
    rng, runs, exact_runs, naive, exact = np.random.default_rng(41), 900, 250, 0, 0
    for run in range(runs):
        z, p = adaptive(rng, 0.5, run < exact_runs)
        naive += abs(z) > 1.96
        exact += p <= 0.05
    assert naive > at_most(runs, 0.055)
    assert exact <= at_most(exact_runs, 0.05)


def test_power_under_thompson_shares_is_a_matter_of_the_floor() -> None:
    """.5 against .65: the loser's floor bounds the information that a batch brings."""
    rng, runs = np.random.default_rng(42), 50
    low, high = (sum(adaptive(rng, 0.65, True, floor)[1] <= 0.05 for _ in range(runs)) for floor in (0.01, 0.2))
    assert high >= at_least(runs, 0.9)
    assert at_least(runs, 0.2) <= low < high
