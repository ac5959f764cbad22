"""The one guarded state machine of the rollouts: pure transitions on the control record.

registered → shadow → canary stages → promoted | rolled back | archived. Any number of challengers may be in shadow; on
the ramp each has a slot, a range of buckets of its own. Operators, the router's breaker and the retrainer all change
the record through `apply`, and only through it; who wins a race is decided by compare-and-set (control.py). Every
command is idempotent: where its effect is already in place it returns the record unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gauntlet.errors import TransitionRefused
from gauntlet.reason import is_blank
from gauntlet.rollout import SHADOW_STAGE, Bake, Command, Control, Ended, Promotion, Rollout, Transition, only_id
from gauntlet.succession import gives_way
from gauntlet.types import Decision, Rule

_ENDED_KEPT = 50  # enough for every status page; the store's history has them all


def apply(control: Control, command: Command, now: float) -> Control:
    """The record after `command` at time `now` (seconds).

    Returns the same object when the effect is already in place. Raises `TransitionRefused` when the state does
    not allow it; its code is machine-readable (`no_rollout`, `stale_command`, `rollout_running`, …).
    """
    transition = TRANSITIONS.get(command.name)
    if transition is None:
        raise TransitionRefused(f"there is no command {command.name!r}", code="unknown_command")
    if is_blank(command.reason):
        raise TransitionRefused(f"{command.name} needs a reason", code="reason_missing")
    return transition(control, command, now)


def _running(control: Control, command: Command) -> Rollout:
    """The rollout that the command is about: the one that it names, or the only one."""
    if not control.rollouts:
        raise TransitionRefused(f"no rollout is running, so there is nothing to {command.name}", code="no_rollout")
    if command.rollout is None and len(control.rollouts) > 1:
        raise TransitionRefused(
            f"{_names(control.rollouts)} are running: name the `rollout` to {command.name}", code="rollout_unnamed"
        )
    rollout = control.rollouts[0] if command.rollout is None else control.running(command.rollout)
    if rollout is None:
        raise TransitionRefused(
            f"{command.rollout} is not running any more; {_names(control.rollouts)} run", code="stale_command"
        )
    if command.from_stage is not None and command.from_stage != rollout.stage:
        raise TransitionRefused(
            f"{rollout.id} is in stage {rollout.stage}, not in {command.from_stage} any more", code="stale_command"
        )
    return rollout


def _addressed(control: Control, command: Command) -> tuple[Rollout, ...]:
    """The rollouts that a command towards safety is about: the one that it names, or all."""
    several = command.rollout is None and len(control.rollouts) > 1
    return control.rollouts if several else (_running(control, command),)


def _names(rollouts: tuple[Rollout, ...]) -> str:
    return ", ".join(f"{rollout.id} ({rollout.challenger})" for rollout in rollouts)


def _already_ended(control: Control, command: Command, *states: str) -> bool:
    """Whether the rollout that the command names (or, unnamed, the latest) has already ended in one of `states`."""
    if control.running(command.rollout) or (command.rollout is None and control.rollouts):
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
    if _serving(after) != _serving(control):
        after = msgspec.structs.replace(after, allocation=control.allocation + 1)
    return after


def _serving(control: Control) -> tuple[object, ...]:
    held = control.promotion if control.promotion and control.promotion.holdout else None
    return (control.champion, held, *((r.id, r.challenger, r.share, r.slot) for r in control.rollouts))


def _with_changed(control: Control, changed: Rollout) -> tuple[Rollout, ...]:
    return tuple(changed if rollout.id == changed.id else rollout for rollout in control.rollouts)


def _without(control: Control, *out: Rollout) -> tuple[Rollout, ...]:
    gone = {rollout.id for rollout in out}
    return tuple(rollout for rollout in control.rollouts if rollout.id not in gone)


def _ended(
    control: Control, rollouts: tuple[Rollout, ...], state: str, command: Command, now: float, reason: str = ""
) -> tuple[Ended, ...]:
    """The ends of these rollouts, for `reason` or else the command's."""
    return tuple(
        Ended(
            id=rollout.id,
            challenger=rollout.challenger,
            champion=control.champion,
            state=state,
            at=now,
            actor=command.actor,
            reason=reason or command.reason,
        )
        for rollout in rollouts
    )


