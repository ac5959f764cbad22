"""The continuous A/A slice: one sequential test of the champion against itself after another, and their false alarms.

Both arms are answered by the same champion, so a boundary that is crossed is a false alarm. A round is a rollout's
split test on traffic of its own, planned with the traffic of its first blocks; when it has matured, whether it ever
crossed is counted once. Invariant: rounds are cut by event time and their sums are order-free, so the counts are those
of one pass over the log. No rollout's evidence and no decision reads any of this. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np

from evaluator.service import primary_metric
from evaluator.service.accumulators import block_index, rows_by_key
from evaluator.service.block_sums import BlockSums
from evaluator.service.design import EvaluationDesign, RolloutPlan
from evaluator.service.join_records import Exposure, Match, aa_name
from evaluator.stats import Look, Plan, SplitSums, State
from evaluator.stats.aa_monitor import AAMonitor, Round
from evaluator.stats.score_process import Floats
from gauntlet.config.evidence import EvidenceConfig
from gauntlet.status import FalseAlarms, moment
from gauntlet.types import Rule

_LEVEL: Final = 0.025
"""Of each of the limits that are told, and of saying "too many" although nothing is wrong, ever."""


@dataclass
class AARound:
    """One test under way. plan: as declared when it began; horizon: the planned information, None before the plan is
    made; latest: what would be counted if it ended now; fraction: the share of the planned evidence at that look."""

    plan: RolloutPlan
    blocks: dict[int, SplitSums] = field(default_factory=dict)
    next_block: int | None = None
    horizon: float | None = None
    state: State | None = None
    latest: Round | None = None
    fraction: float = 0.0

    def test(self, horizon: float) -> Plan:
        return replace(self.plan.primary, horizon=horizon)

    def to_dict(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_dict(),
            "blocks": {str(index): sums.to_texts() for index, sums in self.blocks.items()},
            "next_block": self.next_block,
            "horizon": self.horizon,
            "state": self.state.to_dict() if self.state else None,
            "latest": asdict(self.latest) if self.latest else None,
            "fraction": self.fraction,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AARound:
        found = cls(RolloutPlan.from_dict(data["plan"]))
        for index, texts in data["blocks"].items():
            found.blocks[int(index)] = SplitSums.from_texts(texts)
        found.next_block, found.horizon, found.fraction = data["next_block"], data["horizon"], data["fraction"]
        found.latest = Round(**data["latest"]) if data["latest"] else None
        if found.horizon is not None:
            found.state = State.from_dict(found.test(found.horizon), data["state"])
        return found


class ContinuousAA:
    """The A/A rounds of one experiment. Its state is the rounds under way, the first that may still begin, and the
    count of those that are over."""

    def __init__(self, evidence: EvidenceConfig, design: EvaluationDesign) -> None:
        self._design = design
        self._share = evidence.aa_slice
        self._length = evidence.aa_blocks if evidence.aa_slice else 0
        plan = msgspec.structs.replace(design.plan, form="split", rule=Rule.PROVE)
        self._plan = msgspec.structs.replace(plan, share=evidence.aa_slice) if evidence.aa_slice else plan
        self._rounds: dict[int, AARound] = {}
        self._first = 0
        self._count(AAMonitor(self._plan.alpha / 2 + self._plan.harm_alpha))

    def _count(self, monitor: AAMonitor) -> None:
        self._monitor, self._readings = monitor, monitor.read(level=_LEVEL)

    @property
    def names(self) -> list[str]:
        """The rounds under way, as the table of units has them."""
        return [aa_name(number) for number in self._rounds]

    def observe(self, exposures: Sequence[Exposure], matches: Sequence[Match], losses: Floats) -> None:
        """Take in a batch: new requests, and outcomes that have met theirs with the primary loss of each."""
        if not self._length:
            return
        for exposure in exposures:
            self._round(exposure)
        cells = rows_by_key(
            (number, self._index(match.exposure)) if (number := self._round(match.exposure)) is not None else None
            for match in matches
        )
        for (number, index), rows in cells.items():
            draws = [draw for row in rows if (draw := matches[row].exposure.phantom) is not None]
            drawn, shares = np.array([draw.drawn for draw in draws]), np.array([draw.share for draw in draws])
            block = self._rounds[number].blocks.setdefault(index, SplitSums())
            block.add(drawn, shares, -losses[np.array(rows)])

    def _round(self, exposure: Exposure) -> int | None:
        """The round that a request is evidence of, which is under way from now on. None: of none; it is over, or the
        router cuts rounds by other settings."""
        draw = exposure.phantom
        if draw is None or draw.round < self._first:
            return None
        if self._index(exposure) // self._length != draw.round:
            return None
        self._rounds.setdefault(draw.round, AARound(self._plan))
        return draw.round

    def _index(self, exposure: Exposure) -> int:
        return block_index(exposure.at, self._design.harm_block, self._design.offset)

    def advance(self, first_open: int) -> bool:
        """Take every look that is due, at blocks before `first_open`, and count the rounds that are over; was one?"""
        over = [number for number in sorted(self._rounds) if (number + 1) * self._length <= first_open]
        for number in sorted(self._rounds):
            self._looks(self._rounds[number], number * self._length, first_open)
        for number in over:
            done = self._rounds.pop(number)
            if done.latest is not None and self._whole(done, number):
                self._count(self._monitor.add(done.latest))
        if over:
            self._first = over[-1] + 1
        return bool(over)

    def _whole(self, done: AARound, number: int) -> bool:
        """Whether traffic began in a round's first blocks and went on to its last ones: else it was a shorter test."""
        begin, plan_blocks = number * self._length, self._design.first_blocks(done.plan)
        return min(done.blocks) < begin + plan_blocks and max(done.blocks) >= begin + self._length - plan_blocks

    def _looks(self, one: AARound, begin: int, first_open: int) -> None:
        for last in sorted(index for index in one.blocks if index < first_open):
            if one.next_block is not None and last < one.next_block:
                continue
            one.next_block = last + 1
            if one.horizon is None:
                one.horizon = self._planned(one, begin, last)
            if one.horizon is None:
                continue
            test = one.test(one.horizon)
            matured = {i: BlockSums(split=sums) for i, sums in sorted(one.blocks.items()) if i <= last}
            before = one.state or State.start(test)
            one.state, answer = primary_metric.look(self._design, one.plan, test, before, matured, last)
            if isinstance(answer, Look):
                one.latest, one.fraction = Round.from_look(answer), answer.information_fraction

    def _planned(self, one: AARound, begin: int, last: int) -> float | None:
        """The information that a whole round collects at the pace of its first blocks; None before these are over."""
        first, blocks = min(one.blocks), self._design.first_blocks(one.plan)
        if last - first + 1 < blocks:
            return None
        pace = sum(sums.information for i, sums in one.blocks.items() if i < first + blocks) / blocks
        return pace * (begin + self._length - first)

    def report(self) -> FalseAlarms | None:
        """What there is to tell; None where the slice is off."""
        if not self._share:
            return None
        monitor = self._monitor
        crossings, *_, recent = self._readings
        above = crossings.lower is not None and crossings.lower > monitor.alpha
        number = min(self._rounds, default=None)
        now = AARound(self._plan) if number is None else self._rounds[number]
        ends = None if number is None else self._design.look_time((number + 1) * self._length - 1)
        return FalseAlarms(
            level=monitor.alpha,
            share=self._share,
            rounds=monitor.rounds,
            alarms=monitor.crossed,
            rate=crossings.value,
            lower=0.0 if crossings.lower is None else crossings.lower,
            upper=1.0 if crossings.upper is None else crossings.upper,
            too_many=above or not recent.ok,
            reason=recent.reason if not above and not recent.ok else crossings.reason,
            round_ends=moment(ends),
            information_fraction=now.fraction,
            crossed=now.state.stop.crossed if now.state and now.state.stop else None,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "length": self._length,
            "first": self._first,
            "monitor": self._monitor.to_dict(),
            "rounds": {str(number): one.to_dict() for number, one in self._rounds.items()},
        }

    def restore(self, data: dict[str, Any]) -> None:
        """Go on from a snapshot. Under another level the count starts over; under another length, or with the slice
        off, the round under way is dropped."""
        if not data:
            return
        before = AAMonitor.from_dict(data["monitor"])
        if before.alpha != self._monitor.alpha:
            return
        self._count(before)
        if data["length"] == self._length:
            self._first = data["first"]
            self._rounds = {int(number): AARound.from_dict(one) for number, one in data["rounds"].items()}
