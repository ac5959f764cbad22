"""Guards of the traffic: may this experiment's evidence be trusted at all?

Does each unit meet one arm only (multiple exposure), does each arm get the traffic that its propensity promised (no
traffic), and do outcomes arrive alike for both arms (label arrival)? Invariant: each test is always valid, so a guard
is breached although all is in order with probability at most its alpha, however often it is read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from evaluator.stats.always_valid import rate_p
from evaluator.stats.errors import NoAnswer, StatsError, require_between
from evaluator.stats.interim_analysis import Look, State, Stop, advance
from evaluator.stats.sample_ratio_mismatch import AssignmentCounts
from evaluator.stats.score_process import Arm, Block
from evaluator.stats.sequential_test import Plan

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
        return self.standing != "breached"


def multiple_exposure(
    multiple: int,
    units: int,
    *,
    allowed: float = 0.01,
    smallest_p: float = 1.0,
    alpha: float = 0.001,
    weight: float = 1.0,
    sample: str = "",
) -> GuardReading:
    """Do more than a share `allowed` of the units meet more than one arm?

    A unit that has met one arm so far may still meet another, which only adds evidence, so p is valid before the units'
    final state is known. For the same reason "safe" is said of the exposures so far. `smallest_p` is the p_value of the
    last reading. `weight`: this test's share of the level, where several are made; `sample` says what was sampled.
    """
    require_between("level", alpha, 0.0, 1.0, StatsError)
    name = "multiple exposure"
    if not units:
        return GuardReading(name, "open", "no unit has been exposed yet")
    p = min(smallest_p, 1.0, rate_p(multiple, units, allowed) / weight)
    standing: Standing = "open"
    relation = "not shown to be more or less than"
    if p <= alpha:
        standing, relation = "breached", "more than"
    elif rate_p(multiple, units, allowed, above=False) < alpha * weight:
        standing, relation = "safe", "not more than"
    reason = (
        f"{multiple} of {units} units{sample} met more than one arm; that is {relation} {allowed:.2%} of them "
        f"(p = {p:.2g})"
    )
    return GuardReading(name, standing, reason, multiple / units, p_value=p)


@dataclass(slots=True)
class Exposures:
    """Sketch of the arms that each unit met: exact up to `capacity` units, beyond it for a uniform sample of them.

    Distinct sampling (Gibbons 2001): units are kept whose hash starts with `level` zero bits, and the level rises by
    one when more than `capacity` are kept. A kept unit was never dropped before, so all of its arms are known. The
    sketch depends only on the set of (unit, arm) pairs and the capacity. The default takes about 15 MB.
    """

    capacity: int = 65_536
    level: int = 0
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    multiple: int = 0

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise StatsError(f"a capacity of {self.capacity!r} units holds nothing")

    @property
    def units(self) -> int:
        return len(self.arms)

    @property
    def distinct(self) -> int:
        """Distinct units met: exact at level 0, else an unbiased estimate."""
        return len(self.arms) << self.level

    def add_codes(
        self,
        units: NDArray[np.integer[Any]],
        unit_names: Sequence[str],
        arms: NDArray[np.integer[Any]],
        arm_names: Sequence[str],
    ) -> None:
        """Many exposures as codes into names, arrays of one shape (n,). A code below 0 is a null and is skipped."""
        if units.shape != arms.shape or units.ndim != 1:
            raise StatsError(f"units of shape {units.shape} do not fit arms of shape {arms.shape}")
        whole = (units >= 0) & (arms >= 0)
        width = len(arm_names)
        pairs = np.unique(units[whole].astype(np.int64) * width + arms[whole])
        if self.level:
            pairs = pairs[_sampled([unit_names[unit] for unit in (pairs // width).tolist()], self.level)]
        for pair in pairs.tolist():
            self._meet(unit_names[pair // width], arm_names[pair % width])
        while len(self.arms) > self.capacity:
            self.level += 1
            kept = _sampled(self.arms.keys(), self.level).tolist()
            self.arms = {unit: met for (unit, met), keep in zip(self.arms.items(), kept, strict=True) if keep}
            self.multiple = sum(len(met) > 1 for met in self.arms.values())

    def _meet(self, unit: str, arm: str) -> None:
        seen = self.arms.get(unit)
        if seen is None:
            self.arms[unit] = (arm,)
        elif arm not in seen:
            self.arms[unit] = tuple(sorted((*seen, arm)))
            self.multiple += len(seen) == 1

    def reading(self, *, allowed: float = 0.01, smallest_p: float = 1.0, alpha: float = 0.001) -> GuardReading:
        """`multiple_exposure` of the sketch. Each level is a test of its own on its sample: their weights, 0.9 and then
        0.1/(l(l+1)), add to 1."""
        weight = 0.9 if self.level == 0 else 0.1 / (self.level * (self.level + 1))
        sample = f" in a sample of about {self.distinct}" if self.level else ""
        return multiple_exposure(
            self.multiple, self.units, allowed=allowed, smallest_p=smallest_p, alpha=alpha, weight=weight, sample=sample
        )


def _sampled(units: Collection[str], level: int) -> NDArray[np.bool_]:
    """Which units are in the sample of a level ≥ 1, shape (n,). The hash (CRC-32, murmur3's finaliser) is its own, so
    that the sample is independent of any hash that assigns arms."""
    mark = np.fromiter((crc32(unit.encode("utf-8", "surrogatepass")) for unit in units), dtype=np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mark ^= mark >> np.uint32(shift)
        mark *= np.uint32(factor)
    mark ^= mark >> np.uint32(16)
    return np.asarray(mark >> np.uint32(32 - level) == 0)


def no_traffic(counts: AssignmentCounts, *, alpha: float = 0.001) -> GuardReading:
    """Has an arm got none of the units that the logged propensities promised it?

    The probability of that is exact: Π(1−π) over all units for the challenger, Ππ for the champion; p is twice the
    smaller. It is always valid, because the product only falls until "none so far" ends. Counts of a recent window ask
    whether traffic has stopped; each window is a test of its own.
    """
    require_between("level", alpha, 0.0, 1.0, StatsError)
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


def label_arrival(state: ArrivalState, blocks: Sequence[Block], plan: Plan) -> tuple[ArrivalState, GuardReading]:
    """Do outcomes arrive by the horizon equally often in both arms?

    `blocks` are all closed blocks so far of Y = 1 if the outcome of an exposure was there at its horizon, else 0, as
    `split_blocks` makes them. The plan's harm side tests "fewer", and once more on the mirrored blocks "more": its
    minimum of rare events counts both arms together, so an arm that misses no label at all is compared too.
    """
    fewer, low = advance(state.fewer, blocks, plan)
    more, high = advance(state.more, [_mirrored(block) for block in blocks], plan)
    after, name = ArrivalState(fewer, more), "label arrival"
    if isinstance(low, NoAnswer) or isinstance(high, NoAnswer):
        if _is_worse(fewer.stop) or _is_worse(more.stop):
            return after, GuardReading(name, "breached", "the arms' shares were shown to differ at an earlier look")
        waiting = low if isinstance(low, NoAnswer) else high
        assert isinstance(waiting, NoAnswer)
        return after, GuardReading(name, "open", f"no answer yet: {waiting.reason}")
    lower, upper = None if high.upper is None else -high.upper, low.upper
    p = min(1.0, 2.0 * min(low.p_harm, high.p_harm))
    standing: Standing = "open"
    if _is_worse(low.stop) or _is_worse(high.stop):
        standing = "breached"
    elif lower is not None and upper is not None and -plan.margin < lower <= upper < plan.margin:
        standing = "safe"
    reason = _arrival_reason(low, high, standing, (lower, upper), plan.margin)
    return after, GuardReading(name, standing, reason, low.effect, lower, upper, p)


def _is_worse(stop: Stop | None) -> bool:
    return stop is not None and stop.crossed == "worse"


def _arrival_reason(
    low: Look, high: Look, standing: Standing, limits: tuple[float | None, float | None], margin: float
) -> str:
    lower, upper = ("no limit" if limit is None else f"{limit:+.2%}" for limit in limits)
    relation = {"breached": "is beyond", "safe": "lies within", "open": "is not shown to be within or beyond"}[standing]
    stop = next((look.stop for look in (low, high) if look.stop is not None and _is_worse(look.stop)), None)
    if stop is not None and stop.look < low.number:
        relation = f"was, at look {stop.look}, shown to be beyond"
    return (
        f"outcomes arrived for {low.mean_champion or 0.0:.2%} of the champion's {low.n_champion} exposures and "
        f"{low.mean_challenger or 0.0:.2%} of the challenger's {low.n_challenger}: the difference {low.effect:+.2%}"
        f" (from {lower} to {upper}) {relation} ±{margin:.2%}"
    )


def _mirrored(block: Block) -> Block:
    """The block of −Y: more of Y is less of it."""
    champion, challenger = (Arm(arm.n, -arm.total, arm.squares) for arm in (block.champion, block.challenger))
    return replace(block, champion=champion, challenger=challenger, score=-block.score)
