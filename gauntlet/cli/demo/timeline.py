"""What happened when: control history, evaluations, drift and job events become rollouts and one timeline. Pure.

Nothing is inferred: each line is one recorded event or one accepted version of the control record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gauntlet import events
from gauntlet.cli.demo.report_model import (
    AllocationStep,
    OnRamp,
    RecordedJob,
    RecordedLook,
    RecordedRollout,
    StageTime,
    TimelineEntry,
)
from gauntlet.rollout import Control, Ended
from gauntlet.rollout import Rollout as RunningRollout

History = Sequence[tuple[int, Control]]
R = TypeVar("R")

_KINDS = {
    "challenge": "rollout start",
    "advance": "stage",
    "ramp": "stage",
    "promote": "promotion",
    "abort": "archive",
    "confirm": "bake passed",
}
_CAUSES_FIRST = ("drift", "job asked", "job", "rollout start")  # the order of entries of one instant
_UNFINISHED = ("pending", "running")


def time_of(control: Control, begin: float) -> float:
    """When this version of the record was made; the first one is older than any event, and counts from `begin`."""
    return max(begin, control.last.at if control.last else begin)


def share_text(value: float) -> str:
    """A share of the traffic in words; only a challenger in shadow has none."""
    return "shadow" if value == 0 else f"{100 * value:g} %"


def ramp(history: History, begin: float) -> list[AllocationStep]:
    """Who served whom from when on: one entry a version of the record."""
    return [
        AllocationStep(
            at=time_of(control, begin),
            version=version,
            allocation=control.allocation,
            champion=control.champion,
            on_ramp=tuple(OnRamp(rollout=r.id, challenger=r.challenger, share=r.share) for r in control.on_ramp),
        )
        for version, control in history
    ]


def jobs(found: Sequence[events.Job]) -> list[RecordedJob]:
    """The retraining jobs. A job's events share its id: the first says when it was asked for, the last how it ended."""
    asked: dict[str, float] = {}
    last: dict[str, events.Job] = {}
    for job in found:
        asked.setdefault(job.id, job.at)
        if job.id not in last or last[job.id].status in _UNFINISHED:
            last[job.id] = job
    return [
        _project(job, RecordedJob, asked=asked[job.id], ended=None if job.status in _UNFINISHED else job.at)
        for job in last.values()
    ]


def rollouts(
    history: History, evaluations: Sequence[events.Evaluation], begin: float, end: float
) -> list[RecordedRollout]:
    """Every rollout of the history, in order; `end` closes the stage of one that is still running.

    evaluations: oldest first.
    """
    found: dict[str, RecordedRollout] = {}
    for _, control in history:
        at = time_of(control, begin)
        last = control.last
        for running in control.rollouts:
            before = found.get(running.id) or _started(running, control, at, evaluations)
            if not before.stages or before.stages[-1].stage != running.stage:
                stage = StageTime(stage=running.stage, share=running.share, since=at, until=end)
                before = msgspec.structs.replace(before, stages=(*_closed(before.stages, at), stage))
            found[running.id] = before
        for ended in control.ended:
            rollout = found.get(ended.id)
            if rollout is not None and (rollout.state, rollout.ended) != (ended.state, ended.at):
                found[ended.id] = _ended(rollout, ended, last.evidence if last else None)
    return list(found.values())


def _started(
    running: RunningRollout, control: Control, at: float, evaluations: Sequence[events.Evaluation]
) -> RecordedRollout:
    """The rollout with all its looks; while it runs, the last one is its final look. at: when it began, which after a
    promotion is later than its challenger did."""
    once = {e.id: e for e in evaluations if e.rollout == running.id}
    looks = tuple(_project(e, RecordedLook, information=e.information_fraction) for e in once.values())
    return RecordedRollout(
        id=running.id,
        challenger=running.challenger,
        champion=control.champion,
        started=at,
        started_by=control.last.actor if control.last else "",
        started_why=control.last.reason if control.last else "",
        state="running",
        rule=running.rule,
        looks=looks,
        final=looks[-1] if looks else None,
    )


def _ended(rollout: RecordedRollout, ended: Ended, evidence: str | None) -> RecordedRollout:
    """The rollout with its end. The final look is the one that the decision names; a breaker's or a person's decision
    names none, and the last look before it counts."""
    named = [look for look in rollout.looks if look.id == evidence]
    known = named or [look for look in rollout.looks if look.at <= ended.at]
    return msgspec.structs.replace(
        rollout,
        state=ended.state,
        ended=ended.at,
        actor=ended.actor,
        reason=ended.reason,
        stages=_closed(rollout.stages, ended.at) if rollout.ended is None else rollout.stages,
        final=known[-1] if known else None,
    )


def _closed(stages: tuple[StageTime, ...], at: float) -> tuple[StageTime, ...]:
    return (*stages[:-1], msgspec.structs.replace(stages[-1], until=at)) if stages else ()


def timeline(
    history: History, drift: Sequence[events.Drift], jobs: Sequence[RecordedJob], begin: float
) -> list[TimelineEntry]:
    """Everything that happened, in order; of one instant, a cause stands before its effect."""
    rules = {rollout.id: rollout.rule for _, control in history for rollout in control.rollouts}
    found = [_decision(control, begin, rules) for _, control in history]
    for step in drift:
        names = ", ".join(feature.name for feature in step.features[:3])
        text = f"{step.severity} {step.root_cause.replace('_', ' ')}" + (f": {names}" if names else "")
        found.append(
            TimelineEntry(
                step.at, f"drift {step.event}", f"{text} ({step.model})", "evaluator", "; ".join(step.signals)
            )
        )
    for job in jobs:
        why = f"{job.trigger}, {job.severity}"
        found.append(TimelineEntry(job.asked, "job asked", f"{job.id} to succeed {job.champion}", "retrainer", why))
        if job.ended is not None:
            kind = f"job {job.status}" if job.accepted is not False else "job rejected"
            text = f"{job.id} → {job.version}" if job.version else f"{job.id}: no new version"
            found.append(TimelineEntry(job.ended, kind, text, "retrainer", job.error or job.reason))

    def rank(entry: TimelineEntry) -> int:
        return next((i for i, kind in enumerate(_CAUSES_FIRST) if entry.kind.startswith(kind)), len(_CAUSES_FIRST))

    return sorted(found, key=lambda entry: (entry.at, rank(entry)))


def _decision(control: Control, begin: float, rules: Mapping[str, str]) -> TimelineEntry:
    last = control.last
    if last is None or last.command == "begin":
        return TimelineEntry(begin, "start", f"{control.champion} is champion", "gauntlet", last.reason if last else "")
    kind = _KINDS.get(last.command, last.command)
    rollout = control.running(last.rollout)
    text = last.detail or (rollout.challenger if rollout else "")
    if kind == "stage" and rollout:
        text = f"{rollout.challenger} to {share_text(rollout.share)}"
    elif kind == "bake passed":
        text = f"{control.champion} stays champion"
    rule = rules.get(last.rollout or "", "")
    return TimelineEntry(time_of(control, begin), kind, text, last.actor, last.reason, last.rollout, rule)


def _project(event: events.Event, record: type[R], **more: Any) -> R:
    """The event's fields that `record` has too, and `more`."""
    names = record.__struct_fields__  # type: ignore[attr-defined]
    shared = {name: getattr(event, name) for name in names if hasattr(event, name)}
    return msgspec.convert(shared | more, record, from_attributes=True)
