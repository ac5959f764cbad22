"""Distances between windows and the reference from their counts, and the evidence that they are not chance.

Kolmogorov-Smirnov for numbers and total variation for categories decide; the population stability index and
Wasserstein's distance are reported beside them. Nothing is forgotten when a drift ends: a shorter window that is calm
shows the recovery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.special import chdtrc, gammaln, smirnov

from evaluator.drift.grid import BINS, Bools, Floats, Grid, Ints
from evaluator.drift.markov import pooled_table
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import has_recovered
from evaluator.drift.windows import QuantileBounds, WindowCounts, Windows, WindowSummary

Share = Literal["missing", "outliers", "unseen"]
SHARES: tuple[Share, ...] = ("missing", "outliers", "unseen")
"""Share of special cells among rows, over the reference's share of them; of values beyond three standard deviations; of
values the reference never had (or, beyond its most frequent categories, counted together)."""
Effect = Literal["distance"] | Share
_DISTANCE_Z, _SHARE_Z = 4.0, 2.5
"""Standard errors by which a shorter window must be lower: a distance is the largest of many differences, a small share
is near its threshold for long."""
_EXACT_ROWS = 64
_RARE = 5
"""Rows up to which a category is rare, so that its expected count is hardly known."""


def ks_interval(reference: Floats, current: Floats) -> tuple[float, float]:
    """Certified interval of the two-sample Kolmogorov-Smirnov distance from two CDFs on one grid, shape (bins,).

    The largest difference at the bins' ends is a lower bound. Within a bin each CDF is between its ends, so the
    distance is at most the reference's end minus the current start, or the reverse.
    """
    lower = float(np.max(np.abs(reference - current), initial=0.0))
    below_reference = np.concatenate(([0.0], reference[:-1]))
    below_current = np.concatenate(([0.0], current[:-1]))
    upper = float(np.max(np.maximum(reference - below_current, current - below_reference), initial=0.0))
    return lower, min(1.0, max(lower, upper))


def ks_p_value(distance: float, n: float, m: float) -> float:
    """Conservative p value of a Kolmogorov-Smirnov distance between samples of effective sizes `n` and `m`.

    At the harmonic size nm / (n + m): twice the exact one-sided law (Birnbaum and Tingey 1951) for few effective rows,
    Massart's bound (1990) for many; at least 2 / C(n + m, n), the probability of complete separation.
    """
    if not (n > 0 and m > 0):
        return 1.0
    size = n * m / (n + m)
    upper = smirnov(max(1, math.floor(size)), distance) if size < _EXACT_ROWS else math.exp(-2.0 * size * distance**2)
    separated = math.exp(gammaln(n + 1) + gammaln(m + 1) - gammaln(n + m + 1))
    return float(min(1.0, 2.0 * max(upper, separated)))


def with_unseen(reference: Ints, current: Ints) -> tuple[Ints, Ints]:
    """Counts of categories with the reference's rare ones and the unseen ones (the last slot) pooled.

    A finite sample underestimates the probability of rare and unseen values. Categories seen up to r times have
    together the probability sum (s N_s, s = 1 to r + 1) / n, N_s of them having been seen s times (Good 1953, equation
    14).
    """
    kept = reference[:-1]
    pooled = np.append(kept <= _RARE, True)
    hidden = (_RARE + 1) * int((kept == _RARE + 1).sum())
    return (
        np.append(reference[~pooled], int(reference[pooled].sum()) + hidden),
        np.append(current[~pooled], int(current[pooled].sum())),
    )


def g_test(reference: Ints, current: Ints, reference_efficiency: float = 1.0, efficiency: float = 1.0) -> float:
    """p value of the two-sample G test of homogeneity over the same slots (Sokal and Rohlf 1981, ch. 17).

    Counts are scaled by the `efficiency` of their rows (effective rows per row); slots with an expected count below
    five are pooled.
    """
    table = np.vstack([reference * reference_efficiency, current * efficiency]).astype(np.float64)
    if not (table.sum(axis=1) > 0).all():
        return 1.0
    table, expected = pooled_table(table)
    if table.shape[1] < 2:
        return 1.0
    terms = table * np.log(np.where(table > 0, table / expected, 1.0))
    return float(chdtrc(table.shape[1] - 1, 2.0 * terms.sum()))


def share_p_value(count: float, rows: float, reference_count: float, reference_rows: float) -> float:
    """One-sided p value of Fisher's exact test that `count` of `rows` is no larger a share than the reference's.

    The reference is a sample, too: with its share taken for the truth, 14 of 1,000 still columns were significant at
    .001 where both tables were as long. Effective counts may be fractional; the hypergeometric terms are then those of
    the gamma function.
    """
    if count <= 0 or rows <= 0 or reference_rows <= 0:
        return 1.0
    n, m, k = max(rows, count), max(reference_rows, reference_count), reference_count
    if count * m <= k * n:  # no larger: the terms don't fall from here, and nothing is asked
        return 1.0
    deviations = 20.0 * math.sqrt(n) / 2.0  # beyond so many the tail adds nothing that shows
    j: Floats = np.arange(math.floor(min(n - count, k, deviations)) + 1.0)
    terms = _log_choose(n, count + j) + _log_choose(m, k - j) - _log_choose(n + m, np.array([count + k]))
    return min(1.0, float(np.exp(terms).sum()))


def _log_choose(n: float, k: Floats) -> Floats:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(np.maximum(n - k, 0.0) + 1.0), dtype=np.float64)


def reject_at(p_values: Floats, alpha: float) -> Bools:
    """Mask of the hypotheses rejected at false-discovery rate `alpha` (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control  # slow to import, and only needed where something has moved

    rejected: Bools = false_discovery_control(p_values) <= alpha if len(p_values) else np.zeros(0, dtype=np.bool_)
    return rejected


GROUPS = 10
"""Groups of the population stability index: deciles of the reference."""


def psi(reference: Ints, current: Ints, *, ordered: bool) -> float:
    """Population stability index, sum of (q - p) ln(q / p), over the reference's deciles (ordered) or the slots.

    Half a count is added to each group of both sides (Jeffreys), so that an empty group is finite. 0.0 when either
    side has no rows. By custom 0.1 is a little and 0.25 is a lot.
    """
    if reference.sum() == 0 or current.sum() == 0:
        return 0.0
    if ordered:
        # A slot belongs to the decile in which the reference is when the slot ends.
        decile = np.minimum(GROUPS - 1, (np.cumsum(reference) - 1) * GROUPS // reference.sum()).clip(0)
        reference = np.bincount(decile, weights=reference, minlength=GROUPS)
        current = np.bincount(decile, weights=current, minlength=GROUPS)
    used = (reference + current) > 0
    p, q = reference[used] + 0.5, current[used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def _edges(grid: Grid) -> Floats:
    """Edges of the bins between the limits of a linear or asinh grid in the feature's units, shape (BINS + 1,)."""
    axis = np.linspace(grid.low, grid.high, BINS + 1)
    return grid.centre + grid.scale * np.sinh(axis) if grid.kind == "asinh" else axis


def wasserstein(grid: Grid, reference: Ints, current: Ints, deviation: float) -> float:
    """First Wasserstein distance between the limits of a numeric grid, in the reference's standard deviations.

    The area between the two CDFs; values beyond the limits count as if they were at them. The unit is one for a
    reference without spread.
    """
    if reference.sum() == 0 or current.sum() == 0:
        return 0.0
    gap = np.abs(np.cumsum(reference) / reference.sum() - np.cumsum(current) / current.sum())
    unit = deviation or 1.0
    if grid.kind == "exact":
        widths = np.diff(np.asarray(grid.values))
        # Slots 2i and 2i+1 are the gap before the i-th value and the value: between two values both gaps count half.
        return float((widths * (gap[1:-2:2] + gap[2:-1:2]) / 2).sum() / unit)
    at = _edges(grid)
    # The gap runs linearly over a bin.
    return float((np.diff(at) * (gap[:-2] + gap[1:-1]) / 2).sum() / unit)


def shares(profile: Profile, seen: WindowCounts | WindowSummary) -> Floats:
    """The `SHARES` in a window or in several, shape (3, ..., features)."""
    rows, present = np.asarray(seen.rows)[..., None], np.maximum(1, seen.present)
    unseen = np.where(profile.ordered, 0, seen.other)
    return np.array([seen.specials.sum(axis=-1) / rows - profile.bad_share, seen.outliers / present, unseen / present])


def reference_shares(profile: Profile) -> Floats:
    """The `SHARES` in the reference, shape (3, 1, features)."""
    return np.array([np.zeros_like(profile.bad_share), profile.outlier_share, profile.unseen_share])[:, None]


@lru_cache(maxsize=8)
def share_thresholds(profile: Profile, settings: DriftSettings) -> Floats:
    """Thresholds of the `SHARES`: the settings', or the limits inside the reference; shape (3, windows, features),
    read-only."""
    gaps, outlying = profile.share_limits
    outliers, unseen = profile.outlier_share, np.broadcast_to(profile.unseen_share + settings.unseen, gaps.shape)
    most = np.maximum(settings.outliers, outliers + np.maximum(outlying, outliers / 4))
    thresholds = np.array([np.maximum(settings.missing, gaps), most, unseen])
    thresholds.flags.writeable = False
    return thresholds


def plain_thresholds(profile: Profile, settings: DriftSettings) -> Floats:
    """Thresholds of the distances by the settings alone, shape (features,)."""
    return np.where(profile.ordered, settings.ks, settings.total_variation)


@lru_cache(maxsize=8)
def distance_thresholds(profile: Profile, settings: DriftSettings) -> Floats:
    """Thresholds of the distances: the settings', or the limits inside the reference; shape (windows + 1, features),
    the quick look last, read-only."""
    thresholds: Floats = np.maximum(plain_thresholds(profile, settings), profile.limits)
    thresholds.flags.writeable = False
    return thresholds


def may_reach(profile: Profile, bounds: QuantileBounds, summary: WindowSummary, least: Floats) -> Bools:
    """Features whose distance may be `least`, shape (windows, features); categorical ones always may."""
    numeric, present = profile.numeric_count, summary.present
    possible = (profile.present > 0) & (present > 0)
    upper = bounds.upper_bounds(summary.quantile_counts, present[:, :numeric])
    possible[:, :numeric] &= upper >= least[:, :numeric]
    return possible


def distances(profile: Profile, window: WindowCounts, wanted: Bools | None = None) -> Floats:
    """Kolmogorov-Smirnov distance (lower bound) of each numeric, total variation of each categorical feature.

    Shape (features,); zero where the reference or the window has no values, or a feature is not `wanted`.
    """
    result = np.zeros(len(profile.features))
    there = (profile.present > 0) & (window.present > 0)
    known = np.flatnonzero(there if wanted is None else there & wanted)
    # Evenly spaced grids as a matrix, other numeric ones one by one, categories all at once.
    even = known[known < profile.even_count]
    if len(even):
        slots = profile.starts[even, None] + np.arange(profile.sizes[0])
        gap = np.cumsum(window.slots(slots), axis=1) * (1.0 / window.present[even, None])
        gap -= profile.cumulative[slots]
        result[even] = np.maximum(gap.max(axis=1), -gap.min(axis=1))
    numeric = profile.numeric_count
    for i in known[(known >= profile.even_count) & (known < numeric)].tolist():
        span = profile.span(i)
        below = np.cumsum(window.slots(span), dtype=np.float64) * (1.0 / int(window.present[i]))
        result[i] = ks_interval(profile.cumulative[span], below)[0]
    texts = known[known >= numeric]
    if len(texts):
        result[texts] = _total_variations(profile, window, numeric)[texts - numeric]
    return result


def _total_variations(profile: Profile, window: WindowCounts, numeric: int) -> Floats:
    """Total variation of each categorical feature, which come after the `numeric` ones, shape (categorical
    features,)."""
    first, sizes = int(profile.starts[numeric]), profile.sizes[numeric:]
    current = window.slots(slice(first, profile.slots)) / np.repeat(np.maximum(1, window.present[numeric:]), sizes)
    gap = np.abs(current - profile.category_shares)
    return np.asarray(np.add.reduceat(gap, profile.starts[numeric:] - first) / 2)


class FeatureRecovery:
    """The windows of one look, shorter ones against longer ones; each is measured only when first asked for."""

    def __init__(self, profile: Profile, windows: Windows, settings: DriftSettings) -> None:
        self._profile, self._windows, self._settings = profile, windows, settings
        self._measured: list[_WindowEffects] = []

    def ended_mask(self, place: int, effect: Effect) -> Bools:
        """Mask of features whose drift in window `place` has ended, according to a shorter window."""
        for shorter in range(len(self._measured), place + 1):
            window = self._windows.window(self._profile.windows[shorter])
            assert window is not None, "a shorter window is full before a longer one"
            self._measured.append(_WindowEffects.of(self._profile, window, shorter, self._settings))
        longer = self._measured[place].effects[effect]
        ended = np.zeros(len(longer), dtype=np.bool_)
        # The standard deviation of a share, or for a distance the largest that a CDF can have.
        share = longer.clip(0.0, 1.0)
        deviation = _DISTANCE_Z * 0.5 if effect == "distance" else _SHARE_Z * np.sqrt(share * (1.0 - share))
        for short in self._measured[:place]:
            margin = deviation / np.sqrt(short.effective_rows[effect])
            ended |= has_recovered(longer, short.effects[effect], calm=short.calm[effect], margin=margin)
        return ended


@dataclass(frozen=True, slots=True)
class _WindowEffects:
    """The effects of one window, shape (features,) each: the distance and the shares; the largest `calm` values, minus
    infinity without enough values; and the effective rows."""

    effects: dict[Effect, Floats]
    calm: dict[Effect, Floats]
    effective_rows: dict[Effect, Floats]

    @classmethod
    def of(cls, profile: Profile, window: WindowCounts, place: int, settings: DriftSettings) -> _WindowEffects:
        """Effects of the window with index `place`."""
        names: tuple[Effect, ...] = ("distance", *SHARES)
        usual, thresholds = reference_shares(profile)[:, 0], share_thresholds(profile, settings)[:, place]
        effects = np.vstack([distances(profile, window), shares(profile, window)])
        calm = np.vstack(
            [
                settings.hysteresis * distance_thresholds(profile, settings)[place],
                usual + settings.hysteresis * (thresholds - usual),
            ]
        )
        effects[1] += profile.bad_share
        calm[1] += profile.bad_share
        for k, name in enumerate(names):
            if name != "missing":
                calm[k, window.present < settings.fewest_rows] = -np.inf
        rows = dict.fromkeys(names, np.maximum(window.present, 1) * profile.efficiencies[place])
        rows["missing"] = window.rows * np.array([feature.missing[place].efficiency for feature in profile.features])
        return cls(dict(zip(names, effects, strict=True)), dict(zip(names, calm, strict=True)), rows)
