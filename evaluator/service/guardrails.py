"""Guardrails of a rollout, the guards of its traffic, and harm to segments, at one look. Pure.

Each guardrail is the sequential test on sums of its own. Label arrival is judged by the arm that a request was assigned
to, also where pairs are compared: both arms share a request's label, but whether it comes can depend on who answered.

Segments have a harm test of the primary metric for each value of each declared label. Invariant: with no harm anywhere,
any value of any label is called harmed with probability at most `harm_alpha`, at any look ever made: each has an
always-valid p value, and they are corrected together (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.service.block_sums import BlockSums, Sums, blocks_of
from evaluator.service.design import Guard, RolloutPlan
from evaluator.service.request_counts import capped, class_end, indicator, kept, quantile_class
from evaluator.stats import (
    AssignmentCounts,
    Block,
    Guardrail,
    Look,
    NoAnswer,
    SampleRatio,
    SplitSums,
    State,
    advance,
    guards,
    paired_blocks,
    split_blocks,
)
from evaluator.stats.always_valid import rate_limits
from evaluator.stats.guards import ArrivalState, GuardReading
from evaluator.stats.multiplicity import holm
from gauntlet.events import GuardrailResult, SegmentResult

LABEL_ARRIVAL = "label_arrival"

_NO_TRAFFIC_ALPHA = 1e-6  # of one window; a rollout has thousands

_COUNTED = ("coverage", "fallback_rate", "error_rate")  # guardrails on counts of failed requests


@dataclass(frozen=True)
class Reading:
    """One guardrail at one look: its result, and what the verdict needs of it."""

    result: GuardrailResult
    guardrail: Guardrail
    suspect: bool
    """The estimate lies beyond the margin, shown or not."""

    @property
    def standing(self) -> str:
        return self.result.standing


def read(
    guard: Guard, plan: RolloutPlan, state: State | None, matured: Sequence[BlockSums], closed: Sequence[BlockSums]
) -> tuple[State, Reading]:
    """A guardrail's look. `matured`: blocks whose outcomes are in; `closed`: those whose requests are, too."""
    blocks, threshold = _blocks(guard, plan, matured, closed)
    test = plan.guardrail(guard)
    after, look = advance(state or State.start(test), blocks, test)
    guardrail = Guardrail(guard.name, look, guard.margin)
    failed, n = _failed(guard, plan, closed)
    nothing_failed = n > 0 and not any(block.variance for block in blocks)
    if isinstance(look, NoAnswer) or nothing_failed:
        why = look.reason if isinstance(look, NoAnswer) else ""
        return after, _unanswered(guard, why, guardrail, failed, n)
    standing, lower = guardrail.standing, look.lower
    if lower is None and n:
        # The champion hardly ever fails by its nature, and a test asks for failures of both arms before it says safe.
        lower = -rate_limits(failed, n, 2.0 * guard.alpha)[1]
        standing = "safe" if standing == "open" and lower > -guard.margin else standing
    relation = {"safe": "shown to be within", "breached": "beyond", "open": "not shown to be within or beyond"}
    above = "" if threshold is None else f" above {threshold:.3g} s"
    reason = (
        f"{guard.name}: the challenger's difference{above} is {_number(look.effect)}, between {_number(lower)} "
        f"and {_number(look.upper)}; that is {relation[standing]} the margin of {guard.margin:g}"
    )
    sign = -1.0 if guard.metric != "coverage" else 1.0  # sums are of what is better when larger
    result = GuardrailResult(
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
    return after, Reading(result, guardrail, look.effect < -guard.margin)


def _unanswered(guard: Guard, why: str, guardrail: Guardrail, failed: int, n: int) -> Reading:
    """A guardrail whose test has no answer, or no failure to go by. Rare failures are counted all the same, and bounded
    exactly: the challenger's own share of them is at least the difference of the arms', for the champion's is at least
    nothing. Any other guardrail without an answer holds a win: it was declared to be asked first."""
    standing, reason, suspect = "open", f"no answer yet: {why}", True
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
    guard: Guard, plan: RolloutPlan, matured: Sequence[BlockSums], closed: Sequence[BlockSums]
) -> tuple[list[Block], float | None]:
    """The guardrail's blocks in time order, and for a latency its threshold in seconds."""
    if guard.metric == "latency":
        return _latency(guard.quantile, closed)
    if guard.metric == "coverage" and plan.paired:
        return paired_blocks([pairs for b in closed if (pairs := b.shadows.sums()).n]), None
    if guard.metric in _COUNTED:
        return _indicators([(b.assignments, _failures(guard, b), -1.0) for b in closed], 0.0), None
    return blocks_of([b.metrics[guard.name] for b in matured if guard.name in b.metrics]), None


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


