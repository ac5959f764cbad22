"""Decisions: pure rules from the control record and an evaluation, or the champion's health, to a command.

The evaluator's verdict is taken as it is: each cause has one rule, and nothing is tested or read out of sentences
again. Promotion needs a win that lasts; whatever is unclear holds, and ends at the evaluation limit. `now` is the
event's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from gauntlet.config import Config
from gauntlet.config.evidence import EXTENSION
from gauntlet.events import Evaluation, Health
from gauntlet.rollout import SHADOW_STAGE, Command, Control, Rollout
from gauntlet.types import CHALLENGER, Result, VerdictCause
from retrainer import ACTOR, bake


class Rule(NamedTuple):
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


RULES: Final[Mapping[VerdictCause, Rule]] = {
    VerdictCause.GROSS_HARM: Rule("the challenger does gross harm", command="rollback"),
    VerdictCause.HARM: Rule("the challenger does harm", command="rollback"),
    VerdictCause.GUARDRAIL: Rule("the challenger breaks a guardrail", command="rollback"),
    VerdictCause.SAMPLE_RATIO: Rule("the arms' traffic does not match its shares", command="pause"),
    VerdictCause.MULTIPLE_EXPOSURE: Rule("the arms can't be compared: units met both", timed=True),
    VerdictCause.LABEL_ARRIVAL: Rule("the arms can't be compared: labels do not arrive alike", timed=True),
    VerdictCause.NO_TRAFFIC: Rule("an arm gets no traffic", timed=True),
    VerdictCause.SEGMENT_HARM: Rule("the challenger does harm to a segment"),
    VerdictCause.EQUIVALENT: Rule("the challenger is no better and no worse", command="archive"),
    VerdictCause.WIN: Rule("the challenger is better", advances=True, promotes=True),
    VerdictCause.FADED_WIN: Rule("the win did not last", advances=True, extended=True),
    VerdictCause.UNSAFE_WIN: Rule("a win that is not shown to be safe", advances=True),
    VerdictCause.NO_WINNER: Rule("the planned evidence is complete and shows no winner", advances=True),
    VerdictCause.UNDERPOWERED: Rule("the planned evidence is complete and too weak to tell", advances=True),
    VerdictCause.EVIDENCE_INCOMPLETE: Rule("the planned evidence is incomplete", advances=True, lapses=True),
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


def decide(control: Control, event: Evaluation | Health, config: Config, now: float) -> Command | None:
    """The command that `event` asks for in this state, or None for hold.

    An evaluation of a rollout that is not running, or of other models, is old news and asks for nothing.
    """
    if isinstance(event, Health):
        return bake.watch(control, event, config)
    rollout = control.rollout
    if rollout is None or event.rollout != rollout.id:
        return None
    if (event.champion, event.challenger) != (control.champion, rollout.challenger):
        return None
    return _rollout(rollout, event, config, now)


def _rollout(rollout: Rollout, look: Evaluation, config: Config, now: float) -> Command | None:
    rule = RULES[look.cause]
    if rollout.paused and rule.command != "rollback":
        return None
    if rule.command is not None:
        return _command(rule.command, rollout, look, _quoted(rule, look))
    if not rule.promotes and _limit_reached(rollout, look, rule, config, now):
        return _command("archive", rollout, look, f"{_quoted(rule, look)}: the champion stays")
    if not rule.advances or not gate_passed(rollout, look, config, now):
        return None
    if not rollout.last_stage:
        ahead = "ahead beyond its boundary" if look.result == Result.BETTER else "no harm seen"
        why = f"stage {rollout.stage} ({rollout.share:.2%}) has passed its gate, {ahead}"
        return _command("advance", rollout, look, why)
    if not rule.promotes:
        return None
    challenger = look.arms.get(CHALLENGER)
    return _command(
        "promote",
        rollout,
        look,
        f"{rule.why} and has passed the whole ramp",
        bake_seconds=float(config.bake.time),
        reference=challenger.metrics if challenger else None,
    )


def _quoted(rule: Rule, look: Evaluation) -> str:
    """The rule with the evaluator's own sentence about a guard or a segment."""
    quoted = look.cause in _GUARDS and look.reasons
    return f"{rule.why} ({look.reasons[0]})" if quoted else rule.why


def _limit_reached(rollout: Rollout, look: Evaluation, rule: Rule, config: Config, now: float) -> bool:
    """Whether the evaluation limit of `rule` is reached."""
    limit = EXTENSION if rule.extended or config.evidence.inconclusive == "extend" else 1.0
    planned = rollout.shadow.min_seconds + sum(stage.min_seconds for stage in rollout.stages)
    age = now - rollout.started_at
    return (
        (look.information_fraction >= limit and look.cause is not VerdictCause.EVIDENCE_INCOMPLETE)
        or (rule.timed and age >= limit * planned)
        or (rule.lapses and config.evidence.block.auto and age >= EXTENSION * config.evidence.max_duration)
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
    if not look.gross_harm_excluded and not (rollout.stage == SHADOW_STAGE and look.form == "split"):
        return False
    return matured(rollout, look, config) >= gate.min_outcomes


def matured(rollout: Rollout, look: Evaluation, config: Config) -> float:
    """Outcomes that count for the gate: pairs in shadow (without shadow scoring there are none to wait for), the
    challenger's own on the ramp."""
    challenger = look.arms.get(CHALLENGER)
    own = challenger.outcomes if challenger else 0
    if rollout.stage != SHADOW_STAGE:
        return own
    return max(look.pairs, own) if config.shadow.fraction > 0 else float("inf")


def _command(
    name: str,
    rollout: Rollout,
    look: Evaluation,
    why: str,
    *,
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
