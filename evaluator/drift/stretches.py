"""What the means of stretches of the reference do: how far they stray, and how many independent rows they are worth.

For everything that is a mean over rows in time order: losses, and by their influence accuracy, R² and RMSE.
"""

from __future__ import annotations

import numpy as np

from evaluator.drift.calibration import (
    INDEPENDENT,
    QUANTILE,
    Calibration,
    block_length,
    inflation_in_use,
    limit_in_use,
)
from evaluator.drift.grid import Floats


def mean_of_stretches(parts: Floats, window: int) -> Calibration:
    """The calibration for means over `window` rows from all moving blocks of the reference (Künsch 1989).

    parts: shape (rows,), each row's part in the mean, in time order, larger is worse. The limit is how far above the
    rest of the reference its own blocks come, in the units of `parts`; at least 0, and at most a third of the way to
    the worst row, lest a total failure stays within it.
    """
    rows = len(parts)
    block = block_length(window, rows)
    variance = float(parts.var()) if rows else 0.0
    if block < 1 or variance <= 0.0:
        return INDEPENDENT
    sums = np.concatenate(([0.0], np.cumsum(parts - parts.mean())))
    # Each block against the reference without it.
    gaps = (sums[block:] - sums[:-block]) / block * (rows / (rows - block))
    raw = float((gaps**2).mean() / (variance * (1.0 / block + 1.0 / (rows - block))))
    inflation = inflation_in_use(raw, window, block, rows)
    seen = max(0.0, float(np.quantile(gaps, QUANTILE)))
    limit = min(limit_in_use(seen, inflation, window, block, rows), float(parts.max() - parts.mean()) / 3)
    return Calibration(limit, 1.0 / inflation)
