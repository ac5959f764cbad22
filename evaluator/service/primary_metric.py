"""One look at a rollout's primary metric: its blocks, the sequential test on them, and what the gates need. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from evaluator.service import block_sums
from evaluator.service.block_sums import BlockSums, Models, RolloutSums, Sums
from evaluator.service.design import KNOWN_CYCLES, MIDDLE_PARTS, EvaluationDesign, RolloutPlan
from evaluator.stats import (
    Block,
    Look,
    NoAnswer,
    PairedSums,
    Plan,
    SplitSums,
    State,
    Tails,
    TailSums,
    advance,
    advance_at_scales,
)
from evaluator.stats.cluster_robust import HARM_SCALES, LEAST_INTRACLASS
from evaluator.stats.intraclass import intraclass
from evaluator.stats.score_process import RESOLUTION
from gauntlet.types import CHALLENGER, CHAMPION

Parts = tuple[SplitSums, PairedSums]
"""A block's evidence in both forms."""
BlockEvidence = BlockSums | Parts

_CLEAR = 2.0
"""Standard errors between an effect and gross harm from which that is excluded."""

_MISSING = 0.02
"""Of the pairs of an hour, how many may still be without their label when it speaks for harm early."""

_UNSEEN = 2.0
"""Standard deviations of the difference by which each of them is then taken to speak for the challenger."""

_FOUND = 2.2 + 0.84
"""Standard errors of the planned evidence at which an effect is found with 80 %: last bound plus normal quantile."""

_SCALES_COST = 1.12
"""By how much larger it has to be where the weakest of several scales decides (`python -m benchmarks.spending`)."""


