"""The configuration as typed, frozen structs, each setting with its default.

A range in a type is checked when a file is read (`gauntlet.config.load`), what spans several settings whenever a struct
is made. A refusal names the setting and what it must be.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gauntlet.config.consistency import refuse_impossible
from gauntlet.config.drift import DriftConfig
from gauntlet.config.evidence import MOST_LEVEL, EvidenceConfig, GuardrailConfig
from gauntlet.config.evidence import RATES as RATES
from gauntlet.config.http import HttpConfig as HttpConfig
from gauntlet.config.limits import refuse_beyond
from gauntlet.config.notify import NotifyConfig as NotifyConfig
from gauntlet.config.outcomes import OutcomesConfig
from gauntlet.config.records import LOCAL, check_records
from gauntlet.config.registry import check_registry
from gauntlet.config.rehearsal import Profile
from gauntlet.config.retrain import RetrainConfig as RetrainConfig
from gauntlet.config.rules import OF_TASK, RuleCondition
from gauntlet.config.section import Count, Fraction, Port, Positive, Seconds, Section, check, check_decimals, distinct
from gauntlet.config.thompson import ThompsonConfig as ThompsonConfig
from gauntlet.losses import METRICS
from gauntlet.rollout import Stage
from gauntlet.types import Role, Rule, Task


class FeatureSpec(Section, frozen=True, kw_only=True):
    """One input: its name, whether it is a number or a text, and whether a request without it is refused."""

    name: str
    kind: Literal["auto", "number", "text"] = "auto"
    """`auto`: as the model was fitted, or else as the reference has it."""
    required: bool = True


class ChampionConfig(Section, frozen=True, kw_only=True):
    """The first champion, and the data it was trained on (the drift reference)."""

    model: str
    """Path of the artifact (`.skops`, `.onnx`, …) or `module:function`: a function of rows (a list of mappings) that
    returns probabilities or numbers is the model itself; one without arguments returns a model."""
    trusted: list[str] = []
    """Types that a skops file may hold beyond the estimators of scikit-learn, xgboost and lightgbm and their parts."""
    input: Literal["auto", "matrix", "frame", "rows", "column"] = "auto"
    """How instances reach the model: a float matrix, a pandas frame, a list of mappings, or the only feature's
    values."""
    allow_pickle: bool = False
    """Joblib files can run any code when loaded: only for files that you made yourself."""
    reference: str | None = None
    """CSV, gzipped CSV or Parquet of training rows in time order; by default the first rows served."""
    target: str | None = None
    """The reference's column with the truth, for the champion's error in the reference."""
    time: str | None = None
    """The reference's column with the time of each row (seconds since 1970 or ISO 8601), for `drift.season`."""
    held_out: bool = False
    """True: the champion has never seen the reference rows, so its own loss on them counts. Else it is cross-fitted."""


class BreakerConfig(Section, frozen=True, kw_only=True):
    """The circuit breaker: how many failures among its latest calls take the challenger out at once."""

    window: Positive = 200
    min_failures: Positive = 5
    failure_share: Annotated[float, Meta(gt=0, le=1)] = 0.02

    def __post_init__(self) -> None:
        check(self.min_failures <= self.window, "`min_failures` must be at most `window`")


class RouterConfig(Section, frozen=True, kw_only=True):
    """The HTTP service in front of the models."""

    host: str = "127.0.0.1"
    port: Port = 8420
    delivery: Literal["durable", "fast"] = "durable"
    deadline: Seconds = Seconds(2.0)
    challenger_timeout: Seconds = Seconds(0.25)
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 8 * 2**20
    max_instances: Positive = 4096
    shadow_queue: Count = 20_000
    unknown_outcomes: Literal["refuse", "accept"] = "refuse"
    """Outcomes of predictions that this replica never made: with several replicas, accept them (the evaluator
    counts)."""
    breaker: BreakerConfig = BreakerConfig()

    def __post_init__(self) -> None:
        check(self.deadline > 0, "`deadline` must be greater than 0")
        check(
            0 < self.challenger_timeout < self.deadline,
            "`challenger_timeout` must be greater than 0 and less than `deadline`",
        )


