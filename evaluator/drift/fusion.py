"""Signals of all families made one judgement: severity, confidence, root cause, features to blame, what to do.

Data drift alone never asks for training: only a loss that was seen does, and bad data asks for quarantine first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import Signal

RootCause = Literal["none", "quality", "covariate", "concept", "outlier_burst"]
Action = Literal["none", "observe", "quarantine", "retrain_recent", "retrain_full"]
TOP = 5
_COLUMN = ("column_gone", "type_change")
_PRIOR = 0.01
"""Share of looks during which something drifts, before any evidence: what a p value is weighed against."""


class Severity(IntEnum):
    """Worst-of order of drift."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the signals raised at one time mean together."""

    severity: Severity
    confidence: float
    root_cause: RootCause
    features: tuple[Signal, ...]
    action: Action


CALM = Judgement(Severity.NONE, 0.0, "none", (), "none")
"""Nothing raised."""


def judge(signals: Iterable[Signal], profile: Profile, settings: DriftSettings) -> Judgement:
    """Fuse the signals raised now.

    Severity: LOW for data drift in a feature; MEDIUM for at least two features with a tenth of the importance, two
    families, or low quality; HIGH for a rise of the error; CRITICAL for twice that, for a rise with most features
    drifted, or for very low quality.
    """
    found = tuple(signals)
    if not found:
        return CALM
    moved = {signal.feature for signal in found if signal.family == "covariate"}
    families = {signal.family for signal in _told_apart(found, moved)}
    share = sum(feature.importance for feature in profile.features if feature.name in moved)
    wide = len(moved) >= 2 and share >= settings.many_features
    breach = any(signal.kind == "concept" for signal in found)
    worst = any(signal.critical for signal in found)
    if worst or (breach and len(moved) >= 2 and share >= settings.most_features):
        severity = Severity.CRITICAL
    elif breach:
        severity = Severity.HIGH
    elif wide or len(families) >= 2 or any(signal.kind == "quality" for signal in found):
        severity = Severity.MEDIUM
    else:
        severity = Severity.LOW
    cause = _root_cause(found, moved, wide)
    sure = confidence_of(_told_apart(found, moved), profile)
    return Judgement(severity, sure, cause, _to_blame(found, profile), _action(cause, breach))


def _told_apart(signals: tuple[Signal, ...], moved: set[str]) -> list[Signal]:
    """Without the outliers of features that moved: those are the same finding twice."""
    return [signal for signal in signals if signal.family != "outliers" or signal.feature not in moved]


def confidence_of(signals: Iterable[Signal], profile: Profile) -> float:
    """Probability that something did drift: noisy-or over families of each one's best evidence.

    A p value, corrected for the features and windows looked at, becomes a probability by the bound -e p ln p on the
    Bayes factor (Sellke, Bayarri and Berger 2001) against `_PRIOR`; facts such as a lost column are certain.
    """
    tested = max(1, len(profile.features) * len(profile.windows))
    best: dict[str, float] = {}
    for signal in signals:
        p_value = signal.p_value * (1 if signal.kind == "concept" else tested)
        best[signal.family] = min(p_value, best.get(signal.family, 1.0))
    doubt = 1.0
    for p_value in best.values():
        doubt *= 1.0 - _posterior(p_value)
    return 1.0 - doubt


def _posterior(p_value: float) -> float:
    if p_value <= 0.0:
        return 1.0
    if p_value >= 1.0 / math.e:  # the bound is one from here on: no evidence
        return _PRIOR
    odds = (1.0 - _PRIOR) / _PRIOR * -math.e * p_value * math.log(p_value)
    return 1.0 / (1.0 + odds)


def _root_cause(signals: tuple[Signal, ...], moved: set[str], wide: bool) -> RootCause:
    if any(signal.kind in _COLUMN or signal.kind == "quality" for signal in signals):
        return "quality"
    if any(signal.kind == "concept" for signal in signals):
        # Inputs that moved widely may explain the loss; inputs that stand still can't.
        return "covariate" if wide else "concept"
    bad = {signal.feature for signal in signals if signal.family == "quality"}
    if bad and (not moved or moved & bad):
        return "quality"
    return "covariate" if moved else "outlier_burst"


def _action(cause: RootCause, breach: bool) -> Action:
    if cause == "quality":
        return "quarantine"
    if not breach:
        return "observe"
    # A changed concept makes old rows wrong; moved inputs leave them right, only too few where the traffic is now.
    return "retrain_recent" if cause == "concept" else "retrain_full"


def _to_blame(signals: tuple[Signal, ...], profile: Profile) -> tuple[Signal, ...]:
    """The worst signal of each feature, the first `TOP` by strength times importance."""
    worst: dict[str, Signal] = {}
    for signal in sorted(signals, key=lambda s: (s.kind in _COLUMN, s.family == "quality", s.strength)):
        if signal.feature:
            worst[signal.feature] = signal
    weights = {feature.name: feature.importance for feature in profile.features}
    return tuple(sorted(worst.values(), key=lambda s: (-s.strength * weights[s.feature], s.feature))[:TOP])
