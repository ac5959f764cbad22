"""The evaluator on /metrics: counted outcomes, the watermark, the champion's drift, latest evaluation and health."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence

from evaluator.service.champion_drift import ChampionMonitor
from evaluator.service.guardrails import LABEL_ARRIVAL
from evaluator.service.pipeline import OutputEvent, Pipeline
from gauntlet import events, telemetry
from gauntlet.promotion_ledger import Entry, Lineage
from gauntlet.recent import RecentCounts
from gauntlet.status import FalseAlarms
from gauntlet.types import CHALLENGER, CHAMPION

_STATES = ("safe", "open", "breached")
_SHOW_SECONDS = 1.0  # measuring the drift costs more than most commits
_NONE = float("nan")  # no answer is not a number: a gauge must not go on showing an old one


def count(name: str, counts: Mapping[str, int], lags: Iterable[float], recent: RecentCounts) -> None:
    """Add what became of outcomes, and the seconds between prediction and outcome of those that were joined. recent:
    told of all counts, too."""
    recent.add(counts)
    lag = telemetry.JOIN_LAG.labels(name)
    for seconds in lags:
        lag.observe(seconds)
    for result in ("joined", "late", "duplicate", "corrected", "conflict", "orphan"):
        if counts.get(result):
            telemetry.OUTCOMES.labels(name, result).inc(counts[result])


class Gauges:
    """One experiment's gauges; what the pipeline has committed is measured for them once a second at most."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stale = True
        self._shown = -math.inf

    def committed(self, out: Sequence[OutputEvent]) -> None:
        """To be told of every commit with its events."""
        show_events(self._name, out)
        self._stale = True

    def refresh(self, pipeline: Pipeline) -> None:
        """To be called often: also after the last commit, whose state would else not be shown."""
        if self._stale and time.monotonic() - self._shown >= _SHOW_SECONDS:
            show(self._name, pipeline)
            self._stale, self._shown = False, time.monotonic()


def show(name: str, pipeline: Pipeline) -> None:
    """Set the gauges to what was committed. It measures the drift anew, which costs more than a small commit."""
    telemetry.WATERMARK.labels(name).set(pipeline.watermark)
    if pipeline.monitor is not None:
        _drift(name, pipeline.monitor)
        _worth(name, pipeline.present, pipeline.ledger.lineage)
    if (aa := pipeline.false_alarms) is not None:
        _false_alarms(name, aa)
    telemetry.forget(name, "evaluator", pipeline.evaluations)


def show_events(name: str, out: Sequence[OutputEvent]) -> None:
    """Count a commit's events, oldest first, and set the gauges to the latest of each kind."""
    for event in out:
        if isinstance(event, events.Evaluation):
            _evaluation(name, event)
        elif isinstance(event, events.Health):
            for metric, value in event.window.items():
                telemetry.HEALTH.labels(name, metric).set(value)


def _worth(name: str, present: Entry | None, lineage: Lineage | None) -> None:
    for gauge, known in ((telemetry.REALISED, present), (telemetry.LINEAGE, lineage)):
        for value in ("gain", "lower", "upper"):
            found = getattr(known, value, None)
            gauge.labels(name, value).set(_NONE if found is None else found)


def _drift(name: str, monitor: ChampionMonitor) -> None:
    severity = monitor.severity
    telemetry.DRIFT_SEVERITY.labels(name).set(_NONE if severity is None else severity.rank)
    telemetry.DRIFT_ACCEPTED.labels(name).set(monitor.accepted)
    telemetry.DATA_QUALITY.labels(name).set(_NONE if monitor.quality is None else monitor.quality)
    scores, rises = monitor.scores(), monitor.rises()
    for gauge, values in ((telemetry.DRIFT_SCORE, scores), (telemetry.ERROR_RISE, rises)):
        if not values:
            gauge.clear()  # a new champion has none yet
    for feature, score in scores.items():
        telemetry.DRIFT_SCORE.labels(name, feature).set(score)
    for outcomes, rise in rises.items():
        telemetry.ERROR_RISE.labels(name, outcomes).set(rise)


def _false_alarms(name: str, aa: FalseAlarms) -> None:
    telemetry.AA_ROUNDS.labels(name).set(aa.rounds)
    telemetry.AA_ALARMS.labels(name).set(aa.alarms)
    telemetry.AA_LEVEL.labels(name).set(aa.level)
    rate = _NONE if aa.rate is None else aa.rate
    for gauge, value in ((telemetry.AA_RATE, rate), (telemetry.AA_LOWER, aa.lower), (telemetry.AA_UPPER, aa.upper)):
        gauge.labels(name).set(value)


def _evaluation(name: str, event: events.Evaluation) -> None:
    rollout = event.rollout
    telemetry.VERDICTS.labels(name, event.result).inc()
    telemetry.INFORMATION.labels(name, rollout).set(event.information_fraction)
    for gauge, value in (
        (telemetry.EFFECT, event.effect),
        (telemetry.EFFECT_LOWER, event.lower),
        (telemetry.EFFECT_UPPER, event.upper),
    ):
        gauge.labels(name, rollout, event.metric).set(_NONE if value is None else value)
    for gauge, p_value in ((telemetry.SRM, event.srm_p_value), (telemetry.CONFLICT_P, event.label_conflict_p_value)):
        if p_value is not None:
            gauge.labels(name, rollout).set(p_value)
    for arm, summary in event.arms.items():
        for metric, value in summary.metrics.items():
            telemetry.ARM_METRIC.labels(name, rollout, arm, metric).set(value)
        telemetry.CONTRADICTED.labels(name, rollout, arm).set(summary.contradicted)
    telemetry.HOLDS.labels(name, rollout).set(len(event.holds))
    telemetry.MOVED_UNITS.labels(name, rollout).set(event.moved_units)
    for until, left in (("horizon", event.eta_horizon), ("decision", event.eta_decision)):
        telemetry.ETA.labels(name, rollout, until).set(_NONE if left is None else left)
    _guardrails(name, rollout, event.guardrails)
    _segments(name, rollout, event.segments)


def _guardrails(name: str, rollout: str, guards: Sequence[events.GuardrailResult]) -> None:
    for guard in guards:
        telemetry.GUARDRAIL_STATE.labels(name, rollout, guard.name).set(_STATES.index(guard.standing))
        for gauge, value in ((telemetry.GUARDRAIL_EFFECT, guard.effect), (telemetry.GUARDRAIL_UPPER, guard.upper)):
            gauge.labels(name, rollout, guard.name).set(_NONE if value is None else value)
        if guard.name == LABEL_ARRIVAL:
            for arm, share in ((CHAMPION, guard.champion), (CHALLENGER, guard.challenger)):
                telemetry.LABEL_ARRIVAL.labels(name, rollout, arm).set(_NONE if share is None else share)


def _segments(name: str, rollout: str, segments: Sequence[events.SegmentResult]) -> None:
    for gauge in (telemetry.SEGMENT_EFFECT, telemetry.SEGMENT_P):
        telemetry.drop(gauge, name, rollout.__eq__)  # a value that is not kept any more must not stay on show
    for segment in segments:
        for gauge, value in ((telemetry.SEGMENT_EFFECT, segment.effect), (telemetry.SEGMENT_P, segment.p_value)):
            gauge.labels(name, rollout, segment.name, segment.value).set(_NONE if value is None else value)
