"""Segments: a harm test of the primary metric for each value of each declared label. Pure.

Invariant: with no harm anywhere, any value of any label is called harmed with probability at most `harm_alpha`, at any
look ever made: each has an always-valid p value, and they are corrected together (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluator.service.block_sums import BlockSums, Sums, blocks_of
from evaluator.service.counters import capped, kept
from evaluator.service.design import RolloutPlan
from evaluator.stats import Look, NoAnswer, State, advance
from evaluator.stats.multiplicity import holm
from gauntlet.events import SegmentResult


def read(
    names: Sequence[str], plan: RolloutPlan, states: Mapping[str, State], matured: Sequence[BlockSums]
) -> tuple[dict[str, State], list[SegmentResult]]:
    """The look at every value of the named labels; states are by label=value."""
    test = plan.segment
    after: dict[str, State] = {}
    cells: list[tuple[str, str, Look | NoAnswer]] = []
    for name in names:
        for value, sums in sorted(_by_value(name, matured).items()):
            key = f"{name}={value}"
            after[key], answer = advance(states.get(key) or State.start(test), blocks_of(sums), test)
            cells.append((name, value, answer))
    corrected = holm([answer.p_harm if isinstance(answer, Look) else None for _, _, answer in cells])
    return after, [
        _result(name, value, answer, p, plan.harm_alpha)
        for (name, value, answer), p in zip(cells, corrected, strict=True)
    ]


def _result(name: str, value: str, answer: Look | NoAnswer, p: float | None, alpha: float) -> SegmentResult:
    numbers: dict[str, Any] = {}
    if isinstance(answer, Look) and p is not None:
        numbers = {
            "effect": answer.effect,
            "lower": answer.lower,
            "upper": answer.upper,
            "p_value": p,
            "harmed": p <= alpha and answer.effect < 0,
        }
    return SegmentResult(name=name, value=value, champion=answer.n_champion, challenger=answer.n_challenger, **numbers)


def sentence(result: SegmentResult) -> str:
    """The harm to one segment in words."""
    return (
        f"worse in segment {result.name}={result.value}: effect {result.effect:+.4g} over "
        f"{result.champion + result.challenger:,} outcomes (p = {result.p_value:.2g})"
    )


def _by_value(name: str, matured: Sequence[BlockSums]) -> dict[str, list[Sums]]:
    """Each value's sums in time order."""
    parts = [block.segments[name] for block in matured if name in block.segments]
    apart = kept(value for part in parts for value in part)
    found: dict[str, list[Sums]] = {}
    for part in parts:
        for value, sums in capped(part, apart).items():
            found.setdefault(value, []).append(sums)
    return found
