"""Named alerts of retraining: what people are told beside a job's own record, each with its severity and what to do.

The store keeps them in the transaction of what caused them (`RetrainerStore.alert`); whoever delivers them reads on
from the last number that was delivered (`RetrainerStore.alerts`).
"""

from __future__ import annotations

import msgspec

from gauntlet.types import Severity
from retrainer.jobs.job_dir import Answer

WORSE = 0.02
"""By more than this a challenger has to be behind the champion on the holdout to be told of: in the primary metric; of
a regression, whose losses have units, by this share of the champion's RMSE."""

_DIGITS = 12  # 0.84 - 0.82 is 0.02

_KINDS: dict[str, tuple[Severity, str]] = {
    "training_timeout": (Severity.HIGH, "find out what training waits for, or raise retrain.time_limit"),
    "training_memory": (Severity.HIGH, "train on a shorter retrain.window, or raise retrain.max_memory_bytes"),
    "training_failed": (Severity.MEDIUM, "put right what the reason names; the job's log has the rest"),
    "candidate_worse": (Severity.MEDIUM, "find out why; it is archived, or by `rule: refresh` has to win in shadow"),
    "data_quality_low": (Severity.CRITICAL, "fix the data pipeline: nothing is trained on such rows"),
}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. `at` is event time; `job` names the job that it is about, "" where it is about none."""

    name: str
    severity: Severity
    at: float
    experiment: str
    text: str
    remedy: str
    job: str = ""


def alert(name: str, at: float, experiment: str, text: str, job: str = "") -> Alert:
    """An alert of a known kind. Raises `KeyError` for a name that is none."""
    severity, remedy = _KINDS[name]
    return Alert(name=name, severity=severity, at=at, experiment=experiment, text=text, remedy=remedy, job=job)


def of_answer(status: str, answer: Answer) -> str | None:
    """The alert that an ended job's answer gives rise to: one that the answer names, or by how the job ended."""
    if answer.alert:
        return answer.alert
    if status in ("failed", "aborted"):
        return "training_failed"
    if status == "completed" and round(_behind(answer.metrics), _DIGITS) > WORSE:
        return "candidate_worse"
    return None


def _behind(metrics: dict[str, dict[str, float]]) -> float:
    """By how much the challenger is behind the champion; 0 where they were not compared."""
    champion, challenger = metrics.get("champion", {}), metrics.get("challenger", {})
    if champion.get("rmse", 0.0) > 0.0:
        return challenger.get("rmse", 0.0) / champion["rmse"] - 1.0
    return -metrics.get("holdout", {}).get("improvement", 0.0)