class StageConfig(Section, frozen=True, kw_only=True):
    """One step of the ramp; it may be left after `min_time` and `min_outcomes`, and with approval where asked."""

    share: Fraction
    min_time: Seconds = Seconds(2 * 86_400)
    min_outcomes: Count = 1
    approval: bool = False

    def __post_init__(self) -> None:
        check_decimals("share", self.share)

    def stage(self) -> Stage:
        return Stage(
            share=self.share, min_seconds=float(self.min_time), min_outcomes=self.min_outcomes, approval=self.approval
        )


class ShadowConfig(Section, frozen=True, kw_only=True):
    """The time before the ramp, in which the challenger is scored and serves nobody; and how much is paired."""

    fraction: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Share of requests that the models which did not serve score too, in shadow and on the ramp."""
    challengers: Positive = 6
    """Challengers that may run at once, in shadow and on the ramp."""
    min_time: Seconds = Seconds(2 * 86_400)
    min_outcomes: Count = 100
    approval: bool = False

    def __post_init__(self) -> None:
        check_decimals("fraction", self.fraction)

    def stage(self) -> Stage:
        return Stage(
            share=0.0, min_seconds=float(self.min_time), min_outcomes=self.min_outcomes, approval=self.approval
        )


def check_ramp(ramp: Sequence[StageConfig]) -> None:
    """Raise `ValueError` unless the shares rise from stage to stage."""
    shares = [stage.share for stage in ramp]
    check(shares == sorted(set(shares)), f"`ramp` must have shares that rise from stage to stage, not {shares}")


def _default_ramp() -> list[StageConfig]:
    day = 86_400
    return [
        StageConfig(share=0.01, min_time=Seconds(2 * day)),
        StageConfig(share=0.05, min_time=Seconds(2 * day)),
        StageConfig(share=0.10, min_time=Seconds(3 * day)),
    ]


def _refresh_ramp() -> list[StageConfig]:
    third = 86_400 / 3
    return [StageConfig(share=share, min_time=Seconds(third)) for share in (0.01, 0.05, 0.10)]


class RefreshConfig(Section, frozen=True, kw_only=True):
    """What a retrained successor of the champion has to show (`rule: refresh`): that it is better on average, and not
    worse by more than a margin."""

    margin: Annotated[float, Meta(gt=0)] = 0.05
    """Share of the champion's loss. A successor that is worse by more is promoted with at most its level."""
    alpha: Annotated[float, Meta(gt=0, lt=MOST_LEVEL)] = 0.05
    """One-sided level of a single successor, at most."""
    budget: Fraction | None = None
    """Level over all successors of one champion, however many: each gets a quarter of what is left, and `alpha` at
    most. Default: each has `alpha`, and the expected number of false promotions is at most `alpha` times theirs."""
    duration: Seconds = Seconds(14 * 86_400)
    """Traffic that the test is planned with. It may decide from `MIN_CYCLES` days on, and who has shown nothing by its
    end is archived."""
    shadow: Seconds = Seconds(5 * 86_400)
    """Minimum time in shadow."""
    ramp: Annotated[list[StageConfig], Meta(min_length=1)] = msgspec.field(default_factory=_refresh_ramp)

    def __post_init__(self) -> None:
        check(self.duration > 0, "`duration` must be greater than 0")
        check_ramp(self.ramp)


class BakeConfig(Section, frozen=True, kw_only=True):
    """The bake after a promotion: back to the previous champion if the new one falls below what its rollout showed."""

    time: Seconds = Seconds(14 * 86_400)
    window: Seconds = Seconds(7 * 86_400)
    """The champion's health is judged on this much of the latest matured traffic."""
    max_drop: Annotated[float, Meta(gt=0, le=sys.float_info.max)] = 0.05
    """Fall of accuracy (classification; absolute) or rise of RMSE (regression; relative) that takes it back."""
    min_outcomes: Positive = 500

    def __post_init__(self) -> None:
        check(self.window > 0, "`window` must be greater than 0")


