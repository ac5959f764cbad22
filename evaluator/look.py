"""One look at one rollout: from its sums and the looks so far to an evaluation. Pure.

A look is taken whenever a block has matured: closed, and older than the outcome horizon. Which looks are taken depends
on the log alone, so the same log gives the same evaluations however it was read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from evaluator.fold import BlockSums, LossSums, RolloutSums
from evaluator.stats import (
    AssignmentCounts,
    Block,
    Look,
    PairedSums,
    Plan,
    Policy,
    SampleRatio,
    Side,
    SplitSums,
    State,
    advance,
    horizon_information,
    judge,
    paired_blocks,
    sample_ratio,
    split_blocks,
)  # fmt: skip
from evaluator.stats.plan import HARM_SIDE
from gauntlet.config import Config
from gauntlet.events import ArmSummary, Evaluation
from gauntlet.model import BASELINE, CANDIDATE


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollout's test was declared with. They stay with it: a changed configuration starts with the next."""

    form: str
    alpha: float
    harm_alpha: float
    min_samples: int
    min_blocks: int
    min_harm_blocks: int
    margin: float
    share: float

    @property
    def paired(self) -> bool:
        return self.form == "paired"

    @property
    def plan(self) -> Plan:
        return Plan(
            horizon=horizon_information(self.min_samples, None if self.paired else self.share),
            win=Side(alpha=self.alpha / 2),
            harm=replace(HARM_SIDE, alpha=self.harm_alpha),
            min_blocks_win=self.min_blocks,
            min_blocks_harm=self.min_harm_blocks,
        )

    @property
    def policy(self) -> Policy:
        return Policy(equivalence=self.margin or None)


