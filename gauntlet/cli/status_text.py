"""The status document, the history and the answers to commands as text for a person. Pure.

Order: what serves, what needs somebody, each challenger with its verdict and what comes next, then what was.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from gauntlet import ledger_document
from gauntlet.clock import lasting
from gauntlet.next_steps import percent
from gauntlet.spelling import printable
from gauntlet.status import FalseAlarms, Problem
from gauntlet.status_document import BakeStatus, Change, Document, RolloutStatus
from gauntlet.traffic_health import TrafficStatus
from gauntlet.types import Decision, Severity

_WIDTH = 110
_LABEL = 11
_REASONS = 2  # of the evidence; the others are on how it was computed
_ENDED = 3
_PROMOTIONS = 3


def status(found: Document) -> str:
    """The whole status."""
    now = found.at
    blocks = [_serving(found) + _traffic(found.traffic), _problems(found.problems, now)]
    blocks += [_rollout(each, now) for each in found.rollouts]
    if found.bake is not None:
        blocks.append(_bake(found, found.bake))
    blocks.append(_worth(found))
    blocks.append([*_retraining(found), *_past(found), *_false_alarms(found.false_alarms, now)])
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def history(changes: Sequence[Change], now: datetime | None) -> str:
    """Every change, oldest first."""
    if not changes:
        return "no change\n"
    lines = []
    for one in changes:
        lead = f"{one.version:>4}  {_at(one.at, now)}  "
        lines += _wrapped(lead, f"{done(one)}, by {one.actor}: {one.reason}")
        if one.worth is not None:
            lines += _wrapped(" " * len(lead), f"realised gain: {ledger_document.sentence(one.worth)}")
    return "\n".join(lines) + "\n"


def done(one: Change) -> str:
    """What a change did, in a few words."""
    words = _DONE.get(one.command, one.command)
    return words + (f" {one.rollout}" if one.rollout else "") + (f" ({one.detail})" if one.detail else "")


_DONE = {
    "begin": "began",
    "challenge": "began rollout",
    "advance": "advanced",
    "ramp": "set the stage of",
    "allocate": "set the share of",
    "pause": "paused",
    "resume": "resumed",
    "approve": "approved",
    "extend": "extended",
    "promote": "promoted",
    "rollback": "rolled back",
    "abort": "archived",
    "archive": "archived",
    "confirm": "ended the bake of",
    "close": "ended the comparison since",
}


def answer(changed: bool, one: Change, found: Document) -> str:
    """What a command did, where `one` is the last change."""
    if changed:
        return "\n".join(_wrapped("", f"{done(one)}, by {one.actor}: {one.reason}")) + "\n"
    text = f"nothing changed: it was done already (last change: {done(one)}, {_ago(one.at, found.at)})"
    if one.decision == Decision.ROLLBACK and found.previous is not None:
        text += f"; to take champion {found.champion} out, too, say where to:  gauntlet rollback --to {found.previous}"
    return "\n".join(_wrapped("", text)) + "\n"


def _serving(found: Document) -> list[str]:
    head = [f"{found.experiment} at {_at(found.at, None)}"]
    if found.notice is not None:
        head += _wrapped("", found.notice)
    if found.champion is None:
        return [*head, "no control record can be read: see the problems"]
    left = percent(1 - (found.share or 0))
    share = "all of the traffic" if not found.share else f"{left} of the traffic"
    lines = [
        *head,
        *_wrapped("", f"champion {found.champion} serves {share}, {_since(found.champion_since, found.at)}"),
    ]
    if not found.rollouts:
        lines.append("no challenger runs; one comes from a retraining, or by  gauntlet challenge")
    here = found.serving
    if here is not None and here.version < found.version:
        behind = f"(change {here.version} of {found.version})"
        lines += _wrapped("", f"this router is behind: it still answers with champion {here.champion} {behind}")
    return lines


def _traffic(traffic: TrafficStatus | None) -> list[str]:
    """What arrives, and how much of it counts."""
    if traffic is None:
        return []
    lines = []
    for name, flow in (("predictions", traffic.predictions), ("outcomes", traffic.outcomes)):
        text = f"the latest {_ago(flow.latest, traffic.at)}" if flow.latest else "none yet"
        rate = flow.count / traffic.seconds if traffic.seconds else 0.0
        often = f"{rate:,.3g} a second" if rate >= 1 else f"{60 * rate:.3g} a minute"
        lately = f"{flow.count:,} in the last {lasting(traffic.seconds)} ({often})"
        parts = [text, lately if flow.count else f"none in the last {lasting(traffic.seconds)}" if flow.latest else ""]
        if flow.refused:
            parts.append(f"{flow.refused:,} refused, the latest with `{flow.refusal}`")
        used = traffic.joined + traffic.late + traffic.orphans
        if flow is traffic.outcomes and used:
            share = math.floor(1000 * traffic.joined / used) / 10  # never 100 % where one is missing
            parts.append(f"{share:g} % of those counted met their prediction in time")
        lines += _labelled(name, ["; ".join(part for part in parts if part)])
    return lines


def _problems(problems: Sequence[Problem], now: datetime | None) -> list[str]:
    if not problems:
        return ["nothing needs you"]
    only_to_know = all(one.severity == Severity.LOW for one in problems)
    lines = ["nothing needs you; to know:" if only_to_know else "to do, the most severe first:"]
    for one in problems:
        since = f" ({_ago(one.since, now)})" if one.since else ""
        lines += _labelled(one.severity, [f"{one.text}{since}", f"→ {one.remedy}"])
    return lines


def _rollout(one: RolloutStatus, now: datetime | None) -> list[str]:
    paused = ", PAUSED" if one.paused else ""
    head = f"challenger {one.challenger} ({one.id}, {one.rule}) {one.place}{paused}, {_since(one.stage_since, now)}"
    return [
        *_wrapped("", head),
        *_labelled("verdict", [one.verdict]),
        *_labelled("evidence", _evidence(one, now)),
        *_labelled("next", _next(one, now)),
    ]


def _evidence(one: RolloutStatus, now: datetime | None) -> Iterator[str]:
    if one.figures:
        known = one.look is not None and one.look.get("effect") is not None
        yield one.figures + ("; positive: the challenger is better" if known else "")
    yield from (reason for reason in one.reasons[:_REASONS] if reason not in one.verdict)
    if one.looked is not None:
        yield f"latest look {_ago(one.looked, now)}"


def _next(one: RolloutStatus, now: datetime | None) -> Iterator[str]:
    yield f"{one.next}{f', not before {_ahead(one.not_before, now)}' if one.not_before else ''}"
    if one.waits:
        yield f"waits for {'; '.join(one.waits)}"
    if one.promotion is not None and one.next != "is promoted":
        yield f"promoted not before {_ahead(one.promotion, now)}"
    if one.latest is not None:
        yield f"without a winner archived at the latest {_ahead(one.latest, now)}"


def _bake(found: Document, bake: BakeStatus) -> list[str]:
    now = found.at
    lines = [f"{found.champion} is watched until {_ahead(bake.until, now)}; if it falls below what it has shown,"]
    lines.append(f"{bake.previous} takes over again by itself")
    text = ["no matured outcome yet"]
    if bake.pairs:
        text = [f"{bake.pairs:,} pairs since the promotion, too few blocks for an interval"]
    if bake.gain is not None and bake.lower is not None and bake.upper is not None:
        gain = f"loss lower by {bake.gain:+.4g} [{bake.lower:+.4g}, {bake.upper:+.4g}]"
        text = [f"{gain} than that of {bake.previous} on {bake.pairs:,} pairs since the promotion"]
    return [*_wrapped("", " ".join(lines)), *_labelled("gain", text)]


def _worth(found: Document) -> list[str]:
    """What the latest promotions were worth, and all together."""
    lines = [ledger_document.sentence(one) for one in found.worth[:_PROMOTIONS]]
    if found.lineage is not None and found.lineage.links > 1:  # of one link it would be the same gain once more
        lines.append(ledger_document.lineage_sentence(found.lineage))
    return ["what promotions were worth: by how much the loss was lower", *_labelled("", lines)] if lines else []


def _retraining(found: Document) -> list[str]:
    job, now = found.retraining, found.at
    if job is None:
        return []
    if job.status in ("pending", "running"):
        text = f"{job.job}, by {job.trigger}, is {job.status}: {job.step}"
    else:
        answer = f"made {job.version}" if job.version else f"gave no challenger ({job.status}): {job.reason}"
        text = f"{job.job}, by {job.trigger}, {answer}, {_ago(job.at, now)}"
    until = [f"cool-down until {_ahead(job.cool_down_until, now)}"] if job.cool_down_until else []
    return _labelled("retraining", [text, *until])


def _false_alarms(aa: FalseAlarms | None, now: datetime | None) -> list[str]:
    if aa is None:
        return []
    text = f"none is finished yet; {aa.level:.1%} of them may cross a boundary"
    if aa.rate is not None:
        limits = f"[{aa.lower:.1%}, {aa.upper:.1%}]"
        text = f"{aa.alarms} of {aa.rounds} crossed a boundary: {aa.rate:.1%} {limits}, where {aa.level:.1%} may"
    under_way = [f"the next is at {aa.information_fraction:.0%} and ends {_ahead(aa.round_ends, now)}"]
    return _labelled("A/A tests", [text, *(under_way if aa.round_ends else [])])


def _past(found: Document) -> list[str]:
    ended = [
        f"{one.id} ({one.challenger} against {one.champion}) {one.state.replace('_', ' ')} "
        f"{_ago(one.at, found.at)} by {one.actor}"
        for one in found.ended[:_ENDED]
    ]
    lines = _labelled("ended", ended)
    if (last := found.last) is not None:
        lines += _labelled("last change", [f"{done(last)} {_ago(last.at, found.at)}, by {last.actor}: {last.reason}"])
    return lines


def _since(at: datetime | None, now: datetime | None) -> str:
    return "since a time that is not known" if at is None else f"since {_at(at, now)} ({_ago(at, now)})"


def _at(at: datetime | None, now: datetime | None) -> str:
    """A time in UTC, without the day where that is today."""
    if at is None:
        return "a time that is not known"
    today = now is not None and at.date() == now.date()
    return f"{at:%H:%M:%S} UTC" if today else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _ago(at: datetime | None, now: datetime | None) -> str:
    if at is None or now is None:
        return "at a time that is not known"
    return f"{lasting(round(max(0.0, (now - at).total_seconds())))} ago"


def _ahead(at: datetime | None, now: datetime | None) -> str:
    if at is None or now is None:
        return _at(at, now)
    seconds = (at - now).total_seconds()
    return f"{_at(at, now)} ({f'in {lasting(round(seconds))}' if seconds > 0 else 'now'})"


def _labelled(label: str, texts: Iterable[str]) -> list[str]:
    """Lines with a label before the first."""
    lines: list[str] = []
    for text in texts:
        lead = f"  {'' if lines else label:<{_LABEL}} "
        lines += _wrapped(lead, text)
    return lines


def _wrapped(lead: str, text: str) -> list[str]:
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead))
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(printable(text)) or [lead.rstrip()]
