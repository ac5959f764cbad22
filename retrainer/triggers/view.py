"""All that the triggers look at, in one value, and the facts that users' rules name. Pure."""

from __future__ import annotations

import math

import msgspec

from gauntlet.config import RetrainConfig
from gauntlet.config.triggers import PerformanceTrigger
from gauntlet.types import Task
from retrainer.triggers import facts
from retrainer.triggers.conditions import RetrainContext
from retrainer.triggers.facts import ChampionFacts, Estimate

_DAY, _HOUR = 86_400.0, 3_600.0


class ChampionTraining(msgspec.Struct, frozen=True, kw_only=True):
    """What the champion was trained on: the time of its training and that of its newest row, its rows, and its figures
    on the holdout. Unknown where it was handed in without them."""

    at: float
    to: float
    rows: int = 0
    metrics: dict[str, float] = {}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that the triggers look at: the champion's facts, its training, the context, and what the task is."""

    own: ChampionFacts
    labelled: list[tuple[float, int]]
    training: ChampionTraining
    context: RetrainContext
    task: Task
    horizon: float
    baselines: dict[str, float] = {}
    """Those that somebody has set."""
    live_quality: float | None = None
    """The champion's latest requests' score, as the evaluator reports it at all times."""
    began: float = -math.inf
    """When the experiment did."""
    speed: float = 1.0
    """How much faster than in production time passes: a rehearsal's days and hours are the shorter ones."""

    @property
    def new_samples(self) -> int | None:
        """Labelled rows since those of the champion's training; None before any was counted."""
        if not self.labelled:
            return None
        return sum(rows for at, rows in self.labelled if at - self.horizon > self.training.to)

    def left_to_train(self, settings: RetrainConfig) -> int | None:
        """Labelled rows that a job would train on, older than those held out; of the recipe with the fewest. None
        where a loader has more, and before any was counted of an experiment that is old enough to have some."""
        newest = self.context.now - settings.validation - settings.test  # a block's rows are older than itself
        if settings.loader is not None or not (self.labelled or newest < self.began):
            return None
        windows = [settings.window if one.window is None else one.window for one in settings.all_recipes]
        begins = [self.context.now - float(window) if window else -math.inf for window in windows]
        return min(sum(rows for at, rows in self.labelled if begin < at <= newest) for begin in begins)

    def trainable_in(self, settings: RetrainConfig) -> float | None:
        """Seconds until enough labelled rows are older than those held out, if they go on coming as they did; None
        where that can't be told. Without any row yet it is the least."""
        left, least = self.left_to_train(settings), settings.min_data_points
        if left is None or left >= least:
            return None
        held_out, now = float(settings.validation + settings.test), self.context.now
        rows = sum(count for _, count in self.labelled)
        if not rows:
            return self.began + held_out - now if self.began <= now else None
        (first, _), (last, _) = self.labelled[0], self.labelled[-1]
        shortest = min(float(settings.window if one.window is None else one.window) for one in settings.all_recipes)
        if 0.0 < shortest < now - first:  # rows leave the window as others come into it
            return None
        counted = 0
        for at, count in self.labelled:
            counted += count
            if counted >= least:
                return max(0.0, at + held_out - now)
        return max(0.0, last + (least - rows) * max(0.0, last - min(first, self.began)) / rows + held_out - now)

    @property
    def quality(self) -> float | None:
        """The score of the requests' quality: of the open episode where quality is a part of it, else of the latest
        requests; None while the evaluator can't judge it."""
        episode = self.own.episode
        shown = episode.quality if episode is not None else None
        return self.live_quality if shown is None else shown

    def estimate(self, metric: str, settings: PerformanceTrigger) -> Estimate | None:
        blocks = facts.latest(self.own.blocks, self.context.now, settings.window)
        enough = sum(block.outcomes for block in blocks) >= settings.min_outcomes
        return facts.estimate(blocks, metric, settings.confidence) if enough else None

    def baseline(self, metric: str, settings: PerformanceTrigger) -> tuple[float, str] | None:
        """What the champion is held against in `metric`, and where that is from: what somebody has set, what it showed
        on its holdout, or else in its own first outcomes. None while there is none."""
        if metric in self.baselines:
            return self.baselines[metric], "as set"
        if metric in self.training.metrics:
            return self.training.metrics[metric], "of its holdout"
        found = facts.learned(self.own, metric, settings.min_outcomes)
        return None if found is None else (found[0], f"of its first {found[1]:,} outcomes")


def loss_beyond(metric: str, base: float, found: Estimate) -> float | None:
    """How much worse than the baseline `found` is shown to be: accuracy absolutely, RMSE relatively. None where the
    estimate has no limit on that side."""
    if metric == "accuracy":
        return None if found.upper is None else base - found.upper
    return None if found.lower is None or base <= 0 else found.lower / base - 1


def named(view: View, limits: PerformanceTrigger) -> dict[str, float | None]:
    """The facts that rules name (`gauntlet.config.rules.FACTS`); None where they are not known."""
    own, context = view.own, view.context
    known: dict[str, float | None] = {}
    for metric in ("accuracy", "log_loss", "brier", "rmse", "mae"):
        found = view.estimate(metric, limits)
        known[metric] = found.value if found else None
    for metric, name in (("accuracy", "accuracy_fall"), ("rmse", "rmse_rise")):
        base, value = view.baseline(metric, limits), known[metric]
        point = None if value is None else Estimate(value=value, lower=value, upper=value)
        known[name] = None if base is None or point is None else loss_beyond(metric, base[0], point)
    blocks = facts.latest(own.blocks, context.now, limits.window)
    episode, nothing = own.episode, 0.0 if own.heard else None
    new = view.new_samples
    return known | {
        "outcomes": float(sum(block.outcomes for block in blocks)) if own.heard else None,
        "data_quality": view.quality,
        "drift_statistic": episode.statistic if episode else nothing,
        "drift_p_value": episode.p_value if episode else None,
        "transition_drift": episode.transition if episode else nothing,
        "drift_count": float(episode.features) if episode else nothing,
        "drift_severity": float(episode.severity.rank) if episode else nothing,
        "new_samples": None if new is None else float(new),
        "data_growth": None if new is None or not view.training.rows else new / view.training.rows,
        "days_since_training": (context.now - view.training.at) * view.speed / _DAY,
        "hours_since_job": None
        if context.last_job_started is None
        else (context.now - context.last_job_started) * view.speed / _HOUR,
        "attempts": float(context.attempts),
    }
