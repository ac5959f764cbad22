"""Tables for the drift of files, and what a report finds in them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from evaluator.offline.drift.result import DriftReport


def features(seed: int, rows: int, *names: str) -> pd.DataFrame:
    """Independent rows of the named columns, or of all: numbers `a` and `b`, a word `c` and a whole number `k`."""
    rng = np.random.default_rng(seed)
    whole = pd.DataFrame(
        {
            "a": rng.normal(size=rows),
            "b": rng.exponential(size=rows),
            "c": rng.choice(["x", "y", "z"], rows),
            "k": rng.integers(0, 5, rows),
        }
    )
    return whole[list(names)] if names else whole


def labelled(table: pd.DataFrame, seed: int, wrong: float = 0.1) -> pd.DataFrame:
    """With a target `y`, the sign of `a`, and a predicted label `p` that misses a share of it."""
    rng = np.random.default_rng(seed)
    truth = (table["a"] > 0).astype(int)
    miss = rng.random(len(table)) < wrong
    return table.assign(y=truth, p=np.where(miss, 1 - truth, truth))


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
