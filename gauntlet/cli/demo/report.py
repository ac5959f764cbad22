"""The demo's report: collected from the recorded events and the control record, reconciled, and rendered.

Only the evaluator's own counts are taken from what a service says about itself, and those are checked against the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evaluator.offline.render import rendered
from gauntlet import adapters, control, events, keys, ledger_document, status
from gauntlet.cli.demo import blind_refits, event_reader, phrases, plots, reconciliation, timeline
from gauntlet.cli.demo.event_reader import Outcomes, Predictions
from gauntlet.cli.demo.flights import Flights
from gauntlet.cli.demo.replay import Sent, Submission
from gauntlet.cli.demo.report_model import AllocationStep, DemoReport, RecordedJob, RecordedRollout
from gauntlet.config import Config
from gauntlet.errors import GauntletError
from gauntlet.registry.artifact import Predictor

_HERE = Path(__file__).parent
_ROWS = 20_000  # instances scored at once: 20 MB of matrix


async def collect(
    config: Config, flights: Flights, sent: Sent, submissions: Sequence[Submission], began: float
) -> DemoReport:
    """Read everything back and check it against what the replay `sent`.

    submissions: the models that a person handed in. began: the demo's start (monotonic).

    Raises `GauntletError` when the log or the state can't be read.
    """
    name = config.experiment
    history, progress = await _from_state(config)
    first = adapters.registry(config).load(history[0][1].champion)
    ids = flights.key[: sent.flights]
    predictions, outcomes, evaluations, drift, jobs = await _recorded(config, ids, first)
    begin = float(flights.departure[0])
    scores = await asyncio.to_thread(_scores, first, flights, sent.flights)
    by_flight = pd.DataFrame({"month": flights.month[: sent.flights], "first": scores}, index=pd.Index(ids))
    months, year = reconciliation.months(by_flight, predictions, outcomes)
    others = await asyncio.to_thread(blind_refits.policies, flights, sent.flights, scores, submissions, year, months)
    ramp = timeline.ramp(history, begin)
    rollouts = [_counted(r, predictions, ramp) for r in timeline.rollouts(history, evaluations, begin, sent.end)]
    checks = reconciliation.checks(
        ids=ids,
        sent=sent,
        predictions=predictions,
        outcomes=outcomes,
        counts=progress.counts,
        rollouts=rollouts,
        wrong=reconciliation.misrouted(predictions, ramp),
        horizon=float(config.evidence.outcome_horizon),
    )
    return DemoReport(
        experiment=name,
        metric=config.metric,
        first=history[0][1].champion,
        champion=history[-1][1].champion,
        begin=begin,
        end=sent.end,
        flights=sent.flights,
        outcomes=sent.outcomes,
        never=sent.never,
        seconds=sent.seconds,
        total_seconds=time.monotonic() - began,
        per_second=sent.flights / sent.seconds if sent.seconds > 0 else 0.0,
        reconciled=all(check.passed for check in checks),
        checks=tuple(checks),
        timeline=tuple(timeline.timeline(history, drift, jobs, begin)),
        rollouts=tuple(rollouts),
        ramp=tuple(ramp),
        realised=tuple(reconciliation.realised_shares(predictions, ramp)),
        drift=tuple(drift),
        jobs=tuple(jobs),
        months=tuple(months),
        year=year,
        policies=others,
        worth=tuple(reversed(ledger_document.promotions(progress.worth, history[-1][1]))),
        lineage=ledger_document.lineage(progress.worth, history[-1][1]),
    )


class _Recorded(NamedTuple):
    """The recorded events; of drift and jobs each once, in order."""

    predictions: Predictions
    outcomes: Outcomes
    evaluations: list[events.Evaluation]
    drift: list[events.Drift]
    jobs: list[RecordedJob]


async def _recorded(config: Config, ids: Sequence[str], first: Predictor) -> _Recorded:
    name, reader = config.experiment, await adapters.log_reader(config)
    try:
        return _Recorded(
            await event_reader.predictions(reader, name, ids),
            await event_reader.outcomes(reader, name, ids, first.schema.classes),
            await event_reader.all_of(reader, keys.EVALUATIONS, events.Evaluation, name),
            list({e.id: e for e in await event_reader.all_of(reader, keys.DRIFT, events.Drift, name)}.values()),
            timeline.jobs(await event_reader.all_of(reader, keys.JOBS, events.Job, name)),
        )
    finally:
        await reader.close()


async def _from_state(config: Config) -> tuple[timeline.History, status.EvaluatorProgress]:
    """The control record's history, and what the evaluator tells: its own counts, and what promotions were worth."""
    state = adapters.state(config)
    try:
        history = await control.history(state, config.experiment)
        _, value = await state.get(keys.evaluator_progress(config.experiment))
    finally:
        await state.close()
    if not history:
        raise GauntletError(f"the control record of {config.experiment} has no history: nothing was served")
    return history, msgspec.json.decode(value or b"{}", type=status.EvaluatorProgress)


def to_json(report: DemoReport) -> bytes:
    """The report with stable keys, indented; null where there is no answer."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def to_html(report: DemoReport) -> str:
    """One page, which needs no other file; the same report gives the same bytes."""
    begin, end = (f"{datetime.fromtimestamp(at, UTC):%d %B %Y}".lstrip("0") for at in (report.begin, report.end))
    return rendered(
        "report.html",
        {"report": report, "begin": begin, "end": end, "plots": plots, "text": phrases, "worth": ledger_document},
        _HERE,
    )


def to_text(report: DemoReport) -> str:
    """The report for a terminal, in at most 100 columns."""
    return rendered("report.txt", {"report": report, "text": phrases, "worth": ledger_document}, _HERE)


def _scores(model: Predictor, flights: Flights, n: int) -> NDArray[np.float64]:
    """The model's probability of the second class for the first `n` flights."""
    parts = [model.predict(flights.rows(start, min(start + _ROWS, n)))[:, 1] for start in range(0, n, _ROWS)]
    return np.concatenate(parts) if parts else np.empty(0)


def _counted(rollout: RecordedRollout, predictions: Predictions, ramp: Sequence[AllocationStep]) -> RecordedRollout:
    """The rollout with the requests that it answered, lost to the champion, or answered too late."""
    own = predictions.table[predictions.table["rollout"] == rollout.id]
    return msgspec.structs.replace(
        rollout,
        answers=int(own["served"].sum()),
        answers_after=reconciliation.answers_after(predictions, ramp, rollout),
        fallbacks=int(own["fallback"].sum()),
        shadow_failures=predictions.shadow_failures.get(rollout.id, 0),
    )
