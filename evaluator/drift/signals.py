"""One look at the windows: which rules find an effect AND the evidence for it, and which still hold.

A look is a pure function of counts, profile and settings; what to make of several looks is the episode's business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.distance import (
    benjamini_hochberg,
    g_test,
    ks_interval,
    ks_p_value,
    share_p_value,
    with_unseen,
)
from evaluator.drift.feature import Feature
from evaluator.drift.grid import Floats
from evaluator.drift.profile import ABSENT, MISTYPED, Profile
from evaluator.drift.quality import quality_score
from evaluator.drift.recent import Effect, Lookback, unseen_share
from evaluator.drift.settings import SIMPLE_P, DriftSettings
from evaluator.drift.signal import SHAPES, Key, Kind, Look, Signal
from evaluator.drift.window import View, Windows

QUICK = -1
"""In the place of a window's number: the quick one."""
CERTAIN = 1e-6
"""Chance, in one look over all features and windows, below which a distribution's evidence needs no second look."""
_TWICE = 2.0
_SHARES: tuple[Effect, ...] = ("missing", "outliers", "unseen")
MOST = 0.5
"""Share of rows from which a finding is a fact about the column and needs no test."""


def distances(profile: Profile, view: View, *, screening: bool = False) -> Floats:
    """Kolmogorov-Smirnov distance (lower bound) of each numeric, total variation of each categorical feature.

    Shape (features,); zero where the reference or the window has no values. screening: of numbers in single precision,
    in half the time and within a millionth; `measure` is exact.
    """
    if not profile.features:
        return np.empty(0)
    found = np.empty(len(profile.features))
    even = profile.even
    if even:  # grids of one size, as a matrix: no number is repeated a slot
        slots = int(profile.starts[even - 1] + profile.sizes[even - 1])
        reference: npt.NDArray[Any] = profile.cumulative_single if screening else profile.cumulative
        gap = view.cumulative[:slots].reshape(even, -1).astype(reference.dtype)
        gap *= (1.0 / np.maximum(view.present[:even], 1)).astype(reference.dtype)[:, None]
        gap -= reference[:slots].reshape(even, -1)
        found[:even] = np.maximum(gap.max(axis=1), -gap.min(axis=1))
    if even < len(found):
        first = int(profile.starts[even])
        each = np.repeat(1.0 / np.maximum(view.present[even:], 1), profile.sizes[even:])
        gap = np.abs(profile.cumulative[first:] - view.cumulative[first:] * each)
        found[even:] = np.maximum.reduceat(gap, profile.starts[even:] - first)
    for i in np.flatnonzero(~profile.ordered).tolist():
        found[i] = _variation(profile, view, i)
    found[(profile.present == 0) | (view.present == 0)] = 0.0
    return found


def look_at_features(
    profile: Profile, windows: Windows, settings: DriftSettings, raised_before: Collection[Key] = ()
) -> Look:
    """Judge all features on all windows that are full.

    Evidence is sought only for effects not in `raised_before`; those hold on without it until they fall below
    `hysteresis` times their threshold. Twice the threshold with evidence good for a million looks is certain, and only
    that counts on the quick window.
    """
    candidates: list[Signal] = []
    held: set[Key] = set()
    before = set(raised_before)
    lookback = Lookback(profile, settings)
    hypotheses = len(profile.features) * (len(profile.windows) + 1)
    quick = None if settings.simple or profile.quick is None else windows.view(profile.quick)
    if quick is not None:
        found = distances(profile, quick, screening=True)
        shapes = _shape_signals(profile, quick, QUICK, settings, before, held, found)
        candidates += [signal for signal in shapes if _is_certain(signal, hypotheses, settings)]
    for place, rows in enumerate(profile.windows):
        view = windows.view(rows)
        if view is None:
            break
        if settings.simple:
            candidates += simple_signals(profile, view, place, settings)
            continue
        found = distances(profile, view, screening=True)
        lookback.add(place, view, found)
        candidates += _shape_signals(profile, view, place, settings, before, held, found, lookback)
        candidates += _share_signals(profile, view, place, settings, before, held, lookback)
        if place == 0:
            candidates += _column_signals(profile, view, settings, before, held)
        if place == len(profile.windows) - 1:
            candidates += _displaced(profile, view, settings, before, held)
    if not settings.simple:
        candidates = _significant(candidates, hypotheses, settings.alpha)
    raised = strongest(candidates)
    certain = {signal.key for signal in candidates if _is_certain(signal, hypotheses, settings)}
    return Look(raised, frozenset(held | set(raised)), frozenset(certain))


