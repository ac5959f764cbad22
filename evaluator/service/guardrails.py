"""What may stop a challenger besides the primary metric: guardrails, label arrival, and the traffic itself. Pure.

Each guard is the score process on sums of its own. Label arrival is judged by the arm that a request was assigned to,
also where pairs are compared: both arms share a request's label, but whether it comes can depend on who answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluator.service.block_sums import BlockSums, blocks_of
from evaluator.service.counters import class_end, indicator, quantile_class
from evaluator.service.design import Guard, RolloutPlan
from evaluator.stats import (
    AssignmentCounts,
    Block,
    Guardrail,
    Look,
    NoAnswer,
    Plan,
    SplitSums,
    State,
    advance,
    paired_blocks,
    split_blocks,
)
from evaluator.stats.always_valid import rate_limits
from evaluator.stats.guards import ArrivalState, GuardReading, label_arrival, multiple_exposure, no_traffic
from gauntlet.events import GuardrailResult

LABEL_ARRIVAL = "label_arrival"

_MOVED = 0.01  # share of units that may meet both arms under one allocation; the hash that assigns them moves none
_MOVED_ALPHA = 0.001  # as small as the sample ratio's, for the same reason: an invalid rollout is thrown away
_SILENT_ALPHA = 1e-6  # of one window; a rollout has thousands


@dataclass(frozen=True)
class Reading:
    """One guard at one look: what is told of it, and what the verdict needs."""

    result: GuardrailResult
    guardrail: Guardrail
    suspect: bool
    """The estimate lies beyond the margin, shown or not."""

    @property
    def standing(self) -> str:
        return self.result.standing


def plan(guard: Guard, terms: RolloutPlan) -> Plan:
    """The plan of a guard; its information is that of pairs where pairs are what it compares."""
    paired = terms.paired and guard.metric not in ("fallback_rate", "error_rate", "latency")
    return terms.guard_plan(guard.margin, guard.alpha, paired=paired)


def arrival_plan(terms: RolloutPlan) -> Plan:
    """The plan of label arrival, for each of two directions, which are both harm sides."""
    return replace(terms.guard_plan(terms.label_arrival_margin, terms.alpha / 2), min_blocks_win=10**9)


def read(
    guard: Guard, terms: RolloutPlan, state: State | None, matured: Sequence[BlockSums], closed: Sequence[BlockSums]
) -> tuple[State, Reading]:
    """A guard's look. `matured`: blocks whose outcomes are in; `closed`: those whose requests are, which is more."""
    blocks, threshold = _blocks(guard, terms, matured, closed)
    declared = plan(guard, terms)
    after, look = advance(state or State.start(declared), blocks, declared)
    guardrail = Guardrail(guard.name, look, guard.margin)
    if isinstance(look, NoAnswer):
        return after, _unanswered(guard, terms, look, guardrail, closed)
    standing, lower = guardrail.standing, look.lower
    failed, n = _failed(guard, terms, closed)
    if lower is None and n:
        # The champion hardly ever fails by its nature, and a test asks for failures of both arms before it says safe.
        lower = -rate_limits(failed, n, 2.0 * guard.alpha)[1]
        standing = "safe" if standing == "open" and lower > -guard.margin else standing
    said = {"safe": "shown to be within", "breached": "beyond", "open": "not shown to be within or beyond"}[standing]
    above = "" if threshold is None else f" above {threshold:.3g} s"
    reason = (
        f"{guard.name}: the challenger's difference{above} is {_number(look.effect)}, between {_number(lower)} "
        f"and {_number(look.upper)}; that is {said} the margin of {guard.margin:g}"
    )
    sign = -1.0 if guard.metric != "coverage" else 1.0  # sums are of what is better when larger
    told = GuardrailResult(
        name=guard.name,
        standing=standing,
        margin=guard.margin,
        reason=reason,
        effect=look.effect,
        lower=lower,
        upper=look.upper,
        champion=_signed(look.mean_champion, sign),
        challenger=_signed(look.mean_challenger, sign),
    )
    return after, Reading(told, guardrail, look.effect < -guard.margin)


