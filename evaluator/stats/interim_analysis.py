"""The interim analysis (look) of one comparison: a panel of one cell, with its answer in words.

Invariant: `advance` is a pure function; the same state, blocks and plan give the same look and state byte for byte. The
level holds however often one looks (see `panel`). The estimate at a crossing is too large on average, because crossing
selects for it; the interval accounts for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import ndtr, ndtri

from evaluator.stats import panel
from evaluator.stats.cluster_robust import HARM_SCALES, WIN_SCALES, rows_of, weakest
from evaluator.stats.errors import NoAnswer
from evaluator.stats.evidence import Evidence
from evaluator.stats.panel import BETTER, ArmTotals, Looks, Panel, States
from evaluator.stats.score_process import Arm, Block, arms_of
from evaluator.stats.sequential_test import Plan
from evaluator.stats.tails import Tails

Crossed = Literal["better", "worse"]

POWER = 0.8
"""Probability with which an effect of the size `Look.detectable_win` is shown by a look."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The first look at which a bound was crossed, with the interval valid there."""

    look: int
    crossed: Crossed
    effect: float
    lower: float | None
    upper: float | None
    information_fraction: float
    n_champion: int
    n_challenger: int


@dataclass(frozen=True, slots=True)
class Look:
    """The answer at one look. Larger outcomes are better; effect = challenger − champion per unit.

    lower, upper: repeated confidence limits, each valid at all looks at once with its side's level; None: no limit yet.
    bound_win, bound_harm: bounds for z and −z; None: that side can't be crossed at this look. p_win, p_harm: one-sided
    and always valid; p_value is twice the smaller. fixed_p: the classical answer of one look at independent units, for
    comparison only. standard_error: of the effect, on the harm side. detectable_win: the effect that a look at this
    evidence shows as a win with probability `POWER`; None where the win side made no look. widening: factor of the
    variance for correlated blocks. final: the horizon is reached and looked at. crossed stays once it is set.
    """

    number: int
    n_champion: int
    n_challenger: int
    mean_champion: float | None
    mean_challenger: float | None
    effect: float
    lower: float | None
    upper: float | None
    z: float
    bound_win: float | None
    bound_harm: float | None
    information: float
    information_fraction: float
    p_value: float
    p_win: float
    p_harm: float
    fixed_p: float
    standard_error: float
    detectable_win: float | None
    widening: float
    autocorrelation: float
    skewness: float
    n_blocks: int
    margin: float
    final: bool
    crossed: Crossed | None
    stop: Stop | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """State of a test between looks. `to_dict` is small and fit for JSON; `from_dict` needs the same plan."""

    cells: States

    @classmethod
    def start(cls, plan: Plan) -> State:
        return cls(States.start(plan, 1))

    @property
    def stop(self) -> Stop | None:
        stops = self.cells.stops
        if not stops.look[0]:
            return None
        return Stop(
            look=int(stops.look[0]),
            crossed="better" if stops.crossed[0] == BETTER else "worse",
            effect=float(stops.effect[0]),
            lower=_finite(stops.lower[0]),
            upper=_finite(stops.upper[0]),
            information_fraction=float(stops.information_fraction[0]),
            n_champion=int(stops.n_champion[0]),
            n_challenger=int(stops.n_challenger[0]),
        )

    def to_dict(self) -> dict[str, Any]:
        return self.cells.to_dict()

    @classmethod
    def from_dict(cls, plan: Plan, data: dict[str, Any]) -> State:
        return cls(States.from_dict(plan, data))


def advance(
    state: State,
    blocks: Sequence[Block],
    plan: Plan,
    harm_blocks: Sequence[Block] | None = None,
    tails: Tails | None = None,
) -> tuple[State, Look | NoAnswer]:
    """Look at all closed blocks so far, in time order (not only the new ones).

    `harm_blocks`, where given, is the same traffic in finer or later blocks for the harm side alone; means and counts
    are then theirs. `tails`: what is known of the outcomes' tails beyond two moments. Raises OrderError if there is
    less information than at the last look.
    """
    coarse = Panel.from_blocks(blocks, plan, tails)
    finer = None if harm_blocks is None else Panel.from_blocks(harm_blocks, plan, tails)
    cells, looks = panel.advance(state.cells, coarse, plan, finer)
    return _answer(state, cells, looks, coarse.totals, blocks if harm_blocks is None else harm_blocks, plan)


def advance_at_scales(
    state: State,
    win: Sequence[Sequence[Block]],
    harm: Sequence[Sequence[Block]],
    plan: Plan,
    tails: Tails | None = None,
) -> tuple[State, Look | NoAnswer]:
    """`advance` with blocks at the scales `WIN_SCALES` and `HARM_SCALES` of `multiscale`, the finest first.

    `win` holds the traffic of whole blocks of the longest scale, `harm` all closed blocks of each, but of the longest
    all that have begun. State, looks and
    plan are those of `advance`; the plan's minimum numbers of blocks are asked of the scale that decides.
    """
    margin = np.array([plan.margin])
    support = weakest(WIN_SCALES, [rows_of(blocks)[None] for blocks in win], margin=margin, sign=1.0)
    scales = WIN_SCALES if plan.harm_waits else HARM_SCALES
    against = weakest(
        scales, [rows_of(blocks)[None] for blocks in harm], margin=margin, sign=-1.0, intraclass=plan.intraclass
    )
    totals, harm_totals = (Panel.from_blocks(side[0], plan, tails).totals for side in (win, harm))
    cells, looks = panel.decide(state.cells, support, totals, against, harm_totals, plan)
    return _answer(state, cells, looks, totals, harm[0], plan)


