"""What happened when: control history, looks, drift and job events become rollouts and one timeline. Pure.

Nothing is inferred: each line is one recorded event or one accepted version of the control record.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gauntlet import events
from gauntlet.cli.demo.report_model import DriftStep, Feature, Job, Look, Moment, Ramp, Rollout, StageTime
from gauntlet.rollout import SHADOW_STAGE, Control

History = Sequence[tuple[int, Control]]

_KINDS = {
    "challenge": "rollout start",
    "advance": "stage",
    "ramp": "stage",
    "promote": "promotion",
    "rollback": "rollback",
    "archive": "archive",
    "abort": "archive",
    "confirm": "bake passed",
}


def time_of(control: Control, begin: float) -> float:
    """When this version of the record was made; the first start is before any event's time."""
    return max(begin, control.last.at if control.last else begin)


def share(value: float) -> str:
    """A share of traffic in words."""
    return "shadow" if value == 0 else f"{100 * value:g} %"


def ramp(history: History, begin: float) -> list[Ramp]:
    """Who served whom from when on: one entry a version of the record."""
    return [
        Ramp(
            at=time_of(control, begin),
            version=version,
            allocation=control.allocation,
            share=control.share,
            champion=control.champion,
            challenger=control.rollout.challenger if control.rollout else None,
        )
        for version, control in history
    ]


def looks(evaluations: Sequence[events.Evaluation], rollout: str) -> tuple[Look, ...]:
    """The looks at one rollout, oldest first, each once."""
    mine = {e.id: e for e in evaluations if e.rollout == rollout}
    return tuple(
        Look(
            id=e.id,
            at=e.at,
            result=e.result,
            crossed=e.crossed,
            effect=e.effect,
            lower=e.lower,
            upper=e.upper,
            z=e.z,
            bound_win=e.bound_win,
            bound_harm=e.bound_harm,
            information=e.information_fraction,
            blocks=e.blocks,
            pairs=e.pairs,
        )
        for e in sorted(mine.values(), key=lambda e: e.at)
    )


def rollouts(history: History, evaluations: Sequence[events.Evaluation], begin: float, end: float) -> list[Rollout]:
    """Every rollout of the history, in order."""
    found: dict[str, Rollout] = {}
    evidence: dict[str, str | None] = {}
    for _, control in history:
        at = time_of(control, begin)
        running, last = control.rollout, control.last
        if running is not None:
            if running.id not in found:
                found[running.id] = Rollout(
                    id=running.id,
                    challenger=running.challenger,
                    champion=control.champion,
                    started=running.started_at,
                    started_by=last.actor if last else "",
                    started_why=last.reason if last else "",
                    state="running",
                    looks=looks(evaluations, running.id),
                )
            before = found[running.id].stages
            if not before or before[-1].stage != running.stage:
                new = StageTime(stage=running.stage, share=running.share, since=at, until=end)
                found[running.id] = msgspec.structs.replace(found[running.id], stages=(*_closed(before, at), new))
        for over in control.ended:
            rollout = found.get(over.id)
            if rollout is None or (rollout.state, rollout.ended) == (over.state, over.at):
                continue
            stages = _closed(rollout.stages, over.at) if rollout.ended is None else rollout.stages
            evidence[over.id] = last.evidence if last else None
            found[over.id] = msgspec.structs.replace(
                rollout, state=over.state, ended=over.at, actor=over.actor, reason=over.reason, stages=stages
            )
    return [
        msgspec.structs.replace(rollout, final=_final(rollout, evidence.get(name))) for name, rollout in found.items()
    ]


def _closed(stages: tuple[StageTime, ...], at: float) -> tuple[StageTime, ...]:
    return (*stages[:-1], msgspec.structs.replace(stages[-1], until=at)) if stages else ()


