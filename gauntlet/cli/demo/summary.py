"""The demo's summary: facts from the recorded events and the control record's history, as text and as JSON.

Nothing that a service only says about itself goes in, but for the evaluator's counts, and those are checked.
"""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from gauntlet import adapters, control, events, keys, status
from gauntlet.cli.demo import event_reader, reconciliation, timeline
from gauntlet.cli.demo.event_reader import Floats, Predictions
from gauntlet.cli.demo.flights import Flights
from gauntlet.cli.demo.replay import Sent
from gauntlet.cli.demo.report_model import Check, Facts, Month, Rollout
from gauntlet.config import Config
from gauntlet.errors import GauntletError
from gauntlet.registry.artifact import Predictor

__all__ = ["Facts", "as_json", "as_text", "collect"]

_ROWS = 20_000  # instances scored at once: 20 MB of matrix
_WIDTH = 100
_LEAD = 16  # width of a date in front of a line
_SERVED = 74  # where the versions stand in the months' lines
_SAME = 5e-5  # log losses that print alike
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


async def collect(config: Config, flights: Flights, sent: Sent, began: float) -> Facts:
    """Read everything back and check it against what the replay `sent`; `began` is the demo's start (monotonic).

    Raises `GauntletError` when the log or the state can't be read.
    """
    name = config.experiment
    state = adapters.state(config)
    try:
        history = await control.history(state, name)
        _, value = await state.get(keys.evaluator_progress(name))
    finally:
        await state.close()
    if not history:
        raise GauntletError(f"the control record of {name} has no history: nothing was served")
    counts = msgspec.json.decode(value, type=status.EvaluatorProgress).counts if value else {}
    first = adapters.registry(config).load(history[0][1].champion)
    ids = flights.key[: sent.flights]
    places = event_reader.places(ids)
    classes = {label: index for index, label in enumerate(first.schema.classes)}
    reader = await adapters.log_reader(config)
    try:
        predictions = await event_reader.predictions(reader, name, places)
        outcomes = await event_reader.outcomes(reader, name, places, classes)
        evaluations = await event_reader.each(reader, name, keys.EVALUATIONS, events.Evaluation)
        drift = timeline.drift(await event_reader.each(reader, name, keys.DRIFT, events.Drift))
        jobs = timeline.jobs(await event_reader.each(reader, name, keys.JOBS, events.Job))
    finally:
        await reader.close()
    begin = float(flights.departure[0])
    scores = await asyncio.to_thread(_scores, first, flights, sent.flights)
    months, year = reconciliation.months(flights.month[: sent.flights], predictions, outcomes, scores)
    rollouts = [_counted(r, predictions, history) for r in timeline.rollouts(history, evaluations, begin, sent.end)]
    checks = reconciliation.checks(
        keys=ids,
        sent={k: getattr(sent, k) for k in ("flights", "answered", "outcomes", "accepted", "never")},
        predictions=predictions,
        outcomes=outcomes,
        counts=counts,
        rollouts=rollouts,
        wrong=reconciliation.misrouted(predictions, history),
        horizon=float(config.evidence.outcome_horizon),
    )
    return Facts(
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
        ramp=tuple(timeline.ramp(history, begin)),
        realised=tuple(reconciliation.realised(predictions, history)),
        drift=tuple(drift),
        jobs=tuple(jobs),
        months=tuple(months),
        year=year,
    )


def _scores(model: Predictor, flights: Flights, n: int) -> Floats:
    """The model's probability of the second class for the first `n` flights."""
    parts = [model.predict(flights.rows(start, min(start + _ROWS, n)))[:, 1] for start in range(0, n, _ROWS)]
    return np.concatenate(parts) if parts else np.empty(0)


def _counted(rollout: Rollout, predictions: Predictions, history: timeline.History) -> Rollout:
    mine = predictions.rollout == predictions.names.number(rollout.id)
    return msgspec.structs.replace(
        rollout,
        answers=int((mine & predictions.served).sum()),
        answers_after=reconciliation.answers_after(predictions, history, rollout),
        fallbacks=int((mine & predictions.fallback).sum()),
        shadow_failures=predictions.shadow_failures.get(rollout.id, 0),
    )


def as_json(facts: Facts) -> bytes:
    """The facts with stable keys, indented; null where there is no answer."""
    return msgspec.json.format(msgspec.json.encode(facts), indent=2)


def as_text(facts: Facts) -> str:
    """The facts for a terminal, at most 100 columns wide."""
    return "\n".join(_lines(facts))


def day(at: float) -> str:
    """A time as `Mar 03 09:00`, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%b %d %H:%M")


def month_name(month: int) -> str:
    """`Jan` … `Dec`, and `year` for 0."""
    return _MONTHS[month - 1] if month else "year"


def interval(rollout: Rollout) -> str:
    """The effect that stood at the decision, with its interval."""
    look = rollout.final
    if look is None or look.effect is None:
        return "no effect known"
    limits = (None if v is None else f"{v:+.4f}" for v in (look.lower, look.upper))
    low, high = (text or "open" for text in limits)
    return f"{look.effect:+.4f} [{low}, {high}]"


def stages(rollout: Rollout) -> str:
    """The stages with the days spent in each."""
    return ", ".join(f"{timeline.share(s.share)} {(s.until - s.since) / 86_400:.1f} d" for s in rollout.stages)


def verdict(month: Month) -> str:
    """What was served against the first model for ever, in a word."""
    if month.log_loss is None or month.log_loss_first is None:
        return ""
    gain = month.log_loss_first - month.log_loss
    return "same" if abs(gain) < _SAME else "better" if gain > 0 else "WORSE"


def served(month: Month) -> str:
    """Which versions answered, with their share of the month's flights."""
    total = sum(month.served.values())
    by_share = sorted(month.served.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * n / total:.0f} %" if n < total else name for name, n in by_share)


