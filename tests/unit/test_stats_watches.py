"""The watches of gross harm and of rates: level at the null whatever the law, speed on plain harm, late harm,
snapshots."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
from builders.statistics import at_most
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.stats.e_process import HARM, PairedWealth, SplitWealth
from evaluator.stats.harm_watches import BATCH, CAPS, LASTS, WINDOW, GrossHarmWatch, RateWatch, UsualLosses


def watched(champion: np.ndarray, challenger: np.ndarray, *, margin: float = 0.2, alpha: float = 0.005) -> int | None:
    """Pairs until the alarm, or None."""
    watch = GrossHarmWatch(margin, alpha)
    for start in range(0, len(champion), BATCH):
        if watch.add(champion[start : start + BATCH], challenger[start : start + BATCH]):
            return start + BATCH
    return None


def known(*losses: float, times: float = 1.0) -> UsualLosses:
    """These losses of the champion, each so many times."""
    usual = UsualLosses()
    for each in losses:
        usual.add(np.array([each]))
    usual.classes = {index: [times * n, times * total] for index, (n, total) in usual.classes.items()}
    return usual


def test_wealth_is_one_on_average_at_the_null() -> None:
    """Enumerated: after one pair that sets the caps, eight pairs; the champion loses .5, the challenger 2.5 or nothing,
    with the mean at the null exactly."""
    margin, capped = 0.2, 2.5
    chance = 0.5 * (1 + margin) / capped
    total = np.zeros(len(CAPS))
    for path in itertools.product((capped, 0.0), repeat=8):
        watch = GrossHarmWatch(margin, 1e-300, batch=1, usual=known(0.5))
        watch.add(np.full(8, 0.5), np.array(path))
        p = math.prod(chance if x else 1 - chance for x in path)
        total += p * np.exp(np.array(watch.windows[0][3:]))
    assert total == pytest.approx(np.ones(len(CAPS)), abs=1e-12)


@pytest.mark.parametrize("disaster", [4.0, 40.0, 400.0])
def test_wealth_is_one_on_average_at_most_where_the_challenger_is_spared_a_rare_disaster(disaster: float) -> None:
    """Enumerated: the champion loses .5, and `disaster` once in fifty; the challenger always the same, at the null."""
    margin, chance = 0.2, 0.02
    mean = chance * disaster + (1 - chance) * 0.5
    theirs, total = np.full(6, mean * (1 + margin)), np.zeros(len(CAPS))
    for path in itertools.product((True, False), repeat=6):
        usual = known(disaster, *[0.5] * 49, times=1e12)  # so many that these pairs don't move it
        watch = GrossHarmWatch(margin, 1e-300, batch=1, usual=usual)
        watch.add(np.where(path, disaster, 0.5), theirs)
        total += math.prod(chance if x else 1 - chance for x in path) * np.exp(np.array(watch.windows[0][3:]))
    assert np.all(total <= 1.0 + 1e-9)


@pytest.mark.parametrize("law", ["two values", "log-normal"])
def test_false_alarms_at_the_null_stay_within_the_level(law: str) -> None:
    """Capped means at exactly 1.2 to 1, alpha .05, 1,500 pairs, 600 runs."""
    rng, runs, alarms = np.random.default_rng(5), 600, 0
    for _ in range(runs):
        if law == "two values":
            champion = np.full(1500, 0.4)
            challenger = np.where(rng.random(1500) < 0.4 * 1.2 / 1.5, 1.5, 0.0)
        else:
            champion = np.exp(rng.normal(size=1500))
            challenger = 1.2 * np.exp(rng.normal(size=1500))
        alarms += watched(champion, challenger, alpha=0.05) is not None
    assert alarms <= at_most(runs, 0.05)


def logistic(rng: np.random.Generator, n: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Log losses of a logistic champion and of a challenger of that kind on n requests."""
    x = rng.normal(size=(n, 5)) @ np.array([1.0, -1.0, 0.5, 0.8, -0.3])
    y = rng.random(n) < 1 / (1 + np.exp(-x))
    champion = np.logaddexp(0.0, np.where(y, -0.8, 0.8) * x)
    slopes = {"inverted": -0.8, "equal": 0.85, "better": 1.0}
    if kind == "gross":
        return champion, 1.5 * champion
    return champion, np.logaddexp(0.0, np.where(y, -1.0, 1.0) * slopes[kind] * x)


@pytest.mark.parametrize("kind", ["inverted", "gross"])
def test_plain_harm_is_seen_within_300_pairs(kind: str) -> None:
    taken = [watched(*logistic(np.random.default_rng(seed), 320, kind)) for seed in range(200)]
    assert all(pairs is not None and pairs <= 300 for pairs in taken)


@pytest.mark.parametrize("kind", ["equal", "better"])
def test_equal_and_better_challengers_are_left_alone(kind: str) -> None:
    assert not any(watched(*logistic(np.random.default_rng(seed), 20_000, kind)) for seed in range(20))


