"""The demo's report for a terminal, and the phrases that the HTML page shares with it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime

from gauntlet.cli.demo.report_model import Job, Month, Report, Rollout, TimelineEntry
from gauntlet.cli.demo.timeline import share_text

_WIDTH = 100
_INDENT = 18  # of what stands under a dated line
_SERVED_COLUMN = 74  # where the versions stand in the months' lines
_EQUAL = 5e-5  # log losses that print alike
_MONTHS = ("year", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def to_text(report: Report) -> str:
    """The report in at most 100 columns."""
    return "\n".join(_lines(report))


def day(at: float) -> str:
    """A time as `Mar 03 09:00`, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%b %d %H:%M")


def month_name(month: int) -> str:
    """`Jan` … `Dec`, and `year` for 0."""
    return _MONTHS[month]


def number(value: float | None) -> str:
    """Four decimals, or a dash."""
    return "–" if value is None else f"{value:.4f}"


def interval(rollout: Rollout) -> str:
    """The effect at the decision, with its interval."""
    look = rollout.final
    if look is None or look.effect is None:
        return "no effect known"
    low, high = ("open" if limit is None else f"{limit:+.4f}" for limit in (look.lower, look.upper))
    return f"{look.effect:+.4f} [{low}, {high}]"


def evidence(rollout: Rollout) -> str:
    """How much the decision rests on."""
    look = rollout.final
    return f"{look.blocks} blocks, {look.pairs:,} pairs, {look.information:.0%} of the evidence" if look else ""


def stages(rollout: Rollout) -> str:
    """The stages with the days spent in each."""
    return ", ".join(f"{share_text(s.share)} {(s.until - s.since) / 86_400:.1f} d" for s in rollout.stages)


def answers(rollout: Rollout) -> str:
    """How many requests the challenger answered, and how many after its end."""
    after = f", {rollout.answers_after:,} after its end" if rollout.state in ("rolled_back", "archived") else ""
    return f"{rollout.answers:,} requests answered by it{after}"


def gain(month: Month) -> float | None:
    """The first champion's log loss minus the served one."""
    if month.log_loss is None or month.log_loss_first is None:
        return None
    return month.log_loss_first - month.log_loss


def verdict(month: Month) -> str:
    """What was served against the first champion, in a word."""
    gained = gain(month)
    if gained is None:
        return ""
    return "same" if abs(gained) < _EQUAL else "better" if gained > 0 else "WORSE"


def served(month: Month) -> str:
    """Which versions answered, with their share of the month's flights."""
    total = sum(month.served.values())
    by_share = sorted(month.served.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * n / total:.0f} %" if n < total else name for name, n in by_share)


def gate_loss(job: Job, who: str, metric: str) -> str:
    """The mean loss of `champion` or `challenger` on the held-out flights."""
    return number(job.metrics.get(who, {}).get(metric))


def job_answer(job: Job) -> str:
    """The version that the job made, or why there is none."""
    return job.version or ("rejected" if job.accepted is False else job.status)


def conclusion(report: Report) -> str:
    """Whether everything adds up, in one sentence."""
    failed = "; ".join(check.name for check in report.checks if not check.passed)
    if failed:
        return f"NOT RECONCILED: {failed}."
    return f"Reconciled: {report.flights:,} flights, each routed once; every outcome joined or accounted for."


def _lines(report: Report) -> Iterator[str]:
    yield from _heading("What happened (times in UTC, on the flights' clock)")
    for entry in report.timeline:
        yield from _entry(entry)
    yield from _heading(f"Rollouts (effect on {report.metric}: positive is better; intervals hold at every look)")
    for rollout in report.rollouts:
        yield from _rollout(rollout)
    if not report.rollouts:
        yield "none"
    if report.jobs:
        yield from _heading("Retraining jobs (means on the held-out flights)")
        for job in report.jobs:
            losses = " → ".join(gate_loss(job, who, report.metric) for who in ("champion", "challenger"))
            made = f"{job.champion} → {job_answer(job):<10}"
            yield f"{job.id:<22} {day(job.asked):<14} {made} {report.metric} {losses}"
    if report.realised:
        yield from _heading("Realised shares (3 sigma of a fair coin)")
        for r in report.realised:
            inside = f"{'inside' if r.inside else 'OUTSIDE'} [{100 * r.low:.3f}, {100 * r.high:.3f}]"
            yield f"{r.rollout}  {100 * r.share:>4g} %  {100 * r.realised:6.3f} % of {r.requests:>7,}  {inside}"
    yield from _heading(f"Log loss by month: Gauntlet against {report.first} for ever")
    yield "month  flights Gauntlet  for ever     gain          accuracy  for ever   served by"
    for month in [*report.months, report.year]:
        yield from _month(month)
    yield from _heading("Does it add up?")
    for check in report.checks:
        yield from _wrapped("  " if check.passed else "! ", f"{check.text}: {'yes' if check.passed else 'NO'}", 4)
    yield ""
    yield from _wrapped("", conclusion(report), 0)
    yield (
        f"{report.flights:,} predictions and {report.outcomes:,} outcomes in {report.seconds:.0f} s: "
        f"{report.per_second:,.0f} predictions a second; {report.total_seconds:.0f} s in all"
    )


def _heading(text: str) -> list[str]:
    return ["", text, "─" * len(text)]


def _wrapped(lead: str, text: str, indent: int) -> list[str]:
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent=lead, subsequent_indent=" " * indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text)


def _entry(entry: TimelineEntry) -> Iterator[str]:
    yield from _wrapped(f"{day(entry.at):<{_INDENT - 2}}", f"{entry.kind}: {entry.text}", _INDENT)
    if entry.reason and entry.kind != "start":
        room = 2 * (_WIDTH - _INDENT) - 16 - len(entry.actor)  # two lines
        reason = textwrap.shorten(entry.reason, room, placeholder=" …")
        yield from _wrapped(" " * _INDENT, f"{entry.actor}: {reason}", _INDENT)


def _rollout(rollout: Rollout) -> Iterator[str]:
    yield f"{rollout.id}  {rollout.challenger} against {rollout.champion}: {rollout.state.replace('_', ' ')}"
    end = day(rollout.ended) if rollout.ended is not None else "still running"
    failures = f"{rollout.fallbacks:,} fell back to the champion, {rollout.shadow_failures:,} shadow scores failed"
    yield from _wrapped("  ", "; ".join(filter(None, (f"effect {interval(rollout)}", evidence(rollout)))), 4)
    yield from _wrapped("  ", f"{day(rollout.started)} to {end}: {stages(rollout)}", 4)
    yield from _wrapped("  ", f"{answers(rollout)}; {failures}", 4)
    if rollout.reason:
        yield from _wrapped("  ", f"{rollout.actor}: {rollout.reason}", 4)


def _month(month: Month) -> list[str]:
    lead = f"{month_name(month.month):<5}{month.flights:>9,}"
    gained = gain(month)
    if gained is None:
        return _wrapped(f"{lead}  {'no outcome':<53}", served(month), _SERVED_COLUMN)
    losses = f"{number(month.log_loss)}    {number(month.log_loss_first)}  {gained:+.4f} {verdict(month):<6}"
    accuracy = f"{100 * (month.accuracy or 0):>9.1f} % {100 * (month.accuracy_first or 0):>7.1f} %"
    return _wrapped(f"{lead}   {losses} {accuracy}   ", served(month), _SERVED_COLUMN)
