"""Each kind of metric in the score process, seeded: no effect is found where there is none, whatever the ramp and the
drift do, and a true one is measured in the metric's own units with an interval that covers it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from builders.statistics import at_least, at_most
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import chi2

from evaluator.stats.metrics import influence
from evaluator.stats.metrics.declaration import declare

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Columns = tuple[Floats, ...]
Rng = np.random.Generator

BATCHES = 24
ROWS = 300
RAMP = np.repeat([0.03, 0.10, 0.25], BATCHES // 3)


@dataclass(frozen=True)
class World:
    """`draw(rng, treated, level, gap, nuisance)`: rows whose baseline moves with `level`, whose metric the challenger
    changes by `gap`, and which `nuisance` changes in the challenger without touching the metric. `effect` is the true
    difference at level 0."""

    kind: str
    draw: Callable[[Rng, Bools, float, float, float], Columns]
    gap: float
    effect: float
    nuisance: float = 0.0
    bias: float = 0.03


def proportion(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    return ((rng.random(len(treated)) < 0.3 + 0.3 * level + gap * treated).astype(float),)


def ratio(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    """The nuisance: more events to the row at the same ratio."""
    denominator = rng.poisson(3.0 + 2.0 * level + nuisance * treated)
    return rng.binomial(denominator, 0.2 + 0.2 * level + gap * treated).astype(float), denominator.astype(float)


def label(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    outcome = rng.random(len(treated)) < 0.3 + 0.2 * level
    right = rng.random(len(treated)) < 0.75 + 0.1 * level + gap * treated
    return np.where(right, outcome, ~outcome).astype(float), outcome.astype(float)


def precise(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    """Precision 0.6, rising with the level; the nuisance: a challenger that predicts the class more often."""
    predicted = rng.random(len(treated)) < 0.25 + 0.2 * level + nuisance * treated
    outcome = rng.random(len(treated)) < np.where(predicted, 0.6 + 0.2 * level + gap * treated, 0.2)
    return predicted.astype(float), outcome.astype(float)


SHARES = np.array([0.5, 0.3, 0.2])


def labels(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    outcome = np.searchsorted(SHARES.cumsum()[:2], rng.random(len(treated)))
    right = rng.random(len(treated)) < 0.7 + 0.1 * level + gap * treated
    wrong = (outcome + rng.integers(1, 3, len(treated))) % 3
    return np.where(right, outcome, wrong).astype(float), outcome.astype(float)


def score(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    """Binormal scores; the nuisance: the challenger's all lie higher, at the same AUC."""
    outcome = rng.random(len(treated)) < 0.3 + 0.1 * level
    latent = rng.normal(outcome * (1.0 + gap * treated)) + 0.5 * level + nuisance * treated
    return 1.0 / (1.0 + np.exp(-latent)), outcome.astype(float)


