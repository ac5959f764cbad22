"""Findings on what can't be judged, and why: a model that is no better than chance, columns with too few values.

What can't be judged is never called quiet: each of these findings has `judged` False, and makes an answer without any
signal UNKNOWN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import rankdata

from evaluator.drift.columns import Coded, Column, encode_strings, read_numbers
from evaluator.drift.distances import ks_p_value
from evaluator.drift.feature import INFINITE, MISTYPED, UNSHOWN, FeatureReference
from evaluator.drift.grid import CATEGORIES, HUGE, Bools, Floats
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import Signal
from evaluator.offline.drift.prediction_type import PredictionType
from evaluator.offline.drift.reference import FEWEST_LOSSES
from evaluator.offline.drift.result import UNKNOWN, Finding
from evaluator.offline.drift.settings import FEWEST_VALUES
from gauntlet.types import Severity

_CHANCE_Z = 2.0
"""Standard errors by which predictions must be better than independent ones."""
_UNREACHABLE = 0.99
"""A distance that a column must reach to count, from which none can."""
_TOO_MANY_UNSHOWN = 0.3
"""Share of rare texts, which could hide a shift of twice that, from which their column is not judged."""


def model_doubts(known: PredictionType, target: Column | None, prediction: Column | None) -> list[Finding]:
    """Why the reference says too little of the model for a loss to show; at most one, and none without both columns."""
    if target is None or prediction is None:
        return []
    if known.apart:
        names = f"target {known.settings.target!r} and prediction {known.settings.prediction!r}"
        return [_unknown("labels_apart", known, f"{names} {known.apart}", alarming=True)]
    truth, answers = _numbered(known.usable_target(target), known.usable_prediction(prediction))
    both = np.isfinite(truth) & np.isfinite(answers)
    truth, answers = truth[both], answers[both]
    if len(truth) < FEWEST_LOSSES:
        reason = f"{len(truth)} rows of the reference have target and prediction, {FEWEST_LOSSES} are needed"
        return [_unknown("few_outcomes", known, reason)]
    for column, values in (("target", truth), ("prediction", answers)):
        if values.min() == values.max():
            reason = f"the {column} is the same in all {len(values):,} rows of the reference that have both"
            return [_unknown("constant_outcome", known, f"{reason}: whether the model is right does not show")]
    if known.kind == "number":
        errors, spread = float(np.square(truth - answers).mean()), float(truth.var())
        better = math.inf if errors < spread else 0.0
        how = f"its errors are no smaller than those of the mean (R² {1 - errors / spread:.2f})"
    elif known.scored:
        better, how = _auc_excess(truth == 1.0, answers)
    else:
        better, how = _agreement_excess(truth, answers)
    if better >= _CHANCE_Z:
        return []
    turned = "; is it about the other class (--positive)?" if known.scored and better <= -_CHANCE_Z else ""
    reason = f"in the reference the prediction is no better than chance: {how}{turned}; a loss could hardly show"
    return [_unknown("no_better_than_chance", known, reason)]


def _unknown(kind: str, known: PredictionType, reason: str, *, alarming: bool = False) -> Finding:
    return Finding(kind, known.settings.prediction, f"the model's performance: {reason}", alarming, False)


def _numbered(target: Column, prediction: Column) -> tuple[Floats, Floats]:
    """Both as numbers, labels by their place in one list; NaN for a cell without a value."""
    known: dict[str, int] = {}

    def numbers(column: Column) -> Floats:
        if isinstance(column, np.ndarray):
            return read_numbers(column)[0]
        coded = column if isinstance(column, Coded) else encode_strings(column)
        places = [known.setdefault(value, len(known)) for value in coded.values]
        return np.asarray(np.array([*places, math.nan, math.nan])[coded.codes])

    return numbers(target), numbers(prediction)


def _agreement_excess(truth: Floats, answers: Floats) -> tuple[float, str]:
    """Standard errors by which labels agree more often than independent ones of the same shares (Cohen 1960)."""
    values, codes = np.unique(np.concatenate([truth, answers]), return_inverse=True)
    shares = [np.bincount(part, minlength=len(values)) / len(truth) for part in np.split(codes, 2)]
    chance, agreed = float(shares[0] @ shares[1]), float(np.mean(truth == answers))
    error = math.sqrt(chance * (1 - chance) / len(truth))
    return (agreed - chance) / (error or math.inf), f"{agreed:.1%} are right, and {chance:.1%} would be by chance"


def _auc_excess(positive: Bools, scores: Floats) -> tuple[float, str]:
    """Standard errors by which the area under the curve is above a half (Mann and Whitney 1947)."""
    ones, zeros = int(positive.sum()), int((~positive).sum())
    area = (float(rankdata(scores)[positive].sum()) / ones - (ones + 1) / 2) / zeros
    error = math.sqrt((ones + zeros + 1) / (12 * ones * zeros))
    return (area - 0.5) / error, f"the area under its curve is {area:.3f}"


def outcome_doubts(known: PredictionType, outcomes: int, needed: int = FEWEST_LOSSES) -> list[Finding]:
    """Where too few of the current rows have both target and prediction."""
    reason = f"{outcomes} of the current rows have target and prediction, {needed} are needed"
    return [] if outcomes >= needed else [_unknown("few_outcomes", known, reason)]


def overall(severity: Severity, findings: Iterable[Finding]) -> tuple[str, tuple[Finding, ...]]:
    """The severity of an answer, and the findings on what can't be judged."""
    not_judged = tuple(finding for finding in findings if not finding.judged)
    return UNKNOWN if not_judged and severity is Severity.NONE else severity.value, not_judged


