"""The state of one rollout's tests between two looks. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from evaluator.service import primary_metric
from evaluator.service.block_sums import Models, RolloutSums
from evaluator.service.design import EvaluationDesign, RolloutPlan
from evaluator.stats import State
from evaluator.stats.guards import ArrivalState


@dataclass
class EvaluationState:
    """State of one rollout's tests between two looks: their plan, the sequential states, the next block, the smallest p
    values so far of the sample ratio, of multiple exposure, and of contradicted labels, and the blocks that the last
    look used before they had matured."""

    plan: RolloutPlan
    primary: State
    not_worse: State
    next_block: int | None = None
    sample_ratio_p: float = 1.0
    multiple_exposure_p: float = 1.0
    label_arrival: ArrivalState | None = None
    guardrails: dict[str, State] = field(default_factory=dict)
    segments: dict[str, State] = field(default_factory=dict)
    label_conflict_p: float = 1.0
    young: list[int] = field(default_factory=list)

    @classmethod
    def start(cls, plan: RolloutPlan) -> EvaluationState:
        return cls(plan, State.start(plan.primary), State.start(plan.not_worse(0.0)))

    def planned(
        self, design: EvaluationDesign, sums: RolloutSums, last: int, models: Models = MappingProxyType({})
    ) -> bool:
        """Whether looks may be taken: the plan is made with the traffic of the first blocks; no look precedes it.
        models: the losses of what each version answered, by block."""
        if self.plan.planned_samples is None:
            blocks = design.first_blocks(self.plan)
            samples = primary_metric.first_samples(self.plan, sums, blocks, last)
            if samples is None:
                return False
            self.plan = self.plan.with_traffic(samples, blocks * design.harm_block, design.block)
            if self.plan.scaled and self.plan.paired:
                known = primary_metric.intraclass_of_days(design, sums, last, models)
                self.plan = msgspec.structs.replace(self.plan, intraclass=known)
            self.primary = State.start(self.plan.primary)
            self.not_worse = State.start(self.plan.not_worse(0.0))
        return True

    def to_dict(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_dict(),
            "primary": self.primary.to_dict(),
            "not_worse": self.not_worse.to_dict(),
            "next_block": self.next_block,
            "sample_ratio_p": self.sample_ratio_p,
            "multiple_exposure_p": self.multiple_exposure_p,
            "label_arrival": self.label_arrival.to_dict() if self.label_arrival else None,
            "guardrails": {name: state.to_dict() for name, state in self.guardrails.items()},
            "segments": {name: state.to_dict() for name, state in self.segments.items()},
            "label_conflict_p": self.label_conflict_p,
            "young": self.young,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EvaluationState:
        plan = RolloutPlan.from_dict(data["plan"])
        tests = {guard.name: plan.guardrail(guard) for guard in plan.guards}
        arrival = data["label_arrival"]
        return cls(
            plan,
            State.from_dict(plan.primary, data["primary"]),
            State.from_dict(plan.not_worse(0.0), data["not_worse"]),
            data["next_block"],
            data["sample_ratio_p"],
            data["multiple_exposure_p"],
            ArrivalState.from_dict(plan.label_arrival, arrival) if arrival else None,
            {name: State.from_dict(tests[name], state) for name, state in data["guardrails"].items()},
            {name: State.from_dict(plan.segment, state) for name, state in data["segments"].items()},
            data["label_conflict_p"],
            data["young"],
        )