def _with_ended(control: Control, *ends: Ended) -> tuple[Ended, ...]:
    return (*control.ended, *ends)[-_ENDED_KEPT:]


def _challenge(control: Control, command: Command, now: float) -> Control:
    """Begin a rollout in shadow, in the place of one that gives way to it where there is no room for both."""
    if command.version is None or command.shadow is None or not command.stages:
        raise TransitionRefused("challenge needs a version, a shadow stage and a ramp", code="incomplete_command")
    if control.challenged_by(command.version):
        return control
    if command.version == control.champion:
        raise TransitionRefused(f"{command.version} is the champion already", code="already_champion")
    replaced = gives_way(control, command)
    if len(control.rollouts) - len(replaced) >= command.most:
        limit = "is" if command.most == 1 else f"are, and {command.most} challengers may run at once"
        raise TransitionRefused(f"{_names(control.rollouts)} {limit} running; end one first", code="rollout_running")
    number = control.begun + 1
    rollout = Rollout(
        id=control.rollout_id(number),
        challenger=command.version,
        stages=command.stages,
        stage=SHADOW_STAGE,
        started_at=now,
        stage_since=now,
        shadow=command.shadow,
        rule=command.rule,
        recipe=command.recipe,
    )
    note = _note(command, Decision.HOLD, now, rollout.id, f"{command.version} against {control.champion}, in shadow")
    later = "trained alike and later, " if replaced and command.recipe == replaced[0].recipe else ""
    why = f"{command.version}, {later}takes its place before it could pass"
    return _replace(
        control,
        rollouts=(*_without(control, *replaced), rollout),
        begun=number,
        ended=_with_ended(control, *_ended(control, replaced, "archived", command, now, why)),
        last=note,
    )


