"""Guards over the traffic itself: may this experiment's evidence be trusted at all?

Invariant: a guard that is breached although all is in order is so with probability at most its alpha, however often it
is read: each test here holds at every moment at once. Times are seconds since 1970, UTC, and given by the caller.

| guard | asks | breached if |
|---|---|---|
| multiple exposure | do units meet one arm only? | more units than allowed met several |
| no traffic | does each arm get any of the traffic it was promised? | its getting none is too improbable |
| no outcomes | does the truth still arrive? | the last outcome is older than allowed |
| label arrival | does it arrive for both arms alike? | the arms' shares differ by more than the margin |

Label arrival looks in both directions: who withholds the labels of a challenger's failures, or of the champion's
successes, makes a worse challenger win.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from evaluator.stats.binomial_rate import rate_limits, rate_p
from evaluator.stats.design import HARM_MOST_CORRELATION, Mode, Plan, Side
from evaluator.stats.errors import NoAnswer, StatsError
from evaluator.stats.interim_analysis import State, advance
from evaluator.stats.multiple_exposure import Exposures
from evaluator.stats.score_process import Arm, Block
from evaluator.stats.srm import AssignmentCounts

Standing = Literal["safe", "open", "breached"]


@dataclass(frozen=True, slots=True)
class GuardReading:
    """One reading of a guard.

    safe: a breach is ruled out; breached: it is shown; open: neither yet, and `reason` says what is missing. `value` is
    what was measured (a share, a difference of shares, seconds), lower and upper its always-valid limits, p_value the
    always-valid p of "all is in order"; None where the guard has no such number.
    """

    name: str
    standing: Standing
    reason: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None

    @property
    def ok(self) -> bool:
        """Nothing is known to be wrong."""
        return self.standing != "breached"


def _level(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise StatsError(f"the level {alpha!r} does not lie strictly between 0 and 1")


def multiple_exposure(
    exposures: Exposures, *, allowed: float = 0.01, smallest_p: float = 1.0, alpha: float = 0.001
) -> GuardReading:
    """Do more than a share `allowed` of the units meet more than one arm?

    A unit that has met one arm so far may still meet another. The evidence only grows by that, so at any moment it is
    at most what the units' final state would give, and the p value is valid though nobody knows that state. For the
    same reason "safe" is said of the exposures so far. `smallest_p` is the p_value of the last reading.

    Beyond the sketch's capacity each level is a test of its own on its sample, so p is divided by a weight: 0.9 for
    level 0, 0.1/(l(l+1)) for level l ≥ 1, which add to 1.
    """
    _level(alpha)
    name = "multiple exposure"
    units, multiple, level = exposures.units, exposures.multiple, exposures.level
    if not units:
        return GuardReading(name, "open", "no unit has been exposed yet")
    weight = 0.9 if level == 0 else 0.1 / (level * (level + 1))
    p = min(smallest_p, 1.0, rate_p(multiple, units, allowed) / weight)
    lower, upper = rate_limits(multiple, units, 2.0 * alpha * weight)
    standing: Standing = "breached" if p <= alpha else "safe" if upper < allowed else "open"
    sample = "" if exposures.exact else f" in a sample of about {exposures.distinct}"
    said = {"breached": "more than", "safe": "not more than", "open": "not shown to be more or less than"}[standing]
    reason = (
        f"{multiple} of {units} units{sample} met more than one arm; that is {said} {allowed:.2%} of them (p = {p:.2g})"
    )
    return GuardReading(name, standing, reason, multiple / units, lower, upper, p)


def no_traffic(counts: AssignmentCounts, *, alpha: float = 0.001) -> GuardReading:
    """Has an arm got none of the units that the logged propensities promised it?

    The probability of that is exact: Π(1−π) over all units for the challenger, Ππ for the champion; p is twice the
    smaller. "None so far" only ever ends, so the first moment at which that product is below a level comes with at most
    that probability: the p value is always valid as it is. Count a recent window to ask whether traffic has stopped
    (each window is a test of its own then).
    """
    _level(alpha)
    name = "no traffic"
    units = sum(sum(pair) for pair in counts.counts.values())
    if not units:
        return GuardReading(name, "open", "no unit has been assigned yet")
    seen = [sum(pair[arm] for pair in counts.counts.values()) for arm in (0, 1)]
    if all(seen):
        return GuardReading(name, "safe", f"{seen[0]} units met the champion and {seen[1]} the challenger", min(seen))
    arm, called = (1, "challenger") if not seen[1] else (0, "champion")
    chances = [(share if arm else 1.0 - share, sum(pair)) for share, pair in counts.counts.items()]
    expected = math.fsum(chance * total for chance, total in chances)
    p = min(1.0, 2.0 * math.exp(math.fsum(total * math.log1p(-chance) for chance, total in chances)))
    reason = f"the {called} got none of {units} units where {expected:.1f} were expected (p = {p:.2g})"
    return GuardReading(name, "breached" if p <= alpha else "open", reason, 0.0, p_value=p)


def no_outcomes(
    arm: str, *, now: float, first_due: float | None, last_outcome: float | None, longest: float
) -> GuardReading:
    """Has no outcome of the arm matured for longer than `longest` seconds?

    `first_due`: when the arm's first exposure reached its horizon (None: none has yet), `last_outcome`: when the last
    outcome matured (None: never). A rule on the clock and not a test: `longest` is to be well above the longest pause
    that is normal.
    """
    name = "no outcomes"
    if not (longest > 0.0 and math.isfinite(longest) and math.isfinite(now)):
        raise StatsError(f"the longest pause {longest!r} at {now!r} is not a finite number of seconds above 0")
    if first_due is None and last_outcome is None:
        return GuardReading(name, "open", f"no exposure of the {arm} has reached its horizon yet")
    since = max(time for time in (first_due, last_outcome) if time is not None)
    pause = now - since
    when = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
    if last_outcome is None:
        what = f"the {arm}'s first outcome was due at {when} and none has come"
    else:
        what = f"the {arm}'s last outcome matured at {when}"
    reason = f"{what}, {pause:.0f} s ago; at most {longest:.0f} s are allowed"
    if pause > longest:
        return GuardReading(name, "breached", reason, pause)
    return GuardReading(name, "safe" if last_outcome is not None else "open", reason, pause)


@dataclass(frozen=True)
class ArrivalState:
    """What `label_arrival` remembers: one test for fewer labels of the challenger, one for more."""

    fewer: State
    more: State

    @classmethod
    def start(cls, plan: Plan) -> Self:
        return cls(State.start(plan), State.start(plan))

    def to_dict(self) -> dict[str, Any]:
        return {"fewer": self.fewer.to_dict(), "more": self.more.to_dict()}

    @classmethod
    def from_dict(cls, plan: Plan, data: dict[str, Any]) -> Self:
        return cls(State.from_dict(plan, data["fewer"]), State.from_dict(plan, data["more"]))


def arrival_plan(
    horizon: float, *, margin: float = 0.01, alpha: float = 0.01, mode: Mode = "anytime", clustered: bool = True
) -> Plan:
    """The plan of `label_arrival`: alpha/2 for each direction, a difference of up to `margin` allowed.

    `horizon` is information, as `horizon_information` computes it; in anytime mode it only says where the test is
    made tightest. Both directions have the caution of a harm side: a missed attack costs users, a false alarm a look.
    """
    side = Side(alpha / 2.0, most_correlation=HARM_MOST_CORRELATION)
    return Plan(horizon, side, side, mode, margin, clustered, min_blocks_win=5)


def label_arrival(state: ArrivalState, blocks: Sequence[Block], plan: Plan) -> tuple[ArrivalState, GuardReading]:
    """Did the outcome arrive by the horizon equally often in both arms?

    `blocks` are all closed blocks so far of Y = 1 if the outcome of an exposure was there at its horizon, else 0, as
    `split_blocks` makes them: the same score process as for any metric, ramp-proof and clustered. The plan's harm side
    is used for "fewer", and once more on the mirrored blocks for "more": its minimum of rare events counts both arms
    together, so an arm that misses no label at all is compared too.
    """
    fewer, low = advance(state.fewer, blocks, plan)
    more, high = advance(state.more, [_mirrored(block) for block in blocks], plan)
    after, name = ArrivalState(fewer, more), "label arrival"
    if isinstance(low, NoAnswer) or isinstance(high, NoAnswer):
        waits = low if isinstance(low, NoAnswer) else high
        assert isinstance(waits, NoAnswer)
        stopped = fewer.stop or more.stop
        if stopped is not None and stopped.crossed == "worse":
            return after, GuardReading(name, "breached", "the arms' shares were shown to differ at an earlier look")
        return after, GuardReading(name, "open", f"no answer yet: {waits.reason}")
    lower, upper = None if high.upper is None else -high.upper, low.upper
    margin = plan.margin
    p = min(1.0, 2.0 * min(float(each.cells.harm.p[0]) for each in (fewer, more)))
    standing: Standing = "open"
    if "worse" in (low.crossed, high.crossed):
        standing = "breached"
    elif lower is not None and upper is not None and -margin < lower <= upper < margin:
        standing = "safe"
    said = {"breached": "is beyond", "safe": "lies within", "open": "is not shown to be within or beyond"}[standing]
    stop = next((look.stop for look in (low, high) if look.stop is not None and look.stop.crossed == "worse"), None)
    if stop is not None and stop.look < low.number:
        said = f"was, at look {stop.look}, shown to be beyond"
    assert low.mean_champion is not None
    assert low.mean_challenger is not None
    reason = (
        f"outcomes arrived for {low.mean_champion:.2%} of the champion's {low.n_champion} exposures and "
        f"{low.mean_challenger:.2%} of the challenger's {low.n_challenger}: the difference {low.effect:+.2%}"
        f"{_between(lower, upper)} {said} ±{margin:.2%}"
    )
    return after, GuardReading(name, standing, reason, low.effect, lower, upper, p)


def _between(lower: float | None, upper: float | None) -> str:
    low = "no limit" if lower is None else f"{lower:+.2%}"
    high = "no limit" if upper is None else f"{upper:+.2%}"
    return f" (from {low} to {high})"


def _mirrored(block: Block) -> Block:
    """The block of −Y: more of Y is less of it."""
    return replace(block, champion=_negated(block.champion), challenger=_negated(block.challenger), score=-block.score)


def _negated(arm: Arm) -> Arm:
    return Arm(arm.n, -arm.total, arm.squares)
