"""One look at the windows: which rules find an effect AND the evidence for it, and which still hold.

A look is a pure function of counts, profile and settings; what to make of several looks is the episode's business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from evaluator.drift.data_quality import quality_score
from evaluator.drift.distances import (
    Bools,
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
from evaluator.drift.recovery import Lookback
from evaluator.drift.settings import SIMPLE_P, DriftSettings
from evaluator.drift.signal import SHAPES, Key, Kind, Look, Signal
from evaluator.drift.window_distances import (
    SHARES,
    Share,
    distances,
    far,
    floors,
    limits,
    share_limits,
    shares,
    usual_shares,
)
from evaluator.drift.windows import View, Windows

QUICK = -1
"""In the place of a window's number: the quick one."""
CERTAIN = 1e-6
"""Chance, in one look over all features and windows, below which a distribution's evidence needs no second look."""
_TWICE = 2.0
MOST = 0.5
"""Share of rows from which a finding is a fact about the column and needs no test."""


def look_at_features(
    profile: Profile, windows: Windows, settings: DriftSettings, raised_before: Collection[Key] = ()
) -> Look:
    """Judge all features on all windows that are full.

    Evidence is sought only for effects not in `raised_before`; those hold on without it until they fall below
    `hysteresis` times their threshold. Twice the threshold with evidence good for a million looks is certain, and only
    that counts on the quick window.
    """
    held: set[Key] = set()
    candidates: list[Signal] = []
    hypotheses = len(profile.features) * (len(profile.windows) + 1)
    if settings.simple:
        for place, rows in enumerate(profile.windows):
            view = windows.view(rows)
            candidates += [] if view is None else simple_signals(profile, view, place, settings)
    elif profile.features:
        candidates = _candidates(profile, windows, settings, set(raised_before), held, hypotheses)
        candidates = _significant(candidates, hypotheses, settings.alpha)
    raised = strongest(candidates)
    certain = {signal.key for signal in candidates if _is_certain(signal, hypotheses, settings)}
    return Look(raised, frozenset(held | set(raised)), frozenset(certain))


def _candidates(
    profile: Profile, windows: Windows, settings: DriftSettings, before: set[Key], held: set[Key], hypotheses: int
) -> list[Signal]:
    """Effects with the evidence for them, from all windows that are full."""
    full = [rows for rows in profile.windows if windows.full(rows)]
    quick = [rows for rows in (profile.quick,) if rows is not None and windows.full(rows)]
    if not full + quick:
        return []
    # First what is to be had without slots; nearly always it is that there is nothing to be seen.
    glance = windows.glance([*full, *quick])
    places = [*range(len(full)), *(QUICK for _ in quick)]
    least = settings.hysteresis * limits(profile, settings)[places]
    if quick and not before:  # there is nothing to hold, and only what is certain counts
        least[-1] = np.maximum(least[-1], _plain(settings))
    asked, seen = far(profile, glance, least), shares(profile, glance)
    risen = _risen(profile, seen, share_limits(profile, settings)[:, places], settings)
    # Broken cells are facts of the shortest window, displaced columns of the longest.
    cells = glance.specials.any(axis=(1, 2)) & (np.array(places) == 0)
    displaced = (seen[1] >= settings.hysteresis * MOST).any(axis=1) & (np.array(places) == len(profile.windows) - 1)
    candidates: list[Signal] = []
    lookback = Lookback(profile, windows, settings)
    for k in np.flatnonzero(asked.any(axis=1) | risen.any(axis=(0, 2)) | cells | displaced).tolist():
        view, place = glance.view(k), places[k]
        if place == QUICK:
            shapes = _shape_signals(profile, view, place, settings, before, held, asked[k])
            candidates += [signal for signal in shapes if _is_certain(signal, hypotheses, settings)]
            continue
        candidates += _shape_signals(profile, view, place, settings, before, held, asked[k], lookback)
        candidates += _share_signals(profile, view, place, settings, before, held, risen[:, k], lookback)
        if cells[k]:
            candidates += _column_signals(profile, view, settings, before, held)
        if displaced[k]:
            candidates += _displaced(profile, view, settings, before, held)
    return candidates


def _is_certain(signal: Signal, hypotheses: int, settings: DriftSettings) -> bool:
    """Whether a distribution is so far off that chance can't be it, nor a drift too small to matter. Facts without a
    p value are asked twice."""
    plain = signal.kind in SHAPES and signal.statistic >= _plain(settings)
    return plain and 0.0 < signal.p_value * hypotheses <= CERTAIN


def _plain(settings: DriftSettings) -> float:
    """The distance that is too large for a drift too small to matter."""
    return _TWICE * max(settings.ks, settings.total_variation)


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
    candidates = _shape_signals(profile, view, place, settings, set(), set())
    candidates += _share_signals(profile, view, place, settings, set(), set())
    candidates += _column_signals(profile, view, settings, set(), set())
    candidates += _displaced(profile, view, settings, set(), set())
    return _significant(candidates, len(profile.features), settings.batch_alpha)


