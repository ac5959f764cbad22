"""Guards over the traffic: what each finds, what it must not find, and what it says without data."""

import itertools
import math

import numpy as np
import pytest
from builders.statistics import arrival_plan, expose
from scipy.stats import binom

from evaluator.stats import AssignmentCounts, SplitSums, StatsError, split_blocks
from evaluator.stats.always_valid import log_rate_evidence, rate_limits, rate_p
from evaluator.stats.guards import ArrivalState, Exposures, GuardReading, label_arrival, multiple_exposure, no_traffic
from evaluator.stats.sequential_test import Plan


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("above", [True, False])
def test_expectation_of_the_rate_evidence_is_one_at_the_rate_and_less_on_the_nulls_side(
    rate: float, above: bool
) -> None:
    """Exact: all counts of 8 trials."""

    def expected(true: float) -> float:
        return sum(
            float(binom.pmf(k, 8, true)) * math.exp(log_rate_evidence(k, 8, rate, above=above)) for k in range(9)
        )

    assert expected(rate) == pytest.approx(1.0, abs=1e-12)
    assert expected(rate * 0.9) < 1.0 - 1e-3 if above else expected(rate * 0.9) > 1.0 + 1e-3


def test_rate_evidence_is_the_mean_likelihood_ratio() -> None:
    ratios = []
    for shift in 0.02 * 1.15 ** np.arange(43):
        shifted = 1.0 / (1.0 + 9.0 * math.exp(-shift))
        ratios.append((shifted / 0.1) ** 7 * ((1.0 - shifted) / 0.9) ** 13)
    assert log_rate_evidence(7, 20, 0.1) == pytest.approx(math.log(np.mean(ratios)), abs=1e-10)


@pytest.mark.parametrize(("events", "trials"), [(3, 40), (50, 100), (990, 1000), (0, 100), (100, 100)])
def test_rate_limits_invert_the_test(events: int, trials: int) -> None:
    lower, upper = rate_limits(events, trials, 0.05)
    assert lower <= events / trials <= upper
    if lower > 0.0:
        assert rate_p(events, trials, lower) == pytest.approx(0.025, rel=1e-6)
    if upper < 1.0:
        assert rate_p(events, trials, upper, above=False) == pytest.approx(0.025, rel=1e-6)
    assert (lower == 0.0) is (events == 0)
    assert (upper == 1.0) is (events == trials)


def test_rate_refusals() -> None:
    assert rate_limits(0, 0, 0.05) == (0.0, 1.0)
    for bad in ((1, 2, 0.0), (1, 2, 1.0), (3, 2, 0.5), (-1, 2, 0.5)):
        with pytest.raises(StatsError):
            log_rate_evidence(*bad)
    with pytest.raises(StatsError):
        rate_limits(1, 2, 0.0)


def exposed(units: int, every: int, capacity: int = 65_536) -> Exposures:
    """Each unit met a or b; every `every`-th both."""
    once = [(f"unit {unit}", "ab"[unit % 2]) for unit in range(units)]
    again = [(f"unit {unit}", "ba"[unit % 2]) for unit in range(units) if every and unit % every == 0]
    return expose(Exposures(capacity), once + again)


def test_sketch_is_exact_up_to_its_capacity() -> None:
    sketch = exposed(1000, 40, capacity=1000)
    assert (sketch.level, sketch.units, sketch.multiple, sketch.distinct) == (0, 1000, 25, 1000)
    expose(sketch, [("unit 3", "b")])  # again the same
    assert sketch.multiple == 25
    expose(sketch, [("unit 40", "c")])  # a third arm is still one unit
    assert sketch.multiple == 25
    assert sketch.arms["unit 40"] == ("a", "b", "c")


def test_beyond_its_capacity_the_sketch_is_a_fair_sample_with_whole_arms() -> None:
    sketch = exposed(20_000, 10, capacity=1000)
    assert sketch.level > 0
    assert 400 <= sketch.units <= 1000
    assert sketch.distinct == pytest.approx(20_000, rel=0.15)
    assert sketch.multiple == sum(len(arms) > 1 for arms in sketch.arms.values())
    assert all(len(arms) == 1 + (int(unit.split()[1]) % 10 == 0) for unit, arms in sketch.arms.items())
    assert sketch.multiple / sketch.units == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("pattern", ["{}", "user-{:08d}", "{:x}", "a{}@mail.example", "{}0000"])
@pytest.mark.parametrize("capacity", [100, 3000])
def test_the_sample_is_uniform_whatever_ids_look_like(pattern: str, capacity: int) -> None:
    """Counts of the sample within binomial limits, in halves of the ids and in total."""
    sketch = Exposures(capacity)
    names = [pattern.format(k) for k in range(20_000)]
    sketch.add_codes(np.arange(20_000), names, np.zeros(20_000, dtype=np.int64), ["a"])
    for part in (names[:10_000], names[10_000:], names[::2]):
        met = sum(name in sketch.arms for name in part)
        assert binom.ppf(0.0005, 10_000, 0.5**sketch.level) <= met <= binom.ppf(0.9995, 10_000, 0.5**sketch.level)


