"""A panel: many comparisons tested together (metrics, segments, challengers, simulated runs) as cells of arrays.

Invariant: a cell's answers are those it would get alone; cells that make the same looks only share the cost of their
boundary. Under no effect each side of a cell is crossed, at any look ever made, with probability at most its level. At
information time t > 1 only a side's `reserve` is left to spend; other looks show the last interval that was decided on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from evaluator.stats.cluster_robust import evidence_of, rows_of
from evaluator.stats.errors import StatsError
from evaluator.stats.evidence import Evidence, combined
from evaluator.stats.few_events import FewEvents
from evaluator.stats.score_process import Block, Bools, CellArrays, Floats, arms_of
from evaluator.stats.sequential_test import Plan, SequentialTest, start
from evaluator.stats.tails import Tails

BETTER, WORSE = 1.0, -1.0


@dataclass(frozen=True)
class ArmTotals:
    """Counts of each cell's matured outcomes by arm.

    champion, challenger: shape (cells, 3), columns (n, Σ Y, Σ Y²). horizon: shape (cells,), as in `Plan`. least:
    outcomes that each arm needs before a cell is looked at. discordant: Σ D² of pairs, NaN for split traffic, None
    where no cell has pairs. drawn: (Σ π, Σ π Y), shape (cells, 2); None where shares were constant. dependent: cells
    whose units are not independent although the plan takes no clusters. tails: what was seen of the outcomes' tails;
    None asks nothing of them.
    """

    champion: Floats
    challenger: Floats
    horizon: Floats
    least: Floats | float = 0.0
    discordant: Floats | None = None
    drawn: Floats | None = None
    dependent: Bools | bool = False
    tails: Tails | None = None

    @property
    def smaller(self) -> Floats:
        return np.minimum(self.champion[:, 0], self.challenger[:, 0])


@dataclass(frozen=True)
class Panel:
    """The closed blocks so far of each cell, its counts, and its margin of shape (cells,).

    rows: shape (cells, blocks, 4), columns (score, information, unit variance, units); information 0 is no block.
    """

    rows: Floats
    totals: ArmTotals
    margin: Floats

    def __post_init__(self) -> None:
        cells, totals = len(self.rows), self.totals
        arrays = (totals.champion, totals.challenger, totals.horizon, self.margin)
        shapes = (self.rows.shape[2:], *(each.shape for each in arrays))
        if shapes != ((4,), (cells, 3), (cells, 3), (cells,), (cells,)):
            raise StatsError(f"the arrays of a panel of {cells} cells have shapes {shapes}")

    @classmethod
    def from_blocks(cls, blocks: Sequence[Block], plan: Plan, tails: Tails | None = None) -> Self:
        """The panel of one comparison. tails: where more is known of them than two moments."""
        champion, challenger = (
            np.array([[arm.n, arm.total, arm.squares]], dtype=np.float64) for arm in arms_of(blocks)
        )
        scored = [block for block in blocks if block.information]
        # A pair carries information 1, a unit of split traffic at most a quarter.
        paired = bool(scored) and all(block.information == block.units for block in scored)
        discordant = np.array([sum(block.variance for block in scored)]) if paired else None
        arms = np.stack([champion, challenger], axis=1)
        if discordant is not None:  # their differences are what varies
            n, score = (sum(getattr(block, name) for block in scored) for name in ("units", "score"))
            arms = np.array([[(0.0, 0.0, 0.0), (n, score, discordant[0])]])
        totals = ArmTotals(
            champion,
            challenger,
            np.array([plan.horizon]),
            discordant=discordant,
            tails=tails or Tails.of_two_moments(arms),
        )
        return cls(rows_of(blocks)[None], totals, np.array([plan.margin]))

    def evidence(self, plan: Plan, most_correlation: float) -> Evidence:
        return evidence_of(self.rows, margin=self.margin, clustered=plan.clustered, most_correlation=most_correlation)


@dataclass(frozen=True)
class Stops(CellArrays):
    """The first look of each cell at which a bound was crossed, with the interval valid there. look 0: none yet."""

    look: Floats
    crossed: Floats  # BETTER, WORSE, or 0
    effect: Floats
    lower: Floats
    upper: Floats
    information_fraction: Floats
    n_champion: Floats
    n_challenger: Floats

    @classmethod
    def none(cls, cells: int) -> Self:
        zero, none = np.zeros(cells), np.full(cells, np.nan)
        return cls(zero, zero, none, none, none, none, zero, zero)

    def updated(self, where: Bools, new: Stops) -> Stops:
        return combined(lambda old, now: np.where(where, now, old), self, new)


@dataclass(frozen=True, eq=False)
class States(CellArrays):
    """State of the cells' tests between looks. lower, upper: the limits of the last look, nan for none."""

    win: SequentialTest
    harm: SequentialTest
    looks: Floats
    lower: Floats
    upper: Floats
    stops: Stops
    kept: ClassVar[tuple[str, ...]] = ("looks", "lower", "upper")

    @classmethod
    def start(cls, plan: Plan, cells: int, *, horizon: Floats | None = None, effect: Floats | None = None) -> Self:
        """Before the first look. horizon, effect: shape (cells,) where cells differ; else the plan's."""
        win, harm = (
            start(
                plan.mode,
                side,
                cells,
                horizon=plan.horizon if horizon is None else horizon,
                effect=plan.effect if effect is None else effect,
            )
            for side in (plan.win, plan.harm)
        )
        return cls(win, harm, np.zeros(cells), np.full(cells, np.nan), np.full(cells, np.nan), Stops.none(cells))

    @property
    def p_value(self) -> Floats:
        """Two-sided: twice the smaller side's."""
        return np.minimum(1.0, 2.0 * np.minimum(self.win.p, self.harm.p))

    def to_dict(self) -> dict[str, Any]:
        parts = {"win": self.win.to_dict(), "harm": self.harm.to_dict(), "stops": self.stops.to_dict()}
        return {**super().to_dict(), **parts}

    @classmethod
    def from_dict(cls, plan: Plan, data: dict[str, Any]) -> Self:
        fresh = cls.start(plan, len(data["looks"])).restored(data)
        sides = fresh.win.restored(data["win"]), fresh.harm.restored(data["harm"])
        return replace(fresh, win=sides[0], harm=sides[1], stops=fresh.stops.restored(data["stops"]))


