"""From evidence and policy to a verdict: better, worse, equivalent, inconclusive or invalid, with reasons.

Invariant: `judge` is a pure function, and never says better without a crossed boundary and every guard in order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from evaluator.stats.errors import NoAnswer, PlanError
from evaluator.stats.guards import Standing
from evaluator.stats.interim_analysis import Look
from evaluator.stats.sample_ratio_mismatch import SampleRatio

Result = Literal["better", "worse", "equivalent", "inconclusive", "invalid"]


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

        The limits invert the test of effect = −margin (score shifted by margin·I), so comparing them with −margin is
        that test.
        """
        if isinstance(self.look, NoAnswer):
            return "open"
        if self.look.upper is not None and self.look.upper < -self.margin:
            return "breached"
        if self.look.lower is not None and self.look.lower > -self.margin:
            return "safe"
        return "open"


@dataclass(frozen=True, slots=True)
class Policy:
    """equivalence: effects within ± this are as good as none (None: never say equivalent). require_safe: better needs
    every guardrail shown to be safe; else it is enough that none is breached."""

    equivalence: float | None = None
    require_safe: bool = False

    def __post_init__(self) -> None:
        if self.equivalence is not None and not (math.isfinite(self.equivalence) and self.equivalence > 0.0):
            raise PlanError(f"the equivalence margin {self.equivalence!r} is not a finite number above 0")


DEFAULT_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True)
class Verdict:
    """result, whether more evidence could still change it, reasons, and how many more outcomes (of both arms) to the
    horizon and to a decision if the effect stays as it is; None where that can't be told."""

    result: Result
    final: bool
    reasons: tuple[str, ...]
    eta_horizon: int | None = None
    eta_decision: int | None = None


def judge(
    look: Look | NoAnswer,
    *,
    guardrails: Sequence[Guardrail] = (),
    sample_ratio: SampleRatio | NoAnswer | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> Verdict:
    """The verdict on the primary metric's look: the first of invalid, worse (any metric), better, equivalent."""
    if isinstance(sample_ratio, SampleRatio) and sample_ratio.mismatch:
        return Verdict("invalid", True, (f"sample ratio mismatch: {sample_ratio.reason}",))
    breached = [guard for guard in guardrails if guard.standing == "breached"]
    if breached:
        return Verdict("worse", True, tuple(_breach(guard) for guard in breached))
    if isinstance(look, NoAnswer):
        return Verdict("inconclusive", False, (f"no answer yet: {look.reason}",))
    if look.crossed == "worse":
        return Verdict("worse", True, look.reasons)
    to_horizon, to_decision = _eta(look)
    if look.crossed == "better":
        unsafe = [guard.name for guard in guardrails if guard.standing != "safe"] if policy.require_safe else []
        if not unsafe:
            return Verdict("better", True, look.reasons)
        waits = f"better, but not shown to be safe yet: {', '.join(unsafe)}"
        return Verdict("inconclusive", look.final, (waits, *look.reasons), to_horizon, None)
    bar = policy.equivalence
    if bar is not None and look.lower is not None and look.upper is not None and -bar < look.lower <= look.upper < bar:
        reason = f"the effect lies between {look.lower:+.5g} and {look.upper:+.5g}, within ±{bar:g}"
        return Verdict("equivalent", True, (reason, *look.reasons))
    return Verdict("inconclusive", look.final, look.reasons, to_horizon, to_decision)


def _breach(guard: Guardrail) -> str:
    assert isinstance(guard.look, Look)
    assert guard.look.upper is not None
    return (
        f"guardrail {guard.name} is worse by at least {-guard.look.upper:.5g}"
        f"{f', beyond its margin {guard.margin:g}' if guard.margin else ''}"
    )


def _eta(look: Look) -> tuple[int | None, int | None]:
    """Outcomes to t = 1 at the present rate of information; to z, growing as √t, meeting the present bound."""
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
