"""What a window says against the longer ones that end with it: whether what they saw is already over.

A long window still holds rows of a drift that has ended. Nothing is forgotten for that, so that state stays sums: a
shorter window that is back to normal, and plainly below the longer one, is the witness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluator.drift.distance import Bools
from evaluator.drift.grid import Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.window import View

Effect = Literal["distance", "missing", "outliers", "unseen"]


_DISTANCE, _SHARE = 4.0, 2.5
"""Standard errors by which a shorter window must be below: a distance is the largest of many differences, and shares of
a few per cent are near their thresholds for long."""


def unseen_share(profile: Profile, view: View) -> Floats:
    """Share of a window's values that the reference never had (or, beyond its most frequent, has counted together),
    shape (features,); 0 for numbers."""
    if profile.ordered.all():
        return np.zeros(len(profile.features))
    ends = profile.starts + profile.sizes - 1
    before = np.where(profile.sizes > 1, view.cumulative[ends - 1], 0) if len(ends) else ends
    new = np.where(profile.ordered, 0, view.present - before)
    return np.asarray(new / np.maximum(view.present, 1))


class Lookback:
    """The windows of one look, from the shortest on. What they say is worked out only where something asks."""

    def __init__(self, profile: Profile, settings: DriftSettings) -> None:
        self._profile, self._settings = profile, settings
        self._windows: list[tuple[int, View, Floats]] = []
        self._known: list[Recent] = []

    def add(self, place: int, view: View, distances: Floats) -> None:
        """The next longer window: its number, and the distances of its features."""
        self._windows.append((place, view, distances.copy()))

    def past(self, effect: Effect) -> Bools:
        """Features of which a shorter window says that what the longest one sees is over, shape (features,)."""
        for place, view, distances in self._windows[len(self._known) :]:
            self._known.append(Recent.of(self._profile, view, place, distances, self._settings))
        *shorter, longest = self._known
        over = np.zeros(len(self._profile.features), dtype=np.bool_)
        # A share's standard error, or for a distance the most that a cumulative share's can be.
        share = longest.effects[effect].clip(0.0, 1.0)
        spread = _DISTANCE * 0.5 if effect == "distance" else _SHARE * np.sqrt(share * (1.0 - share))
        for recent in shorter:
            doubt = spread / np.sqrt(recent.independent[effect])
            over |= recent.calm[effect] & (longest.effects[effect] - recent.effects[effect] >= doubt)
        return over


@dataclass(frozen=True, slots=True)
class Recent:
    """The effects in one window, shape (features,) each: distances, and the shares of bad cells, outliers and unseen
    values.

    calm: whether each is back below its threshold; independent: rows that the window is worth.
    """

    effects: dict[Effect, Floats]
    calm: dict[Effect, Bools]
    independent: dict[Effect, Floats]

    @classmethod
    def of(cls, profile: Profile, view: View, place: int, distances: Floats, settings: DriftSettings) -> Recent:
        """Of the window with number `place`; `distances` are those of its features."""
        rows, present = max(1, view.rows), np.maximum(view.present, 1)
        floors = np.where(profile.ordered, settings.ks, settings.total_variation)
        own = {
            "missing": np.array([feature.missing[place].limit for feature in profile.features]),
            "outliers": np.array([feature.outlying[place].limit for feature in profile.features]),
        }
        usual: dict[Effect, Floats] = {
            "distance": np.zeros(len(profile.features)),
            "missing": profile.bad_share,
            "outliers": profile.outlier_share,
            "unseen": profile.unseen_share,
        }
        effects: dict[Effect, Floats] = {
            "distance": distances,
            "missing": view.specials.sum(axis=1) / rows,
            "outliers": view.outliers / present,
            "unseen": unseen_share(profile, view),
        }
        base = profile.outlier_share
        limits: dict[Effect, Floats] = {
            "distance": np.maximum(floors, profile.limits[place]),
            "missing": usual["missing"] + np.maximum(settings.missing, own["missing"]),
            "outliers": np.maximum(settings.outliers, base + np.maximum(own["outliers"], base / 4)),
            "unseen": usual["unseen"] + settings.unseen,
        }
        worth = present * profile.efficiencies[place]
        independent: dict[Effect, Floats] = {
            "distance": worth,
            "missing": rows * np.array([feature.missing[place].efficiency for feature in profile.features]),
            "outliers": worth,
            "unseen": worth,
        }
        enough = view.present >= settings.fewest_rows
        calm = {
            name: effects[name] - usual[name] <= settings.hysteresis * (limits[name] - usual[name]) for name in effects
        }
        for name in calm.keys() - {"missing"}:
            calm[name] &= enough
        return cls(effects, calm, independent)