@dataclass(frozen=True)
class Looks:
    """The answers of one look, shape (cells,) each. Larger outcomes are better.

    support, harm: the evidence of the win side and of the harm side. shown: what effect, variance and blocks are
    reported from, the win side's where there is any. effect: that of `shown`, which takes each row by the champion's
    mean before it, within what a difference of these outcomes can be. ready_win, ready_harm: the sides that could be
    crossed; bounds are infinite elsewhere. harm_held: harm that its bound alone would call, and a tail holds. p_win,
    p_harm: the running one-sided p values.
    """

    shown: Evidence
    effect: Floats
    support: Evidence
    harm: Evidence
    ready_win: Bools
    ready_harm: Bools
    harm_held: Bools
    z: Floats
    bound_win: Floats
    bound_harm: Floats
    fraction: Floats
    p_win: Floats
    p_harm: Floats


def few_events(totals: ArmTotals, margin: Floats, plan: Plan) -> FewEvents:
    """The tables of these counts, for the cells of which one kind of outcome is too rare for an expansion."""
    return FewEvents.of_cells(
        totals.champion,
        totals.challenger,
        discordant=totals.discordant,
        drawn=totals.drawn,
        independent=np.broadcast_to(np.logical_not(totals.dependent) & (not plan.clustered), margin.shape),
        margin=margin,
        least=plan.min_events,
    )


def ready(totals: ArmTotals, evidence: Evidence, few: FewEvents, plan: Plan, sign: float) -> Bools:
    """Enough outcomes in each arm, and blocks, for the win side (sign 1) or the harm side (−1)."""
    least_blocks = plan.min_blocks_win if sign > 0.0 else plan.min_blocks_harm
    enough = totals.smaller >= np.maximum(2 * plan.min_events, totals.least)
    if sign > 0.0 and totals.tails is not None:
        enough &= few.two_kinds | totals.tails.shown
    enough &= evidence.available | (few.settles(sign) & evidence.enough_blocks)
    return enough & (not plan.clustered or evidence.n_blocks >= least_blocks)


