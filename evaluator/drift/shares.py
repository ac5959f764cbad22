"""Shares of bad cells, outliers and unseen values, of all features at once: what is seen, and from where it matters.

Every first axis is `SHARES`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from evaluator.drift.grid import Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.window import Glance, View

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
