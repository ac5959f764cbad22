"""Pairs of two challengers, kept so that evidence is already there when one of them becomes the champion. Pure.

Every challenger scores the same requests, so pairs from before a promotion compare the others with the new champion,
too. Invariant: exact and order-free, like all sums of the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluator.service.block_sums import BlockSums, ComparisonSums, RolloutSums
from evaluator.stats import TailSums
from gauntlet.types import CHALLENGER, CHAMPION


@dataclass
class RivalSums(ComparisonSums):
    """Sums of two challengers in one block."""

    def mirrored(self) -> RivalSums:
        """The same pairs with the second in the champion's place."""
        return RivalSums(
            self.paired.mirrored(),
            {arm: sums.mirrored() for arm, sums in self.tails.items()},
            {CHAMPION: self.pairs[CHALLENGER], CHALLENGER: self.pairs[CHAMPION]},
        )

    def added_to(self, block: BlockSums) -> BlockSums:
        """A block with these pairs besides its own."""
        tails = {arm: sums.merge(block.tails.get(arm, TailSums())) for arm, sums in self.tails.items()}
        return replace(
            block,
            paired=self.paired.merge(block.paired),
            tails={**block.tails, **tails},
            pairs={arm: sums.merged(block.pairs[arm]) for arm, sums in self.pairs.items()},
        )


class RivalTable:
    """The blocks of every two versions, of which the first by name is in the champion's place."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, str], dict[int, RivalSums]] = {}

    def block(self, first: str, second: str, index: int) -> RivalSums:
        """`first` is less than `second`."""
        return self._blocks.setdefault((first, second), {}).setdefault(index, RivalSums())

    def with_rivalry(self, sums: RolloutSums) -> RolloutSums:
        """A rollout's sums with the pairs from when its two models were both challengers: as if the comparison had
        begun with the younger one's first score."""
        first, second = sorted((sums.champion, sums.challenger))
        before = self._blocks.get((first, second))
        if not before:
            return sums
        blocks = dict(sums.blocks)
        for index, rival in before.items():
            oriented = rival if first == sums.champion else rival.mirrored()
            blocks[index] = oriented.added_to(blocks.get(index) or BlockSums())
        return replace(sums, blocks=blocks)

    def forget(self, first: int, rollouts: Iterable[RolloutSums]) -> None:
        """Drop those that end before block `first`, but for what the rollouts need."""
        needed = [{sums.champion, sums.challenger} for sums in rollouts]
        self._blocks = {
            pair: blocks for pair, blocks in self._blocks.items() if set(pair) in needed or max(blocks) >= first
        }

    def to_list(self) -> list[Any]:
        return [
            [*pair, {str(index): sums.to_dict() for index, sums in blocks.items()}]
            for pair, blocks in sorted(self._blocks.items())
        ]

    def restore(self, data: Sequence[Any]) -> None:
        self._blocks = {
            (first, second): {int(index): RivalSums.from_dict(sums) for index, sums in blocks.items()}
            for first, second, blocks in data
        }
