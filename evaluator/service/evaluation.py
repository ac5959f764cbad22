"""The evaluation of a rollout at one look: from its sums and the looks so far to a verdict with its cause. Pure.

A look is taken whenever a block has matured: closed, and older than the outcome horizon. Which looks are taken depends
on the log alone, so the same log gives the same evaluations however it was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluator.service import drift_context, guardrails, primary_metric
from evaluator.service.block_sums import BlockSums, LossSums, RolloutSums
from evaluator.service.design import EvaluationDesign, RolloutPlan
from evaluator.service.evaluation_state import EvaluationState
from evaluator.service.primary_metric import blocks_of, evidence_units
from evaluator.service.rollout_watches import RateAlarm
from evaluator.stats import AssignmentCounts, Look, NoAnswer, SampleRatio, Verdict, judge, sample_ratio
from evaluator.stats.guards import GuardReading
from evaluator.stats.harm_watches import GrossHarm
from gauntlet.events import ArmSummary, Drift, DriftCondition, Evaluation, GuardrailResult, SegmentResult
from gauntlet.types import CHALLENGER, CHAMPION, Result, Rule, Task, VerdictCause

_NUMBERS = [
    "effect",
    "lower",
    "upper",
    "z",
    "bound_win",
    "bound_harm",
    "p_value",
    "standard_error",
    "information_fraction",
    "widening",
    "skewness",
]
"""Fields of a look that an evaluation carries as they are."""


@dataclass(frozen=True)
class _Finding:
    """One cause with the guardrail or segment that it is about, and a sentence for people."""

    cause: VerdictCause
    subject: str
    reason: str


@dataclass(frozen=True)
class _Guards:
    """The guards' findings at one look."""

    ratio: SampleRatio | NoAnswer
    guardrails: list[guardrails.Reading]
    arrival: GuardrailResult
    arrival_differs: bool
    conflicts: SampleRatio | NoAnswer
    exposure: GuardReading
    traffic: GuardReading
    segments: list[SegmentResult]

    @property
    def holds(self) -> list[_Finding]:
        """What speaks against sending more traffic to the challenger."""
        found = [
            _Finding(
                VerdictCause.SEGMENT_HARM,
                f"{result.name}={result.value}",
                f"holds: {guardrails.segment_sentence(result)}",
            )
            for result in self.segments
            if result.harmed
        ]
        if not self.traffic.ok:
            found.append(_Finding(VerdictCause.NO_TRAFFIC, "", f"holds: no traffic: {self.traffic.reason}"))
        return found

    @property
    def invalid(self) -> list[_Finding]:
        """Why the arms can't be compared."""
        found = []
        if isinstance(self.ratio, SampleRatio) and self.ratio.mismatch:
            found.append(_Finding(VerdictCause.SAMPLE_RATIO, "", f"sample ratio mismatch: {self.ratio.reason}"))
        if not self.exposure.ok:
            found.append(_Finding(VerdictCause.MULTIPLE_EXPOSURE, "", f"multiple exposure: {self.exposure.reason}"))
        if self.arrival.standing == "breached":
            found.append(_Finding(VerdictCause.LABEL_ARRIVAL, "", f"label arrival mismatch: {self.arrival.reason}"))
        if isinstance(self.conflicts, SampleRatio) and self.conflicts.mismatch:
            reason = guardrails.label_conflict_sentence(self.conflicts)
            found.append(_Finding(VerdictCause.LABEL_CONFLICT, "", reason))
        return found

    def doubts(self, require_safe: bool) -> list[_Finding]:
        """Why a win on the primary metric is not taken yet."""
        found = []
        if self.arrival_differs:
            reason = f"better, but labels do not arrive alike: {self.arrival.reason}"
            found.append(_Finding(VerdictCause.UNSAFE_WIN, guardrails.LABEL_ARRIVAL, reason))
        for reading in guardrails.suspect(self.guardrails):
            reason = f"better, but a guardrail looks broken: {reading.result.reason}"
            found.append(_Finding(VerdictCause.UNSAFE_WIN, reading.result.name, reason))
        if require_safe and (waits := guardrails.not_shown_safe(self.guardrails)):
            reason = f"better, but not shown to be safe yet: {', '.join(waits)}"
            found.append(_Finding(VerdictCause.UNSAFE_WIN, waits[0], reason))
        return found