@dataclass(frozen=True)
class Scheme:
    """How this experiment is judged: made once from the configuration."""

    terms: Terms
    metric: str
    experiment: str
    block: float
    harm_block: float
    offset: float
    horizon: float

    @property
    def ratio(self) -> int:
        """Harm blocks in one block."""
        return round(self.block / self.harm_block)

    def matured(self, watermark: float) -> int:
        """The index of the first harm block that has not matured at `watermark`."""
        return int((watermark - self.horizon - self.offset) // self.harm_block)


def scheme(config: Config) -> Scheme:
    """The scheme of a configuration."""
    evidence = config.evidence
    terms = Terms(
        form=evidence.form,
        alpha=evidence.alpha,
        harm_alpha=evidence.harm_alpha,
        min_samples=evidence.min_samples,
        min_blocks=evidence.min_blocks,
        min_harm_blocks=evidence.min_harm_blocks,
        margin=evidence.margin,
        share=config.ramp[-1].share,
    )
    return Scheme(
        terms=terms,
        metric=config.metric,
        experiment=config.experiment,
        block=float(evidence.block),
        harm_block=float(evidence.harm_block),
        offset=float(evidence.block_offset),
        horizon=float(evidence.outcome_horizon),
    )


@dataclass
class Looks:
    """What a rollout's test remembers: its terms, its sequential state, the next block, the smallest ratio p value."""

    terms: Terms
    state: State
    next_block: int | None = None
    smallest_p: float = 1.0

    @classmethod
    def start(cls, terms: Terms) -> Looks:
        return cls(terms, State.start(terms.plan))

    def to_dict(self) -> dict[str, Any]:
        return {
            "terms": msgspec.to_builtins(self.terms),
            "state": self.state.to_dict(),
            "next_block": self.next_block,
            "smallest_p": self.smallest_p,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Looks:
        terms = msgspec.convert(data["terms"], Terms)
        return cls(terms, State.from_dict(terms.plan, data["state"]), data["next_block"], data["smallest_p"])


def look(
    scheme: Scheme, name: str, sums: RolloutSums, looks: Looks, last: int, offsets: dict[str, int], task: Any
) -> Evaluation:
    """Look at all blocks up to and including harm block `last`; updates `looks`.

    `offsets` are those whose records the sums hold: they make the evaluation repeatable.
    """
    closed = sorted(index for index in sums.blocks if index <= last)
    fine = [sums.blocks[index] for index in closed]
    coarse = _coarse(sums, closed, scheme.ratio, last)
    looks.state, answer = advance(
        looks.state,
        _blocks(looks.terms, coarse),
        looks.terms.plan,
        _blocks(looks.terms, fine) if scheme.ratio > 1 else None,
    )
    ratio = sample_ratio(_assignments(scheme, sums, last), smallest_p=looks.smallest_p)
    if isinstance(ratio, SampleRatio):
        looks.smallest_p = ratio.p_value
    verdict = judge(answer, sample_ratio=ratio, policy=looks.terms.policy)
    at = (last + 1) * scheme.harm_block + scheme.offset + scheme.horizon
    numbers: dict[str, Any] = {}
    if isinstance(answer, Look):
        numbers = {
            "crossed": answer.crossed, "effect": answer.effect, "lower": answer.lower, "upper": answer.upper,
            "z": answer.z, "bound_win": answer.bound_win, "bound_harm": answer.bound_harm, "p_value": answer.p_value,
            "information_fraction": answer.information_fraction, "blocks": answer.n_blocks,
            "widening": answer.widening, "skewness": answer.skewness,
        }  # fmt: skip
    return Evaluation(
        id=f"{name}/{last}",
        at=at,
        experiment=scheme.experiment,
        rollout=name,
        champion=sums.champion,
        challenger=sums.challenger,
        form=looks.terms.form,
        metric=scheme.metric,
        result=verdict.result,
        reasons=list(verdict.reasons),
        pairs=sum(b.paired.n for b in fine),
        srm_p_value=ratio.p_value if isinstance(ratio, SampleRatio) else None,
        arms=_arms(looks.terms, sums, fine, task),
        offsets=offsets,
        **numbers,
    )


def _assignments(scheme: Scheme, sums: RolloutSums, last: int) -> AssignmentCounts:
    """Who had been assigned by the look's own time: they need no outcome, so those of the horizon are in too."""
    known = last + int(scheme.horizon // scheme.harm_block)
    total = AssignmentCounts()
    for index, block in sums.blocks.items():
        if index <= known:
            for share, (champion, challenger) in block.assignments.counts.items():
                total.add(False, share, champion)
                total.add(True, share, challenger)
    return total


def _coarse(sums: RolloutSums, closed: list[int], ratio: int, last: int) -> list[tuple[SplitSums, PairedSums]]:
    """The blocks that a win is judged on, merged from the fine ones; one that is not closed yet is left out."""
    merged: dict[int, tuple[SplitSums, PairedSums]] = {}
    for index in closed:
        big = index // ratio
        if (big + 1) * ratio - 1 > last:
            continue
        split, paired = merged.get(big, (SplitSums(), PairedSums()))
        block = sums.blocks[index]
        merged[big] = (split.merge(block.split), paired.merge(block.paired))
    return [merged[big] for big in sorted(merged)]


def _blocks(terms: Terms, sums: list[tuple[SplitSums, PairedSums]] | list[BlockSums]) -> list[Block]:
    """Blocks with anything in them, in time order: an hour without traffic is no evidence of anything."""
    parts = [(s.split, s.paired) if isinstance(s, BlockSums) else s for s in sums]
    if terms.paired:
        return paired_blocks([paired for _, paired in parts if paired.n])
    return split_blocks([split for split, _ in parts if split.n_champion + split.n_challenger])


def _arms(terms: Terms, sums: RolloutSums, blocks: list[BlockSums], task: Any) -> dict[str, ArmSummary]:
    arms: dict[str, ArmSummary] = {}
    for arm, model in ((BASELINE, sums.champion), (CANDIDATE, sums.challenger)):
        total = LossSums()
        for block in blocks:
            total.merge(block.pairs[arm] if terms.paired else block.arms[arm])
        arms[arm] = ArmSummary(
            model=model,
            exposures=sum(b.exposures[arm] for b in blocks),
            outcomes=sum(b.arms[arm].n for b in blocks) if not terms.paired else total.n,
            metrics=total.metrics(task),
        )
    return arms