def _failed(guard: Guard, plan: RolloutPlan, closed: Sequence[BlockSums]) -> tuple[int, int]:
    """The challenger's failures and requests; (0, 0) for a guardrail that is not on counts."""
    if guard.metric not in _COUNTED:
        return 0, 0
    if guard.metric == "coverage" and plan.paired:
        counts = [b.shadows for b in closed]
        return sum(c.champion for c in counts), sum(c.champion + c.both + c.challenger for c in counts)
    return _count([_failures(guard, b) for b in closed], 1), _count([b.assignments for b in closed], 1)


def _count(counts: Sequence[AssignmentCounts], arm: int) -> int:
    return sum(pair[arm] for block in counts for pair in block.counts.values())


def label_arrival(
    plan: RolloutPlan, state: ArrivalState | None, matured: Sequence[BlockSums]
) -> tuple[ArrivalState, GuardrailResult, bool]:
    """Label arrival's look, and whether a difference between the arms is shown that is not shown to be harmless.

    Y = 1 if the outcome of an exposure came within its horizon. The level is that of a win, in either direction. With a
    share δ of the challenger's labels withheld a 0/1 metric moves by δ at most, its noise being √(p(1−p)/n) where that
    of the arrival is √(r(1−r)/n): where labels are rarer than errors are (r(1−r) > p(1−p)), a gap too small to be
    shown can still move the metric.
    """
    test = plan.label_arrival
    blocks = _indicators([(b.assignments, b.arrived, 1.0) for b in matured])
    after, reading = guards.label_arrival(state or ArrivalState.start(test), blocks, test)
    standing, reason = reading.standing, reading.reason
    sizes = [_count([b.assignments for b in matured], arm) for arm in (0, 1)]
    arrived = [_count([b.arrived for b in matured], arm) for arm in (0, 1)]
    if standing == "open" and reading.value is None and all(sizes):  # hardly any is missing: then each arm is bounded
        most = max(rate_limits(n - got, n, plan.alpha)[1] for n, got in zip(sizes, arrived, strict=True))
        standing = "safe" if most < test.margin else "open"
        missing = sum(sizes) - sum(arrived)
        reason = f"{missing} of {sum(sizes)} outcomes are missing, less than {most:.2g} of either arm's"
    result = GuardrailResult(
        name=LABEL_ARRIVAL,
        standing=standing,
        margin=test.margin,
        reason=reason,
        effect=reading.value,
        lower=reading.lower,
        upper=reading.upper,
        champion=arrived[0] / sizes[0] if sizes[0] else None,
        challenger=arrived[1] / sizes[1] if sizes[1] else None,
    )
    return after, result, standing == "breached" or (standing == "open" and _is_different(reading))


def _is_different(reading: GuardReading) -> bool:
    """Whether "no difference" is ruled out."""
    below, above = reading.upper is not None and reading.upper < 0, reading.lower is not None and reading.lower > 0
    return below or above


