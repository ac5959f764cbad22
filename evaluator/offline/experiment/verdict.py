"""Verdicts on a comparison, a challenger and the whole experiment, and the sentences that give their reasons.

Invariant: nothing is called better while a guard is broken or in doubt, while a guardrail or a declared segment is
worse, or where the evidence doesn't survive the correction over everything that was asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evaluator.offline.experiment.result import Comparison, Guard, SampleRatioResult, Stopped
from evaluator.stats.panel import BETTER, WORSE


@dataclass(frozen=True, slots=True)
class LookFacts:
    """Facts of one comparison after its looks, in the metric's own units and sign.

    verdict: that of its own boundary. oriented_effect: positive is better. contradictory: the limits of the looks that
    counted exclude the present effect, so there are none. fraction: of the planned evidence. waits: why better, or
    anything, can't be said yet. corrected: p after the correction over a family of so many comparisons. None where a
    fact doesn't apply or isn't known.
    """

    verdict: str
    mode: str
    alpha: float
    planned: bool
    rows: int
    looks: int
    effect: float | None
    oriented_effect: float | None
    lower: float | None
    upper: float | None
    contradictory: bool
    margin: float
    z: float | None
    fraction: float | None
    blocks: int | None
    widening: float | None
    skewness: float | None
    waits: str | None
    stopped: Stopped | None
    corrected: float | None = None
    family: int = 1


def of_boundary(crossed: float, margin: float, lower: float) -> str:
    """Verdict of a comparison's own boundary. With a margin, crossing shows only that it is not worse by more."""
    if crossed == WORSE:
        return "worse"
    if crossed == BETTER:
        return "better" if not margin or lower > 0.0 else "equivalent"
    return "inconclusive"


def of_comparison(facts: LookFacts) -> tuple[str, tuple[str, ...]]:
    """The verdict over all rows after the correction, and its reasons."""
    verdict, reasons, effect = facts.verdict, _reasons(facts), facts.oriented_effect
    # An equivalent challenger may be worse by less than the margin.
    turned = effect is not None and effect <= (-facts.margin if facts.margin else 0.0)
    if verdict in ("better", "equivalent") and turned:
        verdict = "inconclusive"
        over_all = f"it crossed its boundary, but over all rows the effect is {facts.effect:+.5g}: not decided"
        reasons.insert(0, over_all)
    p = facts.corrected
    if p is not None and verdict != "inconclusive":
        if p > facts.alpha:
            asked = f"not enough once {facts.family} comparisons are asked at a time"
            reasons.insert(0, f"{asked}: p = {p:.3g} after correction, above {facts.alpha:g}")
            verdict = "inconclusive"
        elif verdict == "better" and facts.margin:
            # p is about the margin; that it is better as well would be one more question.
            verdict = "equivalent"
    return verdict, tuple(reasons)


def _reasons(facts: LookFacts) -> list[str]:
    if not facts.looks:
        return [f"no answer yet, because {facts.waits}", *_contradiction(facts)]
    reasons, null = [], f"a margin of {facts.margin:g}" if facts.margin else "no effect"
    stop = facts.stopped
    if stop is not None:
        what = "not worse by more than the margin" if stop.verdict == "equivalent" else stop.verdict
        limits = ", ".join("…" if limit is None else f"{limit:+.5g}" for limit in (stop.lower, stop.upper))
        reasons.append(
            f"{what}: the effect {stop.effect:+.5g} [{limits}] crossed the boundary against {null} at look "
            f"{stop.look}, after {stop.rows:,} rows"
        )
    else:
        looks = "at the only look that counts, the last" if facts.mode == "fixed" else f"in {facts.looks} looks"
        reasons.append(f"inconclusive: z = {facts.z or 0.0:.2f} crossed no boundary {looks}")
        if facts.waits is not None:
            reasons.append(f"not enough for better yet: {facts.waits}")
        if facts.planned:
            reasons += _horizon(facts)
    if facts.blocks is not None:
        widening = (
            ""
            if facts.widening is None
            else f", skewness {facts.skewness or 0.0:.2f}; correlation of neighbours multiplies the variance by "
            f"{facts.widening:.2f}"
        )
        reasons.append(f"{facts.blocks} clusters{widening}")
    return [*reasons, *_contradiction(facts)]


def _horizon(facts: LookFacts) -> list[str]:
    """Sentence on the share of the planned evidence."""
    fraction = facts.fraction or 0.0
    if fraction >= 1.0:
        complete = "the planned evidence is complete: further rows can show, but not decide"
        return [complete] if facts.mode == "group-sequential" else []
    if fraction <= 0.0:
        return []
    left = math.ceil(facts.rows * (1.0 / fraction - 1.0))
    return [f"{fraction:.0%} of the planned evidence is in; about {left:,} more rows would complete it"]


def _contradiction(facts: LookFacts) -> list[str]:
    if not facts.contradictory:
        return []
    return ["no interval: the limits of the looks that counted and the effect over all rows contradict each other"]


def of_experiment(
    comparisons: Iterable[tuple[int, Comparison]],
    arms: Sequence[str],
    ratio: SampleRatioResult | None,
    guards: Sequence[Guard],
    doubts: dict[int, list[str]],
) -> tuple[str, list[str]]:
    """The first of invalid, better (a challenger that passed everything), worse, equivalent, inconclusive.

    Comparisons and doubts (what is not shown to be wrong, and still reason enough not to call anything better) come
    with the index of their challenger in `arms`.
    """
    broken = [f"sample ratio mismatch: {ratio.reason}"] if ratio is not None and ratio.mismatch else []
    broken += [f"{guard.name}: {guard.reason}" for guard in guards if not guard.ok]
    if broken:
        return "invalid", broken
    comparisons = list(comparisons)
    verdicts, reasons = [], []
    for index in range(1, len(arms)):
        own = [one for challenger, one in comparisons if challenger == index]
        verdict, why = _of_challenger(own, doubts.get(index, []))
        verdicts.append(verdict)
        reasons += [f"{arms[index]}: {reason}" if len(arms) > 2 else reason for reason in why]
    if "better" in verdicts:
        return "better", reasons
    for verdict in ("worse", "equivalent"):
        if all(one == verdict for one in verdicts):
            return verdict, reasons
    return "inconclusive", reasons


def _of_challenger(comparisons: Sequence[Comparison], doubts: Sequence[str]) -> tuple[str, list[str]]:
    deciding = [one for one in comparisons if one.role in ("primary", "guardrail")]
    worse = [one for one in deciding if one.verdict == "worse"]
    harmed = [one for one in worse if one.segment is None]
    if harmed:
        return "worse", [f"{one.metric}: {one.reasons[0]}" for one in harmed]
    whole = [one for one in deciding if one.segment is None]
    primaries = [one for one in whole if one.role == "primary"]
    asked = primaries or whole
    if not asked:
        return "inconclusive", ["no primary metric was asked for: exploratory and signal metrics decide nothing"]
    reasons = [f"{one.metric}: {reason}" if len(asked) > 1 else reason for one in asked for reason in one.reasons]
    verdicts = {one.verdict for one in asked}
    if "better" in verdicts and (worse or doubts):
        held = [f"held: worse in segment {one.segment}: {one.reasons[0]}" for one in worse]
        return "inconclusive", [*held, *doubts, *reasons]
    if "better" in verdicts and primaries:
        return "better", reasons
    if "better" in verdicts:
        return "equivalent", ["no primary metric was asked for, and no guardrail is worse", *reasons]
    return ("equivalent" if verdicts == {"equivalent"} else "inconclusive"), reasons