def probability(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    outcome = rng.random(len(treated)) < 0.3 + 0.2 * level
    return np.where(treated, 0.3 - gap, 0.3), outcome.astype(float)


def number(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    outcome = rng.normal(100.0 + level, 1.5, len(treated))
    return outcome + rng.normal(size=len(treated)) * (0.5 + 0.2 * level + gap * treated), outcome


def latency(rng: Rng, treated: Bools, level: float, gap: float, nuisance: float) -> Columns:
    return (50.0 * np.exp(0.5 * rng.normal(size=len(treated)) + 0.5 * level + gap * treated),)


def f1_of(right: float) -> float:
    return 0.6 * right / (0.3 * right + 0.7 * (1 - right) + 0.3)


def macro_f1_of(right: float) -> float:
    named = SHARES * right + (1 - SHARES) * (1 - right) / 2
    return float(np.mean(2 * SHARES * right / (SHARES + named)))


def log_loss_of(p: float) -> float:
    return -0.3 * math.log(p) - 0.7 * math.log(1 - p)


WORLDS = [
    World("proportion", proportion, 0.05, 0.05),
    World("ratio", ratio, 0.03, 0.03, nuisance=1.5),
    World("accuracy", label, 0.05, 0.05),
    World("precision", precise, 0.08, 0.08, nuisance=0.12),
    World("recall", label, 0.05, 0.05),
    World("f1", label, 0.05, f1_of(0.8) - f1_of(0.75)),
    World("macro_f1", labels, 0.05, macro_f1_of(0.75) - macro_f1_of(0.7)),
    World("auc", score, 0.25, ndtr(1.25 / math.sqrt(2)) - ndtr(1 / math.sqrt(2)), nuisance=1.0),
    World("log_loss", probability, 0.1, log_loss_of(0.2) - log_loss_of(0.3)),
    World("brier", probability, 0.1, 0.3 * (0.8**2 - 0.7**2) + 0.7 * (0.2**2 - 0.3**2)),
    World("mae", number, 0.05, 0.05 * math.sqrt(2 / math.pi)),
    World("rmse", number, 0.05, 0.05),
    World("r2", number, 0.05, (0.5**2 - 0.55**2) / 1.5**2),
    World("p50", latency, 0.08, 50 * (math.exp(0.08) - 1), bias=0.08),
    World("p90", latency, 0.08, 50 * math.exp(0.5 * 1.2816) * (math.exp(0.08) - 1), bias=0.08),
]


def run(world: World, rng: Rng, shares: Floats, drift: float, gap: float, nuisance: float) -> tuple[float, float]:
    """(effect, its standard error) in the metric's units, of one experiment; m is the champion's past mean."""
    inputs = ("a",) if world.draw in (proportion, latency) else ("a", "b")
    metric = influence(declare("m", world.kind, inputs))
    score = variance = information = seen = total = 0.0
    for batch, share in enumerate(shares):
        treated = rng.random(ROWS) < share
        columns = world.draw(rng, treated, drift * batch / BATCHES, gap, nuisance)
        values = metric.values(treated, columns)
        rows = ~np.isnan(values)
        if seen and rows.any():
            part = ((treated - share) * (values - total / seen))[rows]
            score += part.sum()
            variance += part @ part
            information += share * (1 - share) * rows.sum()
        champion = values[rows & ~treated]
        seen, total = seen + len(champion), total + champion.sum()
        metric.learn(treated, columns)
    effect, error = score / information, math.sqrt(variance) / information
    spread = metric.in_units(effect + error) - metric.in_units(effect - error)
    return metric.in_units(effect), spread / 2.0


def runs(world: World, shares: Floats, drift: float, gap: float, nuisance: float, times: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng([sum(world.kind.encode()), times])
    found = np.array([run(world, rng, shares, drift, gap, nuisance) for _ in range(times)])
    return found[:, 0], found[:, 1]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.kind)
def test_no_effect_is_found_on_a_ramp_with_a_drifting_baseline(world: World) -> None:
    times = 80
    effect, error = runs(world, RAMP, 1.0, 0.0, world.nuisance, times)
    z = effect / error
    assert np.count_nonzero(np.abs(z) > 1.96) <= at_most(times, 0.05)
    assert np.count_nonzero(z > 1.96) <= at_most(times, 0.025)
    assert np.count_nonzero(z < -1.96) <= at_most(times, 0.025)
    # Neither a bias nor a z that is much too small passes: that would be power lost without a word.
    assert abs(z.mean()) <= 3.3 / math.sqrt(times)
    spread = float(z @ z)
    assert 0.75 * chi2.ppf(0.001, times) <= spread <= chi2.ppf(0.999, times)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.kind)
def test_a_true_effect_is_measured_in_the_metrics_own_units(world: World) -> None:
    times = 60
    effect, error = runs(world, np.full(BATCHES, 0.3), 0.0, world.gap, world.nuisance, times)
    off = effect - world.effect
    assert abs(off.mean()) <= 3.3 * effect.std() / math.sqrt(times) + world.bias * abs(world.effect)
    assert np.count_nonzero(np.abs(off) <= 1.96 * error) >= at_least(times, 0.95)
    # The standard error is that of the effect: an interval must not cover by being wide.
    assert 0.75 * chi2.ppf(0.001, times) <= float(np.square((effect - effect.mean()) / error).sum())


def test_a_ratio_that_drifts_fast_is_no_effect_where_only_the_events_to_the_row_differ() -> None:
    """The past is an anchor whose lag is multiplied by what the denominators differ by: it has to keep up."""
    times = 60
    world = World("ratio", ratio, 0.0, 0.0)
    effect, error = runs(world, np.full(BATCHES, 0.5), 2.5, 0.0, 2.0, times)
    assert abs((effect / error).mean()) <= 3.3 / math.sqrt(times)
