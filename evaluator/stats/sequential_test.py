"""A sequential test: its plan, declared before the data, and the protocol that the test of one side fulfils.

Invariant of every test: p ≤ alpha exactly when z has exceeded its bound at some look, and P(p ≤ u) ≤ u under no effect
for every u, whenever one stops. Tests are values: `look` returns the next one. The win side is given z and the harm
side −z, each with a level of its own. An impossible plan can't be built.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal, Protocol, Self, get_args

import numpy as np
from scipy.special import ndtr, ndtri

from evaluator.stats.alpha_spending import MIXED, Spending, consistent_p
from evaluator.stats.always_valid import AlwaysValid, MixtureSPRT, WaldSPRT
from evaluator.stats.cluster_robust import LEAST_INTRACLASS, MOST_CORRELATION
from evaluator.stats.errors import PlanError, require_between
from evaluator.stats.group_sequential import GroupSequential
from evaluator.stats.score_process import Bools, CellArrays, Floats

Mode = Literal["group-sequential", "anytime", "msprt", "sprt", "fixed"]
MODES: Final[tuple[str, ...]] = get_args(Mode)

# A fifth of the harm side's level stays for after the horizon: a challenger kept on in an extension can still be
# thrown out.
HARM_RESERVE: Final = 0.2
# A change for the worse in mid-experiment looks like strongly correlated blocks, and full widening would hide it for
# ever. The harm side stops at a factor of 3: past that a false rollback, which costs a retry, is the smaller evil.
HARM_MOST_CORRELATION: Final = 0.5
# Wald's second error: a stated effect is given up with this probability at most.
BETA: Final = 0.2


@dataclass(frozen=True, slots=True)
class Side:
    """One direction's one-sided level, how it is spent, and the correlation of blocks it allows for at most."""

    alpha: float = 0.025
    spending: Spending = MIXED
    most_correlation: float = MOST_CORRELATION

    def __post_init__(self) -> None:
        require_between("level of a side", self.alpha, 0.0, 0.49)
        if not 0.0 <= self.most_correlation <= MOST_CORRELATION:
            raise PlanError(f"the correlation {self.most_correlation!r} does not lie in [0, {MOST_CORRELATION}]")


WIN_SIDE: Final = Side()
HARM_SIDE: Final = Side(spending=Spending(reserve=HARM_RESERVE), most_correlation=HARM_MOST_CORRELATION)


@dataclass(frozen=True, slots=True)
class Plan:
    """The test of one metric.

    horizon: information at which the planned evidence is complete, as `horizon_information` computes it.
    margin: the null is effect = −margin; 0 asks "better or worse?", more than 0 asks "not worse by more than that?".
    clustered: sum within blocks and take the variance from blocks. Only False if units are known to be independent.
    min_blocks_win, min_blocks_harm: scored blocks needed before that side may be crossed (clustered only).
    harm_waits: at several scales, harm waits for as many whole cycles as a win does. For a challenger that harms nobody
    meanwhile: how much days differ can't be known sooner, and a bad one is not harm yet.
    min_events: where outcomes are of two kinds and an arm has fewer of one, an exact test takes part (`few_events`); no
    side may be crossed before each arm has twice as many outcomes of any kind.
    intraclass: at several scales, the correlation of a day's units that harm is judged with while days are few.
    effect: what the modes msprt and sprt look for, in units of the metric; the others need none.
    """

    horizon: float
    win: Side = WIN_SIDE
    harm: Side = HARM_SIDE
    mode: Mode = "group-sequential"
    margin: float = 0.0
    clustered: bool = True
    min_blocks_win: int = 20
    min_blocks_harm: int = 5
    min_events: int = 5
    effect: float | None = None
    harm_waits: bool = False
    intraclass: float = LEAST_INTRACLASS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.horizon) and self.horizon > 0.0):
            raise PlanError(f"the horizon {self.horizon!r} is not a finite amount of information above 0")
        if not (math.isfinite(self.margin) and self.margin >= 0.0):
            raise PlanError(f"the margin {self.margin!r} is not a finite number of at least 0")
        _known(self.mode)
        if self.mode in ("msprt", "sprt") and not (self.effect is not None and 0.0 < self.effect < math.inf):
            raise PlanError(f"mode {self.mode} needs an effect to look for; {self.effect!r} is not a number above 0")
        if min(self.min_blocks_win, self.min_blocks_harm, self.min_events) < 0:
            raise PlanError("the minimum numbers of blocks and events are at least 0")


