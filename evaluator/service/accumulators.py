"""Accumulators of one experiment: exact, order-free sums by rollout, time block and metric. Pure.

Adding is associative and commutative bit for bit, so the state depends on which records were read and not on the order
in which predictions and outcomes came in.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluator.service.block_sums import (
    NOTHING,
    BlockSums,
    ComparisonSums,
    LossSums,
    PromotionSums,
    RolloutSums,
    TrackedMetrics,
)
from evaluator.service.challenger_pairs import RivalTable
from evaluator.service.join_records import Contest, Contradiction, Exposure, JoinResult, Match, Pair, Rivals, Scored
from evaluator.service.request_counts import value_of
from evaluator.service.rollout_watches import GrossHarmMonitor
from evaluator.stats import AssignmentCounts, PairedSums, SplitSums
from evaluator.stats.score_process import Floats
from gauntlet.losses import losses
from gauntlet.types import CHALLENGER, CHAMPION, Label, Rule, Task

Rows = NDArray[np.intp] | slice
Key = TypeVar("Key", bound=Hashable)


def block_index(at: float, seconds: float, offset: float) -> int:
    """The block that a time falls into."""
    return math.floor((at - offset) / seconds)


def rows_by_key(keys: Iterable[Key | None]) -> dict[Key, list[int]]:
    """The rows of each key, given each row's; those without one (None) are left out."""
    found: dict[Key, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        if key is not None:
            found[key].append(row)
    return found


class Accumulators:
    """The sums of one experiment: of its rollouts, models, promotions and pairs of challengers."""

    def __init__(
        self,
        task: Task,
        metric: str,
        block: float,
        offset: float,
        classes: Mapping[Label, int],
        tracked: TrackedMetrics = NOTHING,
        gross_harm: GrossHarmMonitor | None = None,
        early: float = 0.0,
    ) -> None:
        """`block` and `offset`: the finest blocks, in seconds. `classes`: each label's index; a regression has none.
        `tracked`: what rollouts that begin from now on are summed for. `gross_harm`: who is shown each comparison.
        `early`: age of a request, in seconds, up to which the label of a pair is early; 0: that is of no use."""
        self._task = task
        self._metric = metric
        self._block = block
        self._offset = offset
        self._classes = classes
        self._tracked = tracked
        self._gross_harm = gross_harm
        self._early = early
        self.rollouts: dict[str, RolloutSums] = {}
        self.models: dict[str, dict[int, LossSums]] = {}
        self.worth: dict[str, PromotionSums] = {}
        """What each of the latest promotions was worth."""
        self._rivals = RivalTable()

    def add(self, joined: JoinResult) -> Floats:
        """Add what a batch has joined; returns the primary losses of its matches."""
        self.exposures(joined.exposures)
        losses = self.matches(joined.matches)
        self.rated(joined.rated)
        self.pairs(joined.pairs)
        self.rivals(joined.rivals)
        self.scored(joined.scored)
        self.contradictions(joined.contradictions)
        return losses

    def exposures(self, exposures: Sequence[Exposure]) -> None:
        """Count who was assigned where, what became of it and how long it took; forced requests are not evidence."""
        mine = [(e, c, arm) for e in exposures if not e.forced for c in e.contests if (arm := e.arm_in(c))]
        kinds = Counter(
            (
                c.rollout,
                e.champion,
                c.challenger,
                c.rule,
                self._index(e.at),
                arm,
                e.fallback is not None,
                e.failed,
                c.share if c.first else 0.0,
                c.moved,
            )
            for e, c, arm in mine
        )
        for (name, champion, challenger, rule, index, arm, fallback, failed, share, moved), n in kinds.items():
            block = self._rollout(name, champion, challenger, rule).block(index)
            block.exposures[arm] += n
            block.moved += n * moved
            if not 0 < share < 1:
                continue
            treated = arm == CHALLENGER
            block.assignments.add(treated, share, n)
            if fallback:
                block.fallbacks.add(treated, share, n)
            if failed:
                block.errors.add(treated, share, n)
        together = {tuple((c.rollout, c.rule) for c in e.contests) for e in exposures if len(e.contests) > 1}
        for some in together:
            proving = {rollout for rollout, rule in some if rule == Rule.PROVE}
            for rollout in proving & self.rollouts.keys():
                self.rollouts[rollout].rivals |= proving - {rollout}
        for e, c, arm in mine:
            sums = self._of(e, c)
            if sums.tracked.latency:
                share = c.share if e.is_draw(c) else 0.0
                sums.block(self._index(e.at)).latency.add(arm == CHALLENGER, share, e.seconds)

    def scored(self, scored: Iterable[Scored]) -> None:
        """Count which of a comparison's two models gave valid answers; whose truth is known or not."""
        for each in scored:
            block = self._of(each.exposure, each.contest).block(self._index(each.exposure.at))
            block.shadows.add(each.champion, each.challenger)

    def contradictions(self, contradictions: Iterable[Contradiction]) -> None:
        """Count requests whose label is contradicted, by the drawn arm; rollouts that are forgotten stay so."""
        for each in contradictions:
            e = each.exposure
            for contest in filter(e.is_draw, e.contests):
                if contest.rollout in self.rollouts:
                    blocks = self.rollouts[contest.rollout].contradicted
                    counts = blocks.setdefault(self._index(each.at), AssignmentCounts())
                    counts.add(e.assigned == CHALLENGER, contest.share)

    def matches(self, matches: Sequence[Match]) -> Floats:
        """Add outcomes to the arms that were assigned, and to the models that served; returns the primary losses.

        Fallbacks are charged to the challenger (intention to treat): by the assigned arm, with the answer served.
        """
        if not matches:
            return np.empty(0)
        truths = self._truths(matches)
        values = self._losses([m.exposure.output for m in matches], truths)
        served = rows_by_key((m.exposure.model, self._index(m.exposure.at)) for m in matches)
        for (model, index), rows in served.items():
            self._model(model, index).add(values, np.array(rows))
        groups: dict[tuple[str, int], list[tuple[int, Contest]]] = defaultdict(list)
        for i, match in enumerate(matches):
            e = match.exposure
            for contest in filter(e.is_draw, e.contests):
                groups[contest.rollout, self._index(e.at)].append((i, contest))
        for (_, index), some in groups.items():
            self._split(index, some, matches, values, truths)
        self._held_out(matches, values[self._metric])
        return values[self._metric]

    def _held_out(self, matches: Sequence[Match], losses: Floats) -> None:
        """Add outcomes to the split of a promotion's units: those of the new champion, and those held out from it."""
        exposures = [match.exposure for match in matches]
        groups = rows_by_key(
            (d.promotion, d.champion, d.previous, self._index(e.at)) if (d := e.holdout) is not None else None
            for e in exposures
        )
        for (promotion, champion, previous, index), rows in groups.items():
            sums = self._promotion(promotion, champion, previous, [exposures[i].at for i in rows])
            draws = [draw for i in rows if (draw := exposures[i].holdout) is not None]
            treated = np.array([not draw.drawn for draw in draws])
            shares = np.array([draw.share for draw in draws])
            if sums is not None:
                sums.split.setdefault(index, SplitSums()).add(treated, shares, -losses[np.array(rows)])

    def _split(
        self,
        index: int,
        chosen_rows: Sequence[tuple[int, Contest]],
        matches: Sequence[Match],
        values: dict[str, Floats],
        truths: Floats,
    ) -> None:
        """Add outcomes of one comparison and block to its arms' own traffic."""
        exposures = [matches[i].exposure for i, _ in chosen_rows]
        sums = self._of(exposures[0], chosen_rows[0][1])
        block = sums.block(index)
        treated = np.array([e.assigned == CHALLENGER for e in exposures])
        propensities = np.array([contest.share for _, contest in chosen_rows])
        chosen = np.array([i for i, _ in chosen_rows])
        block.split.add(treated, propensities, -values[self._metric][chosen])
        for arm, mask in ((CHAMPION, ~treated), (CHALLENGER, treated)):
            if mask.any():
                block.arms[arm].add(values, chosen[mask])
                if not sums.tracked.paired:
                    self._tail(block, arm, values[self._metric][chosen[mask]])
        if self._gross_harm is not None and not sums.tracked.paired:
            losses = values[self._metric][chosen]
            self._gross_harm.arms(chosen_rows[0][1].rollout, losses[~treated], losses[treated])
        for (arm, share), n in Counter(zip(treated.tolist(), propensities.tolist(), strict=True)).items():
            block.arrived.add(arm, share, n)
        if not sums.tracked.paired:
            for cells, name, metric, some in self._cells(sums.tracked, block, truths[chosen], exposures):
                cell = cells.setdefault(name, SplitSums())
                cell.add(treated[some], propensities[some], -values[metric][chosen[some]])
            block.cap_segments()

    def rated(self, rated: Sequence[Match]) -> None:
        """Add the losses of shadow scores to the models that gave them."""
        if not rated:
            return
        values = self._losses([m.score.output for m in rated if m.score is not None], self._truths(rated))
        groups = rows_by_key((m.score.model, self._index(m.exposure.at)) if m.score else None for m in rated)
        for (model, index), rows in groups.items():
            self._model(model, index).add(values, np.array(rows))

    def pairs(self, pairs: Sequence[Pair]) -> None:
        """Add requests that two models answered and whose truth is known to their comparison."""
        if not pairs:
            return
        truths = self._truths(pairs)
        champions = self._losses([pair.champion for pair in pairs], truths)
        others = self._losses([pair.other for pair in pairs], truths)
        promotions = rows_by_key(
            (p.promotion, p.exposure.champion, p.previous) if not p.contest and p.promotion and p.previous else None
            for p in pairs
        )
        for promotion, rows in promotions.items():
            times = [pairs[i].exposure.at for i in rows]
            self._worth(promotion, times, champions[self._metric][rows], others[self._metric][rows])
        groups = rows_by_key((p.contest.rollout, self._index(p.exposure.at)) if p.contest else None for p in pairs)
        for (_, index), rows in groups.items():
            champion, other = ({name: values[rows] for name, values in of.items()} for of in (champions, others))
            self._pairs_of_block(index, [pairs[i] for i in rows], truths[rows], champion, other)

    def _pairs_of_block(
        self, index: int, pairs: Sequence[Pair], truths: Floats, champion: dict[str, Floats], other: dict[str, Floats]
    ) -> None:
        """Add one rollout's pairs of one block, with the losses of its two models."""
        exposures, contest = [pair.exposure for pair in pairs], pairs[0].contest
        assert contest is not None, "a rollout's pairs have a contest"
        sums = self._of(exposures[0], contest)
        block = sums.block(index)
        self._compare(block, champion, other, tail=sums.tracked.paired)
        if self._early:
            soon = np.array([pair.truth.at - pair.exposure.at for pair in pairs]) <= self._early
            block.early.add(-champion[self._metric][soon], -other[self._metric][soon])
        if self._gross_harm is not None:
            self._gross_harm.pairs(contest.rollout, champion[self._metric], other[self._metric])
        if sums.tracked.paired:
            for cells, name, metric, some in self._cells(sums.tracked, block, truths, exposures):
                cell = cells.setdefault(name, PairedSums())
                cell.add(-champion[metric][some], -other[metric][some])
            block.cap_segments()

    def rivals(self, rivals: Sequence[Rivals]) -> None:
        """Add requests that two challengers answered and whose truth is known."""
        if not rivals or not self._tracked.paired:
            return
        truths = self._truths(rivals)
        first, second = (self._losses([each.outputs[which] for each in rivals], truths) for which in (0, 1))
        groups = rows_by_key((each.first, each.second, self._index(each.exposure.at)) for each in rivals)
        for (one, two, index), rows in groups.items():
            losses = ({metric: values[rows] for metric, values in of.items()} for of in (first, second))
            self._compare(self._rivals.block(one, two, index), *losses)

    def evidence(self, name: str) -> RolloutSums:
        """A rollout's sums, with what was known of its two models before it began."""
        sums = self.rollouts[name]
        return self._rivals.with_rivalry(sums) if sums.tracked.paired else sums

    def _compare(
        self, block: ComparisonSums, champion: dict[str, Floats], challenger: dict[str, Floats], *, tail: bool = True
    ) -> None:
        block.add_pairs(self._metric, champion, challenger)
        if tail:
            self._tail(block, CHALLENGER, challenger[self._metric] - champion[self._metric])

    def _tail(self, block: ComparisonSums, arm: str, losses: Floats) -> None:
        """Add losses to what is known of their tail; those of a classification are bounded."""
        if self._task is Task.REGRESSION:
            block.add_tail(arm, losses)

    def _worth(self, key: tuple[str, str, str], times: Sequence[float], champion: Floats, previous: Floats) -> None:
        """Add losses of a promoted champion and of the one before it, on the same requests."""
        if (sums := self._promotion(*key, times)) is None:
            return
        indexes = np.array([self._index(at) for at in times])
        for index in np.unique(indexes).tolist():
            rows = indexes == index
            sums.blocks.setdefault(index, PairedSums()).add(-previous[rows], -champion[rows])

    def _promotion(self, promotion: str, champion: str, previous: str, times: Sequence[float]) -> PromotionSums | None:
        """The sums of a promotion; None for other versions than its own, which can't be its evidence."""
        sums = self.worth.setdefault(promotion, PromotionSums(promotion, champion, previous, min(times)))
        if (sums.champion, sums.previous) != (champion, previous):
            return None
        sums.first = min(sums.first, *times)
        return sums

    def forget(self, before: float, keep: Iterable[str]) -> None:
        """Drop rollouts that are not in `keep`, models' blocks that end before `before`, and the pairs of promotions
        that have none since but the latest's."""
        kept = set(keep)
        self.rollouts = {name: sums for name, sums in self.rollouts.items() if name in kept}
        first = self._index(before)
        for blocks in self.models.values():
            for index in [i for i in blocks if i < first]:
                del blocks[index]
        self.models = {model: blocks for model, blocks in self.models.items() if blocks}
        latest = max(self.worth.values(), key=lambda sums: (sums.first, sums.promotion), default=None)
        self.worth = {name: sums for name, sums in self.worth.items() if sums is latest or max(sums.known) >= first}
        self._rivals.forget(first, self.rollouts.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            "rollouts": {name: sums.to_dict() for name, sums in self.rollouts.items()},
            "models": {
                model: {str(index): sums.to_list() for index, sums in blocks.items()}
                for model, blocks in self.models.items()
            },
            "rivals": self._rivals.to_list(),
            "promotions": [sums.to_dict() for _, sums in sorted(self.worth.items())],
        }

    def restore(self, data: dict[str, Any]) -> None:
        self.rollouts = {name: RolloutSums.from_dict(sums) for name, sums in data["rollouts"].items()}
        self.models = {
            model: {int(index): LossSums.from_list(sums) for index, sums in blocks.items()}
            for model, blocks in data["models"].items()
        }
        self._rivals.restore(data["rivals"])
        found = [PromotionSums.from_dict(sums) for sums in data["promotions"]]
        self.worth = {sums.promotion: sums for sums in found}

    def _index(self, at: float) -> int:
        return block_index(at, self._block, self._offset)

    def _of(self, exposure: Exposure, contest: Contest) -> RolloutSums:
        return self._rollout(contest.rollout, exposure.champion, contest.challenger, contest.rule)

    def _rollout(self, name: str, champion: str, challenger: str, rule: str) -> RolloutSums:
        if name not in self.rollouts:
            self.rollouts[name] = RolloutSums(champion, challenger, self._tracked, rule)
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
            values = block.segments.setdefault(name, {})
            for value, chosen in rows_by_key(value_of(e.segments, name) for e in exposures).items():
                yield values, value, self._metric, np.array(chosen)

    def _model(self, version: str, index: int) -> LossSums:
        return self.models.setdefault(version, {}).setdefault(index, LossSums())

    def _losses(self, outputs: Sequence[Any], truths: Floats) -> dict[str, Floats]:
        return losses(self._task, np.array(outputs, dtype=np.float64), truths)

    def _truths(self, matches: Sequence[Match] | Sequence[Pair] | Sequence[Rivals]) -> Floats:
        """Outcomes as class indices or numbers; what is none of either is set aside before it gets here."""
        if self._task is Task.REGRESSION:
            return np.array([m.truth.value for m in matches], dtype=np.float64)
        return np.array([self._classes[m.truth.value] for m in matches], dtype=np.float64)
