"""The fold: matched outcomes become exact, order-free sums, keyed by rollout, time block and metric. Pure.

Everything that a look needs is in these sums; adding is associative and commutative bit for bit, so the state depends on
which records were read and not on the order in which predictions and outcomes came in.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.join import Exposure, Match
from evaluator.stats import AssignmentCounts, PairedSums, SplitSums
from gauntlet.artefact import Schema
from gauntlet.losses import METRICS, losses, summary
from gauntlet.model import BASELINE, CANDIDATE, Task

Floats = NDArray[np.float64]

_UNIT = 2**40  # figures shown to people: a thousandth of a billionth is fine enough, and sums stay exact


@dataclass
class LossSums:
    """Sums of every loss of a task over some rows, in exact units of 2^-40."""

    n: int = 0
    sums: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, Floats], rows: NDArray[np.intp] | slice) -> None:
        for name, array in values.items():
            picked = array[rows]
            self.sums[name] = self.sums.get(name, 0) + sum(round(v * _UNIT) for v in picked.tolist())
            n = len(picked)
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


@dataclass
class BlockSums:
    """One rollout's sums in one block of event time."""

    exposures: dict[str, int] = field(default_factory=lambda: {BASELINE: 0, CANDIDATE: 0})
    fallbacks: int = 0
    split: SplitSums = field(default_factory=SplitSums)
    paired: PairedSums = field(default_factory=PairedSums)
    arms: dict[str, LossSums] = field(default_factory=lambda: {BASELINE: LossSums(), CANDIDATE: LossSums()})
    pairs: dict[str, LossSums] = field(default_factory=lambda: {BASELINE: LossSums(), CANDIDATE: LossSums()})

    def to_list(self) -> list[Any]:
        # Sums are integers of any size: as text they fit every JSON reader.
        return [
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
            data[0],
            data[1],
            SplitSums.from_list([int(v) for v in data[2]]),
            PairedSums.from_list([int(v) for v in data[3]]),
            {arm: LossSums.from_list(sums) for arm, sums in data[4].items()},
            {arm: LossSums.from_list(sums) for arm, sums in data[5].items()},
        )


