"""Watches: e-processes over single pairs and requests that end a rollout long before a block would.

Gross harm: the null hypothesis is "the challenger's loss exceeds the champion's by at most `margin` times the
champion's mean loss, over all the past or in the window, whichever is more". Each pair bets on

    X = min(loss of the challenger, cap) - min(loss of the champion, cap) - margin mean,

and wealth multiplies by 1 + f X / (cap + margin mean), f in `FRACTIONS`, mean that of the champion's earlier losses,
cap `CAP` times it. All the past is the measure, so that a calm night or day on which both models lose little is none.
The window is one where it is more: labels of a rare class, on which every model loses much, may come first.

Equal models differ within a storm or a day by a part of their loss. Three things keep that from an alarm: the margin;
the window, in which a small difference can't earn much; and that the mean loss must be worse by twice the margin.
Losses are capped in the bets because no test can exclude a rarer, larger loss that has not been seen, but not in those
means.

Rates: the null hypothesis is "the challenger's requests do well (no error, not slow, with a label) at most `margin`
less often than the champion's". Bets are those of `e_process`, by each request's own logged propensity or over pairs,
so that nothing that meets both arms can earn anything.

Under its null a wealth is a supermartingale whatever the law (Waudby-Smith & Ramdas 2024, "Estimating means of bounded
random variables by betting"), so by Ville's inequality it ever exceeds 1/alpha with probability at most alpha. Bets
begin anew after every window, since harm may begin late; window w has the level alpha / (w (w + 1)), and all windows
together have alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from evaluator.stats.e_process import LEAST_SPREAD, MOST_STAKED, PAIRED_BETS, SPLIT_BETS
from evaluator.stats.score_process import Bools, Floats

CAP: Final = 5.0
"""Losses count up to so many times the champion's mean loss."""
FRACTIONS: Final = (0.1, 0.25, 0.5, 0.9)
"""Shares of the largest possible bet; the wealth is the mean over them."""
BATCH: Final = 16
"""Pairs between two updates of the cap; the first batch only sets it."""
WINDOW: Final = 512
"""Pairs, or requests of the challenger, after which bets begin anew; a multiple of the batch."""


def log_threshold(window: int, alpha: float) -> float:
    """The log wealth that raises the alarm in a window."""
    return math.log(window * (window + 1.0) / alpha)


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
            f"champion's is {self.champion_loss:.4g}, worse by more than {self.margin:.0%} of its mean loss"
        )


@dataclass
class GrossHarmWatch:
    """The watch of one rollout. `add` takes pairs in any order that does not depend on their losses.

    margin: share of the champion's loss that is allowed; alpha: level over the rollout's life. pairs, champion: how
    many pairs were counted, and the champion's loss on them; both begin with what is known of it. window: its number;
    since: pairs, both arms' losses, and the log wealth of each fraction since it began.
    """

    margin: float
    alpha: float
    batch: int = BATCH
    pairs: int = 0
    champion: float = 0.0
    window: int = 1
    since: list[float] = field(default_factory=lambda: [0.0] * (3 + len(FRACTIONS)))
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

    def _step(self, batch: Floats) -> None:
        gain = np.zeros(len(FRACTIONS))
        if self.champion > 0.0:
            mean = self._mean(self.since[0], self.since[1])
            capped = np.minimum(batch, CAP * mean)
            bet = (capped[:, 1] - capped[:, 0] - self.margin * mean) / ((CAP + self.margin) * mean)
            gain = np.log1p(np.outer(bet, FRACTIONS)).sum(axis=0)
        self.pairs += len(batch)
        self.champion += float(batch[:, 0].sum())
        self.since = (np.array(self.since) + np.concatenate([[len(batch)], batch.sum(axis=0), gain])).tolist()
        self.alarm = self._judge()
        if self.since[0] >= WINDOW:
            self.window, self.since = self.window + 1, [0.0] * len(self.since)

    def _mean(self, pairs: float, champion: float) -> float:
        """The champion's mean loss over all the past, or in this window where that is more."""
        return max(self.champion / self.pairs, champion / pairs if pairs else 0.0)

    def _judge(self) -> GrossHarm | None:
        pairs, champion, challenger, *wealths = self.since
        wealth = float(np.logaddexp.reduce(wealths)) - math.log(len(FRACTIONS))
        if wealth < log_threshold(self.window, self.alpha):
            return None
        if challenger - champion <= 2.0 * self.margin * self._mean(pairs, champion) * pairs:
            return None
        return GrossHarm(int(pairs), champion / pairs, challenger / pairs, self.margin)


