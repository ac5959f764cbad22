"""The requester: folds events into facts, opens and closes requests as the triggers say, and asks for their jobs.

What it learns goes into the store, and the caller commits; repeating it after a crash does no harm.
"""

from __future__ import annotations

import msgspec

from gauntlet.config import Config
from gauntlet.errors import GauntletError
from gauntlet.events import Drift, Health
from gauntlet.registry import ModelStore
from gauntlet.rollout import Control
from gauntlet.structured_logging import get_logger
from retrainer import alerts, causes, requests, schedules
from retrainer import check as checks
from retrainer.causes import Cause
from retrainer.check import Check
from retrainer.constraints import RetrainContext, judge
from retrainer.facts import fold
from retrainer.runner import JobRunner
from retrainer.store import RetrainerStore
from retrainer.view import Training, View

_log = get_logger("gauntlet.retrainer")

_QUALITY = "data_quality_low"


class Requester:
    """One experiment's triggers, on its store; at most one round of jobs runs at a time."""

    def __init__(self, config: Config, registry: ModelStore, store: RetrainerStore, runner: JobRunner) -> None:
        self._config = config
        self._registry = registry
        self._store = store
        self._runner = runner
        self._training: dict[str, Training] = {}
        self._refused: dict[str, list[str]] = {}

    def observe(self, event: Health | Drift) -> None:
        """Learn from what the evaluator tells of the champion."""
        self._store.learn(fold(self._store.facts, event))
        if isinstance(event, Drift):
            _log.info(
                "drift_seen",
                step=event.event,
                episode=event.episode,
                severity=event.severity,
                root_cause=event.root_cause,
            )

    def consider(self, control: Control) -> None:
        """Bring the open requests up to date, and ask for every one of them, the most urgent first. A person's and the
        schedule's are forgotten when waiting can't help; the others when their cause is gone."""
        settings, view = self._config.retrain, self._view(control)
        found = causes.find(view, settings)
        self._remember(view, found)
        self._schedule(control, view, found)
        self._warn(view.context)
        for request in requests.by_urgency(self._store.requests):
            judgement = judge(request, self._context(control), settings)
            names = [c.name for c in judgement.obstacles]
            if judgement.starts:
                self._runner.create(request, judgement, view.context)
                self._store.keep(requests.answered(self._store.requests, request))
            elif names != self._refused.get(request.key):
                _log.info(
                    "retraining_refused",
                    request=request.id,
                    reasons="; ".join(judgement.refusals),
                    next="asked again as time passes" if judgement.later else "it will not start",
                )
            self._refused[request.key] = names
            if request.kind in requests.ONCE and not judgement.starts and not judgement.later:
                self._store.close_request(request.key)

    def check(self, control: Control) -> Check:
        """Every trigger and constraint as it is now; nothing is changed."""
        view, settings = self._view(control), self._config.retrain
        return checks.check(view.context, settings, causes.find(view, settings), self._store.requests)

    def _context(self, control: Control) -> RetrainContext:
        return self._view(control).context

    def _view(self, control: Control) -> View:
        view = View(
            own=self._store.facts.of(control.champion),
            labelled=self._store.facts.labelled,
            training=self._trained(control),
            context=self._runner.context(control),
            task=self._config.task,
            horizon=float(self._config.evidence.outcome_horizon),
        )
        known = msgspec.structs.replace(view.context, new_samples=view.new_samples, quality=view.quality)
        return msgspec.structs.replace(view, context=known)

    def _trained(self, control: Control) -> Training:
        """What the registry has of the champion's training; the experiment's begin stands for what is not known."""
        champion = control.champion
        if champion not in self._training:
            try:
                version = self._registry.get(champion)
            except (GauntletError, OSError):
                return Training(at=control.began, to=control.began)  # told by whoever needs the model; asked again
            self._training[champion] = Training(
                at=version.data_to or control.began,
                to=version.data_to or control.began,
                rows=version.rows,
                metrics=version.metrics,
            )
        return self._training[champion]

    def _remember(self, view: View, found: list[Cause]) -> None:
        """Keep since when each cause is there, and make requests of those that ask."""
        champion, now = view.context.champion, view.context.now
        since = causes.since(found, view.own.since, now)
        if since != view.own.since:
            own = msgspec.structs.replace(view.own, since=since)
            self._store.learn(self._store.facts.put(champion, own))
        asked = [
            cause.request(champion, since[cause.key]) if cause.met else cause.key
            for cause in found
            if cause.met is not False
        ]
        self._store.keep(requests.after(self._store.requests, asked, self._config.retrain))

    def _schedule(self, control: Control, view: View, found: list[Cause]) -> None:
        """Open a request for what the schedule says is due."""
        if self._store.scheduled is None:
            self._store.schedule(self._store.now or control.began)
        schedule, pace = self._config.retrain.schedule, causes.pace(view, found)
        at = schedules.due(schedule, self._store.scheduled or 0.0, self._store.now, pace)
        if at is not None and schedule is not None:
            self._store.schedule(at)
            self._store.open_request(requests.scheduled(at, schedule.mode, urgent=schedule.adaptive and pace == "critical"))

    def _warn(self, context: RetrainContext) -> None:
        """Raise the alert of bad data once while it lasts."""
        block = self._config.retrain.triggers.quality.block
        low = context.quality is not None and context.quality < block
        if low and not self._store.warned:
            text = f"the requests' quality is {context.quality:.4g}, below {block:g}: no job starts"
            self._store.alert(alerts.alert(_QUALITY, context.now, self._config.experiment, text))
        self._store.warn(low)
