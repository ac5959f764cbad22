"""Health of the champion: its metrics on each matured block and over the watch window, beside the champion of before.

Pure. One event for each large block, whenever it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluator.service.block_sums import LossSums
from evaluator.service.design import EvaluationDesign
from evaluator.service.join import Match
from gauntlet.config import Config
from gauntlet.events import Health
from gauntlet.types import PREVIOUS

Models = Mapping[str, Mapping[int, LossSums]]
"""Loss sums of what each version answered: version → harm block → sums."""

_MOST_BLOCKS = 400  # of a backlog that are reported: a jump in event time must not make an event of every empty block


class HealthTracker:
    """Which blocks have been reported. Its state is `next_block` and `previous`."""

    def __init__(self, config: Config, design: EvaluationDesign) -> None:
        self._config = config
        self._design = design
        self._window = int(config.bake.window // design.harm_block)
        self.next_block: int | None = None
        """The first large block that has not been reported; None before the first look."""
        self.previous: str | None = None
        """The champion of before, scored in shadow during a bake."""

    def observe(self, pairs: Sequence[Match]) -> None:
        """Learn from pairs which version was champion before."""
        for pair in pairs:
            if pair.score is not None and pair.score.arm == PREVIOUS:
                self.previous = pair.score.model

    def due(self, version: str, models: Models, first_open: int, offsets: dict[str, int]) -> list[Health]:
        """Events of the champion `version` for blocks that have matured; `first_open` is the first harm block that has
        not."""
        ratio = self._design.ratio
        blocks = models.get(version, {})
        end = first_open // ratio
        if self.next_block is None:
            self.next_block = min(min(blocks, default=first_open) // ratio, end)
        found = []
        for index in range(max(self.next_block, end - _MOST_BLOCKS), end):
            own = _total(blocks, index * ratio, (index + 1) * ratio)
            if own.n:
                found.append(self._event(version, models, index, own, offsets))
        self.next_block = max(self.next_block, end)
        return found

    def _event(self, version: str, models: Models, index: int, own: LossSums, offsets: dict[str, int]) -> Health:
        task, end = self._config.task, (index + 1) * self._design.ratio
        window = _total(models[version], end - self._window, end)
        previous = self.previous if self.previous != version else None
        before = _total(models.get(previous or "", {}), end - self._window, end)
        return Health(
            id=f"{version}/{index}",
            at=(index + 1) * self._design.block + self._design.offset + self._design.horizon,
            experiment=self._config.experiment,
            model=version,
            outcomes=own.n,
            metrics=own.metrics(task),
            window_outcomes=window.n,
            window=window.metrics(task),
            previous=previous if before.n else None,
            previous_outcomes=before.n,
            previous_window=before.metrics(task),
            offsets=offsets,
        )


def _total(blocks: Mapping[int, LossSums], first: int, end: int) -> LossSums:
    total = LossSums()
    for index in range(first, end):
        if index in blocks:
            total.merge(blocks[index])
    return total
