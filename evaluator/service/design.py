"""Design of an experiment's evaluation: blocks, horizon, and the declared parameters of each rollout's tests. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import msgspec

from evaluator.service.block_sums import TrackedMetrics
from evaluator.stats import Plan, Side, Spending, horizon_information
from evaluator.stats.alpha_budget import AlphaBudget
from evaluator.stats.alpha_spending import POCOCK
from evaluator.stats.cluster_robust import LEAST_INTRACLASS
from evaluator.stats.sequential_test import HARM_RESERVE, HARM_SIDE, holdout_plan
from gauntlet.config import RATES, Config
from gauntlet.config.evidence import MIN_CYCLES, ROOM
from gauntlet.types import Label, Rule

_BY_ASSIGNMENT = ("fallback_rate", "error_rate", "latency")  # guardrails that compare the arms' own traffic
_NEVER = 10**9  # blocks before a side is tested that isn't wanted
_SEGMENT_SHARE = 0.25  # of all traffic, for which a segment's test is made tightest; it is valid for any

_HELD_OUT = 0.01  # share for which a reverse holdout's limits are tightest where the setting is off again

_BUDGET_RATIO = 0.75  # of the level budget that is left, each successor gets a quarter

WATCH_SHARE = 0.1
"""Share of the level of a guardrail on rates, and of label arrival, that its watch between looks spends."""

WIN_SPENDING = ((0.38, 0.15), (0.62, 0.6), (1.0, 1.0))
"""At several scales: share of a win's level that is spent by each share of the planned evidence. Little in the first
week, as the ramp's minimum times let no win promote sooner, and most in the second."""

HARM_SPENDING = Spending(parameter=0.3, reserve=HARM_RESERVE)
"""At several scales: harm's level is spent by 0.3 √t + 0.7 t³, more of it in the first days than elsewhere. A false
rollback out of shadow costs a retry, a late one costs users."""

KNOWN_CYCLES = 7
"""Days of the champion's own losses that tell how much days differ before a challenger's can."""

MIDDLE_PARTS = 4
"""Blocks of the middle scale in one cycle."""

EARLY_PART = 8
"""Labels that come within this part of the horizon are early: pairs with one speak for harm before they mature."""


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """One guardrail as it was declared; `margin` in units of `metric`."""

    name: str
    metric: str
    margin: float
    alpha: float
    quantile: float = 0.99


class RolloutPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Declared parameters of one rollout's tests. They stay with it: a changed configuration starts with the next."""

    form: str
    alpha: float
    harm_alpha: float
    min_samples: int
    min_blocks: int
    min_harm_blocks: int
    margin: float
    share: float
    fraction: float = 1.0
    guards: tuple[Guard, ...] = ()
    label_arrival_margin: float = 0.01
    require_safe: bool = False
    gross_margin: float = 0.2
    min_effect: float = 0.05
    scaled: bool = False
    spending: tuple[tuple[float, float], ...] = ()
    refresh_margin: float = 0.05
    refresh_alpha: float = 0.05
    refresh_duration: float = 0.0
    rule: str = Rule.PROVE
    duration: float = 0.0
    max_duration: float = 0.0
    planned_samples: int | None = None
    rate: float = 0.0
    intraclass: float = LEAST_INTRACLASS
    holdout: float = 0.0

    def with_traffic(self, samples: float, seconds: float, block: float) -> RolloutPlan:
        """The plan once the traffic is known, as `samples` of the challenger (paired: pairs) in so many seconds.

        At several scales, the planned evidence is what comes within `duration`, or `min_samples` if that is
        more, but no more than what comes within `max_duration`. With explicit blocks it is at least what comes
        within `ROOM` times `min_blocks`: a win needs so many blocks, and must not be ruled out by more
        traffic. How much traffic there is says nothing of the effect, so the level holds.
        """
        rate = samples / seconds
        if self.rule == Rule.REFRESH:
            planned = rate * self.refresh_duration
        elif self.scaled:
            planned = min(max(self.min_samples, rate * self.duration), rate * self.max_duration)
        else:
            planned = max(self.min_samples, rate * block * self.min_blocks * ROOM)
        return msgspec.structs.replace(self, planned_samples=max(1, round(planned)), rate=rate)

    @property
    def samples(self) -> int:
        """Outcomes of the challenger (paired: pairs) at which the planned evidence is complete."""
        return self.planned_samples or self.min_samples

    @property
    def paired(self) -> bool:
        return self.form == "paired"

    @property
    def primary(self) -> Plan:
        """The test of the primary metric."""
        return Plan(
            horizon=horizon_information(self.samples, None if self.paired else self.share),
            win=Side(alpha=self.alpha / 2, spending=self._spending),
            harm=replace(HARM_SIDE, alpha=self.harm_alpha, spending=self._harm_spending),
            min_blocks_win=MIN_CYCLES if self.scaled else self.min_blocks,
            min_blocks_harm=self.min_harm_blocks,
            harm_waits=self.rule == Rule.REFRESH and self.paired,
            intraclass=self.intraclass,
        )

    @property
    def _spending(self) -> Spending:
        return Spending(kind="table", points=self.spending) if self.spending else Spending()

    @property
    def _harm_spending(self) -> Spending:
        return HARM_SPENDING if self.scaled else HARM_SIDE.spending

    def not_worse(self, loss: float) -> Plan:
        """The test of the rule `refresh`, with the champion's mean loss: is harm of the margin excluded?"""
        return replace(
            self.primary,
            win=Side(alpha=self.refresh_alpha, spending=POCOCK),
            margin=self.refresh_margin * abs(loss),
            min_blocks_win=MIN_CYCLES if self.scaled else self.min_harm_blocks,
        )

    def guardrail(self, guard: Guard) -> Plan:
        """The test of a guardrail; its information is that of pairs where pairs are what it compares."""
        watched = guard.metric in RATES
        paired = self.paired and guard.metric not in _BY_ASSIGNMENT
        return self._guard(guard.margin, guard.alpha, paired=paired, watched=watched)

    @property
    def label_arrival(self) -> Plan:
        """The test of label arrival in each of two directions, both harm sides."""
        plan = self._guard(self.label_arrival_margin, self.alpha / 2, watched=True)
        return replace(plan, min_blocks_win=_NEVER)

    @property
    def reverse_holdout(self) -> Plan:
        """The comparison of a promotion's units with those held out from it, at any time, each side at `harm_alpha`."""
        share = 1.0 - (self.holdout or _HELD_OUT)
        return holdout_plan(horizon_information(self.min_samples, share), alpha=2.0 * self.harm_alpha)

    @property
    def segment(self) -> Plan:
        """The test of a segment: harm only, with no horizon, for nobody plans how large a segment will be."""
        plan = self.primary
        return replace(plan, horizon=plan.horizon * _SEGMENT_SHARE, mode="anytime", min_blocks_win=_NEVER)

    def worth(self, alpha: float) -> Plan:
        """The comparison of a new champion with the one before it, at any time; `alpha`: the level of each side. Harm
        waits until it is known how much days differ: a bad first one alone must not take a promotion back."""
        side = replace(HARM_SIDE, alpha=alpha)
        plan = replace(self.primary, win=side, harm=side, mode="anytime", harm_waits=True)
        return replace(plan, min_blocks_win=0, min_blocks_harm=0)

    def to_dict(self) -> dict[str, Any]:
        """A snapshot as JSON gives it back, with lists in the place of tuples."""
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return msgspec.convert(data, cls)

    def _guard(self, margin: float, alpha: float, *, paired: bool = False, watched: bool = False) -> Plan:
        """`alpha` for a breach (less what a watch spends) and as much for being shown to be safe, both also after the
        horizon, for as long as the rollout goes on."""
        side = replace(HARM_SIDE, alpha=alpha)
        return Plan(
            horizon=self.primary.horizon if paired else self._split_horizon,
            win=side,
            harm=replace(side, alpha=(1.0 - WATCH_SHARE) * alpha) if watched else side,
            margin=margin,
            min_blocks_win=self.min_harm_blocks,
            min_blocks_harm=self.min_harm_blocks,
        )

    @property
    def _split_horizon(self) -> float:
        """Information that the arms' own traffic has collected when the planned evidence is complete: in the paired
        form while so many requests were scored by both, at the ramp's last share."""
        if self.paired:
            return self.samples / self.fraction * self.share * (1.0 - self.share)
        return horizon_information(self.samples, self.share)


