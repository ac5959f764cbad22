"""The report of a model's retraining life as one page, by the report kit."""

from __future__ import annotations

from pathlib import Path

from evaluator.offline.render import interval, rendered, signed
from gauntlet.cli.retrain.text import moment
from gauntlet.ledger_document import STATES, PromotionWorth, lineage_sentence
from gauntlet.retraining_document import ReportDocument, ReportLine


def page(report: ReportDocument) -> str:
    """The page: totals first, then a row for each job, the newest first."""
    context = {
        "report": report,
        "at": moment(report.at),
        "statuses": ", ".join(f"{number} {status}" for status, number in sorted(report.by_status.items())),
        "triggers": ", ".join(f"{number} by {trigger}" for trigger, number in sorted(report.by_trigger.items())),
        "rows": [_row(one) for one in report.lines],
        "promotions": [_promotion(one) for one in report.promotions],
        "lineage": lineage_sentence(report.lineage) if report.lineage else "",
    }
    return rendered("report.html", context, Path(__file__).parent)


def _promotion(one: PromotionWorth) -> list[str]:
    """The cells of one promotion."""
    names = [one.promotion, one.champion, one.previous, moment(one.since), moment(one.until), f"{one.pairs:,}"]
    return [*names, signed(one.gain), interval(one.lower, one.upper), STATES[one.state]]


def _row(one: ReportLine) -> dict[str, object]:
    """The cells of one job: a first line, and small ones below it."""
    rows = "–" if one.train_rows is None else f"{one.train_rows:,}"
    return {
        "job": (one.job, [moment(one.at), one.recipe]),
        "trigger": (f"{one.trigger}, {one.severity}", one.reason),
        "data": (rows, "" if one.holdout_rows is None else f"{one.holdout_rows:,} held out"),
        "candidate": one.version or "–",
        "gate": (signed(one.improvement), one.error or one.gate),
        "rollout": (one.rollout or "–", (one.state or "").replace("_", " ")),
        "decision": (moment(one.decided) if one.decided else "–", one.decision),
        "gain": (signed(one.gain), "" if one.gain is None else interval(one.gain_lower, one.gain_upper)),
        "outcome": one.outcome,
        "colour": "good" if one.outcome == "serves" else "bad" if one.status in ("failed", "aborted") else "open",
    }