def test_codes_are_the_same_exposures() -> None:
    names = [f"unit {unit}" for unit in range(300)]
    rng = np.random.default_rng(5)
    units, arms = rng.integers(-1, 300, 4000).astype(np.int32), rng.integers(-1, 2, 4000).astype(np.int32)
    one_by_one, by_codes = Exposures(64), Exposures(64)
    for unit, arm in zip(units, arms, strict=True):
        if unit >= 0 and arm >= 0:
            expose(one_by_one, [(names[unit], "ab"[arm])])
    for part in (slice(0, 3000), slice(3000, 3500), slice(3500, None)):  # later ones meet a sketch that samples
        by_codes.add_codes(units[part], names, arms[part], ["a", "b"])
    assert by_codes == one_by_one
    with pytest.raises(StatsError):
        by_codes.add_codes(units[:3], names, arms, ["a", "b"])


def test_sketch_refusals() -> None:
    with pytest.raises(StatsError):
        Exposures(0)


def test_multiple_exposure_beyond_the_allowed_share_is_a_breach() -> None:
    reading = exposed(5000, 40).reading()
    assert reading.standing == "breached"
    assert not reading.ok
    assert reading.value == 0.025
    assert reading.p_value is not None
    assert reading.p_value == pytest.approx(rate_p(125, 5000, 0.01) / 0.9, rel=1e-9, abs=0.0)
    assert "125 of 5000 units met more than one arm" in reading.reason


def test_multiple_exposure_within_the_allowed_share() -> None:
    assert exposed(20_000, 1000).reading().standing == "safe"
    assert exposed(300, 0).reading().standing == "open"
    assert exposed(5000, 40).reading(allowed=0.05).standing == "safe"
    assert Exposures().reading().standing == "open"


def test_multiple_exposure_found_once_stays_found_and_a_sample_costs_evidence() -> None:
    assert exposed(300, 0).reading(smallest_p=0.0004).standing == "breached"
    sampled = exposed(20_000, 10, capacity=1000)
    reading = sampled.reading()
    level = sampled.level
    assert reading.standing == "breached"
    weight = 0.1 / (level * (level + 1))
    assert reading.p_value == pytest.approx(rate_p(sampled.multiple, sampled.units, 0.01) / weight, rel=1e-9, abs=0.0)
    assert "in a sample of about" in reading.reason
    with pytest.raises(StatsError):
        sampled.reading(alpha=1.0)


def test_multiple_exposure_of_counts_is_the_test_of_their_rate() -> None:
    reading = multiple_exposure(125, 5000)
    assert reading.p_value == rate_p(125, 5000, 0.01)
    assert reading.standing == "breached"
    assert multiple_exposure(3, 5000).standing == ("safe" if rate_limits(3, 5000, 0.002)[1] < 0.01 else "open")
    edge = next(n for n in range(50) if multiple_exposure(n, 5000).standing == "open")
    assert rate_limits(edge - 1, 5000, 0.002)[1] < 0.01 <= rate_limits(edge, 5000, 0.002)[1]


def counted(*rows: tuple[float, int, int]) -> AssignmentCounts:
    return AssignmentCounts.from_list(rows)


def test_no_traffic_is_exact() -> None:
    reading = no_traffic(counted((0.01, 300, 0), (0.05, 100, 0)))
    assert reading.p_value == pytest.approx(2.0 * 0.99**300 * 0.95**100)
    assert reading.standing == "breached"
    assert "the challenger got none of 400 units where 8.0 were expected" in reading.reason
    other = no_traffic(counted((0.3, 0, 4)))
    assert other.p_value == pytest.approx(2.0 * 0.3**4)
    assert other.standing == "open"
    assert "the champion got none" in other.reason


def test_no_traffic_level_is_kept_at_all_times_exactly() -> None:
    """The chance that it is ever breached, by enumeration: it stops at the first moment the product is small enough."""
    shares = [0.3, 0.5, 0.4, 0.6, 0.5, 0.7, 0.5, 0.5, 0.6, 0.4, 0.5]
    alpha, breached = 0.05, 0.0
    for arms in itertools.product((False, True), repeat=len(shares)):
        counts, probability = AssignmentCounts(), 1.0
        ever = False
        for share, arm in zip(shares, arms, strict=True):
            counts.add(arm, share)
            probability *= share if arm else 1.0 - share
            ever |= no_traffic(counts, alpha=alpha).standing == "breached"
        breached += probability * ever
    assert 0.2 * alpha < breached <= alpha


