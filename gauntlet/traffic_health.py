"""Whether traffic arrives: the replicas' reports as one, and what an operator has to know of it. Pure.

Times are the machines' own, whatever the experiment's clock is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from gauntlet import recent
from gauntlet.clock import lasting
from gauntlet.config import Config
from gauntlet.status import Arrivals, EvaluatorProgress, Flow, Problem, moment
from gauntlet.types import Severity

CODES = ("no_predictions", "no_outcomes", "predictions_refused", "outcomes_refused")
"""Of the problems that the traffic may have."""

SILENT_SECONDS = 300.0
"""No silence is worth a word before."""

_TIMES_LONGER = 3.0  # than any gap known, from which on a silence is unusual
_FEWEST = 20  # refusals that are worth a word


class FlowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions, or outcomes: when the `latest` came, how many were taken and refused in the last `seconds` of the
    traffic, and the code of the latest refusal among them."""

    latest: datetime | None
    count: int
    refused: int
    refusal: str | None


class TrafficStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What arrives at all router replicas together, at the machine's time `at`, which is not that of a replay.

    joined, late, orphans: what became of the outcomes that the evaluator has counted in the last `seconds`: they met
    their prediction in time, or too late, or none.
    """

    at: datetime | None
    seconds: float
    predictions: FlowStatus
    outcomes: FlowStatus
    joined: int = 0
    late: int = 0
    orphans: int = 0


def traffic(reports: Sequence[Arrivals], evaluator: EvaluatorProgress | None) -> TrafficStatus | None:
    """One status of all replicas' reports; None without any."""
    if not reports:
        return None
    now = max(one.at for one in reports)
    counts = evaluator.recent if evaluator is not None and evaluator.at > now - recent.SECONDS else {}
    return TrafficStatus(
        at=moment(now),
        seconds=round(min(recent.SECONDS, max(now - one.since for one in reports)), 1),
        predictions=_flow([one.predictions for one in reports]),
        outcomes=_flow([one.outcomes for one in reports]),
        joined=counts.get("joined", 0),
        late=counts.get("late", 0),
        orphans=counts.get("orphan", 0),
    )


def _flow(flows: Sequence[Flow]) -> FlowStatus:
    return FlowStatus(
        latest=moment(max(flow.latest for flow in flows)),
        count=sum(flow.count for flow in flows),
        refused=sum(flow.refused for flow in flows),
        refusal=next((flow.refusal for flow in flows if flow.refusal), None),
    )


def findings(reports: Sequence[Arrivals], config: Config) -> Iterator[Problem]:
    """Problems of the traffic. In a replay a silence says nothing: its time stands still."""
    if not reports:
        return
    now = max(one.at for one in reports)
    predictions, outcomes = [one.predictions for one in reports], [one.outcomes for one in reports]
    yield from _refused("predictions", predictions, "let the callers send what `/v1/predict` takes (see /docs)")
    yield from _refused("outcomes", outcomes, "send the ids that the predictions were answered with, and a label")
    if config.clock != "wall":
        return
    if (silence := _silence("prediction", predictions, now)) is not None:
        yield Problem(
            code="no_predictions",
            severity=Severity.MEDIUM,
            source="traffic",
            text=silence,
            remedy="see that the callers run and reach this router; if they are meant to be silent, nothing",
            since=moment(max(flow.latest for flow in predictions)),
        )
    yield from _unanswered(reports, outcomes, now, float(config.evidence.outcome_horizon))


def _unanswered(reports: Sequence[Arrivals], outcomes: Sequence[Flow], now: float, horizon: float) -> Iterator[Problem]:
    """Predictions come, and no outcome does."""
    latest = max(flow.latest for flow in outcomes)
    waiting = [one.unanswered_since for one in reports if one.unanswered_since > latest]
    if not waiting:
        return
    waited = now - min(waiting)
    severity, text = Severity.MEDIUM, _silence("outcome", outcomes, now)
    if waited > max(horizon, SILENT_SECONDS):
        severity = Severity.HIGH
        text = f"no outcome {_since(latest, now)}, and none counts {lasting(horizon)} after its prediction"
    if text is not None and waited > SILENT_SECONDS:
        yield Problem(
            code="no_outcomes",
            severity=severity,
            source="traffic",
            text=f"predictions were made, and no outcomes come: {text}",
            remedy="see that what sends them to `/v1/outcomes` runs, and what it is answered",
            since=moment(min(waiting)),
        )


def _silence(name: str, flows: Sequence[Flow], now: float) -> str | None:
    """That nothing has come for unusually long; None where that is not so, or nobody knows what is usual."""
    gaps = [flow.longest_gap for flow in flows if flow.longest_gap is not None]
    latest = max(flow.latest for flow in flows)
    if not gaps or now - latest <= max(SILENT_SECONDS, _TIMES_LONGER * max(gaps)):
        return None
    usual = lasting(max(1.0, max(gaps)))
    return f"no {name} {_since(latest, now)}, and before that never more than {usual} passed between two"


def _since(latest: float, now: float) -> str:
    return f"for {lasting(round(now - latest))}" if latest else "yet"


def _refused(name: str, flows: Sequence[Flow], remedy: str) -> Iterator[Problem]:
    taken, refused = sum(flow.count for flow in flows), sum(flow.refused for flow in flows)
    if refused >= max(_FEWEST, taken):
        code = next(flow.refusal for flow in flows if flow.refusal)
        yield Problem(
            code=f"{name}_refused",
            severity=Severity.HIGH,
            source="traffic",
            text=f"most {name} are refused: {refused:,} of {taken + refused:,} in the last "
            f"{lasting(recent.SECONDS)}, the latest with `{code}`",
            remedy=f"{remedy}; the answers to the callers say what is wrong",
        )