def evaluate(
    design: EvaluationDesign,
    name: str,
    sums: RolloutSums,
    state: EvaluationState,
    last: int,
    offsets: dict[str, int],
    task: Task,
    drift: Sequence[Drift] = (),
) -> Evaluation:
    """The look at all blocks up to and including harm block `last`; updates `state`.

    `offsets` are those whose records the sums hold: they make the evaluation repeatable. `drift`: events about the
    champion's drift, in order.
    """
    matured = {index: block for index, block in sorted(sums.blocks.items()) if index <= last}
    fine, plan = list(matured.values()), state.plan
    young = primary_metric.young_blocks(design, sums, last, state.young)
    state.young = list(young)
    state.primary, answer = primary_metric.look(design, plan, plan.primary, state.primary, matured, last, young)
    kept = None
    if plan.rule == Rule.REFRESH and isinstance(answer, Look):
        test = plan.not_worse(answer.mean_champion or 0.0)
        state.not_worse, kept = primary_metric.look(design, plan, test, state.not_worse, matured, last)
    guards = _guard(design, sums, state, fine, last)
    verdict = judge(answer, guardrails=guardrails.breached(guards.guardrails), equivalence=plan.margin or None)
    result, found, reasons = _verdict(answer, kept, verdict, guards, plan, len(sums.rivals))
    context = _drift_context(design, plan, matured, drift, design.look_time(last))
    return Evaluation(
        **_facts(design, plan, name, sums, design.look_time(last), offsets),
        **_traffic(plan, sums, last, task),
        result=result,
        cause=found.cause,
        subject=found.subject,
        reasons=[
            *reasons,
            *primary_metric.forecast(answer, plan),
            *([] if context is None else [drift_context.sentence(context, design.metric)]),
        ],
        srm_p_value=guards.ratio.p_value if isinstance(guards.ratio, SampleRatio) else None,
        label_conflict_p_value=guards.conflicts.p_value if isinstance(guards.conflicts, SampleRatio) else None,
        guardrails=[guards.arrival, *(reading.result for reading in guards.guardrails)],
        segments=guards.segments,
        holds=[hold.reason for hold in guards.holds],
        moved_units=sum(b.moved for b in _known(design, sums, last).values()),
        eta_horizon=None if result is Result.INVALID else verdict.eta_horizon,
        eta_decision=None if result is Result.INVALID else verdict.eta_decision,
        drift=context,
        id=f"{name}/{last}",
        **_numbers(answer, result, plan),
    )


def unplanned_evaluation(
    design: EvaluationDesign,
    plan: RolloutPlan,
    name: str,
    sums: RolloutSums,
    last: int,
    offsets: dict[str, int],
    task: Task,
) -> Evaluation:
    """What there is to say before the plan is made: no look, and what is waited for."""
    blocks = [block for index, block in sorted(sums.blocks.items()) if index <= last]
    waits = f"{len(blocks)} of at least {design.first_blocks(plan)} blocks are closed"
    return Evaluation(
        **_facts(design, plan, name, sums, design.look_time(last), offsets),
        **_traffic(plan, sums, last, task),
        id=f"{name}/{last}",
        result=Result.INCONCLUSIVE,
        reasons=[f"no answer yet: {waits}, whose traffic the evidence is planned with"],
    )


def alarm_evaluation(
    design: EvaluationDesign,
    name: str,
    sums: RolloutSums,
    alarm: GrossHarm | RateAlarm,
    at: float,
    offsets: dict[str, int],
) -> Evaluation:
    """The evaluation that a watch's alarm makes at once, between two looks."""
    facts: dict[str, Any] = {"reasons": [alarm.reason]}
    if isinstance(alarm, GrossHarm):
        effect = alarm.champion_loss - alarm.challenger_loss
        facts |= {"cause": VerdictCause.GROSS_HARM, "effect": effect, "pairs": alarm.pairs, "crossed": "worse"}
    else:
        guard = alarm.guard
        result = GuardrailResult(name=guard.name, standing="breached", margin=guard.margin, reason=alarm.reason)
        facts |= {"cause": VerdictCause.GUARDRAIL, "subject": guard.name, "guardrails": [result]}
    return Evaluation(
        **_facts(design, design.plan, name, sums, at, offsets),
        id=f"{name}/{facts.get('subject', 'gross-harm')}",
        result=Result.WORSE,
        **facts,
    )


