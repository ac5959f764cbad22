"""Decisions: pure rules from the control record and an evaluation, or the champion's health, to a command.

The evaluator's verdict is taken as it is: each cause has one rule, and nothing is tested or read out of sentences
again. Promotion needs a win that lasts; whatever is unclear holds, and ends at the evaluation limit. `now` is the
event's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gauntlet.config import Config
from gauntlet.decision_table import DECISION_TABLE, figures, limit, quoted, unmet
from gauntlet.events import Evaluation, Health
from gauntlet.rollout import SHADOW_STAGE, Command, Control, Rollout
from gauntlet.types import CHALLENGER, Result, Rule
from retrainer import ACTOR, bake


def decide(
    control: Control,
    event: Evaluation | Health,
    config: Config,
    now: float,
    looks: Mapping[str, Evaluation] = MappingProxyType({}),
) -> Command | None:
    """The command that `event` asks for in this state, or None for hold.

    An evaluation of a rollout that is not running, or of other models, is old news and asks for nothing. `looks`: the
    latest of each running rollout, for those that wait for a place on the ramp.
    """
    if isinstance(event, Health):
        return bake.watch(control, event, config)
    rollout = control.running(event.rollout)
    if rollout is None or (event.champion, event.challenger) != (control.champion, rollout.challenger):
        return None
    command = (
        _rollout(rollout, event, config, now)
        or _share(control, rollout, event, config, now)
        or _extension(rollout, event, config, now)
    )
    if command is None or command.name != "advance" or not rollout.in_shadow:
        return command
    if _is_next(control, rollout, event, config, now, looks):
        return command
    return _stands_back(control, rollout, looks) if _is_full(control, config) else None


def _is_full(control: Control, config: Config) -> bool:
    """Whether the ramp has no free slot."""
    return len(control.on_ramp) >= (control.slots if control.on_ramp else config.slots)


def _is_next(
    control: Control, rollout: Rollout, look: Evaluation, config: Config, now: float, looks: Mapping[str, Evaluation]
) -> bool:
    """Whether the ramp has a free slot, and no other that may leave shadow, too, has shown a greater effect."""
    if _is_full(control, config):
        return False
    for other in control.rollouts:
        shown = looks.get(other.id)
        if other.id == rollout.id or not other.in_shadow or shown is None or (shown.effect or 0) <= (look.effect or 0):
            continue
        command = _rollout(other, shown, config, now) if shown.champion == control.champion else None
        if command is not None and command.name == "advance":
            return False
    return True


def _stands_back(control: Control, waiting: Rollout, looks: Mapping[str, Evaluation]) -> Command | None:
    """Back to shadow with a successor that could not be promoted any more and has the slot which `waiting` needs: its
    pairs tell as much there."""
    for rollout in control.on_ramp:
        shown = looks.get(rollout.id)
        if rollout.rule is not Rule.REFRESH or rollout.paused or shown is None or shown.champion != control.champion:
            continue
        if shown.form == "paired" and not DECISION_TABLE[shown.cause].promotes:
            why = f"{quoted(shown)}; {waiting.challenger} may take its place on the ramp"
            return _command("ramp", rollout, shown, why, stage=SHADOW_STAGE)
    return None


def _rollout(rollout: Rollout, look: Evaluation, config: Config, now: float) -> Command | None:
    action = DECISION_TABLE[look.cause]
    if rollout.paused and action.command != "rollback":
        return None
    if action.command is not None:
        return _command(action.command, rollout, look, quoted(look))
    if not action.promotes and _limit_reached(rollout, look, config, now):
        return _command("archive", rollout, look, f"{quoted(look)}: the champion stays")
    if not action.advances or unmet(rollout, look, config, now):
        return None
    if rollout.rule is Rule.REFRESH and look.form == "paired" and not action.promotes:
        return None  # pairs tell as much in shadow as on the ramp: who can't be promoted yet needs no traffic
    if not rollout.last_stage:
        ahead = "ahead beyond its boundary" if look.result == Result.BETTER else "no harm seen"
        where = "shadow" if rollout.in_shadow else f"stage {rollout.stage} ({rollout.share:.2%})"
        why = f"{where} has passed its gate, {ahead}"
        return _command("advance", rollout, look, why, slots=config.slots)
    if not action.promotes:
        return None
    challenger = look.arms.get(CHALLENGER)
    return _command(
        "promote",
        rollout,
        look,
        f"{action.why} and has passed the whole ramp",
        **config.after_promotion,
        reference=challenger.metrics if challenger else None,
    )


def _share(control: Control, rollout: Rollout, look: Evaluation, config: Config, now: float) -> Command | None:
    """Thompson allocation: the part of its stage's share that fits its probability of being the best. The ramp's
    traffic is what the stages of all challengers on it allow together; nobody gets more than its own."""
    thompson = config.thompson
    if rollout.in_shadow or rollout.paused:
        return None
    if not thompson.enabled:
        return None if rollout.weight == 1.0 else _command("allocate", rollout, look, "Thompson allocation is off")
    if look.ramp_share is None:
        return None
    if not DECISION_TABLE[look.cause].advances or now < max(rollout.stage_since, rollout.weight_since) + thompson.every:
        return None
    allowed = rollout.gate.share
    traffic = sum(each.gate.share for each in control.on_ramp)
    weight = round(min(1.0, max(0.01, traffic * look.ramp_share / allowed)), 2)
    if abs(weight - rollout.weight) < thompson.least_change - 1e-9:
        return None
    why = f"Thompson sampling gives it {look.ramp_share:.1%} of the ramp's {traffic:.2%}"
    return _command("allocate", rollout, look, why, weight=weight)


def _extension(rollout: Rollout, look: Evaluation, config: Config, now: float) -> Command | None:
    """Going on beyond the planned evidence, once it is complete without a winner and the limit lies further."""
    planned, allowed = 1.0, limit(rollout, look, config).information
    promotes = DECISION_TABLE[look.cause].promotes
    if rollout.extended or rollout.paused or promotes or allowed is None or allowed <= planned:
        return None
    if look.information_fraction < planned or now <= max(rollout.stage_since, rollout.weight_since):
        return None  # also where the same look has moved it already
    why = f"{quoted(look)}: it goes on to {allowed:g} times the planned evidence"
    return _command("extend", rollout, look, why)


def _limit_reached(rollout: Rollout, look: Evaluation, config: Config, now: float) -> bool:
    """Whether the evaluation limit is reached."""
    information, at = limit(rollout, look, config)
    return (information is not None and look.information_fraction >= information) or (at is not None and now >= at)


def _command(
    name: str,
    rollout: Rollout,
    look: Evaluation,
    why: str,
    *,
    slots: int = 1,
    weight: float = 1.0,
    reference: dict[str, float] | None = None,
    **after_promotion: Any,
) -> Command:
    return Command(
        name=name,
        actor=ACTOR,
        reason=f"{why}: {figures(look)}",
        rollout=rollout.id,
        from_stage=rollout.stage,
        evidence=look.id,
        slots=slots,
        weight=weight,
        reference=reference or {},
        **after_promotion,
    )
