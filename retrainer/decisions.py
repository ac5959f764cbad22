"""Decisions: pure rules from the control record and an evaluation, or the champion's health, to a command.

The evaluator's verdict is taken as it is: each cause has one rule, and nothing is tested or read out of sentences
again. Promotion needs a win that lasts; whatever is unclear holds, and ends at the evaluation limit. `now` is the
event's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from gauntlet.config import Config
from gauntlet.config.evidence import EXTENSION
from gauntlet.events import Evaluation, Health
from gauntlet.rollout import Command, Control, Rollout
from gauntlet.types import CHALLENGER, Result, Rule, VerdictCause
from retrainer import ACTOR, bake


class Policy(NamedTuple):
    """What one cause asks for.

    `command` is given at once, in any stage. Without one, `advances` says whether stages may be left through their
    gates, and `promotes` whether the last may; what does not promote is archived at the evaluation limit: the planned
    evidence (`EXTENSION` times that where a win is behind it or `evidence.inconclusive` says extend). With `timed` the
    limit is also the same multiple of the rollout's planned time, the sum of its gates' minimum times: its evidence may
    never be complete, and what makes it wait does not mend by waiting. With
    `lapses` it is also `EXTENSION` times `evidence.max_duration`: traffic may have fallen to next to nothing.
    """

    why: str
    command: str | None = None
    advances: bool = False
    promotes: bool = False
    extended: bool = False
    timed: bool = False
    lapses: bool = False


POLICIES: Final[Mapping[VerdictCause, Policy]] = {
    VerdictCause.GROSS_HARM: Policy("the challenger does gross harm", command="rollback"),
    VerdictCause.HARM: Policy("the challenger does harm", command="rollback"),
    VerdictCause.GUARDRAIL: Policy("the challenger breaks a guardrail", command="rollback"),
    VerdictCause.SAMPLE_RATIO: Policy("the arms' traffic does not match its shares", command="pause"),
    VerdictCause.MULTIPLE_EXPOSURE: Policy("the arms can't be compared: units met both", timed=True),
    VerdictCause.LABEL_ARRIVAL: Policy("the arms can't be compared: labels do not arrive alike", timed=True),
    VerdictCause.NO_TRAFFIC: Policy("an arm gets no traffic", timed=True),
    VerdictCause.SEGMENT_HARM: Policy("the challenger does harm to a segment"),
    VerdictCause.EQUIVALENT: Policy("the challenger is no better and no worse", command="archive"),
    VerdictCause.WIN: Policy("the challenger is better", advances=True, promotes=True),
    VerdictCause.NOT_WORSE: Policy(
        "the challenger is better on average and shown not to be worse by more than the margin",
        advances=True,
        promotes=True,
    ),
    VerdictCause.FADED_WIN: Policy("the win did not last", advances=True, extended=True),
    VerdictCause.UNSAFE_WIN: Policy("a win that is not shown to be safe", advances=True),
    VerdictCause.NO_WINNER: Policy("the planned evidence is complete and shows no winner", advances=True),
    VerdictCause.UNDERPOWERED: Policy("the planned evidence is complete and too weak to tell", advances=True),
    VerdictCause.EVIDENCE_INCOMPLETE: Policy("the planned evidence is incomplete", advances=True, lapses=True),
}

_GUARDS = frozenset(
    {
        VerdictCause.GROSS_HARM,
        VerdictCause.GUARDRAIL,
        VerdictCause.SAMPLE_RATIO,
        VerdictCause.MULTIPLE_EXPOSURE,
        VerdictCause.LABEL_ARRIVAL,
        VerdictCause.NO_TRAFFIC,
        VerdictCause.SEGMENT_HARM,
        VerdictCause.UNSAFE_WIN,
    }
)
"""Causes that a guard has found; the command's reason quotes its sentence."""


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
    command = _rollout(rollout, event, config, now)
    if command is None or command.name != "advance" or not rollout.in_shadow:
        return command
    return command if _is_next(control, rollout, event, config, now, looks) else None


def _is_next(
    control: Control, rollout: Rollout, look: Evaluation, config: Config, now: float, looks: Mapping[str, Evaluation]
) -> bool:
    """Whether the ramp has a free slot, and no other that may leave shadow, too, has shown a greater effect."""
    if len(control.on_ramp) >= (control.slots if control.on_ramp else config.slots):
        return False
    for other in control.rollouts:
        shown = looks.get(other.id)
        if other.id == rollout.id or not other.in_shadow or shown is None or (shown.effect or 0) <= (look.effect or 0):
            continue
        command = _rollout(other, shown, config, now) if shown.champion == control.champion else None
        if command is not None and command.name == "advance":
            return False
    return True


