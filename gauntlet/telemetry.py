"""All Prometheus metrics: name, meaning, labels. Units stand in the name; no label is unbounded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from gauntlet import keys
from gauntlet.types import CHALLENGER, CHAMPION, PREVIOUS, Channel, Decision, Result, TriggerKind

RollbackCause = Literal["breaker", "evidence", "operator", "preflight", "watch"]


def _counter(name: str, meaning: str, labels: str = "") -> Counter:
    return Counter(name, meaning, ["experiment", *labels.split()])


def _gauge(name: str, meaning: str, labels: str = "") -> Gauge:
    return Gauge(name, meaning, ["experiment", *labels.split()])


def _histogram(name: str, meaning: str, labels: str = "", *, buckets: Sequence[float]) -> Histogram:
    return Histogram(name, meaning, ["experiment", *labels.split()], buckets=buckets)


# Router: by experiment, then by the labels named last.
REQUESTS = _counter(
    "gauntlet_requests_total",
    "Predictions answered or refused, by assigned and served arm and HTTP status",
    "arm_assigned arm_served code",
)
REPEATS = _counter(
    "gauntlet_repeats_total", "Predictions answered again from the log, because their id had been answered before"
)
REQUEST_SECONDS = _histogram(
    "gauntlet_request_seconds",
    "Time from a predict request's arrival to its answer, by served arm",
    "arm_served",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
FALLBACKS = _counter(
    "gauntlet_fallback_total", "Requests of the challenger that the champion answered instead, by reason", "reason"
)
REFUSED = Counter(
    "gauntlet_refused_total", "Requests refused, by route and machine-readable reason", ["route", "reason"]
)
BREAKER = _gauge("gauntlet_breaker_state", "Breaker of a running rollout: 0 closed, 1 open", "rollout")
SHARE = _gauge(
    "gauntlet_allocation_share", "Share of traffic in force, by arm: the champion's, and all challengers'", "arm"
)
STAGE = _gauge("gauntlet_stage_index", "Stage of a running rollout: -1 shadow, then the ramp's index from 0", "rollout")
EPOCH = _gauge("gauntlet_epoch", "Version of the control record that this replica serves")
TRAFFIC_PROBLEM = _gauge(
    "gauntlet_traffic_problem", "Severity of a problem of what arrives at all replicas: 0 none to 4 critical", "code"
)
SHADOWS = _counter(
    "gauntlet_shadow_total",
    "Shadow scores by result: scored, failed, or why not asked for: queue_full, breaker_open, model_gone",
    "result",
)
EVENTS_SPILLED = Gauge(
    "gauntlet_events_spilled", "Events in the router's own log that are not yet forwarded", ["topic"]
)
EVENTS_LOST = Counter("gauntlet_events_lost_total", "Events that could not be kept, by topic and arm", ["topic", "arm"])
OUTCOMES_RECEIVED = _counter("gauntlet_outcomes_received_total", "Outcomes accepted by the router")

# Evaluator
OUTCOMES = _counter(
    "gauntlet_outcomes_total", "Outcomes by result: joined, late, duplicate, corrected, conflict, orphan", "result"
)
JOIN_LAG = _histogram(
    "gauntlet_join_lag_seconds",
    "Event time between a prediction and its outcome",
    buckets=(1, 10, 60, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400, 604_800),
)
WATERMARK = _gauge("gauntlet_watermark_seconds", "Event time up to which every exposure has matured")
EVALUATOR_LAG = _gauge("gauntlet_evaluator_lag_events", "Events on the log that the evaluator has not folded")
EFFECT = _gauge(
    "gauntlet_effect", "Effect of the challenger, positive when better, in the metric's units", "rollout metric"
)
EFFECT_LOWER = _gauge("gauntlet_effect_lower", "Lower limit of the effect, valid at any look", "rollout metric")
EFFECT_UPPER = _gauge("gauntlet_effect_upper", "Upper limit of the effect, valid at any look", "rollout metric")
INFORMATION = _gauge("gauntlet_information_fraction", "Evidence collected, as a share of the planned", "rollout")
SRM = _gauge("gauntlet_srm_p_value", "Sequential sample-ratio mismatch: always-valid p value", "rollout")
VERDICTS = _counter("gauntlet_verdict_total", "Looks by their verdict", "result")
ARM_METRIC = _gauge("gauntlet_arm_metric", "Mean of a metric on an arm's matured outcomes", "rollout arm metric")
GUARDRAIL_STATE = _gauge(
    "gauntlet_guardrail_state", "A guard: 0 shown to hold, 1 open, 2 shown to be broken", "rollout guardrail"
)
GUARDRAIL_EFFECT = _gauge(
    "gauntlet_guardrail_effect",
    "The challenger's difference in a guard's metric, positive when better",
    "rollout guardrail",
)
GUARDRAIL_UPPER = _gauge(
    "gauntlet_guardrail_effect_upper", "Upper limit of that difference, valid at any look", "rollout guardrail"
)
LABEL_ARRIVAL = _gauge(
    "gauntlet_label_arrival_ratio", "Share of an arm's matured requests whose outcome came in time", "rollout arm"
)
CONTRADICTED = _gauge(
    "gauntlet_contradicted_labels", "Requests of an arm whose label another outcome contradicts", "rollout arm"
)
CONFLICT_P = _gauge(
    "gauntlet_label_conflict_p_value", "Contradicted labels by assigned arm: always-valid p value", "rollout"
)
SEGMENT_EFFECT = _gauge(
    "gauntlet_segment_effect",
    "Effect of the challenger among the requests with one value of a declared label",
    "rollout segment value",
)
SEGMENT_P = _gauge(
    "gauntlet_segment_harm_p_value",
    "Always-valid p value of harm there, corrected for all values looked at",
    "rollout segment value",
)
HOLDS = _gauge("gauntlet_rollout_holds", "Reasons not to give the challenger more traffic", "rollout")
MOVED_UNITS = _gauge("gauntlet_moved_units", "Units that met both arms under one allocation", "rollout")
ETA = _gauge("gauntlet_eta_outcomes", "Outcomes to the horizon, and to a decision if the effect stays", "rollout until")
AA_ROUNDS = _gauge("gauntlet_aa_rounds", "Finished tests of the champion against itself, in the continuous A/A slice")
AA_ALARMS = _gauge("gauntlet_aa_false_alarms", "Those of them that crossed a boundary")
AA_RATE = _gauge("gauntlet_aa_false_alarm_ratio", "Share of them that did")
AA_LOWER = _gauge("gauntlet_aa_false_alarm_ratio_lower", "Lower 95 % limit of that share, valid at any number of tests")
AA_UPPER = _gauge("gauntlet_aa_false_alarm_ratio_upper", "Upper 95 % limit of that share, valid at any number of tests")
AA_LEVEL = _gauge("gauntlet_aa_level_ratio", "Declared level of such a test: the share that may cross")
REALISED = _gauge(
    "gauntlet_realised_gain",
    "Fall of the loss by the present champion's promotion, on pairs with the one before: gain, lower, upper limit",
    "value",
)
LINEAGE = _gauge(
    "gauntlet_lineage_gain",
    "Fall of the loss by all promotions since the first model, the links added: gain, lower, upper limit",
    "value",
)
HEALTH = _gauge("gauntlet_champion_metric", "The champion's own metric over its watch window", "metric")
DRIFT_SCORE = _gauge("gauntlet_drift_score", "Distance of a feature's window from its reference", "feature")
DRIFT_SEVERITY = _gauge("gauntlet_drift_severity", "Severity of the open drift episode: 0 none to 4 critical")
DRIFT_ACCEPTED = _gauge("gauntlet_drift_accepted", "1 while columns are also held against a second, accepted reference")
DATA_QUALITY = _gauge("gauntlet_data_quality", "Quality of the requests: 1 as in the reference, 0 unusable")
ERROR_RISE = _gauge(
    "gauntlet_error_rise",
    "Rise of the champion's mean loss over its reference's, by the number of outcomes",
    "outcomes",
)
DEAD_LETTERS = Counter("gauntlet_dead_letters_total", "Records that could not be decoded", ["topic"])

# Retrainer
JOBS = _counter("gauntlet_retrain_jobs_total", "Retraining jobs by trigger and how they ended", "trigger status")
JOB_RUNNING = _gauge("gauntlet_retrain_running", "1 while a retraining job runs")
NOTICES = _counter(
    "gauntlet_notices_total",
    "Tries to deliver a notice, by channel and result: sent, retried (it is tried again), failed (given up)",
    "channel result",
)
RECORDS_BEHIND = _gauge("gauntlet_records_behind", "1 while the database of the records does not take what is new")
RECORDS_OUTAGES = _counter("gauntlet_records_outages_total", "Times that the records have fallen behind")
DECISIONS = _counter("gauntlet_decisions_total", "Decisions put into force, by kind", "decision")
ROLLBACKS = _counter(
    "gauntlet_rollback_total", "Rollbacks by cause: breaker, evidence, operator, preflight or watch", "cause"
)
TIME_TO_ROLLBACK = _histogram(
    "gauntlet_time_to_rollback_seconds",
    "Wall time from the deciding event to the control record's change",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


_Zeros = Mapping[Counter | Gauge | Histogram, Sequence[str | tuple[str, ...]]]

_AT_THE_DOOR = [
    ("unrouted", reason)
    for reason in (
        *("malformed_http", "headers_too_large", "body_too_large", "unsupported_encoding", "request_timeout"),
        *("incomplete_request", "too_many_connections", "crowded_out", "overloaded"),
    )
]
"""Route and reason of what the HTTP server of any service refuses by itself."""
_DECIDED: _Zeros = {DECISIONS: [*Decision], TIME_TO_ROLLBACK: [()]}
_ZEROS: dict[str, _Zeros] = {
    "router": {
        REQUESTS: [(CHAMPION, CHAMPION, "200"), (CHALLENGER, CHALLENGER, "200"), (CHALLENGER, CHAMPION, "200")],
        REPEATS: [()],
        REQUEST_SECONDS: [CHAMPION, CHALLENGER],
        FALLBACKS: ["breaker_open", "error", "invalid_output", "timeout"],
        SHADOWS: ["scored", "failed", "queue_full", "breaker_open", "model_gone"],
        OUTCOMES_RECEIVED: [()],
        ROLLBACKS: ["breaker", "operator", "preflight"],
        **_DECIDED,
        EVENTS_LOST: [(keys.PREDICTIONS, scorer) for scorer in (CHAMPION, CHALLENGER, PREVIOUS)],
        # The last: a request from another origin, refused before it is routed.
        REFUSED: [
            *_AT_THE_DOOR,
            *((route, "bad_request") for route in ("predict", "outcomes", "admin")),
            ("unrouted", "forbidden"),
        ],
        EVENTS_SPILLED: [keys.PREDICTIONS, keys.OUTCOMES],
    },
    "evaluator": {
        OUTCOMES: ["joined", "late", "duplicate", "corrected", "conflict", "orphan"],
        VERDICTS: [*Result],
        JOIN_LAG: [()],
        DEAD_LETTERS: [keys.PREDICTIONS, keys.OUTCOMES],
        REFUSED: _AT_THE_DOOR,
    },
    "retrainer": {
        JOBS: [*itertools.product(get_args(TriggerKind), ("completed", "failed", "aborted", "cancelled"))],
        JOB_RUNNING: [()],
        NOTICES: [*itertools.product(get_args(Channel), ("sent", "retried", "failed"))],
        RECORDS_BEHIND: [()],
        RECORDS_OUTAGES: [()],
        ROLLBACKS: ["evidence", "watch"],
        **_DECIDED,
        DEAD_LETTERS: [keys.EVALUATIONS, keys.DRIFT],
        REFUSED: [*_AT_THE_DOOR, ("admin", "bad_request"), ("unrouted", "forbidden")],
    },
}
"""The values that the bounded labels behind `experiment` may take, by service."""


_BY_ROLLOUT: dict[str, Sequence[Gauge]] = {
    "router": (STAGE, BREAKER),
    "evaluator": (
        *(EFFECT, EFFECT_LOWER, EFFECT_UPPER, INFORMATION, SRM, ARM_METRIC, HOLDS, MOVED_UNITS, ETA, LABEL_ARRIVAL),
        *(CONTRADICTED, CONFLICT_P, GUARDRAIL_STATE, GUARDRAIL_EFFECT, GUARDRAIL_UPPER, SEGMENT_EFFECT, SEGMENT_P),
    ),
}


def forget(experiment: str, service: Literal["router", "evaluator"], running: Collection[str]) -> None:
    """Drop the series of all rollouts but those that run, so that their number stays bounded."""
    for gauge in _BY_ROLLOUT[service]:
        drop(gauge, experiment, lambda rollout: rollout not in running)


def drop(gauge: Gauge, experiment: str, gone: Callable[[str], bool]) -> None:
    """Drop the series of the rollouts that are `gone`."""
    for metric in gauge.collect():
        for labels in [sample.labels for sample in metric.samples]:
            if labels["experiment"] == experiment and gone(labels["rollout"]):
                gauge.remove(*(labels[name] for name in gauge._labelnames))


def initialise(experiment: str, service: Literal["router", "evaluator", "retrainer"]) -> None:
    """Let every counter that `service` may ever increase stand at zero; once, before it serves its first scrape.

    A labelled counter is absent until its first increase, and `rate` sees none from absent to one: an alert would miss
    the first rollback. Gauges are left alone where zero would claim a measurement.
    """
    for metric, values in _ZEROS[service].items():
        first = (experiment,) if "experiment" in metric._labelnames else ()
        for labels in values:
            metric.labels(*first, *((labels,) if isinstance(labels, str) else labels))