def shape_of_table(profile: Profile, view: View, place: int, settings: DriftSettings) -> list[Signal]:
    """The distributions alone, judged once: for the outcomes, which have no cells to be broken."""
    if settings.simple:
        return [signal for signal in simple_signals(profile, view, place, settings) if signal.kind in SHAPES]
    candidates = _shape_signals(profile, view, place, settings, set(), set())
    return _significant(candidates, len(profile.features), settings.batch_alpha)


def simple_signals(profile: Profile, view: View, place: int, settings: DriftSettings) -> list[Signal]:
    """The bare thresholds: a distance over its threshold OR significant after false-discovery correction, more than
    5 % outliers, a low quality score."""
    found = distances(profile, view)
    thresholds = floors(profile, settings)
    tested = [
        measure(profile, view, i, float(found[i]), place=place, threshold=float(thresholds[i]))
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
    profile: Profile,
    view: View,
    place: int,
    settings: DriftSettings,
    before: set[Key],
    held: set[Key],
    asked: Bools | None = None,
    lookback: Lookback | None = None,
) -> list[Signal]:
    """asked: features that may be far off, by default all; lookback: what shorter windows say."""
    signals: list[Signal] = []
    if asked is not None and not asked.any():
        return signals
    found, thresholds = distances(profile, view, asked), limits(profile, settings)[place]
    ratio = found / thresholds
    ratio[view.present < settings.fewest_rows] = 0.0
    if lookback is not None and (ratio >= settings.hysteresis).any():
        ratio[lookback.past(place, "distance")] = 0.0
    for i in np.flatnonzero(ratio >= settings.hysteresis).tolist():
        feature = profile.features[i]
        kind = kind_of(feature)
        if (kind, feature.name) in before:
            held.add((kind, feature.name))
        elif ratio[i] >= 1.0:
            signals.append(measure(profile, view, i, float(found[i]), place=place, threshold=float(thresholds[i])))
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
    own, span = fitted.shape[-1].efficiency, profile.span(feature)
    if fitted.numeric:
        lower, upper = ks_interval(profile.cumulative[span], np.cumsum(view.slots(span)) / max(1.0, rows))
        distance = lower if fitted.present and rows else distance
        upper = lower if fitted.grid.kind == "exact" else upper
        p_value = ks_p_value(distance, rows * efficiency, fitted.present * own)
    else:
        lower, upper = distance, distance
        counts = fitted.counts, view.slots(span)
        p_value = g_test(*(counts if len(fitted.chosen) else with_unseen(*counts)), own, efficiency)
    return Signal(kind_of(fitted), fitted.name, distance, lower, upper, threshold, p_value, view.rows)


def _risen(profile: Profile, seen: Floats, limit: Floats, settings: DriftSettings) -> Bools:
    """Which `shares` are so far on the way from the usual to their limit that they may raise or hold a signal, shape
    (3, windows, features)."""
    usual = usual_shares(profile)
    return seen - usual >= settings.hysteresis * (limit - usual)


def _share_signals(
    profile: Profile,
    view: View,
    place: int,
    settings: DriftSettings,
    before: set[Key],
    held: set[Key],
    risen: Bools | None = None,
    lookback: Lookback | None = None,
) -> list[Signal]:
    """Outliers over 5 % of values and a quarter more than in the reference, bad cells risen by 5 % of rows, and texts
    that are new in 5 % of values, all beyond what the reference's own windows do. risen: shape (3, features), what to
    look at, where it is known; lookback: what shorter windows say.
    """
    signals: list[Signal] = []
    if risen is not None and not risen.any():
        return signals
    seen, limit = shares(profile, view), share_limits(profile, settings)[:, place]
    if risen is None:
        risen = _risen(profile, seen[:, None], limit[:, None], settings)[:, 0]
    for k, i in zip(*(axis.tolist() for axis in np.nonzero(risen)), strict=True):
        kind, feature = SHARES[k], profile.features[i]
        if lookback is not None and lookback.past(place, kind)[i]:
            continue
        # A share that was always there holds nothing: what counts is the way from it to the limit.
        if (kind, feature.name) in before:
            held.add((kind, feature.name))
        elif seen[k, i] >= limit[k, i]:
            share, threshold = float(seen[k, i]), float(limit[k, i])
            p_value = _share_p_value(profile, view, place, i, kind, settings)
            signals.append(Signal(kind, feature.name, share, share, share, threshold, p_value, view.rows))
    return signals


def _share_p_value(profile: Profile, view: View, place: int, i: int, kind: Share, settings: DriftSettings) -> float:
    """Of one feature's share against the reference's, in effective rows."""
    feature = profile.features[i]
    present = float(view.present[i]) if view.present[i] >= settings.fewest_rows else 0.0
    own = feature.shape[place].efficiency
    if kind == "missing":
        efficiency = feature.missing[place].efficiency
        counts = (float(view.specials[i].sum()), float(view.rows), float(sum(feature.specials)), float(profile.rows))
    elif kind == "outliers":
        # Too few outliers in the reference to show it, yet they come as dependent as the values do.
        efficiency = min(feature.outlying[place].efficiency, own)
        counts = (float(view.outliers[i]), present, float(feature.outliers), float(feature.present))
    else:
        efficiency = own
        hidden = float(profile.unseen_share[i] * feature.present)
        counts = (float(view.other[i]), present, hidden, float(feature.present))
    return share_p_value(*(count * efficiency for count in counts))


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
