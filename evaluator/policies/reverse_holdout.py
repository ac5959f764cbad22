"""Reverse holdout: the gain of a promotion, measured by a small share that stays on the previous champion.

Invariant: with A = 1 for the new champion and the logged propensities S/I is the effect so far, averaged over units
with weights π(1−π), and its interval is always valid. The blocks of a later period alone are a test of its own, with
its own state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evaluator.stats.errors import NoAnswer
from evaluator.stats.interim_analysis import Look, State, advance
from evaluator.stats.score_process import Block
from evaluator.stats.sequential_test import Plan, Side


@dataclass(frozen=True, slots=True)
class HoldoutReading:
    """The gain so far, new champion − previous one, larger is better: the `look` at it, with the new champion in the
    challenger's place. gained: its interval is above 0, lost: below."""

    standing: Literal["gained", "open", "lost"]
    look: Look
    reason: str

    @property
    def total(self) -> tuple[float, float | None, float | None]:
        """The effect and its limits for all units that the new champion answered."""
        effect, units = self.look.effect, self.look.n_challenger
        lower, upper = (None if limit is None else limit * units for limit in (self.look.lower, self.look.upper))
        return effect * units, lower, upper


def holdout_plan(horizon: float, *, alpha: float = 0.05, clustered: bool = True) -> Plan:
    """An always-valid plan. The interval is tightest about half-way to the information `horizon`."""
    return Plan(horizon, Side(alpha / 2.0), Side(alpha / 2.0), "anytime", clustered=clustered)


def reverse_holdout(state: State, blocks: Sequence[Block], plan: Plan) -> tuple[State, HoldoutReading | NoAnswer]:
    """One reading, at all closed blocks since the promotion.

    The previous champion has the champion's place in the blocks and the new one the challenger's, so the logged
    propensity is 1 − the share held out.
    """
    after, look = advance(state, blocks, plan)
    if isinstance(look, NoAnswer):
        return after, look
    standing: Literal["gained", "open", "lost"] = "open"
    if look.lower is not None and look.lower > 0.0:
        standing = "gained"
    elif look.upper is not None and look.upper < 0.0:
        standing = "lost"
    low, high = ("no limit" if each is None else f"{each:+.5g}" for each in (look.lower, look.upper))
    result = {"gained": "the promotion has paid", "lost": "the promotion was a loss", "open": "its sign is still open"}
    reason = (
        f"{result[standing]}: {look.effect:+.5g} per unit (from {low} to {high}) over {look.n_challenger} units of the "
        f"new champion, against {look.n_champion} of the previous one"
    )
    return after, HoldoutReading(standing, look, reason)
