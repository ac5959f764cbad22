"""Drift of the features: one look at their windows, which finds effects with the evidence for them, or what still
holds.

A look is a pure function of counts, profile and settings. Episodes combine the looks over time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from evaluator.drift.data_quality import quality_score
from evaluator.drift.distances import (
    SHARES,
    Effect,
    FeatureRecovery,
    Share,
    distance_thresholds,
    distances,
    g_test,
    ks_interval,
    ks_p_value,
    may_reach,
    plain_thresholds,
    reference_shares,
    reject_at,
    share_p_value,
    share_thresholds,
    shares,
    with_unseen,
)
from evaluator.drift.feature import ABSENT, MISTYPED, FeatureReference
from evaluator.drift.grid import Bools, Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import SIMPLE_P, DriftSettings
from evaluator.drift.signals import DISTRIBUTION_KINDS, Key, Kind, LookResult, Signal
from evaluator.drift.windows import QuantileBounds, WindowCounts, Windows

QUICK = -1
"""The quick look, in place of the index of a window."""
CERTAIN = 1e-6
"""Significance level, over all features and windows of one look, at which no second look is needed."""
MOST = 0.5
"""Share of rows from which a finding is a fact about the column and needs no test."""
_PLAIN = 2.0
"""Multiple of the threshold from which a shift cannot be one too small to matter."""


@dataclass(frozen=True, slots=True)
class SignalContext:
    """What the rules read: one window's counts and the index `place` whose thresholds hold; `raised_before` by earlier
    looks; and, of a stream, `recovery` by shorter windows."""

    profile: Profile
    settings: DriftSettings
    window: WindowCounts
    place: int
    raised_before: Collection[Key] = ()
    recovery: FeatureRecovery | None = None

    def has_ended(self, effect: Effect) -> Bools:
        """Mask of features whose drift in this window has ended, by a shorter one."""
        if self.recovery is None:
            return np.zeros(len(self.profile.features), dtype=np.bool_)
        return self.recovery.ended_mask(self.place, effect)


@dataclass(frozen=True, slots=True)
class _Found:
    """Signals that fired, and keys of earlier ones that hold."""

    signals: list[Signal] = field(default_factory=list)
    held: set[Key] = field(default_factory=set)

    def __iadd__(self, other: _Found) -> _Found:
        self.signals.extend(other.signals)
        self.held.update(other.held)
        return self


def look_at_features(
    profile: Profile,
    windows: Windows,
    settings: DriftSettings,
    raised_before: Collection[Key] = (),
    bounds: QuantileBounds | None = None,
) -> LookResult:
    """Judge all features on all windows that are full; `bounds` are of the profile, by default the windows' own.

    Evidence is required for effects not in `raised_before`; those hold without it until they fall below `hysteresis`
    times their threshold. Twice the threshold at level `CERTAIN` needs no second look, and only that counts on the
    quick window.
    """
    before = frozenset(raised_before)
    if settings.simple:
        simple = [
            signal
            for place, rows in enumerate(profile.windows)
            if (window := windows.window(rows)) is not None
            for signal in simple_signals(SignalContext(profile, settings, window, place, before))
        ]
        return LookResult.of(simple)
    hypotheses = len(profile.features) * (len(profile.windows) + 1)
    found = _candidates(profile, windows, settings, before, bounds or windows.bounds, hypotheses)
    signals = _significant(found.signals, hypotheses, settings.alpha)
    certain = {signal.key for signal in signals if is_certain(signal, hypotheses, settings)}
    return LookResult.of(signals, found.held, certain)


def _candidates(
    profile: Profile,
    windows: Windows,
    settings: DriftSettings,
    before: frozenset[Key],
    bounds: QuantileBounds,
    hypotheses: int,
) -> _Found:
    """Effects with their evidence from all windows that are full."""
    full = [rows for rows in profile.windows if windows.full(rows)]
    quick = [rows for rows in (profile.quick,) if rows is not None and windows.full(rows)]
    found = _Found()
    if not profile.features or not full + quick:
        return found
    # First what is known without the slots, which nearly always shows that nothing has moved.
    summary = windows.summary([*full, *quick])
    places = [*range(len(full)), *(QUICK for _ in quick)]
    least = settings.hysteresis * distance_thresholds(profile, settings)[places]
    if quick and not before:  # nothing to hold, and only what is certain counts
        least[-1] = np.maximum(least[-1], _plain_distance(settings))
    far, seen = may_reach(profile, bounds, summary, least), shares(profile, summary)
    risen = _risen(profile, seen, share_thresholds(profile, settings)[:, places], settings)
    # Special cells are judged on the shortest window, displaced columns on the longest.
    cells = summary.specials.any(axis=(1, 2)) & (np.array(places) == 0)
    displaced = (seen[1] >= settings.hysteresis * MOST).any(axis=1) & (np.array(places) == len(profile.windows) - 1)
    recovery = FeatureRecovery(profile, windows, settings)
    for k in np.flatnonzero(far.any(axis=1) | risen.any(axis=(0, 2)) | cells | displaced).tolist():
        window, place = summary.window(k), places[k]
        if place == QUICK:
            quickly = _distance_signals(SignalContext(profile, settings, window, place, before), far[k])
            found += _Found([s for s in quickly.signals if is_certain(s, hypotheses, settings)], quickly.held)
            continue
        context = SignalContext(profile, settings, window, place, before, recovery)
        found += _distance_signals(context, far[k])
        found += _share_signals(context, risen[:, k])
        if cells[k]:
            found += _column_signals(context)
        if displaced[k]:
            found += _displaced_signals(context)
    return found


def is_certain(signal: Signal, hypotheses: int, settings: DriftSettings) -> bool:
    """Whether a distribution moved by far more than chance, and far enough. Facts without a p value need two looks."""
    plain = signal.kind in DISTRIBUTION_KINDS and signal.statistic >= _plain_distance(settings)
    return plain and 0.0 < signal.p_value * hypotheses <= CERTAIN


def _plain_distance(settings: DriftSettings) -> float:
    return _PLAIN * max(settings.ks, settings.total_variation)


def table_signals(context: SignalContext, *, cells: bool = True) -> list[Signal]:
    """Judge a whole table once by every rule of windows that applies; without `cells` only the distributions."""
    if context.settings.simple:
        return [signal for signal in simple_signals(context) if cells or signal.kind in DISTRIBUTION_KINDS]
    rules = (_distance_signals, _share_signals, _column_signals, _displaced_signals)
    candidates = [signal for rule in (rules if cells else rules[:1]) for signal in rule(context).signals]
    return _significant(candidates, len(context.profile.features), context.settings.batch_alpha)


def simple_signals(context: SignalContext) -> list[Signal]:
    """The bare thresholds: a distance over its threshold OR a significant one, 5 % outliers, a low quality score."""
    profile, settings, window = context.profile, context.settings, context.window
    tested = measure_all(context, plain_thresholds(profile, settings))
    significant = reject_at(np.array([signal.p_value for signal in tested]), SIMPLE_P)
    signals = [
        signal for signal, kept in zip(tested, significant, strict=True) if kept or signal.statistic > signal.threshold
    ]
    outliers = np.where(profile.ordered, window.outliers / np.maximum(window.present, 1), 0.0)
    signals += [
        Signal.point("outliers", profile.names[i], float(outliers[i]), settings.outliers, window.rows, p_value=1.0)
        for i in np.flatnonzero(outliers > settings.outliers).tolist()
    ]
    return signals + _column_signals(context).signals


def _significant(candidates: list[Signal], hypotheses: int, alpha: float) -> list[Signal]:
    """The signals kept at the false-discovery rate `alpha` among all `hypotheses` of their family, tested or not."""
    kept: list[Signal] = []
    for family in sorted({signal.family for signal in candidates}):
        group = [signal for signal in candidates if signal.family == family]
        p_values = np.ones(max(hypotheses, len(group)))
        p_values[: len(group)] = [signal.p_value for signal in group]
        kept += [signal for signal, keep in zip(group, reject_at(p_values, alpha), strict=False) if keep]
    return kept


def _distance_signals(context: SignalContext, far: Bools | None = None) -> _Found:
    """Distances over their thresholds. far: features that may reach them, by default all."""
    profile, settings, window = context.profile, context.settings, context.window
    found = _Found()
    if far is not None and not far.any():
        return found
    measured = distances(profile, window, far)
    thresholds = distance_thresholds(profile, settings)[context.place]
    ratio = measured / thresholds
    ratio[window.present < settings.fewest_rows] = 0.0
    if context.recovery is not None and (ratio >= settings.hysteresis).any():
        ratio[context.has_ended("distance")] = 0.0
    for i in np.flatnonzero(ratio >= settings.hysteresis).tolist():
        key = (distribution_kind(profile.features[i]), profile.names[i])
        if key in context.raised_before:
            found.held.add(key)
        elif ratio[i] >= 1.0:
            found.signals.append(_measure(context, i, float(measured[i]), float(thresholds[i])))
    return found


def distribution_kind(feature: FeatureReference) -> Kind:
    """The kind of signal that a shift of this column's distribution is."""
    if feature.role == "prediction":
        return "prediction"
    if feature.role == "target":
        return "prior"
    return "distribution" if feature.numeric else "categories"


