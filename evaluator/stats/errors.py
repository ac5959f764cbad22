"""What the statistics refuse, as types: a wrong number given to them, and a question that has no answer yet.

Invariant: bad input raises before any sum has changed; missing evidence is a value with a reason, never a number.
"""

from __future__ import annotations

from dataclasses import dataclass


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
