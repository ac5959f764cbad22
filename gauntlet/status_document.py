"""The status document of an experiment: one versioned answer for people and machines. Pure.

Times are ISO 8601 in UTC, None where they are not known. Everything about the evidence is of the rollouts that run and
of the champion that serves; what stands here of others is under `ended`. Fields are only ever added within a schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from gauntlet import ledger_document, traffic_health
from gauntlet.config import Config
from gauntlet.config.rehearsal import notice
from gauntlet.decision_table import figures
from gauntlet.events import Drift, Evaluation, Health
from gauntlet.ledger_document import PromotionWorth
from gauntlet.next_steps import current, findings, outlook, place, verdict
from gauntlet.promotion_ledger import Ledger, Lineage
from gauntlet.rollout import Control, Ended, Rollout
from gauntlet.status import (
    Arrivals,
    EvaluatorProgress,
    FalseAlarms,
    Problem,
    RetrainerProgress,
    RouterProgress,
    ServedChallenger,
    moment,
    worst_first,
)
from gauntlet.traffic_health import TrafficStatus

SCHEMA = 1
_ENDED_SHOWN = 5
_PROMOTIONS_SHOWN = 5
_TIMES = frozenset(
    {"at", "since", "until", "began", "champion_since", "seen", "started_at", "stage_since", "watermark", "latest"}
    | {"unanswered_since"}
)
"""Fields of records that hold seconds since the epoch."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What this router replica answers with. `share`: of the traffic, that the challengers have together."""

    version: int
    champion: str
    share: float
    challengers: list[ServedChallenger] = []


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted change of the control record: its number, who made it, when and why. worth: of a promotion, in the
    history."""

    version: int
    command: str
    decision: str
    actor: str
    reason: str
    at: datetime | None
    champion: str
    share: float
    rollout: str | None = None
    detail: str = ""
    worth: PromotionWorth | None = None


class RolloutStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One running challenger: where it is, what the evidence says (`verdict`, and its figures in words), what is
    `next`, and what that waits for.

    stage: its index in the ramp, -1 in shadow; `place` says it in words. not_before: the next step is possible from
    then on. promotion: not before that. latest: it ends then without a winner. look: the latest evaluation, whole.
    """

    id: str
    challenger: str
    rule: str
    stage: int
    place: str
    share: float
    started: datetime | None
    stage_since: datetime | None
    paused: bool
    result: str | None
    cause: str | None
    verdict: str
    figures: str
    reasons: list[str]
    looked: datetime | None
    next: str
    waits: list[str]
    not_before: datetime | None
    promotion: datetime | None
    latest: datetime | None
    look: dict[str, Any] | None = None


class BakeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The watch over a promoted champion. `gain`: by how much its loss was below that of the one before on the same
    requests since then, with its interval, over `pairs`."""

    rollout: str
    previous: str | None
    since: datetime | None
    until: datetime | None
    gain: float | None = None
    lower: float | None = None
    upper: float | None = None
    pairs: int = 0


class EndedStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout that is over: `state` is promoted, rolled_back or archived."""

    id: str
    challenger: str
    champion: str
    state: str
    at: datetime | None
    actor: str
    reason: str


class LatestJobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The latest retraining job. `step`: what it does while it runs. `version`: what it made; without one `reason` says
    why there is none. cool_down_until: no other starts before, but for a CRITICAL drift that is new."""

    job: str
    status: str
    step: str
    trigger: str
    at: datetime | None
    version: str | None
    reason: str
    cool_down_until: datetime | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one experiment.

    at: the experiment's own time. notice: what has to be known of a rehearsal. version: of the control record.
    `problems`: all that are known, the most severe first; each has what to do. worth: what the latest promotions were
    worth, the newest first; lineage: all since the first model together. `false_alarms`: of the continuous A/A slice,
    where it is on. `drift`, `health`: of the champion that serves. `traffic`: what arrives, at the machine's time.
    """

    schema: int
    at: datetime | None
    experiment: str
    profile: str
    notice: str | None
    task: str
    metric: str
    version: int
    champion: str | None
    champion_since: datetime | None
    previous: str | None
    share: float | None
    serving: Serving | None
    problems: list[Problem]
    traffic: TrafficStatus | None = None
    rollouts: list[RolloutStatus] = []
    bake: BakeStatus | None = None
    worth: list[PromotionWorth] = []
    lineage: Lineage | None = None
    last: Change | None = None
    ended: list[EndedStatus] = []
    retraining: LatestJobStatus | None = None
    false_alarms: FalseAlarms | None = None
    drift: dict[str, Any] | None = None
    health: dict[str, Any] | None = None
    aliases: dict[str, str] = {}
    control: dict[str, Any] | None = None
    evaluator: dict[str, Any] | None = None
    retrainer: dict[str, Any] | None = None
    routers: list[dict[str, Any]] = []


