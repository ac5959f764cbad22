"""Error rates, coverage and power by simulation: seeded, with binomial limits above and, where it matters, below.

A limit is binom.ppf(.999, runs, rate): a correct rate fails it once in a thousand seeds, and the seed is fixed.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from builders.statistics import at_least, at_most, evidence

from evaluator.stats import Boundary, Evidence, Spending, SplitSums, split_blocks
from evaluator.stats.cluster_robust import evidence_of
from evaluator.stats.group_sequential import GroupSequential
from evaluator.stats.sequential_test import HARM_SIDE, WIN_SIDE, SequentialTest, Side, start

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Draw = Callable[[np.random.Generator], Floats]


def look(runs: Floats, side: Side = WIN_SIDE) -> Evidence:
    """The evidence of every run, a cell each, after its blocks' scores so far: shape (runs, blocks)."""
    rows = np.stack([runs, np.ones(runs.shape), np.full(runs.shape, 1e-12), np.ones(runs.shape)], axis=2)
    return evidence_of(rows, margin=np.zeros(len(runs)), clustered=True, most_correlation=side.most_correlation)


def bounds(blocks: int, first: int) -> list[float]:
    boundary, found = Boundary(0.025), [math.inf] * (blocks + 1)
    for k in range(first, blocks + 1):
        found[k], boundary = boundary.look(k / blocks)
    return found


def wins(draw: Draw, first: int, runs: int, seed: int, side: Side = WIN_SIDE) -> int:
    """Runs in which the win statistic crosses its boundary at a look after each block from the first on."""
    rng = np.random.default_rng(seed)
    scores = np.stack([draw(rng) for _ in range(runs)])
    limits = bounds(scores.shape[1], first)
    looks = [look(scores[:, :k], side).z_win >= limits[k] for k in range(first, scores.shape[1] + 1)]
    return int(np.any(looks, axis=0).sum())


def correlated(rho: float, mean: float = 0.0) -> Draw:
    def draw(rng: np.random.Generator) -> Floats:
        made, shocks = np.empty(30), rng.standard_normal(30)
        made[0] = shocks[0]
        for index in range(1, 30):
            made[index] = rho * made[index - 1] + math.sqrt(1.0 - rho * rho) * shocks[index]
        return made + mean

    return draw


LAWS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng: rng.standard_normal(30), 0.025),
    "storms": (lambda rng: rng.standard_normal(30) * np.where(rng.random(30) < 0.1, 5.0, 1.0), 0.025),
    "skewed": (lambda rng: 1.0 - rng.exponential(size=30), 0.040),
    "correlated .3": (correlated(0.3), 0.030),
    "correlated .5": (correlated(0.5), 0.030),
}


@pytest.mark.parametrize("law", LAWS)
def test_few_blocks_keep_the_level(law: str) -> None:
    draw, rate = LAWS[law]
    runs = 2500
    assert wins(draw, 20, runs, 11) <= at_most(runs, rate)


@pytest.mark.parametrize("law", ["normal", "storms", "skewed"])
def test_few_blocks_keep_the_level_looking_from_the_fifth_on(law: str) -> None:
    draw, rate = LAWS[law]
    runs = 1500
    assert wins(draw, 5, runs, 12) <= at_most(runs, rate)


def test_caution_does_not_cost_all_power() -> None:
    """A mean of one standard deviation with ρ = .5, and of .6 without correlation, over 30 blocks."""
    runs = 600
    assert wins(correlated(0.5, 1.0), 20, runs, 13) >= at_least(runs, 0.50)
    assert wins(correlated(0.0, 0.6), 20, runs, 14) >= at_least(runs, 0.72)
    assert wins(LAWS["normal"][0], 20, 4000, 15) >= at_least(4000, 0.012)


def test_harm_that_starts_half_way_is_not_taken_for_correlation() -> None:
    """From no effect to −2 σ: strongly correlated blocks to the win side's cap, harm to the harm side's."""
    scores = np.random.default_rng(16).standard_normal((100, 60)) + np.repeat([0.0, -2.0], 30)
    limit = bounds(60, 60)[60]
    found = (look(scores, HARM_SIDE).z_harm >= limit).sum()
    capped = (look(scores, WIN_SIDE).z_harm >= limit).sum()
    assert found >= 95
    assert capped <= found


TIMES = tuple((k / 16) ** 1.2 for k in range(1, 17))


def motions(runs: int, seed: int, drift: float = 0.0) -> Floats:
    """z at TIMES of Brownian motions, shape (runs, looks)."""
    rng = np.random.default_rng(seed)
    steps = np.diff([0.0, *TIMES])
    paths = np.cumsum(rng.standard_normal((runs, len(TIMES))) * np.sqrt(steps) + drift * steps, axis=1)
    return paths / np.sqrt(TIMES)


@pytest.mark.parametrize(
    "spending", [Spending(), Spending("obrien-fleming"), Spending("pocock"), Spending("power", 2.0)]
)
def test_boundaries_spend_their_level_and_no_less(spending: Spending) -> None:
    runs, boundary, found = 40_000, Boundary(0.025, spending), []
    for t in TIMES:
        bound, boundary = boundary.look(t)
        found.append(bound)
    crossed = int((motions(runs, 21) >= found).any(axis=1).sum())
    assert at_least(runs, 0.025) <= crossed <= at_most(runs, 0.025)