def _facts(
    design: EvaluationDesign, plan: RolloutPlan, name: str, sums: RolloutSums, at: float, offsets: dict[str, int]
) -> dict[str, Any]:
    """What every evaluation of a rollout says."""
    return {
        "at": at,
        "experiment": design.experiment,
        "rollout": name,
        "champion": sums.champion,
        "challenger": sums.challenger,
        "form": plan.form,
        "metric": design.metric,
        "offsets": offsets,
    }


def _numbers(answer: Look | NoAnswer, result: Result, plan: RolloutPlan) -> dict[str, Any]:
    """The look's figures; none without an answer. A win that something speaks against has not `crossed`."""
    if isinstance(answer, NoAnswer):
        return {}
    numbers = {name: getattr(answer, name) for name in _NUMBERS}
    crossed = answer.crossed if answer.crossed == "worse" or result is Result.BETTER else None
    excluded = primary_metric.excludes_gross_harm(answer, plan)
    return {**numbers, "crossed": crossed, "blocks": answer.n_blocks, "gross_harm_excluded": excluded}


def _drift_context(
    design: EvaluationDesign, plan: RolloutPlan, matured: dict[int, BlockSums], drift: Sequence[Drift], at: float
) -> DriftCondition | None:
    """The drift that is open at the look, with the blocks that ended before it began and those that began since.

    It is context and no part of the verdict: which events were known at the look may depend on how rows and outcomes
    were read.
    """
    found = drift_context.open_episode(drift, at)
    if found is None:
        return None
    episode, since = found
    first = (since - design.offset) / design.harm_block
    # An outcome may be about a request as old as the horizon: the blocks between are on neither side.
    gap = design.horizon / design.harm_block
    used = {index: block for index, block in matured.items() if evidence_units(plan, block)}
    blocks = dict(zip(used, blocks_of(plan, list(used.values())), strict=True))
    before = [block for index, block in blocks.items() if index + 1 <= first - gap]
    return drift_context.condition(episode, since, before, [b for index, b in blocks.items() if index >= first])


def _known(design: EvaluationDesign, sums: RolloutSums, last: int) -> dict[int, BlockSums]:
    """Blocks that are closed at the look's own time: what needs no outcome is known of those of the horizon, too."""
    return {index: block for index, block in sorted(sums.blocks.items()) if index <= design.last_closed(last)}


def _guard(
    design: EvaluationDesign, sums: RolloutSums, state: EvaluationState, matured: list[BlockSums], last: int
) -> _Guards:
    """Take every guard's look; updates `state`. What needs no outcome is looked at up to the look's own time."""
    plan, known = state.plan, _known(design, sums, last)
    closed = list(known.values())
    assigned = _merged(block.assignments for block in closed)
    ratio = sample_ratio(assigned, smallest_p=state.sample_ratio_p)
    if isinstance(ratio, SampleRatio):
        state.sample_ratio_p = ratio.p_value
    readings: list[guardrails.Reading] = []
    for guard in plan.guards:
        state.guardrails[guard.name], reading = guardrails.read(
            guard, plan, state.guardrails.get(guard.name), matured, closed
        )
        readings.append(reading)
    state.label_arrival, arrival, differs = guardrails.label_arrival(plan, state.label_arrival, matured)
    conflicts = sample_ratio(_merged(_contradicted(sums, last)), smallest_p=state.label_conflict_p)
    if isinstance(conflicts, SampleRatio):
        state.label_conflict_p = conflicts.p_value
    state.segments, found = guardrails.read_segments(sums.tracked.segments, plan, state.segments, matured)
    units = sum(sum(pair) for pair in assigned.counts.values())
    exposure = guardrails.multiple_exposure(closed, units, state.multiple_exposure_p)
    if exposure.p_value is not None:
        state.multiple_exposure_p = exposure.p_value
    window = range(design.last_closed(last) - design.harm_blocks_per_block + 1, design.last_closed(last) + 1)
    traffic = guardrails.no_traffic([known[index] for index in window if index in known])
    return _Guards(ratio, readings, arrival, differs, conflicts, exposure, traffic, found)


