"""Errors of the statistics, and the checks of settings that raise them.

Invariant: bad input raises before any sum has changed; missing evidence is a `NoAnswer` with a reason, never a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class StatsError(ValueError):
    """Base of every refusal of input by the statistics. The input is wrong: trying again with it cannot help."""


class OutcomeError(StatsError):
    """An outcome is not a finite number, or so large that its square is not one."""


class PropensityError(StatsError):
    """An assignment probability does not lie strictly between 0 and 1."""


class PlanError(StatsError):
    """A setting of the test is impossible, for example a horizon of 0 or a level of 1."""


class OrderError(StatsError):
    """Information went down from one look to the next, so that the looks are not those of one experiment."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """There is no statistic to report yet, and why. Counts are given so that a person can see how far it is."""

    reason: str
    n_champion: int = 0
    n_challenger: int = 0
    n_blocks: int = 0


def require_between(name: str, value: float, low: float, high: float, error: type[StatsError] = PlanError) -> None:
    if not low < value < high:
        raise error(f"the {name} {value!r} does not lie strictly between {low:g} and {high:g}")


def positive_per_cell(name: str, value: NDArray[np.float64] | float, cells: int) -> NDArray[np.float64]:
    """A finite number above 0 for each cell, shape (cells,), from one number or one a cell. Raises PlanError."""
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (cells,)) or not bool(np.all(np.isfinite(array) & (array > 0.0))):
        raise PlanError(f"the {name} {value!r} is not a finite number above 0 for each of {cells} cells")
    return np.broadcast_to(array, (cells,)).copy()
