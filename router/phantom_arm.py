"""The continuous A/A slice: requests of the champion that a hash labels as a phantom arm. Pure.

Invariant: the label changes nothing else; the champion answers all the same. It is independent of the arms'
assignment, sticky within a round, and drawn again in each round.
"""

from __future__ import annotations

from gauntlet import events
from gauntlet.config.evidence import EvidenceConfig
from router import assignment


class PhantomArm:
    """Draws the units of the phantom arm; `share` is what its buckets realise, 0 where the slice is off."""

    def __init__(self, experiment: str, evidence: EvidenceConfig) -> None:
        self._experiment = experiment
        self._evidence = evidence
        self._cut = assignment.cut(evidence.aa_slice)
        self.share = self._cut / assignment.BUCKETS

    def draw(self, unit: str, at: float) -> events.Phantom | None:
        """The label of a request that the champion was assigned; None where the slice is off."""
        if not self._cut:
            return None
        number = self._evidence.aa_number(at)
        salt = assignment.salt(self._experiment, f"A/A {number}")
        drawn = assignment.bucket(salt, unit) < self._cut
        return events.Phantom(round=number, propensity=self.share, drawn=drawn)
