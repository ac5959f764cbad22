"""Multiple testing: Holm for confirmatory families, Benjamini-Hochberg for exploratory ones.

Invariant: adjusted values keep the order of the input. A comparison without an answer stays None, but counts as a
member of its family, because the family was declared before the data. What holds under continuous monitoring is in
docs/statistics.md, "Several questions at once".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluator.stats.errors import StatsError
from evaluator.stats.score_process import Floats


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Step-down Bonferroni (Holm 1979): max over the smaller ones of (m − rank + 1) p, at most 1.

    Rejecting where the adjusted value is at most α keeps the family-wise error rate under any dependence.
    """
    ps = _family(p_values)
    order = np.argsort(ps, kind="stable")
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(ps[order] * np.arange(len(ps), 0, -1)))
    return _answers(p_values, adjusted)


def benjamini_hochberg(p_values: Sequence[float | None], *, dependent: bool = False) -> tuple[float | None, ...]:
    """Step-up q values (Benjamini & Hochberg 1995); with `dependent` those of Benjamini & Yekutieli (2001)."""
    from scipy.stats import (
        false_discovery_control,  # scipy.stats costs half a second, which a live look need not wait for
    )

    adjusted = false_discovery_control(_family(p_values), method="by" if dependent else "bh")
    return _answers(p_values, np.asarray(adjusted))


def _family(p_values: Sequence[float | None]) -> Floats:
    """p values of the whole family; a comparison without an answer counts as p = 1."""
    for p in p_values:
        if p is not None and not 0.0 <= p <= 1.0:
            raise StatsError(f"{p!r} is not a p value")
    return np.array([1.0 if p is None else p for p in p_values], dtype=np.float64)


def _answers(p_values: Sequence[float | None], adjusted: Floats) -> tuple[float | None, ...]:
    return tuple(None if p is None else float(q) for p, q in zip(p_values, adjusted, strict=True))