def column_doubt(
    fitted: FeatureReference,
    now: int,
    rules: DriftSettings,
    signals: Sequence[Signal],
    threshold: float,
    *,
    asked: bool,
) -> Finding | None:
    """Why a column can't be judged of which the current rows have `now` values; None with a signal about it.

    threshold: the distance that counts. asked: the column was named.
    """
    name = fitted.name
    before = fitted.present
    if signals:
        return None
    if min(before, now) < FEWEST_VALUES:
        kind = "few_values" if before else "empty_reference"
        unusable = fitted.specials[INFINITE] + fitted.specials[MISTYPED]
        held = f" ({unusable:,} more are infinite, above {HUGE:g}, or of another type)" if unusable else ""
        message = (
            f"{name} has {before:,} usable values in the reference{held} and {now:,} in the current rows: too few to "
            "compare"
        )
        # A column that is empty on both sides is left out, unless somebody asks for it.
        empty = max(before, now) < FEWEST_VALUES and unusable < FEWEST_VALUES
        return Finding(kind, name, message, judged=not asked and empty)
    own = fitted.shape[0].efficiency
    best = ks_p_value(1.0, now * own, before * own)
    if rules.simple or (best <= rules.batch_alpha and threshold < _UNREACHABLE):
        return None
    message = (
        f"neighbouring rows of {name} depend on each other so much that the current ones are worth {now * own:.1f} "
        "independent rows: no shift could be told from chance (--unordered, if the order of rows means nothing)"
    )
    return Finding("dependent_rows", name, message, judged=False)


def rare_values(fitted: FeatureReference, now: float | None = None, *, drifted: bool = False) -> Finding | None:
    """On a column of texts of which so many are rare that a shift among those would not show; not judged where
    those are many. now: share of the current values, as far as it is known. drifted: there is a signal about it."""
    before = fitted.rare
    seen = [before] if now is None else [before, now]
    if min(seen) < UNSHOWN:
        return None
    where = f"{before:.1%} of the reference's values" + ("" if now is None else f" and {now:.1%} of the current ones")
    message = (
        f"{fitted.name} has more than {CATEGORIES} different values; {where} are none of the {fitted.grid.slots - 1} "
        "most frequent, and are counted together: a shift among them does not show"
    )
    return Finding("rare_values", fitted.name, message, judged=drifted or min(seen) < _TOO_MANY_UNSHOWN)


def sparse_column(fitted: FeatureReference, profile: Profile, rules: DriftSettings, *, asked: bool) -> Finding | None:
    """Where the longest window of a stream can't be expected to have enough values of a column."""
    name, share = fitted.name, fitted.present / profile.rows
    if share * profile.windows[-1] >= rules.fewest_rows:
        return None
    if not fitted.present:
        return Finding(
            "empty_reference", name, f"the reference has no value of {name}: nothing to compare", judged=False
        )
    message = (
        f"{share:.2%} of the reference's rows have a value of {name}: the longest window, of {profile.windows[-1]:,}, "
        f"would have fewer than the {rules.fewest_rows} that are needed"
    )
    return Finding("few_values", name, message, judged=not asked)
