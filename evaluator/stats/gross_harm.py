"""Gross-harm watch: an e-process over single pairs that ends a rollout whose challenger is plainly and badly worse.

The null hypothesis is "the challenger's loss is at most 1 + margin times the champion's". Each pair bets on

    X = min(loss of the challenger, cap) - (1 + margin) min(loss of the champion, cap),

and wealth multiplies by 1 + f X / ((1 + margin) cap), f in `FRACTIONS`, cap `CAP` times the champion's mean loss over
earlier pairs. Under the null the wealth is a supermartingale (Waudby-Smith & Ramdas 2024, "Estimating means of bounded
random variables by betting"), whatever the losses' law, so by Ville's inequality it ever exceeds 1/alpha with
probability at most alpha. The watch starts again and again, since harm may begin late: the j-th start has level
alpha / (j (j + 1)), and all starts together have alpha.

Losses are capped because no test can exclude a rarer, larger loss that has not been seen. A challenger is out only if
its uncapped mean is beyond the margin as well.

The margin keeps storms out: equal models differ within hours, but not by that share of the champion's loss.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np

from evaluator.stats.score_process import Floats

CAP: Final = 5.0
"""Losses count up to so many times the champion's mean loss."""
FRACTIONS: Final = (0.1, 0.25, 0.5, 0.9)
"""Shares of the largest possible bet; the wealth is the mean over them."""
BATCH: Final = 16
"""Pairs between two updates of the cap; the first batch only sets it."""
SPACING: Final = 0.25
"""A new start follows when the pairs since the last one are this share of all pairs."""


@dataclass(frozen=True, slots=True)
class GrossHarm:
    """An alarm of the watch: how many pairs it took since the start that saw it, and both arms' mean losses there."""

    pairs: int
    champion_loss: float
    challenger_loss: float
    margin: float

    @property
    def reason(self) -> str:
        return (
            f"gross harm: over {self.pairs:,} pairs the challenger's loss is {self.challenger_loss:.4g} where the "
            f"champion's is {self.champion_loss:.4g}, more than {self.margin:.0%} worse"
        )


@dataclass
class GrossHarmWatch:
    """The watch of one rollout. `add` takes pairs in any order that does not depend on their losses.

    margin: share of the champion's loss that is allowed; alpha: level over the rollout's life. Every number in `starts`
    is a running total at that start: pairs, champion's and challenger's loss, and the log wealth of each fraction.
    """

    margin: float
    alpha: float
    batch: int = BATCH
    totals: list[float] = field(default_factory=lambda: [0.0] * (3 + len(FRACTIONS)))
    starts: list[list[float]] = field(default_factory=list)
    waiting: list[list[float]] = field(default_factory=list)
    alarm: GrossHarm | None = None

    def add(self, champion: Floats, challenger: Floats) -> GrossHarm | None:
        """Count pairs of finite losses >= 0, shape (n,) each. The alarm once there is one, else None."""
        self.waiting += np.column_stack([champion, challenger]).tolist()
        while len(self.waiting) >= self.batch and self.alarm is None:
            batch, self.waiting = self.waiting[: self.batch], self.waiting[self.batch :]
            self._step(np.array(batch))
        if self.alarm is not None:
            self.waiting = []
        return self.alarm

    def to_dict(self) -> dict[str, Any]:
        """All that must be kept, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The watch of that snapshot."""
        alarm = None if data["alarm"] is None else GrossHarm(**data["alarm"])
        return cls(**{**data, "alarm": alarm})

    def _step(self, batch: Floats) -> None:
        totals = np.array(self.totals)
        pairs, champion = totals[0], totals[1]
        gain = np.zeros(len(FRACTIONS))
        if champion > 0.0:
            cap = CAP * champion / pairs
            capped = np.minimum(batch, cap)
            bet = (capped[:, 1] - (1.0 + self.margin) * capped[:, 0]) / ((1.0 + self.margin) * cap)
            gain = np.log1p(np.outer(bet, FRACTIONS)).sum(axis=0)
            if not self.starts or pairs - self.starts[-1][0] >= SPACING * pairs:
                self.starts.append(self.totals)
        totals += np.concatenate([[len(batch)], batch.sum(axis=0), gain])
        self.totals = totals.tolist()
        self.alarm = self._judge()

    def _judge(self) -> GrossHarm | None:
        if not self.starts:
            return None
        since = np.array(self.totals) - np.array(self.starts)
        wealth = np.logaddexp.reduce(since[:, 3:], axis=1) - math.log(len(FRACTIONS))
        order = np.arange(1, len(since) + 1)
        for j in np.flatnonzero(wealth >= np.log(order * (order + 1.0) / self.alpha)):
            pairs, champion, challenger = (float(x) for x in since[j, :3])
            if challenger > (1.0 + self.margin) * champion:
                return GrossHarm(int(pairs), champion / pairs, challenger / pairs, self.margin)
        return None
