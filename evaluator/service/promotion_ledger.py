"""The ledger of promotions: what each was worth, by the pairs of its champion and the one before. Pure.

Invariant: a look is taken when each large block with pairs has closed, in turn and none twice, so the ledger depends on
the records that were read and not on when. Each promotion has a test of its own, declared with its first pair, and a
second one at its part of the lineage's level. Both look at the blocks that rollouts are judged by, and hold at all
times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from evaluator.service import primary_metric
from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import PromotionSums
from evaluator.service.design import EvaluationDesign, RolloutPlan
from evaluator.stats import Look, NoAnswer, PairedSums, Plan, SplitSums, State, advance, split_blocks
from evaluator.stats.alpha_budget import link_level
from gauntlet.promotion_ledger import Entry, Ledger, Lineage, Split

_ENTRIES_KEPT = 100  # two years of weekly promotions; a lineage that is longer begins with the oldest


class Limits(NamedTuple):
    """Limits of a gain; None while blocks are too few for one."""

    lower: float | None = None
    upper: float | None = None


class _PromotionTests:
    """The state of one promotion's two tests between two looks, and of its reverse holdout's."""

    def __init__(self, plan: RolloutPlan, number: int, next_block: int) -> None:
        self.plan = plan
        self.number = number
        self.next_block = next_block
        """The first large block that has not been looked at."""
        self.states = tuple(State.start(test) for test in self.tests)
        self.held_out = State.start(plan.reverse_holdout)

    @property
    def tests(self) -> tuple[Plan, Plan]:
        """The promotion's own at `harm_alpha`, and that of its link in the lineage at a part of it."""
        alpha = self.plan.harm_alpha
        return self.plan.worth(alpha), self.plan.worth(link_level(alpha, self.number))

    def look(self, design: EvaluationDesign, blocks: Mapping[int, PairedSums], last: int) -> list[Limits]:
        """The limits of both tests at these blocks, up to and including harm block `last`."""
        matured = {index: (SplitSums(), sums) for index, sums in sorted(blocks.items()) if index <= last}
        found = [
            primary_metric.look(design, self.plan, test, state, matured, last)
            for state, test in zip(self.states, self.tests, strict=True)
        ]
        self.states = tuple(state for state, _ in found)
        return [Limits(look.lower, look.upper) if isinstance(look, Look) else Limits() for _, look in found]

    def look_at_split(self, blocks: Sequence[SplitSums]) -> Split | None:
        """What the reverse holdout says at these large blocks; None while they are too few."""
        if not blocks:
            return None
        self.held_out, look = advance(self.held_out, split_blocks(blocks), self.plan.reverse_holdout)
        if isinstance(look, NoAnswer):
            return None
        return Split(
            units=look.n_challenger, held_out=look.n_champion, gain=look.effect, lower=look.lower, upper=look.upper
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_dict(),
            "number": self.number,
            "next_block": self.next_block,
            "states": [state.to_dict() for state in self.states],
            "held_out": self.held_out.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> _PromotionTests:
        test = cls(RolloutPlan.from_dict(data["plan"]), data["number"], data["next_block"])
        test.states = tuple(
            State.from_dict(plan, state) for plan, state in zip(test.tests, data["states"], strict=True)
        )
        test.held_out = State.from_dict(test.plan.reverse_holdout, data["held_out"])
        return test


class WorthTracker:
    """The ledger, and the tests of the latest promotions, whose pairs `accumulators` still has."""

    def __init__(self, design: EvaluationDesign, accumulators: Accumulators) -> None:
        self._design = design
        self._accumulators = accumulators
        self._tests: dict[str, _PromotionTests] = {}
        self._entries: dict[str, Entry] = {}  # by promotion, in the order of their first pairs
        self._champion: str | None = None

    def look(self, champion: str, first_open: int) -> None:
        """Take every look that has become due; `champion` serves now, `first_open` is the first block that has not
        matured."""
        self._champion = champion
        end = first_open // self._design.harm_blocks_per_block
        for sums in sorted(self._accumulators.worth.values(), key=lambda sums: (sums.first, sums.promotion)):
            if not sums.blocks:
                continue  # nobody was scored in shadow yet
            test, first = self._tests.get(sums.promotion), min(sums.blocks) // self._design.harm_blocks_per_block
            if test is None and sums.promotion not in self._entries and first < end:
                plan = msgspec.structs.replace(self._design.plan, form="paired")
                number = max((entry.number for entry in self._entries.values()), default=0) + 1
                test = self._tests[sums.promotion] = _PromotionTests(plan, number, first)
            if test is not None:
                self._advance(test, sums, end)

    def forget(self) -> None:
        """Drop the tests of promotions whose pairs are gone, and the oldest entries."""
        self._tests = {name: test for name, test in self._tests.items() if name in self._accumulators.worth}
        self._entries = dict(list(self._entries.items())[-_ENTRIES_KEPT:])

    def of(self, champion: str) -> Entry | None:
        """The entry of the latest promotion of that version."""
        return next((entry for entry in reversed(self._entries.values()) if entry.champion == champion), None)

    @property
    def ledger(self) -> Ledger:
        """The ledger: every promotion's entry, and the lineage of the champion that serves."""
        entries = list(self._entries.values())
        return Ledger(entries=entries, lineage=None if self._champion is None else lineage(entries, self._champion))

    def _advance(self, test: _PromotionTests, sums: PromotionSums, end: int) -> None:
        """One look after another at the closed large blocks that have pairs."""
        ratio = self._design.harm_blocks_per_block
        for index in sorted({each // ratio for each in sums.blocks}):
            if not test.next_block <= index < end:
                continue
            last = (index + 1) * ratio - 1
            known = [block for each, block in sums.blocks.items() if each <= last]
            own, link = test.look(self._design, sums.blocks, last)
            pairs = sum(block.n for block in known)
            self._entries[sums.promotion] = Entry(
                promotion=sums.promotion,
                champion=sums.champion,
                previous=sums.previous,
                number=test.number,
                since=sums.first,
                until=(index + 1) * self._design.block + self._design.offset,
                pairs=pairs,
                gain=sum(block.score() for block in known) / pairs,
                alpha=test.plan.harm_alpha,
                lower=own.lower,
                upper=own.upper,
                lineage_lower=link.lower,
                lineage_upper=link.upper,
                split=test.look_at_split(_large(sums.split, ratio, last)),
            )
        test.next_block = max(test.next_block, end)

    def to_dict(self) -> dict[str, Any]:
        return {
            "tests": {name: test.to_dict() for name, test in self._tests.items()},
            "entries": msgspec.to_builtins(list(self._entries.values())),
            "champion": self._champion,
        }

    def restore(self, data: dict[str, Any] | None) -> None:
        """Replace the state by that of a `to_dict`; None: there is none yet."""
        data = data or {"tests": {}, "entries": [], "champion": None}
        self._tests = {name: _PromotionTests.from_dict(test) for name, test in data["tests"].items()}
        self._entries = {entry.promotion: entry for entry in msgspec.convert(data["entries"], list[Entry])}
        self._champion = data["champion"]


def _large(blocks: Mapping[int, SplitSums], ratio: int, last: int) -> list[SplitSums]:
    """The closed large blocks up to harm block `last` that have units, in time order."""
    large: dict[int, SplitSums] = {}
    for index in sorted(index for index in blocks if index <= last):
        large[index // ratio] = large.get(index // ratio, SplitSums()).merge(blocks[index])
    return list(large.values())


def lineage(entries: Sequence[Entry], champion: str) -> Lineage | None:
    """The links from `champion` back to the version that nobody was known to be promoted over; None without any.

    entries: the oldest first. A promotion that was taken back is passed over: nobody's `previous` leads to it.
    """
    links: list[Entry] = []
    at = champion
    for entry in reversed(entries):
        if entry.champion == at:
            links.append(entry)
            at = entry.previous
    if not links:
        return None
    lower = [link.lineage_lower for link in links]
    upper = [link.lineage_upper for link in links]
    return Lineage(
        base=at,
        champion=champion,
        links=len(links),
        gain=sum(link.gain for link in links),
        alpha=max(link.alpha for link in links),
        lower=_sum(lower),
        upper=_sum(upper),
        unknown=sum(low is None or high is None for low, high in zip(lower, upper, strict=True)),
    )


def _sum(limits: Sequence[float | None]) -> float | None:
    known = [limit for limit in limits if limit is not None]
    return sum(known) if len(known) == len(limits) else None
