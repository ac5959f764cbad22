"""The control record of an experiment: its champion, the running rollouts, and what is asked of them.

Records only; `gauntlet.transitions` has the state machine that changes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gauntlet.types import Decision, Rule

SHADOW_STAGE = -1
"""The stage index of shadow: the challenger is scored beside the champion and serves nobody."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the ramp, and its gate: time AND matured outcomes AND no harm AND (optionally) approval."""

    share: float
    min_seconds: float
    min_outcomes: int = 0
    approval: bool = False


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A running challenger; `stage` is an index into `stages`, or SHADOW_STAGE.

    slot: the range of buckets that it has on the ramp; None in shadow. recipe: how it was trained, for a retrained one.
    weight: the part of its stage's share that it has, below 1 by Thompson allocation only, since weight_since.
    extended: its planned evidence was complete without a winner, and it went on.
    """

    id: str
    challenger: str
    stages: tuple[Stage, ...]
    stage: int
    started_at: float
    stage_since: float
    shadow: Stage
    rule: Rule = Rule.PROVE
    recipe: str | None = None
    slot: int | None = None
    paused: bool = False
    approved: tuple[int, ...] = ()
    weight: float = 1.0
    weight_since: float = 0.0
    extended: bool = False

    @property
    def gate(self) -> Stage:
        """The stage that the rollout is in, with the conditions for leaving it."""
        return self.shadow if self.stage == SHADOW_STAGE else self.stages[self.stage]

    @property
    def in_shadow(self) -> bool:
        return self.stage == SHADOW_STAGE

    @property
    def last_stage(self) -> bool:
        return self.stage == len(self.stages) - 1

    @property
    def share(self) -> float:
        return 0.0 if self.stage == SHADOW_STAGE else self.stages[self.stage].share * self.weight


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout that is over: `state` is promoted, rolled_back or archived."""

    id: str
    challenger: str
    champion: str
    state: str
    at: float
    actor: str
    reason: str


class Bake(msgspec.Struct, frozen=True, kw_only=True):
    """The time after a promotion in which the new champion is compared with `reference`, its figures in the rollout."""

    rollout: str
    since: float
    until: float
    reference: dict[str, float]


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """The promotion of the present champion, while the champion before it is still scored on the same requests.

    holdout: share of the units that stays with that one. salt: the rollout that had opened the ramp, whose hash draws
    them."""

    rollout: str
    since: float
    until: float
    holdout: float = 0.0
    salt: str = ""


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted change, as the audit keeps it."""

    command: str
    decision: Decision
    actor: str
    reason: str
    at: float
    rollout: str | None = None
    evidence: str | None = None
    detail: str = ""


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The versioned control record: the only thing that sets an allocation.

    `champion_since` is when the present champion took over. `allocation` counts the changes of who is served by whom;
    evidence is keyed by it, so that strata never mix. `promotion` is watched until its time or its champion is over, at
    first under the rules of the `bake`.
    `rollouts` are the running ones, oldest first; `begun` counts all. `slots` is the number of ranges that the buckets
    are divided into. `salt` names the rollout that opened the ramp: the seed of the assignment, which stays while
    anybody is on the ramp, so that nobody moves when another challenger comes or goes.
    """

    experiment: str
    champion: str
    champion_since: float = 0.0
    allocation: int = 1
    previous: str | None = None
    began: float = 0.0
    rollouts: tuple[Rollout, ...] = ()
    begun: int = 0
    slots: int = 1
    salt: str = ""
    bake: Bake | None = None
    promotion: Promotion | None = None
    ended: tuple[Ended, ...] = ()
    last: Transition | None = None

    @property
    def on_ramp(self) -> tuple[Rollout, ...]:
        """The challengers that serve, oldest first."""
        return tuple(rollout for rollout in self.rollouts if not rollout.in_shadow)

    @property
    def share(self) -> float:
        """The challengers' share of live traffic."""
        return sum(rollout.share for rollout in self.rollouts)

    def rollout_id(self, number: int) -> str:
        """The id of its rollout of that number."""
        return f"{self.experiment}-r{number:04d}"

    def running(self, id: str | None) -> Rollout | None:
        """The running rollout of that id."""
        return next((rollout for rollout in self.rollouts if rollout.id == id), None)

    def challenged_by(self, version: str) -> Rollout | None:
        """The running rollout of that version."""
        return next((rollout for rollout in self.rollouts if rollout.challenger == version), None)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A requested change: what, by whom, why. `rollout` and `from_stage` guard against a decision on a stale record.

    most: challengers that may run at once. slots: of them on the ramp. weight: of the stage's share. watch_seconds: how
    long the champion before is scored after a promotion, the bake at least. holdout: share of the units that stays with
    it meanwhile.
    """

    name: str
    actor: str
    reason: str
    rollout: str | None = None
    from_stage: int | None = None
    stage: int | None = None
    version: str | None = None
    evidence: str | None = None
    rule: Rule = Rule.PROVE
    recipe: str | None = None
    most: int = 1
    slots: int = 1
    weight: float = 1.0
    shadow: Stage | None = None
    stages: tuple[Stage, ...] = ()
    bake_seconds: float = 0.0
    watch_seconds: float = 0.0
    holdout: float = 0.0
    reference: dict[str, float] = {}


def only_id(rollouts: Sequence[Rollout]) -> str | None:
    """The id of a single rollout; None for several."""
    return rollouts[0].id if len(rollouts) == 1 else None


def begin(experiment: str, champion: str, at: float) -> Control:
    """The first record of an experiment: everything to the champion."""
    first = Transition(command="begin", decision=Decision.HOLD, actor="gauntlet", reason="first start", at=at)
    return Control(experiment=experiment, champion=champion, champion_since=at, began=at, last=first)
