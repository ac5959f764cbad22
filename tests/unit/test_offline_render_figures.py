"""Figures of the reports: what a picture must show of its data."""

from __future__ import annotations

import re

import pytest

from evaluator.offline.drift.result import DriftStep
from evaluator.offline.render import figures


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_a_severity_of_a_single_step_is_filled_like_any_other(rank: int) -> None:
    steps = [DriftStep(100 * place, severity, {}, None, None) for place, severity in enumerate(("NONE", "CRITICAL"))]
    drawn = figures.severity([*steps, DriftStep(200, "NONE", {}, None, None)], 400, 0, "window")
    (area,) = re.findall(rf'FillBetweenPolyCollection_{rank}">.*? d="(.*?)"', drawn, re.DOTALL)
    points = [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", area)]
    top = min(y for _, y in points)
    at_top = [x for x, y in points if y == top]
    assert max(at_top) - min(at_top) > 100, "the severity's band is as wide as its step"
