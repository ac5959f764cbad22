"""Data quality: one score from 0 to 1 over the features, and findings about single columns in words.

Only what is worse than in the reference counts: completeness, validity (type, finite numbers) and schema. Findings need
no test and raise no alarm by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluator.drift.feature import ABSENT, INFINITE, MISSING, MISTYPED, FeatureReference
from evaluator.drift.grid import Ints
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from evaluator.drift.windows import WindowCounts

FindingKind = Literal[
    "column_gone",
    "column_extra",
    "type_change",
    "missing",
    "infinite",
    "empty",
    "constant",
    "unseen_values",
    "few_rows",
]


@dataclass(frozen=True, slots=True)
class QualityFinding:
    """One fact about the data's quality: the `share` of rows it concerns, and a sentence."""

    kind: FindingKind
    feature: str
    share: float
    text: str


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The score from 0 to 1, and all findings, whether or not they lower it."""

    score: float
    findings: tuple[QualityFinding, ...]


GONE_CAP = 0.5
"""The best score while a required column is gone from every row."""
_LEAST_SHARE = 0.001
"""Rise of the share of odd cells from which a finding is made."""
_NOISE_Z = 3.0
"""Standard errors by which a share that both sides have must differ."""


def quality_score(profile: Profile, window: WindowCounts) -> float:
    """Importance-weighted share of usable cells (present, of the right type, finite), relative to the reference's.

    At most `GONE_CAP` while a feature with some importance is absent from all rows, or without any value although every
    block of the reference has some. 1.0 without features or rows.
    """
    if not profile.features or window.rows == 0:
        return 1.0
    bad = window.specials.sum(axis=1) / window.rows
    usable = 1.0 - (bad - profile.bad_share).clip(0.0, 1.0)
    weights = profile.importance
    if weights.sum() == 0.0:  # only predictions are watched
        weights = np.full(len(profile.features), 1.0 / len(profile.features))
    score = round(float(weights @ usable), 12)  # eight of ten are exactly 0.8
    empty = (bad == 1.0) & profile.never_empty
    gone = ((window.specials[:, ABSENT] == window.rows) | empty) & (weights > 0)
    return min(score, GONE_CAP) if gone.any() else score


def data_findings(
    profile: Profile, window: WindowCounts, extra: Mapping[str, int], settings: DriftSettings
) -> tuple[QualityFinding, ...]:
    """All findings, columns in the reference's order; `extra` counts the rows of columns that it does not have."""
    found: list[QualityFinding] = []
    if window.rows < settings.fewest_rows:
        found.append(
            QualityFinding("few_rows", "", 1.0, f"{_rows(window.rows)} too few to say anything of distributions")
        )
    if profile.rows < settings.fewest_rows:
        found.append(
            QualityFinding("few_rows", "", 1.0, f"the reference's {_rows(profile.rows)} too few to tell much from it")
        )
    if window.rows:
        for name in profile.column_order:
            found += _column_findings(profile, profile.index[name], window)
    for name in sorted(extra):
        text = f"column {name} is not in the reference and is ignored"
        found.append(QualityFinding("column_extra", name, extra[name] / max(1, window.rows), text))
    return tuple(found)


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _column_findings(profile: Profile, i: int, window: WindowCounts) -> list[QualityFinding]:
    fitted, name, rows = profile.features[i], profile.names[i], window.rows
    absent, missing, mistyped, infinite = (int(window.specials[i, k]) for k in (ABSENT, MISSING, MISTYPED, INFINITE))
    found: list[QualityFinding] = []

    def add(kind: FindingKind, share: float, text: str) -> None:
        found.append(QualityFinding(kind, name, share, text))

    if absent:
        part = "" if absent == rows else f" from {absent} of {rows} rows"
        add("column_gone", absent / rows, f"column {name} is gone{part}")
    if absent == rows:
        return found
    if _more(mistyped, rows, fitted.specials[MISTYPED], profile.rows):
        kind = "a number" if fitted.numeric else "a text"
        add("type_change", mistyped / rows, f"{mistyped} of {rows} values of {name} are not {kind}")
    if missing == rows and fitted.specials[MISSING] < profile.rows:
        add("empty", 1.0, f"column {name} has no value at all")
        return found
    if _more(missing, rows, fitted.specials[MISSING], profile.rows):
        was = fitted.specials[MISSING] / profile.rows
        add("missing", missing / rows, f"{missing / rows:.1%} of {name} is missing, {was:.1%} in the reference")
    if _more(infinite, rows, fitted.specials[INFINITE], profile.rows):
        add("infinite", infinite / rows, f"{infinite} of {rows} values of {name} are infinite")
    now = window.slots(profile.span(i))
    if window.present[i] > 1 and np.count_nonzero(now) == 1 and np.count_nonzero(fitted.counts) > 1:
        add("constant", 1.0, f"all values of {name} are the same, or nearly")
    return found + _unseen_findings(fitted, now, rows)


def _unseen_findings(fitted: FeatureReference, now: Ints, rows: int) -> list[QualityFinding]:
    """Values that the reference does not have, beyond the expected share: those it has only once (Good 1953)."""
    name, present = fitted.name, int(now.sum())
    if fitted.grid.kind not in ("categories", "exact") or not present or not fitted.present:
        return []
    exact = fitted.grid.kind == "exact"
    own, unseen = (fitted.counts[1::2], int(now[::2].sum())) if exact else (fitted.counts[:-1], int(now[-1]))
    pooled = 0 if exact else int(fitted.counts[-1])
    expected = pooled + (0 if len(fitted.chosen) else int(np.count_nonzero(own == 1)))
    usual = expected / fitted.present
    noise = _NOISE_Z * np.sqrt(usual * (1.0 - usual) * (1.0 / present + 1.0 / fitted.present)) if pooled else 0.0
    if unseen / present <= usual + noise + _LEAST_SHARE:
        return []
    text = f"{unseen} of {rows} values of {name} are none that the reference knows"
    if pooled:
        text = (
            f"{unseen / present:.1%} of the values of {name} are none of the {len(own)} most frequent of the reference,"
            f" {pooled / fitted.present:.1%} there: rare values and new ones are counted together"
        )
    return [QualityFinding("unseen_values", name, unseen / rows, text)]


def _more(count: int, rows: int, reference_count: int, reference_rows: int) -> bool:
    return count > 0 and count / rows > reference_count / reference_rows + _LEAST_SHARE
