"""The fold: matched outcomes become exact, order-free sums, keyed by rollout, time block and metric. Pure.

Everything that a look needs is in these sums; adding is associative and commutative bit for bit, so the state depends
on which records were read and not on the order in which predictions and outcomes came in.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.join import Exposure, Match
from evaluator.stats import AssignmentCounts, PairedSums, SplitSums
from gauntlet.losses import METRICS, losses, summary
from gauntlet.model import BASELINE, CANDIDATE, Label, Task

Floats = NDArray[np.float64]

_UNIT = 2**40  # figures shown to people: a thousandth of a billionth is fine enough, and sums stay exact


@dataclass
class LossSums:
    """Sums of every loss of a task over some rows, in exact units of 2^-40."""

    n: int = 0
    sums: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, Floats], rows: NDArray[np.intp] | slice) -> None:
        n = 0
        for name, array in values.items():
            scaled = np.rint(array[rows] * _UNIT)
            n = len(scaled)
            self.sums[name] = self.sums.get(name, 0) + _total(scaled)
        self.n += n

    def merge(self, other: LossSums) -> None:
        self.n += other.n
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def metrics(self, task: Task) -> dict[str, float]:
        """The figures that people know; empty without rows."""
        if not self.n:
            return {}
        return summary(task, {name: self.sums[name] / _UNIT / self.n for name in METRICS[task]})

    def to_list(self) -> list[Any]:
        return [self.n, {name: str(value) for name, value in self.sums.items()}]

    @classmethod
    def from_list(cls, data: Sequence[Any]) -> LossSums:
        return cls(data[0], {name: int(value) for name, value in data[1].items()})


def _total(values: Floats) -> int:
    """The sum of whole numbers, exactly: in int64 where it surely fits."""
    if len(values) * float(np.abs(values).max(initial=0.0)) < 2.0**62:
        return int(values.astype(np.int64).sum())
    return sum(int(value) for value in values.tolist())


@dataclass
class BlockSums:
    """One rollout's sums in one block of event time; `assignments` says who was assigned at which propensity."""

    assignments: AssignmentCounts = field(default_factory=AssignmentCounts)
    exposures: dict[str, int] = field(default_factory=lambda: {BASELINE: 0, CANDIDATE: 0})
    fallbacks: int = 0
    split: SplitSums = field(default_factory=SplitSums)
    paired: PairedSums = field(default_factory=PairedSums)
    arms: dict[str, LossSums] = field(default_factory=lambda: {BASELINE: LossSums(), CANDIDATE: LossSums()})
    pairs: dict[str, LossSums] = field(default_factory=lambda: {BASELINE: LossSums(), CANDIDATE: LossSums()})

    def to_list(self) -> list[Any]:
        # Sums are integers of any size: as text they fit every JSON reader.
        return [
            self.assignments.to_list(),
            self.exposures,
            self.fallbacks,
            [str(v) for v in self.split.to_list()],
            [str(v) for v in self.paired.to_list()],
            {arm: sums.to_list() for arm, sums in self.arms.items()},
            {arm: sums.to_list() for arm, sums in self.pairs.items()},
        ]

    @classmethod
    def from_list(cls, data: Sequence[Any]) -> BlockSums:
        return cls(
            AssignmentCounts.from_list(data[0]),
            data[1],
            data[2],
            SplitSums.from_list([int(v) for v in data[3]]),
            PairedSums.from_list([int(v) for v in data[4]]),
            {arm: LossSums.from_list(sums) for arm, sums in data[5].items()},
            {arm: LossSums.from_list(sums) for arm, sums in data[6].items()},
        )