def look(
    design: EvaluationDesign,
    plan: RolloutPlan,
    test: Plan,
    state: State,
    matured: Mapping[int, BlockEvidence],
    last: int,
    young: Mapping[int, BlockEvidence] | None = None,
) -> tuple[State, Look | NoAnswer]:
    """The next look of `test`, at all blocks up to and including `last`, with its state after it. `young` blocks, which
    have not matured, speak for harm alone, unless that waits."""
    tails = _tails(matured.values())
    if not plan.scaled:
        fine = blocks_of(plan, list(matured.values())) if design.harm_blocks_per_block > 1 else None
        return advance(state, _merged(plan, matured, design.harm_blocks_per_block, last), test, fine, tails)
    lengths = (1, design.harm_blocks_per_block // MIDDLE_PARTS, design.harm_blocks_per_block)
    whole = {
        i: block
        for i, block in matured.items()
        if (i // design.harm_blocks_per_block + 1) * design.harm_blocks_per_block - 1 <= last
    }
    known, end = (matured, last) if test.harm_waits else ({**matured, **(young or {})}, last + design.early_blocks)
    win = [_merged(plan, whole, length, last) for length in lengths]
    begun = end if test.harm_waits else end + design.harm_blocks_per_block - 1  # harm's days are those that have begun
    harm = [_merged(plan, known, length, end) for length in lengths[:2]] + [_merged(plan, known, lengths[2], begun)]
    return advance_at_scales(state, win, harm, test, tails)


def young_blocks(
    design: EvaluationDesign, sums: RolloutSums, last: int, before: Collection[int] = ()
) -> dict[int, BlockEvidence]:
    """The blocks after `last` whose pairs have nearly all got their label early, and those that the look `before` used:
    no look knows less than the last one, though scores of the challenger may come late.

    Both arms are judged by the same label, so early labels favour one only where they are of another kind than late
    ones. Hence all of a block's pairs are asked for but `_MISSING`, and these are taken to speak for the challenger.
    """
    found: dict[int, BlockEvidence] = {}
    for index in range(last + 1, last + design.early_blocks + 1):
        block = sums.blocks.get(index)
        if block is None or not block.early.n:
            continue
        missing = block.shadows.both - block.early.n
        if index in before or missing <= _MISSING * block.shadows.both:
            spread = math.sqrt(block.early.variance() / block.early.n)
            credit = round(_UNSEEN * spread * max(0, missing) * RESOLUTION)
            found[index] = (SplitSums(), replace(block.early, d=block.early.d + credit))
    return found


def not_worse(kept: Look) -> str:
    """The sentence that a retrained challenger has shown not to be worse by more than the margin."""
    return (
        f"better on average, {kept.effect:+.4g}, and not worse by more than {kept.margin:.4g}: shown at look "
        f"{kept.stop.look if kept.stop else kept.number} of the level-controlled test"
    )


def first_samples(plan: RolloutPlan, sums: RolloutSums, blocks: int, last: int) -> float | None:
    """Outcomes of the challenger (paired: pairs) that so many blocks bring at the ramp's last share, counted from the
    first one with traffic; None before they are over."""
    traffic = {
        index: block.paired.n if plan.paired else sum(block.exposures.values()) for index, block in sums.blocks.items()
    }
    first = min((index for index, n in traffic.items() if n), default=last + 1)
    if last - first + 1 < blocks:
        return None
    units = sum(n for index, n in traffic.items() if first <= index < first + blocks)
    return units if plan.paired else units * plan.share


def intraclass_of_days(design: EvaluationDesign, sums: RolloutSums, last: int, models: Models) -> float:
    """How much days differ, by the losses of whichever version has answered most in the latest whole days up to block
    `last`: what two days of a challenger's pairs can't show. Of real models a loss and the difference of two differ
    from day to day by about the same share of their spread."""
    matured = (block.paired for index, block in sums.blocks.items() if index <= last)
    variance = reduce(PairedSums.merge, matured, PairedSums()).champion_variance
    length = design.harm_blocks_per_block
    end = (last + 1) // length
    known = [(np.zeros(KNOWN_CYCLES), np.zeros(KNOWN_CYCLES))]
    for blocks in models.values():
        units, totals = np.zeros(KNOWN_CYCLES), np.zeros(KNOWN_CYCLES)
        for index, block in blocks.items():
            if 0 <= (at := index // length - end + KNOWN_CYCLES) < KNOWN_CYCLES:
                units[at] += block.n
                totals[at] += block.total(design.metric)
        known.append((units, totals))
    units, totals = max(known, key=lambda each: (each[0].sum(), each[1].sum()))
    return intraclass(units, totals, variance)


def forecast(answer: Look | NoAnswer, plan: RolloutPlan) -> list[str]:
    """What the planned evidence is worth, in words, while it is incomplete: how much there will be, when, and which
    effect it finds."""
    if isinstance(answer, NoAnswer) or not plan.rate or answer.information_fraction >= 1.0:
        return []
    smallest = (
        _FOUND * (_SCALES_COST if plan.scaled else 1.0) * answer.standard_error * answer.information_fraction**0.5
    )
    unit, days = "pairs" if plan.paired else "outcomes of the challenger", plan.samples / plan.rate / 86_400
    found = [
        f"plan: {plan.samples:,} {unit}, {days:.3g} days at {plan.rate * 86_400:,.0f} a day; "
        f"an effect of {smallest:.2g} is then found with about 80 %"
    ]
    if plan.intraclass > LEAST_INTRACLASS and not plan.primary.harm_waits:
        found.append(
            f"the champion's losses differ from day to day by {plan.intraclass**0.5:.2g} of their spread; until there "
            f"are {HARM_SCALES[-1].least} days of pairs, harm is judged as if the differences did, too"
        )
    return found


def excludes_gross_harm(answer: Look, plan: RolloutPlan) -> bool:
    """Whether harm of the gross margin, a share of the champion's loss, would have shown by now and did not."""
    gross = plan.gross_margin * abs(answer.mean_champion or 0.0)
    return answer.effect - _CLEAR * answer.standard_error > -gross


def is_underpowered(answer: Look, plan: RolloutPlan) -> bool:
    """Whether this evidence misses the smallest effect worth finding more often than promised."""
    smallest = plan.min_effect * abs(answer.mean_champion or 0.0)
    return answer.detectable_win is None or answer.detectable_win > smallest


def _tails(blocks: Iterable[BlockEvidence]) -> Tails | None:
    """What the blocks show of the tails of pairs' differences, or of the arms' outcomes; None where none are kept."""
    arms = [CHAMPION, CHALLENGER]
    kept = [block.tails for block in blocks if isinstance(block, BlockSums) and block.tails]
    if not kept:
        return None
    return Tails.of_arms(
        *(reduce(TailSums.merge, (each[arm] for each in kept if arm in each), TailSums()) for arm in arms)
    )


def _own(plan: RolloutPlan, block: BlockEvidence) -> Sums:
    """A block's evidence in the plan's form."""
    split, paired = (block.split, block.paired) if isinstance(block, BlockSums) else block
    return paired if plan.paired else split


def _merged(plan: RolloutPlan, matured: Mapping[int, BlockEvidence], length: int, last: int) -> list[Block]:
    """Blocks of `length` fine ones each; one that is not closed yet is left out."""
    merged: dict[int, Any] = {}  # all of one kind
    for index, block in matured.items():
        coarse = index // length
        if (coarse + 1) * length - 1 <= last:
            own, before = _own(plan, block), merged.get(coarse)
            merged[coarse] = own if before is None else before.merge(own)
    return _blocks([merged[coarse] for coarse in sorted(merged)])


def blocks_of(plan: RolloutPlan, sums: Sequence[BlockEvidence]) -> list[Block]:
    """Blocks with anything in them, in time order: an hour without traffic is not evidence of anything."""
    return _blocks([_own(plan, each) for each in sums])


def _blocks(sums: Sequence[Sums]) -> list[Block]:
    return block_sums.blocks_of([each for each in sums if each.units])


def evidence_units(plan: RolloutPlan, block: BlockSums) -> int:
    """Pairs, or units of the split, in a block."""
    return _own(plan, block).units
