"""The decision: conditions with their reasons, and what follows from them together. Pure.

The primary metric must improve by its threshold and significantly; other metrics as declared; no slice may be harmed;
latency must stay within its limit. Where the primary metric can't be judged there is no answer; otherwise one broken
condition keeps the champion, and one that can't be judged is no answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluator.offline.comparator.result import Decision, Factor, MetricImprovement, SliceImprovement
from evaluator.offline.comparator.settings import Requirement
from gauntlet.config.evidence import MIN_HOLDOUT_BLOCKS
from gauntlet.holdout import stability
from gauntlet.holdout.statistics import beside, change_in_words
from gauntlet.latency import Latency, fast_enough

_ROUNDING = 1e-9
"""0.83 − 0.81 is less than 0.02 in binary, and meant to be equal."""


def decide(factors: Sequence[Factor], primary: int) -> tuple[Decision, tuple[str, ...]]:
    """The decision and its reasons, the deciding ones first. The first `primary` factors are the primary metric's."""
    unknown = [one for one in factors if one.met is None]
    broken = [one for one in factors if one.met is False]
    if any(one.met is None for one in factors[:primary]):
        return "no_answer", _reasons([one for one in factors[:primary] if one.met is None])
    if broken:
        return "keep", _reasons(broken)
    if unknown:
        return "no_answer", _reasons(unknown)
    return "promote", _reasons(factors)


def _reasons(factors: Sequence[Factor]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.reason for one in factors))


def required(one: Requirement, change: MetricImprovement, alpha: float, blocks: int) -> list[Factor]:
    """Improvement ≥ threshold, and significance; or, for a guardrail, that it is not significantly worse."""
    if change.p_value is None or change.improvement is None:
        return [Factor(f"{one.metric} can be judged", None, _unknown(one.metric, change, blocks))]
    if one.threshold is None:
        return [_guardrail(one, change, alpha)]
    enough = change.improvement >= one.threshold - _ROUNDING
    sure = change.lower is not None and change.lower > 0
    improves = change_in_words(one.metric, change.improvement)
    asked = beside(change.improvement, one.threshold, enough=enough)
    bound = "it has no lower bound" if change.lower is None else f"it is at least {change.lower:.4g}"
    level = f"p {change.p_value:.4g}, {'below' if sure else 'not below'} {alpha:g}"
    reason = f"the improvement of {one.metric} is {'' if sure else 'not '}significant: {bound}, {level}"
    if change.upper is not None and change.upper < 0:
        reason = f"{one.metric} is significantly worse: by at least {-change.upper:.4g}, p {change.p_value:.4g}"
    return [
        Factor(f"{one.metric} improves by ≥ {one.threshold:g}", enough, f"{improves}, {asked}"),
        Factor(f"{one.metric} improves significantly", sure, reason),
    ]


def _unknown(metric: str, change: MetricImprovement, blocks: int) -> str:
    if change.improvement is None:
        return f"{metric} is not defined on these rows: the truth has one class only, or no spread"
    return f"{blocks} blocks are too few for a bound (it takes {MIN_HOLDOUT_BLOCKS} or more)"


def _guardrail(one: Requirement, change: MetricImprovement, alpha: float) -> Factor:
    margin = one.margin or 0.0
    broken = change.upper is not None and change.upper < -margin - _ROUNDING
    allowed = f"the margin of {margin:g}" if margin else "0"
    reason = (
        f"guardrail {one.metric}: worse by at least {-(change.upper or 0.0):.4g}, beyond {allowed}"
        if broken
        else f"guardrail {one.metric}: not shown to be worse by more than {allowed} at {alpha:g}"
    )
    return Factor(f"{one.metric} is not worse by > {margin:g}", not broken, reason)


def unharmed(slices: Sequence[SliceImprovement]) -> Factor | None:
    """No slice is harmed; one without an answer does not count. None without slices."""
    if not slices:
        return None
    harmed = [one for one in slices if one.harmed]
    judged = sum(one.harmed is not None for one in slices)
    parts = [
        f"{'class ' if one.column is None else one.column + ' = '}{one.value} ({one.metric} {one.improvement:+.4g}, "
        f"adjusted p {one.adjusted_p_value:.4g})"
        for one in harmed
    ]
    reason = f"worse in {', '.join(parts)}" if harmed else f"no slice is worse, of {judged:,} that can be judged"
    return Factor("no slice is harmed", not harmed, reason)


def quick(latency: Latency | None, most: float) -> Factor | None:
    """Whether the challenger is fast enough. None where nobody has timed it."""
    return None if latency is None else Factor(f"latency rises by ≤ {most:.0%}", *fast_enough(latency, most))


def steady(before: float | None, after: float | None) -> Factor | None:
    """The spectral gap is within its limits, or no farther outside than the champion's. None for other models."""
    if after is None:
        return None
    limits = f"{stability.LOWEST:g} to {stability.HIGHEST:g}"
    beyond = stability.outside(after)
    met = not beyond or (before is not None and beyond <= stability.outside(before) + _ROUNDING)
    change = f"{after:.4g}" if before is None else f"{before:.4g} → {after:.4g}"
    where = "outside" if beyond else "within"
    reason = f"the spectral gap, {change}, is {where} {limits}"
    return Factor(f"spectral gap within {limits}", met, f"{reason}, as the champion's is" if beyond and met else reason)


def factors(
    requirements: Sequence[Requirement],
    changes: Mapping[str, MetricImprovement],
    slices: Sequence[SliceImprovement],
    latency: Latency | None,
    *,
    alpha: float,
    blocks: int,
    most_latency: float,
    gaps: tuple[float | None, float | None] = (None, None),
) -> tuple[list[Factor], int]:
    """The conditions of a promotion, and how many of them are the primary metric's. `gaps`: spectral gaps of regime
    models."""
    by_metric = [required(one, changes[one.metric], alpha, blocks) for one in requirements]
    found = (unharmed(slices), quick(latency, most_latency), steady(*gaps))
    others = [one for one in found if one is not None]
    return [one for some in by_metric for one in some] + others, len(by_metric[0])
