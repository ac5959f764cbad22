"""The champion over time: the health of its metrics, and the drift of whichever version serves.

Health: one event for each large block, whenever it is read, beside the champion of before. Drift: one monitor at a
time; a new champion, or an old one that a rollback brings back, gets a new one. Only requests that the champion
answered and nobody forced are given to it: chance sends units to an arm, so these are like all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from evaluator.service.block_sums import LossSums, Models
from evaluator.service.champion_drift import ChampionMonitor
from evaluator.service.design import EvaluationDesign
from evaluator.service.join_records import Match
from evaluator.service.promotion_ledger import WorthTracker
from evaluator.stats.score_process import Floats
from gauntlet.config import Config
from gauntlet.events import Drift, Health, Prediction
from gauntlet.promotion_ledger import Entry
from gauntlet.registry import Registry
from gauntlet.structured_logging import get_logger
from gauntlet.types import CHAMPION, PREVIOUS, Label, Task

_MOST_BLOCKS = 400  # of a backlog that are reported: a jump in event time must not make an event of every empty block


class HealthTracker:
    """Which blocks have been reported, and of whom. Its state is `next_block`, `champion` and `previous`."""

    def __init__(self, config: Config, design: EvaluationDesign) -> None:
        self._config = config
        self._design = design
        self._window = int(config.bake.window // design.harm_block)
        self.next_block: int | None = None
        """The first large block that has not been reported; None before the first look."""
        self.champion: str | None = None
        """Whose health was reported last."""
        self.previous: str | None = None
        """The champion of before that one."""

    def observe(self, rated: Sequence[Match]) -> None:
        """Learn from shadow scores which version was champion before, where no change of champions has told it.

        For hours after a promotion the outcomes are still of requests that the champion of before answered, and the
        scores beside them of the one before that.
        """
        for match in rated:
            score, own = match.score, self.champion in (None, match.exposure.champion)
            if own and score is not None and score.arm == PREVIOUS:
                self.previous = score.model

    def due(
        self, version: str, models: Models, worth: WorthTracker, first_open: int, offsets: dict[str, int]
    ) -> list[Health]:
        """Events of the champion `version` for blocks that have matured, each with what its promotion was worth by
        then; `first_open` is the first harm block that has not."""
        if self.champion not in (None, version):
            self.previous = self.champion
        self.champion = version
        ratio = self._design.harm_blocks_per_block
        blocks = models.get(version, {})
        end = first_open // ratio
        if self.next_block is None:
            self.next_block = min(min(blocks, default=first_open) // ratio, end)
        found = []
        for index in range(max(self.next_block, end - _MOST_BLOCKS), end):
            own = _total(blocks, range(index * ratio, (index + 1) * ratio))
            worth.look(version, (index + 1) * ratio)
            if own.n:
                found.append(self._event(version, models, worth.of(version), index, own, offsets))
        worth.look(version, first_open)
        self.next_block = max(self.next_block, end)
        return found

    def clock_went_back(self, first_open: int) -> None:
        """Report blocks from `first_open` on again: the time at which they were said to be over had not come."""
        if self.next_block is not None:
            self.next_block = min(self.next_block, first_open // self._design.harm_blocks_per_block)

    def _event(
        self, version: str, models: Models, entry: Entry | None, index: int, own: LossSums, offsets: dict[str, int]
    ) -> Health:
        task, end = self._config.task, (index + 1) * self._design.harm_blocks_per_block
        previous = self.previous if self.previous != version else None
        ours, theirs = models[version], models.get(previous or "", {})
        latest = range(end - self._window, end)
        judged = _shared(ours, theirs, latest) if theirs else latest
        window, before = _total(ours, judged), _total(theirs, judged)
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
            promotion=entry.promotion if entry else None,
            realised_gain=entry.gain if entry else None,
            realised_lower=entry.lower if entry else None,
            realised_upper=entry.upper if entry else None,
            realised_pairs=entry.pairs if entry else 0,
            offsets=offsets,
        )


def _total(blocks: Mapping[int, LossSums], judged: Iterable[int]) -> LossSums:
    total = LossSums()
    for index in judged:
        if index in blocks:
            total.merge(blocks[index])
    return total


def _shared(ours: Mapping[int, LossSums], theirs: Mapping[int, LossSums], latest: range) -> list[int]:
    """The latest blocks of which both versions have the requests: one that has served before, maybe in better times, is
    no measure of one that had not begun. A version's first block is not whole."""
    first = max(min(ours), min(theirs))
    return [index for index in latest if index > first and index in ours and index in theirs]