@dataclass
class RolloutSums:
    """One rollout's evidence: the sums of each block (index → sums)."""

    champion: str
    challenger: str
    blocks: dict[int, BlockSums] = field(default_factory=dict)

    def block(self, index: int) -> BlockSums:
        if index not in self.blocks:
            self.blocks[index] = BlockSums()
        return self.blocks[index]

    def to_dict(self) -> dict[str, Any]:
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "blocks": {str(index): sums.to_list() for index, sums in self.blocks.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RolloutSums:
        return cls(
            data["champion"],
            data["challenger"],
            {int(index): BlockSums.from_list(sums) for index, sums in data["blocks"].items()},
        )


def block_index(at: float, seconds: float, offset: float) -> int:
    """The block that a time falls into."""
    return math.floor((at - offset) / seconds)


class Fold:
    """All accumulators of one experiment."""

    def __init__(
        self, task: Task, metric: str, block: float, offset: float, classes: Mapping[Label, int]
    ) -> None:
        """`block` and `offset`: the finest blocks, in seconds. `classes`: each label's index; a regression has none."""
        self._task = task
        self._metric = metric
        self._block = block
        self._offset = offset
        self._classes = classes
        self.rollouts: dict[str, RolloutSums] = {}
        self.models: dict[str, dict[int, LossSums]] = {}

    def exposures(self, exposures: Iterable[Exposure]) -> None:
        """Count who was assigned where; forced requests are no evidence."""
        kinds = Counter(
            (
                e.rollout,
                e.champion,
                e.challenger,
                self._index(e.at),
                e.assigned,
                e.fallback is not None,
                e.propensity if e.first else 0.0,
            )
            for e in exposures
            if e.rollout is not None and e.challenger is not None and not e.forced
        )
        for (name, champion, challenger, index, arm, fallback, propensity), n in kinds.items():
            block = self._rollout(name, champion, challenger).block(index)
            block.exposures[arm] += n
            block.fallbacks += n * fallback
            if 0 < propensity < 1:
                block.assignments.add(arm == CANDIDATE, propensity, n)

    def matches(self, matches: Sequence[Match]) -> Floats:
        """Add outcomes to the arms that were assigned, and to the models that served; returns the primary losses.

        Fallbacks are charged to the challenger (intention to treat): by the assigned arm, with the answer served.
        """
        if not matches:
            return np.empty(0)
        values = self._losses([m.exposure.output for m in matches], self._truths(matches))
        groups: dict[tuple[str | None, int], list[int]] = defaultdict(list)
        served: dict[tuple[str, int], list[int]] = defaultdict(list)
        for i, match in enumerate(matches):
            e = match.exposure
            index = self._index(e.at)
            model = e.champion if e.served == BASELINE else e.challenger
            served[model or e.champion, index].append(i)
            if e.rollout is not None and e.challenger is not None and not e.forced and e.first and 0 < e.propensity < 1:
                groups[e.rollout, index].append(i)
        for (model, index), rows in served.items():
            self._model(model, index).add(values, np.array(rows))
        for (_, index), rows in groups.items():
            exposures = [matches[i].exposure for i in rows]
            block = self._rollout_of(exposures[0]).block(index)
            treated = np.array([e.assigned == CANDIDATE for e in exposures])
            chosen = np.array(rows)
            block.split.add_many(
                treated, np.array([e.propensity for e in exposures]), -values[self._metric][chosen]
            )
            for arm, mask in ((BASELINE, ~treated), (CANDIDATE, treated)):
                if mask.any():
                    block.arms[arm].add(values, chosen[mask])
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
            if _other_arm(match.exposure) == (match.score.arm, match.score.model):
                groups[match.exposure.rollout, index].append(i)
        for (_, index), rows in groups.items():
            exposures = [pairs[i].exposure for i in rows]
            block = self._rollout_of(exposures[0]).block(index)
            chosen = np.array(rows)
            ours = np.array([e.served == BASELINE for e in exposures])
            champion = {name: np.where(ours, served[name][chosen], scored[name][chosen]) for name in served}
            challenger = {name: np.where(ours, scored[name][chosen], served[name][chosen]) for name in served}
            block.paired.add_many(-champion[self._metric], -challenger[self._metric])
            block.pairs[BASELINE].add(champion, slice(None))
            block.pairs[CANDIDATE].add(challenger, slice(None))
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
            self.rollouts[name] = RolloutSums(champion, challenger)
        return self.rollouts[name]

    def _model(self, version: str, index: int) -> LossSums:
        return self.models.setdefault(version, {}).setdefault(index, LossSums())

    def _losses(self, outputs: Sequence[Any], truths: Floats) -> dict[str, Floats]:
        return losses(self._task, np.array(outputs, dtype=np.float64), truths)

    def _truths(self, matches: Sequence[Match]) -> Floats:
        """Outcomes as class indices or numbers; what is none of either is set aside before it gets here."""
        if self._task is Task.REGRESSION:
            return np.array([m.truth.value for m in matches], dtype=np.float64)
        return np.array([self._classes[m.truth.value] for m in matches], dtype=np.float64)


def _other_arm(exposure: Exposure) -> tuple[str, str] | None:
    """The arm that did not serve, and its model; None outside a rollout."""
    if exposure.rollout is None or exposure.challenger is None:
        return None
    if exposure.served == BASELINE:
        return CANDIDATE, exposure.challenger
    return BASELINE, exposure.champion