def _lines(facts: Facts) -> Iterator[str]:
    yield from _heading("What happened (times in UTC, on the flights' clock)")
    for moment in facts.timeline:
        yield from _wrapped(f"{day(moment.at):<{_LEAD}}", f"{moment.kind}: {moment.text}", _LEAD + 2)
        if moment.reason and moment.kind != "start":
            reason = textwrap.shorten(moment.reason, 2 * (_WIDTH - _LEAD) - 20 - len(moment.actor), placeholder=" …")
            yield from _wrapped(" " * (_LEAD + 2), f"{moment.actor}: {reason}", _LEAD + 2)
    yield from _heading(f"Rollouts (effect on {facts.metric}: positive is better; intervals hold at every look)")
    for rollout in facts.rollouts:
        yield from _rollout(rollout)
    if not facts.rollouts:
        yield "none"
    if facts.jobs:
        yield from _heading("Retraining jobs (means on the held-out flights)")
        for job in facts.jobs:
            gate = f"{facts.metric} {_figure(job.metrics, 'champion', facts.metric)} → " + _figure(
                job.metrics, "challenger", facts.metric
            )
            answer = job.version or ("rejected" if job.accepted is False else job.status)
            yield f"{job.id:<22} {day(job.asked):<14} {job.champion} → {answer:<10} {gate}"
    if facts.realised:
        yield from _heading("Realised shares (3 sigma of a fair coin)")
        for r in facts.realised:
            inside = "inside" if r.inside else "OUTSIDE"
            yield (
                f"{r.rollout}  {100 * r.share:>4g} %  {100 * r.realised:6.3f} % of {r.requests:>7,}"
                f"  {inside} [{100 * r.low:.3f}, {100 * r.high:.3f}]"
            )
    yield from _heading(f"Log loss by month: Gauntlet against {facts.first} for ever")
    yield "month  flights Gauntlet  for ever     gain          accuracy  for ever   served by"
    for month in [*facts.months, facts.year]:
        yield from _month(month)
    yield from _heading("Does it add up?")
    for check in facts.checks:
        yield from _wrapped("  " if check.passed else "! ", f"{check.text}: {'yes' if check.passed else 'NO'}", 4)
    yield ""
    yield from _wrapped("", _conclusion(facts), 0)
    yield (
        f"{facts.flights:,} predictions and {facts.outcomes:,} outcomes in {facts.seconds:.0f} s: "
        f"{facts.per_second:,.0f} predictions a second; {facts.total_seconds:.0f} s in all"
    )


def _conclusion(facts: Facts) -> str:
    if facts.reconciled:
        return f"Reconciled: {facts.flights:,} flights, each routed once; every outcome joined or accounted for."
    return "NOT RECONCILED: " + "; ".join(check.name for check in failed(facts.checks)) + "."


def failed(checks: Sequence[Check]) -> list[Check]:
    """The checks that do not add up."""
    return [check for check in checks if not check.passed]


def _heading(text: str) -> Iterator[str]:
    yield ""
    yield text
    yield "─" * len(text)


def _wrapped(lead: str, text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _rollout(rollout: Rollout) -> Iterator[str]:
    state = rollout.state.replace("_", " ")
    end = day(rollout.ended) if rollout.ended is not None else "still running"
    yield f"{rollout.id}  {rollout.challenger} against {rollout.champion}: {state}"
    look = rollout.final
    figures = f"; {look.blocks} blocks, {look.pairs:,} pairs, {look.information:.0%} of the evidence" if look else ""
    yield from _wrapped("  ", f"effect {interval(rollout)}{figures}", 4)
    yield from _wrapped("  ", f"{day(rollout.started)} to {end}: {stages(rollout)}", 4)
    failures = f"{rollout.fallbacks:,} fell back to the champion, {rollout.shadow_failures:,} shadow scores failed"
    after = f", {rollout.answers_after:,} after its end" if rollout.state in ("rolled_back", "archived") else ""
    yield from _wrapped("  ", f"{rollout.answers:,} requests answered by it{after}; {failures}", 4)
    if rollout.reason:
        yield from _wrapped("  ", f"{rollout.actor}: {rollout.reason}", 4)


def _figure(metrics: dict[str, dict[str, float]], who: str, metric: str) -> str:
    value: Any = metrics.get(who, {}).get(metric)
    return "–" if value is None else f"{value:.4f}"


def _month(month: Month) -> list[str]:
    lead = f"{month_name(month.month):<5}{month.flights:>9,}"
    if month.log_loss is None or month.log_loss_first is None:
        return _wrapped(f"{lead}  {'no outcome':<53}", served(month), _SERVED)
    gain = month.log_loss_first - month.log_loss
    return _wrapped(
        f"{lead}   {month.log_loss:.4f}    {month.log_loss_first:.4f}  {gain:+.4f} {verdict(month):<6} "
        f"{100 * (month.accuracy or 0):>9.1f} % {100 * (month.accuracy_first or 0):>7.1f} %   ",
        served(month),
        _SERVED,
    )
