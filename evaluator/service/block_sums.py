"""The sums that a rollout's evidence is kept in: exact, order-free, mergeable, block by block. Pure.

Everything that a look needs is in here; adding is associative and commutative bit for bit, so the state depends on
which records were read and not on the order in which they came in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from evaluator.service.request_counts import LatencyCounts, ShadowCounts, capped, kept
from evaluator.stats import AssignmentCounts, Block, PairedSums, SplitSums, TailSums, paired_blocks, split_blocks
from evaluator.stats.score_process import Floats
from gauntlet.losses import METRICS, summary
from gauntlet.types import CHALLENGER, CHAMPION, Rule, Task

Sums = SplitSums | PairedSums

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

    def merged(self, other: LossSums) -> LossSums:
        """The sums of both, as a new object."""
        both = LossSums(self.n, dict(self.sums))
        both.merge(other)
        return both

    def total(self, metric: str) -> float:
        """The sum of one loss."""
        return self.sums.get(metric, 0) / _UNIT

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


Models = Mapping[str, Mapping[int, LossSums]]
"""Loss sums of what each version answered: version → harm block → sums."""


def _total(values: Floats) -> int:
    """The sum of whole numbers, exactly: in int64 where it surely fits."""
    if len(values) * float(np.abs(values).max(initial=0.0)) < 2.0**62:
        return int(values.astype(np.int64).sum())
    return sum(int(value) for value in values.tolist())


class TrackedMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What is summed for a rollout besides its primary metric: declared with its first request, and fixed from then on.

    losses: names of other losses. recalls: name → index of the class whose errors are summed. segments: names of the
    labels by whose values the primary metric is summed. paired: over pairs, else over the arms' own traffic.
    """

    paired: bool = False
    losses: list[str] = []
    recalls: dict[str, int] = {}
    segments: list[str] = []
    latency: bool = False


NOTHING = TrackedMetrics()


@dataclass
class ComparisonSums:
    """Two models' sums over the requests that both answered, in one block of event time; the first is in the champion's
    place. tails: of a regression's primary losses, which nothing bounds: the differences, as the challenger's."""

    paired: PairedSums = field(default_factory=PairedSums)
    tails: dict[str, TailSums] = field(default_factory=dict)
    pairs: dict[str, LossSums] = field(default_factory=lambda: {CHAMPION: LossSums(), CHALLENGER: LossSums()})

    def add_pairs(self, metric: str, champion: dict[str, Floats], challenger: dict[str, Floats]) -> None:
        """Both models' losses on the same requests; `metric` is the primary one."""
        self.paired.add(-champion[metric], -challenger[metric])
        self.pairs[CHAMPION].add(champion, slice(None))
        self.pairs[CHALLENGER].add(challenger, slice(None))

    def add_tail(self, arm: str, losses: Floats) -> None:
        self.tails.setdefault(arm, TailSums()).add(-losses)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: sums are integers of any size, and as text they fit every reader."""
        return {
            "paired": self.paired.to_texts(),
            "tails": {arm: sums.to_texts() for arm, sums in sorted(self.tails.items())},
            "pairs": {arm: sums.to_list() for arm, sums in self.pairs.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**cls._compared(data))

    @staticmethod
    def _compared(data: dict[str, Any]) -> dict[str, Any]:
        """The fields of a comparison in the snapshot of a block."""
        return {
            "paired": PairedSums.from_texts(data["paired"]),
            "tails": {arm: TailSums.from_texts(sums) for arm, sums in data["tails"].items()},
            "pairs": {arm: LossSums.from_list(sums) for arm, sums in data["pairs"].items()},
        }


@dataclass
class BlockSums(ComparisonSums):
    """One rollout's sums in one block of event time.

    assignments: units by the propensity they were assigned at; arrived, fallbacks, errors: those of them whose outcome
    came in time, whom the champion had to answer, and the part of these in which the challenger itself was at fault.
    early: the part of `paired` whose labels were early. moved: units that met both arms under one allocation. tails: in
    the split form both arms'. metrics: sums of the guardrails' losses; segments: of the primary metric by label and
    value.
    """

    assignments: AssignmentCounts = field(default_factory=AssignmentCounts)
    exposures: dict[str, int] = field(default_factory=lambda: {CHAMPION: 0, CHALLENGER: 0})
    split: SplitSums = field(default_factory=SplitSums)
    early: PairedSums = field(default_factory=PairedSums)
    arms: dict[str, LossSums] = field(default_factory=lambda: {CHAMPION: LossSums(), CHALLENGER: LossSums()})
    arrived: AssignmentCounts = field(default_factory=AssignmentCounts)
    fallbacks: AssignmentCounts = field(default_factory=AssignmentCounts)
    errors: AssignmentCounts = field(default_factory=AssignmentCounts)
    moved: int = 0
    latency: LatencyCounts = field(default_factory=LatencyCounts)
    shadows: ShadowCounts = field(default_factory=ShadowCounts)
    metrics: dict[str, Sums] = field(default_factory=dict)
    segments: dict[str, dict[str, Sums]] = field(default_factory=dict)

    def cap_segments(self) -> None:
        """Keep the values of every segment few, whatever clients send."""
        self.segments = {name: capped(values, kept(values)) for name, values in self.segments.items()}

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {
            "assignments": self.assignments.to_list(),
            "exposures": self.exposures,
            "split": self.split.to_texts(),
            "early": self.early.to_texts(),
            "arms": {arm: sums.to_list() for arm, sums in self.arms.items()},
            "arrived": self.arrived.to_list(),
            "fallbacks": self.fallbacks.to_list(),
            "errors": self.errors.to_list(),
            "moved": self.moved,
            "latency": self.latency.to_list(),
            "shadows": self.shadows.to_list(),
            "metrics": {name: sums.to_texts() for name, sums in sorted(self.metrics.items())},
            "segments": {
                name: {value: sums.to_texts() for value, sums in sorted(values.items())}
                for name, values in sorted(self.segments.items())
            },
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(
            **cls._compared(data),
            assignments=AssignmentCounts.from_list(data["assignments"]),
            exposures=data["exposures"],
            split=SplitSums.from_texts(data["split"]),
            early=PairedSums.from_texts(data["early"]),
            arms={arm: LossSums.from_list(sums) for arm, sums in data["arms"].items()},
            arrived=AssignmentCounts.from_list(data["arrived"]),
            fallbacks=AssignmentCounts.from_list(data["fallbacks"]),
            errors=AssignmentCounts.from_list(data["errors"]),
            moved=data["moved"],
            latency=LatencyCounts.from_list(data["latency"]),
            shadows=ShadowCounts(*data["shadows"]),
            metrics={name: _sums(texts) for name, texts in data["metrics"].items()},
            segments={
                name: {value: _sums(texts) for value, texts in values.items()}
                for name, values in data["segments"].items()
            },
        )


def blocks_of(sums: Sequence[Sums]) -> list[Block]:
    """The blocks of one cell's sums in time order, which are all pairs or all of split traffic."""
    if all(isinstance(part, PairedSums) for part in sums):
        return paired_blocks([part for part in sums if isinstance(part, PairedSums)])
    return split_blocks([part for part in sums if isinstance(part, SplitSums)])


