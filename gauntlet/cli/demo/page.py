"""The demo's page: one HTML file that needs nothing else, the same bytes for the same facts; every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from string import Template

from gauntlet.cli.demo import plots
from gauntlet.cli.demo.report_model import Check, Facts, Job, Moment, Month, Realised, Rollout
from gauntlet.cli.demo.summary import day, failed, interval, month_name, served, stages, verdict

_GOOD = ("promotion", "bake passed")
_BAD = ("rollback", "job failed", "job aborted")
_BLUE = ("rollout start", "stage", "job completed")


def render(facts: Facts) -> str:
    """The whole page."""
    template = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    ended = failed(facts.checks)
    return template.substitute(
        title=f"{escape(facts.experiment.capitalize())} under Gauntlet",
        lead=_lead(facts),
        verdict_class="verdict" if facts.reconciled else "verdict no",
        verdict="Every flight and every outcome is accounted for"
        if facts.reconciled
        else "Does not add up: " + escape("; ".join(check.name for check in ended)),
        cards=_cards(facts),
        evidence=plots.evidence(facts),
        rollouts=_rollouts(facts.rollouts, facts.metric),
        ramp=plots.ramp(facts),
        shares=_shares(facts.realised),
        drift=plots.drift(facts),
        jobs=_jobs(facts.jobs, facts.metric),
        months=plots.months(facts),
        month_table=_months([*facts.months, facts.year], facts.first),
        timeline=_timeline(facts.timeline),
        checks=_checks(facts.checks),
        footer="Made from the recorded events and the control record's history. "
        "Times are UTC on the flights' own clock. "
        f"{facts.flights:,} predictions and {facts.outcomes:,} outcomes in {facts.seconds:.0f} s, "
        f"{facts.total_seconds:.0f} s with everything before and after.",
    )


def _lead(facts: Facts) -> str:
    begin, end = (datetime.fromtimestamp(at, UTC) for at in (facts.begin, facts.end))
    return escape(
        f"{begin:%d %B %Y} to {end:%d %B %Y}, when the last outcome was in. The champion of the first day was "
        f"{facts.first}, that of the last is {facts.champion}. What happened in between was decided on the "
        "evidence, or by the person it names."
    )


def _cards(facts: Facts) -> str:
    ends = [rollout.state for rollout in facts.rollouts]
    year = facts.year
    cards = [
        (
            "Flights, each routed once" if facts.reconciled else "Flights sent",
            f"{facts.flights:,}",
            f"{facts.outcomes:,} outcomes, {facts.never:,} flights never got one",
        ),
        (
            "Rollouts",
            str(len(ends)),
            f"{ends.count('promoted')} promoted, {ends.count('rolled_back')} rolled back, "
            f"{ends.count('archived')} archived",
        ),
        (
            "Log loss of what was served",
            _number(year.log_loss),
            f"{_number(year.log_loss_first)} with {facts.first} for ever",
        ),
        ("Predictions a second", f"{facts.per_second:,.0f}", f"{facts.seconds:.0f} s for all, training included"),
    ]
    return "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in cards
    )


def _rollouts(rollouts: Sequence[Rollout], metric: str) -> str:
    rows = []
    for r in rollouts:
        look = r.final
        figures = f"{look.blocks} blocks, {look.pairs:,} pairs, {look.information:.0%} of the evidence" if look else ""
        after = f", {r.answers_after:,} after its end" if r.state in ("rolled_back", "archived") else ""
        failures = f"{r.fallbacks:,} fallbacks, {r.shadow_failures:,} failed shadow scores"
        rows.append(
            [
                f"{escape(r.challenger)} against {escape(r.champion)}<small>{escape(r.id)}</small>",
                _pill(r.state.replace("_", " "), {"promoted": "good", "rolled_back": "bad"}.get(r.state, "")),
                f"{day(r.started)}<br>{day(r.ended) if r.ended is not None else 'running'}",
                f"{escape(interval(r))}<small>{figures}</small>",
                f"{escape(stages(r))}<small>{r.answers:,} requests answered by it{after}; {failures}</small>"
                f"<small>{escape(r.actor)}: {escape(r.reason)}</small>",
            ]
        )
    head = [
        "Challenger",
        "End",
        "From, to",
        f"Effect on {escape(metric.replace('_', ' '))} at the decision",
        "Stages and reason",
    ]
    return _table(head, rows, classes=["t", "", "t", "", ""], empty="No rollout was started.")


def _shares(realised: Sequence[Realised]) -> str:
    rows = [
        [
            f"{escape(r.rollout)}",
            str(r.allocation),
            f"{100 * r.share:g} %",
            f"{100 * r.realised:.3f} %",
            f"{100 * r.low:.3f} – {100 * r.high:.3f} %",
            f"{r.requests:,}",
            _yes(r.inside),
        ]
        for r in realised
    ]
    head = ["Rollout", "Allocation", "Ordered", "Realised", "3σ interval", "Requests", "Inside"]
    return _table(head, rows, classes=["", "n", "n", "n", "n", "n", ""], empty="No challenger left the shadow.")


def _jobs(jobs: Sequence[Job], metric: str) -> str:
    rows = []
    for j in jobs:
        champion, challenger = (j.metrics.get(who, {}).get(metric) for who in ("champion", "challenger"))
        answer = j.version or ("rejected" if j.accepted is False else j.status)
        rows.append(
            [
                escape(j.id),
                day(j.asked),
                f"{escape(j.trigger)}, {escape(j.severity)}",
                escape(j.champion),
                _number(champion),
                _number(challenger),
                _pill(answer, "good" if j.accepted else "bad" if j.status in ("failed", "aborted") else ""),
                f"{j.seconds:.1f} s",
                f"<small>{escape(j.error or j.reason)}</small>",
            ]
        )
    head = ["Job", "Asked for", "Trigger", "Champion", "Its loss", "Challenger's", "Answer", "Took", "Reason"]
    return _table(head, rows, classes=["t", "t", "", "", "n", "n", "", "n", ""], empty="No job was asked for.")


def _months(months: Sequence[Month], first: str) -> str:
    rows = []
    for m in months:
        gain = None if m.log_loss is None or m.log_loss_first is None else m.log_loss_first - m.log_loss
        word = verdict(m)
        rows.append(
            [
                month_name(m.month),
                f"{m.flights:,}",
                _number(m.log_loss),
                _number(m.log_loss_first),
                "–" if gain is None else f"{gain:+.4f}",
                _coloured(word.lower(), {"better": "good", "WORSE": "bad"}.get(word)),
                _percent(m.accuracy),
                _percent(m.accuracy_first),
                escape(served(m)),
            ]
        )
    head = [
        "Month",
        "Flights",
        "Log loss served",
        f"{escape(first)} for ever",
        "Gain",
        "",
        "Accuracy served",
        f"{escape(first)} for ever",
        "Served by",
    ]
    return _table(head, rows, classes=["", "n", "n", "n", "n", "", "n", "n", ""], empty="")


def _timeline(timeline: Sequence[Moment]) -> str:
    rows = []
    for m in timeline:
        colour = "good" if m.kind in _GOOD else "bad" if m.kind in _BAD else "blue" if m.kind in _BLUE else ""
        colour = "drift" if m.kind.startswith("drift") else colour
        reason = f"<small>{escape(m.reason)}</small>" if m.reason else ""
        rows.append([day(m.at), _pill(m.kind, colour), f"{escape(m.text)}{reason}", escape(m.actor)])
    return _table(["When", "What", "", "Who"], rows, classes=["t", "", "", ""], empty="Nothing.")


def _checks(checks: Sequence[Check]) -> str:
    rows = [[escape(c.name), escape(c.text), _yes(c.passed)] for c in checks]
    return _table(["Check", "Counted", "Adds up"], rows, classes=["t", "", ""], empty="")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, classes: Sequence[str], empty: str) -> str:
    """A table of cells that are HTML already; `empty` is said when there are no rows."""
    body = ["<tr>" + "".join(map(_cell, row, classes)) + "</tr>" for row in rows]
    if not body:
        return f'<p class="muted">{empty}</p>'
    titles = "".join(f'<th scope="col" class="{c}">{h}</th>' for h, c in zip(head, classes, strict=True))
    rest = "\n".join(body)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>\n{rest}</tbody></table></div>'


def _cell(content: str, kind: str) -> str:
    return f'<td class="{kind}">{content}</td>' if kind else f"<td>{content}</td>"


def _pill(text: str, colour: str) -> str:
    return f'<span class="kind {colour}">{escape(text)}</span>'


def _coloured(text: str, colour: str | None) -> str:
    return f'<span class="{colour}">{escape(text)}</span>' if colour else escape(text)


def _yes(passed: bool) -> str:
    return _coloured("yes", "good") if passed else _coloured("NO", "bad")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
