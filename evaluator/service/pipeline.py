"""The evaluator's core: events in, evaluations, health and drift events out. No network, no clock, no threads.

State is the join table and what `Saved` holds; both change only here and are committed together with the offsets.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import LossSums
from evaluator.service.champion_monitor import ChampionMonitor
from evaluator.service.checkpoint import Checkpoint, Saved
from evaluator.service.design import EvaluationDesign, watched
from evaluator.service.design import scheme as scheme_of
from evaluator.service.evaluation import FORMAT, EvaluationState, look
from evaluator.service.join import JoinTable, Match
from gauntlet import events, keys
from gauntlet.config import Config
from gauntlet.errors import ConfigError, ModelUnusable
from gauntlet.registry import Registry
from gauntlet.types import CHAMPION, PREVIOUS, Label, Task

_log = logging.getLogger("gauntlet.evaluator")

_SLACK = 1.0  # horizons that a finished join stays as a tombstone beyond its own: room for a lagging partition
_ROLLOUTS_KEPT = 3  # sums of the latest rollouts; older ones are over, and their evaluations are on the log
_SAID = 32  # drift events kept: those of the latest episodes, for what a look says about its time
_LATEST = 1e11  # event times are seconds; one in milliseconds would move the watermark to the year 50000 for ever
_LARGEST = 1e45  # of a regression's numbers: the square of a squared error is still a finite number

Batch = Sequence[tuple[str, events.Prediction | events.Shadow | events.Outcome]]
"""Decoded records with the `topic/partition` that each came from, in the order of their partition."""


class Core:
    """One experiment's evaluation."""

    def __init__(self, config: Config, registry: Registry, checkpoint: Checkpoint) -> None:
        self._config = config
        self._registry = registry
        self._checkpoint = checkpoint
        # All versions of an experiment have the first one's classes: the router serves no others.
        first = registry.versions()[0].schema
        strange = set(config.drift.regimes) - {feature.name for feature in first.features}
        if strange:
            raise ConfigError(f"drift.regimes has {sorted(strange)[0]!r}, which is no feature")
        self._task = first.task
        self._classes: dict[Label, int] = {label: index for index, label in enumerate(first.classes)}
        self._known: set[str] = set()
        self._allocation = 0
        self._scheme: EvaluationDesign = scheme_of(config)
        horizon = float(config.evidence.outcome_horizon)
        self._joins = JoinTable(checkpoint.db, horizon, config.segments)
        self._keep = horizon * (1 + _SLACK)
        self._fold = Accumulators(
            config.task,
            config.metric,
            self._scheme.harm_block,
            self._scheme.offset,
            self._classes,
            watched(config, self._classes),
        )
        self._looks: dict[str, EvaluationState] = {}
        self._watch: ChampionMonitor | None = None
        self._latest: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._health_block: int | None = None
        self._previous: str | None = None
        self._out: list[events.Evaluation | events.Health | events.Drift] = []
        self._said: list[events.Drift] = []
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
    def watch(self) -> ChampionMonitor | None:
        """The watch over the present champion; None before its first request."""
        return self._watch

    def complaint(self, event: events.Prediction | events.Shadow | events.Outcome) -> str | None:
        """Why an event can't be evidence, or None. The log is shared: not only the router writes to its topics.

        What is let through can be counted, whatever it meets: one record that stops the evaluator stops it for ever.
        """
        if not 0 <= event.at <= _LATEST:
            return f"{event.at!r} is no time in seconds since 1970"
        if isinstance(event, events.Outcome):
            return self._label_complaint(event.value)
        if event.output is None:
            return None if isinstance(event, events.Shadow) else "a prediction has an output"
        version = event.champion if isinstance(event, events.Prediction) else event.model
        if version not in self._known:
            try:
                self._registry.get(version)
            except ModelUnusable as error:
                return str(error)
            self._known.add(version)
        return self._output_complaint(event.output)

    def _label_complaint(self, value: Label) -> str | None:
        if self._task is Task.CLASSIFICATION:
            return None if value in self._classes else f"the outcome {value!r} is none of {list(self._classes)}"
        if isinstance(value, bool | str) or not abs(value) <= _LARGEST:
            return f"the outcome {value!r} is no number of a usable size"
        return None

    def _output_complaint(self, output: list[float] | float) -> str | None:
        if self._task is Task.REGRESSION:
            if isinstance(output, list) or not abs(output) <= _LARGEST:
                return f"the output {output!r} is no number of a usable size"
        elif (
            not isinstance(output, list)
            or len(output) != len(self._classes)
            or not (min(output) >= 0 and max(output) <= 1 + 1e-9 and abs(sum(output) - 1) < 1e-6)
        ):
            return f"the output {output!r} is no distribution over {len(self._classes)} classes"
        return None

    def rebuild(self, batch: Batch) -> None:
        """Bring only the join table up to records whose effect the sums already hold."""
        self._joins.apply([event for _, event in batch])

    def adopt(self, saved: Saved) -> None:
        """Take over a newer state than the local file's, after `rebuild`: what it had dropped is dropped, uncounted."""
        self._restore(saved)
        self._joins.expire(self.watermark - self._keep)

    def oldest(self, saved: Saved, topic: str) -> float:
        """The event time from which a topic is to be read again to `rebuild` the joins of a state.

        They begin `keep` before its watermark; an outcome of that time may belong to a request as much older.
        """
        before = self._keep if topic == keys.OUTCOMES else 2 * self._keep
        return min(saved.latest.values(), default=0.0) - before - 1.0  # a log may round times down

    def step(self, batch: Batch) -> Counter[str]:
        """Accumulators one batch; returns what it counted."""
        counts: Counter[str] = Counter()
        fresh: list[events.Prediction | events.Shadow | events.Outcome] = []
        for source, event in batch:
            if not isinstance(event, events.Outcome):
                latest = self._latest.get(source, 0.0)
                if event.at < latest - self._keep:  # its tombstone may be gone: nobody can tell whether it was counted
                    counts["stale"] += 1
                    continue
                if isinstance(event, events.Prediction):
                    self._latest[source] = max(latest, event.at)
            fresh.append(event)
        joined = self._joins.apply(fresh)
        self._fold.exposures(joined.exposures)
        losses = self._fold.matches(joined.matches)
        self.lags = [match.truth.at - match.exposure.at for match in joined.matches]
        self._fold.pairs(joined.pairs)
        self._fold.scored(joined.scored)
        for pair in joined.pairs:
            if pair.score is not None and pair.score.arm == PREVIOUS:
                self._previous = pair.score.model
        self._watch_rows(joined.predictions)
        self._watch_outcomes(joined.matches, losses)
        counts += joined.counts
        self._counts += counts
        return counts

    def settle(self) -> Counter[str]:
        """Let go of joins that are over; returns what it counted. Outcomes must have been read as for `judge`."""
        counts = self._joins.expire(self.watermark - self._keep)
        self._counts += counts
        return counts

    def judge(self, offsets: dict[str, int]) -> list[events.Evaluation | events.Health | events.Drift]:
        """Take every look that has become due; returns all events to send, oldest first.

        Outcomes must have been read as far as their log stood after the last prediction of the sums.
        """
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
                self._said = [*self._said, event][-_SAID:]
        return out

    def saved(self, commit: int, offsets: dict[str, int]) -> Saved:
        """Everything but the join table, for the checkpoint."""
        return Saved(
            commit=commit,
            settings=self._settings,
            offsets=offsets,
            latest=self._latest,
            counts=dict(self._counts),
            fold=self._fold.to_dict(),
            looks={name: looks.to_dict() for name, looks in self._looks.items()},
            health_block=self._health_block,
            previous=self._previous,
            allocation=self._allocation,
            watch=self._watch.snapshot() if self._watch else None,
            said=self._said,
            pending=[event for event in self._out if isinstance(event, events.Drift)],
            evaluation=self.evaluation,
            health=self.health,
            drift=self.drift,
        )

    def _restore(self, saved: Saved) -> None:
        if saved.fold is None:
            return
        changed = [name for name, value in self._settings.items() if saved.settings.get(name) != value]
        if changed:
            raise ConfigError(
                f"{changed[0]} was {saved.settings.get(changed[0])!r} when the evaluator counted, and is now "
                f"{self._settings[changed[0]]!r}: set it back, or move the evaluator's state (evaluator.db in the data "
                "folder, its record in a shared state store) away to count the whole log again",
                code="settings_changed",
            )
        self._latest = dict(saved.latest)
        self._counts = Counter(saved.counts)
        self._fold.restore(saved.fold)
        self._looks = {name: self._looks_of(name, data) for name, data in saved.looks.items()}
        self._health_block = saved.health_block
        self._previous = saved.previous
        self._allocation = saved.allocation
        self.evaluation, self.health, self.drift = saved.evaluation, saved.health, saved.drift
        self._out = list(saved.pending)
        self._said = list(saved.said)
        self._watch = None
        if saved.watch is not None:
            watch = self._start_watch(saved.watch["version"], saved.watch["since"])
            if watch.restore(saved.watch):
                self._watch = watch
            else:
                _log.warning("drift of %s is watched anew: another release, or other settings of drift", watch.version)

    def _looks_of(self, name: str, data: dict[str, Any]) -> EvaluationState:
        """A rollout's looks so far: what was kept, or the same looks taken again where that has another format."""
        looks = EvaluationState.from_dict(data)
        sums = self._fold.rollouts.get(name)
        if data.get("format") != FORMAT and looks.next_block is not None and sums is not None:
            for index in sorted(index for index in sums.blocks if index < (looks.next_block or 0)):
                look(self._scheme, name, sums, looks, index, {}, self._config.task)
        return looks

    @property
    def _settings(self) -> dict[str, Any]:
        """What the sums were made with: under any other value they mean something else."""
        scheme = self._scheme
        return {
            "task": str(self._config.task),
            "evidence.metric": scheme.metric,
            "evidence.block": scheme.block,
            "evidence.harm_block": scheme.harm_block,
            "evidence.block_offset": scheme.offset,
            "evidence.outcome_horizon": scheme.horizon,
        }

    def _look(self, name: str, blocks: Iterable[int], first_open: int, offsets: dict[str, int]) -> None:
        looks = self._looks.get(name)
        if looks is None:
            looks = self._looks[name] = EvaluationState.start(self._scheme.terms)
        due = sorted(index for index in blocks if index < first_open)
        for index in due:
            if looks.next_block is not None and index < looks.next_block:
                continue
            sums = self._fold.rollouts[name]
            said = self._said_of(sums.champion)
            self._out.append(look(self._scheme, name, sums, looks, index, offsets, self._config.task, said))
            looks.next_block = index + 1

    def _said_of(self, champion: str) -> list[events.Drift]:
        """What the latest watch over this champion has said."""
        said = [*self._said, *(event for event in self._out if isinstance(event, events.Drift))]
        return [event for event in said if event.model == champion]

    def _health(self, first_open: int, offsets: dict[str, int]) -> None:
        """One health event for each large block that has matured, about the champion of the latest prediction."""
        if self._watch is None:
            return
        ratio = self._scheme.ratio
        version = self._watch.version
        blocks = self._fold.models.get(version, {})
        done = first_open // ratio
        if self._health_block is None:
            self._health_block = min(min(blocks, default=first_open) // ratio, done)
        for big in range(max(self._health_block, done - 400), done):
            own = _merged(blocks, big * ratio, (big + 1) * ratio)
            if own.n:
                wide = int(self._config.bake.window // self._scheme.harm_block)
                first, end = (big + 1) * ratio - wide, (big + 1) * ratio
                window = _merged(blocks, first, end)
                previous = self._previous if self._previous != version else None
                before = _merged(self._fold.models.get(previous or "", {}), first, end)
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
                        previous=previous if before.n else None,
                        previous_outcomes=before.n,
                        previous_window=before.metrics(self._config.task),
                        offsets=offsets,
                    )
                )
        self._health_block = max(self._health_block, done)

    def _forget(self) -> None:
        """Keep the sums of the latest rollouts and of the blocks that health still looks at."""
        numbered = sorted(self._fold.rollouts, key=lambda name: (len(name), name))  # …-r9999 comes before …-r10000
        keep = numbered[-_ROLLOUTS_KEPT:]
        if len(keep) < len(numbered):
            self._joins.forget_units(keep)
        wide = max(float(self._config.bake.window), self._scheme.block) + self._keep
        self._fold.forget(self.watermark - wide - self._scheme.block, keep)
        self._looks = {name: looks for name, looks in self._looks.items() if name in self._fold.rollouts}

    def _start_watch(self, version: str, since: float) -> ChampionMonitor:
        return ChampionMonitor.start(self._config.experiment, version, since, self._registry, self._config.drift)

    def _watch_rows(self, predictions: Sequence[events.Prediction]) -> None:
        rows: list[events.Prediction] = []
        for prediction in predictions:
            if prediction.allocation < self._allocation and self._watch is not None:
                # A partition that lags still tells of an old champion; it doesn't come back by that.
                if prediction.champion != self._watch.version:
                    continue
            elif self._watch is None or prediction.champion != self._watch.version:
                self._feed(rows)
                rows = []
                self._watch = self._start_watch(prediction.champion, prediction.at)
                self._said = [event for event in self._said if event.model != prediction.champion]
            self._allocation = max(self._allocation, prediction.allocation)
            rows.append(prediction)
        self._feed(rows)

    def _feed(self, predictions: Sequence[events.Prediction]) -> None:
        """Requests that the champion answered: chance sends units to an arm, so these are like all; forced aren't."""
        if self._watch is None or not self._config.drift.enabled:
            return
        mine = [p for p in predictions if p.served == CHAMPION and not p.forced]
        if mine:
            self._out += self._watch.rows(mine)

    def _watch_outcomes(self, matches: Sequence[Match], losses: Any) -> None:
        if self._watch is None or not self._config.drift.enabled:
            return
        version = self._watch.version
        mine = [
            (match, float(loss))
            for match, loss in zip(matches, losses, strict=True)
            if match.exposure.champion == version and match.exposure.served == CHAMPION and not match.exposure.forced
        ]
        if not mine:
            return
        truths: list[Any] = [match.truth.value for match, _ in mine]
        if self._task is Task.CLASSIFICATION:
            truths = [self._classes[value] for value in truths]
        self._out += self._watch.outcomes(
            [float(truth) for truth in truths],
            [match.exposure.output for match, _ in mine],
            [loss for _, loss in mine],
            [match.truth.at for match, _ in mine],
            [match.exposure.at for match, _ in mine],
        )


def _merged(blocks: dict[int, LossSums], first: int, end: int) -> LossSums:
    total = LossSums()
    for index in range(first, end):
        if index in blocks:
            total.merge(blocks[index])
    return total
