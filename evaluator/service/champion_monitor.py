"""The watch over the champion: drift of its inputs, answers, outcomes and errors.

Each champion has its own baseline: fitted once to what the registry keeps with the version, and kept there, else to
the first rows that it served. A new champion is a new watch.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from evaluator.drift import DriftEvent, Monitor
from evaluator.service.drift_baseline import FEWEST_HONEST, ColumnReader, DriftBaseline, Output, ReferenceRows
from gauntlet import events
from gauntlet.config.drift import DriftConfig
from gauntlet.registry import Reference, Registry
from gauntlet.registry.artifact import Schema

_log = logging.getLogger("gauntlet.evaluator")

_FORMAT = 2
"""Of a snapshot."""
_STRANGE = (OSError, EOFError, zlib.error, msgspec.MsgspecError, ValueError, KeyError, TypeError)
"""What a damaged file, or a profile of another release, may raise."""


def asked(settings: DriftConfig) -> dict[str, Any]:
    """The settings under which rows are counted: state and profile of others can't be gone on with."""
    return {"pane": settings.pane, "season": settings.season, "regimes": settings.regimes}


class ChampionMonitor:
    """Drift of one champion version. Its state is a function of the rows and outcomes it was given, in their order.

    `since`, the event time of its first row, tells two watches of one version apart: after a rollback the old champion
    is watched anew, and what is said about it then is news.
    """

    def __init__(
        self,
        experiment: str,
        version: str,
        since: float,
        schema: Schema,
        settings: DriftConfig,
        *,
        baseline: DriftBaseline | None = None,
        reference: Reference | None = None,
    ) -> None:
        """`baseline`: what was fitted to the version's reference, if that has honest answers enough; else `reference`
        gives the rows alone."""
        self.version = version
        self.since = since
        self._experiment = experiment
        self._settings = settings
        self._columns = ColumnReader(schema)
        self._given = None if reference is None else ReferenceRows.of(reference, self._columns)
        self._first: dict[str, list[Any]] = {name: [] for name in (*self._columns.names, self._columns.prediction)}
        self._first_at: list[float] = []
        self._answers: list[Any] = []
        self._truths: list[Any] = []
        self._losses: list[float] = []
        self._learned = False
        self._baseline: DriftBaseline | None = None
        self._monitor: Monitor | None = None
        if baseline is not None:
            self._judge_by(baseline)

    @classmethod
    def start(
        cls, experiment: str, version: str, since: float, registry: Registry, settings: DriftConfig
    ) -> ChampionMonitor:
        """The watch of a version as it begins; what is fitted to its reference is kept in the registry."""
        schema, reference = registry.get(version).schema, registry.reference(version)
        if reference is None or len(reference.honest) < FEWEST_HONEST:
            return cls(experiment, version, since, schema, settings, reference=reference)
        try:
            kept = registry.profile(version)
            if kept is not None and kept.get("asked") == asked(settings):
                return cls(experiment, version, since, schema, settings, baseline=DriftBaseline.from_dict(kept))
        except _STRANGE as error:
            _log.warning("the kept profile of %s can't be used and is fitted anew: %s", version, error)
        columns = ColumnReader(schema)
        fitted = DriftBaseline.fit(version, ReferenceRows.of(reference, columns), columns, settings)
        try:
            registry.keep_profile(version, {"asked": asked(settings), **fitted.to_dict()})
        except OSError as error:  # it is fitted again next time
            _log.warning("the profile of %s can't be kept: %s", version, error)
        return cls(experiment, version, since, schema, settings, baseline=fitted)

    def rows(self, predictions: Sequence[events.Prediction]) -> list[events.Drift]:
        """Take in requests that the champion answered, in the order of the log."""
        done = 0
        while self._monitor is None and done < len(predictions):
            done += self._keep(predictions[done : done + self._room()])
        if self._monitor is None or self._baseline is None or done == len(predictions):
            return []
        rest = predictions[done:]
        at = [p.at for p in rest]
        return self._events(self._monitor.observe(self._baseline.adjusted(self._columns.table(rest), at), at))

    def outcomes(
        self,
        truths: Sequence[float],
        outputs: Sequence[Output | None],
        losses: Sequence[float],
        at: Sequence[float],
        made: Sequence[float],
    ) -> list[events.Drift]:
        """Take in matured outcomes of the champion's answers, with the times `at` which they became known.

        truths: class indices or numbers. losses: of the primary metric. made: the times of the requests.
        """
        answers, known = [self._columns.said(o) for o in outputs], [self._columns.truth(t) for t in truths]
        done = 0
        if self._monitor is None:
            done = max(0, self._settings.reference_rows - len(self._losses))
            self._answers += answers[:done]
            self._truths += known[:done]
            self._losses += losses[:done]
            self._learn()
        if self._monitor is None or done >= len(losses):
            return []
        return self._events(
            self._monitor.observe_outcomes(
                known[done:], answers[done:], at[done:], losses=losses[done:], made=made[done:]
            )
        )

    @property
    def severity(self) -> str:
        return str(self._monitor.severity.name) if self._monitor is not None else "NONE"

    @property
    def quality(self) -> float | None:
        """The latest rows' quality, 1 as in the reference; None while the shortest window is not full."""
        return self._monitor.quality(self._monitor.profile.windows[0]) if self._monitor is not None else None

    @property
    def accepted(self) -> bool:
        """Whether columns may be like a second, accepted reference."""
        return self._monitor is not None and self._monitor.accepted

    def scores(self) -> dict[str, float]:
        """Distance of each feature's window from its reference, and of the answers'; empty while it is not full."""
        return self._monitor.scores() if self._monitor is not None else {}

    def rises(self) -> dict[int, float]:
        """Relative rise of the champion's mean loss over the reference's, on each window of outcomes that is full."""
        return self._monitor.error_rise() if self._monitor is not None else {}

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON-able values; a baseline that is in the registry is not repeated."""
        return {
            "format": _FORMAT,
            "version": self.version,
            "since": self.since,
            "asked": asked(self._settings),
            "first": {name: list(values) for name, values in self._first.items()},
            "first_at": list(self._first_at),
            "answers": list(self._answers),
            "truths": list(self._truths),
            "losses": list(self._losses),
            "learned": self._baseline.to_dict() if self._learned and self._baseline is not None else None,
            "monitor": self._monitor.snapshot() if self._monitor is not None else None,
        }

    def restore(self, data: dict[str, Any]) -> bool:
        """Replace the state by a `snapshot` of the same watch; False, and nothing done, where it was taken by another
        release or under settings that change what is counted: then only a new watch can go on."""
        if data.get("format") != _FORMAT or data["asked"] != asked(self._settings):
            return False
        learned = data["learned"]
        try:
            baseline = self._baseline if learned is None else DriftBaseline.from_dict(learned)
        except _STRANGE:
            return False
        counted_by = None if data["monitor"] is None else data["monitor"]["profile"]
        if counted_by != (None if baseline is None else baseline.profile.hash):
            return False
        self._first = {name: list(values) for name, values in data["first"].items()}
        self._first_at = list(data["first_at"])
        self._answers, self._truths = list(data["answers"]), list(data["truths"])
        self._losses = list(data["losses"])
        self._learned = learned is not None
        if baseline is not None:
            self._judge_by(baseline).restore(data["monitor"])
        return True

    def _room(self) -> int:
        """Rows to the next size at which something is done with those kept, so that batches make no difference."""
        kept, enough = len(self._first_at), self._settings.reference_rows
        if self._given is not None:
            return enough  # none is kept: the reference has its rows, and waits for outcomes
        return enough - kept if kept < enough else 4 * enough + 1 - kept

    def _keep(self, predictions: Sequence[events.Prediction]) -> int:
        if self._given is None:
            for name, values in self._columns.table(predictions).items():
                self._first[name].extend(values)
            self._first_at.extend(p.at for p in predictions)
            self._learn()
        return len(predictions)

    def _learn(self) -> None:
        """Make the first rows served the baseline, once there are enough of them and of their outcomes."""
        enough = self._settings.reference_rows
        if len(self._losses) < enough or (self._given is None and len(self._first_at) < enough):
            if len(self._first_at) > 4 * enough:  # outcomes are rare: keep the memory bounded, the reference recent
                self._first = {name: values[-2 * enough :] for name, values in self._first.items()}
                self._first_at = self._first_at[-2 * enough :]
            return
        rows = self._given
        columns = {name: values[:enough] for name, values in self._first.items()} if rows is None else rows.columns
        at = self._first_at[:enough] if rows is None else rows.at
        usual = ReferenceRows(columns, at, self._answers, self._truths, self._losses)
        self._learned = True
        self._judge_by(DriftBaseline.fit(self.version, usual, self._columns, self._settings))
        self._first = {name: [] for name in self._first}
        self._first_at, self._answers, self._truths, self._losses = [], [], [], []

    def _judge_by(self, baseline: DriftBaseline) -> Monitor:
        self._baseline = baseline
        self._monitor = baseline.monitor(self._settings, f"{self._experiment}/{self.since!r}")
        return self._monitor

    def _events(self, found: Sequence[DriftEvent]) -> list[events.Drift]:
        return [
            events.Drift(
                id=e.id,
                at=e.at,
                experiment=self._experiment,
                episode=e.episode,
                event=e.event,
                severity=e.severity,
                confidence=e.confidence,
                root_cause=e.root_cause,
                action=e.action,
                model=self.version,
                rows=e.rows,
                quality=next((1.0 - s.statistic for s in e.signals if s.kind == "quality"), None),
                features=[
                    events.DriftSignal(
                        name=f.feature, statistic=f.statistic, lower=f.lower, upper=f.upper, p_value=f.p_value
                    )
                    for f in e.features
                ],
                signals=[f"{s.kind} {s.feature} {s.statistic:.3g}, threshold {s.threshold:.3g}" for s in e.signals],
            )
            for e in found
        ]
