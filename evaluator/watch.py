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
    """Drift of one champion version. Its state is a function of the rows and losses it was given, in their order."""

    def __init__(self, experiment: str, version: str, names: Sequence[str], settings: DriftConfig,
                 reference: dict[str, Any] | None) -> None:  # fmt: skip
        self.version = version
        self._experiment = experiment
        self._names = list(names)
        self._settings = settings
        self._rules = DriftSettings(ks=settings.ks, concept_rise=settings.error_rise)
        self._columns: dict[str, list[Any]] = {name: [] for name in self._names}
        self._errors: list[float] = []
        self._fitted_on: dict[str, Any] | None = None
        self._monitor: Monitor | None = None
        self._given = reference["columns"] if reference is not None else None
        if reference is not None and len(reference["errors"]) >= _FEWEST_ERRORS:
            self._fit(reference["columns"], reference["errors"])

    @classmethod
    def start(cls, experiment: str, version: str, registry: Registry, settings: DriftConfig) -> Watch:
        """The watch of a version as it begins."""
        names = [feature.name for feature in registry.get(version).schema.features]
        return cls(experiment, version, names, settings, registry.reference(version))

    def rows(self, predictions: Sequence[events.Prediction]) -> list[events.Drift]:
        """Take in requests in the order of the log."""
        columns = {name: [p.features.get(name) for p in predictions] for name in self._names}
        if self._monitor is None:
            for name, values in columns.items():
                self._columns[name].extend(values)
            self._learn()
            return []
        return self._events(self._monitor.observe(columns, [p.at for p in predictions]))

    def losses(self, losses: Sequence[float], at: Sequence[float]) -> list[events.Drift]:
        """Take in the champion's matured losses, with the times at which they became known."""
        if self._monitor is None:
            self._errors.extend(losses)
            self._learn()
            return []
        return self._events(self._monitor.observe_errors(losses, at))

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
            "columns": self._columns,
            "errors": self._errors,
            "fitted_on": self._fitted_on,
            "monitor": self._monitor.snapshot() if self._monitor is not None else None,
        }

    def restore(self, data: dict[str, Any]) -> None:
        """Replace the state by a `snapshot` of the same version."""
        self._columns = data["columns"]
        self._errors = data["errors"]
        if self._monitor is None and data["fitted_on"] is not None:
            self._fit(data["fitted_on"]["columns"], data["fitted_on"]["errors"])
            self._fitted_on = data["fitted_on"]
        if self._monitor is not None and data["monitor"] is not None:
            self._monitor.restore(data["monitor"])

    def _learn(self) -> None:
        """Make the first rows served the reference, once there are enough of them and of their losses."""
        enough = self._settings.reference_rows
        first = self._columns[self._names[0]]
        if len(self._errors) < enough or (self._given is None and len(first) < enough):
            if len(first) > 4 * enough:  # outcomes are rare: keep the memory bounded, and the reference recent
                self._columns = {name: values[-2 * enough :] for name, values in self._columns.items()}
            return
        self._fitted_on = {
            "columns": self._given or {name: values[:enough] for name, values in self._columns.items()},
            "errors": self._errors[:enough],
        }
        self._fit(self._fitted_on["columns"], self._fitted_on["errors"])
        self._columns = {name: [] for name in self._names}
        self._errors = []

    def _fit(self, columns: dict[str, Any], errors: list[float]) -> None:
        profile = Profile.fit(
            columns, reference_id=self.version, pane=self._settings.pane, errors=errors or None
        )
        self._monitor = Monitor(profile, self._rules, key=self._experiment)

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
