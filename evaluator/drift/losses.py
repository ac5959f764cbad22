"""One look at the errors: the windows' rises, the bets on every outcome, and ADWIN's vote, made one signal.

Of the same kind are all three: a change of concept, seen slowly, at once, or by a second opinion.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from evaluator.drift.concept import ErrorWindows, Rise
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import Key, Look, Signal

KEY: Key = ("concept", "")
SECONDED_Z = 3.0
"""Standard errors that do when ADWIN saw the errors rise too."""
_SECONDED_WITHIN = 1024
_HOLD = 256
"""Outcomes for which a sudden change stands by itself; later the windows must see it."""


def look_at_errors(errors: ErrorWindows, settings: DriftSettings, raised_before: Collection[Key] = ()) -> Look:
    """Judge the errors: bets just won speak at once; else the rise beyond the threshold with the most evidence."""
    found = errors.rises(settings.concept_rise)
    if settings.simple:
        passed = [rise for rise in found if rise.rise > settings.concept_rise]
        return _look(_signal(max(passed, key=lambda r: r.rise), settings.concept_rise)) if passed else Look()
    rises = [rise for rise in found if not _over(rise, found, settings)]
    since = errors.since_crossing
    recent = since is not None and since < _HOLD
    needed = min(settings.concept_z, SECONDED_Z) if errors.adwin.voted(_SECONDED_WITHIN) else settings.concept_z
    passed = [rise for rise in rises if rise.rise > rise.threshold and rise.z >= needed]
    held = {KEY} if KEY in raised_before and _still_risen(rises, settings) else set()
    if passed:
        best = max(passed, key=lambda rise: rise.z)
        critical = any(r.rise > 2 * r.threshold and r.z_beyond >= settings.concept_z for r in passed)
        return _look(_signal(best, best.threshold, critical), certain=since == 0)
    sudden = errors.sudden(settings.concept_rise) if recent else None
    if sudden is None:
        return Look({}, frozenset(held))
    return _look(_signal(sudden, sudden.threshold), certain=True)


def ended(errors: ErrorWindows, settings: DriftSettings) -> int | None:
    """The longest of the windows that show that what a longer one still holds is past; None when there is none."""
    found = errors.rises(settings.concept_rise)
    return max((recent.window for rise in found for recent in _over(rise, found, settings)), default=None)


def _look(signal: Signal, *, certain: bool = False) -> Look:
    keys = frozenset({signal.key})
    return Look({signal.key: signal}, keys, keys if certain else frozenset())


def _signal(rise: Rise, threshold: float, critical: bool = False) -> Signal:
    # One-sided normal tail by its bound exp(-z^2 / 2) / 2: the windows' means are only nearly normal.
    p_value = math.exp(-(max(rise.z, 0.0) ** 2) / 2) / 2
    return Signal("concept", "", rise.rise, rise.lower, rise.upper, threshold, p_value, rise.window, critical)


def _over(rise: Rise, rises: list[Rise], settings: DriftSettings) -> list[Rise]:
    """The shorter windows, each the end of this one, that show that what raised it is past: they are back below the
    threshold, and plainly below the longer one."""
    return [
        recent
        for recent in rises
        if recent.window < rise.window
        and recent.rise <= settings.hysteresis * recent.threshold
        and rise.rise - recent.rise >= settings.concept_z * recent.error
    ]


def _still_risen(rises: list[Rise], settings: DriftSettings) -> bool:
    """Whether a window still has most of the effect and half of the evidence, so that noise in short ones holds
    nothing."""
    return any(rise.rise > settings.hysteresis * rise.threshold and rise.z >= settings.concept_z / 2 for rise in rises)