def _answer(
    state: State, cells: States, looks: Looks, win: ArmTotals, harm: Sequence[Block], plan: Plan
) -> tuple[State, Look | NoAnswer]:
    """The look in words, or why there is none yet."""
    champion, challenger = arms_of(harm)
    if not looks.ready_harm[0]:
        why = looks.harm.lacking(0) or too_little(champion.n, challenger.n, int(looks.harm.n_blocks[0]), plan, -1.0)
        return state, NoAnswer(why, champion.n, challenger.n, int(looks.harm.n_blocks[0]))
    waiting = None if looks.ready_win[0] else _waiting(looks, win, plan)
    after = State(cells)
    look = _look(after, looks, (champion, challenger), plan)
    final = plan.mode == "group-sequential" and look.information_fraction >= 1.0 and not waiting
    look = replace(look, final=final)
    held = win.tails.lacking_for_harm(0) if looks.harm_held[0] and win.tails is not None else None
    return after, replace(look, reasons=tuple(_reasons(look, plan, waiting, held)))


def _look(state: State, looks: Looks, arms: tuple[Arm, Arm], plan: Plan) -> Look:
    cells, shown, against = state.cells, looks.shown.cell(0), looks.harm.cell(0)
    champion, challenger = arms
    fixed_z = float(shown.score) / math.sqrt(float(shown.unit_variance))
    stop = state.stop
    return Look(
        number=int(cells.looks[0]),
        n_champion=champion.n,
        n_challenger=challenger.n,
        mean_champion=champion.mean,
        mean_challenger=challenger.mean,
        effect=float(looks.effect[0]),
        lower=_finite(cells.lower[0]),
        upper=_finite(cells.upper[0]),
        z=float(looks.z[0]),
        bound_win=_finite(looks.bound_win[0]),
        bound_harm=_finite(looks.bound_harm[0]),
        information=float(shown.information),
        information_fraction=float(looks.fraction[0]),
        p_value=float(cells.p_value[0]),
        p_win=float(looks.p_win[0]),
        p_harm=float(looks.p_harm[0]),
        fixed_p=float(2.0 * ndtr(-abs(fixed_z))),
        standard_error=math.sqrt(against.variance) / float(against.information),
        detectable_win=_detectable(looks.support.cell(0), float(looks.bound_win[0])),
        widening=float(shown.widening),
        autocorrelation=float(shown.autocorrelation),
        skewness=float(shown.skewness),
        n_blocks=int(shown.n_blocks),
        margin=plan.margin,
        final=False,
        crossed=None if stop is None else stop.crossed,
        stop=stop,
        reasons=(),
    )


def _detectable(support: Evidence, bound: float) -> float | None:
    """How large an effect has to be for a look at this evidence to show it as a win with probability `POWER`."""
    if not math.isfinite(bound):
        return None
    reach = float(support.effect - support.lower(np.asarray(bound)))
    return _finite(reach + float(ndtri(POWER)) * math.sqrt(support.variance) / float(support.information))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _waiting(looks: Looks, win: ArmTotals, plan: Plan) -> str:
    """What a win still waits for."""
    n_blocks = int(looks.support.n_blocks[0])
    by_table = plan.margin > 0.0 and bool(looks.support.enough_blocks[0])  # which needs nothing that varies
    found = None if by_table else looks.support.lacking(0)
    if found is None and n_blocks >= plan.min_blocks_win and win.tails is not None:
        found = win.tails.lacking(0)
    return found or too_little(int(win.champion[0, 0]), int(win.challenger[0, 0]), n_blocks, plan, 1.0)


def too_little(champion: int, challenger: int, n_blocks: int, plan: Plan, sign: float) -> str:
    """What a side (sign 1: better, −1: worse) still waits for, with so many outcomes of each arm."""
    needed = 2 * plan.min_events
    if champion < needed or challenger < needed:
        return f"champion has {champion} and challenger {challenger} matured outcomes; each needs {needed}"
    return f"{n_blocks} of at least {plan.min_blocks_win if sign > 0.0 else plan.min_blocks_harm} blocks are closed"


def _reasons(look: Look, plan: Plan, waiting: str | None, held: str | None) -> list[str]:
    share = f"{look.information_fraction:.0%} of the planned evidence"
    null = f"−{plan.margin:g}" if plan.margin else "0"
    reasons = []
    if look.stop is not None:
        side = "above" if look.stop.crossed == "better" else "below"
        reasons.append(
            f"{look.stop.crossed}: the effect {look.stop.effect:+.5g} is {side} {null} beyond the boundary at look "
            f"{look.stop.look}, {look.stop.information_fraction:.0%} of the planned evidence"
        )
    elif look.final:
        reasons.append(f"inconclusive at the horizon: z = {look.z:.2f} crossed no boundary by {share}")
    else:
        win = "none" if look.bound_win is None else f"{look.bound_win:.2f}"
        harm = "none" if look.bound_harm is None else f"{-look.bound_harm:.2f}"
        reasons.append(f"not decided: z = {look.z:.2f} between the bounds {harm} (worse) and {win} (better) at {share}")
    if waiting:
        reasons.append(f"not enough for better yet: {waiting}")
    if held:
        reasons.append(f"not enough for worse yet: {held}")
    if plan.clustered:
        reasons.append(
            f"{look.n_blocks} blocks, skewness {look.skewness:.2f}; correlation {look.autocorrelation:.2f} of "
            f"neighbouring blocks multiplies the variance by {look.widening:.2f}"
        )
        if look.skewness < -1.0:
            reasons.append("rare blocks go far worse for the challenger than most: z is corrected for that skewness")
    return reasons
