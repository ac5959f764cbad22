"""The `retrain` section: when jobs start, how each of their models is trained, and what it has to show offline."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from math import prod
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from msgspec import Meta

from gauntlet.config.section import Count, NonNegative, Positive, Seconds, Section, check, check_most, distinct
from gauntlet.config.triggers import MOST_ROWS, TriggersConfig
from gauntlet.types import Label, Rule, TriggerMode

MOST_TRIES = 64
"""Combinations that a search may have."""

LOOK_SECONDS = 5.0
"""The triggers are looked at as often, and with every event of the evaluator."""

_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class WindowLength(Seconds):
    """How far back training data goes: a duration, or `all` (its value is then 0)."""

    @classmethod
    def parse(cls, value: object) -> WindowLength:
        if value == "all":
            return cls(0)
        length = cls(Seconds.parse(value))
        if not length:
            raise ValueError("a window must be `all` or longer than 0")
        return length


class RecipeConfig(Section, frozen=True, kw_only=True):
    """One way to train a successor. Every job trains a model by each recipe; the rollouts compete."""

    name: str
    window: WindowLength | None = None
    """How far back its rows go: a duration or `all`. Default: `retrain.window`."""
    trainer: str | None = None
    """`module:function(rows, targets, **parameters) -> fitted model`. Default: `retrain.trainer`."""
    parameters: dict[str, Label | None] = {}
    """Set on the cloned estimator (`model__C: 0.1` reaches into a pipeline), or given to the trainer."""
    search: dict[str, list[Label | None]] = {}
    """Values to try, as in `{model__C: [0.1, 1, 10]}`: every combination is fitted, the best on the validation days is
    chosen, and only that one meets the test days."""

    def __post_init__(self) -> None:
        tries = prod(len(values) for values in self.search.values())
        check(
            0 < tries <= MOST_TRIES,
            f"`search` of {self.name!r} must have 1 to {MOST_TRIES} combinations, not {tries:,}",
        )
        both = sorted({*self.search} & {*self.parameters})
        check(not both, f"`search` of {self.name!r} must not name what `parameters` sets: {', '.join(both)}")
        check(
            re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,40}", self.name) is not None,
            f"`name` must be lower-case letters, digits, dots and dashes, not {self.name!r}",
        )


class AdaptiveConfig(Section, frozen=True, kw_only=True):
    """Intervals between scheduled jobs by what the champion meets now."""

    calm: Seconds = Seconds(30 * 86_400)
    """Without drift, and with its figures where they were."""
    drifting: Seconds = Seconds(7 * 86_400)
    """With an open drift episode."""
    degrading: Seconds = Seconds(86_400)
    """With a loss that drift (HIGH) or the champion's figures show."""
    critical: Seconds = Seconds(6 * 3600)
    """With a CRITICAL one: at once, unless a scheduled job has come within this time."""

    def __post_init__(self) -> None:
        check(
            0 < self.critical <= self.degrading <= self.drifting <= self.calm,
            "`adaptive` must have rising times from `critical` over `degrading` and `drifting` to `calm`",
        )


class ScheduleConfig(Section, frozen=True, kw_only=True):
    """When a job starts whatever drift says: every so often, on a weekday at a time, by a cron expression, or the more
    often the more happens (`adaptive`)."""

    every: Seconds | None = None
    """This long after the last scheduled job, or after the experiment began; whole days with a `time`."""
    weekday: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"] | None = None
    """With `time`: on this day of the week only."""
    time: str | None = None
    """HH:MM in `timezone`."""
    cron: str | None = None
    """Minute, hour, day, month, weekday."""
    adaptive: AdaptiveConfig | None = None
    """`{}` for monthly, weekly, daily, and at once on a critical fall."""
    timezone: str = "UTC"
    hours: str | None = None
    """HH:MM-HH:MM in `timezone`: the hours in which a job that is due may start; over midnight is fine."""
    mode: TriggerMode = "automatic"

    def __post_init__(self) -> None:
        given = [name for name in ("every", "time", "cron", "adaptive") if getattr(self, name) is not None]
        check(
            len(given) == 1 or given == ["every", "time"],
            f"`schedule` must have one of `every`, `time`, `cron` and `adaptive`, not {given or 'none'}",
        )
        check(
            given != ["every", "time"]
            or (self.weekday is None and self.every is not None and self.every % 86_400 == 0),
            "`every` must be whole days with a `time`, and there is no `weekday` then",
        )
        check(self.weekday is None or self.time is not None, "`weekday` needs a `time`")
        check(self.every is None or self.every > 0, "`every` must be greater than 0")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            check(False, f"`timezone` {self.timezone!r} is not known: write it as in Europe/Berlin")
        if self.hours is not None:
            first, dash, last = self.hours.partition("-")
            check(
                bool(dash) and first != last and all(re.fullmatch(_CLOCK, each) for each in (first, last)),
                f"`hours` must be HH:MM-HH:MM with two different times, not {self.hours!r}",
            )
        if self.time is None and self.cron is None:
            return
        if self.time is not None:
            check(re.fullmatch(_CLOCK, self.time) is not None, f"`time` must be HH:MM, not {self.time!r}")
        try:
            CronSim(self.expression, _SOME_DAY)
        except CronSimError as error:
            check(False, f"`cron` {self.cron!r} never comes or is not a cron expression: {error}")

    @property
    def expression(self) -> str:
        """The cron expression of `cron`, or of `weekday` and `time`."""
        if self.cron is not None:
            return self.cron
        assert self.time is not None, "checked at the start"
        hour, minute = self.time.split(":")
        return f"{int(minute)} {int(hour)} * * {self.weekday or '*'}"


