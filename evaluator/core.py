"""The evaluator's core: batches of events in, evaluations, health and drift events out. No network, no clock, no threads.

State is the join table and what `Saved` holds; both change only here and are committed together with the offsets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from evaluator.checkpoint import Checkpoint, Saved
from evaluator.fold import Fold, LossSums
from evaluator.join import JoinTable, Match
from evaluator.look import Looks, Scheme, look
from evaluator.look import scheme as scheme_of
from evaluator.stats import State
from evaluator.watch import Watch
from gauntlet import events
from gauntlet.artefact import Schema
from gauntlet.config import Config
from gauntlet.errors import BadInput, ModelUnusable
from gauntlet.model import BASELINE, PREVIOUS, Task
from gauntlet.registry import Registry

_SLACK = 1.0  # horizons that a finished join stays as a tombstone beyond its own: room for a lagging partition
_ROLLOUTS_KEPT = 3  # sums of the latest rollouts; older ones are over, and their evaluations are on the log

Batch = Sequence[tuple[str, events.Prediction | events.Shadow | events.Outcome]]
"""Decoded records with the `topic/partition` that each came from, in the order of their partition."""


class Core:
    """One experiment's evaluation."""

    def __init__(self, config: Config, registry: Registry, checkpoint: Checkpoint) -> None:
        self._config = config
        self._registry = registry
        self._checkpoint = checkpoint
        self._schemas: dict[str, Schema] = {}
        self._scheme: Scheme = scheme_of(config)
        horizon = float(config.evidence.outcome_horizon)
        self._joins = JoinTable(checkpoint.db, horizon)
        self._keep = horizon * (1 + _SLACK)
        self._fold = Fold(
            config.task, config.metric, self._scheme.harm_block, self._scheme.offset, self.schema
        )
        self._looks: dict[str, Looks] = {}
        self._watch: Watch | None = None
        self._latest: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._health_block: int | None = None
        self._previous: str | None = None
        self._out: list[events.Evaluation | events.Health | events.Drift] = []
        self.lags: list[float] = []
        self.evaluation: events.Evaluation | None = None
        self.health: events.Health | None = None
        self.drift: events.Drift | None = None
        self._restore(checkpoint.saved)

    @property
    def watermark(self) -> float:
        """The event time that every prediction partition with any records has reached; 0 before the first."""
        return min(self._latest.values(), default=0.0)

    @property
    def counts(self) -> Counter[str]:
        """What came in, by kind."""
        return self._counts

    @property
    def severity(self) -> str:
        return self._watch.severity if self._watch else "NONE"

    def scores(self) -> dict[str, float]:
        """Drift of each feature's window."""
        return self._watch.scores() if self._watch else {}

    def schema(self, version: str) -> Schema:
        """The schema of a model version, from the registry once."""
        if version not in self._schemas:
            self._schemas[version] = self._registry.get(version).schema
        return self._schemas[version]

    def complaint(self, event: events.Prediction | events.Shadow | events.Outcome) -> str | None:
        """Why an event can't be evidence, or None. The log is shared: not only the router writes to its topics."""
        if isinstance(event, events.Outcome):
            if self._watch is None:
                return None
            try:
                self.schema(self._watch.version).check_label(event.value, "outcome")
            except BadInput as error:
                return str(error)
            return None
        if event.output is None:
            return None if isinstance(event, events.Shadow) else "a prediction has an output"
        version = event.champion if isinstance(event, events.Prediction) else event.model
        try:
            schema = self.schema(version)
        except ModelUnusable as error:
            return str(error)
        classes = len(schema.classes)
        values = event.output if isinstance(event.output, list) else [event.output]
        if isinstance(event.output, list) == (schema.task is Task.REGRESSION) or (classes and len(values) != classes):
            return f"the output {event.output!r} is none of {version}"
        if not all(math.isfinite(value) for value in values):
            return "the output is not finite"
        return None

    def rebuild(self, batch: Batch) -> None:
        """Bring only the join table up to records whose effect the sums already hold."""
        self._joins.apply([event for _, event in batch])

    def step(self, predictions: Batch, outcomes: Batch) -> Counter[str]:
        """Fold one batch; returns what it counted. `outcomes` must reach as far as the log did after `predictions`."""
        for source, event in predictions:
            if isinstance(event, events.Prediction):
                self._latest[source] = max(self._latest.get(source, 0.0), event.at)
        joined = self._joins.apply([event for _, event in predictions])
        late = self._joins.apply([event for _, event in outcomes])
        matches = joined.matches + late.matches
        self._fold.exposures(joined.exposures)
        losses = self._fold.matches(matches)
        self.lags = [match.truth.at - match.exposure.at for match in matches]
        pairs = joined.pairs + late.pairs
        self._fold.pairs(pairs)
        for pair in pairs:
            if pair.score is not None and pair.score.arm == PREVIOUS:
                self._previous = pair.score.model
        self._watch_rows([event for _, event in predictions if isinstance(event, events.Prediction)])
        self._watch_losses(matches, losses)
        counts = joined.counts + late.counts + self._joins.expire(self.watermark - self._keep)
        self._counts += counts
        return counts

    def judge(self, offsets: dict[str, int]) -> list[events.Evaluation | events.Health | events.Drift]:
        """Take every look that has become due; returns all events to send, oldest first."""
        if self._latest:
            first_open = self._scheme.matured(self.watermark)
            for name, sums in self._fold.rollouts.items():
                self._look(name, sums.blocks, first_open, offsets)
            self._health(first_open, offsets)
            self._forget()
        out, self._out = sorted(self._out, key=lambda event: event.at), []
        for event in out:
            if isinstance(event, events.Evaluation):
                self.evaluation = event
            elif isinstance(event, events.Health):
                self.health = event
            else:
                self.drift = event
        return out

    def saved(self, commit: int, offsets: dict[str, int]) -> Saved:
        """Everything but the join table, for the checkpoint."""
        return Saved(
            commit=commit,
            offsets=offsets,
            latest=self._latest,
            counts=dict(self._counts),
            fold=self._fold.to_dict(),
            looks={name: looks.to_dict() for name, looks in self._looks.items()},
            health_block=self._health_block,
            previous=self._previous,
            watch=self._watch.snapshot() if self._watch else None,
        )

    def _restore(self, saved: Saved) -> None:
        self._latest = dict(saved.latest)
        self._counts = Counter(saved.counts)
        if saved.fold is not None:
            self._fold.restore(saved.fold)
        self._looks = {name: Looks.from_dict(self._scheme.plan, data) for name, data in saved.looks.items()}
        self._health_block = saved.health_block
        self._previous = saved.previous
        if saved.watch is not None:
            self._watch = self._start_watch(saved.watch["version"])
            self._watch.restore(saved.watch)

    def adopt(self, saved: Saved) -> None:
        """Take over a newer state than the local file's."""
        self._restore(saved)

    def _look(self, name: str, blocks: Iterable[int], first_open: int, offsets: dict[str, int]) -> None:
        looks = self._looks.get(name)
        if looks is None:
            looks = self._looks[name] = Looks(State.start(self._scheme.plan))
        due = sorted(index for index in blocks if index < first_open)
        for index in due:
            if looks.next_block is not None and index < looks.next_block:
                continue
            sums = self._fold.rollouts[name]
            self._out.append(look(self._scheme, name, sums, looks, index, offsets, self._config.task))
            looks.next_block = index + 1

    def _health(self, first_open: int, offsets: dict[str, int]) -> None:
        """One health event for each large block that has matured, about the champion of the latest prediction."""
        if self._watch is None:
            return
        ratio = self._scheme.ratio
        version = self._watch.version
        blocks = self._fold.models.get(version, {})
        done = first_open // ratio
        if self._health_block is None:
            self._health_block = done
        for big in range(max(self._health_block, done - 400), done):
            own = _merged(blocks, big * ratio, (big + 1) * ratio)
            if own.n:
                wide = int(self._config.bake.window // self._scheme.harm_block)
                first, end = (big + 1) * ratio - wide, (big + 1) * ratio
                window = _merged(blocks, first, end)
                before = _merged(self._fold.models.get(self._previous or "", {}), first, end)
                self._out.append(
                    events.Health(
                        id=f"{version}/{big}",
                        at=(big + 1) * self._scheme.block + self._scheme.offset + self._scheme.horizon,
                        experiment=self._config.experiment,
                        model=version,
                        outcomes=own.n,
                        metrics=own.metrics(self._config.task),
                        window_outcomes=window.n,
                        window=window.metrics(self._config.task),
                        previous=self._previous if before.n and self._previous != version else None,
                        previous_outcomes=before.n,
                        previous_window=before.metrics(self._config.task),
                        offsets=offsets,
                    )
                )
        self._health_block = max(self._health_block, done)

    def _forget(self) -> None:
        """Keep the sums of the latest rollouts and of the blocks that health still looks at."""
        keep = sorted(self._fold.rollouts)[-_ROLLOUTS_KEPT:]
        wide = max(float(self._config.bake.window), self._scheme.block) + self._keep
        self._fold.forget(self.watermark - wide - self._scheme.block, keep)
        self._looks = {name: looks for name, looks in self._looks.items() if name in self._fold.rollouts}

    def _start_watch(self, version: str) -> Watch:
        return Watch.start(self._config.experiment, version, self._registry, self._config.drift)

    def _watch_rows(self, predictions: Sequence[events.Prediction]) -> None:
        start = 0
        for i, prediction in enumerate(predictions):
            if self._watch is None or prediction.champion != self._watch.version:
                self._feed(predictions[start:i])
                start = i
                self._watch = self._start_watch(prediction.champion)
        self._feed(predictions[start:])

    def _feed(self, predictions: Sequence[events.Prediction]) -> None:
        if predictions and self._watch is not None and self._config.drift.enabled:
            self._out += self._watch.rows(predictions)

    def _watch_losses(self, matches: Sequence[Match], losses: Any) -> None:
        if self._watch is None or not self._config.drift.enabled:
            return
        version = self._watch.version
        mine = [
            (float(loss), match.truth.at)
            for match, loss in zip(matches, losses, strict=True)
            if match.exposure.champion == version and match.exposure.served == BASELINE
        ]
        if mine:
            self._out += self._watch.losses([loss for loss, _ in mine], [at for _, at in mine])


def _merged(blocks: dict[int, LossSums], first: int, end: int) -> LossSums:
    total = LossSums()
    for index in range(first, end):
        if index in blocks:
            total.merge(blocks[index])
    return total