def advance(states: States, panel: Panel, plan: Plan, harm_panel: Panel | None = None) -> tuple[States, Looks]:
    """Look at all closed blocks so far of every cell.

    `harm_panel`, where given, is the same traffic cut finer or later for the harm side alone. A cell whose harm side is
    not ready makes no look. Raises OrderError if there is less information than at the last look.
    """
    support = panel.evidence(plan, plan.win.most_correlation)
    if harm_panel is None and plan.harm.most_correlation <= plan.win.most_correlation:
        against = support.capped(plan.harm.most_correlation)
    else:
        against = (harm_panel or panel).evidence(plan, plan.harm.most_correlation)
    return decide(states, support, panel.totals, against, (harm_panel or panel).totals, plan)


def decide(
    states: States, support: Evidence, totals: ArmTotals, against: Evidence, harm_totals: ArmTotals, plan: Plan
) -> tuple[States, Looks]:
    """`advance` where the evidence of the win side (support) and of the harm side (against) is known already."""
    few_win, few_harm = few_events(totals, support.margin, plan), few_events(harm_totals, against.margin, plan)
    ready_harm = ready(harm_totals, against, few_harm, plan, -1.0)
    ready_win = ready(totals, support, few_win, plan, 1.0) & ready_harm

    z_win, z_harm = few_win.z(support, 1.0), few_harm.z(against, -1.0)
    more = np.where(few_harm.two_kinds, 1.0, 1.0 if harm_totals.tails is None else harm_totals.tails.harm_factor)
    t_harm = against.information / harm_totals.horizon
    bound_harm, harm = states.harm.look(t_harm, z_harm / more, against.variance, ready_harm)
    held = ready_harm & (z_harm >= bound_harm) & (z_harm < more * bound_harm)
    bound_harm = more * bound_harm
    bound_win, win = states.win.look(support.information / totals.horizon, z_win, support.variance, ready_win)
    # Limits hold at all looks at once: where this look has none, the last one's stands.
    lower, upper = few_win.limit(support, bound_win, 1.0), few_harm.limit(against, bound_harm, -1.0)
    most = np.where(few_win.two_kinds & few_harm.two_kinds, 1.0, np.inf)  # of a difference of two shares
    lower = np.where(ready_win & np.isfinite(lower), within(lower, most), states.lower)
    upper = np.where(ready_harm & np.isfinite(upper), within(upper, most), states.upper)

    shown = support if support.available.all() else support.or_else(against)
    effect, fraction = within(shown.effect, most), shown.information / totals.horizon
    won, harmed = ready_win & (z_win >= bound_win), ready_harm & (z_harm >= bound_harm)
    crossed = np.where(harmed, WORSE, np.where(won, BETTER, 0.0))
    looks = states.looks + ready_harm
    # Each side keeps its own level, so harm may still speak after a win: it takes the win back.
    before = states.stops.crossed
    stopping = (crossed != 0) & ((before == 0) | ((before == BETTER) & (crossed == WORSE)))
    counts = (harm_totals.champion[:, 0], harm_totals.challenger[:, 0])
    stops = states.stops.updated(stopping, Stops(looks, crossed, effect, lower, upper, fraction, *counts))
    return States(win, harm, looks, lower, upper, stops), Looks(
        shown=shown,
        effect=effect,
        support=support,
        harm=against,
        ready_win=ready_win,
        ready_harm=ready_harm,
        harm_held=held,
        z=np.where(shown.t >= 0.0, z_win if shown is support else few_win.z(shown, 1.0), -z_harm),
        bound_win=np.where(ready_win, bound_win, np.inf),
        bound_harm=np.where(ready_harm, bound_harm, np.inf),
        fraction=fraction,
        p_win=win.p,
        p_harm=harm.p,
    )


def within(value: Floats, most: Floats) -> Floats:
    """The value, or the nearest one that is no further from 0 than `most`."""
    return np.asarray(np.minimum(np.maximum(value, -most), most))
