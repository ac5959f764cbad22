"""Forecast of a test with a given horizon: its boundaries at every look, and where its paths end for any true effect.

Closed forms and numerical integration; nothing is random. Boundaries are the engine's own. The engine estimates the
variance, correlation and skewness of blocks, and decides less often where blocks are few: its rule (`Evidence.lower`)
is applied at quantiles of what it may estimate, look by look, so that power agrees with the simulated engine's to about
0.02. Effects are oriented here: larger is better.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from scipy.special import chdtri, ndtr, ndtri

from evaluator.offline.planning.result import OperatingCharacteristics
from evaluator.offline.planning.schedule import PlannedLooks, Schedule
from evaluator.offline.planning.settings import PlanSettings, most_discordance
from evaluator.stats.cluster_robust import FEWEST_BLOCKS, ClusteredEvidence
from evaluator.stats.group_sequential import Boundary
from evaluator.stats.power import Course, block_widening, course, split_variance
from evaluator.stats.score_process import Floats
from evaluator.stats.sequential_test import Side

# Quantiles of the estimated variance, correlation and skewness of blocks. The high correlations are what keeps a test
# of few blocks from ever deciding, so their tail needs the most.
_VARIANCES, _CORRELATIONS, _SKEWNESSES = 8, 80, 4


@lru_cache(maxsize=8192)
def required_score(
    bound: float, blocks: int, equal: float, correlation: float, floor: float, most_correlation: float
) -> Floats:
    """S / √(its variance) at which z reaches the bound, at equally likely estimates; infinite where it can't.

    blocks: scored ones, worth `equal` of equal information. correlation: the true lag-1 correlation of their scores.
    floor: the least that the engine takes the variance for, as a share of the true one. most_correlation: the side's.
    """
    spread, widening, skewness = _estimates(max(blocks, FEWEST_BLOCKS), equal, correlation, most_correlation)
    one = np.ones(len(widening))
    evidence = ClusteredEvidence(
        available=one > 0.0,
        n_blocks=one * blocks,
        score=0.0 * one,
        information=one,
        variance=one,
        unit_variance=one,
        autocorrelation=0.0 * one,
        widening=widening,
        skewness=skewness,
        margin=0.0 * one,
        n_equal=one * equal,
        block_variance=one,
        floor=one,
    )
    variance = np.maximum(np.outer(spread, widening / block_widening(correlation)), floor)
    return np.asarray((-evidence.lower(bound * one) * np.sqrt(variance)).ravel())


@lru_cache(maxsize=4096)
def _estimates(blocks: int, equal: float, correlation: float, most: float) -> tuple[Floats, Floats, Floats]:
    """Variances (as shares of the true one), and pairs of widening and skewness, as estimated from normal AR(1) blocks.

    The variance is about χ² with (n−1)(1−ρ²)/(1+ρ²) degrees of freedom, less what their common mean takes away. The
    correlation's estimate has mean ρ − (1+4ρ)/n and variance (1−ρ²)/n (Marriott & Pope 1954; Bartlett 1946), then comes
    the engine's correction. Skewness has variance 6(n−2)/((n+1)(n+3)) (Fisher 1930).
    """
    n = max(2.0, equal)
    degrees = max(1.0, (n - 1.0) * (1.0 - correlation**2) / (1.0 + correlation**2))
    share = max(0.1, 1.0 - (block_widening(correlation) - 1.0) / n)
    variance = share * chdtri(degrees, _midpoints(_VARIANCES)) / degrees
    middle, error = correlation - (1.0 + 4.0 * correlation) / n, math.sqrt((1.0 - correlation**2) / n)
    raw = middle + error * ndtri(_midpoints(_CORRELATIONS))
    r = np.clip((blocks * raw + 1.75) / (blocks - 4.0), 0.0, most)
    skewness = math.sqrt(6.0 * max(0.5, n - 2.0) / ((n + 1.0) * (n + 3.0))) * ndtri(_midpoints(_SKEWNESSES))
    grid = np.meshgrid((1.0 + r) / (1.0 - r), skewness, indexing="ij")
    return np.asarray(variance, dtype=np.float64), grid[0].ravel(), grid[1].ravel()


def _midpoints(count: int) -> Floats:
    return (np.arange(count) + 0.5) / count


# More looks than this change power by less than 0.002, and cost seconds.
MOST_LOOKS: Final = 160
# Enough to search with: power with more is lower by 0.005 at most, and then the horizon is raised to what it lacks.
_ROUGH: Final = 40
# A tail smaller than this is nothing.
_LEAST: Final = 1e-300


class Forecast:
    """A plan's settings at a horizon: the information at which the planned evidence is complete."""

    def __init__(self, settings: PlanSettings, information: float, most_looks: int = MOST_LOOKS) -> None:
        self.settings, self.information = settings, information
        self.schedule = Schedule(settings)
        self.plan = settings.plan(information)
        looks = self.schedule.looks(self.schedule.blocks_for(information, settings.min_blocks))
        final = looks.whole & (looks.win_information >= information * (1.0 - 1e-12))
        if not settings.independent:
            final &= looks.win_blocks >= settings.min_blocks
        self.last = int(np.argmax(final))
        self.looks: PlannedLooks = looks.until(self.last).thinned(most_looks, self.schedule.ratio)

    @property
    def days(self) -> float:
        """Days from the first unit to the last look, the delay of its outcomes included."""
        return float(self.looks.day[-1])

    @property
    def units(self) -> tuple[float, float]:
        """Matured outcomes at the last look, and the challenger's among them. A pair is one of each."""
        return float(self.looks.units[-1]), float(self.looks.challenger[-1])

    def score_variance(self, effect: float) -> tuple[float, float]:
        """Variance of the score a unit of information at that effect, and the least that the engine reports for it."""
        q = self.settings
        if self.schedule.paired:
            centred = pair_variance(q, effect)
            return centred * q.design_effect, centred + (effect * effect if q.independent else 0.0)
        if q.sd is None:
            p, other = q.baseline, q.baseline + q.sign * effect
            champion, challenger = p * (1.0 - p), other * (1.0 - other)
        else:
            champion, challenger = q.sd**2, (q.challenger_sd or q.sd) ** 2
        slices = self._slices
        robust = swapped = between = 0.0
        for share, weight in slices:
            robust += weight * split_variance(share, champion, challenger, effect)
            swapped += weight * split_variance(1.0 - share, champion, challenger + effect * effect)
            between += weight * share * (1.0 - share) * effect * effect
        reported = max(robust, swapped) - (0.0 if q.independent else between)
        return (robust - between) * q.design_effect, reported

    def one_look(self, effect: float, power: float) -> float:
        """Information at which the classical test, one look and nothing estimated, has this power at the effect:
        ((z_{1−α} √v₀ + z_power √v₁) / δ)², v₀ the variance that it takes, v₁ the true one."""
        true, taken = self._classical(effect)
        z = -ndtri(self.plan.win.alpha) * math.sqrt(taken) + ndtri(power) * math.sqrt(true)
        return float(z / effect) ** 2

    def one_look_power(self, effect: float) -> float:
        """The power of that test at this horizon."""
        true, taken = self._classical(effect)
        information = float(self.looks.information[-1])
        z = effect * math.sqrt(information) + ndtri(self.plan.win.alpha) * math.sqrt(taken)
        return float(ndtr(z / math.sqrt(true)))

    def _classical(self, effect: float) -> tuple[float, float]:
        true, reported = self.score_variance(effect)
        return true, reported * self.settings.design_effect

    @cached_property
    def _slices(self) -> list[tuple[float, float]]:
        """Pairs of a share and its part of the information up to the last look."""
        slices = self.schedule.slices(self.last + 1)
        shares = np.unique(slices.share)
        total = slices.information.sum()
        return [(float(s), float(slices.information[slices.share == s].sum() / total)) for s in shares]

    @cached_property
    def win_bounds(self) -> Floats:
        """Boundary of z at each look; infinite where the win side has no new block or isn't ready."""
        looks, q = self.looks, self.settings
        ready = looks.whole & (looks.win_information > 0.0) & self._enough
        if not q.independent:
            ready &= looks.win_blocks >= max(q.min_blocks, FEWEST_BLOCKS)
        return _bounds(self.plan.win, looks.win_information / self.information, ready)

    @cached_property
    def harm_bounds(self) -> Floats:
        looks, q = self.looks, self.settings
        ready = (looks.information > 0.0) & self._enough
        if not q.independent:
            ready &= looks.blocks >= max(q.min_harm_blocks, FEWEST_BLOCKS)
        return _bounds(self.plan.harm, looks.information / self.information, ready)

    @property
    def _enough(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Looks with enough expected outcomes in each arm."""
        looks = self.looks
        champion = looks.units if self.schedule.paired else looks.units - looks.challenger
        return np.asarray(np.minimum(champion, looks.challenger) >= 2 * self.plan.min_events)

    @lru_cache(maxsize=256)  # noqa: B019  a forecast lives as long as its plan is being made
    def course(self, effect: float) -> Course:
        """First-crossing probabilities of the score process at an oriented effect: upper is better, lower is worse."""
        looks = self.looks
        true, reported = self.score_variance(effect)
        drift = effect * math.sqrt(self.information / true)
        t, seen = looks.information / self.information, np.flatnonzero(looks.information > 0.0)
        mean = drift * np.sqrt(t)
        late = drift * (np.sqrt(t) - np.sqrt(looks.win_information / self.information))
        floor = reported / true
        upper = late + self._effective_bounds(
            self.win_bounds, mean - late, looks.win_blocks, looks.win_equal, floor, self.plan.win.most_correlation
        )
        lower = -self._effective_bounds(
            self.harm_bounds, -mean, looks.blocks, looks.equal, floor, self.plan.harm.most_correlation
        )
        lower = np.minimum(lower, upper - 1e-9)
        found = course(t[seen].tolist(), upper[seen].tolist(), lower[seen].tolist(), drift)
        over, under = np.zeros(len(t)), np.zeros(len(t))
        over[seen], under[seen] = found.upper, found.lower
        return Course(over, under)

    def _effective_bounds(
        self, bounds: Floats, mean: Floats, blocks: Floats, equal: Floats, floor: float, cap: float
    ) -> Floats:
        """The bounds for S / √(its true variance) that are crossed as often at a look as the engine's z crosses
        `bounds`, where that statistic has this mean and variance 1."""
        if self.settings.independent:
            return np.asarray(bounds * math.sqrt(floor))
        effective = np.full(len(bounds), np.inf)
        for look in np.flatnonzero(np.isfinite(bounds)):
            needed = required_score(
                float(bounds[look]), int(blocks[look]), float(equal[look]), self.settings.block_correlation, floor, cap
            )
            over, under = float(ndtr(mean[look] - needed).mean()), float(ndtr(needed - mean[look]).mean())
            if over > 0.0:  # from the smaller tail, which is the exact one
                effective[look] = mean[look] + (-ndtri(over) if over < under else ndtri(max(under, _LEAST)))
        return effective

    def power(self, effect: float) -> float:
        return self.course(effect).above

    def characteristics(self, effect: float, name: str = "") -> OperatingCharacteristics:
        """Operating characteristics at one oriented effect; `name` is that of the row in a report."""
        settings, looks, found = self.settings, self.looks, self.course(effect)
        ended = found.upper + found.lower
        ended[-1] += max(0.0, 1.0 - ended.sum())
        days, by = looks.day, np.cumsum(ended)
        return OperatingCharacteristics(
            name=name,
            effect=settings.sign * effect + 0.0,
            challenger_value=settings.baseline + settings.sign * effect,
            better=found.above,
            worse=found.below,
            fixed_power=self.one_look_power(effect),
            days=float(ended @ days),
            half_by=float(days[np.searchsorted(by, 0.5)]),
            most_by=float(days[np.searchsorted(by, 0.9)]),
            outcomes=float(ended @ looks.units),
            challenger=float(ended @ looks.challenger),
            exposed=float(ended @ looks.exposed),
        )

    def detectable(self) -> float:
        """The effect (oriented) that the test finds with the wanted power, to about 1 %; inf if there is none."""
        rough, power, most = Forecast(self.settings, self.information, _ROUGH), self.settings.power, self._largest
        high = min(abs(self.settings.effect), most)
        while rough.power(high) < power:
            if high >= most or high > 1e9 * abs(self.settings.effect):
                return math.inf
            high = min(1.5 * high, most)
        while rough.power(high / 1.5) >= power:
            high /= 1.5
        low = high / 1.5
        for _ in range(5):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if rough.power(middle) >= power else (middle, high)
        return high

    @property
    def _largest(self) -> float:
        q = self.settings
        if q.sd is not None:
            return math.inf
        room = 1.0 - q.baseline if q.sign > 0 else q.baseline
        return room * (1.0 - 1e-9)


def pair_variance(q: PlanSettings, effect: float) -> float:
    """Variance of one pair's difference at that effect: discordance − effect² for a proportion."""
    if q.sd_difference is not None:
        return q.sd_difference**2
    return discordance_at(q, effect) - effect * effect


def discordance_at(q: PlanSettings, effect: float) -> float:
    """The discordance at another effect (oriented) than the planned one: the same, where it is possible."""
    assert q.discordance is not None
    return max(abs(effect), min(q.discordance, most_discordance(q.baseline, q.sign * effect)))


def smallest_forecast(settings: PlanSettings, power: float) -> Forecast:
    """The forecast with the smallest horizon found that has this power at the settings' effect.

    A win needs `min_blocks`. Where those bring more evidence than needed, the horizon is what they bring: it costs no
    time.
    """
    effect = abs(settings.effect)
    schedule = Schedule(settings)
    low = 1.0
    if not settings.independent:
        looks = schedule.looks(schedule.blocks_for(1.0, settings.min_blocks))
        low = float(looks.win_information[np.argmax(looks.win_blocks >= max(1, settings.min_blocks))])
        found = Forecast(settings, low)
        if found.power(effect) >= power:
            return found
    high = max(low, Forecast(settings, low).one_look(effect, power))
    while Forecast(settings, high, _ROUGH).power(effect) < power:
        low, high = high, 1.15 * high
    low = max(low, high / 1.15)
    for _ in range(7):
        middle = math.sqrt(low * high)
        enough = Forecast(settings, middle, _ROUGH).power(effect) >= power
        low, high = (low, middle) if enough else (middle, high)
    while (found := Forecast(settings, high)).power(effect) < power:
        high *= 1.004
    return found


def _bounds(side: Side, times: Floats, ready: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Floats:
    bounds, boundary = np.full(len(times), np.inf), Boundary(side.alpha, side.spending)
    for look in np.flatnonzero(ready):
        bounds[look], boundary = boundary.look(float(times[look]))
    return bounds