@dataclass(frozen=True)
class EvaluationDesign:
    """How the experiment is evaluated, made once from the configuration. Times are in seconds.

    block: length of the (large) blocks that a win is judged by. harm_block: of the finest ones, in which all sums are
    kept; the methods take and give their indexes.
    early: age of a request up to which its label is early; 0 where harm waits for the horizon: with explicit blocks, in
    split form, where early labels may be those of one arm's kind, and where labels may yet be corrected.
    """

    plan: RolloutPlan
    metric: str
    experiment: str
    block: float
    harm_block: float
    offset: float
    horizon: float
    early: float = 0.0
    budget: AlphaBudget | None = None

    @property
    def harm_blocks_per_block(self) -> int:
        """How many harm blocks (the finest ones) make one block."""
        return round(self.block / self.harm_block)

    def first_open(self, watermark: float) -> int:
        """The first harm block that has not matured at event time `watermark`: more outcomes may come for it."""
        return int((watermark - self.horizon - self.offset) // self.harm_block)

    @property
    def early_blocks(self) -> int:
        """How many harm blocks after a look's last one are closed and have all their early labels, though they have not
        matured."""
        return int((self.horizon - self.early) // self.harm_block) if self.early else 0

    def look_time(self, last: int) -> float:
        """Event time of the look up to harm block `last`: when that has matured."""
        return (last + 1) * self.harm_block + self.offset + self.horizon

    def looked_block(self, at: float) -> int:
        """The last harm block of the look at that time: the inverse of `look_time`."""
        return round((at - self.horizon - self.offset) / self.harm_block) - 1

    def first_blocks(self, plan: RolloutPlan) -> int:
        """Blocks whose traffic the evidence is planned with: at several scales those of a cycle, else as many as the
        first answer needs."""
        return self.harm_blocks_per_block if plan.scaled else plan.min_harm_blocks

    def last_closed(self, last: int) -> int:
        """The last harm block that is closed when block `last` has matured: what needs no outcome is known of it."""
        return last + int(self.horizon // self.harm_block)


def evaluation_design(config: Config) -> EvaluationDesign:
    """The design of a configuration's experiment."""
    evidence = config.evidence
    shared = {name: getattr(evidence, name) for name in RolloutPlan.__struct_fields__ if hasattr(evidence, name)}
    times = {name: float(getattr(evidence, name)) for name in ("duration", "max_duration")}
    times |= {
        "refresh_margin": config.refresh.margin,
        "refresh_alpha": config.refresh.alpha,
        "refresh_duration": float(config.refresh.duration),
    }
    plan = RolloutPlan(
        **(shared | times),
        scaled=evidence.block.auto,
        spending=WIN_SPENDING if evidence.block.auto else (),
        share=config.ramp[-1].share,
        fraction=config.shadow.fraction or 1.0,
        holdout=config.worth.holdout,
        guards=tuple(
            Guard(name=g.name, metric=g.metric, margin=g.margin, alpha=g.alpha, quantile=g.quantile or 0.99)
            for g in config.guardrails
        ),
    )
    return EvaluationDesign(
        plan=plan,
        budget=None
        if config.refresh.budget is None
        else AlphaBudget(alpha=config.refresh.budget, kind="geometric", ratio=_BUDGET_RATIO),
        metric=config.metric,
        experiment=config.experiment,
        block=evidence.longest_block,
        harm_block=evidence.finest_block,
        offset=float(evidence.block_offset),
        horizon=float(evidence.outcome_horizon),
        early=float(evidence.outcome_horizon) / EARLY_PART if _takes_early_labels(config) else 0.0,
    )


def _takes_early_labels(config: Config) -> bool:
    evidence = config.evidence
    return evidence.block.auto and evidence.form == "paired" and config.outcomes.correction == "first"


def tracked_metrics(config: Config, classes: Mapping[Label, int]) -> TrackedMetrics:
    """Metrics to sum for the guardrails and segments."""
    recalls: dict[str, int] = {}
    for guard in config.guardrails:
        if guard.label is not None:
            recalls[guard.name] = classes[guard.label]
    return TrackedMetrics(
        paired=config.evidence.form == "paired",
        losses=[g.metric for g in config.guardrails if g.metric not in (*RATES, "recall")],
        recalls=recalls,
        segments=list(config.segments),
        latency=any(g.metric == "latency" for g in config.guardrails),
    )