class Reports(msgspec.Struct, frozen=True, kw_only=True):
    """What the services tell of themselves; None where one has not yet, or the state store does not answer."""

    evaluator: EvaluatorProgress | None = None
    retrainer: RetrainerProgress | None = None
    routers: list[RouterProgress] = []


def document(
    config: Config,
    version: int,
    control: Control | None,
    serving: Serving | None,
    reports: Reports,
    problems: Sequence[Problem],
    aliases: dict[str, str],
    now: float,
    arrived: Sequence[Arrivals] = (),
) -> Document:
    """The document at `now`, the experiment's time. problems: of the router itself; those of the others are added.
    arrived: what each replica says of its traffic."""
    evaluator, retrainer = reports.evaluator, reports.retrainer
    looks = evaluator.evaluations if evaluator else {}
    drift = _drift(control, evaluator)
    found = [*problems, *(evaluator.problems if evaluator else []), *(retrainer.problems if retrainer else [])]
    found += traffic_health.findings(arrived, config)
    if control is not None:
        found += findings(control, looks, drift, retrainer.jobs if retrainer else [], config, now)
    health = _health(control, evaluator)
    ledger = evaluator.worth if evaluator else Ledger()
    return Document(
        schema=SCHEMA,
        at=moment(now),
        experiment=config.experiment,
        profile=config.profile,
        notice=notice(config),
        task=str(config.task),
        metric=config.metric,
        version=version,
        champion=control.champion if control else None,
        champion_since=moment(control.champion_since) if control else None,
        previous=control.previous if control else None,
        share=control.share if control else None,
        serving=serving,
        problems=worst_first(found),
        traffic=traffic_health.traffic(arrived, evaluator),
        rollouts=_rollouts(control, looks, config, now),
        bake=_bake(control, health),
        worth=ledger_document.promotions(ledger, control)[:_PROMOTIONS_SHOWN],
        lineage=ledger_document.lineage(ledger, control),
        last=change(version, control) if control else None,
        ended=[_ended(each) for each in reversed(control.ended[-_ENDED_SHOWN:])] if control else [],
        retraining=_retraining(retrainer, config, now),
        false_alarms=evaluator.false_alarms if evaluator else None,
        drift=plain(drift),
        health=plain(health),
        aliases=aliases,
        control=plain(control),
        evaluator=plain(evaluator, "evaluations", "health", "drift", "worth", "problems", "false_alarms"),
        retrainer=plain(retrainer, "problems"),
        routers=[plain(each, "problems") or {} for each in reports.routers],
    )


def change(version: int, control: Control) -> Change | None:
    """The change that made this version of the control record."""
    last = control.last
    if last is None:
        return None
    return Change(
        version=version,
        command=last.command,
        decision=str(last.decision),
        actor=last.actor,
        reason=last.reason,
        at=moment(last.at),
        champion=control.champion,
        share=control.share,
        rollout=last.rollout,
        detail=last.detail,
    )


def plain(record: msgspec.Struct | None, *without: str) -> dict[str, Any] | None:
    """A record as JSON-able values without some of its fields, its times in ISO 8601."""
    if record is None:
        return None
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return {name: _with_times(name, value) for name, value in fields.items() if name not in without}


