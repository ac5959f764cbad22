"""Simulated runs of a plan: drawn outcomes through the engine that decides rollouts, many runs at once.

Invariant: the sums over a slice of traffic have exactly the law that unit by unit draws would give them; without
clusters or skewness they are drawn as sums. Every run is a cell of `panel.advance`, so what is measured is what the
running evaluator does; a run ends where its first bound is crossed, or at the horizon. Outcomes are oriented (larger is
better) and means are centred at the baseline, which no test can tell. The same settings and seed give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from evaluator.offline.planning.forecast import Forecast, discordance_at
from evaluator.offline.planning.schedule import TrafficSlices
from evaluator.offline.planning.settings import PlanSettings, SimulatedWorld
from evaluator.stats.panel import ArmTotals, Panel, States, advance
from evaluator.stats.score_process import Floats, Ints


@dataclass(frozen=True, eq=False)
class ArmSums:
    """Sums over each slice, shape (runs, slices) each. d, dd: Σ D and Σ D² over the pairs (paired form alone)."""

    n_champion: Floats
    y_champion: Floats
    yy_champion: Floats
    n_challenger: Floats
    y_challenger: Floats
    yy_challenger: Floats
    d: Floats | None = None
    dd: Floats | None = None


class OutcomeSampler:
    """Draws the outcomes of one plan in one world at one effect (oriented)."""

    def __init__(
        self, settings: PlanSettings, world: SimulatedWorld, slices: TrafficSlices, effect: float, horizon: float
    ) -> None:
        self.settings, self.world, self.slices, self.effect = settings, world, slices, effect
        middle = (slices.start + slices.end) / 2.0
        raw = world.baseline(settings, middle, horizon)
        up = settings.sign > 0.0
        self.means = raw if up else 1.0 - raw
        if not settings.proportion:
            self.means = settings.sign * (raw - settings.baseline)
        self.clusters = np.rint(slices.units / settings.cluster_size).astype(np.int64)

    @property
    def by_unit(self) -> bool:
        """True if units must be drawn one by one: sums alone have no closed law."""
        return bool(self.world.skewness) or (self.settings.cluster_size > 1 and self.settings.proportion)

    def draw(self, rng: np.random.Generator, runs: int) -> ArmSums:
        columns = [self._slice(rng, runs, place) for place in range(len(self.clusters))]
        return ArmSums(*(np.stack(parts, axis=1) for parts in zip(*columns, strict=True)))

    def _slice(self, rng: np.random.Generator, runs: int, place: int) -> tuple[Floats, ...]:
        clusters, mean = int(self.clusters[place]), float(self.means[place])
        if self.settings.form == "paired":
            if self.settings.proportion:
                return self._pairs(rng, runs, clusters, mean)
            return self._differences(rng, runs, clusters, mean)
        treated = rng.binomial(clusters, float(self.slices.share[place]), runs)
        if self.by_unit:
            return self._units(rng, clusters, treated, mean)
        champion = self._arm(rng, clusters - treated, mean, self.settings.sd)
        challenger = self._arm(rng, treated, mean + self.effect, self.settings.challenger_sd or self.settings.sd)
        return (*champion, *challenger)

    def _arm(self, rng: np.random.Generator, clusters: Ints, mean: float, sd: float | None) -> tuple[Floats, ...]:
        """n, Σ Y and Σ Y² of an arm of so many clusters in each run."""
        size = self.settings.cluster_size
        if sd is None:
            total = rng.binomial(clusters, mean).astype(np.float64)
            return clusters.astype(np.float64), total, total
        return (np.asarray(clusters * float(size), np.float64), *self._normal(rng, clusters, mean, sd))

    def _normal(self, rng: np.random.Generator, clusters: Ints, mean: float, sd: float) -> tuple[Floats, Floats]:
        """Σ Y and Σ Y² of clusters of normal outcomes: the sum and the squares about it are independent (Cochran)."""
        size, rho = self.settings.cluster_size, self.settings.cluster_correlation
        spread = sd * math.sqrt(size * (1.0 + (size - 1.0) * rho))  # of one cluster's sum
        total = clusters * size * mean + np.sqrt(clusters) * spread * rng.standard_normal(len(clusters))
        about = spread * spread * _chi_square(rng, clusters - 1)
        within = (1.0 - rho) * sd * sd * _chi_square(rng, clusters * (size - 1))
        return total, (total * total / np.maximum(clusters, 1) + about) / size + within

    def _units(self, rng: np.random.Generator, clusters: int, treated: Ints, mean: float) -> tuple[Floats, ...]:
        """Both arms from units drawn one by one; the first clusters of a run are the challenger's."""
        q = self.settings
        mine = np.arange(clusters) < treated[:, None]
        if q.sd is None:
            given = np.where(mine, mean + self.effect, mean)
            sums = _beta_binomial(rng, q.cluster_size, given, q.cluster_correlation)
            squares = sums
        else:
            noise = self._skewed(rng, (len(treated), clusters))
            sd = np.where(mine, q.challenger_sd or q.sd, q.sd)[:, :, None]
            values = np.where(mine, mean + self.effect, mean)[:, :, None] + sd * noise
            sums, squares = values.sum(axis=2), np.square(values).sum(axis=2)
        arms: list[Floats] = []
        for where, count in ((~mine, clusters - treated), (mine, treated)):
            n = np.asarray(count * float(q.cluster_size), np.float64)
            arms += [n, (sums * where).sum(axis=1), (squares * where).sum(axis=1)]
        return tuple(arms)

    def _skewed(self, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        """Standard noise of that skewness, shape (runs, clusters, size), correlated within clusters: shifted gammas."""
        q = self.settings
        size, rho = q.cluster_size, q.cluster_correlation
        # Shared and own parts are skewed alike; their sum has the skewness asked for.
        third = abs(self.world.skewness) / (rho**1.5 + (1.0 - rho) ** 1.5)
        shape_of = 4.0 / (third * third)

        def gammas(count: int) -> Floats:
            drawn = rng.standard_gamma(shape_of, (*shape, count))
            sign = math.copysign(1.0, q.sign * self.world.skewness)
            return np.asarray(sign * (drawn - shape_of) / math.sqrt(shape_of))

        own = gammas(size)
        return np.asarray(math.sqrt(1.0 - rho) * own + math.sqrt(rho) * gammas(1)) if rho else own

    def _pairs(self, rng: np.random.Generator, runs: int, clusters: int, mean: float) -> tuple[Floats, ...]:
        """Pairs of 0/1 outcomes: both right, the challenger alone, the champion alone, neither."""
        q, size, rho = self.settings, self.settings.cluster_size, self.settings.cluster_correlation
        apart = self._apart(mean)
        lost, gained = (apart - self.effect) / 2.0, (apart + self.effect) / 2.0
        chances = np.maximum(0.0, [mean - lost, gained, lost, 1.0 - mean - gained])
        chances /= chances.sum()
        if size == 1:
            counts = rng.multinomial(clusters, chances, runs).astype(np.float64)
        else:
            weights = rng.standard_gamma(chances * (1.0 / rho - 1.0), (runs, clusters, 4)) + 1e-300
            counts = rng.multinomial(size, weights / weights.sum(axis=2, keepdims=True)).sum(axis=1).astype(np.float64)
        both, won, fell, _ = counts.T
        n = np.full(runs, float(clusters * q.cluster_size))
        return n, both + fell, both + fell, n, both + won, both + won, won - fell, won + fell

    def _apart(self, mean: float) -> float:
        """The discordance where the baseline has moved to this (oriented) mean."""
        known, most = discordance_at(self.settings, self.effect), 2.0 * mean + self.effect
        return max(abs(self.effect), min(known, most, 2.0 - most))

    def _differences(self, rng: np.random.Generator, runs: int, clusters: int, mean: float) -> tuple[Floats, ...]:
        """Pairs of a mean: only their differences matter to the test; the champion's sum is drawn apart."""
        q = self.settings
        assert q.sd is not None
        assert q.sd_difference is not None
        if self.by_unit:
            values = self.effect + q.sd_difference * self._skewed(rng, (runs, clusters))
            d, dd = values.sum(axis=(1, 2)), np.square(values).sum(axis=(1, 2))
        else:
            d, dd = self._normal(rng, np.full(runs, clusters), self.effect, q.sd_difference)
        n = np.full(runs, float(clusters * q.cluster_size))
        champion, squares = self._normal(rng, np.full(runs, clusters), mean, q.sd)
        return n, champion, squares, n, champion + d, squares + dd, d, dd


def _chi_square(rng: np.random.Generator, degrees: Ints) -> Floats:
    return np.asarray(2.0 * rng.standard_gamma(np.maximum(degrees, 0) / 2.0))


def _beta_binomial(rng: np.random.Generator, size: int, mean: Floats, correlation: float) -> Floats:
    """Successes among `size` units of each cluster, whose rates are beta: units are correlated by `correlation`."""
    strength = 1.0 / correlation - 1.0
    rates = rng.beta(mean * strength, (1.0 - mean) * strength)
    return rng.binomial(size, rates).astype(np.float64)


# Runs at once, and drawn units at once: enough to fill arrays, few enough to fit into memory and to show progress.
_MOST_RUNS: Final = 500
_MOST_UNITS: Final = 4_000_000


@dataclass(frozen=True, eq=False)
class Runs:
    """Ends of the runs, shape (runs,) each: crossed is 1 (better), −1 (worse) or 0 (the horizon).

    look counts from 0. effect, lower and upper (infinite where there is no limit) are those at the end.
    """

    crossed: Floats
    look: Ints
    effect: Floats
    lower: Floats
    upper: Floats

    @staticmethod
    def joined(parts: list[Runs]) -> Runs:
        return Runs(*(np.concatenate([getattr(part, name) for part in parts]) for name in Runs.__dataclass_fields__))


def simulate_runs(
    forecast: Forecast,
    effect: float,
    *,
    runs: int,
    seed: int,
    world: SimulatedWorld,
    mode: str,
    progress: Callable[[int], object] | None = None,
) -> Runs:
    """Simulate `runs` tests at one oriented effect. Each batch has a stream of its own, split off from the seed."""
    slices = forecast.schedule.slices(forecast.last + 1)
    source = OutcomeSampler(forecast.settings, world, slices, effect, forecast.days)
    size = _MOST_RUNS
    if source.by_unit:
        size = max(1, min(size, int(_MOST_UNITS / max(1.0, slices.units.max()))))
    parts, count = [], math.ceil(runs / size)
    for batch, child in enumerate(np.random.SeedSequence(seed).spawn(count)):
        here = min(size, runs - batch * size)
        rng = np.random.default_rng(child)
        parts.append(_batch(forecast, source, slices, here, rng, mode))
        if progress is not None:
            progress(here)
    return Runs.joined(parts)


def _batch(
    forecast: Forecast, source: OutcomeSampler, slices: TrafficSlices, runs: int, rng: np.random.Generator, mode: Any
) -> Runs:
    settings, ratio = forecast.settings, forecast.schedule.ratio
    plan = settings.plan(forecast.information, mode)
    drawn = source.draw(rng, runs)
    fine = block_rows(drawn, slices, slices.block)
    coarse = fine if ratio == 1 else block_rows(drawn, slices, slices.block // ratio)
    if settings.block_correlation:
        correlate_blocks(fine, settings.block_correlation, source.effect)
    champion, challenger = _arms(drawn, slices.block)
    first = _starts(slices.block)
    apart = None if drawn.dd is None else np.cumsum(np.add.reduceat(drawn.dd, first, axis=1), axis=1)
    horizon, margin = np.full(runs, plan.horizon), np.zeros(runs)
    states = States.start(plan, runs)
    ended = np.zeros(runs, dtype=np.bool_)
    found = Runs(np.zeros(runs), np.zeros(runs, dtype=np.int64), *(np.full(runs, np.nan) for _ in range(3)))
    for look in range(forecast.last + 1):
        whole = (look + 1) // ratio
        totals = _totals(champion, challenger, apart, look, horizon)
        small = Panel(fine[:, : look + 1], totals, margin)
        large = small
        if ratio > 1:
            before = whole * ratio - 1
            none = ArmTotals(0.0 * champion[:, 0], 0.0 * champion[:, 0], horizon)
            counted = _totals(champion, challenger, apart, before, horizon) if whole else none
            large = Panel(coarse[:, :whole], counted, margin)
        states, looks = advance(states, large, plan, None if ratio == 1 else small)
        crossed, last = states.stops.crossed, look == forecast.last
        now = ~ended & ((crossed != 0.0) | last)
        if now.any():
            # The first crossing ends a run: a rollout that has won is promoted, not watched on.
            ended |= now
            found.crossed[now], found.look[now] = crossed[now], look
            found.effect[now] = looks.shown.effect[now]
            found.lower[now] = np.where(np.isnan(states.lower), -np.inf, states.lower)[now]
            found.upper[now] = np.where(np.isnan(states.upper), np.inf, states.upper)[now]
            if ended.all():
                break
    return found


def _totals(champion: Floats, challenger: Floats, apart: Floats | None, look: int, horizon: Floats) -> ArmTotals:
    discordant = None if apart is None else apart[:, look]
    return ArmTotals(champion[:, look], challenger[:, look], horizon, discordant=discordant)


def _arms(drawn: ArmSums, block: Ints) -> tuple[Floats, Floats]:
    """Counts so far of both arms at each harm block: shape (runs, blocks, 3)."""
    first = _starts(block)
    return tuple(  # type: ignore[return-value]
        np.stack([np.cumsum(np.add.reduceat(part, first, axis=1), axis=1) for part in arm], axis=2)
        for arm in (
            (drawn.n_champion, drawn.y_champion, drawn.yy_champion),
            (drawn.n_challenger, drawn.y_challenger, drawn.yy_challenger),
        )
    )


def _starts(block: Ints) -> Ints:
    """The first slice of each block; every block has one."""
    return np.flatnonzero(np.diff(block, prepend=-1))


def block_rows(drawn: ArmSums, slices: TrafficSlices, block: Ints) -> Floats:
    """Rows of a panel, shape (runs, blocks, 4), as `split_blocks` and `paired_blocks` make them of real traffic."""
    first = _starts(block)

    def total(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, first, axis=1))

    if drawn.d is not None and drawn.dd is not None:
        units = total(drawn.n_champion)
        return np.stack([total(drawn.d), units, total(drawn.dd), units], axis=2)
    n, y = total(drawn.n_champion), total(drawn.y_champion)
    n_before, y_before = np.cumsum(n, axis=1) - n, np.cumsum(y, axis=1) - y
    known = n_before > 0.0
    m = np.divide(y_before, n_before, out=np.zeros_like(n), where=known)[:, block]
    share = slices.share
    zero, one = drawn.n_champion, drawn.n_challenger
    y_zero, y_one = drawn.y_champion - zero * m, drawn.y_challenger - one * m
    yy_zero = drawn.yy_champion - 2.0 * m * drawn.y_champion + m * m * zero
    yy_one = drawn.yy_challenger - 2.0 * m * drawn.y_challenger + m * m * one
    score = total((1.0 - share) * y_one - share * y_zero)
    robust = total((1.0 - share) ** 2 * yy_one + share**2 * yy_zero)
    swapped = total(share * (1.0 - share) * (yy_one + yy_zero))
    units = total(zero + one)
    information = np.broadcast_to(np.add.reduceat(slices.information, first), units.shape)
    rows = np.stack([score, information, np.maximum(robust, swapped), units], axis=2)
    rows[~known] = 0.0
    return rows


def correlate_blocks(rows: Floats, correlation: float, effect: float) -> None:
    """Give the blocks' scores this lag-1 correlation, in place: their deviations go through a first-order filter that
    keeps each one's variance. Needs no finer blocks."""
    information = rows[:, :, 1]
    scored = information > 0.0
    root = np.sqrt(np.where(scored, information, 1.0))
    noise = np.where(scored, rows[:, :, 0] - effect * information, 0.0) / root
    keep, carried, begun = math.sqrt(1.0 - correlation**2), np.zeros(len(rows)), np.zeros(len(rows), dtype=np.bool_)
    for block in range(rows.shape[1]):
        here = scored[:, block]
        fresh = np.where(begun, correlation * carried + keep * noise[:, block], noise[:, block])
        carried, begun = np.where(here, fresh, carried), begun | here
        rows[:, block, 0] = np.where(here, effect * information[:, block] + root[:, block] * carried, 0.0)
