"""The decision table: what each cause of a verdict leads to, and what a stage of the ramp waits for. Pure.

The retrainer acts by these rules, and the status uses the same ones to say what comes next.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from gauntlet.config import Config
from gauntlet.config.evidence import EXTENSION
from gauntlet.events import Evaluation
from gauntlet.rollout import Rollout
from gauntlet.types import CHALLENGER, VerdictCause


class Action(NamedTuple):
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


DECISION_TABLE: Final[Mapping[VerdictCause, Action]] = MappingProxyType(
    {
        VerdictCause.GROSS_HARM: Action("the challenger does gross harm", command="rollback"),
        VerdictCause.HARM: Action("the challenger does harm", command="rollback"),
        VerdictCause.GUARDRAIL: Action("the challenger breaks a guardrail", command="rollback"),
        VerdictCause.SAMPLE_RATIO: Action("the arms' traffic does not match its shares", command="pause"),
        VerdictCause.MULTIPLE_EXPOSURE: Action("the arms can't be compared: units met both", timed=True),
        VerdictCause.LABEL_ARRIVAL: Action("the arms can't be compared: labels do not arrive alike", timed=True),
        VerdictCause.LABEL_CONFLICT: Action(
            "the arms can't be compared: labels are not contradicted alike", timed=True
        ),
        VerdictCause.NO_TRAFFIC: Action("an arm gets no traffic", timed=True),
        VerdictCause.SEGMENT_HARM: Action("the challenger does harm to a segment"),
        VerdictCause.EQUIVALENT: Action("the challenger is no better and no worse", command="archive"),
        VerdictCause.WIN: Action("the challenger is better", advances=True, promotes=True),
        VerdictCause.NOT_WORSE: Action(
            "the challenger is better on average and shown not to be worse by more than the margin",
            advances=True,
            promotes=True,
        ),
        VerdictCause.FADED_WIN: Action("the win did not last", advances=True, extended=True),
        VerdictCause.UNSAFE_WIN: Action("a win that is not shown to be safe", advances=True),
        VerdictCause.NO_WINNER: Action("the planned evidence is complete and shows no winner", advances=True),
        VerdictCause.UNDERPOWERED: Action("the planned evidence is complete and too weak to tell", advances=True),
        VerdictCause.EVIDENCE_INCOMPLETE: Action("the planned evidence is incomplete", advances=True, lapses=True),
    }
)

_GUARDS = frozenset(
    {
        VerdictCause.GROSS_HARM,
        VerdictCause.GUARDRAIL,
        VerdictCause.SAMPLE_RATIO,
        VerdictCause.MULTIPLE_EXPOSURE,
        VerdictCause.LABEL_ARRIVAL,
        VerdictCause.LABEL_CONFLICT,
        VerdictCause.NO_TRAFFIC,
        VerdictCause.SEGMENT_HARM,
        VerdictCause.UNSAFE_WIN,
    }
)
"""Causes that a guard has found; the command's reason quotes its sentence."""


class Unmet(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage's gate still waits for; nothing of it is missing where a field is empty.

    until: event time at which the minimum time is over. outcomes: how many more. look: one by which gross harm would
    have shown. approval: a person's.
    """

    until: float | None = None
    outcomes: int = 0
    look: bool = False
    approval: bool = False

    def __bool__(self) -> bool:
        return self != _NOTHING


_NOTHING = Unmet()


def unmet(rollout: Rollout, look: Evaluation | None, config: Config, now: float) -> Unmet:
    """What the rollout's stage still waits for: its time, its matured outcomes, its approval, and a look that would
    have shown gross harm.

    A look at or before the stage's start says nothing about the stage, so one look never passes two gates. The arms'
    own traffic (`form: split`) begins with the ramp, so that no look can be asked for in shadow.
    """
    gate = rollout.gate
    over = rollout.stage_since + gate.min_seconds
    waits = now <= rollout.stage_since or now < over
    # Without shadow scoring there are no pairs to wait for.
    counted = config.shadow.fraction > 0 or not rollout.in_shadow
    form = look.form if look else config.evidence.form
    excluded = (look is not None and look.gross_harm_excluded) or (rollout.in_shadow and form == "split")
    return Unmet(
        until=over if waits else None,
        outcomes=max(0, gate.min_outcomes - matured(rollout, look)) if counted else 0,
        look=not excluded,
        approval=gate.approval and rollout.stage not in rollout.approved,
    )


def matured(rollout: Rollout, look: Evaluation | None) -> int:
    """Outcomes that count for the gate: pairs in shadow, the challenger's own on the ramp."""
    challenger = look.arms.get(CHALLENGER) if look else None
    own = challenger.outcomes if challenger else 0
    return max(look.pairs if look else 0, own) if rollout.in_shadow else own


class Limit(NamedTuple):
    """When a rollout that is not promoted ends: at this share of the planned evidence, and at this event time at the
    latest; None where there is no such limit."""

    information: float | None
    at: float | None


def limit(rollout: Rollout, look: Evaluation, config: Config) -> Limit:
    """The evaluation limit under the look's cause."""
    action, evidence = DECISION_TABLE[look.cause], config.evidence
    times = EXTENSION if action.extended or evidence.inconclusive == "extend" else 1.0
    planned = rollout.shadow.min_seconds + sum(stage.min_seconds for stage in rollout.stages)
    ages = [times * planned] if action.timed else []
    if action.lapses and evidence.block.auto:
        ages.append(EXTENSION * evidence.max_duration)
    return Limit(
        information=None if look.cause is VerdictCause.EVIDENCE_INCOMPLETE else times,
        at=rollout.started_at + min(ages) if ages else None,
    )


def quoted(look: Evaluation) -> str:
    """The action's words, with the evaluator's own sentence about a guard or a segment."""
    why = DECISION_TABLE[look.cause].why
    return f"{why} ({look.reasons[0]})" if look.cause in _GUARDS and look.reasons else why


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
    if contradicted := sum(arm.contradicted for arm in look.arms.values()):
        ours = look.arms[CHALLENGER].contradicted
        counts.append(f"{contradicted:,} contradicted labels ({ours:,} of the challenger's)")
    return f"{effect} after {', '.join(counts)}"
