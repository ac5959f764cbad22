"""The watch over the champion: drift of its inputs and errors, and its health block by block.

Each champion has its own reference: what the registry keeps with the version, else the first rows that it served. A new
champion is a new watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluator.drift.episode import DriftEvent
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings
from gauntlet import events
from gauntlet.config import DriftConfig
from gauntlet.registry import Registry

_FEWEST_ERRORS = 30  # of a reference; with fewer the champion's usual error is learned from its first live outcomes


class Watch:
    """Drift of one champion version. Its state is a function of the rows and losses it was given, in their order.

    `since`, the event time of its first row, tells two watches of one version apart: after a rollback the old champion
    is watched anew, and what is said about it then is news.
    """

    def __init__(self, experiment: str, version: str, since: float, names: Sequence[str], settings: DriftConfig,
                 reference: dict[str, Any] | None) -> None:  # fmt: skip
        self.version = version
        self.since = since
        self._experiment = experiment
        self._names = list(names)
        self._settings = settings
        self._rules = DriftSettings(ks=settings.ks, concept_rise=settings.error_rise)
        self._columns: dict[str, list[Any]] = {name: [] for name in self._names}
        self._errors: list[float] = []
        self._learned: Profile | None = None
        self._monitor: Monitor | None = None
        self._given = reference["columns"] if reference is not None else None
        if reference is not None and len(reference["errors"]) >= _FEWEST_ERRORS:
            self._judge_by(self._fit(reference["columns"], reference["errors"]))

    @classmethod
    def start(cls, experiment: str, version: str, since: float, registry: Registry, settings: DriftConfig) -> Watch:
        """The watch of a version as it begins."""
        names = [feature.name for feature in registry.get(version).schema.features]
        return cls(experiment, version, since, names, settings, registry.reference(version))

    def rows(self, predictions: Sequence[events.Prediction]) -> list[events.Drift]:
        """Take in requests in the order of the log."""
        done = 0
        while self._monitor is None and done < len(predictions):
            done += self._keep(predictions[done : done + self._room()])
        if self._monitor is None or done == len(predictions):
            return []
        rest = predictions[done:]
        return self._events(self._monitor.observe(self._table(rest), [p.at for p in rest]))

    def losses(self, losses: Sequence[float], at: Sequence[float]) -> list[events.Drift]:
        """Take in the champion's matured losses, with the times at which they became known."""
        done = 0
        if self._monitor is None:
            done = max(0, self._settings.reference_rows - len(self._errors))
            self._errors.extend(losses[:done])
            self._learn()
        if self._monitor is None or done >= len(losses):
            return []
        return self._events(self._monitor.observe_errors(losses[done:], at[done:]))

    @property
    def severity(self) -> str:
        return str(self._monitor.severity.name) if self._monitor is not None else "NONE"

    def scores(self) -> dict[str, float]:
        """Distance of each feature's window from its reference; empty while the window is not full."""
        return self._monitor.scores() if self._monitor is not None else {}

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON-able values; a reference that came from the registry is not repeated."""
        return {
            "version": self.version,
            "since": self.since,
            "columns": {name: list(values) for name, values in self._columns.items()},
            "errors": list(self._errors),
            "learned": self._learned.to_dict() if self._learned is not None else None,
            "monitor": self._monitor.snapshot() if self._monitor is not None else None,
        }

    def restore(self, data: dict[str, Any]) -> None:
        """Replace the state by a `snapshot` of the same watch."""
        self._columns = {name: list(values) for name, values in data["columns"].items()}
        self._errors = list(data["errors"])
        if data["learned"] is not None:
            self._learned = Profile.from_dict(data["learned"])
            self._judge_by(self._learned)
        if self._monitor is not None and data["monitor"] is not None:
            self._monitor.restore(data["monitor"])

    def _table(self, predictions: Sequence[events.Prediction]) -> dict[str, list[Any]]:
        return {name: [p.features.get(name) for p in predictions] for name in self._names}

    def _room(self) -> int:
        """Rows to the next size at which something is done with those kept, so that batches make no difference."""
        kept, enough = len(self._columns[self._names[0]]), self._settings.reference_rows
        return enough - kept if kept < enough else 4 * enough + 1 - kept

    def _keep(self, predictions: Sequence[events.Prediction]) -> int:
        for name, values in self._table(predictions).items():
            self._columns[name].extend(values)
        self._learn()
        return len(predictions)

    def _learn(self) -> None:
        """Make the first rows served the reference, once there are enough of them and of their losses."""
        enough = self._settings.reference_rows
        first = self._columns[self._names[0]]
        if len(self._errors) < enough or (self._given is None and len(first) < enough):
            if len(first) > 4 * enough:  # outcomes are rare: keep the memory bounded, and the reference recent
                self._columns = {name: values[-2 * enough :] for name, values in self._columns.items()}
            return
        columns = self._given or {name: values[:enough] for name, values in self._columns.items()}
        self._learned = self._fit(columns, self._errors)
        self._judge_by(self._learned)
        self._columns = {name: [] for name in self._names}
        self._errors = []

    def _fit(self, columns: dict[str, Any], errors: list[float]) -> Profile:
        return Profile.fit(columns, reference_id=self.version, pane=self._settings.pane, errors=errors)

    def _judge_by(self, profile: Profile) -> None:
        self._monitor = Monitor(profile, self._rules, key=f"{self._experiment}/{self.since!r}")

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