def _unanswered(
    guard: Guard, terms: RolloutPlan, look: NoAnswer, guardrail: Guardrail, closed: Sequence[BlockSums]
) -> Reading:
    """A guard without a test's answer: rare failures are counted all the same, and bounded exactly: the challenger's
    own share of them is at least the difference of the arms', for the champion's is at least nothing. Any other guard
    without an answer holds a win: it was declared to be asked first."""
    standing, reason, suspect = "open", f"no answer yet: {look.reason}", True
    failed, n = _failed(guard, terms, closed)
    if n:
        upper = rate_limits(failed, n, 2.0 * guard.alpha)[1]
        standing = "safe" if upper < guard.margin else "open"
        suspect = failed > guard.margin * n
        reason = f"{guard.name}: {failed} of the challenger's {n} requests, which is less than {upper:.2g} of all"
    result = GuardrailResult(name=guard.name, standing=standing, margin=guard.margin, reason=reason)
    return Reading(result, guardrail, suspect)


def _number(value: float | None) -> str:
    return "no limit yet" if value is None else f"{value:+.4g}"


def _signed(value: float | None, sign: float) -> float | None:
    return None if value is None else sign * value + 0.0


def _blocks(
    guard: Guard, terms: RolloutPlan, matured: Sequence[BlockSums], closed: Sequence[BlockSums]
) -> tuple[list[Block], float | None]:
    """The guard's blocks in time order, and for a latency its threshold in seconds."""
    if guard.metric == "latency":
        return _latency(guard.quantile, closed)
    if guard.metric == "coverage" and terms.paired:
        return paired_blocks([pairs for b in closed if (pairs := b.shadows.sums()).n]), None
    if guard.metric in ("coverage", "fallback_rate", "error_rate"):
        return _indicators([(b.assignments, _failures(guard, b), -1.0) for b in closed if b.whole], 0.0), None
    found = [b.metrics[guard.name] for b in matured if guard.name in b.metrics]
    return blocks_of(found), None


def _failures(guard: Guard, block: BlockSums) -> AssignmentCounts:
    return block.errors if guard.metric == "error_rate" else block.fallbacks


def _indicators(
    parts: Sequence[tuple[AssignmentCounts, AssignmentCounts, float]], prior: float | None = None
) -> list[Block]:
    return split_blocks([indicator(*part) for part in parts if part[0].counts], prior)


def _latency(quantile: float, closed: Sequence[BlockSums]) -> tuple[list[Block], float | None]:
    """Y = −1 for a request slower than the champion's quantile in all EARLIER blocks (Y = 0 else): the arms are
    compared at the same threshold, so the test holds wherever that lies."""
    past: dict[int, int] = {}
    parts: list[SplitSums] = []
    threshold = None
    for block in closed:
        threshold = quantile_class(past, quantile)
        if threshold is not None:
            parts.append(block.latency.over(threshold))
        for index, n in block.latency.champion().items():
            past[index] = past.get(index, 0) + n
    used = [sums for sums in parts if sums.n_champion + sums.n_challenger]
    return split_blocks(used), None if threshold is None else class_end(threshold)


def _failed(guard: Guard, terms: RolloutPlan, closed: Sequence[BlockSums]) -> tuple[int, int]:
    """The challenger's failures and requests; (0, 0) for a guard of another kind."""
    if guard.metric == "coverage" and terms.paired:
        counts = [b.shadows for b in closed]
        return sum(c.champion for c in counts), sum(c.champion + c.both + c.challenger for c in counts)
    if guard.metric not in ("coverage", "fallback_rate", "error_rate"):
        return 0, 0
    whole = [b for b in closed if b.whole]
    return _count([_failures(guard, b) for b in whole], 1), _count([b.assignments for b in whole], 1)


def _count(counts: Sequence[AssignmentCounts], arm: int) -> int:
    return sum(pair[arm] for each in counts for pair in each.counts.values())


