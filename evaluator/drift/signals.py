"""One look at the windows: which rules find an effect AND the evidence for it, and which still hold.

A look is a pure function of counts, profile and settings; what to make of several looks is the episode's business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from evaluator.drift.concept import Rise
from evaluator.drift.distance import (
    benjamini_hochberg,
    g_test,
    ks_interval,
    ks_p_value,
    share_p_value,
)
from evaluator.drift.grid import Floats
from evaluator.drift.profile import ABSENT, MISTYPED, Feature, Profile
from evaluator.drift.quality import quality_score
from evaluator.drift.settings import DriftSettings
from evaluator.drift.window import View, Windows, shares

Kind = Literal[
    "distribution",  # Kolmogorov-Smirnov distance of a numeric feature
    "categories",  # total variation of a categorical feature
    "displaced",  # most of the longest window beyond three standard deviations
    "outliers",  # more values beyond three standard deviations than the reference has
    "missing",  # more cells without a usable value
    "column_gone",
    "type_change",
    "quality",  # the score of the whole table
    "concept",  # rise of the error
]
Key = tuple[Kind, str]
"""A signal's identity over time: its kind and its feature (empty for the whole table)."""
Family = Literal["covariate", "outliers", "quality", "concept"]
_FAMILIES: dict[Kind, Family] = {
    "distribution": "covariate",
    "categories": "covariate",
    "displaced": "covariate",
    "outliers": "outliers",
    "missing": "quality",
    "column_gone": "quality",
    "type_change": "quality",
    "quality": "quality",
    "concept": "concept",
}
_MOST = 0.5
"""Share of rows from which a finding is a fact about the column and needs no test."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A rule that passed: `statistic` reached `threshold` with `p_value` (0 for facts) on the last `window` rows.

    `lower` and `upper` enclose the statistic (certified for distributions); `critical` says that twice the threshold,
    or the critical quality, was passed too.
    """

    kind: Kind
    feature: str
    statistic: float
    lower: float
    upper: float
    threshold: float
    p_value: float
    window: int
    critical: bool = False

    @property
    def key(self) -> Key:
        """What it is about, whatever the numbers."""
        return self.kind, self.feature

    @property
    def family(self) -> Family:
        """The family in which its evidence counts once."""
        return _FAMILIES[self.kind]

    @property
    def strength(self) -> float:
        """Times the threshold."""
        return self.statistic / self.threshold


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: signals `raised` now, and keys of raised or earlier signals that have not fallen
    (`held`)."""

    raised: Mapping[Key, Signal] = field(default_factory=dict)
    held: frozenset[Key] = frozenset()


def distances(profile: Profile, view: View) -> Floats:
    """Kolmogorov-Smirnov distance (lower bound) of each numeric, total variation of each categorical feature.

    Shape (features,); zero where the reference or the window has no values.
    """
    if not profile.features:
        return np.empty(0)
    gap = np.abs(profile.cumulative - shares(profile, view))
    found: Floats = np.maximum.reduceat(gap, profile.starts)
    for i, feature in enumerate(profile.features):
        if not feature.numeric:
            found[i] = _variation(profile, view, i)
    found[(profile.present == 0) | (view.present == 0)] = 0.0
    return found


def look_at_features(
    profile: Profile, windows: Windows, settings: DriftSettings, raised_before: Collection[Key] = ()
) -> Look:
    """Judge all features on all windows that are full.

    Evidence is sought only for effects not in `raised_before`; those hold on without it until they fall below
    `hysteresis` times their threshold.
    """
    candidates: list[Signal] = []
    held: set[Key] = set()
    before = set(raised_before)
    for place, rows in enumerate(profile.windows):
        view = windows.view(rows)
        if view is None:
            break
        candidates += _shape_signals(profile, view, place, settings, before, held)
        candidates += _share_signals(profile, view, place, settings, before, held)
        if place == 0:
            candidates += _column_signals(profile, view, settings, before, held)
        if place == len(profile.windows) - 1:
            candidates += _displaced(profile, view, settings, before, held)
    raised: dict[Key, Signal] = {}
    for signal in _significant(candidates, profile, settings):
        if signal.key not in raised or signal.strength > raised[signal.key].strength:
            raised[signal.key] = signal
    return Look(raised, frozenset(held | set(raised)))


def look_at_errors(rises: list[Rise], settings: DriftSettings, raised_before: Collection[Key] = ()) -> Look:
    """Judge the error windows: the rise beyond the threshold with the most evidence, if there is any."""
    key: Key = ("concept", "")
    passed = [rise for rise in rises if rise.rise > rise.threshold and rise.z >= settings.concept_z]
    held = {key} if key in raised_before and _still_risen(rises, settings) else set()
    if not passed:
        return Look({}, frozenset(held))
    best = max(passed, key=lambda rise: rise.z)
    critical = any(r.rise > 2 * r.threshold and r.z_beyond >= settings.concept_z for r in passed)
    signal = Signal(
        "concept",
        "",
        best.rise,
        best.lower,
        best.upper,
        best.threshold,
        # One-sided normal tail by its bound exp(-z^2 / 2) / 2: the windows' means are only nearly normal.
        float(np.exp(-(best.z**2) / 2) / 2),
        best.window,
        critical,
    )
    return Look({key: signal}, frozenset({key}))


def _still_risen(rises: list[Rise], settings: DriftSettings) -> bool:
    """Whether a window still has most of the effect and half of the evidence, so that noise in short ones holds
    nothing."""
    return any(rise.rise > settings.hysteresis * rise.threshold and rise.z >= settings.concept_z / 2 for rise in rises)


def _significant(candidates: list[Signal], profile: Profile, settings: DriftSettings) -> list[Signal]:
    """Those kept at the false-discovery rate among all hypotheses of their family, tested or not."""
    kept: list[Signal] = []
    hypotheses = len(profile.features) * len(profile.windows)
    for family in sorted({signal.family for signal in candidates}):
        group = [signal for signal in candidates if signal.family == family]
        p_values = np.ones(max(hypotheses, len(group)))
        p_values[: len(group)] = [signal.p_value for signal in group]
        rejected = benjamini_hochberg(p_values, settings.alpha)
        kept += [signal for signal, keep in zip(group, rejected, strict=False) if keep]
    return kept


def _shape_signals(
    profile: Profile, view: View, place: int, settings: DriftSettings, before: set[Key], held: set[Key]
) -> list[Signal]:
    found = distances(profile, view)
    floors = np.where(profile.ordered, settings.ks, settings.total_variation)
    ratio = found / np.maximum(floors, profile.limits[place])
    ratio[view.present < settings.fewest_rows] = 0.0
    signals: list[Signal] = []
    for i in np.flatnonzero(ratio >= settings.hysteresis).tolist():
        feature = profile.features[i]
        kind: Kind = "distribution" if feature.numeric else "categories"
        if (kind, feature.name) in before:
            held.add((kind, feature.name))
        elif ratio[i] >= 1.0:
            signals.append(
                measure(profile, view, i, float(found[i]), place=place, threshold=float(found[i] / ratio[i]))
            )
    return signals


def measure(profile: Profile, view: View, feature: int, distance: float, *, place: int, threshold: float) -> Signal:
    """The distance of one feature with its interval and p value."""
    fitted, rows = profile.features[feature], float(view.present[feature])
    # A dependent reference is itself only a few independent rows: as few as its longest windows say.
    efficiency, own = fitted.shape[place].efficiency, fitted.shape[-1].efficiency
    span = slice(int(profile.starts[feature]), int(profile.starts[feature] + profile.sizes[feature]))
    current = view.cumulative[span]
    if fitted.numeric:
        kind: Kind = "distribution"
        lower, upper = ks_interval(profile.cumulative[span], current / max(1.0, rows))
        upper = lower if fitted.grid.kind == "exact" else upper
        p_value = ks_p_value(distance, rows * efficiency, fitted.present * own)
    else:
        kind, lower, upper = "categories", distance, distance
        p_value = g_test(fitted.counts, np.diff(current, prepend=0), own, efficiency)
    return Signal(kind, fitted.name, distance, lower, upper, threshold, p_value, view.rows)


def _variation(profile: Profile, view: View, feature: int) -> float:
    start, size = int(profile.starts[feature]), int(profile.sizes[feature])
    counts = np.diff(view.cumulative[start : start + size], prepend=0)
    share = profile.features[feature].counts / max(1, profile.features[feature].present)
    return float(np.abs(counts / max(1, int(view.present[feature])) - share).sum() / 2)


def _share_signals(
    profile: Profile, view: View, place: int, settings: DriftSettings, before: set[Key], held: set[Key]
) -> list[Signal]:
    """Outliers over 5 % of values, and bad cells risen by 5 % of rows, both beyond the reference's own share."""
    signals: list[Signal] = []
    bad = view.specials.sum(axis=1)
    bad_rise = bad / view.rows - profile.bad_share
    outliers = view.outliers / np.maximum(view.present, 1)
    interesting = (bad_rise >= settings.hysteresis * settings.missing) | (
        outliers >= settings.hysteresis * settings.outliers
    )
    for i in np.flatnonzero(interesting).tolist():
        feature = profile.features[i]
        missing, outlying = feature.missing[place], feature.outlying[place]
        rules = (
            _share_rule(
                "missing",
                feature,
                float(bad_rise[i]),
                max(settings.missing, missing.limit),
                (float(bad[i]), float(view.rows), float(sum(feature.specials)), float(profile.rows)),
                missing.efficiency,
                view.rows,
            ),
            _share_rule(
                "outliers",
                feature,
                float(outliers[i]),
                max(settings.outliers, profile.outlier_share[i] + outlying.limit),
                (
                    float(view.outliers[i]),
                    float(view.present[i]) if view.present[i] >= settings.fewest_rows else 0.0,
                    float(feature.outliers),
                    float(feature.present),
                ),
                # Too few outliers in the reference to show it, yet they come as dependent as the values do.
                min(outlying.efficiency, feature.shape[place].efficiency),
                view.rows,
            ),
        )
        for signal in rules:
            if signal.key in before:
                if signal.strength >= settings.hysteresis:
                    held.add(signal.key)
            elif signal.strength >= 1.0:
                signals.append(signal)
    return signals