def test_harm_that_begins_late_is_seen_within_two_windows() -> None:
    rng = np.random.default_rng(3)
    fine, broken = logistic(rng, 28_000, "better"), logistic(rng, 2 * WINDOW, "inverted")
    taken = watched(np.concatenate([fine[0], broken[0]]), np.concatenate([fine[1], broken[1]]))
    assert taken is not None
    assert taken > 28_000


def test_a_day_on_which_the_challenger_is_a_third_worse_is_no_gross_harm() -> None:
    """A thousand pairs of a third more loss amid equal ones, as real equal models have them."""
    rng = np.random.default_rng(6)
    champion = rng.exponential(0.5, 8000)
    challenger = champion * np.where((np.arange(8000) // 1000) == 3, 1.33, 1.0)
    assert watched(champion, challenger) is None


def test_a_mean_within_twice_the_margin_is_no_gross_harm_however_sure() -> None:
    """Always worse by 35 % of the champion's loss: the bets win, and subtler tests may speak, but not this one."""
    assert watched(np.full(2000, 0.5), np.full(2000, 0.675)) is None
    assert watched(np.full(2000, 0.5), np.full(2000, 0.75)) is not None


def test_a_calm_day_is_measured_by_the_loss_of_all_days() -> None:
    """Where both lose little, two thirds more of it is little: 350 pairs of .15 and .25 amid a mean of .43."""
    rng = np.random.default_rng(8)
    champion = rng.exponential(0.45, 8000)
    challenger = champion.copy()
    champion[4000:4350], challenger[4000:4350] = rng.exponential(0.15, 350), rng.exponential(0.25, 350)
    assert watched(champion, challenger) is None


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_a_rare_class_whose_labels_come_first_is_measured_by_the_loss_on_it(share: float) -> None:
    """Positives are reported at once and the rest when the time is over; both models lose much on them, the equal
    challenger a sixth more than the champion."""
    rng = np.random.default_rng(7)
    ours, theirs = rng.gamma(8.0, -math.log(share) / 8.0, (2, 2000))
    usual = share * -math.log(share) + (1 - share) * -math.log(1 - share)

    def alarm(times: float) -> int | None:
        watch = GrossHarmWatch(0.2, 0.005, usual=known(usual, times=10_000.0))
        found = watch.add(ours, times * theirs)
        return found and found.pairs

    assert alarm(7 / 6) is None
    assert (alarm(3.0) or WINDOW) < 300


@pytest.mark.parametrize("disaster", [10.0, 40.0, 400.0])
def test_a_rare_disaster_of_the_champion_does_not_blame_the_challenger(disaster: float) -> None:
    """Equal means: the challenger loses the same on every request, the champion next to nothing until one in fifty
    is a disaster, which most hundreds of pairs don't have."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        champion = np.where(rng.random(13_000) < 0.02, disaster, 0.5)
        watch, mean = GrossHarmWatch(0.2, 0.005), champion.mean()
        watch.usual.add(champion[:10_000])
        assert watch.add(champion[10_000:], np.full(3000, mean)) is None


@pytest.mark.parametrize("law", ["rare", "heavy"])
def test_half_more_loss_is_seen_where_most_of_it_lies_in_rare_outcomes(law: str) -> None:
    """Log losses of a class of a tenth, and squared errors with Student's t of four degrees: within a window, but where
    these pairs lose a fifth less than usual."""
    taken = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        champion = rng.standard_t(4.0, 10_000 + LASTS * WINDOW) ** 2
        if law == "rare":
            p = 1.0 / (1.0 + np.exp(2.6 - 1.0 * rng.normal(size=len(champion))))
            champion = -np.log(np.where(rng.random(len(champion)) < p, p, 1.0 - p))
        watch = GrossHarmWatch(0.2, 0.005)
        watch.usual.add(champion[:10_000])
        taken.append(watch.add(champion[10_000:], 1.5 * champion[10_000:]))
    assert sum(found is not None for found in taken) >= 19


def test_the_alarm_says_what_it_saw() -> None:
    watch = GrossHarmWatch(0.2, 0.005)
    found = watch.add(np.full(400, 0.5), np.full(400, 1.0))
    assert found is not None
    assert found.pairs < 300
    assert f"over {found.pairs} pairs the challenger's loss is 1 where the champion's is 0.5" in found.reason
    assert watch.add(np.zeros(100), np.zeros(100)) == found  # it stays


def test_a_champion_without_loss_gives_no_measure_and_no_alarm() -> None:
    assert watched(np.zeros(2000), np.ones(2000)) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_pieces_and_snapshots_change_nothing(seed: int, sizes: list[int]) -> None:
    champion, challenger = logistic(np.random.default_rng(seed), sum(sizes), "gross")
    whole, pieces, at = GrossHarmWatch(0.2, 0.005), GrossHarmWatch(0.2, 0.005), 0
    whole.add(champion, challenger)
    for size in sizes:
        pieces.add(champion[at : at + size], challenger[at : at + size])
        pieces = msgspec.json.decode(msgspec.json.encode(pieces), type=GrossHarmWatch)
        at += size
    assert pieces == whole


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 3.0))
def test_a_larger_loss_of_the_challenger_is_never_less_decisive(seed: int, more: float) -> None:
    champion, challenger = logistic(np.random.default_rng(seed), 320, "gross")
    first, second = (watched(champion, losses) for losses in (challenger, challenger + more))
    assert first is None or (second is not None and second <= first)


def rate_of(
    rng: np.random.Generator, share: float, bad: tuple[float, float], n: int, *, late: int = 0, **settings: float
) -> float | None:
    """Requests of the challenger until the alarm; each arm fails with its probability, the challenger from request
    `late` on, before that as the champion."""
    watch = RateWatch(**({"margin": 0.01, "alpha": 0.005} | settings))
    for start in range(0, n, 50):
        treated = rng.random(50) < share
        chance = np.where(treated & (start >= late), bad[1], bad[0])
        watch.add(treated, np.full(50, share), (rng.random(50) >= chance).astype(float))
        if watch.alarm is not None:
            return share * (start + 50 - late)
    return None


def test_a_rates_bets_are_the_harm_side_of_the_exact_mode() -> None:
    """Independently computed by the e-processes for files, at the null -margin."""
    rng = np.random.default_rng(1)
    treated, good = rng.random(300) < 0.1, (rng.random(300) < 0.9).astype(float)
    watch = RateWatch(0.02, 1e-9, past=[100.0, 91.0])
    watch.add(treated, np.full(300, 0.1), good)
    other = SplitWealth.start(np.array([-0.02])).add(treated, 0.1, good, 0.91)
    assert watch.logs == pytest.approx(other.logs[HARM, :, 0].tolist(), abs=1e-12)
    pairs, same = RateWatch(0.02, 1e-9), PairedWealth.start(np.array([-0.02])).add(np.ones(300), good)
    pairs.add_pairs(np.ones(300), good)
    assert pairs.logs == pytest.approx(same.logs[HARM, :, 0].tolist(), abs=1e-12)


def test_a_rates_wealth_is_one_on_average_at_the_null() -> None:
    """Enumerated over arms and failures of four requests, one after the other, so that what is usual moves on."""
    margin, share, bad = 0.1, 0.25, 0.2
    total = 0.0
    for path in itertools.product((False, True), (1.0, 0.0), repeat=4):
        watch, p = RateWatch(margin, 1e-300, past=[10.0, 8.0]), 1.0
        for treated, good in zip(path[::2], path[1::2], strict=True):
            chance = bad + margin * treated
            p *= (share if treated else 1 - share) * (1 - chance if good else chance)
            watch.add(np.array([treated]), np.array([share]), np.array([good]))
        total += p * float(np.exp(watch.logs).mean())
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_one_in_ten_that_fails_is_seen_within_some_hundred_requests_early_or_late(share: float) -> None:
    rng = np.random.default_rng(2)
    for late in (0, round(300 / share)):
        taken = [rate_of(rng, share, (0.001, 0.1), late + round(900 / share), late=late) for _ in range(10)]
        assert all(n is not None and 0 < n <= 500 for n in taken)


@pytest.mark.parametrize(("share", "bad"), [(0.01, 0.02), (0.1, 0.0), (0.5, 0.2)])
def test_a_rate_within_its_margin_raises_no_alarm(share: float, bad: float) -> None:
    """At the margin exactly, level .05, 20,000 requests, 150 runs."""
    rng, runs = np.random.default_rng(3), 150
    alarms = sum(rate_of(rng, share, (bad, bad + 0.01), 20_000, alpha=0.05) is not None for _ in range(runs))
    assert alarms <= at_most(runs, 0.05)


def test_failures_that_meet_both_arms_earn_nothing() -> None:
    """Outages in which every request fails, half of the time; and arms that are not drawn as promised."""
    rng, watch = np.random.default_rng(4), RateWatch(0.01, 0.05)
    for start in range(400):
        treated = rng.random(50) < 0.1
        watch.add(treated, np.full(50, 0.1), np.full(50, float(start // 20 % 2)))
    assert watch.alarm is None
    uneven = RateWatch(0.01, 0.05)
    for _ in range(100):
        uneven.add(np.arange(50) % 3 == 0, np.full(50, 0.5), np.ones(50))
    assert uneven.alarm is None


def test_the_alarm_of_a_rate_counts_both_arms_and_stays() -> None:
    watch = RateWatch(0.01, 0.005)
    watch.add_pairs(np.ones(30), np.zeros(30))
    found = watch.alarm
    assert found is not None
    assert (found.champion, found.champion_good, found.challenger, found.challenger_good) == (30.0, 30.0, 30.0, 0.0)
    watch.add_pairs(np.ones(3000), np.ones(3000))
    assert watch.alarm is found
