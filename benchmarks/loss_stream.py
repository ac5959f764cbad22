"""Streams of which only the losses matter: a model that is right on every row, with losses given beside its outcomes.

The outcomes are all zero and predicted so; whatever the monitor says, it says of the losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluator.drift import DriftEvent, Monitor, Profile
from evaluator.stats.score_process import Floats

Losses = Sequence[float] | Floats
_OUTCOMES = [0] * 30


def fit_losses(losses: Losses, columns: dict[str, Any] | None = None, **options: Any) -> Profile:
    """A reference of these `losses` in time order, and of `columns`."""
    return Profile.fit(
        columns or {"x": [0.0, 1.0]},
        reference_id="losses",
        errors=losses,
        targets=_OUTCOMES,
        answers=_OUTCOMES,
        **options,
    )


def observe_losses(monitor: Monitor, losses: Losses, at: Any = 0.0) -> list[DriftEvent]:
    """Take in the next losses, with the event time `at` of all or of each."""
    right = np.zeros(len(losses))
    return monitor.observe_outcomes(right, right, at, losses=losses)