def holdout_plan(horizon: float, *, alpha: float = 0.05, clustered: bool = True) -> Plan:
    """An always-valid plan of a reverse holdout: the gain of a promotion against the previous champion.

    The previous champion takes the champion's place and the new one the challenger's, so the logged propensity is 1 −
    the share held out. S/I is the effect so far, and its interval is tightest about half-way to the information
    `horizon`.
    """
    return Plan(horizon, Side(alpha / 2.0), Side(alpha / 2.0), "anytime", clustered=clustered)


def horizon_information(min_samples: int, share: float | None) -> float:
    """Information at which `min_samples` matured outcomes of the challenger are in.

    `share` is the challenger's share of traffic at the end of the ramp: n(1−π), since n/π units carry π(1−π) each.
    None is for pairs, where each carries 1.
    """
    if min_samples < 1:
        raise PlanError(f"min_samples {min_samples!r} is not at least 1")
    if share is None:
        return float(min_samples)
    require_between("share", share, 0.0, 1.0)
    return min_samples * (1.0 - share)


class SequentialTest(Protocol):
    """The test of one side, whatever the mode. Arrays have one entry for each cell."""

    @property
    def p(self) -> Floats:
        """The running one-sided p value."""

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        """Bounds for z at information times t, where S has these variances, and the test after that look.

        Only cells that are `ready` are looked at; the others' bound is infinite, and they spend nothing.
        """

    def to_dict(self) -> dict[str, Any]:
        """A snapshot, fit for JSON."""

    def restored(self, data: dict[str, Any]) -> Self:
        """The test of that snapshot. `self` is one that was started with the same settings and cells."""


@dataclass(frozen=True, eq=False)
class FixedHorizon(CellArrays):
    """The classical test of one side: a cell's first look at t ≥ 1 decides at z_{1−α}. p is 1 before it and stays."""

    alpha: float
    p: Floats
    done: Bools
    kept: ClassVar[tuple[str, ...]] = ("p", "done")

    @classmethod
    def start(cls, alpha: float, cells: int = 1) -> Self:
        require_between("level", alpha, 0.0, 0.5)
        return cls(alpha, np.ones(cells), np.zeros(cells, dtype=np.bool_))

    def look(self, t: Floats, z: Floats, variance: Floats, ready: Bools) -> tuple[Floats, Self]:
        now = ready & ~self.done & (t >= 1.0)
        bounds = np.where(now, -ndtri(self.alpha), np.inf)
        p = np.where(now, ndtr(-np.where(now, z, 0.0)), self.p)
        return bounds, replace(self, p=consistent_p(p, self.p, now & (z >= bounds), self.alpha), done=self.done | now)


def start(
    mode: str, side: Side, cells: int = 1, *, horizon: Floats | float = 1.0, effect: Floats | float | None = None
) -> SequentialTest:
    """The test of a side of so many cells before its first look.

    horizon: I at t = 1; effect: what msprt and sprt look for, in units of the effect; one number, or one a cell. Raises
    PlanError for an unknown mode, and where an effect is missing.
    """
    _known(mode)
    match mode:
        case "group-sequential":
            return GroupSequential.start(side.alpha, side.spending, cells)
        case "anytime":
            return AlwaysValid.start(side.alpha, cells)
        case "fixed":
            return FixedHorizon.start(side.alpha, cells)
    if effect is None:
        raise PlanError(f"mode {mode} needs a stated effect")
    if mode == "msprt":
        return MixtureSPRT.start(side.alpha, cells, tau=effect, horizon=horizon)
    return WaldSPRT.start(side.alpha, cells, effect=effect, beta=BETA, horizon=horizon)


def _known(mode: str) -> None:
    if mode not in MODES:
        raise PlanError(f"unknown mode {mode!r}; known are {', '.join(MODES)}")
