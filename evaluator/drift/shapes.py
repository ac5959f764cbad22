"""How far the distributions in a window are from the reference's, all features at once.

Nearly always nothing is far, and from a few slots of each that is cheap to know: only what they leave open is measured
slot by slot.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from evaluator.drift.distance import Bools, ks_interval, total_variation
from evaluator.drift.grid import Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.window import Glance, View


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
    # Grids of one size as a matrix, the others one by one.
    even = known[known < profile.even]
    if len(even):
        slots = profile.starts[even, None] + np.arange(profile.sizes[0])
        gap = np.cumsum(view.slots(slots), axis=1) * (1.0 / view.present[even, None])
        gap -= profile.cumulative[slots]
        found[even] = np.maximum(gap.max(axis=1), -gap.min(axis=1))
    for i in known[len(even) :].tolist():
        found[i] = _distance(profile, view, i)
    return found


def _distance(profile: Profile, view: View, feature: int) -> float:
    fitted, slots = profile.features[feature], view.slots(profile.span(feature))
    present = int(view.present[feature])
    if not fitted.numeric:
        return total_variation(fitted.counts / fitted.present, slots / present)
    below = np.cumsum(slots, dtype=np.float64) * (1.0 / present)
    return ks_interval(profile.cumulative[profile.span(feature)], below)[0]