def _is_certain(signal: Signal, hypotheses: int, settings: DriftSettings) -> bool:
    """Whether a distribution is so far off that chance can't be it, nor a drift too small to matter. Facts without a
    p value are asked twice."""
    plain = signal.statistic >= _TWICE * max(settings.ks, settings.total_variation)
    return signal.kind in SHAPES and plain and 0.0 < signal.p_value * hypotheses <= CERTAIN


def strongest(signals: Iterable[Signal]) -> dict[Key, Signal]:
    """Of the signals with the same key the strongest."""
    found: dict[Key, Signal] = {}
    for signal in signals:
        if signal.key not in found or signal.strength > found[signal.key].strength:
            found[signal.key] = signal
    return found


def table_signals(profile: Profile, view: View, place: int, settings: DriftSettings) -> list[Signal]:
    """Judge a whole table once: every rule of windows that applies, on the one view; `place` is whose limits hold."""
    if settings.simple:
        return simple_signals(profile, view, place, settings)
    candidates = _shape_signals(profile, view, place, settings, set(), set(), distances(profile, view))
    candidates += _share_signals(profile, view, place, settings, set(), set())
    candidates += _column_signals(profile, view, settings, set(), set())
    candidates += _displaced(profile, view, settings, set(), set())
    return _significant(candidates, len(profile.features), settings.batch_alpha)


def shape_of_table(profile: Profile, view: View, place: int, settings: DriftSettings) -> list[Signal]:
    """The distributions alone, judged once: for the outcomes, which have no cells to be broken."""
    if settings.simple:
        return [signal for signal in simple_signals(profile, view, place, settings) if signal.kind in SHAPES]
    candidates = _shape_signals(profile, view, place, settings, set(), set(), distances(profile, view))
    return _significant(candidates, len(profile.features), settings.batch_alpha)


def simple_signals(profile: Profile, view: View, place: int, settings: DriftSettings) -> list[Signal]:
    """The bare thresholds: a distance over its threshold OR significant after false-discovery correction, more than
    5 % outliers, a low quality score."""
    found = distances(profile, view)
    floors = np.where(profile.ordered, settings.ks, settings.total_variation)
    tested = [
        measure(profile, view, i, float(found[i]), place=place, threshold=float(floors[i]))
        for i in range(len(profile.features))
    ]
    significant = benjamini_hochberg(np.array([signal.p_value for signal in tested]), SIMPLE_P)
    signals = [
        signal for signal, kept in zip(tested, significant, strict=True) if kept or signal.statistic > signal.threshold
    ]
    outliers = np.where(profile.ordered, view.outliers / np.maximum(view.present, 1), 0.0)
    for i in np.flatnonzero(outliers > settings.outliers).tolist():
        seen = float(outliers[i])
        signals.append(Signal("outliers", profile.names[i], seen, seen, seen, settings.outliers, 1.0, view.rows))
    return signals + _column_signals(profile, view, settings, set(), set())


def _significant(candidates: list[Signal], hypotheses: int, alpha: float) -> list[Signal]:
    """Those kept at the false-discovery rate `alpha` among all hypotheses of their family, tested or not."""
    kept: list[Signal] = []
    for family in sorted({signal.family for signal in candidates}):
        group = [signal for signal in candidates if signal.family == family]
        p_values = np.ones(max(hypotheses, len(group)))
        p_values[: len(group)] = [signal.p_value for signal in group]
        rejected = benjamini_hochberg(p_values, alpha)
        kept += [signal for signal, keep in zip(group, rejected, strict=False) if keep]
    return kept


def _shape_signals(
    profile: Profile, view: View, place: int, settings: DriftSettings, before: set[Key], held: set[Key], found: Floats,
    lookback: Lookback | None = None,
) -> list[Signal]:  # fmt: skip
    """`found`: the distances. lookback: what shorter windows say."""
    floors = np.where(profile.ordered, settings.ks, settings.total_variation)
    ratio = found / np.maximum(floors, profile.quick_limits if place == QUICK else profile.limits[place])
    ratio[view.present < settings.fewest_rows] = 0.0
    if lookback is not None and (ratio >= settings.hysteresis).any():
        ratio[lookback.past("distance")] = 0.0
    signals: list[Signal] = []
    for i in np.flatnonzero(ratio >= settings.hysteresis).tolist():
        feature = profile.features[i]
        kind = kind_of(feature)
        if (kind, feature.name) in before:
            held.add((kind, feature.name))
        elif ratio[i] >= 1.0:
            signals.append(
                measure(profile, view, i, float(found[i]), place=place, threshold=float(found[i] / ratio[i]))
            )
    return signals


