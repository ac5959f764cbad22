"""What the jobs so far count for: attempts against a champion, and rounds that failed. Pure.

A job that failed has compared nothing with the champion and changed nothing, so it is not an attempt and starts no
cool-down; the wait after it grows with the failures in a row (`conditions.check`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby

import msgspec

from retrainer.store import JobRecord


class AttemptHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over the jobs. `attempts`: jobs against the champion by the recipe with the most of them; `failures`:
    rounds in a row of which every job failed; `unanswered`: the requests whose latest round did. Times are event times.
    """

    attempts: int = 0
    failures: int = 0
    unanswered: frozenset[str] = frozenset()
    last_started: float | None = None
    last_attempt_ended: float | None = None


def attempt_history(jobs: Iterable[JobRecord], champion: str) -> AttemptHistory:
    """Attempts, failures and times among `jobs`, as they count while `champion` serves."""
    known = sorted(jobs, key=lambda job: (job.created_at, job.request, job.id))
    tried = [job for job in known if job.status != "failed"]
    failures, latest = 0, dict[str, bool]()
    for (_, request), round_ in groupby(known, key=lambda job: (job.created_at, job.request)):
        latest[request] = all(job.status == "failed" for job in round_)
        failures = failures + 1 if latest[request] else 0
    return AttemptHistory(
        attempts=max(Counter(job.recipe for job in tried if job.champion == champion).values(), default=0),
        failures=failures,
        unanswered=frozenset(request for request, failed in latest.items() if failed),
        last_started=max((job.created_at for job in known), default=None),
        last_attempt_ended=max((job.ended_at for job in tried if job.ended_at is not None), default=None),
    )
