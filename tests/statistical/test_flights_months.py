"""A model of the month before alone, on a year of real flights: where it is worse than the champion it is not promoted,
and where it is better it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import gauntlet
from gauntlet.cli.demo import flights as demo

Month = tuple[list[demo.Row], np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def months() -> dict[int, Month]:
    """Rows, labels and departures of the labelled flights of each month."""
    year, found = demo.load(), {}
    for month in range(1, 13):
        first, last = np.searchsorted(year.month, [month, month + 1])
        known = ~np.isnan(year.late[first:last])
        rows = [row for row, kept in zip(year.rows(int(first), int(last)), known, strict=True) if kept]
        found[month] = rows, year.late[first:last][known].astype(int), year.departure[first:last][known]
    return found


@pytest.mark.parametrize(("month", "decision"), [(5, "keep"), (6, "promote"), (8, "keep"), (11, "keep"), (12, "keep")])
def test_a_model_of_the_month_before(months: dict[int, Month], month: int, decision: str) -> None:
    rows, truth, at = months[month]
    champion = fitted(months, range(1, month))
    naive = fitted(months, range(month - 1, month))
    frame = pd.DataFrame(rows).assign(late=truth, at=at)
    asked: dict[str, Any] = {"metric": "log_loss", "threshold": 0.001, "cluster": "day", "repetitions": 500}
    report = gauntlet.compare(
        champion, naive, frame, target="late", time="at", features=list(demo.FEATURES), latency=False, **asked
    )
    effect = report.metrics["log_loss"]
    assert (report.decision, effect.improvement > 0) == (decision, decision == "promote"), report.reasons


def fitted(months: dict[int, Month], trained_on: range) -> Any:
    rows = [row for one in trained_on for row in months[one][0]]
    return demo.train(rows, np.concatenate([months[one][1] for one in trained_on]))
