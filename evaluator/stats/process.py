"""From closed blocks to scores: S, I and the unit variance of each block, for split traffic and for pairs.

Invariant: a block's score uses a prediction m made from earlier blocks only, so that under no effect every block's
score has mean zero whatever the ramp, the drift and the delay did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evaluator.stats.sums import RESOLUTION, PairedSums, SplitSums


@dataclass(frozen=True, slots=True)
class Arm:
    """Count, sum and sum of squares of one arm's outcomes."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    @property
    def fewest(self) -> float:
        """Outcomes of the rarer kind if there are two kinds (0 and 1, or 0 and −1), else all outcomes."""
        if self.squares == abs(self.total):
            return min(abs(self.total), self.n - abs(self.total))
        return self.n


@dataclass(frozen=True, slots=True)
class Block:
    """One closed block of one metric: S, I and the unit variance of S at the prediction in force, and both arms' sums.

    `variance` is for independent units. A block that could not be scored yet has information 0: its outcomes count, its
    evidence does not.
    """

    champion: Arm
    challenger: Arm
    score: float = 0.0
    information: float = 0.0
    variance: float = 0.0
    units: int = 0


def _arm(n: int, total: int, squares: int) -> Arm:
    return Arm(n, total / int(RESOLUTION), squares / int(RESOLUTION))


def split_blocks(sums: Sequence[SplitSums], prior_mean: float | None = None) -> list[Block]:
    """Blocks of split traffic in time order, each scored at the champion's mean over all EARLIER blocks.

    `prior_mean` is the champion's mean known before the experiment (its holdout score, say) and serves until the
    first block is closed. Without it the blocks before the first champion outcome have no prediction that did not
    look at them; they are kept for the means and left out of the evidence.
    """
    blocks: list[Block] = []
    n, total = 0, 0
    for part in sums:
        champion = _arm(part.n_champion, part.y_champion, part.yy_champion)
        challenger = _arm(part.n_challenger, part.y_challenger, part.yy_challenger)
        units = part.n_champion + part.n_challenger
        m = total / (n * int(RESOLUTION)) if n else prior_mean
        if m is None or not units:
            blocks.append(Block(champion, challenger))
        else:
            variance = unit_variance(part.variance(m), part.randomisation_variance(m))
            blocks.append(Block(champion, challenger, part.score(m), part.information, variance, units))
        n += part.n_champion
        total += part.y_champion
    return blocks


def unit_variance(robust: float, randomisation: float) -> float:
    """Variance of S for independent units, from Σ (A−π)²(Y−m)² and Σ π(1−π)(Y−m)².

    The first rests on the few units of the smaller arm and understates the spread exactly when bad outcomes happen to
    be missing there; the second takes both arms' outcomes to vary alike.
    """
    return max(robust, randomisation)


def paired_blocks(sums: Sequence[PairedSums]) -> list[Block]:
    """Blocks of requests that both arms answered, in time order. No prediction is needed: the champion is one."""
    return [
        Block(
            _arm(part.n, part.y_champion, part.yy_champion),
            _arm(part.n, part.y_challenger, part.yy_challenger),
            part.score(),
            part.information,
            part.variance(),
            part.n,
        )
        for part in sums
    ]


def arms_of(blocks: Sequence[Block]) -> tuple[Arm, Arm]:
    """Champion and challenger over all blocks."""
    champions, challengers = [block.champion for block in blocks], [block.challenger for block in blocks]
    return _total(champions), _total(challengers)


def _total(arms: list[Arm]) -> Arm:
    return Arm(sum(arm.n for arm in arms), math.fsum(arm.total for arm in arms), math.fsum(arm.squares for arm in arms))