class RetrainConfig(Section, frozen=True, kw_only=True):
    """When a retraining job starts, and the gate that its model must pass on held-out rows."""

    enabled: bool = True
    rule: Rule = Rule.REFRESH
    """What a retrained model has to show in its rollout: `refresh`, or `prove` as for any other."""
    schedule: ScheduleConfig | None = None
    """When a job starts by the clock."""
    triggers: TriggersConfig = TriggersConfig()
    """What else asks for a job, and which of it may start one by itself."""
    recipes: list[RecipeConfig] = []
    """How models are trained; each job trains one by each. Default: one, of `window` and `trainer`."""
    trainer: str | None = None
    """`module:function(rows, targets) -> fitted model`; default: the champion's own estimator, cloned and fitted
    anew."""
    rows: Literal["all", "champion"] = "all"
    """Of which requests it learns, forced ones never: `all`, as an outcome is the same whichever model has answered; or
    where the answer itself changes the outcome, those that the champion answered as it was drawn to, each weighted by
    the inverse of the probability of that draw."""
    loader: str | None = None
    """`module:function(start, end) -> DataFrame or list of mappings`: labelled rows from before the event log."""
    command: list[str] = []
    """Words of a command that does a job elsewhere, in a container or on a cluster, and ends when the job has; `{spec}`
    stands for the path of its specification. Default: a process of this machine's."""
    on_severity: Literal["MEDIUM", "HIGH", "CRITICAL"] = "HIGH"
    window: Seconds = Seconds(60 * 86_400)
    """How far back the training data goes."""
    validation: Seconds = Seconds(7 * 86_400)
    test: Seconds = Seconds(7 * 86_400)
    min_data_points: Annotated[int, Meta(ge=20)] = 100
    min_interval: Seconds = Seconds(6 * 3600)
    """At most one job in this time, doubled with every further round in a row that fails, up to `cool_down`; CRITICAL
    drift does not wait."""
    cool_down: Seconds = Seconds(7 * 86_400)
    """After a job that did not fail or a rollout has ended, wait this long before the next (a CRITICAL drift does not
    wait)."""
    max_attempts: Positive = 20
    """Jobs in one lineage (the same champion) at most; one that failed is not an attempt."""
    time_limit: Seconds = Seconds(300)
    """A job that takes longer is aborted."""
    max_memory_bytes: Annotated[int, Meta(ge=64 * 2**20)] | None = None
    """What a job's processes may hold in memory together before it is aborted (measured on Linux). Default: three
    quarters of the machine's, or of the container's, by `parallel_jobs`."""
    parallel_jobs: Positive = 1
    """Jobs of several recipes that run side by side at most."""
    up_to: Literal["staging", "canary", "production"] = "production"
    """How far a new model goes by itself: it is only registered, it runs on the ramp and waits for approval on its last
    stage, or it is promoted."""
    min_improvement: NonNegative = 0.01
    """Improvement of the primary metric on the holdout, in its own units, below which a challenger is archived."""
    max_latency_increase: NonNegative | None = 0.10
    """By which share a new model may take longer for a batch of rows than the champion, shown in paired runs and from
    a millisecond on; None: by any. A successor under `refresh` that is slower is warned of, not refused."""
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.95
    """One-sided confidence of the paired bootstrap that there is an improvement."""
    bootstrap: Annotated[int, Meta(ge=200)] = 2000
    seed: Count = 20130101

    def __post_init__(self) -> None:
        check(
            self.window > self.validation + self.test, "`window` must be longer than `validation` and `test` together"
        )
        check(self.validation > 0, "`validation` must be greater than 0")
        check(self.test > 0, "`test` must be greater than 0")
        check(self.time_limit > 0, "`time_limit` must be greater than 0")
        check_most(
            self,
            min_data_points=(MOST_ROWS, "no job can hold more rows"),
            max_attempts=(10**6, "no champion is challenged more often"),
            max_memory_bytes=(2**50, "no machine has more memory"),
            parallel_jobs=(1024, "each job is a process with a model of its own"),
            min_improvement=(10**12, "no metric improves by more"),
            max_latency_increase=(10**6, "null allows any"),
            bootstrap=(10**6, "more repetitions change no answer, and their time grows"),
            seed=(2**32 - 1, "numpy's generators take no greater one"),
        )
        check(
            not self.command or any("{spec}" in word for word in self.command[1:]),
            "`command` must have the word {spec}, which stands for the path of the job's specification",
        )
        distinct("recipes", [recipe.name for recipe in self.recipes])

    @property
    def all_recipes(self) -> list[RecipeConfig]:
        return self.recipes or [RecipeConfig(name="default")]
