"""The verdict on a comparison: better, worse, equivalent or inconclusive, with reasons.

Invariant: never better without a crossed boundary, and never with a breached guardrail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evaluator.stats.errors import NoAnswer, PlanError
from evaluator.stats.guards import Standing
from evaluator.stats.interim_analysis import Look

Result = Literal["better", "worse", "equivalent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that must not worsen by more than margin ≥ 0, with its own look (larger outcomes better)."""

    name: str
    look: Look | NoAnswer
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and self.margin >= 0.0):
            raise PlanError(f"the margin {self.margin!r} of guardrail {self.name} is not a finite number of at least 0")

    @property
    def standing(self) -> Standing:
        """safe: worse by more than the margin is ruled out; breached: it is shown; open: neither yet.

        The limits invert the test of effect = −margin, so comparing them with −margin is that test.
        """
        if isinstance(self.look, NoAnswer):
            return "open"
        if self.look.upper is not None and self.look.upper < -self.margin:
            return "breached"
        if self.look.lower is not None and self.look.lower > -self.margin:
            return "safe"
        return "open"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A result with its reasons. final: more evidence can't change it any more.

    eta_horizon, eta_decision: outcomes (of both arms) left to the horizon, and to a decision if the effect stays as it
    is; None where unknown.
    """

    result: Result
    final: bool
    reasons: tuple[str, ...]
    eta_horizon: int | None = None
    eta_decision: int | None = None


def judge(look: Look | NoAnswer, *, guardrails: Sequence[Guardrail] = (), equivalence: float | None = None) -> Verdict:
    """The verdict on the primary metric's look: the first of worse (any metric), better, equivalent, inconclusive.

    equivalence: effects within ± this are as good as none; None: never equivalent.
    """
    if equivalence is not None and not (math.isfinite(equivalence) and equivalence > 0.0):
        raise PlanError(f"the equivalence margin {equivalence!r} is not a finite number above 0")
    breached = [guard for guard in guardrails if guard.standing == "breached"]
    if breached:
        return Verdict("worse", True, tuple(_breach(guard) for guard in breached))
    if isinstance(look, NoAnswer):
        return Verdict("inconclusive", False, (f"no answer yet: {look.reason}",))
    if look.crossed is not None:
        return Verdict(look.crossed, True, look.reasons)
    bar, lower, upper = equivalence, look.lower, look.upper
    if bar is not None and lower is not None and upper is not None and -bar < lower <= upper < bar:
        reason = f"the effect lies between {lower:+.5g} and {upper:+.5g}, within ±{bar:g}"
        return Verdict("equivalent", True, (reason, *look.reasons))
    return Verdict("inconclusive", look.final, look.reasons, *_eta(look))


def _breach(guard: Guardrail) -> str:
    assert isinstance(guard.look, Look)
    assert guard.look.upper is not None
    return (
        f"guardrail {guard.name} is worse by at least {-guard.look.upper:.5g}"
        f"{f', beyond its margin {guard.margin:g}' if guard.margin else ''}"
    )


def _eta(look: Look) -> tuple[int | None, int | None]:
    """Outcomes until t = 1 at the present rate of information, and until z, growing as √t, meets the present bound."""
    outcomes = look.n_champion + look.n_challenger
    per_fraction = outcomes / look.information_fraction
    horizon = max(0, math.ceil(per_fraction * (1.0 - look.information_fraction)))
    bound = look.bound_win if look.z >= 0.0 else look.bound_harm
    if bound is None or look.z == 0.0 or look.final:
        return horizon, None
    reached = look.information_fraction * (bound / look.z) ** 2
    if reached > 1.0:
        return horizon, None
    return horizon, max(0, math.ceil(per_fraction * (reached - look.information_fraction)))
