"""Concept drift: the champion's matured errors against its errors on the reference.

Sums per block of outcomes are the whole state; a rise counts only when it is large AND more than correlated errors do
by chance. The reference must be errors the model did not train on, or the first honest outcome looks like drift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluator.drift.calibration import block_length, inflation_in_use
from evaluator.drift.grid import Floats

ERROR_WINDOWS = (64, 256, 1024, 4096, 16384)
"""Outcomes a window. The long ones see a slow decline that correlated errors hide from the short ones."""
ERROR_BLOCK = 32
"""Outcomes between two looks."""
_CAP = 3.0
"""Errors count up to so many times the reference's largest: one absurd outcome is not a change of concept."""


@dataclass(frozen=True, slots=True)
class ErrorReference:
    """Mean and standard deviation of the reference's errors, and the variance inflation of each window's mean."""

    rows: int
    mean: float
    deviation: float
    cap: float
    windows: tuple[int, ...]
    inflation: tuple[float, ...]

    @classmethod
    def fit(
        cls, errors: Sequence[float] | npt.NDArray[Any], *, windows: tuple[int, ...] = ERROR_WINDOWS
    ) -> ErrorReference:
        """From out-of-sample errors in time order, shape (rows,): losses, absolute errors or 0/1 misses; higher is
        worse.

        Raises ValueError for fewer than 30 finite errors or for negative ones.
        """
        values = np.asarray(errors, dtype=np.float64)
        values = values[np.isfinite(values)]
        if len(values) < 30:
            raise ValueError(f"an error reference needs at least 30 finite errors, got {len(values)}")
        if values.min() < 0:
            raise ValueError("errors are losses: they can't be negative")
        windows = tuple(sorted({-(-window // ERROR_BLOCK) * ERROR_BLOCK for window in windows}))
        return cls(
            rows=len(values),
            mean=float(values.mean()),
            deviation=float(values.std()),
            cap=float(_CAP * values.max()) or math.inf,
            windows=windows,
            inflation=tuple(_inflation(values, window) for window in windows),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; no cap is None."""
        return {**asdict(self), "cap": None if math.isinf(self.cap) else self.cap}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> ErrorReference:
        """The inverse of `to_dict`."""
        cap = math.inf if raw["cap"] is None else raw["cap"]
        return cls(**{**raw, "cap": cap, "windows": tuple(raw["windows"]), "inflation": tuple(raw["inflation"])})


def _inflation(values: Floats, window: int) -> float:
    """Variance of the mean of the reference's blocks over what independent errors give, by moving blocks (Künsch
    1989)."""
    rows = len(values)
    block = block_length(window, rows)
    variance = float(values.var())
    if block < 2 or variance <= 0:
        return 1.0
    sums = np.concatenate(([0.0], np.cumsum(values - values.mean())))
    means = (sums[block:] - sums[:-block]) / block
    raw = float((means**2).mean() / (variance * (1.0 / block - 1.0 / rows)))
    return inflation_in_use(raw, window, block, rows)


@dataclass(frozen=True, slots=True)
class Rise:
    """A window's mean error against the reference's: `rise` is relative, with its 99 % interval; `z` is of the rise,
    `z_beyond` of what exceeds the threshold."""

    window: int
    mean: float
    rise: float
    lower: float
    upper: float
    z: float
    z_beyond: float


def rise_of(reference: ErrorReference, index: int, rows: int, total: float, squares: float, threshold: float) -> Rise:
    """The rise on the window `reference.windows[index]` from its sums.

    The standard error takes the larger of the two standard deviations (Welch 1947, never less than pooled): with rare
    0/1 misses a short window's own is the one that is honest. Both sides are inflated for errors correlated in time.
    """
    mean = total / rows
    own = math.sqrt(max(0.0, squares / rows - mean**2))
    deviation = max(own, reference.deviation)
    # The reference's own mean is as uncertain as its longest blocks say.
    variance = deviation**2 * reference.inflation[index] / rows
    variance += reference.deviation**2 * reference.inflation[-1] / reference.rows
    error = math.sqrt(variance)
    base = reference.mean or 1.0 / reference.rows  # a reference without a miss: at most about one in its rows
    if error == 0.0:
        error = 1.0 / rows  # constant errors on both sides, so only a jump is possible; one outcome is its resolution
    gap = mean - reference.mean
    return Rise(
        window=reference.windows[index],
        mean=mean,
        rise=gap / base,
        lower=(gap - 2.576 * error) / base,
        upper=(gap + 2.576 * error) / base,
        z=gap / error,
        z_beyond=(gap - threshold * base) / error,
    )


class ErrorWindows:
    """Sums of errors and of their squares over the last windows, in blocks of `ERROR_BLOCK` outcomes.

    What it holds is a function of the sequence of outcomes only. Not finite or negative outcomes are counted in
    `refused` and left out.
    """

    def __init__(self, reference: ErrorReference) -> None:
        self._reference = reference
        self._capacity = reference.windows[-1] // ERROR_BLOCK
        self._blocks: list[tuple[float, float]] = []
        self._open: list[float] = []
        self.rows = 0
        self.refused = 0

    def add(self, error: float) -> bool:
        """Count one outcome; True when it completes a block."""
        if not (math.isfinite(error) and error >= 0.0):
            self.refused += 1
            return False
        self._open.append(min(error, self._reference.cap))
        self.rows += 1
        if len(self._open) < ERROR_BLOCK:
            return False
        self._blocks.append((math.fsum(self._open), math.fsum(e * e for e in self._open)))
        self._open.clear()
        del self._blocks[: -self._capacity]
        return True

    def rises(self, threshold: float) -> list[Rise]:
        """The rise on each window that is full, shortest first."""
        found: list[Rise] = []
        suffix = np.cumsum(np.asarray(self._blocks[::-1], dtype=np.float64).reshape(-1, 2), axis=0)
        for index, window in enumerate(self._reference.windows):
            blocks = window // ERROR_BLOCK
            if blocks > len(suffix):
                break
            total, squares = suffix[blocks - 1]
            found.append(rise_of(self._reference, index, window, float(total), float(squares), threshold))
        return found

    def snapshot(self) -> dict[str, Any]:
        """The whole state as JSON-able values."""
        return {
            "blocks": [list(block) for block in self._blocks],
            "open": list(self._open),
            "rows": self.rows,
            "refused": self.refused,
        }

    def restore(self, raw: dict[str, Any]) -> None:
        """Replace the state by a `snapshot`."""
        self._blocks = [(float(total), float(squares)) for total, squares in raw["blocks"]]
        self._open = [float(error) for error in raw["open"]]
        self.rows, self.refused = int(raw["rows"]), int(raw["refused"])
