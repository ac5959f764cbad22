"""The serving table: one immutable picture of who serves, made from one version of the control record.

A request reads the table once and keeps it, so that a swap in its middle can't mix two allocations.
"""

from __future__ import annotations

from dataclasses import dataclass

from gauntlet.config import BreakerConfig
from gauntlet.rollout import Control
from router import assignment
from router.model_worker import Arm, Breaker


@dataclass(frozen=True)
class Table:
    """Everything that an answer needs to know about version `version` of the control record."""

    version: int
    control: Control
    champion: Arm
    challenger: Arm | None
    previous: Arm | None
    breaker: Breaker
    salt: str
    cut: int
    shadow_cut: int

    @property
    def watching(self) -> Arm | None:
        """The champion of before, while the new one bakes and no challenger takes its place in shadow."""
        return self.previous if self.challenger is None else None

    @property
    def rollout(self) -> str | None:
        return self.control.rollout.id if self.control.rollout else None

    @property
    def propensity(self) -> float:
        """The probability of the challenger that the cut really gives."""
        return self.cut / assignment.BUCKETS


def build(
    version: int,
    control: Control,
    champion: Arm,
    challenger: Arm | None,
    previous: Arm | None,
    settings: BreakerConfig,
    shadow_fraction: float,
    before: Table | None,
) -> Table:
    """The table for `control`. The breaker lives as long as its rollout: a step up does not forget failures."""
    rollout = control.rollout.id if control.rollout else None
    keep = before is not None and before.rollout == rollout
    return Table(
        version=version,
        control=control,
        champion=champion,
        challenger=challenger,
        previous=previous,
        breaker=before.breaker if before is not None and keep else Breaker(settings),
        salt=assignment.salt(control.experiment, rollout),
        cut=assignment.cut(control.share) if challenger else 0,
        shadow_cut=assignment.cut(shadow_fraction) if challenger or previous else 0,
    )