def _to_stage(control: Control, command: Command, rollout: Rollout, stage: int, now: float) -> Control:
    """Set a rollout's stage; coming from shadow it takes the first free slot, which it keeps on the ramp."""
    slot, salt, slots = rollout.slot, control.salt, control.slots
    others = tuple(r for r in control.on_ramp if r.id != rollout.id)
    if stage == SHADOW_STAGE:
        slot = None
    elif slot is None:
        if not others:  # nobody can be moved: the ramp starts over
            salt, slots = rollout.id, max(1, command.slots)
        free = sorted(set(range(slots)) - {r.slot for r in others})
        if not free:
            raise TransitionRefused(f"{_names(others)} hold all {slots} slots of the ramp", code="no_slot")
        slot = free[0]
    if stage != SHADOW_STAGE and rollout.stages[stage].share * slots > 1.0 + 1e-9:
        raise TransitionRefused(
            f"{rollout.stages[stage].share:.2%} of the traffic is more than one of {slots} slots has", code="slot_full"
        )
    weight = 1.0 if stage == SHADOW_STAGE else rollout.weight
    moved = msgspec.structs.replace(rollout, stage=stage, stage_since=now, slot=slot, weight=weight)
    rising = moved.share >= rollout.share
    detail = f"{rollout.share:.2%} → {moved.share:.2%}"
    return _replace(
        control,
        rollouts=_with_changed(control, moved),
        slots=slots,
        salt=salt,
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
    return _to_stage(control, command, rollout, rollout.stage + 1, now)


def _ramp(control: Control, command: Command, now: float) -> Control:
    rollout = _running(control, command)
    if command.stage is None or not SHADOW_STAGE <= command.stage < len(rollout.stages):
        raise TransitionRefused(
            f"stage must be from {SHADOW_STAGE} (shadow) to {len(rollout.stages) - 1}, not {command.stage}",
            code="no_such_stage",
        )
    return control if command.stage == rollout.stage else _to_stage(control, command, rollout, command.stage, now)


def _allocate(control: Control, command: Command, now: float) -> Control:
    """Give a challenger a part of its stage's share: never more than the stage allows, and never nothing."""
    rollout = _running(control, command)
    if rollout.in_shadow or rollout.paused:
        state = "in_shadow" if rollout.in_shadow else "paused"
        raise TransitionRefused(f"{rollout.id} is {state.replace('_', ' ')}: its share stays", code=state)
    if not 0.0 < command.weight <= 1.0:
        raise TransitionRefused(f"a weight is above 0 and at most 1, not {command.weight}", code="bad_weight")
    after = msgspec.structs.replace(rollout, weight=command.weight, weight_since=now)
    detail = f"{rollout.share:.2%} → {after.share:.2%} of {rollout.gate.share:.2%}"
    last = _note(command, Decision.HOLD, now, rollout.id, detail)
    same = after.weight == rollout.weight
    return control if same else _replace(control, rollouts=_with_changed(control, after), last=last)


def _pause_or_resume(control: Control, command: Command, now: float) -> Control:
    paused = command.name == "pause"
    concerned = _addressed(control, command) if paused else (_running(control, command),)
    changed = {r.id: msgspec.structs.replace(r, paused=paused) for r in concerned if r.paused != paused}
    if not changed:
        return control
    rollouts = tuple(changed.get(rollout.id, rollout) for rollout in control.rollouts)
    return _replace(control, rollouts=rollouts, last=_note(command, Decision.HOLD, now, only_id(concerned)))


def _extend(control: Control, command: Command, now: float) -> Control:
    """Note that a rollout goes on beyond its planned evidence."""
    rollout = _running(control, command)
    if rollout.extended:
        return control
    rollouts = _with_changed(control, msgspec.structs.replace(rollout, extended=True))
    return _replace(control, rollouts=rollouts, last=_note(command, Decision.EXTEND, now, rollout.id))


def _approve(control: Control, command: Command, now: float) -> Control:
    rollout = _running(control, command)
    if rollout.stage in rollout.approved:
        return control
    approved = msgspec.structs.replace(rollout, approved=(*rollout.approved, rollout.stage))
    note = _note(command, Decision.HOLD, now, rollout.id, f"stage {rollout.stage} approved")
    return _replace(control, rollouts=_with_changed(control, approved), last=note)


def _promote(control: Control, command: Command, now: float) -> Control:
    """Make a challenger the champion; retrained ones that are no younger had their chance, others go on in shadow."""
    if _already_ended(control, command, "promoted"):
        return control
    rollout = _running(control, command)
    bake = promotion = None
    if command.bake_seconds > 0:
        bake = Bake(rollout=rollout.id, since=now, until=now + command.bake_seconds, reference=command.reference)
    if (over := now + max(command.bake_seconds, command.watch_seconds)) > now:
        promotion = Promotion(rollout=rollout.id, since=now, until=over, holdout=command.holdout, salt=control.salt)
    others = _without(control, rollout)
    stale = tuple(r for r in others if r.rule is Rule.REFRESH and r.started_at <= rollout.started_at)
    again = _without(msgspec.structs.replace(control, rollouts=others), *stale)
    new = rollout.challenger
    return _replace(
        control,
        champion=new,
        champion_since=now,
        previous=control.champion,
        rollouts=tuple(_restarted(control, r, n) for n, r in enumerate(again, control.begun + 1)),
        begun=control.begun + len(again),
        bake=bake,
        promotion=promotion,
        ended=_with_ended(
            control,
            *_ended(control, (rollout,), "promoted", command, now),
            *_ended(control, stale, "archived", command, now, f"{new}, trained no earlier, was promoted before it"),
            *_ended(control, again, "archived", command, now, f"{new} is the champion now: goes on against that"),
        ),
        last=_note(command, Decision.PROMOTE, now, rollout.id, f"{control.champion} → {new}"),
    )


def _restarted(control: Control, rollout: Rollout, number: int) -> Rollout:
    """The same challenger as a new rollout in shadow. Its time there counts: the new champion was scored beside it."""
    since = rollout.stage_since if rollout.in_shadow else rollout.started_at
    anew = msgspec.structs.replace(rollout, id=control.rollout_id(number), stage=SHADOW_STAGE, stage_since=since)
    return msgspec.structs.replace(anew, slot=None, approved=(), weight=1.0, extended=False)


def _end(
    control: Control, out: tuple[Rollout, ...], command: Command, now: float, state: str, decision: Decision
) -> Control:
    detail = ", ".join(f"{rollout.challenger} is out at {rollout.share:.2%}" for rollout in out)
    note = _note(command, decision, now, only_id(out), detail)
    return _replace(
        control,
        rollouts=_without(control, *out),
        ended=_with_ended(control, *_ended(control, out, state, command, now)),
        last=note,
    )


def _rollback(control: Control, command: Command, now: float) -> Control:
    """Take a challenger out (unnamed: all); without any, take the promoted champion out and put `previous` back.

    It asks for no stage: harm seen in one is harm in the next. A command that names the watched promotion takes that
    out, and with it whoever has begun to challenge it.
    """
    named, watched = control.running(command.rollout), control.promotion.rollout if control.promotion else None
    if command.rollout is not None and named is None and command.rollout != watched:
        if _already_ended(control, command, "rolled_back", "archived"):
            return control
        raise TransitionRefused(f"{command.rollout} is neither running nor being watched", code="stale_command")
    challengers_only = command.version is None and (command.rollout is None or named is not None)
    if control.rollouts and (challengers_only or command.version == control.champion):
        out = control.rollouts if named is None else (named,)
        return _end(control, out, command, now, "rolled_back", Decision.ROLLBACK)
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
    watched = control.promotion.rollout if control.promotion else None
    ended = tuple(
        msgspec.structs.replace(e, state="rolled_back", at=now, actor=command.actor, reason=command.reason)
        if e.id == watched
        else e
        for e in _with_ended(control, *_ended(control, control.rollouts, "rolled_back", command, now))
    )
    return _replace(
        control,
        champion=version,
        champion_since=now,
        previous=control.champion,
        rollouts=(),
        bake=None,
        promotion=None,
        ended=ended,
        last=_note(command, Decision.ROLLBACK, now, watched, f"{control.champion} → {version}"),
    )


def _archive(control: Control, command: Command, now: float) -> Control:
    if _already_ended(control, command, "archived", "rolled_back"):
        return control
    return _end(control, _addressed(control, command), command, now, "archived", Decision.ARCHIVE)


def _confirm(control: Control, command: Command, now: float) -> Control:
    """End the bake; the new champion stays."""
    if control.bake is None or command.rollout not in (None, control.bake.rollout):
        return control
    return _replace(control, bake=None, last=_note(command, Decision.HOLD, now, control.bake.rollout, "bake passed"))


def _close(control: Control, command: Command, now: float) -> Control:
    """End the comparison with the champion before; a bake ends by itself."""
    watched = control.promotion
    if watched is None or control.bake or command.rollout not in (None, watched.rollout):
        return control
    return _replace(control, promotion=None, last=_note(command, Decision.HOLD, now, watched.rollout, "it is over"))


TRANSITIONS: dict[str, Callable[[Control, Command, float], Control]] = {
    "challenge": _challenge,
    "advance": _advance,
    "ramp": _ramp,
    "allocate": _allocate,
    "pause": _pause_or_resume,
    "resume": _pause_or_resume,
    "approve": _approve,
    "extend": _extend,
    "promote": _promote,
    "rollback": _rollback,
    "abort": _archive,
    "archive": _archive,
    "confirm": _confirm,
    "close": _close,
}
"""Each command's transition, by the command's name."""
