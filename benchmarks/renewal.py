"""Gauntlet's loop on a recorded stream: its pure core as it runs, with what models would have lost on each row.

Evaluation, gross-harm watch, decisions, rollout machine and the watch over promotions are the product's; requests,
jobs and clocks are not there. A model is known by its losses: `Scores` gives those of a range of rows.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import msgspec
import numpy as np

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import LossSums, PromotionSums, RolloutSums
from evaluator.service.challenger_pairs import RivalTable
from evaluator.service.champion_health import HealthTracker
from evaluator.service.design import evaluation_design
from evaluator.service.evaluation import alarm_evaluation, evaluate
from evaluator.service.evaluation_state import EvaluationState
from evaluator.service.promotion_ledger import WorthTracker
from evaluator.service.rollout_watches import GrossHarmMonitor
from evaluator.stats import PairedSums
from evaluator.stats.score_process import Floats, Ints
from gauntlet.config import Config
from gauntlet.config.evidence import MIN_CYCLES
from gauntlet.events import Drift, Evaluation, Health
from gauntlet.rollout import Command, Ended, Rollout, begin
from gauntlet.transitions import apply
from gauntlet.types import CHALLENGER, CHAMPION, Rule, Task
from retrainer.decisions import decide

DAY = 86_400

Losses = dict[str, Floats]
Scores = Callable[[slice], Losses]
"""A model: rows → its losses on them by metric, NaN where there is no label."""


class Rows(Protocol):
    """What the loop asks of a stream: the days of its rows and of their labels, in order, and which have one."""

    @property
    def day(self) -> Floats: ...
    @property
    def seen(self) -> Floats: ...
    @property
    def known(self) -> Any: ...


@dataclass(frozen=True)
class _Hour:
    """A block's rows with a label in time, and who was judged on them. lag: blocks until the labels have come."""

    losses: dict[str, Losses]
    champion: str
    rollouts: tuple[Rollout, ...]


@dataclass
class _Pairs:
    """Of the evaluator's sums those that the ledger of promotions reads."""

    worth: dict[str, PromotionSums] = field(default_factory=dict)