def _verdict(
    answer: Look | NoAnswer,
    kept: Look | NoAnswer | None,
    verdict: Verdict,
    guards: _Guards,
    plan: RolloutPlan,
    rivals: int,
) -> tuple[Result, _Finding, list[str]]:
    """The verdict and its cause: the first of worse, invalid, equivalent, held, better and inconclusive.

    `verdict` is that of the primary metric and the guardrails, `kept` the look at whether a retrained challenger is not
    worse by more than the margin, which with a better mean is all that it has to show. `rivals`: how many others had to
    prove themselves beside it; a win must hold for all of them together (Bonferroni). Worse comes before invalid
    because taking a challenger out needs no valid comparison. A win that a guard speaks against is inconclusive. The
    cause's own sentence is the first of the reasons.
    """
    primary = Result(verdict.result)
    known, held = list(verdict.reasons), [found.reason for found in guards.holds]
    if primary is Result.WORSE:
        broken = guardrails.breached(guards.guardrails)
        cause, subject = (VerdictCause.GUARDRAIL, broken[0].name) if broken else (VerdictCause.HARM, "")
        return Result.WORSE, _Finding(cause, subject, known[0]), known
    if invalid := guards.invalid:
        return Result.INVALID, invalid[0], [found.reason for found in invalid] + known
    if primary is Result.EQUIVALENT:
        return Result.EQUIVALENT, _Finding(VerdictCause.EQUIVALENT, "", known[0]), known + held
    win = _win(answer, kept, primary)
    if win is VerdictCause.NOT_WORSE:
        assert isinstance(kept, Look)
        known.insert(0, primary_metric.not_worse(kept))
    level = plan.primary.win.alpha / (1 + rivals)
    if primary is Result.BETTER and isinstance(answer, Look) and answer.p_win > level:
        waits = (
            f"better by itself, p = {answer.p_win:.2g}; beside {rivals} others that had to prove themselves it takes "
            f"{level:.2g}"
        )
        return Result.INCONCLUSIVE, _Finding(VerdictCause.EVIDENCE_INCOMPLETE, "", waits), [waits, *known]
    if against := [*guards.holds, *(guards.doubts(plan.require_safe) if win is not None else [])]:
        return Result.INCONCLUSIVE, against[0], [found.reason for found in against] + known
    if win is not None:
        return Result.BETTER, _Finding(win, "", known[0]), known
    return Result.INCONCLUSIVE, _Finding(_inconclusive(answer, kept, plan), "", known[0]), known


def _win(answer: Look | NoAnswer, kept: Look | NoAnswer | None, primary: Result) -> VerdictCause | None:
    """What the challenger has won by, before any guard is asked; None where it has not."""
    ahead = isinstance(answer, Look) and answer.effect > 0
    if primary is Result.BETTER:
        return VerdictCause.WIN if ahead else VerdictCause.FADED_WIN
    not_worse = isinstance(kept, Look) and kept.crossed == "better"
    return VerdictCause.NOT_WORSE if not_worse and ahead else None


def _inconclusive(answer: Look | NoAnswer, kept: Look | NoAnswer | None, plan: RolloutPlan) -> VerdictCause:
    """Why the evidence decides nothing: it is incomplete, or complete and too weak, or it shows no winner."""
    last = answer if kept is None else kept
    if not (isinstance(last, Look) and last.final):
        return VerdictCause.EVIDENCE_INCOMPLETE
    underpowered = primary_metric.is_underpowered(last, plan) if kept is None else last.crossed != "better"
    return VerdictCause.UNDERPOWERED if underpowered else VerdictCause.NO_WINNER


def _merged(counts: Iterable[AssignmentCounts]) -> AssignmentCounts:
    total = AssignmentCounts()
    for each in counts:
        total = total.merge(each)
    return total


def _contradicted(sums: RolloutSums, last: int) -> list[AssignmentCounts]:
    """What the look at block `last` knows of contradicted labels."""
    return [counts for index, counts in sums.contradicted.items() if index <= last]


def _traffic(plan: RolloutPlan, sums: RolloutSums, last: int, task: Task) -> dict[str, Any]:
    """The arms' figures, and how many pairs there are, in the blocks up to `last`."""
    blocks = [block for index, block in sorted(sums.blocks.items()) if index <= last]
    contradicted = _merged(_contradicted(sums, last)).counts.values()
    arms: dict[str, ArmSummary] = {}
    for arm, model in ((CHAMPION, sums.champion), (CHALLENGER, sums.challenger)):
        total = LossSums()
        for block in blocks:
            total.merge(block.pairs[arm] if plan.paired else block.arms[arm])
        arms[arm] = ArmSummary(
            model=model,
            exposures=sum(b.exposures[arm] for b in blocks),
            outcomes=total.n,
            metrics=total.metrics(task),
            contradicted=sum(pair[arm == CHALLENGER] for pair in contradicted),
        )
    return {"arms": arms, "pairs": sum(b.paired.n for b in blocks)}
