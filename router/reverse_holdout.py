"""The reverse holdout: after a promotion a small share of the units stays with the previous champion. Pure.

Invariant: units are drawn by the hash that assigned them before the promotion, from the far end of the buckets. Units
that stay had that champion already, and nobody else moves; sticky until the promotion's watch is over.
"""

from __future__ import annotations

from gauntlet import events
from gauntlet.rollout import Control
from router import assignment
from router.model_worker import ModelWorker


class ReverseHoldout:
    """Draws the units that `model`, the champion before, still answers."""

    def __init__(self, control: Control, model: ModelWorker) -> None:
        """For the record's promotion, which must have a holdout."""
        assert control.promotion is not None, "a holdout belongs to a promotion"
        promotion, held = control.promotion, assignment.cut(control.promotion.holdout)
        self.model = model
        self._salt = assignment.salt(control.experiment, promotion.salt)
        self._first = assignment.BUCKETS - held
        self._draws = tuple(
            events.Holdout(
                promotion=promotion.rollout, previous=model.version, propensity=held / assignment.BUCKETS, drawn=drawn
            )
            for drawn in (False, True)
        )

    def draw(self, unit: str) -> events.Holdout:
        """What a request's event says of it; `drawn`: it is the champion before that answers."""
        return self._draws[assignment.bucket(self._salt, unit) >= self._first]
