"""Phrases that the demo's text and its page share: figures and states of the report in words."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime

from gauntlet.cli.demo.report_model import DemoReport, Month, RecordedJob, RecordedRollout, RenewalPolicy, TimelineEntry
from gauntlet.cli.demo.timeline import share_text

_WIDTH = 100
_VERSIONS = 3
_EQUAL = 5e-5  # log losses that print alike
_MONTHS = ("year", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day(at: float) -> str:
    """A time as `Mar 03 09:00`, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%b %d %H:%M")


def month_name(month: int) -> str:
    """`Jan` … `Dec`, and `year` for 0."""
    return _MONTHS[month]


def number(value: float | None) -> str:
    """Four decimals, or a dash."""
    return "–" if value is None else f"{value:.4f}"


def interval(rollout: RecordedRollout) -> str:
    """The effect at the decision, with its interval."""
    look = rollout.final
    if look is None or look.effect is None:
        return "no effect known"
    low, high = ("open" if limit is None else f"{limit:+.4f}" for limit in (look.lower, look.upper))
    return f"{look.effect:+.4f} [{low}, {high}]"


def evidence(rollout: RecordedRollout) -> str:
    """How much the decision rests on."""
    look = rollout.final
    return f"{look.blocks} blocks, {look.pairs:,} pairs, {look.information:.0%} of the evidence" if look else ""


def shown(rollout: RecordedRollout) -> bool:
    """Whether the text shows the rollout: of the retrained ones only those that were promoted."""
    return rollout.state == "promoted" or rollout.rule == "prove"


def notable(entry: TimelineEntry) -> bool:
    """Whether the text shows the entry: the weekly round of jobs and of their rollouts, and drift without a loss, are
    on the page."""
    if entry.kind.startswith("drift"):
        return entry.text.startswith(("HIGH", "CRITICAL"))
    if entry.kind == "rollback":
        return entry.rollout is None or "→" in entry.text or entry.rule == "prove"
    routine = ("job asked", "job completed", "job rejected", "rollout start", "stage", "archive", "bake passed")
    return entry.kind not in routine or entry.rule == "prove" or entry.actor not in ("retrainer", "evaluator")


def shares(report: DemoReport) -> str:
    """How many realised shares lie where a fair coin would put them."""
    inside = sum(share.inside for share in report.realised)
    return f"{inside} of {len(report.realised)} shares of a challenger in an allocation are within 3 sigma"


def stages(rollout: RecordedRollout) -> str:
    """The stages with the days spent in each."""
    return ", ".join(f"{share_text(s.share)} {(s.until - s.since) / 86_400:.1f} d" for s in rollout.stages)


def answers(rollout: RecordedRollout) -> str:
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
    """Which versions answered, the first three with their share of the month's flights."""
    total = sum(month.served.values())
    by_share = sorted(month.served.items(), key=lambda item: -item[1])
    shares = [f"{name} {100 * n / total:.0f} %" if n < total else name for name, n in by_share[:_VERSIONS]]
    return ", ".join([*shares, *([f"{len(by_share) - _VERSIONS} more"] if len(by_share) > _VERSIONS else [])])


def broken(policy: RenewalPolicy) -> str:
    """What the two broken models make of a policy: only a blind one ships them; Gauntlet has met them in the run."""
    return "the same" if policy.log_loss_with_broken is None else number(policy.log_loss_with_broken)


def gate_loss(job: RecordedJob, who: str, metric: str) -> str:
    """The mean loss of `champion` or `challenger` on the held-out flights."""
    return number(job.metrics.get(who, {}).get(metric))


def job_answer(job: RecordedJob) -> str:
    """The version that the job made, or why there is none."""
    return job.version or ("rejected" if job.accepted is False else job.status)


def conclusion(report: DemoReport) -> str:
    """Whether everything adds up, in one sentence."""
    failed = "; ".join(check.name for check in report.checks if not check.passed)
    if failed:
        return f"NOT RECONCILED: {failed}."
    return f"Reconciled: {report.flights:,} flights, each routed once; every outcome joined or accounted for."


def wrapped(text: str, lead: str = "", indent: int = 0) -> str:
    """The text behind `lead` in at most 100 columns, its further lines indented."""
    wrapper = textwrap.TextWrapper(_WIDTH, initial_indent=lead, subsequent_indent=" " * indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return "\n".join(wrapper.wrap(text))


def brief(text: str, width: int) -> str:
    """The first words of a text."""
    return textwrap.shorten(text, width, placeholder=" …")