def kind_of(feature: Feature) -> Kind:
    """The kind of signal a moved distribution of this column is."""
    if feature.role == "prediction":
        return "prediction"
    if feature.role == "target":
        return "prior"
    return "distribution" if feature.numeric else "categories"


def measure(profile: Profile, view: View, feature: int, distance: float, *, place: int, threshold: float) -> Signal:
    """The distance of one feature with its interval and p value; `distance` is taken as it is for texts."""
    fitted, rows = profile.features[feature], float(view.present[feature])
    # A dependent reference is itself only a few independent rows: as few as its longest windows say.
    efficiency = fitted.quick.efficiency if place == QUICK else fitted.shape[place].efficiency
    own = fitted.shape[-1].efficiency
    span = slice(int(profile.starts[feature]), int(profile.starts[feature] + profile.sizes[feature]))
    current = view.cumulative[span]
    if fitted.numeric:
        lower, upper = ks_interval(profile.cumulative[span], current / max(1.0, rows))
        distance = lower if fitted.present and rows else distance
        upper = lower if fitted.grid.kind == "exact" else upper
        p_value = ks_p_value(distance, rows * efficiency, fitted.present * own)
    else:
        lower, upper = distance, distance
        counts = with_unseen(fitted.counts, np.diff(current, prepend=0), full=fitted.grid.full)
        p_value = g_test(*counts, own, efficiency)
    return Signal(kind_of(fitted), fitted.name, distance, lower, upper, threshold, p_value, view.rows)


def _variation(profile: Profile, view: View, feature: int) -> float:
    start, size = int(profile.starts[feature]), int(profile.sizes[feature])
    counts = np.diff(view.cumulative[start : start + size], prepend=0)
    share = profile.features[feature].counts / max(1, profile.features[feature].present)
    return float(np.abs(counts / max(1, int(view.present[feature])) - share).sum() / 2)


def _share_signals(
    profile: Profile, view: View, place: int, settings: DriftSettings, before: set[Key], held: set[Key],
    lookback: Lookback | None = None,
) -> list[Signal]:  # fmt: skip
    """Outliers over 5 % of values and a quarter more than in the reference, bad cells risen by 5 % of rows, and texts
    that are new in 5 % of values, all beyond what the reference's own windows do. lookback: what shorter windows say.
    """
    signals: list[Signal] = []
    bad = view.specials.sum(axis=1)
    bad_rise = bad / view.rows - profile.bad_share
    outliers = view.outliers / np.maximum(view.present, 1)
    new = unseen_share(profile, view)
    interesting = (
        (bad_rise >= settings.hysteresis * settings.missing)
        | (outliers >= settings.hysteresis * settings.outliers)
        | (new - profile.unseen_share >= settings.hysteresis * settings.unseen)
    )
    for i in np.flatnonzero(interesting).tolist():
        feature = profile.features[i]
        missing, outlying = feature.missing[place], feature.outlying[place]
        base = float(profile.outlier_share[i])
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
                max(settings.outliers, base + max(outlying.limit, base / 4)),
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
            _share_rule(
                "unseen",
                feature,
                float(new[i]),
                float(profile.unseen_share[i]) + settings.unseen,
                (
                    float(new[i] * view.present[i]),
                    float(view.present[i]) if view.present[i] >= settings.fewest_rows else 0.0,
                    float(profile.unseen_share[i] * feature.present),
                    float(feature.present),
                ),
                feature.shape[place].efficiency,
                view.rows,
            ),
        )
        for effect, signal in zip(_SHARES, rules, strict=True):
            if lookback is not None and signal.strength >= settings.hysteresis and lookback.past(effect)[i]:
                continue
            # A share that was always there holds nothing: what counts is the way from it to the threshold.
            start = {"outliers": base, "unseen": float(profile.unseen_share[i])}.get(signal.kind, 0.0)
            if signal.key in before:
                if signal.statistic - start >= settings.hysteresis * (signal.threshold - start):
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
        # A reference without a value has no type that could have changed.
        there = profile.present > 0 if kind == "type_change" else True
        for i in np.flatnonzero((view.specials[:, special] >= MOST * rows) & there).tolist():
            share = float(view.specials[i, special] / rows)
            signals.append(Signal(kind, profile.names[i], share, share, share, MOST, 0.0, view.rows))
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
    share[profile.outlier_share >= MOST] = 0.0
    signals: list[Signal] = []
    for i in np.flatnonzero(share >= settings.hysteresis * MOST).tolist():
        seen = float(share[i])
        signal = Signal("displaced", profile.names[i], seen, seen, seen, MOST, 0.0, view.rows)
        if share[i] >= MOST:
            signals.append(signal)
        elif signal.key in before:
            held.add(signal.key)
    return signals