class Loop:
    """The control record, each rollout's sums and tests, and what was served. every: blocks between two looks."""

    def __init__(self, rows: Rows, config: Config, champion: str, first: Scores, *, every: int = 1) -> None:
        self.rows, self.config, self.every = rows, config, every
        self.design = replace(evaluation_design(config), offset=0.0)  # times are those of the stream
        self.task = Task(config.task)
        self.models: dict[str, Scores] = {champion: first}
        self.control = begin("bench", champion, 0.0)
        self.served = np.full(len(rows.day), np.nan)
        self.promoted: list[tuple[float, str]] = []
        self.taken_back: list[tuple[float, str]] = []
        self.drift: list[Drift] = []
        """The champion's drift events, where somebody watches it."""
        self.told: list[Health] = []
        """The champion's health, for triggers that go by it."""
        self.answered: dict[str, float] = defaultdict(float)
        """Requests that a challenger answered on the ramp."""
        self._ended: dict[str, Ended] = {}
        self._sums: dict[str, RolloutSums] = {}
        self._states: dict[str, EvaluationState] = {}
        self._looks: dict[str, Evaluation] = {}
        self._rivals = RivalTable()
        self._watch = GrossHarmMonitor(config.evidence.gross_margin, config.evidence.gross_alpha)
        self._due: dict[int, list[_Hour]] = defaultdict(list)
        self._pairs, self._blocks = _Pairs(), cast(dict[str, dict[int, LossSums]], defaultdict(dict))
        self._worth = WorthTracker(self.design, cast(Accumulators, self._pairs))
        self._health = HealthTracker(config, self.design)
        self._chance = np.random.default_rng(0)

    def challenge(self, version: str, scores: Scores, now: float, rule: Rule, recipe: str | None) -> None:
        """Begin a rollout in shadow."""
        self.models[version] = scores
        shadow, stages = self.config.ladder(rule)
        command = Command(
            name="challenge",
            actor="bench",
            reason="trained",
            version=version,
            rule=rule,
            recipe=recipe,
            most=self.config.shadow.challengers,
            shadow=shadow,
            stages=stages,
        )
        self.control = apply(self.control, command, now)

    def end(self, version: str) -> str:
        """How that version's last rollout ended, if it did."""
        if self.control.challenged_by(version):
            return "is still running"
        return f"{self._ended[version].state} on day {self._ended[version].at / DAY:.1f}"

    def block(self, index: int) -> None:
        """The traffic of one block, the labels that come in it, and the looks that it makes due."""
        design, day, seconds = self.design, self.rows.day, self.design.harm_block
        begins, ends = ((index + n) * seconds for n in (0, 1))
        rows = slice(*(int(i) for i in np.searchsorted(day, [begins / DAY, ends / DAY])))
        in_time = self.rows.known[rows] & (self.rows.seen[rows] - day[rows] <= design.horizon / DAY)
        kept = np.flatnonzero(in_time)
        lag = 1
        if len(kept):
            latest = float(self.rows.seen[rows][kept].max())
            lag = max(1, int(np.ceil(latest * DAY / seconds)) - index)
        self._serve(index, rows, kept, lag)
        for hour in self._due.pop(index, []):
            self._labelled(hour)
        last = index - round(design.horizon / seconds)
        if index % self.every == 0:
            self._decide(last, ends)
        if (index + 1) % design.harm_blocks_per_block == 0:
            self._watch_champion(last + 1, ends)
        self._ended |= {each.challenger: each for each in self.control.ended}

    def _serve(self, index: int, rows: slice, kept: Ints, lag: int) -> None:
        control = self.control
        known = {
            name: self.models[name](rows) for name in (control.champion, *(r.challenger for r in control.rollouts))
        }
        champion, metric = known[control.champion][self.config.metric], self.config.metric
        self.served[rows] = champion
        for rollout in control.on_ramp:
            share, theirs = rollout.share, known[rollout.challenger][metric]
            self.served[rows] += share * (theirs - champion)
            self.answered[rollout.challenger] += share * (rows.stop - rows.start)
        judged = {name: {key: each[kept] for key, each in losses.items()} for name, losses in known.items()}
        if not len(kept):
            return
        for rollout in control.rollouts:
            self._add(rollout, index, judged, early=lag * self.design.harm_block <= self.design.early)
        for one, two in itertools.combinations(sorted(r.challenger for r in control.rollouts), 2):
            pair = self._rivals.block(one, two, index)
            pair.add_pairs(metric, judged[one], judged[two])
            if self.task is Task.REGRESSION:
                pair.add_tail(CHALLENGER, judged[two][metric] - judged[one][metric])
        self._since_promotion(index, rows, kept, judged[control.champion])
        self._due[index + lag].append(_Hour(judged, control.champion, control.rollouts))

    def _add(self, rollout: Rollout, index: int, judged: dict[str, Losses], *, early: bool) -> None:
        """A block of pairs into a rollout's sums."""
        metric = self.config.metric
        champion, challenger = judged[self.control.champion], judged[rollout.challenger]
        fresh = RolloutSums(self.control.champion, rollout.challenger, rule=rollout.rule)
        block, n = self._sums.setdefault(rollout.id, fresh).block(index), len(champion[metric])
        block.add_pairs(metric, champion, challenger)
        block.shadows.both += n
        if early:
            block.early = replace(block.paired)
        if self.task is Task.REGRESSION:
            block.add_tail(CHALLENGER, challenger[metric] - champion[metric])
        block.exposures[CHALLENGER] += round(rollout.share * n)
        block.exposures[CHAMPION] += n - round(rollout.share * n)

    def _since_promotion(self, index: int, rows: slice, kept: Ints, champion: Losses) -> None:
        """What the champion and the one before it lost on the same requests."""
        control, metric = self.control, self.config.metric
        self._blocks[control.champion].setdefault(index, LossSums()).add(champion, slice(None))
        watched = control.promotion
        if watched is None or control.previous is None:
            return
        self._health.previous = control.previous
        share = self.config.shadow.fraction if control.bake else self.config.worth.fraction
        some = np.flatnonzero(self._chance.random(len(kept)) < share)
        if not len(some):
            return
        before = {key: each[kept][some] for key, each in self.models[control.previous](rows).items()}
        self._blocks[control.previous].setdefault(index, LossSums()).add(before, slice(None))
        fresh = PromotionSums(watched.rollout, control.champion, control.previous, watched.since)
        sums = self._pairs.worth.setdefault(watched.rollout, fresh)
        sums.blocks.setdefault(index, PairedSums()).add(-before[metric], -champion[metric][some])

    def _labelled(self, hour: _Hour) -> None:
        """The gross-harm watch sees the labels that have come."""
        metric = self.config.metric
        champion = hour.losses[hour.champion][metric]
        self._watch.served(champion)
        for rollout in hour.rollouts:
            if self.control.running(rollout.id):
                self._watch.pairs(rollout.id, champion, hour.losses[rollout.challenger][metric])

    def _decide(self, last: int, now: float) -> None:
        for rollout in self.control.rollouts:
            sums, alarm = self._sums.get(rollout.id), self._watch.take(rollout.id)
            if sums is None:
                continue
            if alarm is not None:
                self._act(rollout, alarm_evaluation(self.design, rollout.id, sums, alarm, now, {}), now)
            if last < min(sums.blocks):
                continue
            if rollout.id not in self._states:
                plan = msgspec.structs.replace(self.design.plan, rule=rollout.rule)
                self._states[rollout.id] = EvaluationState.start(plan)
            state, known = self._states[rollout.id], self._rivals.with_rivalry(sums)
            if self._is_too_young(rollout, len(known.blocks)):
                continue
            if state.planned(self.design, known, last):
                look = evaluate(self.design, rollout.id, known, state, last, {}, self.task, self.drift)
                self._act(rollout, look, now)

    def _is_too_young(self, rollout: Rollout, blocks: int) -> bool:
        """Whether no side of a successor's test can speak yet, so that a look is not worth its time."""
        waits = self.design.plan.scaled and rollout.rule is Rule.REFRESH
        return waits and blocks < MIN_CYCLES * self.design.harm_blocks_per_block

    def _act(self, rollout: Rollout, look: Evaluation, now: float) -> None:
        self._looks = {name: each for name, each in self._looks.items() if self.control.running(name)}
        self._looks[rollout.id] = look
        command = decide(self.control, look, self.config, now, self._looks)
        if command is not None and self.control.running(rollout.id):
            self.control = apply(self.control, command, now)
            if command.name == "promote":
                self.promoted.append((now / DAY, rollout.challenger))

    def _watch_champion(self, first_open: int, now: float) -> None:
        """The bake and the ledger, once a day."""
        control = self.control
        for health in self._health.due(control.champion, self._blocks, self._worth, first_open, {}):
            self.told.append(health)
            command = decide(self.control, health, self.config, now)
            if command is None:
                continue
            if command.name == "rollback":
                self.taken_back.append((now / DAY, self.control.champion))
            self.control = apply(self.control, command, now)