@dataclass
class RolloutSums:
    """One rollout's evidence: who was assigned at which propensity, and the sums of each block (index → sums)."""

    champion: str
    challenger: str
    assignments: AssignmentCounts = field(default_factory=AssignmentCounts)
    blocks: dict[int, BlockSums] = field(default_factory=dict)

    def block(self, index: int) -> BlockSums:
        if index not in self.blocks:
            self.blocks[index] = BlockSums()
        return self.blocks[index]

    def to_dict(self) -> dict[str, Any]:
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "assignments": self.assignments.to_list(),
            "blocks": {str(index): sums.to_list() for index, sums in self.blocks.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RolloutSums:
        return cls(
            data["champion"],
            data["challenger"],
            AssignmentCounts.from_list(data["assignments"]),
            {int(index): BlockSums.from_list(sums) for index, sums in data["blocks"].items()},
        )


def block_index(at: float, seconds: float, offset: float) -> int:
    """The block that a time falls into."""
    return math.floor((at - offset) / seconds)


class Fold:
    """All accumulators of one experiment."""

    def __init__(
        self, task: Task, metric: str, block: float, offset: float, schema: Callable[[str], Schema]
    ) -> None:
        """`block` and `offset`: the finest blocks, in seconds. `schema`: of a model version, for its classes."""
        self._task = task
        self._metric = metric
        self._block = block
        self._offset = offset
        self._schema = schema
        self.rollouts: dict[str, RolloutSums] = {}
        self.models: dict[str, dict[int, LossSums]] = {}

    def exposures(self, exposures: Iterable[Exposure]) -> None:
        """Count who was assigned where; forced requests are no evidence."""
        for e in exposures:
            if e.rollout is None or e.challenger is None or e.forced:
                continue
            rollout = self._rollout(e)
            block = rollout.block(self._index(e.at))
            block.exposures[e.assigned] += 1
            block.fallbacks += e.fallback is not None
            if 0 < e.propensity < 1:
                rollout.assignments.add(e.assigned == CANDIDATE, e.propensity)

    def matches(self, matches: Sequence[Match]) -> Floats:
        """Add outcomes to the arms that were assigned, and to the models that served; returns the primary losses.

        Fallbacks are charged to the challenger (intention to treat): by the assigned arm, with the answer served.
        """
        if not matches:
            return np.empty(0)
        values = self._losses([m.exposure.output for m in matches], matches)
        groups: dict[tuple[str | None, int], list[int]] = defaultdict(list)
        served: dict[tuple[str, int], list[int]] = defaultdict(list)
        for i, match in enumerate(matches):
            e = match.exposure
            index = self._index(e.at)
            model = e.champion if e.served == BASELINE else e.challenger
            served[model or e.champion, index].append(i)
            if e.rollout is not None and e.challenger is not None and not e.forced and 0 < e.propensity < 1:
                groups[e.rollout, index].append(i)
        for (model, index), rows in served.items():
            self._model(model, index).add(values, np.array(rows))
        for (name, index), rows in groups.items():
            exposures = [matches[i].exposure for i in rows]
            rollout = self._rollout(exposures[0])
            assert name is not None, "grouped by the rollout's name"
            block = rollout.block(index)
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
        """Add requests that both arms answered and whose truth is known."""
        if not pairs:
            return
        ours = self._losses([_output(m, BASELINE) for m in pairs], pairs)
        theirs = self._losses([_output(m, CANDIDATE) for m in pairs], pairs)
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        shadows: dict[tuple[str, int], list[int]] = defaultdict(list)
        for i, match in enumerate(pairs):
            index = self._index(match.exposure.at)
            assert match.score is not None, "a pair has a shadow score"
            shadows[match.score.model, index].append(i)
            if match.exposure.rollout is not None:
                groups[match.exposure.rollout, index].append(i)
        for (name, index), rows in groups.items():
            block = self._rollout(pairs[rows[0]].exposure).block(index)
            chosen = np.array(rows)
            assert name is not None, "grouped by the rollout's name"
            block.paired.add_many(-ours[self._metric][chosen], -theirs[self._metric][chosen])
            block.pairs[BASELINE].add(ours, chosen)
            block.pairs[CANDIDATE].add(theirs, chosen)
        for (model, index), rows in shadows.items():
            first = pairs[rows[0]]
            mine = ours if first.score is not None and first.score.arm == BASELINE else theirs
            self._model(model, index).add(mine, np.array(rows))

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

    def _rollout(self, exposure: Exposure) -> RolloutSums:
        assert exposure.rollout is not None, "only exposures of a rollout come here"
        if exposure.rollout not in self.rollouts:
            self.rollouts[exposure.rollout] = RolloutSums(exposure.champion, exposure.challenger or "")
        return self.rollouts[exposure.rollout]

    def _model(self, version: str, index: int) -> LossSums:
        return self.models.setdefault(version, {}).setdefault(index, LossSums())

    def _losses(self, outputs: Sequence[Any], matches: Sequence[Match]) -> dict[str, Floats]:
        truth = np.array([self._truth(m) for m in matches], dtype=np.float64)
        return losses(self._task, np.array(outputs, dtype=np.float64), truth)

    def _truth(self, match: Match) -> float:
        """An outcome as a class index or a number; a label that is no class can't come through the router."""
        if self._task is Task.REGRESSION:
            return float(match.truth.value)
        index = self._schema(match.exposure.champion).class_index(match.truth.value)
        if index is None:
            raise ValueError(f"{match.truth.value!r} is none of the classes of {match.exposure.champion}")
        return float(index)


def _output(match: Match, arm: str) -> list[float] | float | None:
    """What an arm answered: served, or scored in shadow."""
    if match.exposure.served == arm:
        return match.exposure.output
    assert match.score is not None, "a pair has a shadow score"
    return match.score.output
