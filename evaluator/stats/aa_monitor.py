"""Continuous A/A: a permanent split of the champion against itself, which checks that the tests keep their level.

Invariant: a round is one whole test on traffic of its own. Under the null it crosses a boundary with probability at
most α, and its always-valid p value is at most u with probability at most u. Every reading holds at all rounds at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import numpy as np

from evaluator.stats.always_valid import evidence_p, log_rate_evidence, rate_limits, rate_p
from evaluator.stats.errors import StatsError, require_between
from evaluator.stats.guards import GuardReading, Standing
from evaluator.stats.interim_analysis import Look

# Levels u at which the distribution of p values is compared with the diagonal.
LEVELS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
# Shifts of the log odds of a crossing that the e-detector looks for; fewer than a single test's, as they are state.
_SHIFTS: Final = 0.1 * 1.5 ** np.arange(11)


@dataclass(frozen=True, slots=True)
class Round:
    """A finished A/A test: did it ever cross, its always-valid p value, and the fixed p value of its last look."""

    crossed: bool
    p_value: float
    fixed_p: float

    def __post_init__(self) -> None:
        for p in (self.p_value, self.fixed_p):
            if not 0.0 <= p <= 1.0:
                raise StatsError(f"{p!r} is not a p value")

    @classmethod
    def from_look(cls, look: Look) -> Self:
        return cls(look.crossed is not None, look.p_value, look.fixed_p)


@dataclass(frozen=True, slots=True)
class AAMonitor:
    """The A/A rounds so far, immutable.

    alpha: both sides' level together. valid, fixed: rounds whose always-valid and fixed p is at most each of `LEVELS`.
    recent: Shiryaev-Roberts statistics of the crossings, highest: their largest mean. smallest: running p values of the
    readings on crossings, always-valid and fixed p values.
    """

    alpha: float = 0.05
    rounds: int = 0
    crossed: int = 0
    valid: tuple[int, ...] = (0,) * len(LEVELS)
    fixed: tuple[int, ...] = (0,) * len(LEVELS)
    recent: tuple[float, ...] = (0.0,) * len(_SHIFTS)
    highest: float = 0.0
    smallest: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        require_between("level", self.alpha, 0.0, 1.0, StatsError)

    def add(self, done: Round) -> AAMonitor:
        """The monitor with one more finished round; rounds come in the order in which they ended."""
        factors = np.exp(_SHIFTS * done.crossed) / (1.0 + self.alpha * np.expm1(_SHIFTS))
        recent = np.minimum((np.array(self.recent) + 1.0) * factors, 1e300)
        added = replace(
            self,
            rounds=self.rounds + 1,
            crossed=self.crossed + done.crossed,
            valid=_counted(self.valid, done.p_value),
            fixed=_counted(self.fixed, done.fixed_p),
            recent=tuple(recent.tolist()),
            highest=max(self.highest, float(recent.mean())),
        )
        now = (
            rate_p(added.crossed, added.rounds, self.alpha),
            evidence_p(_mean_evidence(added.valid, added.rounds, (True,))),
            evidence_p(_mean_evidence(added.fixed, added.rounds, (True, False))),
        )
        crossings, valid, fixed = (min(pair) for pair in zip(self.smallest, now, strict=True))
        return replace(added, smallest=(crossings, valid, fixed))

    def read(self, *, level: float = 0.001, rounds_between: float = 10_000.0) -> tuple[GuardReading, ...]:
        """Four readings; the first three are breached by accident with probability at most `level` each, ever.

        - crossings: do rounds cross more often than alpha?
        - p values: is the share of always-valid p values ≤ u above u for some u?
        - fixed p values: are they uniform? True for independent units only; with clusters a breach is expected, and
          shows what ignoring them would have cost.
        - recent crossings: are they too frequent since some moment? A Shiryaev-Roberts e-detector (Shin, Ramdas &
          Rinaldo 2023): false alarms are `rounds_between` rounds or more apart on average.
        """
        if not 0.0 < level < 1.0 or not rounds_between >= 1.0:
            raise StatsError(
                "`level` must lie between 0 and 1 and `rounds_between` be at least 1, "
                f"not {level!r} and {rounds_between!r}"
            )
        names, last = ("A/A crossings", "A/A p values", "A/A fixed p values"), "A/A recent crossings"
        if not self.rounds:
            return tuple(GuardReading(name, "open", "no round is finished") for name in (*names, last))
        share, (lower, upper) = self.crossed / self.rounds, rate_limits(self.crossed, self.rounds, 2.0 * level)
        standing: Standing = "breached" if self.smallest[0] <= level else "safe" if upper <= self.alpha else "open"
        counted = f"{self.crossed} of {self.rounds} rounds crossed a boundary, where {self.alpha:.2%} may"
        readings = [GuardReading(names[0], standing, counted, share, lower, upper, self.smallest[0])]
        for name, counts, p in zip(names[1:], (self.valid, self.fixed), self.smallest[1:], strict=True):
            at, worst = max(zip(LEVELS, counts, strict=True), key=lambda pair: pair[1] / self.rounds - pair[0])
            reason = f"{worst} of {self.rounds} p values are at most {at:g}, where {at * self.rounds:.1f} are expected"
            readings.append(
                GuardReading(name, "breached" if p <= level else "open", reason, worst / self.rounds, p_value=p)
            )
        found = self.highest >= rounds_between
        reason = (
            f"evidence for too many crossings lately reached {self.highest:.3g}; alarm at {rounds_between:g}, which "
            "takes that many rounds on average if nothing is wrong"
        )
        alarm = GuardReading(last, "breached" if found else "open", reason, self.highest)
        return (*readings, alarm)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return cls(**values)


def _counted(counts: tuple[int, ...], p: float) -> tuple[int, ...]:
    return tuple(count + (p <= level) for count, level in zip(counts, LEVELS, strict=True))


def _mean_evidence(counts: Sequence[int], rounds: int, sides: tuple[bool, ...]) -> float:
    """log of the mean over levels and sides of the evidence against P(p ≤ u) = u: a mean of martingales is one."""
    events, rates = np.array(counts), np.array(LEVELS)
    logs = np.concatenate([log_rate_evidence(events, rounds, rates, above=above) for above in sides])
    return float(np.logaddexp.reduce(logs) - math.log(len(logs)))
