"""All Prometheus metrics: name, meaning, labels. Units stand in the name; no label is unbounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

from gauntlet import keys
from gauntlet.types import CHALLENGER, CHAMPION, PREVIOUS, Decision, Result

RollbackCause = Literal["breaker", "evidence", "operator", "preflight", "watch"]
"""What led to a rollback."""

# Router
REQUESTS = Counter(
    "gauntlet_requests_total",
    "Predictions answered or refused, by assigned and served arm and HTTP status",
    ["experiment", "arm_assigned", "arm_served", "code"],
)
REQUEST_SECONDS = Histogram(
    "gauntlet_request_seconds",
    "Time from a predict request's arrival to its answer, by served arm",
    ["experiment", "arm_served"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
FALLBACKS = Counter(
    "gauntlet_fallback_total",
    "Requests of the challenger that the champion answered instead, by reason",
    ["experiment", "reason"],
)
REFUSED = Counter(
    "gauntlet_refused_total", "Requests refused, by route and machine-readable reason", ["route", "reason"]
)
BREAKER = Gauge("gauntlet_breaker_state", "Breaker of an arm: 0 closed, 1 open", ["experiment", "arm"])
SHARE = Gauge("gauntlet_allocation_share", "Share of traffic in force, by arm", ["experiment", "arm"])
STAGE = Gauge(
    "gauntlet_stage_index", "Stage of the ramp: -2 no rollout, -1 shadow, then the index from 0", ["experiment"]
)
EPOCH = Gauge("gauntlet_epoch", "Version of the control record that this replica serves", ["experiment"])
SHADOWS = Counter(
    "gauntlet_shadow_total", "Shadow scores by result: scored, failed or dropped", ["experiment", "result"]
)
EVENTS_SPILLED = Gauge(
    "gauntlet_events_spilled", "Events in the router's own log that are not yet forwarded", ["topic"]
)
EVENTS_LOST = Counter("gauntlet_events_lost_total", "Events that could not be kept, by topic and arm", ["topic", "arm"])
OUTCOMES_RECEIVED = Counter("gauntlet_outcomes_received_total", "Outcomes accepted by the router", ["experiment"])

# Evaluator
OUTCOMES = Counter(
    "gauntlet_outcomes_total", "Outcomes by result: joined, late, duplicate, conflict, orphan", ["experiment", "result"]
)
JOIN_LAG = Histogram(
    "gauntlet_join_lag_seconds",
    "Event time between a prediction and its outcome",
    ["experiment"],
    buckets=(1, 10, 60, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400, 604_800),
)
WATERMARK = Gauge("gauntlet_watermark_seconds", "Event time up to which every exposure has matured", ["experiment"])
EVALUATOR_LAG = Gauge(
    "gauntlet_evaluator_lag_events", "Events on the log that the evaluator has not folded", ["experiment"]
)
EFFECT = Gauge(
    "gauntlet_effect", "Effect of the challenger, positive when better, in the metric's units", ["experiment", "metric"]
)
EFFECT_LOWER = Gauge("gauntlet_effect_lower", "Lower limit of the effect, valid at any look", ["experiment", "metric"])
EFFECT_UPPER = Gauge("gauntlet_effect_upper", "Upper limit of the effect, valid at any look", ["experiment", "metric"])
INFORMATION = Gauge("gauntlet_information_fraction", "Evidence collected, as a share of the planned", ["experiment"])
SRM = Gauge("gauntlet_srm_p_value", "Sequential sample-ratio mismatch: always-valid p value", ["experiment"])
VERDICTS = Counter("gauntlet_verdict_total", "Looks by their verdict", ["experiment", "result"])
ARM_METRIC = Gauge(
    "gauntlet_arm_metric", "Mean of a metric on an arm's matured outcomes", ["experiment", "arm", "metric"]
)
GUARDRAIL_STATE = Gauge(
    "gauntlet_guardrail_state", "A guard: 0 shown to hold, 1 open, 2 shown to be broken", ["experiment", "guardrail"]
)
GUARDRAIL_EFFECT = Gauge(
    "gauntlet_guardrail_effect",
    "The challenger's difference in a guard's metric, positive when better",
    ["experiment", "guardrail"],
)
GUARDRAIL_UPPER = Gauge(
    "gauntlet_guardrail_effect_upper", "Upper limit of that difference, valid at any look", ["experiment", "guardrail"]
)
LABEL_ARRIVAL = Gauge(
    "gauntlet_label_arrival_ratio",
    "Share of an arm's matured requests whose outcome came in time",
    ["experiment", "arm"],
)
SEGMENT_EFFECT = Gauge(
    "gauntlet_segment_effect",
    "Effect of the challenger among the requests with one value of a declared label",
    ["experiment", "segment", "value"],
)
SEGMENT_P = Gauge(
    "gauntlet_segment_harm_p_value",
    "Always-valid p value of harm there, corrected for all values looked at",
    ["experiment", "segment", "value"],
)
HOLDS = Gauge("gauntlet_rollout_holds", "Reasons not to give the challenger more traffic", ["experiment"])
MOVED_UNITS = Gauge("gauntlet_moved_units", "Units that met both arms under one allocation", ["experiment"])
ETA = Gauge(
    "gauntlet_eta_outcomes", "Outcomes to the horizon, and to a decision if the effect stays", ["experiment", "until"]
)
HEALTH = Gauge("gauntlet_champion_metric", "The champion's own metric over its watch window", ["experiment", "metric"])
DRIFT_SCORE = Gauge(
    "gauntlet_drift_score", "Distance of a feature's window from its reference", ["experiment", "feature"]
)
DRIFT_SEVERITY = Gauge(
    "gauntlet_drift_severity", "Severity of the open drift episode: 0 none to 4 critical", ["experiment"]
)
DRIFT_ACCEPTED = Gauge(
    "gauntlet_drift_accepted", "1 while columns are also held against a second, accepted reference", ["experiment"]
)
DATA_QUALITY = Gauge(
    "gauntlet_data_quality", "Quality of the requests: 1 as in the reference, 0 unusable", ["experiment"]
)
ERROR_RISE = Gauge(
    "gauntlet_error_rise",
    "Rise of the champion's mean loss over its reference's, by the number of outcomes",
    ["experiment", "outcomes"],
)
DEAD_LETTERS = Counter("gauntlet_dead_letters_total", "Records that could not be decoded", ["topic"])

# Retrainer
JOBS = Counter(
    "gauntlet_retrain_jobs_total", "Retraining jobs by trigger and how they ended", ["experiment", "trigger", "status"]
)
JOB_RUNNING = Gauge("gauntlet_retrain_running", "1 while a retraining job runs", ["experiment"])
DECISIONS = Counter("gauntlet_decisions_total", "Decisions put into force, by kind", ["experiment", "decision"])
ROLLBACKS = Counter(
    "gauntlet_rollback_total",
    "Rollbacks by cause: breaker, evidence, operator, preflight or watch",
    ["experiment", "cause"],
)
TIME_TO_ROLLBACK = Histogram(
    "gauntlet_time_to_rollback_seconds",
    "Wall time from the deciding event to the control record's change",
    ["experiment"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


_Zeros = Mapping[Counter | Gauge | Histogram, Sequence[tuple[str, ...]]]

_DECIDED: _Zeros = {DECISIONS: [(decision,) for decision in Decision], TIME_TO_ROLLBACK: [()]}
_OF_EXPERIMENT: dict[str, _Zeros] = {
    "router": {
        REQUESTS: [(CHAMPION, CHAMPION, "200"), (CHALLENGER, CHALLENGER, "200"), (CHALLENGER, CHAMPION, "200")],
        REQUEST_SECONDS: [(CHAMPION,), (CHALLENGER,)],
        FALLBACKS: [("breaker_open",), ("error",), ("invalid_output",), ("timeout",)],
        SHADOWS: [("scored",), ("failed",), ("dropped",)],
        OUTCOMES_RECEIVED: [()],
        BREAKER: [(CHALLENGER,)],
        ROLLBACKS: [("breaker",), ("operator",), ("preflight",)],
        **_DECIDED,
    },
    "evaluator": {
        OUTCOMES: [("joined",), ("late",), ("duplicate",), ("conflict",), ("orphan",)],
        VERDICTS: [(verdict,) for verdict in Result],
        JOIN_LAG: [()],
    },
    "retrainer": {
        JOBS: [(kind, end) for kind in ("drift", "manual") for end in ("completed", "failed", "aborted")],
        JOB_RUNNING: [()],
        ROLLBACKS: [("evidence",), ("watch",)],
        **_DECIDED,
    },
}
"""The values that the bounded labels behind `experiment` may take, by service."""

_OF_PROCESS: dict[str, _Zeros] = {
    "router": {
        EVENTS_LOST: [(keys.PREDICTIONS, scorer) for scorer in (CHAMPION, CHALLENGER, PREVIOUS)],
        # The last: a request from another origin, refused before it is routed.
        REFUSED: [*((route, "bad_request") for route in ("predict", "outcomes", "admin")), ("unrouted", "forbidden")],
        EVENTS_SPILLED: [(keys.PREDICTIONS,), (keys.OUTCOMES,)],
    },
    "evaluator": {DEAD_LETTERS: [(keys.PREDICTIONS,), (keys.OUTCOMES,)]},
    "retrainer": {DEAD_LETTERS: [(keys.EVALUATIONS,), (keys.DRIFT,)]},
}
"""The same for metrics without an experiment."""


def initialise(experiment: str, service: Literal["router", "evaluator", "retrainer"]) -> None:
    """Let every counter that `service` may ever increase stand at zero; once, before it serves its first scrape.

    A labelled counter is absent until its first increase, and `rate` sees none from absent to one: an alert would miss
    the first rollback. Gauges are left alone where zero would claim a measurement.
    """
    for metric, values in _OF_EXPERIMENT[service].items():
        for labels in values:
            metric.labels(experiment, *labels)
    for metric, values in _OF_PROCESS[service].items():
        for labels in values:
            metric.labels(*labels)