def _final(rollout: Rollout, evidence: str | None) -> Look | None:
    """The look that the decision names; without one (a breaker, a person, none yet), the last by the rollout's end."""
    for one in rollout.looks:
        if one.id == evidence:
            return one
    known = [one for one in rollout.looks if rollout.ended is None or one.at <= rollout.ended]
    return known[-1] if known else None


def drift(found: Sequence[events.Drift]) -> list[DriftStep]:
    """The drift events, each once."""
    once = {event.id: event for event in found}
    return [
        DriftStep(
            at=e.at,
            episode=e.episode,
            event=e.event,
            severity=e.severity,
            confidence=e.confidence,
            root_cause=e.root_cause,
            action=e.action,
            model=e.model,
            signals=tuple(e.signals),
            features=tuple(
                Feature(name=f.name, statistic=f.statistic, lower=f.lower, upper=f.upper) for f in e.features
            ),
        )
        for e in sorted(once.values(), key=lambda e: e.at)
    ]


def jobs(found: Sequence[events.Job]) -> list[Job]:
    """The retraining jobs: a job's events share its id, the last of them says how it ended."""
    asked: dict[str, float] = {}
    last: dict[str, events.Job] = {}
    for job in found:
        asked.setdefault(job.id, job.at)
        before = last.get(job.id)
        if before is None or before.status in ("pending", "running"):
            last[job.id] = job
    return [
        Job(
            id=job.id,
            asked=asked[job.id],
            ended=None if job.status in ("pending", "running") else job.at,
            status=job.status,
            trigger=job.trigger,
            severity=job.severity,
            reason=job.reason,
            champion=job.champion,
            version=job.version,
            accepted=job.accepted,
            metrics=job.metrics,
            seconds=job.seconds,
            error=job.error,
        )
        for job in last.values()
    ]


def timeline(history: History, drift: Sequence[DriftStep], jobs: Sequence[Job], begin: float) -> list[Moment]:
    """Everything that happened, in order: each moment with its reason and who acted."""
    found = [_decision(control, begin) for _, control in history]
    for step in drift:
        names = ", ".join(f.name for f in step.features[:3])
        text = f"{step.severity} {step.root_cause.replace('_', ' ')}" + (f": {names}" if names else "")
        found.append(
            Moment(
                at=step.at,
                kind=f"drift {step.event}",
                text=f"{text} ({step.model})",
                actor="evaluator",
                reason="; ".join(step.signals),
            )
        )
    for job in jobs:
        moment = Moment(
            at=job.asked,
            kind="job asked",
            text=f"{job.id} to succeed {job.champion}",
            actor="retrainer",
            reason=f"{job.trigger}, {job.severity}",
        )
        found.append(moment)
        if job.ended is None:
            continue
        kind = f"job {job.status}" if job.accepted is not False else "job rejected"
        text = f"{job.id} → {job.version}" if job.version else f"{job.id}: no new version"
        found.append(Moment(at=job.ended, kind=kind, text=text, actor="retrainer", reason=job.error or job.reason))
    # Of one instant: what caused something stands before it.
    order = ("drift", "job asked", "job", "rollout start")
    return sorted(
        found, key=lambda m: (m.at, next((i for i, k in enumerate(order) if m.kind.startswith(k)), len(order)))
    )


def _decision(control: Control, begin: float) -> Moment:
    last = control.last
    if last is None or last.command == "begin":
        return Moment(
            at=begin,
            kind="start",
            text=f"{control.champion} is champion",
            actor="gauntlet",
            reason=last.reason if last else "",
        )
    kind = _KINDS.get(last.command, last.command)
    if kind == "stage" and control.rollout is not None:
        to = "shadow" if control.rollout.stage == SHADOW_STAGE else share(control.share)
        text = f"{control.rollout.challenger} to {to}"
    elif kind == "bake passed":
        text = f"{control.champion} stays champion"
    else:
        text = last.detail or (control.rollout.challenger if control.rollout else "")
    return Moment(
        at=time_of(control, begin), kind=kind, text=text, actor=last.actor, reason=last.reason, rollout=last.rollout
    )