def measure_all(context: SignalContext, thresholds: Floats) -> list[Signal]:
    """The distance of every feature with its interval and p value, whether or not it reaches its threshold."""
    measured = distances(context.profile, context.window)
    return [_measure(context, i, float(measured[i]), float(thresholds[i])) for i in range(len(measured))]


def _measure(context: SignalContext, i: int, distance: float, threshold: float) -> Signal:
    """The distance of one feature with its interval and p value; `distance` is exact for categories."""
    profile, window = context.profile, context.window
    feature, rows = profile.features[i], float(window.present[i])
    # The effective size of a dependent reference is that of its longest windows.
    efficiency = (feature.quick if context.place == QUICK else feature.shape[context.place]).efficiency
    own, span = feature.shape[-1].efficiency, profile.span(i)
    if feature.numeric:
        lower, upper = ks_interval(profile.cumulative[span], np.cumsum(window.slots(span)) / max(1.0, rows))
        distance = lower if feature.present and rows else distance
        upper = lower if feature.grid.kind == "exact" else upper
        p_value = ks_p_value(distance, rows * efficiency, feature.present * own)
    else:
        lower, upper = distance, distance
        counts = feature.counts, window.slots(span)
        p_value = g_test(*(counts if len(feature.chosen) else with_unseen(*counts)), own, efficiency)
    return Signal(distribution_kind(feature), feature.name, distance, lower, upper, threshold, p_value, window.rows)


