"""Routing table: which models serve, at which share, under one version of the control record. Immutable.

A request reads the table once and keeps it, so that a change in between never mixes two allocations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gauntlet.rollout import Control
from gauntlet.types import Rule
from router import assignment
from router.model_worker import ModelWorker


@dataclass(frozen=True)
class RoutingTable:
    """Version `version` of the control record with its models loaded."""

    version: int
    control: Control
    champion: ModelWorker
    challenger: ModelWorker | None
    previous: ModelWorker | None
    shadow_fraction: float

    @property
    def bake_reference(self) -> ModelWorker | None:
        """The previous champion, scored in shadow during the bake unless a challenger takes its place."""
        return self.previous if self.challenger is None else None

    @cached_property
    def rollout(self) -> str | None:
        return self.control.rollout.id if self.control.rollout else None

    @property
    def rule(self) -> Rule:
        return self.control.rollout.rule if self.control.rollout else Rule.PROVE

    @cached_property
    def salt(self) -> str:
        return assignment.salt(self.control.experiment, self.rollout)

    @cached_property
    def cut(self) -> int:
        """The challenger's buckets, out of `assignment.BUCKETS`."""
        return assignment.cut(self.control.share) if self.challenger else 0

    @cached_property
    def shadow_cut(self) -> int:
        """The buckets that are scored in shadow."""
        return assignment.cut(self.shadow_fraction) if self.challenger or self.previous else 0

    @property
    def propensity(self) -> float:
        """Probability that a unit is assigned to the challenger, as realised by the cut."""
        return self.cut / assignment.BUCKETS
