"""Simulated outcomes: the sums of both arms over every slice of traffic, for many runs at once.

Invariant: the sums have exactly the law that unit by unit draws would give them. Without clusters or skewness they are
drawn as sums; otherwise every unit is. Outcomes are oriented: larger is better. Means are centred at the baseline,
which no test can tell.

The same question by simulation: drawn outcomes through the engine that decides rollouts, run by run.

Invariant: every run is a cell of `panel.advance`, so what is measured is what the running evaluator does; a run ends
where its first bound is crossed, or at the horizon. The same settings and seed give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from evaluator.offline.planning.forecast import Outlook, discordance_at
from evaluator.offline.planning.schedule import Slices
from evaluator.offline.planning.settings import Question
from evaluator.stats.panel import ArmTotals, Panel, States, advance
from evaluator.stats.score_process import Floats, Ints
from gauntlet.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class World:
    """What the outcomes do besides the effect.

    drift: the baseline moves by this much from the first day to the planned horizon, evenly. weekly: it swings by ±
    this much with the days of the week. skewness: of one outcome of a mean (paired: of one pair's difference).
    """

    drift: float = 0.0
    weekly: float = 0.0
    skewness: float = 0.0

    def baseline(self, question: Question, day: Floats, horizon: float) -> Floats:
        """The champion's mean at these days, not oriented."""
        moved = self.drift * np.minimum(1.0, day / horizon) + self.weekly * np.sin(2.0 * math.pi * day / 7.0)
        return np.asarray(question.baseline + moved)

    def check(self, question: Question, effects: list[float], horizon: float) -> None:
        """Raises BadInput, naming the option, where such outcomes are impossible."""
        for name in ("drift", "weekly", "skewness"):
            if not math.isfinite(getattr(self, name)):
                raise BadInput(f"{name}: {getattr(self, name)!r} is not a finite number")
        if self.skewness and question.proportion:
            raise BadInput("skewness: is for a mean; that of a proportion follows from it")
        if abs(self.skewness) > 50.0:
            raise BadInput(f"skewness: {self.skewness:g} is not from −50 to 50")
        if question.proportion:
            days = np.linspace(0.0, horizon, 2000)
            for effect in (0.0, *(question.sign * one for one in effects)):
                reached = self.baseline(question, days, horizon) + effect
                if not (reached.min() > 0.0 and reached.max() < 1.0):
                    name = "drift" if self.drift else "weekly"
                    raise BadInput(f"{name}: takes a proportion to {reached.min():.3g} … {reached.max():.3g}")


@dataclass(frozen=True, eq=False)
class Drawn:
    """Sums over each slice, shape (runs, slices) each. d, dd: Σ D and Σ D² over the pairs (paired form alone)."""

    n_champion: Floats
    y_champion: Floats
    yy_champion: Floats
    n_challenger: Floats
    y_challenger: Floats
    yy_challenger: Floats
    d: Floats | None = None
    dd: Floats | None = None


class Source:
    """Draws the outcomes of one question in one world at one effect (oriented)."""

    def __init__(self, question: Question, world: World, slices: Slices, effect: float, horizon: float) -> None:
        self.question, self.world, self.slices, self.effect = question, world, slices, effect
        middle = (slices.start + slices.end) / 2.0
        raw = world.baseline(question, middle, horizon)
        up = question.sign > 0.0
        self.means = raw if up else 1.0 - raw
        if not question.proportion:
            self.means = question.sign * (raw - question.baseline)
        self.clusters = np.rint(slices.units / question.cluster_size).astype(np.int64)

    @property
    def by_unit(self) -> bool:
        """Every unit must be drawn."""
        return bool(self.world.skewness) or (self.question.cluster_size > 1 and self.question.proportion)

    def draw(self, rng: np.random.Generator, runs: int) -> Drawn:
        columns = [self._slice(rng, runs, place) for place in range(len(self.clusters))]
        return Drawn(*(np.stack(parts, axis=1) for parts in zip(*columns, strict=True)))

    def _slice(self, rng: np.random.Generator, runs: int, place: int) -> tuple[Floats, ...]:
        clusters, mean = int(self.clusters[place]), float(self.means[place])
        if self.question.form == "paired":
            if self.question.proportion:
                return self._pairs(rng, runs, clusters, mean)
            return self._differences(rng, runs, clusters, mean)
        treated = rng.binomial(clusters, float(self.slices.share[place]), runs)
        if self.by_unit:
            return self._units(rng, clusters, treated, mean)
        champion = self._arm(rng, clusters - treated, mean, self.question.sd)
        challenger = self._arm(rng, treated, mean + self.effect, self.question.challenger_sd or self.question.sd)
        return (*champion, *challenger)

    def _arm(self, rng: np.random.Generator, clusters: Ints, mean: float, sd: float | None) -> tuple[Floats, ...]:
        """n, Σ Y and Σ Y² of an arm of so many clusters in each run."""
        size = self.question.cluster_size
        if sd is None:
            total = rng.binomial(clusters, mean).astype(np.float64)
            return clusters.astype(np.float64), total, total
        return (np.asarray(clusters * float(size), np.float64), *self._normal(rng, clusters, mean, sd))

    def _normal(self, rng: np.random.Generator, clusters: Ints, mean: float, sd: float) -> tuple[Floats, Floats]:
        """Σ Y and Σ Y² of clusters of normal outcomes: the sum and the squares about it are independent (Cochran)."""
        size, rho = self.question.cluster_size, self.question.cluster_correlation
        spread = sd * math.sqrt(size * (1.0 + (size - 1.0) * rho))  # of one cluster's sum
        total = clusters * size * mean + np.sqrt(clusters) * spread * rng.standard_normal(len(clusters))
        about = spread * spread * _chi_square(rng, clusters - 1)
        within = (1.0 - rho) * sd * sd * _chi_square(rng, clusters * (size - 1))
        return total, (total * total / np.maximum(clusters, 1) + about) / size + within

    def _units(self, rng: np.random.Generator, clusters: int, treated: Ints, mean: float) -> tuple[Floats, ...]:
        """Both arms from units drawn one by one; the first clusters of a run are the challenger's."""
        q = self.question
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
        q = self.question
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
        q, size, rho = self.question, self.question.cluster_size, self.question.cluster_correlation
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
        known, most = discordance_at(self.question, self.effect), 2.0 * mean + self.effect
        return max(abs(self.effect), min(known, most, 2.0 - most))

    def _differences(self, rng: np.random.Generator, runs: int, clusters: int, mean: float) -> tuple[Floats, ...]:
        """Pairs of a mean: only their differences matter to the test; the champion's sum is drawn apart."""
        q = self.question
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
    """How each run ended, shape (runs,) each: crossed is 1 (better), −1 (worse) or 0 (the horizon).

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


def simulate(
    outlook: Outlook,
    effect: float,
    *,
    runs: int,
    seed: int,
    world: World,
    mode: str,
    progress: Callable[[int], object] | None = None,
) -> Runs:
    """So many runs at one effect (oriented). Each batch has a stream of its own, split off from the seed."""
    slices = outlook.schedule.slices(outlook.last + 1)
    source = Source(outlook.question, world, slices, effect, outlook.days)
    size = _MOST_RUNS
    if source.by_unit:
        size = max(1, min(size, int(_MOST_UNITS / max(1.0, slices.units.max()))))
    parts, count = [], math.ceil(runs / size)
    for batch, child in enumerate(np.random.SeedSequence(seed).spawn(count)):
        here = min(size, runs - batch * size)
        rng = np.random.default_rng(child)
        parts.append(_batch(outlook, source, slices, here, rng, mode))
        if progress is not None:
            progress(here)
    return Runs.joined(parts)


def _batch(outlook: Outlook, source: Source, slices: Slices, runs: int, rng: np.random.Generator, mode: Any) -> Runs:
    question, ratio = outlook.question, outlook.schedule.ratio
    plan = question.plan(outlook.information, mode)
    drawn = source.draw(rng, runs)
    fine = _rows(drawn, slices, slices.block)
    coarse = fine if ratio == 1 else _rows(drawn, slices, slices.block // ratio)
    if question.block_correlation:
        _correlate(fine, question.block_correlation, source.effect)
    champion, challenger = _arms(drawn, slices.block)
    horizon, margin = np.full(runs, plan.horizon), np.zeros(runs)
    states = States.start(plan, runs)
    ended = np.zeros(runs, dtype=np.bool_)
    found = Runs(np.zeros(runs), np.zeros(runs, dtype=np.int64), *(np.full(runs, np.nan) for _ in range(3)))
    for look in range(outlook.last + 1):
        whole = (look + 1) // ratio
        tally = ArmTotals(champion[:, look], challenger[:, look], horizon)
        small = Panel(fine[:, : look + 1], tally, margin)
        large = small
        if ratio > 1:
            before = whole * ratio - 1
            counted = (champion[:, before], challenger[:, before]) if whole else (0.0 * champion[:, 0],) * 2
            large = Panel(coarse[:, :whole], ArmTotals(*counted, horizon), margin)
        states, looks = advance(states, large, plan, None if ratio == 1 else small)
        crossed, last = states.stops.crossed, look == outlook.last
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


def _arms(drawn: Drawn, block: Ints) -> tuple[Floats, Floats]:
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


def _rows(drawn: Drawn, slices: Slices, block: Ints) -> Floats:
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


def _correlate(rows: Floats, correlation: float, effect: float) -> None:
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
