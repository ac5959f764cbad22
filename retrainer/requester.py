"""The requester: folds events into facts, opens and closes requests as the triggers say, and starts their jobs.

What it learns goes into the store, and the caller commits; repeating it after a crash is harmless.
"""

from __future__ import annotations

import msgspec

from gauntlet.config import Config
from gauntlet.events import Drift, Health
from gauntlet.rollout import Control
from gauntlet.structured_logging import get_logger
from retrainer import ACTOR, alerts
from retrainer.runner import JobRunner
from retrainer.store import RetrainerStore
from retrainer.triggers import causes, requests, schedules
from retrainer.triggers import check as checks
from retrainer.triggers.causes import Cause
from retrainer.triggers.check import TriggerCheck
from retrainer.triggers.conditions import RetrainContext
from retrainer.triggers.facts import fold
from retrainer.triggers.view import View

_log = get_logger("gauntlet.retrainer")


class Requester:
    """One experiment's triggers, on its store; at most one round of jobs runs at a time."""

    def __init__(self, config: Config, store: RetrainerStore, runner: JobRunner) -> None:
        self._experiment = config.experiment
        self._store = store
        self._runner = runner

    def observe(self, event: Health | Drift) -> None:
        """Learn from what the evaluator tells of the champion."""
        self._store.learn(fold(self._store.learned, event))
        if isinstance(event, Drift):
            _log.info(
                "drift_seen",
                step=event.event,
                episode=event.episode,
                severity=event.severity,
                root_cause=event.root_cause,
            )

    def consider(self, control: Control) -> None:
        """Bring the open requests up to date, and ask for every one of them, the most urgent first. Those that are made
        once are forgotten when a round has answered them, or when waiting can't help; the others when their cause is
        gone."""
        view = self._runner.view(control)
        found = causes.find(view, self._runner.settings)
        self._schedule(control, view, found)
        self._after_rollback(control)
        self._remember(view, found)
        self._warn(view.context)
        running, unanswered = view.context.running_job, view.context.unanswered
        for request in requests.by_urgency(self._store.requests):
            if requests.is_answered(request, running, unanswered):
                self._store.close_request(request.key)
                continue
            trigger = self._runner.consider(request, control)
            if trigger.should_retrain:
                self._store.keep(requests.answered(self._store.requests, request))
            elif request.kind in requests.ONCE and not trigger.later:
                self._store.close_request(request.key)

    def check(self, control: Control) -> TriggerCheck:
        """Every trigger and constraint as it is now; nothing is changed."""
        view, settings = self._runner.view(control), self._runner.settings
        found = causes.find(view, settings)
        last = self._store.scheduled or self._store.now or control.began
        clock = causes.by_the_clock(view, settings, last, causes.pace(view, found))
        every = found if clock is None else [*found, clock]
        return checks.check(view.context, settings, every, self._store.requests)

    def _remember(self, view: View, found: list[Cause]) -> None:
        """Keep since when each cause is there, and make requests of those that ask."""
        champion, now = view.context.champion, view.context.now
        since = causes.since(found, view.own.since, now)
        if since != view.own.since:
            own = msgspec.structs.replace(view.own, since=since)
            self._store.learn(self._store.learned.put(champion, own))
        asked = [
            cause.request(champion, since[cause.key]) if cause.met else cause.key
            for cause in found
            if cause.met is not False
        ]
        self._store.keep(requests.after(self._store.requests, asked, self._runner.settings))

    def _schedule(self, control: Control, view: View, found: list[Cause]) -> None:
        """Open a request for what the schedule says is due."""
        schedule, pace = self._runner.settings.schedule, causes.pace(view, found)
        times = schedules.clock_times(schedule)
        last = self._store.scheduled
        if last is None:
            self._store.schedule(last := self._store.now or control.began, times)
        elif times != self._store.clock_times:
            known = self._store.clock_times is not None  # an older release kept none
            last = schedules.counted_from(schedule, last, self._store.now) if known else last
            self._store.schedule(last, times)
        at = schedules.due(schedule, last, self._store.now, pace)
        if at is not None and schedule is not None:
            self._store.schedule(at, times)
            critical = schedule.adaptive is not None and pace == "critical"
            self._store.open_request(requests.scheduled(at, urgent=critical))

    def _after_rollback(self, control: Control) -> None:
        """Ask urgently once a promoted model was taken back by its watch: by the control record, so that a kill between
        that command and the store's commit loses nothing."""
        recent = self._store.now - self._runner.settings.cool_down
        for ended in control.ended:
            own = ended.actor == ACTOR and ended.state == "rolled_back" and ended.at >= recent
            served = (ended.challenger, ended.champion) == (control.previous, control.champion)
            if own and served and ended.id != self._store.learned.taken_back:
                self._store.learn(msgspec.structs.replace(self._store.learned, taken_back=ended.id))
                self._store.open_request(requests.taken_back(ended.id, ended.at, ended.challenger, ended.reason))

    def _warn(self, context: RetrainContext) -> None:
        """Raise the alert of bad data, once while it lasts."""
        block = self._runner.settings.triggers.quality.block
        low = context.quality is not None and context.quality < block
        if low and not self._store.learned.warned:
            text = f"the requests' quality is {context.quality:.4g}, below {block:g}: no job starts"
            self._store.alert(alerts.alert("data_quality_low", context.now, self._experiment, text))
        self._store.learn(msgspec.structs.replace(self._store.learned, warned=low))
