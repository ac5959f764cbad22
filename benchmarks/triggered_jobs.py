"""The retrainer's triggers on a recorded stream: the champion's drift monitor, and the rules by which jobs start.

Monitor, facts, triggers and constraints are the product's. A job is a function here, and takes no time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from benchmarks.dated_streams import Stream
from benchmarks.renewal import DAY, Loop
from evaluator.service.champion_drift import ChampionMonitor
from evaluator.service.drift_baseline import FEWEST_HONEST, ColumnReader, DriftBaseline, ReferenceRows
from evaluator.stats.score_process import Floats
from gauntlet.config import Config
from gauntlet.events import Drift, Prediction
from gauntlet.losses import loss
from gauntlet.registry import Reference, Version
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.types import CHAMPION, Task
from retrainer.jobs.job_dir import Answer
from retrainer.requester import Requester
from retrainer.runner import JobRunner
from retrainer.store import JobRecord, RetrainerStore

Outputs = Callable[[str, slice], Floats]
"""A version and rows → its answers."""


def schema_of(stream: Stream) -> Schema:
    names = tuple(Feature(name=f"x{n}") for n in range(stream.x.shape[1]))
    classes = () if stream.task is Task.REGRESSION else tuple(range(int(np.nanmax(stream.y)) + 1))
    return Schema(task=stream.task, features=names, classes=classes)


class Versions:
    """What the registry knows of the versions: when their rows end, and their references."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.references: dict[str, Reference] = {}
        self._known: dict[str, Version] = {}

    def add(self, version: str, data_to: float, rows: int) -> None:
        self._known[version] = Version(
            version=version,
            created_at=data_to,
            source="",
            checksum=None,
            schema=self.schema,
            data_to=data_to,
            rows=rows,
        )

    def get(self, version: str) -> Version:
        return self._known[version]

    def refer(self, version: str, stream: Stream, metric: str, train: slice, held: slice, outputs: Floats) -> None:
        """The reference of a version that a job has made, with its answers `outputs` on the rows held out."""
        rows = slice(min(train.start, held.start), held.stop)
        honest = np.arange(rows.start, rows.stop) >= held.start
        honest &= stream.known[rows]
        answers, truths, losses = ([None] * len(honest) for _ in range(3))
        found = loss(metric, outputs[stream.known[held]], stream.y[held][stream.known[held]])
        for at, output, lost in zip(
            np.flatnonzero(honest), outputs[stream.known[held]].tolist(), found.tolist(), strict=True
        ):
            answers[at], truths[at], losses[at] = output, float(stream.y[rows.start + at]), lost
        self.references[version] = Reference(
            columns={f"x{n}": column for n, column in enumerate(stream.x[rows].T.tolist())},
            at=(stream.day[rows] * DAY).tolist(),
            outputs=answers,
            truths=truths,
            losses=losses,
        )


class TriggeredJobs:
    """The requester on a store of its own, told of the champion's health and drift block by block.

    work: does a job as of now, and says what came of it."""

    def __init__(
        self,
        stream: Stream,
        config: Config,
        loop: Loop,
        versions: Versions,
        outputs: Outputs,
        work: Callable[[JobRecord], Answer],
        folder: Path,
    ) -> None:
        self._stream, self._config, self._loop, self._versions = stream, config, loop, versions
        self._outputs, self._work = outputs, work
        self.store = RetrainerStore(folder, config.experiment)
        runner = JobRunner(config, cast(Any, None), cast(Any, versions), self.store, cast(Any, None))
        self._requester = Requester(config, self.store, runner)
        self._by_seen = np.argsort(stream.seen, kind="stable")
        self._seen = stream.seen[self._by_seen]
        self._answered = np.full(len(stream.day), -1)
        """By row, the number of the monitor whose champion answered it."""
        self._number, self._monitor = -1, cast(ChampionMonitor, None)
        self.drift: list[Drift] = []

    @property
    def jobs(self) -> list[JobRecord]:
        return list(self.store.jobs.values())

    def block(self, index: int) -> None:
        """The same block as the loop has just had: what its champion answered, the labels that came, and the jobs that
        start at its end."""
        seconds = self._loop.design.harm_block
        begins, ends = index * seconds, (index + 1) * seconds
        if self._monitor is None:
            self._watch(self._loop.control.champion, begins)
        rows = slice(*(int(i) for i in np.searchsorted(self._stream.day, [begins / DAY, ends / DAY])))
        found = [*self._requests(rows), *self._outcomes(begins / DAY, ends / DAY), *self._loop.told]
        self._loop.told = []
        for event in sorted(found, key=lambda event: event.at):
            self._requester.observe(event)
            if isinstance(event, Drift):
                self.drift.append(event)
                self._loop.drift.append(event)
        if self._loop.control.champion != self._monitor.version:
            self._watch(self._loop.control.champion, ends)
        self.store.advance(ends)
        self._requester.consider(self._loop.control)
        for job in self.store.live_jobs:
            answer = self._work(job)
            status = "failed" if answer.error else "completed"
            self.store.put(msgspec.structs.replace(job, status=status, ended_at=ends, answer=answer))

    def _watch(self, version: str, since: float) -> None:
        """A new monitor, against the version's reference where it has one."""
        schema, settings, reference = self._versions.schema, self._config.drift, self._versions.references.get(version)
        baseline, reader = None, ColumnReader(schema)
        if reference is not None and len(reference.honest) >= FEWEST_HONEST:
            baseline = DriftBaseline.fit(version, ReferenceRows.of(reference, reader), reader, settings)
        self._number += 1
        self._loop.drift = []
        self._monitor = ChampionMonitor(
            self._config.experiment, version, since, schema, settings, baseline=baseline, reference=reference
        )

    def _requests(self, rows: slice) -> list[Drift]:
        self._answered[rows] = self._number
        if rows.start == rows.stop:
            return []
        names = [feature.name for feature in self._versions.schema.features]
        outputs = self._outputs(self._monitor.version, rows).tolist()
        facts = zip(self._stream.day[rows].tolist(), self._stream.x[rows].tolist(), outputs, strict=True)
        return self._monitor.observe_requests(
            [
                Prediction(
                    id="",
                    at=day * DAY,
                    experiment=self._config.experiment,
                    unit="",
                    bucket=0,
                    assigned=CHAMPION,
                    served=CHAMPION,
                    allocation=1,
                    champion=self._monitor.version,
                    output=output,
                    features=dict(zip(names, x, strict=True)),
                )
                for day, x, output in facts
            ]
        )

    def _outcomes(self, begins: float, ends: float) -> list[Drift]:
        """The labels that came, of what this monitor's champion answered, in time."""
        stream = self._stream
        came = self._by_seen[slice(*np.searchsorted(self._seen, [begins, ends]))]
        own = stream.known[came] & (self._answered[came] == self._number)
        came = came[own & (stream.seen[came] - stream.day[came] <= self._loop.design.horizon / DAY)]
        if not len(came):
            return []
        whole = slice(int(came.min()), int(came.max()) + 1)
        outputs = self._outputs(self._monitor.version, whole)[came - whole.start]
        return self._monitor.observe_outcomes(
            stream.y[came].tolist(),
            outputs.tolist(),
            loss(self._config.metric, outputs, stream.y[came]).tolist(),
            (stream.seen[came] * DAY).tolist(),
            (stream.day[came] * DAY).tolist(),
        )
