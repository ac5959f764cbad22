"""Experiments drawn as sums for each look: what two arms saw, run by run, under a ramp, a drift and a law of outcomes.

Invariant: the same cell, runs and seed give the same sums; units of one look share their propensity and their law, so
that sums for each look are all that any method compared here can ask for.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import expit, logit

from evaluator.stats.score_process import Floats, Ints

UNITS: Final = 50  # a look after each 50 units
LOOKS: Final = 1000  # to the horizon of 50,000 units
WEEKS: Final = 4  # the horizon in weeks, where there are weeks

ALLOCATIONS: Final[dict[str, tuple[float, ...]]] = {  # the challenger's share, in stages of equal length
    "50/50": (0.50,),
    "90/10": (0.10,),
    "95/5": (0.05,),
    "99/1": (0.01,),
    "ramp 1→5→10 %": (0.01, 0.05, 0.10),
}
DRIFTS: Final[dict[str, Callable[[Floats], Floats]]] = {  # what both arms share, over time in [0, 1)
    "flat": np.zeros_like,
    "stage drift": lambda time: np.floor(3.0 * time) - 1.0,
    "weekly": lambda time: np.sin(2.0 * np.pi * WEEKS * time),
}


@dataclass(frozen=True, slots=True)
class Law:
    """Outcomes of both arms with the same mean but for `effect`, which is added to the challenger's.

    kind: `bernoulli` (of that mean; the drift moves its logit by a quarter), `lognormal` (of log-variance 1; the
    drift moves the logarithm by a quarter) or `normal` (champion's variance 1, challenger's as given, moved by half).
    """

    kind: str
    mean: float = 0.0
    effect: float = 0.0
    challenger_variance: float = 1.0


LAWS: Final[dict[str, Law]] = {
    "Bernoulli .01": Law("bernoulli", 0.01),
    "Bernoulli .2": Law("bernoulli", 0.2),
    "Bernoulli .8": Law("bernoulli", 0.8),
    "lognormal": Law("lognormal"),
    "unequal variances": Law("normal", 2.0, challenger_variance=4.0),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a grid. `looks` may be fewer than the horizon's for a quick check; units a look stay as they are."""

    allocation: str
    drift: str
    law: Law
    looks: int = LOOKS
    units: int = UNITS

    @property
    def shares(self) -> Floats:
        """π in force at each look, shape (looks,)."""
        stages = np.array(ALLOCATIONS[self.allocation])
        return stages[np.arange(self.looks) * len(stages) // self.looks]

    @property
    def moves(self) -> Floats:
        """The drift at each look, shape (looks,)."""
        return DRIFTS[self.drift](np.arange(self.looks) / self.looks)


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts, and sums of y, y² and y³, of either arm's new units, all of shape (runs, looks); shares (looks,)."""

    shares: Floats
    champion: tuple[Floats, ...]
    challenger: tuple[Floats, ...]

    @property
    def arms(self) -> tuple[Floats, ...]:
        """n, Σ y and Σ y² of the champion, then of the challenger."""
        return (*self.champion[:3], *self.challenger[:3])


def seed_of(cell: Cell, seed: int) -> np.random.Generator:
    """Its own stream for each cell, whichever other cells are run."""
    return np.random.default_rng([seed, zlib.crc32(repr(cell).encode())])


def draw(cell: Cell, runs: int, seed: int) -> Sums:
    rng, law = seed_of(cell, seed), cell.law
    treated = rng.binomial(cell.units, cell.shares, (runs, cell.looks)).astype(np.int64)
    n_challenger = treated.astype(np.float64)
    n_champion = cell.units - n_challenger
    if law.kind == "bernoulli":
        mean = expit(logit(law.mean) + 0.25 * cell.moves)
        y_challenger = rng.binomial(treated, mean + law.effect).astype(np.float64)
        y_champion = rng.binomial(cell.units - treated, mean).astype(np.float64)
        return Sums(cell.shares, (n_champion, *(y_champion,) * 3), (n_challenger, *(y_challenger,) * 3))
    champion, challenger = _powers(rng, cell, treated)
    return Sums(cell.shares, (n_champion, *champion), (n_challenger, *challenger))


def _powers(rng: np.random.Generator, cell: Cell, treated: Ints) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Σ y to Σ y³ by arm for outcomes of many kinds; the first units of each look are the challenger's."""
    law, places = cell.law, np.arange(cell.units)
    sums = np.empty((6, *treated.shape))
    for run in range(len(treated)):  # a run at a time stays in the cache
        own = places < treated[run, :, None]
        y = rng.standard_normal((cell.looks, cell.units))
        if law.kind == "lognormal":
            y = np.exp(y + 0.25 * cell.moves[:, None])
        elif law.kind == "normal":
            y = y * np.where(own, np.sqrt(law.challenger_variance), 1.0) + law.mean + 0.5 * cell.moves[:, None]
        else:
            raise ValueError(f"unknown law {law.kind!r}")
        y += law.effect * own
        power = y
        for row in range(3):
            sums[3 + row, run] = np.where(own, power, 0.0).sum(axis=1)
            sums[row, run] = power.sum(axis=1) - sums[3 + row, run]
            power = power * y
    return tuple(sums[:3]), tuple(sums[3:])