def _rollout(rollout: Rollout, look: Evaluation, config: Config, now: float) -> Command | None:
    policy = POLICIES[look.cause]
    if rollout.paused and policy.command != "rollback":
        return None
    if policy.command is not None:
        return _command(policy.command, rollout, look, _quoted(policy, look))
    if not policy.promotes and _limit_reached(rollout, look, policy, config, now):
        return _command("archive", rollout, look, f"{_quoted(policy, look)}: the champion stays")
    if not policy.advances or not gate_passed(rollout, look, config, now):
        return None
    if rollout.rule is Rule.REFRESH and look.form == "paired" and not policy.promotes:
        return None  # pairs tell as much in shadow as on the ramp: who can't be promoted yet needs no traffic
    if not rollout.last_stage:
        ahead = "ahead beyond its boundary" if look.result == Result.BETTER else "no harm seen"
        why = f"stage {rollout.stage} ({rollout.share:.2%}) has passed its gate, {ahead}"
        return _command("advance", rollout, look, why, slots=config.slots)
    if not policy.promotes:
        return None
    challenger = look.arms.get(CHALLENGER)
    return _command(
        "promote",
        rollout,
        look,
        f"{policy.why} and has passed the whole ramp",
        bake_seconds=float(config.bake.time),
        reference=challenger.metrics if challenger else None,
    )


def _quoted(policy: Policy, look: Evaluation) -> str:
    """The policy with the evaluator's own sentence about a guard or a segment."""
    quoted = look.cause in _GUARDS and look.reasons
    return f"{policy.why} ({look.reasons[0]})" if quoted else policy.why


def _limit_reached(rollout: Rollout, look: Evaluation, policy: Policy, config: Config, now: float) -> bool:
    """Whether the evaluation limit of `rule` is reached."""
    limit = EXTENSION if policy.extended or config.evidence.inconclusive == "extend" else 1.0
    planned = rollout.shadow.min_seconds + sum(stage.min_seconds for stage in rollout.stages)
    age = now - rollout.started_at
    return (
        (look.information_fraction >= limit and look.cause is not VerdictCause.EVIDENCE_INCOMPLETE)
        or (policy.timed and age >= limit * planned)
        or (policy.lapses and config.evidence.block.auto and age >= EXTENSION * config.evidence.max_duration)
    )


def gate_passed(rollout: Rollout, look: Evaluation, config: Config, now: float) -> bool:
    """Whether the rollout's stage may be left: its time, its matured outcomes, its approval, and a look that would have
    shown gross harm.

    A look at or before the stage's start says nothing about the stage, so one look never passes two gates. The arms'
    own traffic (`form: split`) begins with the ramp, so that no look can be asked for in shadow.
    """
    gate = rollout.gate
    if now <= rollout.stage_since or now - rollout.stage_since < gate.min_seconds:
        return False
    if gate.approval and rollout.stage not in rollout.approved:
        return False
    if not look.gross_harm_excluded and not (rollout.in_shadow and look.form == "split"):
        return False
    return matured(rollout, look, config) >= gate.min_outcomes


def matured(rollout: Rollout, look: Evaluation, config: Config) -> float:
    """Outcomes that count for the gate: pairs in shadow (without shadow scoring there are none to wait for), the
    challenger's own on the ramp."""
    challenger = look.arms.get(CHALLENGER)
    own = challenger.outcomes if challenger else 0
    if not rollout.in_shadow:
        return own
    return max(look.pairs, own) if config.shadow.fraction > 0 else float("inf")


def _command(
    name: str,
    rollout: Rollout,
    look: Evaluation,
    why: str,
    *,
    slots: int = 1,
    bake_seconds: float = 0.0,
    reference: dict[str, float] | None = None,
) -> Command:
    return Command(
        name=name,
        actor=ACTOR,
        reason=f"{why}: {figures(look)}",
        rollout=rollout.id,
        from_stage=rollout.stage,
        evidence=look.id,
        slots=slots,
        bake_seconds=bake_seconds,
        reference=reference or {},
    )


def figures(look: Evaluation) -> str:
    """The look's numbers in words: effect with its interval, blocks, pairs, share of the planned evidence."""
    if look.effect is None:
        effect = f"no effect on {look.metric} known yet"
    else:
        effect = f"{look.metric} effect {look.effect:+.4g}"
        if look.lower is not None and look.upper is not None:
            effect += f" [{look.lower:+.4g}, {look.upper:+.4g}]"
    counts = [f"{look.blocks} blocks", f"{look.information_fraction:.0%} of the planned evidence"]
    if look.pairs:
        counts.insert(1, f"{look.pairs:,} pairs")
    return f"{effect} after {', '.join(counts)}"