def _sums(texts: Sequence[str]) -> Sums:
    kind = PairedSums if len(texts) == len(PairedSums().to_list()) else SplitSums
    return kind.from_texts(texts)


@dataclass
class PromotionSums:
    """Pairs of a promoted champion and the one before it, by block, positive where the champion is better; of the
    requests since the promotion that both answered. first: the time of the first. split: of the reverse holdout, each
    on the units that were drawn for it, the new champion in the challenger's place."""

    promotion: str
    champion: str
    previous: str
    first: float
    blocks: dict[int, PairedSums] = field(default_factory=dict)
    split: dict[int, SplitSums] = field(default_factory=dict)

    @property
    def known(self) -> list[int]:
        """The blocks with anything in them, in time order."""
        return sorted(self.blocks.keys() | self.split.keys())

    def to_dict(self) -> dict[str, Any]:
        return {
            "promotion": self.promotion,
            "champion": self.champion,
            "previous": self.previous,
            "first": self.first,
            "blocks": {str(index): sums.to_texts() for index, sums in self.blocks.items()},
            "split": {str(index): sums.to_texts() for index, sums in self.split.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PromotionSums:
        blocks = {int(i): PairedSums.from_texts(sums) for i, sums in data["blocks"].items()}
        split = {int(i): SplitSums.from_texts(sums) for i, sums in data["split"].items()}
        return cls(data["promotion"], data["champion"], data["previous"], data["first"], blocks, split)


@dataclass
class RolloutSums:
    """One rollout's evidence: what is tracked, and the sums of each block (index → sums). rivals: others under the rule
    `prove` that ran beside it. contradicted: by block, requests whose label another outcome contradicts, which may come
    when there is no traffic any more."""

    champion: str
    challenger: str
    tracked: TrackedMetrics = NOTHING
    rule: str = Rule.PROVE
    rivals: set[str] = field(default_factory=set)
    blocks: dict[int, BlockSums] = field(default_factory=dict)
    contradicted: dict[int, AssignmentCounts] = field(default_factory=dict)

    def block(self, index: int) -> BlockSums:
        if index not in self.blocks:
            self.blocks[index] = BlockSums()
        return self.blocks[index]

    def to_dict(self) -> dict[str, Any]:
        return {
            "champion": self.champion,
            "challenger": self.challenger,
            "rule": self.rule,
            "tracked": msgspec.to_builtins(self.tracked),
            "rivals": sorted(self.rivals),
            "blocks": {str(index): sums.to_dict() for index, sums in self.blocks.items()},
            "contradicted": {str(index): counts.to_list() for index, counts in self.contradicted.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RolloutSums:
        return cls(
            data["champion"],
            data["challenger"],
            msgspec.convert(data["tracked"], TrackedMetrics),
            data["rule"],
            set(data["rivals"]),
            {int(index): BlockSums.from_dict(sums) for index, sums in data["blocks"].items()},
            {int(index): AssignmentCounts.from_list(rows) for index, rows in data["contradicted"].items()},
        )