def arrival(
    terms: RolloutPlan, state: ArrivalState | None, matured: Sequence[BlockSums]
) -> tuple[ArrivalState, GuardrailResult, bool]:
    """Label arrival's look, and whether a difference between the arms is shown that is not shown to be harmless.

    Y = 1 if the outcome of an exposure came within its horizon. The level is that of a win, in either direction. With a
    share δ of the challenger's labels withheld a 0/1 metric moves by δ at most, its noise being √(p(1−p)/n) where that
    of the arrival is √(r(1−r)/n): where labels are rarer than errors are (r(1−r) > p(1−p)), a gap too small to be
    shown can still move the metric.
    """
    declared = arrival_plan(terms)
    blocks = _indicators([(b.assignments, b.arrived, 1.0) for b in matured if b.whole])
    after, reading = label_arrival(state or ArrivalState.start(declared), blocks, declared)
    standing, reason = reading.standing, reading.reason
    whole = [b for b in matured if b.whole]
    sizes = [_count([b.assignments for b in whole], arm) for arm in (0, 1)]
    arrived = [_count([b.arrived for b in whole], arm) for arm in (0, 1)]
    if standing == "open" and reading.value is None and all(sizes):  # hardly any is missing: then each arm is bounded
        most = max(rate_limits(n - got, n, terms.alpha)[1] for n, got in zip(sizes, arrived, strict=True))
        missing = sum(sizes) - sum(arrived)
        standing = "safe" if most < declared.margin else "open"
        reason = f"{missing} of {sum(sizes)} outcomes are missing, less than {most:.2g} of either arm's"
    result = GuardrailResult(
        name=LABEL_ARRIVAL,
        standing=standing,
        margin=declared.margin,
        reason=reason,
        effect=reading.value,
        lower=reading.lower,
        upper=reading.upper,
        champion=arrived[0] / sizes[0] if sizes[0] else None,
        challenger=arrived[1] / sizes[1] if sizes[1] else None,
    )
    return after, result, standing == "breached" or (standing == "open" and _excludes_nothing(reading))


def _excludes_nothing(reading: GuardReading) -> bool:
    """Whether "no difference" is ruled out."""
    below, above = reading.upper is not None and reading.upper < 0, reading.lower is not None and reading.lower > 0
    return below or above


def moved(closed: Sequence[BlockSums], units: int, smallest_p: float) -> tuple[int, float, str | None]:
    """Units that met both arms under one allocation, the p value of there being no more than a few, and why the
    comparison is invalid, or None."""
    n = sum(b.moved for b in closed)
    if not units:
        return n, smallest_p, None
    reading = multiple_exposure(min(n, units), units, allowed=_MOVED, smallest_p=smallest_p, alpha=_MOVED_ALPHA)
    p = smallest_p if reading.p_value is None else reading.p_value
    if reading.ok:
        return n, p, None
    return n, p, f"multiple exposure: {n} of {units} units met both arms under one allocation (p = {p:.2g})"


def silent(window: Sequence[BlockSums]) -> str | None:
    """Why the latest traffic says that an arm gets none any more, or None."""
    total = AssignmentCounts()
    for block in window:
        total = total.merge(block.assignments)
    reading = no_traffic(total, alpha=_SILENT_ALPHA)
    return None if reading.ok else f"no traffic: {reading.reason}"


def unsafe(readings: Sequence[Reading]) -> list[str]:
    """Guards that are not shown to hold."""
    return [reading.result.name for reading in readings if reading.standing != "safe"]


def suspect(readings: Sequence[Reading]) -> list[Reading]:
    """Guards that look broken without its being shown: reason enough to wait."""
    return [reading for reading in readings if reading.suspect and reading.standing == "open"]


def breached(readings: Sequence[Reading]) -> list[Guardrail]:
    """Guards that are shown to be broken, as the verdict takes them."""
    return [r.guardrail for r in readings if r.standing == "breached" and isinstance(r.guardrail.look, Look)]