@dataclass(frozen=True, slots=True)
class RateHarm:
    """An alarm of a rate's watch: each arm's requests since its window began, and how much of them did well."""

    champion: float
    champion_good: float
    challenger: float
    challenger_good: float


@dataclass
class RateWatch:
    """The watch of one rate of one rollout. `good` is 1 for a request that did well, 0 for one that did not, or
    anything between.

    margin: by how much the challenger's share may be lower; alpha: level over the rollout's life. window: its number;
    since: requests and their good, by arm, since it began; logs: the log wealth of each bet since then. past: the
    champion's requests and good so far, which the bets go by.
    """

    margin: float
    alpha: float
    window: int = 1
    since: list[float] = field(default_factory=lambda: [0.0] * 4)
    logs: list[float] = field(default_factory=list)
    past: list[float] = field(default_factory=lambda: [0.0, 0.0])
    alarm: RateHarm | None = None

    @property
    def fresh(self) -> bool:
        """Whether its window has just begun."""
        return not any(self.since)

    def add(self, treated: Bools, propensity: Floats, good: Floats) -> None:
        """Count requests that were assigned with these propensities, arrays of shape (n,). The first of the champion
        only set what is usual."""
        arms = [np.sum(~treated), good[~treated].sum(), np.sum(treated), good[treated].sum()]
        if not self.past[0]:
            self.past = [float(arms[0]), float(arms[1])]
            return
        m = self.past[1] / self.past[0]
        scale = 2.0 / math.sqrt(max(m * (1.0 - m), LEAST_SPREAD))
        x, w = (treated - propensity) * (good - m), propensity * (1.0 - propensity)
        up = np.maximum((1.0 - propensity) * (1.0 - m), propensity * m)
        self._bet(np.array(SPLIT_BETS) * scale, x, w, up, arms)

    def add_pairs(self, champion: Floats, challenger: Floats) -> None:
        """Count requests that both arms were asked, with what was good of each, shape (n,) each."""
        one = np.ones(len(champion))
        arms = [len(champion), champion.sum(), len(champion), challenger.sum()]
        self._bet(np.array(PAIRED_BETS), challenger - champion, one, one, arms)

    def _bet(self, sizes: Floats, x: Floats, w: Floats, up: Floats, arms: list[Any]) -> None:
        """The harm side of `e_process` at the null -margin: wealth multiplies by 1 - b (x + margin w). up: the largest
        possible x. arms: what `since` grows by."""
        if self.alarm is not None or not len(x):
            return
        stakes = np.minimum(sizes[:, None], MOST_STAKED / (up + self.margin * w))
        gains = np.log1p(-stakes * (x + self.margin * w)).sum(axis=1)
        logs = gains + (self.logs or 0.0)
        self.logs = logs.tolist()
        self.since = [old + float(new) for old, new in zip(self.since, arms, strict=True)]
        self.past = [self.past[0] + float(arms[0]), self.past[1] + float(arms[1])]
        if np.logaddexp.reduce(logs) - math.log(len(logs)) >= log_threshold(self.window, self.alpha):
            self.alarm = RateHarm(*self.since)
        elif self.since[2] >= WINDOW:
            self.window, self.since, self.logs = self.window + 1, [0.0] * 4, []