_log = get_logger("gauntlet.evaluator")

_HISTORY = 32  # drift events kept: those of the latest episodes, for the context of a look


class DriftTracker:
    """The champion's monitor, its latest events, and those not sent yet (`pending`)."""

    def __init__(self, config: Config, registry: Registry, classes: Mapping[Label, int]) -> None:
        self._config = config
        self._registry = registry
        self._classes = classes
        self._allocation = 0
        self._history: list[Drift] = []
        self.monitor: ChampionMonitor | None = None
        """None before the first request."""
        self.pending: list[Drift] = []

    def observe(self, predictions: Sequence[Prediction], matches: Sequence[Match], losses: Floats) -> None:
        """Take in a batch: new requests, and outcomes that have met theirs with the primary loss of each."""
        self._observe_requests(predictions)
        if self.monitor is not None and self._config.drift.enabled:
            self._observe_outcomes(self.monitor, matches, losses)

    def take(self) -> list[Drift]:
        """The pending events, which count as sent from now on."""
        taken, self.pending = self.pending, []
        return taken

    def remember(self, event: Drift) -> None:
        """Keep an event that is sent, as context for later looks."""
        self._history = [*self._history, event][-_HISTORY:]

    def history(self, version: str) -> list[Drift]:
        """The latest monitor's events about this champion, sent or not, in order."""
        return [event for event in [*self._history, *self.pending] if event.model == version]

    def snapshot(self) -> dict[str, Any]:
        """The state but for `pending`, as JSON-able values."""
        return {
            "allocation": self._allocation,
            "history": msgspec.to_builtins(self._history),
            "monitor": self.monitor.snapshot() if self.monitor else None,
        }

    def restore(self, data: dict[str, Any] | None, pending: Sequence[Drift]) -> None:
        """Replace the state by that of a `snapshot`; a monitor that can't go on starts over."""
        self.pending, self.monitor = list(pending), None
        data = data or {"allocation": 0, "history": [], "monitor": None}
        self._allocation = data["allocation"]
        self._history = msgspec.convert(data["history"], list[Drift])
        if (saved := data["monitor"]) is None:
            return
        monitor = self._start(saved["version"], saved["since"])
        if monitor.restore(saved):
            self.monitor = monitor
        else:
            _log.warning(
                "drift_state_unusable",
                version=monitor.version,
                reason="made by another release, or under other settings of drift",
                next="the champion is monitored from scratch",
            )

    def _start(self, version: str, since: float) -> ChampionMonitor:
        return ChampionMonitor.start(self._config.experiment, version, since, self._registry, self._config.drift)

    def _observe_requests(self, predictions: Sequence[Prediction]) -> None:
        rows: list[Prediction] = []
        for prediction in predictions:
            if prediction.allocation < self._allocation and self.monitor is not None:
                # A partition that lags still tells of an old champion; it doesn't come back by that.
                if prediction.champion != self.monitor.version:
                    continue
            elif self.monitor is None or prediction.champion != self.monitor.version:
                self._feed(rows)
                rows = []
                self.monitor = self._start(prediction.champion, prediction.at)
                self._history = [event for event in self._history if event.model != prediction.champion]
            self._allocation = max(self._allocation, prediction.allocation)
            rows.append(prediction)
        self._feed(rows)

    def _feed(self, predictions: Sequence[Prediction]) -> None:
        if self.monitor is None or not self._config.drift.enabled:
            return
        own = [p for p in predictions if p.served == CHAMPION and not p.forced and not p.held_out]
        if own:
            self.pending += self.monitor.observe_requests(own)

    def _observe_outcomes(self, monitor: ChampionMonitor, matches: Sequence[Match], losses: Floats) -> None:
        own = [
            (match, float(loss))
            for match, loss in zip(matches, losses, strict=True)
            if match.exposure.champion == monitor.version
            and match.exposure.served == CHAMPION
            and not match.exposure.forced
        ]
        if not own:
            return
        truths: list[Any] = [match.truth.value for match, _ in own]
        if self._config.task is Task.CLASSIFICATION:
            truths = [self._classes[value] for value in truths]
        self.pending += monitor.observe_outcomes(
            [float(truth) for truth in truths],
            [match.exposure.output for match, _ in own],
            [loss for _, loss in own],
            [match.truth.at for match, _ in own],
            [match.exposure.at for match, _ in own],
        )
