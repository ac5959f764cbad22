"""Drift monitor of one champion version: its inputs, predictions, outcomes and errors.

Each version has its own baseline, fitted once to the reference that the registry keeps with it, and kept there. A
version without a reference learns its baseline from the first rows that it serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluator.drift import DriftEvent, Monitor
from evaluator.drift.feature import UNSHOWN
from evaluator.drift.signals import Signal
from evaluator.drift.spelling_variants import Respelt, RespeltValues
from evaluator.service.drift_baseline import FEWEST_HONEST, ColumnReader, DriftBaseline, Output, ReferenceRows
from gauntlet import events
from gauntlet.config.drift import DriftConfig
from gauntlet.errors import DamagedFile
from gauntlet.registry import Reference, Registry
from gauntlet.registry.artifact import Schema
from gauntlet.spelling import folded
from gauntlet.structured_logging import get_logger
from gauntlet.types import Severity

_log = get_logger("gauntlet.evaluator")

_UNREADABLE = (DamagedFile, ValueError, KeyError, TypeError)
"""Errors of a damaged file, or of a profile or a state by another release."""


def counting_settings(settings: DriftConfig) -> dict[str, Any]:
    """Settings that determine how rows are counted: a snapshot or profile made with other values is incompatible."""
    return {"pane": settings.pane, "season": settings.season, "regimes": settings.regimes}


class ChampionMonitor:
    """Drift of one champion version. Its state is a function of the rows and outcomes it was given, in their order.

    `since`, the event time of its first row, tells two monitors of one version apart: after a rollback the old champion
    gets a new one, and its events are news.
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
        """`baseline`: fitted to the version's reference, if that has enough honest predictions; else `reference` gives
        the rows alone, and predictions with their truths are learned."""
        self.version = version
        self.since = since
        self._experiment = experiment
        self._settings = settings
        self._reader = ColumnReader(schema)
        self._reference = None if reference is None else ReferenceRows.of(reference, self._reader)
        self._first: dict[str, list[Any]] = {name: [] for name in (*self._reader.names, self._reader.prediction)}
        self._first_at: list[float] = []
        self._predictions: list[Any] = []
        self._truths: list[Any] = []
        self._losses: list[float] = []
        self._learned = False
        self._baseline: DriftBaseline | None = None
        self._monitor: Monitor | None = None
        self._respelt: RespeltValues | None = None
        if baseline is not None:
            self._use(baseline)

    @classmethod
    def start(
        cls, experiment: str, version: str, since: float, registry: Registry, settings: DriftConfig
    ) -> ChampionMonitor:
        """A version's monitor as it begins; what is fitted to its reference is kept in the registry."""
        schema, reference = registry.get(version).schema, registry.reference(version)
        if reference is None or len(reference.honest) < FEWEST_HONEST:
            return cls(experiment, version, since, schema, settings, reference=reference)
        try:
            kept = registry.profile(version)
            if kept is not None and kept.get("settings") == counting_settings(settings):
                return cls(experiment, version, since, schema, settings, baseline=DriftBaseline.from_dict(kept))
        except _UNREADABLE as error:
            _log.warning("profile_unusable", version=version, error=error, next="fitted anew")
        reader = ColumnReader(schema)
        fitted = DriftBaseline.fit(version, ReferenceRows.of(reference, reader), reader, settings)
        try:
            registry.keep_profile(version, {"settings": counting_settings(settings), **fitted.to_dict()})
        except OSError as error:
            _log.warning("profile_not_kept", version=version, error=error, next="fitted again at the next start")
        return cls(experiment, version, since, schema, settings, baseline=fitted)

    def observe_requests(self, predictions: Sequence[events.Prediction]) -> list[events.Drift]:
        """Take in requests that the champion answered, in the order of the log."""
        done = 0
        while self._monitor is None and done < len(predictions):
            done += self._keep(predictions[done : done + self._room()])
        if self._monitor is None or self._baseline is None or self._respelt is None or done == len(predictions):
            return []
        rest = predictions[done:]
        at = [p.at for p in rest]
        columns = self._baseline.adjusted(self._reader.columns(rest), at)
        self._respelt.add(columns)
        return self._events(self._monitor.observe(columns, at))

    def observe_outcomes(
        self,
        truths: Sequence[float],
        outputs: Sequence[Output | None],
        losses: Sequence[float],
        at: Sequence[float],
        made: Sequence[float],
    ) -> list[events.Drift]:
        """Take in matured outcomes of the champion's predictions, with the times `at` which they became known.

        truths: class indices or numbers. losses: of the primary metric. made: the times of the requests.
        """
        predictions, known = [self._reader.value(o) for o in outputs], [self._reader.target(t) for t in truths]
        done = 0
        if self._monitor is None:
            done = max(0, self._settings.reference_rows - len(self._losses))
            self._predictions += predictions[:done]
            self._truths += known[:done]
            self._losses += losses[:done]
            self._learn()
        if self._monitor is None or done >= len(losses):
            return []
        rest = slice(done, None)
        return self._events(
            self._monitor.observe_outcomes(
                known[rest], predictions[rest], at[rest], losses=losses[rest], made=made[rest]
            )
        )

    @property
    def severity(self) -> Severity | None:
        """None while there is no baseline to judge by."""
        return self._monitor.severity if self._monitor is not None else None

    @property
    def waits(self) -> str | None:
        """What is still needed before anything can be judged, in words; None once there is a baseline."""
        if self._monitor is not None:
            return None
        enough = self._settings.reference_rows
        outcomes = f"{len(self._losses):,} of {enough:,} outcomes"
        if self._reference is not None:
            return f"its reference has too few honest predictions, and {outcomes} of its own are in"
        rows = min(len(self._first_at), enough)
        return f"it has no reference, and of its first traffic {rows:,} of {enough:,} rows and {outcomes} are in"

    @property
    def quality(self) -> float | None:
        """The latest rows' quality, 1 as in the reference; None while the shortest window is not full."""
        return self._monitor.quality(self._monitor.profile.windows[0]) if self._monitor is not None else None

    @property
    def respelt(self) -> list[Respelt]:
        """Columns whose latest values the reference spells otherwise."""
        return [] if self._respelt is None else self._respelt.found()

    @property
    def rare(self) -> list[tuple[str, float]]:
        """Columns of texts of which so many are rare that a shift among those would not show, each with their share."""
        features = () if self._baseline is None else self._baseline.profile.features
        return [(one.name, one.rare) for one in features if one.rare >= UNSHOWN]

    @property
    def accepted(self) -> bool:
        """Whether columns may be like a second, accepted reference."""
        return self._monitor is not None and self._monitor.accepted

    def scores(self) -> dict[str, float]:
        """Distance of each feature's window from its reference, and the predictions'; empty while it is not full."""
        return self._monitor.scores() if self._monitor is not None else {}

    def rises(self) -> dict[int, float]:
        """Relative rise of the champion's mean loss over the reference's, on each window of outcomes that is full."""
        return self._monitor.error_rise() if self._monitor is not None else {}

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON-able values, without a baseline that is in the registry."""
        return {
            "version": self.version,
            "since": self.since,
            "settings": counting_settings(self._settings),
            "first": {name: list(values) for name, values in self._first.items()},
            "first_at": list(self._first_at),
            "predictions": list(self._predictions),
            "truths": list(self._truths),
            "losses": list(self._losses),
            "learned": self._baseline.to_dict() if self._learned and self._baseline is not None else None,
            "monitor": self._monitor.snapshot() if self._monitor is not None else None,
            "respelt": self._respelt.snapshot() if self._respelt is not None else None,
        }

    def restore(self, data: dict[str, Any]) -> bool:
        """Replace the state by a `snapshot` of the same monitor; False, and nothing done, where it was taken by another
        release or under settings that change what is counted: then only a new monitor can go on."""
        if data["settings"] != counting_settings(self._settings):
            return False
        learned = data["learned"]
        try:
            baseline = self._baseline if learned is None else DriftBaseline.from_dict(learned)
        except _UNREADABLE:
            return False
        counted_by = None if data["monitor"] is None else data["monitor"]["profile"]
        if counted_by != (None if baseline is None else baseline.profile.hash):
            return False
        before = self._baseline, self._respelt, self._monitor
        try:
            if baseline is not None:
                self._use(baseline).restore(data["monitor"])
        except _UNREADABLE:
            self._baseline, self._respelt, self._monitor = before
            return False
        if self._respelt is not None and data.get("respelt") is not None:  # an older release kept none
            self._respelt.restore(data["respelt"])
        self._first = {name: list(values) for name, values in data["first"].items()}
        self._first_at = list(data["first_at"])
        self._predictions, self._truths = list(data["predictions"]), list(data["truths"])
        self._losses = list(data["losses"])
        self._learned = learned is not None
        return True

    def _room(self) -> int:
        """Rows to the next size at which something is done with those kept, so that batches make no difference."""
        kept, enough = len(self._first_at), self._settings.reference_rows
        if self._reference is not None:
            return enough  # none is kept: the reference has its rows, and waits for outcomes
        return enough - kept if kept < enough else 4 * enough + 1 - kept

    def _keep(self, predictions: Sequence[events.Prediction]) -> int:
        if self._reference is None:
            for name, values in self._reader.columns(predictions).items():
                self._first[name].extend(values)
            self._first_at.extend(p.at for p in predictions)
            self._learn()
        return len(predictions)

    def _learn(self) -> None:
        """Fit the baseline to the first rows served, once there are enough of them and of their outcomes."""
        enough = self._settings.reference_rows
        if len(self._losses) < enough or (self._reference is None and len(self._first_at) < enough):
            if len(self._first_at) > 4 * enough:  # outcomes are rare: keep the memory bounded, the reference recent
                self._first = {name: values[-2 * enough :] for name, values in self._first.items()}
                self._first_at = self._first_at[-2 * enough :]
            return
        rows = self._reference
        columns = {name: values[:enough] for name, values in self._first.items()} if rows is None else rows.columns
        at = self._first_at[:enough] if rows is None else rows.at
        learned = ReferenceRows(columns, at, self._predictions, self._truths, self._losses)
        self._learned = True
        self._use(DriftBaseline.fit(self.version, learned, self._reader, self._settings))
        self._first = {name: [] for name in self._first}
        self._first_at, self._predictions, self._truths, self._losses = [], [], [], []

    def _use(self, baseline: DriftBaseline) -> Monitor:
        self._baseline = baseline
        self._respelt = RespeltValues(baseline.profile, folded, latest=True)
        self._monitor = baseline.monitor(self._settings, f"{self._experiment}/{self.since!r}")
        return self._monitor

    def _events(self, found: Sequence[DriftEvent]) -> list[events.Drift]:
        return [self._event(event) for event in found]

    def _event(self, event: DriftEvent) -> events.Drift:
        return events.Drift(
            id=event.id,
            at=event.at,
            experiment=self._experiment,
            episode=event.episode,
            event=event.event,
            severity=event.severity,
            confidence=event.confidence,
            root_cause=event.root_cause,
            action=event.action,
            model=self.version,
            rows=event.rows,
            quality=next((1.0 - s.statistic for s in event.signals if s.kind == "quality"), None),
            features=[_signal(signal) for signal in event.features],
            signals=[f"{s.kind} {s.feature} {s.statistic:.3g}, threshold {s.threshold:.3g}" for s in event.signals],
            raised=[_signal(signal) for signal in event.signals],
        )


def _signal(signal: Signal) -> events.DriftSignal:
    return events.DriftSignal(
        name=signal.feature,
        statistic=signal.statistic,
        lower=signal.lower,
        upper=signal.upper,
        p_value=signal.p_value,
        kind=signal.kind,
    )
