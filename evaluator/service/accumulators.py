"""Accumulators of one experiment: exact, order-free sums by rollout, time block and metric. Pure.

Adding is associative and commutative bit for bit, so the state depends on which records were read and not on the order
in which predictions and outcomes came in.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.service.block_sums import NOTHING, BlockSums, Floats, LossSums, RolloutSums, TrackedMetrics
from evaluator.service.counters import value_of
from evaluator.service.join import Exposure, JoinResult, Match, Score
from evaluator.service.watches import GrossHarmMonitor
from evaluator.stats import PairedSums, SplitSums
from gauntlet.losses import losses
from gauntlet.types import CHALLENGER, CHAMPION, Label, Task

Rows = NDArray[np.intp] | slice


def block_index(at: float, seconds: float, offset: float) -> int:
    """The block that a time falls into."""
    return math.floor((at - offset) / seconds)


class Accumulators:
    """All accumulators of one experiment."""

    def __init__(
        self,
        task: Task,
        metric: str,
        block: float,
        offset: float,
        classes: Mapping[Label, int],
        tracked: TrackedMetrics = NOTHING,
        gross_harm: GrossHarmMonitor | None = None,
    ) -> None:
        """`block` and `offset`: the finest blocks, in seconds. `classes`: each label's index; a regression has none.
        `tracked`: what rollouts that begin from now on are summed for. `gross_harm`: who is shown each comparison."""
        self._task = task
        self._metric = metric
        self._block = block
        self._offset = offset
        self._classes = classes
        self._tracked = tracked
        self._gross_harm = gross_harm
        self.rollouts: dict[str, RolloutSums] = {}
        self.models: dict[str, dict[int, LossSums]] = {}

    def add(self, joined: JoinResult) -> Floats:
        """Add what a batch has joined; returns the primary losses of its matches."""
        self.exposures(joined.exposures)
        losses = self.matches(joined.matches)
        self.pairs(joined.pairs)
        self.scored(joined.scored)
        return losses

    def exposures(self, exposures: Sequence[Exposure]) -> None:
        """Count who was assigned where, what became of it and how long it took; forced requests are no evidence."""
        mine = [e for e in exposures if e.rollout is not None and e.challenger is not None and not e.forced]
        kinds = Counter(
            (
                e.rollout,
                e.champion,
                e.challenger,
                self._index(e.at),
                e.assigned,
                e.fallback is not None,
                e.failed,
                e.propensity if e.first else 0.0,
                e.moved,
            )
            for e in mine
        )
        for (name, champion, challenger, index, arm, fallback, failed, propensity, moved), n in kinds.items():
            block = self._rollout(name, champion, challenger).block(index)
            block.exposures[arm] += n
            block.moved += n * moved
            if not 0 < propensity < 1:
                continue
            treated = arm == CHALLENGER
            block.assignments.add(treated, propensity, n)
            if fallback:
                block.fallbacks.add(treated, propensity, n)
            if failed:
                block.errors.add(treated, propensity, n)
        for e in mine:
            sums = self._rollout_of(e)
            if sums.tracked.latency:
                share = e.propensity if e.is_draw else 0.0
                sums.block(self._index(e.at)).latency.add(e.assigned == CHALLENGER, share, e.seconds)

    def scored(self, scored: Iterable[tuple[Exposure, Score]]) -> None:
        """Count whether the shadow scores of requests are valid answers; whose truth is known or not."""
        for exposure, score in scored:
            if score.of_other_arm(exposure):
                valid = score.output is not None
                ours = exposure.served == CHAMPION
                self._rollout_of(exposure).block(self._index(exposure.at)).shadows.add(ours or valid, valid or not ours)

    def matches(self, matches: Sequence[Match]) -> Floats:
        """Add outcomes to the arms that were assigned, and to the models that served; returns the primary losses.

        Fallbacks are charged to the challenger (intention to treat): by the assigned arm, with the answer served.
        """
        if not matches:
            return np.empty(0)
        truths = self._truths(matches)
        values = self._losses([m.exposure.output for m in matches], truths)
        groups: dict[tuple[str | None, int], list[int]] = defaultdict(list)
        served: dict[tuple[str, int], list[int]] = defaultdict(list)
        for i, match in enumerate(matches):
            e = match.exposure
            index = self._index(e.at)
            model = e.champion if e.served == CHAMPION else e.challenger
            served[model or e.champion, index].append(i)
            if e.is_draw:
                groups[e.rollout, index].append(i)
        for (model, index), rows in served.items():
            self._model(model, index).add(values, np.array(rows))
        for (_, index), rows in groups.items():
            exposures = [matches[i].exposure for i in rows]
            sums = self._rollout_of(exposures[0])
            block = sums.block(index)
            treated = np.array([e.assigned == CHALLENGER for e in exposures])
            propensities = np.array([e.propensity for e in exposures])
            chosen = np.array(rows)
            block.split.add(treated, propensities, -values[self._metric][chosen])
            for arm, mask in ((CHAMPION, ~treated), (CHALLENGER, treated)):
                if mask.any():
                    block.arms[arm].add(values, chosen[mask])
            if self._gross_harm is not None and not sums.tracked.paired:
                losses = values[self._metric][chosen]
                self._gross_harm.arms(str(exposures[0].rollout), losses[~treated], losses[treated])
            for (arm, share), n in Counter(zip(treated.tolist(), propensities.tolist(), strict=True)).items():
                block.arrived.add(arm, share, n)
            if not sums.tracked.paired:
                for cells, name, metric, some in self._cells(sums.tracked, block, truths[chosen], exposures):
                    cell = cells.setdefault(name, SplitSums())
                    cell.add(treated[some], propensities[some], -values[metric][chosen[some]])
                block.cap_segments()
        return values[self._metric]

    def pairs(self, pairs: Sequence[Match]) -> None:
        """Add requests that two models answered and whose truth is known: to the model that scored in shadow, and to
        the rollout's pairs where the two are its arms (a score of any other model says nothing about them)."""
        if not pairs:
            return
        truths = self._truths(pairs)
        served = self._losses([m.exposure.output for m in pairs], truths)
        scored = self._losses([m.score.output for m in pairs if m.score is not None], truths)
        groups: dict[tuple[str | None, int], list[int]] = defaultdict(list)
        shadows: dict[tuple[str, int], list[int]] = defaultdict(list)
        for i, match in enumerate(pairs):
            index = self._index(match.exposure.at)
            assert match.score is not None, "a pair has a shadow score"
            shadows[match.score.model, index].append(i)
            if match.score.of_other_arm(match.exposure):
                groups[match.exposure.rollout, index].append(i)
        for (_, index), rows in groups.items():
            exposures = [pairs[i].exposure for i in rows]
            sums = self._rollout_of(exposures[0])
            block = sums.block(index)
            chosen = np.array(rows)
            ours = np.array([e.served == CHAMPION for e in exposures])
            champion = {name: np.where(ours, served[name][chosen], scored[name][chosen]) for name in served}
            challenger = {name: np.where(ours, scored[name][chosen], served[name][chosen]) for name in served}
            block.paired.add(-champion[self._metric], -challenger[self._metric])
            if self._gross_harm is not None:
                self._gross_harm.pairs(str(exposures[0].rollout), champion[self._metric], challenger[self._metric])
            block.pairs[CHAMPION].add(champion, slice(None))
            block.pairs[CHALLENGER].add(challenger, slice(None))
            if sums.tracked.paired:
                for cells, name, metric, some in self._cells(sums.tracked, block, truths[chosen], exposures):
                    cell = cells.setdefault(name, PairedSums())
                    cell.add(-champion[metric][some], -challenger[metric][some])
                block.cap_segments()
        for (model, index), rows in shadows.items():
            self._model(model, index).add(scored, np.array(rows))

    def forget(self, before: float, keep: Iterable[str]) -> None:
        """Drop rollouts that are not in `keep`, and models' blocks that end before `before`."""
        kept = set(keep)
        self.rollouts = {name: sums for name, sums in self.rollouts.items() if name in kept}
        first = self._index(before)
        for blocks in self.models.values():
            for index in [i for i in blocks if i < first]:
                del blocks[index]
        self.models = {model: blocks for model, blocks in self.models.items() if blocks}

    def to_dict(self) -> dict[str, Any]:
        return {
            "rollouts": {name: sums.to_dict() for name, sums in self.rollouts.items()},
            "models": {
                model: {str(index): sums.to_list() for index, sums in blocks.items()}
                for model, blocks in self.models.items()
            },
        }

    def restore(self, data: dict[str, Any]) -> None:
        self.rollouts = {name: RolloutSums.from_dict(sums) for name, sums in data["rollouts"].items()}
        self.models = {
            model: {int(index): LossSums.from_list(sums) for index, sums in blocks.items()}
            for model, blocks in data["models"].items()
        }

    def _index(self, at: float) -> int:
        return block_index(at, self._block, self._offset)

    def _rollout_of(self, exposure: Exposure) -> RolloutSums:
        return self._rollout(exposure.rollout, exposure.champion, exposure.challenger)

    def _rollout(self, name: str | None, champion: str, challenger: str | None) -> RolloutSums:
        assert name is not None, "only exposures of a rollout come here"
        assert challenger is not None, "a rollout has a challenger"
        if name not in self.rollouts:
            self.rollouts[name] = RolloutSums(champion, challenger, self._tracked)
        return self.rollouts[name]

    def _cells(
        self, tracked: TrackedMetrics, block: BlockSums, truths: Floats, exposures: Sequence[Exposure]
    ) -> Iterator[tuple[dict[str, Any], str, str, Rows]]:
        """What is tracked besides the primary metric: where its sums are, their name, the loss, and which rows."""
        for name in tracked.losses:
            yield block.metrics, name, name, slice(None)
        for name, label in tracked.recalls.items():
            rows = np.flatnonzero(truths == label)
            if len(rows):
                yield block.metrics, name, "accuracy", rows
        for name in tracked.segments:
            found: dict[str, list[int]] = defaultdict(list)
            for row, exposure in enumerate(exposures):
                found[value_of(exposure.segments, name)].append(row)
            values = block.segments.setdefault(name, {})
            for value, chosen in found.items():
                yield values, value, self._metric, np.array(chosen)

    def _model(self, version: str, index: int) -> LossSums:
        return self.models.setdefault(version, {}).setdefault(index, LossSums())

    def _losses(self, outputs: Sequence[Any], truths: Floats) -> dict[str, Floats]:
        return losses(self._task, np.array(outputs, dtype=np.float64), truths)

    def _truths(self, matches: Sequence[Match]) -> Floats:
        """Outcomes as class indices or numbers; what is none of either is set aside before it gets here."""
        if self._task is Task.REGRESSION:
            return np.array([m.truth.value for m in matches], dtype=np.float64)
        return np.array([self._classes[m.truth.value] for m in matches], dtype=np.float64)