def p_values(test: SequentialTest, paths: Floats) -> list[float]:
    """Final running p of each path, a cell each; V is t for a Brownian motion."""
    yes = np.ones(len(paths), dtype=bool)
    for t, z in zip(TIMES, paths.T, strict=True):
        _, test = test.look(np.full(len(paths), t), z, np.full(len(paths), t), yes)
    return test.p.tolist()


@pytest.mark.parametrize("mode", ["group-sequential", "anytime"])
def test_p_values_are_valid_at_every_level(mode: str) -> None:
    runs = 1500
    test = start(mode, Side(), runs)
    found = np.array(p_values(test, motions(runs, 22)))
    for level in (0.002, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4):
        assert (found <= level).sum() <= at_most(runs, level), level
    if mode == "group-sequential":  # and not needlessly large
        assert (found <= 0.1).sum() >= at_least(runs, 0.08)


def test_p_is_the_level_at_which_the_same_data_would_just_have_stopped() -> None:
    for path in motions(15, 23, drift=2.5):
        (p,) = p_values(GroupSequential.start(0.025, Spending()), path[None, :])
        if p >= 0.4 or p <= 1e-6:
            continue

        def crosses(level: float, path: Floats = path) -> bool:
            boundary = Boundary(level)
            for t, z in zip(TIMES, path, strict=True):
                bound, boundary = boundary.look(t)
                if z >= bound:
                    return True
            return False

        assert crosses(p * 1.25)
        assert not crosses(p * 0.75)


def test_intervals_hold_at_every_look_and_so_at_the_stopping_time() -> None:
    """A true effect of .5 a block, skewed blocks, looks from the twentieth on; each side misses at most its level."""
    runs, effect = 4000, 0.5
    limits = bounds(30, 20)
    scores = effect + np.random.default_rng(24).gamma(4.0, 0.5, (runs, 30)) - 2.0
    looks = [(look(scores[:, :k]), np.full(runs, limits[k])) for k in range(20, 31)]
    missed_low = np.any([found.lower(bound) > effect for found, bound in looks], axis=0)
    missed_high = np.any([found.upper(bound) < effect for found, bound in looks], axis=0)
    assert missed_low.sum() <= at_most(runs, 0.025)
    assert missed_high.sum() <= at_most(runs, 0.025)


def ramp(rng: np.random.Generator, drift: float, effect: float, blocks: int = 30) -> list[SplitSums]:
    """1 → 5 → 10 % by thirds; the level of both arms rises with the stage."""
    made = []
    for block in range(blocks):
        stage = 3 * block // blocks
        share = (0.01, 0.05, 0.1)[stage]
        arm = rng.random(600) < share
        y = (rng.random(600) < 0.5 + drift * stage + effect * arm).astype(float)
        sums = SplitSums()
        sums.add(arm, np.full(600, share), y)
        made.append(sums)
    return made


def test_a_ramp_with_stage_drift_makes_no_winner() -> None:
    """Simpson's trap: pooled rates show +5 points of nothing. The score with logged propensities shows none."""
    runs, rng, crossed, effects = 400, np.random.default_rng(25), 0, []
    for _ in range(runs):
        found = evidence(split_blocks(ramp(rng, 0.15, 0.0)))
        assert isinstance(found, Evidence)
        crossed += found.z_win >= 1.96
        effects.append(found.effect)
    assert crossed <= at_most(runs, 0.025)
    assert abs(float(np.mean(effects))) < 4 * float(np.std(effects)) / math.sqrt(runs)


def test_the_effect_on_a_ramp_is_estimated_without_bias() -> None:
    rng = np.random.default_rng(26)
    effects = [
        found.effect for _ in range(300) if isinstance(found := evidence(split_blocks(ramp(rng, 0.15, -0.1))), Evidence)
    ]
    assert float(np.mean(effects)) == pytest.approx(-0.1, abs=4 * float(np.std(effects)) / math.sqrt(300))


@pytest.mark.parametrize(("share", "p"), [(0.05, 0.01), (0.05, 0.99), (0.5, 0.2)])
def test_independent_units_keep_the_level_each_way_where_outcomes_are_rare(share: float, p: float) -> None:
    """With the robust variance alone an arm that happens to lack its few failures looks proven."""
    runs, rng, up, down = 1500, np.random.default_rng(27), 0, 0
    boundary, limits = Boundary(0.025), []
    for k in range(1, 11):
        bound, boundary = boundary.look(k / 10)
        limits.append(bound)
    for _ in range(runs):
        crossed = [False, False]
        parts = []
        for _ in range(10):
            arm, sums = rng.random(2000) < share, SplitSums()
            sums.add(arm, np.full(2000, share), (rng.random(2000) < p).astype(float))
            parts.append(sums)
        blocks = split_blocks(parts, prior_mean=p)
        for k in range(10):
            found = evidence(blocks[: k + 1], clustered=False)
            if isinstance(found, Evidence) and min(b.challenger.n for b in blocks) > 0:
                crossed[0] = crossed[0] or found.z_win >= limits[k]
                crossed[1] = crossed[1] or found.z_harm >= limits[k]
        up, down = up + crossed[0], down + crossed[1]
    assert up <= at_most(runs, 0.025)
    assert down <= at_most(runs, 0.025)
