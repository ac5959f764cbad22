"""The retrainer's answers as text for a person. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from textwrap import shorten

from gauntlet.ledger_document import figures, lineage_sentence, sentence
from gauntlet.retraining_document import (
    CheckDocument,
    CommandDocument,
    ConditionDocument,
    JobDocument,
    ReportDocument,
    ReportLine,
    RequestDocument,
    TriggerDocument,
)
from gauntlet.spelling import printable

_LONGEST_ERROR = 160
_MARKS = {True: "yes", False: "no", None: "unknown"}


def check(found: CheckDocument) -> str:
    """Whether a job is due, the open requests, and every condition."""
    verdict = "a job would start now" if found.should_retrain else "no job would start now"
    lines = [f"{found.model} at {moment(found.at)}: {verdict}"]
    if not found.monitoring:
        lines.append("monitoring is stopped: nothing starts a job by itself")
    for one in found.requests:
        lines += request(one).splitlines()
        lines += [f"  waits for {what}" for what in found.waits.get(one.key, ())]
    return _joined(lines + conditions(found.conditions))


def conditions(found: Sequence[ConditionDocument]) -> list[str]:
    """A line for each: whether it is met, of which trigger, and its numbers."""
    width = max((len(f"{one.trigger} {one.name}") for one in found), default=0)
    return [f"  {_MARKS[one.met]:<8} {f'{one.trigger} {one.name}':<{width}}  {one.detail}" for one in found]


def request(found: RequestDocument) -> str:
    """One line on an open request."""
    agreed = f", approved by {found.approved_by}" if found.approved_by else ""
    return _joined([f"request {found.id} ({found.trigger}, {found.severity}, {found.mode}{agreed}): {found.reason}"])


def declined(found: RequestDocument) -> str:
    """A declined request, as text."""
    return _joined([f"request {found.id} is closed without jobs: {found.reason}"])


def trigger(found: TriggerDocument) -> str:
    """What a trigger started, or why nothing."""
    if found.accepted:
        return _joined([f"started {', '.join(found.jobs)}"])
    if found.waiting:
        command = f'gauntlet retrain approve {found.request} --reason "…"'
        return _joined([f"request {found.request} waits until somebody else approves it:  {command}"])
    refused = [one for one in found.conditions if one.met is False]
    return _joined(["refused: no job was started", *conditions(refused)])


def jobs(found: Sequence[JobDocument]) -> str:
    """A line for each job."""
    return _joined([_job_line(one) for one in found] or ["no job yet"])


def job(found: JobDocument) -> str:
    """One job with what it does, or what became of it."""
    lines = [_job_line(found), f"  asked for  {found.reason}{f' (by {found.by})' if found.by else ''}"]
    if (now := found.progress) is not None:
        place = f", {now.steps_done + 1} of {now.steps_planned} steps" if now.steps_planned else ""
        share = f"{place}, {now.share:.0%} of the job" if now.share is not None else place
        alive = f", alive at {moment(now.heartbeat)}" if now.heartbeat else ""
        memory = f", {now.memory_bytes / 2**20:,.0f} MiB" if now.memory_bytes else ""
        seconds = f" for {now.seconds:.0f} s" if now.seconds is not None else ""
        lines.append(f"  step       {now.step}{seconds}{share}{memory}{alive}")
    for label, text in (
        ("decision", found.decision),
        ("error", found.error),
        *(("warning", one) for one in found.warnings),
    ):
        if text:
            lines.append(f"  {label:<10} {text}")
    return _joined(lines)


def log(found: str) -> str:
    """What a job has printed, without what a terminal would obey."""
    return "".join(f"{printable(line)}\n" for line in found.splitlines())


def history(found: Sequence[CommandDocument]) -> str:
    """A line for each command, the oldest first."""
    lines = []
    for one in found:
        about = f" {', '.join(one.about)}" if one.about else ""
        reason = f": {one.reason}" if one.reason else ""
        lines.append(f"{one.number:>4}  {moment(one.at)}  {one.command}{about}, by {one.actor}{reason} → {one.outcome}")
    return _joined(lines or ["no command yet"])


def report(found: ReportDocument) -> str:
    """Totals, a line for each promotion, and one for each job."""
    counted = ", ".join(f"{number} {status}" for status, number in sorted(found.by_status.items()))
    jobs = f"{found.jobs} job{'' if found.jobs == 1 else 's'} ({counted or 'none'})"
    head = [
        f"{found.model} at {moment(found.at)}: champion {found.champion}, {jobs}",
        f"{found.accepted} passed the gate, {found.promoted} promoted",
    ]
    head += [f"realised gain: {sentence(one)}" for one in found.promotions]
    if found.lineage is not None:
        head.append(f"together: {lineage_sentence(found.lineage)}")
    return _joined(head + [report_line(one) for one in found.lines])


def report_line(one: ReportLine) -> str:
    """trigger → data → candidate → gate → rollout → decision → realised gain."""
    steps = [f"{one.trigger} {one.severity}".strip()]
    if one.train_rows is not None:
        steps.append(f"{one.train_rows:,} + {one.holdout_rows or 0:,} rows")
    if one.version is not None:
        steps.append(one.version)
    if one.improvement is not None:
        passed = "passed" if one.accepted else "not passed"
        steps.append(f"gate {passed} ({one.improvement:+.4g})")
    if one.rollout is not None:
        state = (one.state or "").replace("_", " ")
        steps.append(f"{one.rollout} {state}".strip() if state != one.outcome else one.rollout)
    if one.gain is not None:
        steps.append(f"realised {figures(one.gain, one.gain_lower, one.gain_upper)}")
    outcome = f"{one.outcome}: {shorten(one.error, _LONGEST_ERROR)}" if one.error else one.outcome
    return f"{one.job}  {moment(one.at)}  {' → '.join([*steps, outcome])}"


def _job_line(one: JobDocument) -> str:
    what = {True: f"made {one.version}", False: "keeps the champion", None: ""}[one.accepted]
    return f"{one.id}  {moment(one.created)}  {one.status:<9}  {one.trigger}, {one.recipe}{f': {what}' if what else ''}"


def moment(at: datetime | None) -> str:
    """A time of an answer."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at is not None else "a time that is not known"


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{printable(line)}\n" for line in lines)
