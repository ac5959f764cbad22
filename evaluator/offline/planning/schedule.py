"""Arrival of evidence: the slices of traffic along the ramp, the blocks they fall into, and the looks.

Invariant: the same slices serve the closed forms and the simulation, so that both speak of the same traffic. A slice is
one share within one harm block; units are whole clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from evaluator.offline.planning.settings import PlanSettings
from evaluator.stats.score_process import Bools, Floats, Ints
from gauntlet.errors import BadInput

# Longer plans have more looks than anyone takes; such a test needs longer blocks or more traffic.
MOST_BLOCKS: Final = 20_000


@dataclass(frozen=True, eq=False)
class TrafficSlices:
    """Traffic of one share within one harm block, shape (slices,) each. `block` counts harm blocks from 0."""

    block: Ints
    start: Floats  # days
    end: Floats
    share: Floats
    units: Floats
    information: Floats


@dataclass(frozen=True, eq=False)
class PlannedLooks:
    """Looks in order, shape (looks,) each. A look is taken when a harm block has matured.

    block: how many harm blocks are closed; whole: whether a whole block closes with it, so that the win side has news.
    day: when it is taken. information, win_information: of the harm side's and of the win side's closed blocks.
    blocks, win_blocks: scored ones; equal, win_equal: as many of equal information. units, challenger: matured outcomes
    so far, exposed: the challenger's traffic up to that day, matured or not.
    """

    block: Ints
    whole: Bools
    day: Floats
    information: Floats
    win_information: Floats
    blocks: Floats
    win_blocks: Floats
    equal: Floats
    win_equal: Floats
    units: Floats
    challenger: Floats
    exposed: Floats

    def until(self, last: int) -> PlannedLooks:
        """The first looks, up to and including that one."""
        return PlannedLooks(**{name: value[: last + 1] for name, value in vars(self).items()})

    def thinned(self, most: int, ratio: int) -> PlannedLooks:
        """At most so many looks, evenly spaced, the last one kept; whole blocks only, where some are dropped."""
        if len(self.day) <= most:
            return self
        step = ratio * math.ceil(len(self.day) / ratio / most)
        kept = np.arange(len(self.day) - 1, -1, -step)[::-1]
        return PlannedLooks(**{name: value[kept] for name, value in vars(self).items()})


class Schedule:
    """Traffic of a plan over time."""

    def __init__(self, settings: PlanSettings) -> None:
        self.settings = settings
        self.ratio = round(settings.block / settings.harm_block)
        self.paired = settings.form == "paired"
        self._rate = settings.traffic * (settings.fraction if self.paired else 1.0)

    def slices(self, blocks: int) -> TrafficSlices:
        """The slices of the first harm blocks."""
        q = self.settings
        if blocks > MOST_BLOCKS:
            raise BadInput(
                f"--traffic must be larger, or --block longer: {q.traffic:g} units a day need "
                f"{blocks * q.harm_block:,.0f} days, and with blocks of {q.block:g} days "
                f"{MOST_BLOCKS * q.harm_block:,.0f} can be planned"
            )
        ends = np.arange(1, blocks + 1) * q.harm_block
        stage_ends = np.cumsum([lasts for _, lasts in q.ramp])
        cuts = ends if self.paired else np.union1d(ends, stage_ends[stage_ends < ends[-1]])
        # Two borders that differ by rounding alone are one.
        cuts = cuts[np.append(np.diff(cuts) > 1e-9 * ends[-1], True)]
        starts = np.concatenate([[0.0], cuts[:-1]])
        middle = (starts + cuts) / 2.0
        block = np.minimum(np.searchsorted(ends, middle), blocks - 1)
        size = q.cluster_size
        clusters = np.diff(np.floor(np.concatenate([[0.0], cuts]) * self._rate / size + 1e-9))
        if self.paired:
            share = np.ones(len(cuts))
            information = clusters * size
        else:
            share = np.array([share for share, _ in q.ramp])[np.searchsorted(stage_ends, middle)]
            information = share * (1.0 - share) * clusters * size
        return TrafficSlices(block, starts, cuts, share, clusters * size, information)

    def looks(self, blocks: int) -> PlannedLooks:
        """The looks at the first harm blocks."""
        q, s = self.settings, self.slices(blocks)
        fine = _floats(np.bincount(s.block, s.information, blocks))
        coarse = _floats(np.add.reduceat(fine, np.arange(0, blocks, self.ratio)))
        lost = 0 if self.paired else 1  # split: the first block has no earlier one to predict its outcomes from
        closed = np.arange(1, blocks + 1)
        whole = closed // self.ratio
        units = _floats(np.cumsum(np.bincount(s.block, s.units, blocks)))
        challenger = _floats(np.cumsum(np.bincount(s.block, s.units * s.share, blocks)))
        day = _floats(closed * q.harm_block + q.delay)
        # In the paired form both arms answer, and nobody is exposed to the challenger but by the ramp, which is apart.
        exposed = np.zeros(blocks) if self.paired else self._exposed(day)
        return PlannedLooks(
            block=closed,
            whole=closed % self.ratio == 0,
            day=day,
            information=_after(fine, lost, closed),
            win_information=_after(coarse, lost, whole),
            blocks=np.maximum(0.0, closed - lost),
            win_blocks=np.maximum(0.0, whole - lost),
            equal=_equal(fine, lost, closed),
            win_equal=_equal(coarse, lost, whole),
            units=units,
            challenger=challenger,
            exposed=exposed,
        )

    def _exposed(self, day: Floats) -> Floats:
        """The challenger's traffic up to these days."""
        total, start = np.zeros(len(day)), 0.0
        for share, lasts in self.settings.ramp:
            total += share * self._rate * np.clip(day - start, 0.0, lasts)
            start += lasts
        return total

    def day_of(self, information: float) -> float:
        """Day on which so much information has matured, without regard to blocks."""
        left, day = information, 0.0
        for share, lasts in [(1.0, math.inf)] if self.paired else self.settings.ramp:
            rate = self._rate * (1.0 if self.paired else share * (1.0 - share))
            if rate * lasts >= left:
                return day + left / rate + self.settings.delay
            left -= rate * lasts
            day += lasts
        raise AssertionError("the last stage has no end")

    def units_at(self, day: float) -> tuple[float, float]:
        """Matured outcomes and the challenger's among them, at that day."""
        age = max(0.0, day - self.settings.delay)
        if self.paired:
            return self._rate * age, self._rate * age
        return self._rate * age, float(self._exposed(np.array([age]))[0])

    def blocks_for(self, information: float, win_blocks: int) -> int:
        """A number of harm blocks that surely holds so much information of the win side and so many whole blocks."""
        q = self.settings
        enough = math.ceil((self.day_of(information) - q.delay) / q.block) + 3
        return self.ratio * max(enough, win_blocks + 3)


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _after(information: Floats, lost: int, closed: Ints) -> Floats:
    """Information of the closed blocks but the lost first ones."""
    total = np.concatenate([[0.0], np.cumsum(np.where(np.arange(len(information)) < lost, 0.0, information))])
    return np.asarray(total[closed])


def _equal(information: Floats, lost: int, closed: Ints) -> Floats:
    """(Σ i)² / Σ i² of the closed blocks but the lost ones: as many of equal information (Kish)."""
    over, under = _after(information, lost, closed), _after(information**2, lost, closed)
    return np.divide(over * over, under, out=np.zeros(len(over)), where=under > 0.0)