def _share_rule(
    kind: Kind,
    feature: Feature,
    statistic: float,
    threshold: float,
    counts: tuple[float, float, float, float],
    efficiency: float,
    window: int,
) -> Signal:
    count, rows, reference_count, reference_rows = counts
    p_value = share_p_value(
        count * efficiency, rows * efficiency, reference_count * efficiency, reference_rows * efficiency
    )
    return Signal(kind, feature.name, statistic, statistic, statistic, threshold, p_value, window)


def _column_signals(
    profile: Profile, view: View, settings: DriftSettings, before: set[Key], held: set[Key]
) -> list[Signal]:
    """Facts of the shortest window that need no test: a column gone or of another type, and the quality score."""
    signals: list[Signal] = []
    if not profile.features:
        return signals
    rows = max(1, view.rows)
    kinds: tuple[tuple[Kind, int], ...] = (("column_gone", ABSENT), ("type_change", MISTYPED))
    for kind, special in kinds:
        for i in np.flatnonzero(view.specials[:, special] >= _MOST * rows).tolist():
            share = float(view.specials[i, special] / rows)
            signals.append(Signal(kind, profile.names[i], share, share, share, _MOST, 0.0, view.rows))
    lack = 1.0 - quality_score(profile, view)
    threshold = 1.0 - settings.quality_alarm
    if lack > threshold:
        critical = lack > 1.0 - settings.quality_critical
        signals.append(Signal("quality", "", lack, lack, lack, threshold, 0.0, view.rows, critical))
    elif lack > settings.hysteresis * threshold and ("quality", "") in before:
        held.add(("quality", ""))
    return signals


def _displaced(profile: Profile, view: View, settings: DriftSettings, before: set[Key], held: set[Key]) -> list[Signal]:
    """Numeric features with most of the window (the longest) beyond three standard deviations of the reference.

    Values that vary slowly, such as the weather, give a few independent rows a window and no test could ever speak;
    that they are where the model has seen next to nothing is plain all the same.
    """
    enough = view.present >= settings.fewest_rows
    share = np.where(enough & profile.ordered, view.outliers / np.maximum(view.present, 1), 0.0)
    share[profile.outlier_share >= _MOST] = 0.0
    signals: list[Signal] = []
    for i in np.flatnonzero(share >= settings.hysteresis * _MOST).tolist():
        seen = float(share[i])
        signal = Signal("displaced", profile.names[i], seen, seen, seen, _MOST, 0.0, view.rows)
        if share[i] >= _MOST:
            signals.append(signal)
        elif signal.key in before:
            held.add(signal.key)
    return signals
