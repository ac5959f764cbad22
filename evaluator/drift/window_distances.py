"""Shares of bad cells, outliers and unseen values, of all features at once: what is seen, and from where it matters.

Every first axis is `SHARES`.

How far the distributions in a window are from the reference's, all features at once.

Nearly always nothing is far, and from a few slots of each that is cheap to know: only what they leave open is measured
slot by slot.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from evaluator.drift.distances import Bools, ks_interval
from evaluator.drift.grid import Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.windows import Glance, View

Share = Literal["missing", "outliers", "unseen"]
SHARES: tuple[Share, ...] = ("missing", "outliers", "unseen")
"""Of rows, cells without a slot over the reference's share of them. Of values, those beyond three standard deviations,
and those the reference never had (or, beyond its most frequent categories, has counted together)."""


def shares(profile: Profile, seen: View | Glance) -> Floats:
    """The shares in a window or in several, shape (3, ..., features)."""
    rows, present = np.asarray(seen.rows)[..., None], np.maximum(1, seen.present)
    unseen = np.where(profile.ordered, 0, seen.other)
    return np.array([seen.specials.sum(axis=-1) / rows - profile.bad_share, seen.outliers / present, unseen / present])


def usual_shares(profile: Profile) -> Floats:
    """The shares in the reference, shape (3, 1, features)."""
    return np.array([np.zeros_like(profile.bad_share), profile.outlier_share, profile.unseen_share])[:, None]


@lru_cache(maxsize=8)
def share_limits(profile: Profile, settings: DriftSettings) -> Floats:
    """The shares that matter and that the reference's own windows don't reach, shape (3, windows, features); not to be
    written to."""
    gaps, outlying = profile.share_limits
    outliers, unseen = profile.outlier_share, np.broadcast_to(profile.unseen_share + settings.unseen, gaps.shape)
    most = np.maximum(settings.outliers, outliers + np.maximum(outlying, outliers / 4))
    found = np.array([np.maximum(settings.missing, gaps), most, unseen])
    found.flags.writeable = False
    return found


def floors(profile: Profile, settings: DriftSettings) -> Floats:
    """The distance below which no feature has drifted, whatever it does in the reference; shape (features,)."""
    return np.where(profile.ordered, settings.ks, settings.total_variation)


@lru_cache(maxsize=8)
def limits(profile: Profile, settings: DriftSettings) -> Floats:
    """The distance that matters and that the reference's own windows don't reach, shape (windows + 1, features), the
    quick look last; not to be written to."""
    found: Floats = np.maximum(floors(profile, settings), profile.limits)
    found.flags.writeable = False
    return found


def far(profile: Profile, glance: Glance, least: Floats) -> Bools:
    """Which features may have a distance of `least`, shape (windows, features); categories always may."""
    numeric = profile.marks.shape[0]
    found = (profile.present > 0) & (glance.present > 0)
    found[:, :numeric] &= profile.marks.at_most(glance.marked, glance.present[:, :numeric]) >= least[:, :numeric]
    return found


def distances(profile: Profile, view: View, asked: Bools | None = None) -> Floats:
    """Kolmogorov-Smirnov distance (lower bound) of each numeric, total variation of each categorical feature.

    Shape (features,); zero where the reference or the window has no values, or a feature is not `asked` for.
    """
    found = np.zeros(len(profile.features))
    there = (profile.present > 0) & (view.present > 0)
    known = np.flatnonzero(there if asked is None else there & asked)
    # Grids of one size as a matrix, other numbers one by one, categories all at once.
    even = known[known < profile.even]
    if len(even):
        slots = profile.starts[even, None] + np.arange(profile.sizes[0])
        gap = np.cumsum(view.slots(slots), axis=1) * (1.0 / view.present[even, None])
        gap -= profile.cumulative[slots]
        found[even] = np.maximum(gap.max(axis=1), -gap.min(axis=1))
    numeric = profile.marks.shape[0]
    for i in known[(known >= profile.even) & (known < numeric)].tolist():
        span = profile.span(i)
        below = np.cumsum(view.slots(span), dtype=np.float64) * (1.0 / int(view.present[i]))
        found[i] = ks_interval(profile.cumulative[span], below)[0]
    texts = known[known >= numeric]
    if len(texts):
        found[texts] = _variations(profile, view, numeric)[texts - numeric]
    return found


def _variations(profile: Profile, view: View, numeric: int) -> Floats:
    """Total variation (half the absolute difference of the shares) of every categorical feature, which come after the
    `numeric` ones, shape (categorical features,)."""
    first, sizes = int(profile.starts[numeric]), profile.sizes[numeric:]
    shares = view.slots(slice(first, profile.slots)) / np.repeat(np.maximum(1, view.present[numeric:]), sizes)
    gap = np.abs(shares - profile.category_shares)
    return np.asarray(np.add.reduceat(gap, profile.starts[numeric:] - first) / 2)