def test_no_traffic_with_traffic_or_without_any() -> None:
    assert no_traffic(counted((0.01, 300, 1))).standing == "safe"
    assert no_traffic(AssignmentCounts()).standing == "open"
    assert no_traffic(counted((0.01, 300, 0))).standing == "open"
    with pytest.raises(StatsError):
        no_traffic(AssignmentCounts(), alpha=0.0)


def arrivals(champion: float, challenger: float, seed: int, blocks: int = 40, share: float = 0.1) -> list[SplitSums]:
    """Blocks of 500 exposures each with these shares of outcomes there in time."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(blocks):
        treated = rng.random(500) < share
        arrived = rng.random(500) < np.where(treated, challenger, champion)
        sums = SplitSums()
        sums.add(treated, np.full(500, share), arrived.astype(np.float64))
        made.append(sums)
    return made


def watched(sums: list[SplitSums], plan: Plan) -> GuardReading:
    state, reading = ArrivalState.start(plan), GuardReading("none", "open", "no look")
    for k in range(1, len(sums) + 1):
        state, reading = label_arrival(state, split_blocks(sums[:k]), plan)
        state = ArrivalState.from_dict(plan, state.to_dict())
    return reading


PLAN = arrival_plan(2000.0, margin=0.02)


@pytest.mark.parametrize(
    ("champion", "challenger", "what"),
    [
        (0.95, 0.85, "the challenger's failures are withheld"),
        (0.85, 0.95, "the champion's successes are withheld"),
        (0.90, 1.0, "one arm misses none"),
        (1.0, 0.90, "the other misses none"),
    ],
)
def test_labels_withheld_from_either_arm_are_found(champion: float, challenger: float, what: str) -> None:
    reading = watched(arrivals(champion, challenger, 6), PLAN)
    assert reading.standing == "breached", what
    assert reading.value is not None
    assert reading.lower is not None
    assert reading.upper is not None
    assert reading.p_value is not None
    assert reading.value == pytest.approx(challenger - champion, abs=0.03)
    assert reading.lower < challenger - champion < reading.upper
    assert reading.p_value <= 0.01
    assert "beyond ±2.00%" in reading.reason


def test_the_two_directions_mirror_each_other() -> None:
    """Swapping arrived with missing flips sign and limits, and nothing else."""
    sums = arrivals(0.8, 0.72, 7)
    mirrored = []
    for k, part in enumerate(sums):
        treated = np.repeat([False, True], [part.n_champion, part.n_challenger])
        arrived = np.concatenate(
            [
                np.repeat([1.0, 0.0], [part.y_champion >> 60, part.n_champion - (part.y_champion >> 60)]),
                np.repeat([1.0, 0.0], [part.y_challenger >> 60, part.n_challenger - (part.y_challenger >> 60)]),
            ]
        )
        again, other = SplitSums(), SplitSums()
        again.add(treated, np.full(len(treated), 0.1), arrived)
        other.add(treated, np.full(len(treated), 0.1), 1.0 - arrived)
        assert again == part, k
        mirrored.append(other)
    one, two = watched(sums, PLAN), watched(mirrored, PLAN)
    assert (one.standing, two.standing) == ("breached", "breached")
    assert one.value is not None
    assert one.lower is not None
    assert one.upper is not None
    assert (two.value, two.lower, two.upper) == pytest.approx((-one.value, -one.upper, -one.lower), rel=1e-6)
    assert two.p_value == pytest.approx(one.p_value, rel=1e-6)


def test_equal_arrival_is_safe_within_a_margin_it_can_resolve_and_open_within_one_it_cannot() -> None:
    sums = arrivals(0.95, 0.95, 8)
    assert watched(sums, arrival_plan(2000.0, margin=0.05)).standing == "safe"
    assert watched(sums, arrival_plan(2000.0, margin=0.001)).standing == "open"
    assert watched(sums, arrival_plan(2000.0, margin=0.0)).standing == "open"


def test_a_difference_within_the_margin_is_no_breach() -> None:
    sums = arrivals(0.95, 0.90, 9)
    assert watched(sums, arrival_plan(2000.0, margin=0.05)).standing == "open"
    assert watched(sums, arrival_plan(2000.0, margin=0.0)).standing == "breached"


def test_arrival_without_evidence_says_what_is_missing_and_without_a_missing_label_it_is_safe() -> None:
    early = watched(arrivals(0.95, 0.95, 10, blocks=3), PLAN)
    assert early.standing == "open"
    assert early.value is None
    assert "no answer yet" in early.reason
    all_there = watched(arrivals(1.0, 1.0, 11), PLAN)
    assert (all_there.standing, all_there.value) == ("safe", 0.0)
    assert "100.00% of the champion's" in all_there.reason


def test_a_breach_stays_one_when_the_labels_come_back() -> None:
    plan = arrival_plan(2000.0, margin=0.02)
    reading = watched(arrivals(0.95, 0.80, 12, blocks=20) + arrivals(0.95, 0.965, 13, blocks=140), plan)
    assert reading.standing == "breached"
    assert "at look" in reading.reason
