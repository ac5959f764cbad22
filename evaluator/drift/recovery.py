"""Recovery of features: which drifts that a long window still holds have ended, according to the shorter windows.

Nothing is forgotten when a drift ends, so that state remains sums: a shorter window that is calm shows the recovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluator.drift.distances import (
    SHARES,
    Share,
    distance_thresholds,
    distances,
    reference_shares,
    share_thresholds,
    shares,
)
from evaluator.drift.grid import Bools, Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import has_recovered
from evaluator.drift.windows import WindowCounts, Windows

Effect = Literal["distance"] | Share
_DISTANCE_Z, _SHARE_Z = 4.0, 2.5
"""Standard errors by which a shorter window must be lower: a distance is the largest of many differences, a small share
is near its threshold for long."""


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
        """Of the window with index `place`."""
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
