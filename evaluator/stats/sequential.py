"""A test watched over time: looks at growing evidence that keep the level however often and whenever one looks.

Invariant: `advance` is a pure function; the same state, blocks and plan give the same look and state byte for byte.
Under no effect each side is crossed, at any look ever made, with probability at most its level.

Past the horizon (information time t > 1) the first look spends all that is left of a side's level at the time it
really has. Later looks have nothing to spend, so they can't cross; what they show is the last interval that was
decided on. A side with a `reserve` (the harm side has one by default) goes on spending it and can still be crossed,
so a challenger kept on in an extension is never unwatched. Without a crossing by then the answer is inconclusive:
what to do is policy, not statistics. In anytime mode there is no end.

The estimate at a crossing is too large on average, because crossing selects for it; the interval accounts for that,
and a plain average of later data does not suffer from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy.special import ndtr

from evaluator.stats.monitor import Monitor, restore, start
from evaluator.stats.plan import Plan, Side
from evaluator.stats.process import Arm, Block, Evidence, arms_of, evidence_of, rows_of
from evaluator.stats.refusal import NoAnswer
from evaluator.stats.sums import Floats

Crossed = Literal["better", "worse"]


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

    lower and upper: repeated confidence limits; each holds at all looks at once with its side's level, so also at the
    stopping time. None: that side has no limit yet, for the reason given. bound_win and bound_harm are for z and −z;
    None: that side can't be crossed at this look. p_value is always valid, two-sided (twice the smaller side's).
    fixed_z and fixed_p are the classical answer for independent units and one look, for comparison only. `widening` and
    `widening_harm` multiply the variance for correlated blocks on either side. final: the horizon is reached and
    looked at. crossed stays once it is set.
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
    spent_win: float
    spent_harm: float
    p_value: float
    fixed_z: float
    fixed_p: float
    widening: float
    widening_harm: float
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
    """What a test remembers between looks. `to_dict` is small and fit for JSON; `from_dict` needs the same plan."""

    win: Monitor
    harm: Monitor
    looks: int = 0
    lower: float | None = None
    upper: float | None = None
    stop: Stop | None = None

    @classmethod
    def start(cls, plan: Plan) -> State:
        return cls(
            start(plan.mode, plan.win.alpha, plan.win.spending), start(plan.mode, plan.harm.alpha, plan.harm.spending)
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "win": self.win.to_dict(),
            "harm": self.harm.to_dict(),
            "looks": self.looks,
            "lower": self.lower,
            "upper": self.upper,
            "stop": None if self.stop is None else {name: getattr(self.stop, name) for name in Stop.__slots__},
        }

    @classmethod
    def from_dict(cls, plan: Plan, data: dict[str, Any]) -> State:
        return cls(
            restore(plan.mode, plan.win.alpha, plan.win.spending, data["win"]),
            restore(plan.mode, plan.harm.alpha, plan.harm.spending, data["harm"]),
            data["looks"],
            data["lower"],
            data["upper"],
            None if data["stop"] is None else Stop(**data["stop"]),
        )


def advance(
    state: State, blocks: Sequence[Block], plan: Plan, harm_blocks: Sequence[Block] | None = None
) -> tuple[State, Look | NoAnswer]:
    """Look at all closed blocks so far, in time order (not only the new ones).

    `harm_blocks`, where given, is the same traffic cut finer or later for the harm side alone: a false rollback costs a
    retry, a missed harm costs users. Means and counts are then theirs. Raises OrderError if there is less information
    than at the last look.
    """
    harmful = blocks if harm_blocks is None else harm_blocks
    champion, challenger = arms_of(harmful)
    rows = rows_of(harmful)
    against = _evidence(rows, plan, plan.harm)
    if isinstance(against, str):
        return state, NoAnswer(against, champion.n, challenger.n, len(rows))
    wait_harm = _too_little_for_harm(champion, challenger, against.n_blocks, plan)
    if wait_harm:
        return state, NoAnswer(wait_harm, champion.n, challenger.n, against.n_blocks)
    arms = (champion, challenger) if harm_blocks is None else arms_of(blocks)
    support = _evidence(rows if harm_blocks is None else rows_of(blocks), plan, plan.win)
    wait_win = _too_little_for_win(*arms, support, plan)

    bound_harm, harm = state.harm.look(against.information / plan.horizon, against.z_harm, against.variance)
    upper = _limit(against.upper(bound_harm), state.upper)
    bound_win, win, lower = math.inf, state.win, state.lower
    if isinstance(support, Evidence) and not wait_win:
        bound_win, win = win.look(support.information / plan.horizon, support.z_win, support.variance)
        lower = _limit(support.lower(bound_win), lower)
    shown = support if isinstance(support, Evidence) else against
    fraction = shown.information / plan.horizon

    stop = state.stop
    crossed: Crossed | None = None
    if against.z_harm >= bound_harm:
        crossed = "worse"
    elif isinstance(support, Evidence) and support.z_win >= bound_win:
        crossed = "better"
    # Each side keeps its own level, so harm may still speak after a win: it takes the win back.
    if crossed is not None and (stop is None or (stop.crossed, crossed) == ("better", "worse")):
        stop = Stop(state.looks + 1, crossed, shown.effect, lower, upper, fraction, champion.n, challenger.n)
    after = State(win, harm, state.looks + 1, lower, upper, stop)
    fixed_z = shown.score / math.sqrt(shown.unit_variance)
    look = Look(
        number=after.looks,
        n_champion=champion.n,
        n_challenger=challenger.n,
        mean_champion=champion.mean,
        mean_challenger=challenger.mean,
        effect=shown.effect,
        lower=lower,
        upper=upper,
        z=shown.z_win if shown.t >= 0.0 else -against.z_harm,
        bound_win=_finite(bound_win),
        bound_harm=_finite(bound_harm),
        information=shown.information,
        information_fraction=fraction,
        spent_win=win.spent,
        spent_harm=harm.spent,
        p_value=min(1.0, 2.0 * min(win.p, harm.p)),
        fixed_z=fixed_z,
        fixed_p=float(2.0 * ndtr(-abs(fixed_z))),
        widening=shown.widening,
        widening_harm=against.widening,
        autocorrelation=shown.autocorrelation,
        skewness=shown.skewness,
        n_blocks=shown.n_blocks,
        margin=plan.margin,
        final=plan.mode == "group-sequential" and fraction >= 1.0 and not wait_win,
        crossed=None if stop is None else stop.crossed,
        stop=stop,
        reasons=(),
    )
    return after, replace(look, reasons=tuple(_reasons(look, plan, wait_win)))


def _evidence(rows: Floats, plan: Plan, side: Side) -> Evidence | str:
    return evidence_of(rows, margin=plan.margin, clustered=plan.clustered, most_correlation=side.most_correlation)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _limit(value: float, last: float | None) -> float | None:
    """The limit at this look, or the last one where this look has none: limits hold at all looks at once."""
    return value if math.isfinite(value) else last


def _too_little_for_harm(champion: Arm, challenger: Arm, n_blocks: int, plan: Plan) -> str | None:
    needed = 2 * plan.min_events
    if champion.n < needed or challenger.n < needed:
        return f"champion has {champion.n} and challenger {challenger.n} matured outcomes; each needs {needed}"
    both = Arm(
        champion.n + challenger.n, champion.total + challenger.total, champion.squares + challenger.squares
    ).fewest
    if both < plan.min_events:
        return f"{both:.0f} outcomes of the rarer kind in both arms together; {plan.min_events} are needed"
    if plan.clustered and n_blocks < plan.min_blocks_harm:
        return f"{n_blocks} of at least {plan.min_blocks_harm} blocks are closed"
    return None


def _too_little_for_win(champion: Arm, challenger: Arm, support: Evidence | str, plan: Plan) -> str | None:
    if isinstance(support, str):
        return support
    if plan.clustered and support.n_blocks < plan.min_blocks_win:
        return f"{support.n_blocks} of at least {plan.min_blocks_win} blocks are closed"
    for name, arm in (("champion", champion), ("challenger", challenger)):
        if arm.fewest < plan.min_events:
            return f"the {name} has {arm.fewest:.0f} outcomes of the rarer kind; {plan.min_events} are needed"
    return None


def _reasons(look: Look, plan: Plan, wait_win: str | None) -> list[str]:
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
    if wait_win:
        reasons.append(f"not enough for better yet: {wait_win}")
    if plan.clustered:
        reasons.append(
            f"{look.n_blocks} blocks, skewness {look.skewness:.2f}; correlation {look.autocorrelation:.2f} of "
            f"neighbouring blocks multiplies the variance by {look.widening:.2f}"
        )
        if look.skewness < -1.0:
            reasons.append("rare blocks go far worse for the challenger than most: z is corrected for that skewness")
    return reasons
