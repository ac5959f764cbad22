"""What a window says against the longer ones that end with it: whether what they saw is already over.

A long window still holds rows of a drift that has ended. Nothing is forgotten for that, so that state stays sums: a
shorter window that is back to normal, and plainly below the longer one, is the witness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluator.drift.distances import Bools
from evaluator.drift.grid import Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.window_distances import SHARES, Share, distances, limits, share_limits, shares, usual_shares
from evaluator.drift.windows import View, Windows

Effect = Literal["distance"] | Share

_DISTANCE, _SHARE = 4.0, 2.5
"""Standard errors by which a shorter window must be below: a distance is the largest of many differences, and shares of
a few per cent are near their thresholds for long."""


class Lookback:
    """The windows of one look. What the shorter ones say is worked out only where something asks."""

    def __init__(self, profile: Profile, windows: Windows, settings: DriftSettings) -> None:
        self._profile, self._windows, self._settings = profile, windows, settings
        self._known: list[Recent] = []

    def past(self, place: int, effect: Effect) -> Bools:
        """Features of which a shorter window says that what the one with number `place` sees is over, shape
        (features,)."""
        for shorter in range(len(self._known), place + 1):
            view = self._windows.view(self._profile.windows[shorter])
            assert view is not None, "a shorter window is full before a longer one"
            self._known.append(Recent.of(self._profile, view, shorter, self._settings))
        seen = self._known[place].effects[effect]
        over = np.zeros(len(seen), dtype=np.bool_)
        # A share's standard error, or for a distance the most that a cumulative share's can be.
        share = seen.clip(0.0, 1.0)
        spread = _DISTANCE * 0.5 if effect == "distance" else _SHARE * np.sqrt(share * (1.0 - share))
        for recent in self._known[:place]:
            doubt = spread / np.sqrt(recent.independent[effect])
            over |= recent.calm[effect] & (seen - recent.effects[effect] >= doubt)
        return over


@dataclass(frozen=True, slots=True)
class Recent:
    """The effects in one window, shape (features,) each: distances, and shares of rows and values.

    calm: whether each is back below its threshold; independent: rows that the window is worth.
    """

    effects: dict[Effect, Floats]
    calm: dict[Effect, Bools]
    independent: dict[Effect, Floats]

    @classmethod
    def of(cls, profile: Profile, view: View, place: int, settings: DriftSettings) -> Recent:
        """Of the window with number `place`."""
        names: tuple[Effect, ...] = ("distance", *SHARES)
        far, risen = distances(profile, view), shares(profile, view)
        usual, limit = usual_shares(profile)[:, 0], share_limits(profile, settings)[:, place]
        enough = view.present >= settings.fewest_rows
        calm = np.vstack(
            [
                far <= settings.hysteresis * limits(profile, settings)[place],
                risen - usual <= settings.hysteresis * (limit - usual),
            ]
        )
        calm[[name != "missing" for name in names]] &= enough
        risen[0] += profile.bad_share
        worth = np.maximum(view.present, 1) * profile.efficiencies[place]
        independent = dict.fromkeys(names, worth)
        independent["missing"] = view.rows * np.array(
            [feature.missing[place].efficiency for feature in profile.features]
        )
        return cls(dict(zip(names, (far, *risen), strict=True)), dict(zip(names, calm, strict=True)), independent)
