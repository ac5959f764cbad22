"""How usable the rows are, as one number from 0 to 1 over the features the model needs.

Only what got worse than the reference counts: a column that always had gaps is not a finding. Completeness, validity
(type, finite numbers) and schema go into it; two other virtues do not, and on purpose. Uniqueness: sketches of distinct
rows merge by the maximum and can't be subtracted, so a window could not be the difference of two sums any more, and
rows of few categories repeat without any fault; what has an identity is counted once where it is joined. Freshness: it
needs a clock, and nothing here reads one; how late outcomes come is measured where they arrive.

Facts about a table's cells by column, in words: what a person has to look at before anything is retrained.

A finding needs no test and alarms nobody by itself; the rules that do are in the signals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evaluator.drift.feature import Feature
from evaluator.drift.grid import Ints
from evaluator.drift.profile import ABSENT, INFINITE, MISSING, MISTYPED, Profile
from evaluator.drift.report import Finding
from evaluator.drift.settings import DriftSettings
from evaluator.drift.windows import View

GONE_CAP = 0.5
"""The best score while a required column is gone from every row."""


def quality_score(profile: Profile, view: View) -> float:
    """Importance-weighted share of usable cells (present, of the right type, finite), relative to the reference's.

    At most `GONE_CAP` while a feature of some importance is gone: absent from all rows, or without a value in any
    though the reference is never without for so long. 1.0 without features or rows.
    """
    if not profile.features or view.rows == 0:
        return 1.0
    bad = view.specials.sum(axis=1) / view.rows
    usable = 1.0 - (bad - profile.bad_share).clip(0.0, 1.0)
    weights = profile.importance
    if weights.sum() == 0.0:  # only predictions are watched: they are all there is to be usable
        weights = np.full(len(profile.features), 1.0 / len(profile.features))
    score = round(float(weights @ usable), 12)  # eight of ten are 0.8, not a hair less
    empty = (bad == 1.0) & profile.never_empty
    gone = ((view.specials[:, ABSENT] == view.rows) | empty) & (weights > 0)
    return min(score, GONE_CAP) if gone.any() else score


_WORTH_A_WORD = 0.001
"""Share of cells below which one odd cell more than in the reference is not told."""
_NOISE = 3.0
"""Standard errors by which a share that both sides have must differ to be told."""


def findings_of(profile: Profile, view: View, extra: Mapping[str, int], settings: DriftSettings) -> tuple[Finding, ...]:
    """All findings, columns in the reference's order; `extra` counts rows of columns the reference does not have."""
    found: list[Finding] = []
    if view.rows < settings.fewest_rows:
        found.append(Finding("few_rows", "", 1.0, f"{view.rows} rows are too few to say anything of distributions"))
    if profile.rows < settings.fewest_rows:
        found.append(Finding("few_rows", "", 1.0, f"the reference has {profile.rows} rows: little can be told from it"))
    if view.rows:
        for name in profile.given:
            found += _of_column(profile, profile.index[name], view)
    for name in sorted(extra):
        text = f"column {name} is not in the reference and is ignored"
        found.append(Finding("column_extra", name, extra[name] / max(1, view.rows), text))
    return tuple(found)


def _of_column(profile: Profile, i: int, view: View) -> list[Finding]:
    fitted, name, rows = profile.features[i], profile.names[i], view.rows
    found: list[Finding] = []
    absent, missing, mistyped, infinite = (int(view.specials[i, k]) for k in (ABSENT, MISSING, MISTYPED, INFINITE))
    if absent == rows:
        return [Finding("column_gone", name, 1.0, f"column {name} is gone")]
    if absent:
        found.append(Finding("column_gone", name, absent / rows, f"column {name} is gone from {absent} of {rows} rows"))
    kind = "a number" if fitted.numeric else "a text"
    if _more(mistyped, rows, fitted.specials[MISTYPED], profile.rows):
        text = f"{mistyped} of {rows} values of {name} are not {kind}"
        found.append(Finding("type_change", name, mistyped / rows, text))
    if missing == rows and fitted.specials[MISSING] < profile.rows:
        return [*found, Finding("empty", name, 1.0, f"column {name} has no value at all")]
    if _more(missing, rows, fitted.specials[MISSING], profile.rows):
        was = fitted.specials[MISSING] / profile.rows
        text = f"{missing / rows:.1%} of {name} is missing, {was:.1%} in the reference"
        found.append(Finding("missing", name, missing / rows, text))
    if _more(infinite, rows, fitted.specials[INFINITE], profile.rows):
        text = f"{infinite} of {rows} values of {name} are infinite"
        found.append(Finding("infinite", name, infinite / rows, text))
    now = view.slots(profile.span(i))
    if view.present[i] > 1 and np.count_nonzero(now) == 1 and np.count_nonzero(fitted.counts) > 1:
        found.append(Finding("constant", name, 1.0, f"all values of {name} are the same, or nearly"))
    return found + _unseen(fitted, now, rows)


def _unseen(fitted: Feature, now: Ints, rows: int) -> list[Finding]:
    """Values that the reference has not, more than are to be expected: as many as it has only once (Good 1953)."""
    name, present = fitted.name, int(now.sum())
    if fitted.grid.kind not in ("categories", "exact") or not present or not fitted.present:
        return []
    exact = fitted.grid.kind == "exact"
    own, unseen = (fitted.counts[1::2], int(now[::2].sum())) if exact else (fitted.counts[:-1], int(now[-1]))
    pooled = 0 if exact else int(fitted.counts[-1])
    expected = pooled + (0 if len(fitted.chosen) else int(np.count_nonzero(own == 1)))
    usual = expected / fitted.present
    noise = _NOISE * np.sqrt(usual * (1.0 - usual) * (1.0 / present + 1.0 / fitted.present)) if pooled else 0.0
    if unseen / present <= usual + noise + _WORTH_A_WORD:
        return []
    text = f"{unseen} of {rows} values of {name} are none that the reference knows"
    if pooled:
        text = (
            f"{unseen / present:.1%} of the values of {name} are none of the {len(own)} most frequent of the reference,"
            f" {pooled / fitted.present:.1%} there: rare values and new ones are counted together"
        )
    return [Finding("unseen_values", name, unseen / rows, text)]


def _more(count: int, rows: int, reference_count: int, reference_rows: int) -> bool:
    return count > 0 and count / rows > reference_count / reference_rows + _WORTH_A_WORD