def _with_times(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _with_times(inner, each) for inner, each in value.items()}
    if isinstance(value, list):
        return [_with_times("", each) for each in value]
    if name in _TIMES and isinstance(value, int | float):
        return msgspec.to_builtins(moment(value))
    return value


def _drift(control: Control | None, evaluator: EvaluatorProgress | None) -> Drift | None:
    """The open drift of the champion that serves. What was found before it took over is about another time."""
    drift = evaluator.drift if evaluator else None
    if control is None or drift is None or drift.event == "close":
        return None
    return drift if drift.model == control.champion and drift.at >= control.champion_since else None


def _health(control: Control | None, evaluator: EvaluatorProgress | None) -> Health | None:
    """The health of the champion that serves, since it took over."""
    health = evaluator.health if evaluator else None
    if control is None or health is None:
        return None
    return health if health.model == control.champion and health.at >= control.champion_since else None


def _rollouts(
    control: Control | None, looks: Mapping[str, Evaluation], config: Config, now: float
) -> list[RolloutStatus]:
    if control is None:
        return []
    return [_rollout(control, each, current(control, each, looks), config, now) for each in control.rollouts]


def _rollout(control: Control, rollout: Rollout, look: Evaluation | None, config: Config, now: float) -> RolloutStatus:
    ahead = outlook(control, rollout, look, config, now)
    return RolloutStatus(
        id=rollout.id,
        challenger=rollout.challenger,
        rule=str(rollout.rule),
        stage=rollout.stage,
        place=place(rollout),
        share=rollout.share,
        started=moment(rollout.started_at),
        stage_since=moment(rollout.stage_since),
        paused=rollout.paused,
        result=look.result if look else None,
        cause=str(look.cause) if look else None,
        verdict=verdict(look, config),
        figures=figures(look) if look else "",
        reasons=look.reasons if look else [],
        looked=moment(look.at) if look else None,
        next=ahead.next,
        waits=list(ahead.waits),
        not_before=moment(ahead.not_before),
        promotion=moment(ahead.promotion),
        latest=moment(ahead.latest),
        look=plain(look),
    )


def _bake(control: Control | None, health: Health | None) -> BakeStatus | None:
    if control is None or control.bake is None:
        return None
    bake = control.bake
    known = health if health is not None and health.previous == control.previous else None
    return BakeStatus(
        rollout=bake.rollout,
        previous=control.previous,
        since=moment(bake.since),
        until=moment(bake.until),
        gain=known.realised_gain if known else None,
        lower=known.realised_lower if known else None,
        upper=known.realised_upper if known else None,
        pairs=known.realised_pairs if known else 0,
    )


def _retraining(retrainer: RetrainerProgress | None, config: Config, now: float) -> LatestJobStatus | None:
    if retrainer is None or not (retrainer.running or retrainer.jobs):
        return None
    job = retrainer.running or retrainer.jobs[-1]
    until = job.at + config.retrain.cool_down
    cooling = retrainer.running is None and config.retrain.enabled and until > now
    return LatestJobStatus(
        job=job.id,
        status=job.status,
        step=job.step,
        trigger=job.trigger,
        at=moment(job.at),
        version=job.version,
        reason=job.error or job.reason,
        cool_down_until=moment(until) if cooling else None,
    )


def _ended(each: Ended) -> EndedStatus:
    fields = {name: getattr(each, name) for name in EndedStatus.__struct_fields__}
    return EndedStatus(**{**fields, "at": moment(each.at)})


def changes(records: Iterable[tuple[int, Control]], ledger: Ledger) -> list[Change]:
    """The history of the control record, oldest first, with what each promotion was worth."""
    history = list(records)
    present = history[-1][1] if history else None
    worth = {each.promotion: each for each in ledger_document.promotions(ledger, present)}
    found = [made for version, control in history if (made := change(version, control)) is not None]
    return [
        msgspec.structs.replace(one, worth=worth.get(one.rollout or "")) if one.command == "promote" else one
        for one in found
    ]
