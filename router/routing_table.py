"""Routing table: which models serve, at which share, under one version of the control record. Immutable.

A request reads the table once and keeps it, so that a change in between never mixes two allocations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from gauntlet import events
from gauntlet.errors import BadInput
from gauntlet.rollout import Control, Rollout
from gauntlet.types import CHALLENGER, CHAMPION, PREVIOUS, Scorer
from router import assignment
from router.model_worker import ModelWorker
from router.reverse_holdout import ReverseHoldout


class Scoring(NamedTuple):
    """A model as it is scored in shadow: in which role, and for which rollout (the champion before: for the one that
    took its place). The champion is scored for them all."""

    arm: Scorer
    model: ModelWorker
    rollout: str | None = None


class Challenger:
    """A running rollout with its loaded model."""

    def __init__(self, rollout: Rollout, model: ModelWorker, control: Control) -> None:
        self.rollout = rollout
        self.id = rollout.id
        self.model = model
        self.buckets = range(0)
        if rollout.slot is not None:
            self.buckets = assignment.buckets(rollout.slot, control.slots, rollout.share)
        self.share = len(self.buckets) / assignment.BUCKETS
        """The probability that a unit is assigned to it, as realised by its buckets."""
        self.scoring = Scoring(CHALLENGER, model, rollout.id)
        self.salt = assignment.salt(control.experiment, rollout.id)
        """The seed of its sample in shadow."""

    def contender(self, propensity: float) -> events.Contender:
        return events.Contender(
            rollout=self.id, challenger=self.model.version, propensity=propensity, rule=self.rollout.rule
        )


@dataclass(frozen=True)
class RoutingTable:
    """Version `version` of the control record with its models loaded.

    `challengers`: those that run and are loaded. `previous`: the champion before, while it is compared; after the bake
    on `after_bake` of the requests.
    """

    version: int
    control: Control
    champion: ModelWorker
    challengers: tuple[Challenger, ...]
    previous: ModelWorker | None
    shadow_fraction: float
    after_bake: float = 1.0

    @cached_property
    def salt(self) -> str:
        return assignment.salt(self.control.experiment, self.control.salt)

    @cached_property
    def holdout(self) -> ReverseHoldout | None:
        """The draw of the units that stay with the champion before; None where it is not loaded, or none do."""
        promotion = self.control.promotion
        return (
            ReverseHoldout(self.control, self.previous) if self.previous and promotion and promotion.holdout else None
        )

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes as an answer's `probabilities` name them."""
        return tuple(str(c).lower() if isinstance(c, bool) else str(c) for c in self.champion.schema.classes)

    @cached_property
    def on_ramp(self) -> tuple[Challenger, ...]:
        return tuple(challenger for challenger in self.challengers if challenger.buckets)

    @cached_property
    def share(self) -> float:
        """The challengers' share of traffic together."""
        return sum(len(challenger.buckets) for challenger in self.challengers) / assignment.BUCKETS

    @cached_property
    def contenders(self) -> list[events.Contender]:
        """As each prediction names them."""
        return [challenger.contender(challenger.share) for challenger in self.challengers]

    @cached_property
    def unassigned(self) -> list[events.Contender]:
        """As predictions name them while nobody is assigned to a challenger."""
        return [challenger.contender(0.0) for challenger in self.challengers]

    def assigned(self, bucket: int) -> Challenger | None:
        """The challenger whose bucket it is; None for the champion."""
        for challenger in self.on_ramp:
            if bucket in challenger.buckets:
                return challenger
        return None

    def named(self, arm: str) -> Challenger | None:
        """The challenger that a caller asks for, by its rollout or version, or `challenger` where only one runs; None
        for `champion`. Raises `BadInput` for any other name."""
        found = [c for c in self.challengers if arm in (CHALLENGER, c.id, c.model.version)]
        if arm == CHAMPION or len(found) == 1:
            return None if arm == CHAMPION else found[0]
        if arm == CHALLENGER and not found:
            raise BadInput("X-Gauntlet-Arm: challenger needs a running rollout, and none is", code="no_challenger")
        running = ", ".join(f"{c.id} ({c.model.version})" for c in self.challengers) or "none runs"
        raise BadInput(
            f"X-Gauntlet-Arm must be `champion`, or a challenger by its rollout or version: {running}", code="bad_arm"
        )

    def scorings(self, unit: str, assigned: Challenger | None, champion_served: bool) -> list[Scoring]:
        """Who scores a served request in shadow: every challenger but the one that was asked for the answer, and after
        a promotion the previous champion, each with its own sample; and the champion where it did not serve any of
        them."""
        cut = self._shadow_cut
        if not cut:
            return []
        sample = [c for c in self.challengers if assignment.shadowed(c.salt, unit, cut)]
        scorings = [challenger.scoring for challenger in sample if challenger is not assigned]
        watched = self.control.promotion
        if self.previous and watched and assignment.shadowed(self._watch_salt, unit, self._watch_cut):
            scorings.append(Scoring(PREVIOUS, self.previous, watched.rollout))
        if not champion_served and (sample or scorings):
            scorings.append(Scoring(CHAMPION, self.champion))
        return scorings

    @cached_property
    def _watch_salt(self) -> str:
        watched = self.control.promotion
        return assignment.salt(self.control.experiment, watched.rollout if watched else "")

    @cached_property
    def _watch_cut(self) -> int:
        """After the bake fewer requests are paired, a part of those before."""
        return min(self._shadow_cut, assignment.cut(1.0 if self.control.bake else self.after_bake))

    @cached_property
    def _shadow_cut(self) -> int:
        return assignment.cut(self.shadow_fraction) if self.challengers or self.previous else 0
