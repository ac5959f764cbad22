"""How usable the rows are, as one number from 0 to 1 over the features the model needs.

Only what got worse than the reference counts: a column that always had gaps is not a finding. Completeness, validity
(type, finite numbers) and schema go into it; two other virtues do not, and on purpose. Uniqueness: sketches of distinct
rows merge by the maximum and can't be subtracted, so a window could not be the difference of two sums any more, and
rows of few categories repeat without any fault; what has an identity is counted once where it is joined. Freshness: it
needs a clock, and nothing here reads one; how late outcomes come is measured where they arrive.
"""

from __future__ import annotations

import numpy as np

from evaluator.drift.profile import ABSENT, Profile
from evaluator.drift.window import View

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