def _risen(profile: Profile, seen: Floats, thresholds: Floats, settings: DriftSettings) -> Bools:
    """Mask of `shares` that are far enough from the reference's towards the thresholds to raise or hold a signal, shape
    (3, windows, features)."""
    usual = reference_shares(profile)
    return seen - usual >= settings.hysteresis * (thresholds - usual)


def _share_signals(context: SignalContext, risen: Bools | None = None) -> _Found:
    """Outliers, special cells and unseen categories over their thresholds. risen: shape (3, features), if known."""
    profile, settings, window = context.profile, context.settings, context.window
    found = _Found()
    if risen is not None and not risen.any():
        return found
    seen, thresholds = shares(profile, window), share_thresholds(profile, settings)[:, context.place]
    if risen is None:
        risen = _risen(profile, seen[:, None], thresholds[:, None], settings)[:, 0]
    for k, i in zip(*(axis.tolist() for axis in np.nonzero(risen)), strict=True):
        key = (SHARES[k], profile.names[i])
        if context.has_ended(SHARES[k])[i]:
            continue
        if key in context.raised_before:
            found.held.add(key)
        elif seen[k, i] >= thresholds[k, i]:
            p_value = _share_p_value(context, i, SHARES[k])
            found.signals.append(
                Signal.point(*key, float(seen[k, i]), float(thresholds[k, i]), window.rows, p_value=p_value)
            )
    return found


def _share_p_value(context: SignalContext, i: int, kind: Share) -> float:
    """p value of one feature's share against the reference's, in effective rows."""
    profile, window, place = context.profile, context.window, context.place
    feature, efficiency = profile.features[i], profile.features[i].shape[place].efficiency
    present = int(window.present[i]) if window.present[i] >= context.settings.fewest_rows else 0
    counts: tuple[float, float, float, float]
    if kind == "missing":
        efficiency = feature.missing[place].efficiency
        counts = int(window.specials[i].sum()), window.rows, sum(feature.specials), profile.rows
    elif kind == "outliers":
        # The reference may have too few outliers to show that they depend on each other as the values do.
        efficiency = min(feature.outlying[place].efficiency, efficiency)
        counts = int(window.outliers[i]), present, feature.outliers, feature.present
    else:
        counts = int(window.other[i]), present, float(profile.unseen_share[i]) * feature.present, feature.present
    return share_p_value(*(count * efficiency for count in counts))


def _column_signals(context: SignalContext) -> _Found:
    """Facts that need no test: a column gone or of another type, and the quality score."""
    profile, settings, window = context.profile, context.settings, context.window
    found = _Found()
    if not profile.features:
        return found
    kinds: tuple[tuple[Kind, int], ...] = (("column_gone", ABSENT), ("type_change", MISTYPED))
    for kind, special in kinds:
        # A reference without values has no type that could change.
        possible = profile.present > 0 if kind == "type_change" else True
        share = window.specials[:, special] / max(1, window.rows)
        for i in np.flatnonzero((share >= MOST) & possible).tolist():
            found.signals.append(Signal.point(kind, profile.names[i], float(share[i]), MOST, window.rows))
    lack, threshold = 1.0 - quality_score(profile, window), 1.0 - settings.quality_alarm
    if lack > threshold:
        critical = lack > 1.0 - settings.quality_critical
        found.signals.append(Signal.point("quality", "", lack, threshold, window.rows, critical=critical))
    elif lack > settings.hysteresis * threshold and ("quality", "") in context.raised_before:
        found.held.add(("quality", ""))
    return found


def _displaced_signals(context: SignalContext) -> _Found:
    """Numeric features with most of the longest window beyond three standard deviations of the reference.

    A fact rather than a test: slowly varying values, such as the weather, have few effective rows in a window.
    """
    profile, settings, window = context.profile, context.settings, context.window
    found = _Found()
    enough = window.present >= settings.fewest_rows
    share = np.where(enough & profile.ordered, window.outliers / np.maximum(window.present, 1), 0.0)
    share[profile.outlier_share >= MOST] = 0.0
    for i in np.flatnonzero(share >= settings.hysteresis * MOST).tolist():
        signal = Signal.point("displaced", profile.names[i], float(share[i]), threshold=MOST, window=window.rows)
        if share[i] >= MOST:
            found.signals.append(signal)
        elif signal.key in context.raised_before:
            found.held.add(signal.key)
    return found
