"""The one guarded state machine of a rollout: pure transitions on the control record.

registered → shadow → canary stages → promoted | rolled back | archived. Operators, the router's breaker and the
retrainer all change the record through `apply`, and only through it; who wins a race is decided by compare-and-set
(control.py). Every command is idempotent: where its effect is already in place it returns the record unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gauntlet.errors import TransitionRefused
from gauntlet.types import Decision, Rule

SHADOW_STAGE = -1
"""The stage index of shadow: the challenger is scored beside the champion and serves nobody."""

_ENDED_KEPT = 50  # enough for every status page; the store's history has them all


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the ramp, and its gate: time AND matured outcomes AND no harm AND (optionally) approval."""

    share: float
    min_seconds: float
    min_outcomes: int = 0
    approval: bool = False


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A running challenger; `stage` is an index into `stages`, or SHADOW_STAGE."""

    id: str
    challenger: str
    stages: tuple[Stage, ...]
    stage: int
    started_at: float
    stage_since: float
    shadow: Stage
    rule: Rule = Rule.PROVE
    paused: bool = False
    approved: tuple[int, ...] = ()

    @property
    def gate(self) -> Stage:
        """The stage that the rollout is in, with the conditions for leaving it."""
        return self.shadow if self.stage == SHADOW_STAGE else self.stages[self.stage]

    @property
    def last_stage(self) -> bool:
        return self.stage == len(self.stages) - 1

    @property
    def share(self) -> float:
        return 0.0 if self.stage == SHADOW_STAGE else self.stages[self.stage].share


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

    `allocation` counts the changes of who is served by whom; evidence is keyed by it, so that strata never mix.
    """

    experiment: str
    champion: str
    allocation: int = 1
    previous: str | None = None
    rollout: Rollout | None = None
    rollouts: int = 0
    bake: Bake | None = None
    ended: tuple[Ended, ...] = ()
    last: Transition | None = None

    @property
    def share(self) -> float:
        """The challenger's share of live traffic."""
        return self.rollout.share if self.rollout else 0.0


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A requested change: what, by whom, why. `rollout` and `from_stage` guard against a decision on a stale record."""

    name: str
    actor: str
    reason: str
    rollout: str | None = None
    from_stage: int | None = None
    stage: int | None = None
    version: str | None = None
    evidence: str | None = None
    rule: Rule = Rule.PROVE
    shadow: Stage | None = None
    stages: tuple[Stage, ...] = ()
    bake_seconds: float = 0.0
    reference: dict[str, float] = {}


def begin(experiment: str, champion: str, at: float) -> Control:
    """The first record of an experiment: everything to the champion."""
    first = Transition(command="begin", decision=Decision.HOLD, actor="gauntlet", reason="first start", at=at)
    return Control(experiment=experiment, champion=champion, last=first)


def apply(control: Control, command: Command, now: float) -> Control:
    """The record after `command` at time `now` (seconds).

    Returns the same object when the effect is already in place. Raises `TransitionRefused` when the state does
    not allow it; its code is machine-readable (`no_rollout`, `stale_command`, `rollout_running`, …).
    """
    transition = TRANSITIONS.get(command.name)
    if transition is None:
        raise TransitionRefused(f"there is no command {command.name!r}", code="unknown_command")
    if not command.reason.strip():
        raise TransitionRefused(f"{command.name} needs a reason", code="reason_missing")
    return transition(control, command, now)


def _running(control: Control, command: Command) -> Rollout:
    rollout = control.rollout
    if rollout is None:
        raise TransitionRefused(f"no rollout is running, so there is nothing to {command.name}", code="no_rollout")
    if command.rollout is not None and command.rollout != rollout.id:
        raise TransitionRefused(f"{command.rollout} is not running any more, but {rollout.id} is", code="stale_command")
    if command.from_stage is not None and command.from_stage != rollout.stage:
        raise TransitionRefused(
            f"{rollout.id} is in stage {rollout.stage}, not in {command.from_stage} any more", code="stale_command"
        )
    return rollout


def _already(control: Control, command: Command, *states: str) -> bool:
    """Whether the rollout that the command names (or, unnamed, the latest) has already ended in one of `states`."""
    if control.rollout is not None and command.rollout in (None, control.rollout.id):
        return False
    named = [e for e in control.ended if command.rollout in (None, e.id)]
    return bool(named) and named[-1].state in states


def _note(command: Command, decision: Decision, now: float, rollout: str | None, detail: str = "") -> Transition:
    return Transition(
        command=command.name,
        decision=decision,
        actor=command.actor,
        reason=command.reason,
        at=now,
        rollout=rollout,
        evidence=command.evidence,
        detail=detail,
    )


def _replace(control: Control, **changes: object) -> Control:
    """A copy with `changes`; the allocation counts up whenever who serves whom changes."""
    after = msgspec.structs.replace(control, **changes)
    serving = (control.champion, control.share, control.rollout and control.rollout.challenger)
    if (after.champion, after.share, after.rollout and after.rollout.challenger) != serving:
        after = msgspec.structs.replace(after, allocation=control.allocation + 1)
    return after


def _ended(control: Control, rollout: Rollout, state: str, command: Command, now: float) -> tuple[Ended, ...]:
    end = Ended(
        id=rollout.id,
        challenger=rollout.challenger,
        champion=control.champion,
        state=state,
        at=now,
        actor=command.actor,
        reason=command.reason,
    )
    return (*control.ended, end)[-_ENDED_KEPT:]


def _challenge(control: Control, command: Command, now: float) -> Control:
    if command.version is None or command.shadow is None or not command.stages:
        raise TransitionRefused("challenge needs a version, a shadow stage and a ramp", code="incomplete_command")
    if control.rollout is not None:
        if control.rollout.challenger == command.version:
            return control
        raise TransitionRefused(
            f"{control.rollout.id} is running with {control.rollout.challenger}; end it first", code="rollout_running"
        )
    if command.version == control.champion:
        raise TransitionRefused(f"{command.version} is the champion already", code="already_champion")
    number = control.rollouts + 1
    rollout = Rollout(
        id=f"{control.experiment}-r{number:04d}",
        challenger=command.version,
        stages=command.stages,
        stage=SHADOW_STAGE,
        started_at=now,
        stage_since=now,
        shadow=command.shadow,
        rule=command.rule,
    )
    note = _note(command, Decision.HOLD, now, rollout.id, f"{command.version} against {control.champion}, in shadow")
    return _replace(control, rollout=rollout, rollouts=number, last=note)


def _move(control: Control, command: Command, rollout: Rollout, stage: int, now: float) -> Control:
    moved = msgspec.structs.replace(rollout, stage=stage, stage_since=now)
    rising = moved.share >= rollout.share
    detail = f"{rollout.share:.2%} → {moved.share:.2%}"
    return _replace(
        control,
        rollout=moved,
        last=_note(command, Decision.ADVANCE if rising else Decision.HOLD, now, rollout.id, detail),
    )


def _advance(control: Control, command: Command, now: float) -> Control:
    rollout = _running(control, command)
    if rollout.paused:
        raise TransitionRefused(f"{rollout.id} is paused; resume it first", code="paused")
    if rollout.last_stage:
        raise TransitionRefused(f"{rollout.id} is in its last stage; promote it or roll it back", code="last_stage")
    if rollout.gate.approval and rollout.stage not in rollout.approved:
        raise TransitionRefused(f"stage {rollout.stage} of {rollout.id} waits for approval", code="approval_missing")
    return _move(control, command, rollout, rollout.stage + 1, now)


def _ramp(control: Control, command: Command, now: float) -> Control:
    rollout = _running(control, command)
    if command.stage is None or not SHADOW_STAGE <= command.stage < len(rollout.stages):
        raise TransitionRefused(
            f"stage must be from {SHADOW_STAGE} (shadow) to {len(rollout.stages) - 1}, not {command.stage}",
            code="no_such_stage",
        )
    return control if command.stage == rollout.stage else _move(control, command, rollout, command.stage, now)


def _pause_or_resume(control: Control, command: Command, now: float) -> Control:
    rollout, paused = _running(control, command), command.name == "pause"
    if rollout.paused == paused:
        return control
    changed = msgspec.structs.replace(rollout, paused=paused)
    return _replace(control, rollout=changed, last=_note(command, Decision.HOLD, now, rollout.id))


def _approve(control: Control, command: Command, now: float) -> Control:
    rollout = _running(control, command)
    if rollout.stage in rollout.approved:
        return control
    approved = msgspec.structs.replace(rollout, approved=(*rollout.approved, rollout.stage))
    note = _note(command, Decision.HOLD, now, rollout.id, f"stage {rollout.stage} approved")
    return _replace(control, rollout=approved, last=note)


def _promote(control: Control, command: Command, now: float) -> Control:
    if _already(control, command, "promoted"):
        return control
    rollout = _running(control, command)
    bake = None
    if command.bake_seconds > 0:
        bake = Bake(rollout=rollout.id, since=now, until=now + command.bake_seconds, reference=command.reference)
    return _replace(
        control,
        champion=rollout.challenger,
        previous=control.champion,
        rollout=None,
        bake=bake,
        ended=_ended(control, rollout, "promoted", command, now),
        last=_note(command, Decision.PROMOTE, now, rollout.id, f"{control.champion} → {rollout.challenger}"),
    )


def _end(control: Control, rollout: Rollout, command: Command, now: float, state: str, decision: Decision) -> Control:
    note = _note(command, decision, now, rollout.id, f"{rollout.challenger} is out at {rollout.share:.2%}")
    return _replace(control, rollout=None, ended=_ended(control, rollout, state, command, now), last=note)


def _rollback(control: Control, command: Command, now: float) -> Control:
    """Take the challenger out; without a running rollout, take the promoted champion out and put `previous` back.

    It asks for no stage: harm seen in one is harm in the next. A command that names the watched promotion takes that
    out, and with it whoever has begun to challenge it.
    """
    running, watched = control.rollout, control.bake.rollout if control.bake else None
    if command.rollout is not None and command.rollout not in (running and running.id, watched):
        if _already(control, command, "rolled_back", "archived"):
            return control
        raise TransitionRefused(f"{command.rollout} is neither running nor being watched", code="stale_command")
    challenger_only = command.version is None and command.rollout in (None, running and running.id)
    if running is not None and (challenger_only or command.version == control.champion):
        return _end(control, running, command, now, "rolled_back", Decision.ROLLBACK)
    if command.version is not None:
        return _revert(control, command, command.version, now)
    if command.rollout is None and control.last is not None and control.last.decision is Decision.ROLLBACK:
        return control  # a repeated command must not take the champion out too; to go further back, name a version
    if control.previous is None:
        raise TransitionRefused("there is no challenger and no previous champion to go back to", code="no_previous")
    return _revert(control, command, control.previous, now)


def _revert(control: Control, command: Command, version: str, now: float) -> Control:
    if version == control.champion:
        return control
    watched = control.bake.rollout if control.bake else None
    ended = control.ended
    if control.rollout is not None:
        ended = _ended(control, control.rollout, "rolled_back", command, now)
    ended = tuple(
        msgspec.structs.replace(e, state="rolled_back", at=now, actor=command.actor, reason=command.reason)
        if e.id == watched
        else e
        for e in ended
    )
    return _replace(
        control,
        champion=version,
        previous=control.champion,
        rollout=None,
        bake=None,
        ended=ended,
        last=_note(command, Decision.ROLLBACK, now, watched, f"{control.champion} → {version}"),
    )


def _archive(control: Control, command: Command, now: float) -> Control:
    if _already(control, command, "archived", "rolled_back"):
        return control
    return _end(control, _running(control, command), command, now, "archived", Decision.ARCHIVE)


def _confirm(control: Control, command: Command, now: float) -> Control:
    """End the bake; the new champion stays."""
    if control.bake is None or command.rollout not in (None, control.bake.rollout):
        return control
    return _replace(control, bake=None, last=_note(command, Decision.HOLD, now, control.bake.rollout, "bake passed"))


TRANSITIONS: dict[str, Callable[[Control, Command, float], Control]] = {
    "challenge": _challenge,
    "advance": _advance,
    "ramp": _ramp,
    "pause": _pause_or_resume,
    "resume": _pause_or_resume,
    "approve": _approve,
    "promote": _promote,
    "rollback": _rollback,
    "abort": _archive,
    "archive": _archive,
    "confirm": _confirm,
}
"""Each command's transition, by the command's name."""
