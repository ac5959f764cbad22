"""Tables for the drift of files, and what a report finds in them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from evaluator.offline.drift import DriftReport


def slow_and_quick(seed: int, rows: int, memory: float) -> pd.DataFrame:
    """A column whose rows depend on the row before by `memory`, an AR(1) process, beside independent ones."""
    noise = np.random.default_rng(seed).normal(size=rows)
    level = np.zeros(rows)
    for i in range(1, rows):
        level[i] = memory * level[i - 1] + noise[i]
    return pd.DataFrame({"slow": level, "quick": noise})


def finding_kinds(report: DriftReport) -> set[tuple[str, str | None]]:
    """Kind and column of every finding."""
    return {(finding.kind, finding.column) for finding in report.quality.findings}