class WorthConfig(Section, frozen=True, kw_only=True):
    """What a promotion was worth: the champion before goes on being scored in shadow, on the same requests."""

    time: Seconds = Seconds(90 * 86_400)
    """From the promotion to the next one, and at most this long; the bake at least."""
    fraction: Annotated[float, Meta(gt=0, le=1)] = 0.25
    """Share of requests that it scores after the bake; in the bake, and at most, `shadow.fraction`."""
    revert: bool = True
    """True: harm that shows after the bake takes the promotion back, as in it."""
    holdout: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    """Reverse holdout: this share of the units stays with the champion before for as long, and the difference between
    its outcomes and those of the other units is the promotion's causal effect. 0 switches it off."""

    def __post_init__(self) -> None:
        check_decimals("fraction", self.fraction)
        check_decimals("holdout", self.holdout)


class KeyConfig(Section, frozen=True, kw_only=True):
    """An API key: its role, and the environment variable that holds it (a key never stands in this file)."""

    name: str
    role: Role
    env: str


class ObserveConfig(Section, frozen=True, kw_only=True):
    """Where evaluator and retrainer serve /metrics (the router serves its own), and the retrainer its API; port 0
    takes any free one."""

    host: str = "127.0.0.1"
    evaluator_port: Port = 8421
    retrainer_port: Port = 8422
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration."""

    experiment: str
    task: Task
    champion: ChampionConfig
    profile: Profile = "production"
    """`rehearsal`: all times pass faster, a day in ten seconds. The times here are then the faster ones, as
    `gauntlet.config.rehearsal` makes them from the file."""
    data: str = "gauntlet-data"
    """Folder for the embedded log, the state, the registry and local files; relative to this file."""
    log: str = "local"
    state: str = "local"
    records: str = LOCAL
    """Tables of jobs, decisions and deliveries, for analysis: an SQLite file in `data`, or PostgreSQL."""
    registry: str = "local"
    """Where model versions are kept: `local` (in `data`), or MLflow: `mlflow+sqlite:///path`, `mlflow+http(s)://host`."""
    clock: Literal["wall", "events"] = "wall"
    """`events` takes the time from the requests themselves: for replays of recorded traffic."""
    features: list[FeatureSpec | str] = []
    """Default: the names that the model was fitted with."""
    classes: list[str | int | float | bool] = []
    """Default: the classes that the model was fitted with, in its order."""
    router: RouterConfig = RouterConfig()
    http: HttpConfig = HttpConfig()
    outcomes: OutcomesConfig = OutcomesConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    guardrails: list[GuardrailConfig] = []
    segments: list[str] = []
    """Labels in the requests' segments; harm to one value of one of them holds the ramp."""
    shadow: ShadowConfig = ShadowConfig()
    ramp: Annotated[list[StageConfig], Meta(min_length=1)] = msgspec.field(default_factory=_default_ramp)
    slots: Positive = 1
    """Challengers that may be on the ramp at once, each with buckets of its own; the others wait in shadow."""
    thompson: ThompsonConfig = ThompsonConfig()
    refresh: RefreshConfig = RefreshConfig()
    bake: BakeConfig = BakeConfig()
    worth: WorthConfig = WorthConfig()
    drift: DriftConfig = DriftConfig()
    retrain: RetrainConfig = RetrainConfig()
    notify: list[NotifyConfig] = []
    observe: ObserveConfig = ObserveConfig()
    keys: list[KeyConfig] = []

    def __post_init__(self) -> None:
        check(
            re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", self.experiment) is not None,
            f"`experiment` must be a name of lower-case letters, digits and dashes, not {self.experiment!r}",
        )
        check(
            self.log == "local" or self.log.startswith("kafka://"),
            f"`log` must be local or kafka://…, not {self.log!r}",
        )
        check(
            self.state == "local" or self.state.startswith(("redis://", "rediss://", "unix://")),
            f"`state` must be local or redis://…, not {self.state!r}",
        )
        check_records(self.records)
        check_registry(self.registry)
        check_ramp(self.ramp)
        most = max(self.ramp[-1].share, self.refresh.ramp[-1].share)
        check(
            self.slots * most <= 1,
            f"`slots` must leave each challenger the {most:.0%} of its last stage: {int(1 / most)} at most",
        )
        check(
            not self.retrain.enabled or len(self.retrain.all_recipes) <= self.shadow.challengers,
            f"`shadow.challengers` must be at least the number of `retrain.recipes`, {len(self.retrain.recipes)}",
        )
        ports = [p for p in (self.router.port, self.observe.evaluator_port, self.observe.retrainer_port) if p]
        check(len(set(ports)) == len(ports), f"`observe` must leave each service a port of its own, not {ports}")
        distinct("keys", [key.name for key in self.keys])
        distinct("notify", [target.name for target in self.notify])
        distinct("segments", self.segments)
        check(
            bool(self.keys) or self.router.host in ("127.0.0.1", "::1", "localhost"),
            f"`router.host` {self.router.host} is open to other machines: give `keys`, or stay on 127.0.0.1",
        )
        self._check_model()
        self._check_evidence()
        self._check_triggers()
        refuse_beyond(self)
        refuse_impossible(self)

    def _check_model(self) -> None:
        distinct("features", [spec.name for spec in self.feature_specs()])
        check(len(set(self.classes)) == len(self.classes) != 1, "`classes` must be at least two, each once")
        check(
            not self.classes or self.task is Task.CLASSIFICATION, "`classes` is only valid with `task: classification`"
        )
        check(
            self.drift.season is None or self.champion.reference is None or self.champion.time is not None,
            "`champion.time` must name the reference's column of times where `drift.season` is set",
        )

    def _check_evidence(self) -> None:
        known = METRICS[self.task]
        check(
            self.evidence.metric is None or self.evidence.metric in known,
            f"`evidence.metric` must be one of {', '.join(known)} with `task: {self.task}`, "
            f"not {self.evidence.metric!r}",
        )
        check(
            self.evidence.form == "split" or self.shadow.fraction > 0,
            "`shadow.fraction` must be greater than 0 with `evidence.form: paired`",
        )
        check(
            not self.thompson.enabled or self.evidence.form == "paired",
            "`thompson` needs `evidence.form: paired`: the arms' own traffic has no fixed shares then, and their "
            "means can't be compared by a normal law",
        )
        arms, floor = self.slots + 1, self.thompson.floor
        check(arms * floor <= 1, f"`thompson.floor` must be at most {1 / arms:.3g} with {self.slots} `slots`")
        distinct("guardrails", [guard.name for guard in self.guardrails])
        recall = ("recall",) if self.task is Task.CLASSIFICATION else ()
        allowed = (*(metric for metric in known if metric != self.metric), *recall, *RATES)
        for guard in self.guardrails:
            check(
                guard.metric in allowed,
                f"`guardrails` must be on {', '.join(allowed)} with `task: {self.task}` and the primary metric "
                f"{self.metric}, not on {guard.metric!r}",
            )
            check(
                guard.label is None or not self.classes or guard.label in self.classes,
                f"`guardrails` must have a `label` that is one of `classes`, not {guard.label!r}",
            )

    def _check_triggers(self) -> None:
        triggers, other = self.retrain.triggers, next(task for task in Task if task is not self.task)
        named = [*triggers.performance.floors, *triggers.performance.ceilings]
        for place, names in [
            ("retrain.triggers.performance", named),
            *(("retrain.triggers.rules", RuleCondition(rule.condition).names) for rule in triggers.rules),
        ]:
            foreign = [name for name in names if name in OF_TASK[other]]
            check(not foreign, f"`{place}` can't go by {', '.join(foreign)} with `task: {self.task}`")

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.evidence.metric or METRICS[self.task][0]

    def ladder(self, rule: Rule) -> tuple[Stage, tuple[Stage, ...]]:
        """The shadow stage and the ramp of a rollout under `rule`."""
        shadow, ramp = self.shadow.stage(), self.ramp
        if rule is Rule.REFRESH:
            shadow, ramp = msgspec.structs.replace(shadow, min_seconds=float(self.refresh.shadow)), self.refresh.ramp
        return shadow, tuple(stage.stage() for stage in ramp)

    @property
    def after_promotion(self) -> dict[str, Any]:
        """What its command says of the time after a promotion."""
        return {
            "bake_seconds": float(self.bake.time),
            "watch_seconds": float(self.worth.time),
            "holdout": self.worth.holdout,
        }

    def feature_specs(self) -> list[FeatureSpec]:
        return [FeatureSpec(name=f) if isinstance(f, str) else f for f in self.features]
