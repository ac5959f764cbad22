"""One look at one rollout: from its sums and the looks so far to an evaluation. Pure.

A look is taken whenever a block has matured: closed, and older than the outcome horizon. Which looks are taken depends
on the log alone, so the same log gives the same evaluations however it was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from evaluator.service import drift_context, guardrails, segments
from evaluator.service.block_sums import BlockSums, LossSums, RolloutSums
from evaluator.service.design import EvaluationDesign, RolloutPlan
from evaluator.stats import (
    AssignmentCounts,
    Block,
    Look,
    NoAnswer,
    PairedSums,
    SampleRatio,
    SplitSums,
    State,
    Verdict,
    advance,
    judge,
    paired_blocks,
    sample_ratio,
    split_blocks,
)
from evaluator.stats.guards import ArrivalState
from gauntlet.events import ArmSummary, Drift, DriftCondition, Evaluation, GuardrailResult, SegmentResult
from gauntlet.types import CHALLENGER, CHAMPION, Result, VerdictCause


@dataclass
class EvaluationState:
    """What a rollout's tests remember: their terms, the sequential states, the next block, the smallest p values."""

    terms: RolloutPlan
    state: State
    next_block: int | None = None
    smallest_p: float = 1.0
    moved_p: float = 1.0
    arrival: ArrivalState | None = None
    guards: dict[str, State] = field(default_factory=dict)
    segments: dict[str, State] = field(default_factory=dict)

    @classmethod
    def start(cls, terms: RolloutPlan) -> EvaluationState:
        return cls(terms, State.start(terms.plan))

    def to_dict(self) -> dict[str, Any]:
        return {
            "terms": msgspec.json.decode(msgspec.json.encode(self.terms)),  # lists, as they come back
            "state": self.state.to_dict(),
            "next_block": self.next_block,
            "smallest_p": self.smallest_p,
            "moved_p": self.moved_p,
            "arrival": self.arrival.to_dict() if self.arrival else None,
            "guards": {name: state.to_dict() for name, state in self.guards.items()},
            "segments": {name: state.to_dict() for name, state in self.segments.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EvaluationState:
        terms = msgspec.convert(data["terms"], RolloutPlan)
        plans = {guard.name: guardrails.plan(guard, terms) for guard in terms.guards}
        arrival, segment = guardrails.arrival_plan(terms), segments.plan(terms)
        return cls(
            terms,
            State.from_dict(terms.plan, data["state"]),
            data["next_block"],
            data["smallest_p"],
            data["moved_p"],
            ArrivalState.from_dict(arrival, data["arrival"]) if data["arrival"] else None,
            {name: State.from_dict(plans[name], state) for name, state in data["guards"].items()},
            {name: State.from_dict(segment, state) for name, state in data["segments"].items()},
        )


@dataclass(frozen=True)
class _Guards:
    """The guards' findings at one look."""

    readings: list[guardrails.Reading]
    arrival: GuardrailResult
    arrival_differs: bool
    segments: list[SegmentResult]
    moved_units: int
    moved: str | None
    silent: str | None

    @property
    def holds(self) -> list[_Finding]:
        """What speaks against sending more traffic to the challenger."""
        found = [
            _Finding(VerdictCause.SEGMENT_HARM, f"{result.name}={result.value}", f"holds: {segments.sentence(result)}")
            for result in self.segments
            if result.harmed
        ]
        if self.silent is not None:
            found.append(_Finding(VerdictCause.NO_TRAFFIC, "", f"holds: {self.silent}"))
        return found

    def invalid(self, ratio: SampleRatio | NoAnswer) -> list[_Finding]:
        """Why the arms can't be compared."""
        found = []
        if isinstance(ratio, SampleRatio) and ratio.mismatch:
            found.append(_Finding(VerdictCause.SAMPLE_RATIO, "", f"sample ratio mismatch: {ratio.reason}"))
        if self.moved is not None:
            found.append(_Finding(VerdictCause.MULTIPLE_EXPOSURE, "", self.moved))
        if self.arrival.standing == "breached":
            found.append(_Finding(VerdictCause.LABEL_ARRIVAL, "", f"label arrival mismatch: {self.arrival.reason}"))
        return found

    def doubts(self, require_safe: bool) -> list[_Finding]:
        """Why a win on the primary metric is not taken yet."""
        found = []
        if self.arrival_differs:
            reason = f"better, but labels do not arrive alike: {self.arrival.reason}"
            found.append(_Finding(VerdictCause.UNSAFE_WIN, guardrails.LABEL_ARRIVAL, reason))
        for reading in guardrails.suspect(self.readings):
            reason = f"better, but a guardrail looks broken: {reading.result.reason}"
            found.append(_Finding(VerdictCause.UNSAFE_WIN, reading.result.name, reason))
        if require_safe and (waits := guardrails.unsafe(self.readings)):
            reason = f"better, but not shown to be safe yet: {', '.join(waits)}"
            found.append(_Finding(VerdictCause.UNSAFE_WIN, waits[0], reason))
        return found


@dataclass(frozen=True)
class _Finding:
    """One cause with the guardrail or segment that it is about, and a sentence for people."""

    cause: VerdictCause
    subject: str
    reason: str


def evaluate(
    design: EvaluationDesign,
    name: str,
    sums: RolloutSums,
    looks: EvaluationState,
    last: int,
    offsets: dict[str, int],
    task: Any,
    drift: Sequence[Drift] = (),
) -> Evaluation:
    """Look at all blocks up to and including harm block `last`; updates `looks`.

    `offsets` are those whose records the sums hold: they make the evaluation repeatable. `drift`: what was said about
    the champion's drift, in order.
    """
    at = (last + 1) * design.harm_block + design.offset + design.horizon
    closed = sorted(index for index in sums.blocks if index <= last)
    fine = [sums.blocks[index] for index in closed]
    coarse = _coarse(sums, closed, design.ratio, last)
    looks.state, answer = advance(
        looks.state,
        _blocks(looks.terms, coarse),
        looks.terms.plan,
        _blocks(looks.terms, fine) if design.ratio > 1 else None,
    )
    known = {index: block for index, block in sorted(sums.blocks.items()) if index <= design.known(last)}
    assigned = _assignments(known.values())
    ratio = sample_ratio(assigned, smallest_p=looks.smallest_p)
    if isinstance(ratio, SampleRatio):
        looks.smallest_p = ratio.p_value
    guards = _guard(design, sums, looks, fine, known, assigned, last)
    verdict = judge(answer, guardrails=guardrails.breached(guards.readings), equivalence=looks.terms.margin or None)
    result, found, reasons = _verdict(answer, verdict, guards, ratio, looks.terms)
    numbers: dict[str, Any] = {}
    if isinstance(answer, Look):
        # A win that something speaks against is told in the reasons; whoever acts on `crossed` must not promote it.
        crossed = answer.crossed if answer.crossed == "worse" or result is Result.BETTER else None
        numbers = {
            "crossed": crossed,
            "effect": answer.effect,
            "lower": answer.lower,
            "upper": answer.upper,
            "z": answer.z,
            "bound_win": answer.bound_win,
            "bound_harm": answer.bound_harm,
            "p_value": answer.p_value,
            "information_fraction": answer.information_fraction,
            "blocks": answer.n_blocks,
            "widening": answer.widening,
            "skewness": answer.skewness,
        }
    drifted = _condition(design, looks.terms, sums, closed, drift, at)
    return Evaluation(
        id=f"{name}/{last}",
        at=at,
        experiment=design.experiment,
        rollout=name,
        champion=sums.champion,
        challenger=sums.challenger,
        form=looks.terms.form,
        metric=design.metric,
        result=result,
        cause=found.cause,
        subject=found.subject,
        reasons=reasons if drifted is None else [*reasons, drift_context.sentence(drifted, design.metric)],
        pairs=sum(b.paired.n for b in fine),
        srm_p_value=ratio.p_value if isinstance(ratio, SampleRatio) else None,
        arms=_arms(looks.terms, sums, fine, task),
        offsets=offsets,
        guardrails=[guards.arrival, *(reading.result for reading in guards.readings)],
        segments=guards.segments,
        holds=[hold.reason for hold in guards.holds],
        moved_units=guards.moved_units,
        eta_horizon=None if result is Result.INVALID else verdict.eta_horizon,
        eta_decision=None if result is Result.INVALID else verdict.eta_decision,
        drift=drifted,
        **numbers,
    )


def _condition(
    design: EvaluationDesign,
    terms: RolloutPlan,
    sums: RolloutSums,
    closed: list[int],
    drift: Sequence[Drift],
    at: float,
) -> DriftCondition | None:
    """The drift that is open at the look, with the blocks that ended before it began and those that began since.

    It is context: what had been said when the look was taken may hang on how rows and outcomes were read.
    """
    found = drift_context.open_episode(drift, at)
    if found is None:
        return None
    episode, since = found
    first = (since - design.offset) / design.harm_block
    whole = _blocks(terms, [sums.blocks[index] for index in closed])
    used = [i for i in closed if _evidence(terms, sums.blocks[i])]
    # What an outcome told may be about a request as old as the horizon: the blocks between are on neither side.
    gap = design.horizon / design.harm_block
    before = [block for i, block in zip(used, whole, strict=True) if i + 1 <= first - gap]
    return drift_context.condition(
        episode, since, before, [block for i, block in zip(used, whole, strict=True) if i >= first]
    )


def _guard(
    design: EvaluationDesign,
    sums: RolloutSums,
    looks: EvaluationState,
    matured: list[BlockSums],
    known: dict[int, BlockSums],
    assigned: AssignmentCounts,
    last: int,
) -> _Guards:
    """Take every guard's look; updates `looks`. What needs no outcome is looked at up to the look's own time."""
    terms, closed = looks.terms, list(known.values())
    readings: list[guardrails.Reading] = []
    for guard in terms.guards:
        state, reading = guardrails.read(guard, terms, looks.guards.get(guard.name), matured, closed)
        looks.guards[guard.name] = state
        readings.append(reading)
    looks.arrival, arrival, differs = guardrails.arrival(terms, looks.arrival, matured)
    looks.segments, found = segments.read(sums.watched.segments, terms, looks.segments, matured)
    units = sum(sum(pair) for pair in assigned.counts.values())
    moved_units, looks.moved_p, moved = guardrails.moved(closed, units, looks.moved_p)
    window = range(design.known(last) - design.ratio + 1, design.known(last) + 1)
    silent = guardrails.silent([known[index] for index in window if index in known])
    return _Guards(readings, arrival, differs, found, moved_units, moved, silent)


def _verdict(
    answer: Look | NoAnswer, verdict: Verdict, guards: _Guards, ratio: SampleRatio | NoAnswer, terms: RolloutPlan
) -> tuple[Result, _Finding, list[str]]:
    """The verdict and its cause: the first of worse, invalid, equivalent, held, better and inconclusive.

    `verdict` is that of the primary metric and the guardrails. Worse comes before invalid because taking a challenger
    out needs no valid comparison. A win that a guard speaks against is inconclusive. The cause's own sentence is the
    first of the reasons.
    """
    primary = Result(verdict.result)
    known, held = list(verdict.reasons), [found.reason for found in guards.holds]
    if primary is Result.WORSE:
        broken = [guard.name for guard in guardrails.breached(guards.readings)]
        cause = (
            _Finding(VerdictCause.GUARDRAIL, broken[0], known[0])
            if broken
            else _Finding(VerdictCause.HARM, "", known[0])
        )
        return Result.WORSE, cause, known
    if invalid := guards.invalid(ratio):
        return Result.INVALID, invalid[0], [found.reason for found in invalid] + known
    if primary is Result.EQUIVALENT:
        return Result.EQUIVALENT, _Finding(VerdictCause.EQUIVALENT, "", known[0]), known + held
    won = primary is Result.BETTER
    if against := [*guards.holds, *(guards.doubts(terms.require_safe) if won else [])]:
        return Result.INCONCLUSIVE, against[0], [found.reason for found in against] + known
    if won:
        ahead = isinstance(answer, Look) and answer.effect > 0
        return Result.BETTER, _Finding(VerdictCause.WIN if ahead else VerdictCause.FADED_WIN, "", known[0]), known
    complete = isinstance(answer, Look) and answer.information_fraction >= 1.0
    cause = _Finding(VerdictCause.NO_WINNER if complete else VerdictCause.EVIDENCE_INCOMPLETE, "", known[0])
    return Result.INCONCLUSIVE, cause, known


def _assignments(closed: Iterable[BlockSums]) -> AssignmentCounts:
    """Who had been assigned by the look's own time: they need no outcome, so those of the horizon are in too."""
    total = AssignmentCounts()
    for block in closed:
        for share, (champion, challenger) in block.assignments.counts.items():
            total.add(False, share, champion)
            total.add(True, share, challenger)
    return total


def _coarse(sums: RolloutSums, closed: list[int], ratio: int, last: int) -> list[tuple[SplitSums, PairedSums]]:
    """The blocks that a win is judged on, merged from the fine ones; one that is not closed yet is left out."""
    merged: dict[int, tuple[SplitSums, PairedSums]] = {}
    for index in closed:
        big = index // ratio
        if (big + 1) * ratio - 1 > last:
            continue
        split, paired = merged.get(big, (SplitSums(), PairedSums()))
        block = sums.blocks[index]
        merged[big] = (split.merge(block.split), paired.merge(block.paired))
    return [merged[big] for big in sorted(merged)]


def _blocks(terms: RolloutPlan, sums: list[tuple[SplitSums, PairedSums]] | list[BlockSums]) -> list[Block]:
    """Blocks with anything in them, in time order: an hour without traffic is no evidence of anything."""
    parts = [(s.split, s.paired) if isinstance(s, BlockSums) else s for s in sums]
    if terms.paired:
        return paired_blocks([paired for _, paired in parts if paired.n])
    return split_blocks([split for split, _ in parts if split.n_champion + split.n_challenger])


def _evidence(terms: RolloutPlan, block: BlockSums) -> int:
    """Pairs, or units of the split, in a block."""
    return block.paired.n if terms.paired else block.split.n_champion + block.split.n_challenger


def _arms(terms: RolloutPlan, sums: RolloutSums, blocks: list[BlockSums], task: Any) -> dict[str, ArmSummary]:
    arms: dict[str, ArmSummary] = {}
    for arm, model in ((CHAMPION, sums.champion), (CHALLENGER, sums.challenger)):
        total = LossSums()
        for block in blocks:
            total.merge(block.pairs[arm] if terms.paired else block.arms[arm])
        arms[arm] = ArmSummary(
            model=model,
            exposures=sum(b.exposures[arm] for b in blocks),
            outcomes=sum(b.arms[arm].n for b in blocks) if not terms.paired else total.n,
            metrics=total.metrics(task),
        )
    return arms
