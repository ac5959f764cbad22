"""Which of several outcomes of one request is its label, where corrections count until the horizon is over. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from evaluator.service.joined import Truth

MOST_REPORTS = 64
"""Outcomes of one request that are kept while they wait; of more, the latest that came."""


def settled(reports: Sequence[Truth], asked: float, horizon: float) -> tuple[Truth, float | None, Counter[str]]:
    """The label; when the first outcome came that contradicts it in vain; and the others by what became of them.

    The label is the latest by its time that is within `horizon` seconds of the request's, `asked`; of one time, the one
    that came last. Without any in time it is the earliest, which is late. `reports` are in the order in which they
    came, at least one.
    """
    by_time = sorted(reports, key=lambda report: report.at)
    in_time = [report for report in by_time if report.at - asked <= horizon]
    counts: Counter[str] = Counter()
    for earlier, later in itertools.pairwise(in_time):
        counts["duplicate" if earlier.value == later.value else "corrected"] += 1
    label = in_time[-1] if in_time else by_time[0]
    rest = [report for report in by_time[len(in_time) :] if report is not label]
    contradicted = [report.at for report in rest if report.value != label.value]
    counts += Counter(conflict=len(contradicted), duplicate=len(rest) - len(contradicted))
    return label, contradicted[0] if contradicted else None, counts
