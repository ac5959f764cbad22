"""The evaluation pipeline of one experiment: events in, evaluations, health and drift events out.

No network, no clock, no threads. The state is the join table and what `EvaluatorState` holds; both change only here and
are committed together with the offsets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import RolloutSums
from evaluator.service.champion_drift import ChampionMonitor
from evaluator.service.champion_health import DriftTracker, HealthTracker
from evaluator.service.checkpoint import Checkpoint, EvaluatorState
from evaluator.service.continuous_aa import ContinuousAA
from evaluator.service.design import KNOWN_CYCLES, evaluation_design, tracked_metrics
from evaluator.service.evaluation import alarm_evaluation, evaluate, unplanned_evaluation
from evaluator.service.evaluation_state import EvaluationState
from evaluator.service.join import JoinTable
from evaluator.service.join_records import JoinResult, holdout_name
from evaluator.service.problems import findings
from evaluator.service.promotion_ledger import WorthTracker
from evaluator.service.ramp_shares import with_ramp_shares
from evaluator.service.rollout_watches import GrossHarmMonitor, RateMonitor
from evaluator.service.validation import Batch, EventValidator
from evaluator.service.watermark import Watermark
from evaluator.stats.alpha_budget import AlphaBudget
from gauntlet import keys
from gauntlet.config import Config
from gauntlet.config.takes_effect import counting_settings, recounted
from gauntlet.errors import ConfigError
from gauntlet.events import Drift, Evaluation, Health
from gauntlet.promotion_ledger import Entry, Ledger
from gauntlet.registry import Registry
from gauntlet.status import FalseAlarms, Problem, Quality
from gauntlet.types import Rule

OutputEvent = Evaluation | Health | Drift

_SLACK = 1.0  # horizons that a finished join stays as a tombstone beyond its own: room for a lagging partition
_LINEAGES_KEPT = 20  # whose level budgets are known: a champion of before may come back
_ROLLOUTS_KEPT = 3  # sums of the latest rollouts; older ones are over, and their evaluations are on the log


class Pipeline:
    """Everything between the log's records and the events to send."""

    def __init__(self, config: Config, registry: Registry, checkpoint: Checkpoint) -> None:
        """Goes on from the checkpoint. Raises `ConfigError` where its sums were made under other settings."""
        self._config = config
        self._design = evaluation_design(config)
        self._keep = self._design.horizon * (1 + _SLACK)
        self.validator = EventValidator(config, registry)
        classes = self.validator.classes
        self._watermark = Watermark(self._keep)
        self._joins = JoinTable(checkpoint.db, self._design.horizon, config.segments, config.outcomes.correction)
        self._settled = 0.0
        self._gross_harm = GrossHarmMonitor(config.evidence.gross_margin, config.evidence.gross_alpha)
        self._rates = RateMonitor(self._design.plan, self._design.horizon)
        self._accumulators = Accumulators(
            config.task,
            self._design.metric,
            self._design.harm_block,
            self._design.offset,
            classes,
            tracked_metrics(config, classes),
            self._gross_harm,
            self._design.early,
        )
        self._aa = ContinuousAA(config.evidence, self._design)
        self._worth = WorthTracker(self._design, self._accumulators)
        self._drift = DriftTracker(config, registry, classes)
        self._health = HealthTracker(config, self._design)
        self._states: dict[str, EvaluationState] = {}
        self._budgets: dict[str, AlphaBudget] = {}
        """Of each champion: the levels of its retrained successors."""
        self.counts: Counter[str] = Counter()
        """What came in, by kind."""
        self.lags: list[float] = []
        """Seconds between prediction and outcome, of those that the last step has joined."""
        self.evaluations: dict[str, Evaluation] = {}
        self.health: Health | None = None
        self.drift: Drift | None = None
        self._restore(checkpoint.saved)
        self._counted_before = Counter(self.counts)

    @property
    def watermark(self) -> float:
        """The event time that every prediction partition with any records has reached; 0 before the first."""
        return self._watermark.time

    @property
    def monitor(self) -> ChampionMonitor | None:
        """The drift monitor of the present champion; None before its first request."""
        return self._drift.monitor

    @property
    def problems(self) -> list[Problem]:
        """What an operator has to know of what is judged."""
        counts = self.counts - self._counted_before
        return list(findings(self._config, self.monitor, counts, self.false_alarms, self._watermark.gaps))

    @property
    def quality(self) -> Quality | None:
        """The quality of the champion's latest requests; None until it can be judged."""
        score = self.monitor.quality if self.monitor else None
        return None if self.monitor is None or score is None else Quality(model=self.monitor.version, score=score)

    @property
    def false_alarms(self) -> FalseAlarms | None:
        """What the continuous A/A slice has shown; None where it is off."""
        return self._aa.report()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the sums are made with."""
        return counting_settings(self._config)

    @property
    def plans(self) -> dict[str, dict[str, Any]]:
        """The declared plan of each rollout's tests."""
        return {name: msgspec.to_builtins(state.plan) for name, state in self._states.items()}

    @property
    def ledger(self) -> Ledger:
        """What each promotion was worth."""
        return self._worth.ledger

    @property
    def present(self) -> Entry | None:
        """The entry of the champion that serves."""
        return None if self.monitor is None else self._worth.of(self.monitor.version)

    @property
    def joins_held(self) -> int:
        """Rows of the join table, finished or not."""
        return len(self._joins)

    def step(self, batch: Batch) -> Counter[str]:
        """Fold one batch into the state; returns what it counted."""
        times = dict(self._watermark.went_back)
        fresh, counts = self._watermark.admit(batch)
        if self._watermark.went_back.keys() - times:
            self._health.clock_went_back(self._design.first_open(self.watermark))
        return self._fold(self._joins.apply(fresh), counts)

    def settle_joins(self) -> Counter[str]:
        """Let outcomes count that waited for their horizon to be over, and drop joins that are over; returns what it
        counted. Outcomes must have been read as for `evaluate`."""
        self._settled = self.watermark
        counts = self._fold(self._joins.settle(self._settled), Counter())
        over = self._joins.expire(self.watermark - self._keep)
        self.counts += over
        return counts + over

    def _fold(self, joined: JoinResult, counts: Counter[str]) -> Counter[str]:
        losses = self._accumulators.add(joined)
        self._gross_harm.served(losses[np.isfinite(losses)])
        self._rates.observe(joined)
        self._aa.observe(joined.exposures, joined.matches, losses)
        self._health.observe(joined.rated)
        self._drift.observe(joined.predictions, joined.matches, losses)
        self.lags = [match.truth.at - match.exposure.at for match in joined.matches]
        counts += joined.counts
        self.counts += counts
        return counts

    def evaluate(self, offsets: dict[str, int]) -> list[OutputEvent]:
        """Take every look that has become due; returns all events to send, oldest first.

        Outcomes must have been read as far as their log stood after the last prediction of the sums.
        """
        found: list[OutputEvent] = []
        if self._watermark.latest:
            first_open = self._design.first_open(self.watermark)
            self._rates.mature(self.watermark)
            rounds_over = self._aa.advance(first_open)
            rollouts = self._accumulators.rollouts
            looks = [e for name in sorted(rollouts, key=_number) for e in self._evaluations(name, first_open, offsets)]
            found += with_ramp_shares(looks, rollouts, self._design, self._config.thompson)
            if self.monitor is not None:
                found += self._health.due(
                    self.monitor.version, self._accumulators.models, self._worth, first_open, offsets
                )
            self._forget(rounds_over)
        found = sorted([*self._drift.take(), *found], key=lambda event: event.at)
        for event in found:
            self._remember(event)
        return found

    def rebuild_joins(self, batch: Batch) -> None:
        """Bring only the join table up to records whose effect the sums already hold."""
        self._joins.apply([event for _, event in batch])

    def replay_from(self, state: EvaluatorState, topic: str) -> float:
        """The event time from which a topic is to be read again to rebuild the joins of a state.

        They begin `keep` before its watermark; an outcome of that time may belong to a request as much older.
        """
        before = self._keep if topic == keys.OUTCOMES else 2 * self._keep
        return min(state.latest.values(), default=0.0) - before - 1.0  # a log may round times down

    def adopt(self, state: EvaluatorState) -> None:
        """Take over a newer state than the local file's, after the joins were rebuilt: what that state had settled or
        dropped is so, uncounted."""
        self._restore(state)
        self._joins.settle(self._settled)
        self._joins.expire(self.watermark - self._keep)

    def state(self, commit: int, offsets: dict[str, int]) -> EvaluatorState:
        """Everything but the join table, for the checkpoint."""
        return EvaluatorState(
            commit=commit,
            settings=self.settings,
            offsets=offsets,
            latest=self._watermark.latest,
            jumped=self._watermark.jumped,
            behind=self._watermark.behind,
            went_back=self._watermark.went_back,
            settled=self._settled,
            counts=dict(self.counts),
            accumulators=self._accumulators.to_dict(),
            rollouts={name: state.to_dict() for name, state in self._states.items()},
            budgets={champion: budget.to_dict() for champion, budget in self._budgets.items()},
            gross_harm=self._gross_harm.to_dict(),
            rates=self._rates.to_dict(),
            aa=self._aa.to_dict(),
            health_block=self._health.next_block,
            champion=self._health.champion,
            previous=self._health.previous,
            worth=self._worth.to_dict(),
            drift_state=self._drift.snapshot(),
            drift_pending=self._drift.pending,
            evaluations=self.evaluations,
            health=self.health,
            drift=self.drift,
        )

    def _restore(self, state: EvaluatorState) -> None:
        if state.accumulators is None:
            return
        self._require_same_settings(state.settings)
        self._watermark.restore(state)
        self._settled = state.settled
        self.counts = Counter(state.counts)
        self._accumulators.restore(state.accumulators)
        self._states = {name: EvaluationState.from_dict(data) for name, data in state.rollouts.items()}
        self._budgets = {champion: AlphaBudget.from_dict(data) for champion, data in state.budgets.items()}
        self._gross_harm.restore(state.gross_harm)
        self._rates.restore(state.rates)
        self._aa.restore(state.aa)
        self._health.next_block = state.health_block
        self._health.champion, self._health.previous = state.champion, state.previous
        self._worth.restore(state.worth)
        self._drift.restore(state.drift_state, state.drift_pending)
        self.evaluations, self.health, self.drift = dict(state.evaluations), state.health, state.drift

    def _require_same_settings(self, before: dict[str, Any]) -> None:
        for name, old, new, remedy in recounted(self._config, before):
            raise ConfigError(
                f"{name} was {old} when the evaluator counted, and is now {new}: {remedy}", code="settings_changed"
            )

    def _evaluations(self, name: str, first_open: int, offsets: dict[str, int]) -> Iterable[Evaluation]:
        """The looks at one rollout that have become due."""
        sums = self._accumulators.rollouts[name]
        state = self._states.get(name) or self._begin(name, sums)
        history = self._drift.history(sums.champion)
        for alarm in (self._gross_harm.take(name), self._rates.take(name)):
            if alarm is not None:
                yield alarm_evaluation(self._design, name, sums, alarm, self.watermark, offsets)
        for index in sorted(index for index in sums.blocks if index < first_open):
            if state.next_block is None or index >= state.next_block:
                task, state.next_block = self._config.task, index + 1
                known = self._accumulators.evidence(name)
                if state.planned(self._design, known, index, self._accumulators.models):
                    yield evaluate(self._design, name, known, state, index, offsets, task, history)
                else:
                    yield unplanned_evaluation(self._design, state.plan, name, known, index, offsets, task)

    def _begin(self, name: str, sums: RolloutSums) -> EvaluationState:
        """The tests of a new rollout. A retrained challenger gets its level from the budget of its lineage, the
        successors of one champion."""
        plan = msgspec.structs.replace(self._design.plan, rule=sums.rule)
        if sums.rule == Rule.REFRESH and self._design.budget is not None:
            budget = self._budgets.pop(sums.champion, self._design.budget)
            level, budget = budget.request(name)
            self._budgets[sums.champion] = budget  # the latest champion last
            plan = msgspec.structs.replace(plan, refresh_alpha=min(level, plan.refresh_alpha))
        self._states[name] = EvaluationState.start(plan)
        return self._states[name]

    def _remember(self, event: OutputEvent) -> None:
        if isinstance(event, Evaluation):
            self.evaluations[event.rollout] = event
        elif isinstance(event, Health):
            self.health = event
        else:
            self.drift = event
            self._drift.remember(event)

    def _forget(self, rounds_over: bool) -> None:
        """Keep the sums of the latest rollouts and of the blocks that health still looks at."""
        numbered = sorted(self._accumulators.rollouts, key=_number)
        over = self._design.first_open(self.watermark) - 2 * self._design.harm_blocks_per_block
        recent = [name for name in numbered if max(self._accumulators.rollouts[name].blocks, default=0) >= over]
        keep = sorted({*recent, *numbered[-_ROLLOUTS_KEPT:]}, key=_number)
        if rounds_over or len(keep) < len(numbered):
            held = [holdout_name(promotion) for promotion in self._accumulators.worth]
            self._joins.units.forget([*keep, *self._aa.names, *held])
        cycles = KNOWN_CYCLES if self._design.plan.scaled else 1
        window = max(float(self._config.bake.window), cycles * self._design.block) + self._keep
        self._gross_harm.forget(keep)
        self._rates.forget(keep)
        self._accumulators.forget(self.watermark - window - self._design.block, keep)
        self._worth.forget()
        self._states = {name: state for name, state in self._states.items() if name in keep}
        self.evaluations = {name: event for name, event in self.evaluations.items() if name in keep}
        self._budgets = dict(list(self._budgets.items())[-_LINEAGES_KEPT:])


def _number(rollout: str) -> tuple[int, str]:
    """Rollouts in the order in which they began: -r9999 before -r10000."""
    return len(rollout), rollout
