"""Watches: e-processes over single pairs and requests that end a rollout long before a block would.

Gross harm: the null hypothesis is "the challenger's mean loss exceeds the champion's by at most `margin` of it". A pair
of losses (b, c) of which one is above a cap K is scaled down to it as a whole, w = min(1, K / max(b, c)), so that it
keeps its ratio, and bets on

    X = w (c - b) - margin M - T(K).

M is the champion's mean loss, K one of `CAPS` times it, and T(K) its mean loss beyond K, all of what came before.
Wealth multiplies by 1 + `STAKE` X / (K + margin M + T(K)); a window's wealth is the mean over the caps. Losses are not
negative, so what scaling hides can speak for the challenger by at most the champion's loss beyond the cap: E X <= 0
under the null, however rare the disasters from which the challenger may save. A small cap sees common losses soon; a
large one sees what lies in rare ones, in as many pairs as those take. A rarer, larger loss than any that was seen, no
test can exclude.

M is of all the past, so that a calm night or day on which both models lose little is not a measure; or of the window,
where that is more: labels of a rare class, on which every model loses much, may come first. Equal models differ within
a storm or a day by a part of their loss. Three things keep that from an alarm: the margin; the window, in which a small
difference can't earn much; and that the mean loss must be worse by twice the margin, uncapped.

Rates: the null hypothesis is "the challenger's requests do well (no error, not slow, with a label) at most `margin`
less often than the champion's". Bets are those of `e_process`, by each request's own logged propensity or over pairs,
so that nothing that meets both arms can earn anything.

Under its null a wealth is a supermartingale whatever the law (Waudby-Smith & Ramdas 2024, "Estimating means of bounded
random variables by betting"), so by Ville's inequality it ever exceeds 1/alpha with probability at most alpha. Bets
start over with every window, since harm may begin late; window w has the level alpha / (w (w + 1)), and all windows
together have alpha. Windows of gross harm overlap: one begins every `WINDOW` pairs, and lasts for `LASTS` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from evaluator.stats.e_process import LEAST_SPREAD, MOST_STAKED, PAIRED_BETS, SPLIT_BETS
from evaluator.stats.score_process import Bools, Floats

CAPS: Final = (5.0, 12.0, 30.0)
"""Pairs of larger losses than so many times the champion's mean loss are scaled down to that."""
STAKE: Final = 0.95
"""Share of the largest possible bet."""
BATCH: Final = 16
"""Pairs between two updates of the caps; the first batch only sets them."""
WINDOW: Final = 512
"""Pairs, or requests of the challenger, after which bets start over; a multiple of the batch."""
LASTS: Final = 8
"""Times `WINDOW` that a window of gross harm lasts: half more loss of a rare class takes some 2,000 pairs."""
CLASSES: Final = 4
"""Size classes of losses to a doubling."""
_LEAST: Final = 1e-12
"""Losses below it are of one class."""
_NEW_WINDOW: Final = [0.0] * (3 + len(CAPS))


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
class UsualLosses:
    """The champion's losses by size: number and sum of each class, whose index is that of its largest loss."""

    classes: dict[int, list[float]] = field(default_factory=dict)

    @property
    def n(self) -> float:
        return sum(n for n, _ in self.classes.values())

    def add(self, losses: Floats) -> None:
        """Count finite losses >= 0, shape (n,)."""
        index = np.ceil(CLASSES * np.log2(np.maximum(losses, _LEAST))).astype(np.int64)
        found, place = np.unique(index, return_inverse=True)
        counts, sums = np.bincount(place), np.bincount(place, weights=losses)
        for each, more, loss in zip(found.tolist(), counts.tolist(), sums.tolist(), strict=True):
            n, total = self.classes.get(each, (0.0, 0.0))
            self.classes[each] = [n + more, total + loss]

    def halve(self) -> None:
        """Let all count for half, so that what comes next counts for more."""
        self.classes = {index: [0.5 * n, 0.5 * total] for index, (n, total) in self.classes.items()}

    def sums(self) -> tuple[Floats, Floats]:
        """Number and sum by class."""
        n, total = np.array(list(self.classes.values()) or [[0.0, 0.0]]).T
        return n, total


@dataclass
class GrossHarmWatch:
    """The watch of one rollout. `add` takes pairs in any order that does not depend on their losses.

    margin: share of the champion's loss that is allowed; alpha: level over the rollout's life. usual: the champion's
    losses, which begin with what is known of it. begun: windows so far; windows: those that last, each with its pairs,
    both arms' losses, and the log wealth of each cap. waiting: pairs of a batch that is not full.
    """

    margin: float
    alpha: float
    batch: int = BATCH
    usual: UsualLosses = field(default_factory=UsualLosses)
    begun: int = 1
    windows: list[list[float]] = field(default_factory=lambda: [_NEW_WINDOW])
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
        windows = np.array(self.windows)
        gain = self._gain(windows, batch)
        self.usual.add(batch[:, 0])
        counted = np.tile([len(batch), *batch.sum(axis=0)], (len(windows), 1))
        windows += np.column_stack([counted, gain])
        self.alarm = self._judge(windows)
        self.windows = windows.tolist()
        if self.windows[-1][0] >= WINDOW:
            self.begun += 1
            self.windows = [each for each in self.windows if each[0] < LASTS * WINDOW] + [_NEW_WINDOW]

    def _gain(self, windows: Floats, batch: Floats) -> Floats:
        """What a batch adds to the log wealth of each cap in each window; `usual` is what was known before it."""
        n, total = self.usual.sums()
        if not total.any():
            return np.zeros((len(windows), len(CAPS)))
        mean = np.maximum(total.sum() / n.sum(), _champion(windows))[:, None]
        caps = np.array(CAPS) * mean
        beyond = np.maximum(total - caps[:, :, None] * n, 0.0).sum(axis=2) / n.sum()
        allowed = self.margin * mean + beyond
        largest, worse = batch.max(axis=1), batch[:, 1] - batch[:, 0]
        kept = caps[:, :, None] / np.maximum(largest, caps[:, :, None]) * worse
        bets = (kept - allowed[:, :, None]) / (caps + allowed)[:, :, None]
        return np.asarray(np.log1p(STAKE * bets).sum(axis=2))

    def _judge(self, windows: Floats) -> GrossHarm | None:
        """The alarm of the first window that raises one."""
        n, total = self.usual.sums()
        pairs, champion, challenger = windows.T[:3]
        wealth = np.logaddexp.reduce(windows[:, 3:], axis=1) - math.log(len(CAPS))
        number = self.begun - np.arange(len(windows))[::-1]
        worse = challenger - champion > 2.0 * self.margin * np.maximum(total.sum() / n.sum(), champion / pairs) * pairs
        for each in np.flatnonzero(worse & (wealth >= np.log(number * (number + 1.0) / self.alpha))).tolist():
            seen = int(pairs[each])
            return GrossHarm(seen, float(champion[each]) / seen, float(challenger[each]) / seen, self.margin)
        return None


def _champion(windows: Floats) -> Floats:
    """The champion's mean loss in each window, 0 before its first pair."""
    return np.asarray(windows[:, 1] / np.maximum(windows[:, 0], 1.0))


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
