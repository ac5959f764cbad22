"""What comes next for each rollout, and what an operator has to do about the experiment, in words. Pure.

It uses the rules that the retrainer acts by (`gauntlet.decision_table`); nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gauntlet.clock import lasting
from gauntlet.config import Config
from gauntlet.decision_table import DECISION_TABLE, Unmet, limit, matured, quoted, unmet
from gauntlet.events import Drift, Evaluation, Job
from gauntlet.rollout import Control, Rollout
from gauntlet.status import Problem, moment
from gauntlet.types import Result, Rule, Severity, VerdictCause


class Outlook(NamedTuple):
    """A rollout's next step and what it waits for.

    Event times, None where there is none: `not_before` the stage's minimum time is over, `promotion` it can't be
    promoted earlier, `latest` it ends without a winner.
    """

    next: str
    waits: tuple[str, ...] = ()
    not_before: float | None = None
    promotion: float | None = None
    latest: float | None = None


def percent(share: float) -> str:
    """A share of the traffic, as a person writes it."""
    return f"{100 * share:.6g} %"


def place(rollout: Rollout) -> str:
    """Where a rollout is."""
    if rollout.in_shadow:
        return "in shadow"
    of = f" of its {percent(rollout.gate.share)}" if rollout.weight < 1.0 else ""
    return f"at {percent(rollout.share)}{of} (stage {rollout.stage}; the last is {len(rollout.stages) - 1})"


def current(control: Control, rollout: Rollout, looks: Mapping[str, Evaluation]) -> Evaluation | None:
    """The latest look at a rollout; None where there is none of these two models."""
    look = looks.get(rollout.id)
    models = (control.champion, rollout.challenger)
    return look if look is not None and (look.champion, look.challenger) == models else None


def verdict(look: Evaluation | None, config: Config) -> str:
    """What the evidence says, in a sentence."""
    if look is None:
        horizon = lasting(config.evidence.outcome_horizon)
        return f"none yet: a look needs traffic whose outcomes count, {horizon} after the prediction"
    result = look.result.upper() if look.result == Result.INVALID else look.result
    return f"{result}: {quoted(look)}"


def outlook(control: Control, rollout: Rollout, look: Evaluation | None, config: Config, now: float) -> Outlook:
    """What comes next for `rollout`, whose latest look this is."""
    if rollout.paused:
        return Outlook(f"stays {place(rollout)} until it is resumed; harm still rolls it back")
    action = DECISION_TABLE[look.cause if look else VerdictCause.EVIDENCE_INCOMPLETE]
    if action.command is not None:
        return Outlook(_AT_ONCE[action.command])
    latest = limit(rollout, look, config).at if look and not action.promotes else None
    if not action.advances:
        return Outlook(f"stays {place(rollout)} while this lasts", latest=latest)
    missing = unmet(rollout, look, config, now)
    waits = (*_waits(missing, look), *_proof(rollout, look, config), *_slot(control, rollout, config))
    step = "is promoted" if rollout.last_stage else f"goes on to {percent(rollout.stages[rollout.stage + 1].share)}"
    step = step if waits or missing else f"{step} at the next look"
    return Outlook(step, waits, missing.until, _promotion(rollout, config, now), latest)


def _promotion(rollout: Rollout, config: Config, now: float) -> float:
    """When `rollout` may be promoted at the earliest, by the declared times alone."""
    over = max(now, rollout.stage_since + rollout.gate.min_seconds)
    if rollout.stage == (-1 if config.evidence.form == "paired" else 0):  # left only after a first look
        over = max(over, rollout.stage_since + config.evidence.first_look)
    ramp = over + sum(stage.min_seconds for stage in rollout.stages[rollout.stage + 1 :])
    return max(ramp, rollout.started_at + config.evidence.earliest_win)


_AT_ONCE = {
    "rollback": "is rolled back at once",
    "archive": "is archived at once: the champion stays",
    "pause": "is paused at once",
}


def _waits(missing: Unmet, look: Evaluation | None) -> Iterator[str]:
    if missing.outcomes:
        yield f"{missing.outcomes:,} more matured outcome{'s' * (missing.outcomes > 1)}"
    if missing.look:
        yield "a first look at the evidence" if look is None else "a look by which gross harm would have shown"
    if missing.approval:
        yield "your approval"


def _proof(rollout: Rollout, look: Evaluation | None, config: Config) -> Iterator[str]:
    """What the challenger has to show before its next step, where it has not."""
    if look is not None and DECISION_TABLE[look.cause].promotes:
        return
    refresh = rollout.rule is Rule.REFRESH
    form = look.form if look else config.evidence.form
    if not rollout.last_stage and not (refresh and form == "paired"):
        return
    margin = percent(config.refresh.margin)
    proof = f"better on average, and not worse by more than {margin} of the loss" if refresh else "better"
    if look is not None and look.cause is VerdictCause.UNSAFE_WIN:
        proof = "safe"
    yield f"being shown to be {proof}{_forecast(rollout, look)}"


def _forecast(rollout: Rollout, look: Evaluation | None) -> str:
    """How many outcomes a decision is likely to need yet, and how long they take at the rate so far."""
    if look is None or not look.eta_decision:
        return ""
    known, age = max(look.pairs, matured(rollout, look)), look.at - rollout.started_at
    time = f", in about {lasting(age * look.eta_decision / known)}" if known and age > 0 else ""
    return f" (in {look.eta_decision:,} more outcomes{time}, if effect and traffic stay as they are)"


def _slot(control: Control, rollout: Rollout, config: Config) -> Iterator[str]:
    if rollout.in_shadow and len(control.on_ramp) >= (control.slots if control.on_ramp else config.slots):
        holders = " and ".join(f"{other.challenger} ({other.id})" for other in control.on_ramp)
        yield f"a place on the ramp, which {holders} hold{'s' * (len(control.on_ramp) == 1)}"


def findings(
    control: Control, looks: Mapping[str, Evaluation], drift: Drift | None, jobs: list[Job], config: Config, now: float
) -> Iterator[Problem]:
    """What an operator has to know of the experiment itself, beside what the services report.

    drift: that of the present champion, where it is open.
    """
    for rollout in control.rollouts:
        look = current(control, rollout, looks)
        yield from _held(control, rollout, look)
        if not rollout.paused and unmet(rollout, look, config, now) == Unmet(approval=True):
            yield Problem(
                code="approval_awaited",
                severity=Severity.HIGH,
                source=rollout.id,
                text=f"{rollout.challenger} {place(rollout)} waits for a person's approval, and for nothing else",
                remedy=f"gauntlet approve --rollout {rollout.id} --reason …, or gauntlet rollback --rollout "
                f"{rollout.id} --reason …",
            )
    if drift is not None:
        features = ", ".join(signal.name for signal in drift.features)
        yield Problem(
            code="drift",
            severity=Severity(drift.severity),
            source=drift.model,
            text=f"{drift.root_cause} drift is open" + (f"; what moved most: {features}" if features else ""),
            remedy=_remedy(drift, jobs, config),
            since=moment(drift.at),
        )
    if jobs and jobs[-1].status in ("failed", "aborted"):
        job = jobs[-1]
        yield Problem(
            code="retraining_failed",
            severity=Severity.MEDIUM,
            source=job.id,
            text=f"the latest retraining {job.status}: {job.error or 'no reason was given'}",
            remedy="see the reason; the next trigger starts another job",
        )


def _remedy(drift: Drift, jobs: list[Job], config: Config) -> str:
    """What is done about an open drift: by the retrainer, or else by a person."""
    if (known := _UNTRAINED.get(drift.action)) is not None:
        return known
    own = "register a model of your own and challenge with it"
    settings = config.retrain
    if not settings.enabled:
        return f"retraining is switched off (`retrain.enabled`): {own}"
    if Severity(drift.severity) < settings.on_severity:
        return f"no retraining starts below {settings.on_severity} (`retrain.on_severity`): watch it, or {own}"
    since = [job for job in jobs if job.at >= drift.at and job.champion == drift.model]
    if since and since[-1].accepted is False:
        return f"the latest retraining gave no challenger, see below; another starts after its cool-down, or {own}"
    return "nothing: a retraining starts by itself, and what it makes has to pass the same gates"


_UNTRAINED = {
    "observe": "nothing to do yet: the inputs moved, the outcomes show no loss",
    "quarantine": "repair the data at its source: nothing is trained on it",
}
"""By the action that drift asks for, where that is not retraining."""


def _held(control: Control, rollout: Rollout, look: Evaluation | None) -> Iterator[Problem]:
    """Why a rollout can't go on by itself."""
    name, again = f"{rollout.challenger} {place(rollout)}", f"--rollout {rollout.id} --reason …"
    out = f"gauntlet rollback {again}"
    known = f": {quoted(look)}" if look is not None else ""
    if rollout.paused:
        last = control.last
        by_whom = last is not None and last.command == "pause" and last.rollout in (None, rollout.id)
        why = f" by {last.actor}: {last.reason}" if last is not None and by_whom else ""
        yield Problem(
            code="rollout_paused",
            severity=Severity.HIGH,
            source=rollout.id,
            text=f"{name} is paused{why or known}",
            remedy=f"gauntlet resume {again}, or {out}",
        )
    elif look is not None and look.cause in _MENDS:
        yield Problem(
            code=f"held_by_{look.cause}",
            severity=Severity.HIGH,
            source=rollout.id,
            text=f"{name} is held{known}",
            remedy=f"{_MENDS[look.cause]}; or {out}",
        )


_MENDS = {
    VerdictCause.MULTIPLE_EXPOSURE: "send each unit's requests under one `unit`, and keep the share as it is",
    VerdictCause.LABEL_ARRIVAL: "make outcomes come alike for both arms",
    VerdictCause.LABEL_CONFLICT: "let corrections count (`outcomes.correction: last`, and outcomes within the horizon)",
    VerdictCause.NO_TRAFFIC: "find out why no request reaches one of the arms",
    VerdictCause.SEGMENT_HARM: "look at the segment: the challenger is worse for it",
}
"""What may make a held rollout go on."""
