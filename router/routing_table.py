"""Routing table: which models serve, at which share, under one version of the control record. Immutable.

A request reads the table once and keeps it, so that a change in between never mixes two allocations.
"""

from __future__ import annotations

from dataclasses import dataclass

from gauntlet.rollout import Control
from router import assignment
from router.model_worker import ModelWorker


@dataclass(frozen=True)
class RoutingTable:
    """`salt` seeds the assignment; `cut` and `shadow_cut` are buckets out of `assignment.BUCKETS`."""

    version: int
    control: Control
    champion: ModelWorker
    challenger: ModelWorker | None
    previous: ModelWorker | None
    salt: str
    cut: int
    shadow_cut: int

    @property
    def bake_reference(self) -> ModelWorker | None:
        """The previous champion, scored in shadow during the bake unless a challenger takes its place."""
        return self.previous if self.challenger is None else None

    @property
    def rollout(self) -> str | None:
        return self.control.rollout.id if self.control.rollout else None

    @property
    def propensity(self) -> float:
        """Probability that a unit is assigned to the challenger, as realised by the cut."""
        return self.cut / assignment.BUCKETS


def build(
    version: int,
    control: Control,
    champion: ModelWorker,
    challenger: ModelWorker | None,
    previous: ModelWorker | None,
    shadow_fraction: float,
) -> RoutingTable:
    """The table for version `version` of the control record, given the loaded models."""
    return RoutingTable(
        version=version,
        control=control,
        champion=champion,
        challenger=challenger,
        previous=previous,
        salt=assignment.salt(control.experiment, control.rollout.id if control.rollout else None),
        cut=assignment.cut(control.share) if challenger else 0,
        shadow_cut=assignment.cut(shadow_fraction) if challenger or previous else 0,
    )