def label_conflict_sentence(found: SampleRatio) -> str:
    """What the test of contradicted labels has found, in words.

    Under equal arms a contradicted request belongs to the challenger with the probability that it was assigned with,
    whatever makes labels change: the sample-ratio test of the contradicted requests.
    """
    return (
        f"label conflict mismatch: of {found.units} requests whose label a later outcome contradicts {found.observed} "
        f"are the challenger's; that does not fit the {found.expected:.1f} expected (p = {found.p_value:.2g})"
    )


def multiple_exposure(closed: Sequence[BlockSums], units: int, smallest_p: float) -> GuardReading:
    """Units that met both arms under one allocation: the hash that assigns them moves none."""
    moved = sum(block.moved for block in closed)
    return guards.multiple_exposure(min(moved, units), units, smallest_p=smallest_p)


def no_traffic(window: Sequence[BlockSums]) -> GuardReading:
    """Whether the latest traffic shows that an arm gets none any more."""
    total = AssignmentCounts()
    for block in window:
        total = total.merge(block.assignments)
    return guards.no_traffic(total, alpha=_NO_TRAFFIC_ALPHA)


def not_shown_safe(readings: Sequence[Reading]) -> list[str]:
    """Guardrails that are not shown to hold."""
    return [reading.result.name for reading in readings if reading.standing != "safe"]


def suspect(readings: Sequence[Reading]) -> list[Reading]:
    """Guardrails that look broken without its being shown: reason enough to wait."""
    return [reading for reading in readings if reading.suspect and reading.standing == "open"]


def breached(readings: Sequence[Reading]) -> list[Guardrail]:
    """Guardrails that are shown to be broken, as the verdict takes them."""
    return [r.guardrail for r in readings if r.standing == "breached" and isinstance(r.guardrail.look, Look)]


# Segments: a harm test of the primary metric for each value of each declared label ----------------------------------


def read_segments(
    names: Sequence[str], plan: RolloutPlan, states: Mapping[str, State], matured: Sequence[BlockSums]
) -> tuple[dict[str, State], list[SegmentResult]]:
    """The look at every value of the named labels; states are by label=value."""
    test = plan.segment
    after: dict[str, State] = {}
    cells: list[tuple[str, str, Look | NoAnswer]] = []
    for name in names:
        for value, sums in sorted(_by_value(name, matured).items()):
            key = f"{name}={value}"
            after[key], answer = advance(states.get(key) or State.start(test), blocks_of(sums), test)
            cells.append((name, value, answer))
    corrected = holm([answer.p_harm if isinstance(answer, Look) else None for _, _, answer in cells])
    return after, [
        _result(name, value, answer, p, plan.harm_alpha)
        for (name, value, answer), p in zip(cells, corrected, strict=True)
    ]


def _result(name: str, value: str, answer: Look | NoAnswer, p: float | None, alpha: float) -> SegmentResult:
    numbers: dict[str, Any] = {}
    if isinstance(answer, Look) and p is not None:
        numbers = {
            "effect": answer.effect,
            "lower": answer.lower,
            "upper": answer.upper,
            "p_value": p,
            "harmed": p <= alpha and answer.effect < 0,
        }
    return SegmentResult(name=name, value=value, champion=answer.n_champion, challenger=answer.n_challenger, **numbers)


def segment_sentence(result: SegmentResult) -> str:
    """The harm to one segment in words."""
    return (
        f"worse in segment {result.name}={result.value}: effect {result.effect:+.4g} over "
        f"{result.champion + result.challenger:,} outcomes (p = {result.p_value:.2g})"
    )


def _by_value(name: str, matured: Sequence[BlockSums]) -> dict[str, list[Sums]]:
    """Each value's sums in time order."""
    parts = [block.segments[name] for block in matured if name in block.segments]
    apart = kept(value for part in parts for value in part)
    found: dict[str, list[Sums]] = {}
    for part in parts:
        for value, sums in capped(part, apart).items():
            found.setdefault(value, []).append(sums)
    return found
