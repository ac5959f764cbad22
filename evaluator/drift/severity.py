"""Judgement over all signals: severity, confidence, root cause, top features and the recommended action.

Covariate drift alone never asks for training, only a loss seen on outcomes does; bad data asks for quarantine first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri

from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import PERFORMANCE_KINDS, Signal
from gauntlet.types import Severity

RootCause = Literal["none", "quality", "covariate", "concept", "prior", "regime", "outlier_burst"]
Action = Literal["none", "observe", "quarantine", "retrain_recent", "retrain_full"]
TOP = 5
_COLUMN = ("column_gone", "type_change")
_STRONG = 2.0
"""Multiple of its threshold from which the drift of a single feature is strong."""
_EFFECT_CURVE = (-0.68, 1.44)
"""Intercept and slope of the logistic curve in `margin_of`: the chance that the true effect is beyond its threshold."""
_PRIOR = 0.01
"""Prior probability of drift in a look."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The meaning of the signals raised at one time; `features` are the top features."""

    severity: Severity
    confidence: float
    root_cause: RootCause
    features: tuple[Signal, ...]
    action: Action


NO_DRIFT = Judgement(Severity.NONE, 0.0, "none", (), "none")
"""Without any signal."""


def judge(signals: Iterable[Signal], profile: Profile, settings: DriftSettings) -> Judgement:
    """Judge the signals raised now.

    Severity: LOW for covariate drift in a feature; MEDIUM for a tenth of the importance (in two features, or one at
    twice its threshold), two families, low quality or an estimated loss; HIGH for a loss seen on outcomes, and for
    quality too low to train on; CRITICAL for twice the threshold of a loss, a loss with most features drifted, or very
    low quality.
    """
    found = tuple(signals)
    if not found:
        return NO_DRIFT
    moved = {signal.feature for signal in found if signal.family == "covariate"}
    families = {signal.family for signal in _distinct_evidence(found, moved)}
    share = sum(feature.importance for feature in profile.features if feature.name in moved)
    strong = any(signal.family == "covariate" and signal.strength >= _STRONG for signal in found)
    wide = share >= settings.many_features and (len(moved) >= 2 or strong)
    loss = any(signal.kind in PERFORMANCE_KINDS for signal in found)
    worst = any(signal.critical for signal in found)
    blocked = any(signal.kind == "quality" and 1.0 - signal.statistic < settings.quality_block for signal in found)
    if worst or (loss and len(moved) >= 2 and share >= settings.most_features):
        severity = Severity.CRITICAL
    elif loss or blocked:
        severity = Severity.HIGH
    elif wide or len(families) >= 2 or any(signal.kind in ("quality", "estimated_accuracy") for signal in found):
        severity = Severity.MEDIUM
    else:
        severity = Severity.LOW
    cause = _root_cause(found, moved, profile, wide=len(moved) >= 2 and wide)
    sure = confidence_of(_distinct_evidence(found, moved), profile)
    return Judgement(severity, sure, cause, _top_features(found, profile), _action(cause, loss))


def _distinct_evidence(signals: tuple[Signal, ...], moved: set[str]) -> list[Signal]:
    """Without signals that repeat another: outliers and regimes of features that moved, and predictions and outcomes of
    moved inputs."""
    return [
        signal
        for signal in signals
        if not (signal.family in ("outliers", "regime") and signal.feature in moved)
        and not (signal.family in ("prediction", "prior") and moved)
    ]


def confidence_of(signals: Iterable[Signal], profile: Profile) -> float:
    """Probability that something drifted by more than its threshold: noisy-or over families of each one's best signal.

    Two things must be so. Something moved: a p value, corrected for the features and windows looked at, becomes a
    probability by the bound -e p ln p on the Bayes factor (Sellke, Bayarri and Berger 2001) against `_PRIOR`. And it
    moved enough: a logistic curve in `margin_of`, fitted on injected drifts by `python -m benchmarks.drift_confidence`.
    Facts such as a lost column are certain.
    """
    tested = max(1, len(profile.features) * (len(profile.windows) + 1))
    best: dict[str, float] = {}
    for signal in signals:
        if signal.p_value <= 0.0:
            sure = 1.0
        else:
            moved = _posterior(signal.p_value * (1 if signal.kind in PERFORMANCE_KINDS else tested))
            sure = moved / (1.0 + math.exp(-(_EFFECT_CURVE[0] + _EFFECT_CURVE[1] * margin_of(signal))))
        best[signal.family] = max(sure, best.get(signal.family, 0.0))
    return 1.0 - math.prod(1.0 - sure for sure in best.values())


def margin_of(signal: Signal) -> float:
    """Standard errors by which the statistic exceeds its threshold.

    The p value gives the z of the statistic; that of the threshold is smaller in proportion.
    """
    z = -float(ndtri(max(signal.p_value, 1e-300) / 2.0))
    return max(z, 0.0) * (1.0 - 1.0 / max(signal.strength, 1e-3))


def _posterior(p_value: float) -> float:
    if p_value <= 0.0:
        return 1.0
    if p_value >= 1.0 / math.e:  # the bound is one from here on: no evidence
        return _PRIOR
    odds = (1.0 - _PRIOR) / _PRIOR * -math.e * p_value * math.log(p_value)
    return 1.0 / (1.0 + odds)


def _root_cause(signals: tuple[Signal, ...], moved: set[str], profile: Profile, *, wide: bool) -> RootCause:
    families = {signal.family for signal in signals}
    if any(signal.kind in _COLUMN or signal.kind == "quality" for signal in signals):
        return "quality"
    bad = {signal.feature for signal in signals if signal.family == "quality"}
    if bad and (not moved or moved & bad):
        return "quality"  # broken cells explain a loss before anything else
    if any(signal.kind in PERFORMANCE_KINDS for signal in signals):
        # Moved inputs explain a loss if the scores estimate it too; without scores, if many inputs moved.
        scored = profile.truth is not None and profile.truth.scores is not None
        if moved and ("estimate" in families or (wide and not scored)):
            return "covariate"
        # If the predictions moved with the outcomes, their shares have changed; if not, the concept has.
        follows = "prediction" in families or not (profile.prediction or profile.score)
        return "prior" if "prior" in families and follows and not moved else "concept"
    if "prior" in families and not moved:
        return "prior"
    if moved or families & {"prediction", "estimate"}:  # a frozen model's predictions move only with its inputs
        return "covariate"
    return "regime" if "regime" in families else "outlier_burst"


def _action(cause: RootCause, loss: bool) -> Action:
    if cause == "quality":
        return "quarantine"
    if not loss:
        return "observe"
    # A changed concept makes old rows wrong; moved inputs only make those like today's too few.
    return "retrain_recent" if cause in ("concept", "prior") else "retrain_full"


def _top_features(signals: tuple[Signal, ...], profile: Profile) -> tuple[Signal, ...]:
    """The worst signal of each feature; the first `TOP` by strength times importance."""
    weights = {feature.name: feature.importance for feature in profile.features if feature.role == "feature"}
    worst: dict[str, Signal] = {}
    for signal in sorted(signals, key=lambda s: (s.kind in _COLUMN, s.family == "quality", s.strength)):
        if signal.feature in weights:
            worst[signal.feature] = signal
    return tuple(sorted(worst.values(), key=lambda s: (-s.strength * weights[s.feature], s.feature))[:TOP])
