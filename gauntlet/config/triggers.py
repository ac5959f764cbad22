"""What asks for a retraining job beside the schedule, what it may start by itself, and users' rules."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Literal

from msgspec import Meta

from gauntlet.config.rules import RuleCondition
from gauntlet.config.section import Count, Fraction, Positive, Seconds, Section, check, check_most
from gauntlet.types import TriggerMode

_Share = Annotated[float, Meta(gt=0, le=sys.float_info.max)]

MOST_ROWS = 10**9
"""Rows that a setting may ask for: more are in no job's memory."""
_MOST_TIMES = (10**6, "such a rise never comes")

Repeat = Literal["level", "edge"]
"""`level`: ask again, after the cool-down, while the cause lasts; `edge`: once, until it is over or worse."""


class TriggerConfig(Section, frozen=True, kw_only=True):
    """What every trigger has: a switch, what it may start by itself, and how it deals with a cause that lasts."""

    enabled: bool = True
    mode: TriggerMode = "suggest"
    """`suggest`: only say so; `approve`: start a job once somebody agrees; `automatic`: start one."""
    repeat: Repeat = "level"
    lasting: Seconds = Seconds(0)
    """The cause must have lasted this long before it asks."""


class DriftTrigger(TriggerConfig, frozen=True, kw_only=True):
    """Drift of the champion: an open episode of `retrain.on_severity` or worse, which has a loss shown on outcomes.

    The limits below are about inputs alone; they ask only with `on_inputs`. Each is on what drift was shown in, with
    evidence, by the rules of `drift`: nothing below the thresholds there is ever seen here.
    """

    mode: TriggerMode = "automatic"
    on_inputs: bool = False
    """Whether drift of the inputs asks where no outcome shows a loss."""
    statistic: Fraction = 0.15
    """A feature's distance from the reference above this."""
    transition: Fraction = 0.10
    """Change of a transition probability above this."""
    p_value: Fraction = 0.05
    """Smallest p value below this."""
    features: Count = 5
    """More drifted features than this."""
    urgent: Fraction = 0.30
    """A distance above this makes it urgent."""
    episodes: Positive = 1
    """Episodes of this champion before one asks."""

    def __post_init__(self) -> None:
        check(self.statistic <= self.urgent, "`urgent` must be at least `statistic`")
        check_most(
            self, features=(10**6, "no model has more features"), episodes=(10**6, "no champion has more episodes")
        )


class PerformanceTrigger(TriggerConfig, frozen=True, kw_only=True):
    """The champion's own figures on matured outcomes, against its baseline and against floors."""

    fall: Fraction = 0.05
    """Fall of accuracy from the baseline (classification). Twice of it is urgent."""
    rmse_rise: _Share = 0.10
    """Relative rise of RMSE over the baseline (regression). Twice of it is urgent."""
    r2_fall: Fraction = 0.05
    """Fall of R², as drift has shown it (regression)."""
    floors: dict[Literal["accuracy"], Fraction] = {}
    """Absolute limits that hold without a baseline: {accuracy: 0.85}."""
    ceilings: dict[Literal["log_loss", "brier", "rmse", "mae"], _Share] = {}
    """The same for losses: {rmse: 12.5}."""
    window: Seconds = Seconds(7 * 86_400)
    """The figures are of the outcomes of this time."""
    min_outcomes: Positive = 100
    """With fewer outcomes in the window nothing is known."""
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.95
    """One-sided, that the limit is passed, by how the figures vary from block to block; 0.5 takes the bare figures."""

    def __post_init__(self) -> None:
        check(self.window > 0, "`window` must be greater than 0")
        check_most(self, min_outcomes=(MOST_ROWS, "no window has more outcomes"), rmse_rise=_MOST_TIMES)


class QualityTrigger(TriggerConfig, frozen=True, kw_only=True):
    """The quality of the requests, as drift has seen it. Bad data is to be repaired rather than learned."""

    score: Fraction = 0.80
    """A score below this asks."""
    block: Fraction = 0.70
    """Below this no job starts for any reason, and the alert data_quality_low is raised."""

    def __post_init__(self) -> None:
        check(self.block <= self.score, "`block` must be at most `score`")


class VolumeTrigger(TriggerConfig, frozen=True, kw_only=True):
    """Labelled rows since those that the champion was trained on."""

    samples: Positive = 10_000
    """More new ones than this."""
    growth: _Share | None = None
    """Or more than this share of the rows that it was trained on."""

    def __post_init__(self) -> None:
        check_most(self, samples=(MOST_ROWS, "no job can hold more rows"), growth=_MOST_TIMES)


class RollbackTrigger(Section, frozen=True, kw_only=True):
    """A promoted model that the bake has taken back: the one before serves again, and a better one is urgent."""

    enabled: bool = True
    mode: TriggerMode = "automatic"


class ManualTrigger(Section, frozen=True, kw_only=True):
    """People who ask. `approve`: somebody else has to agree."""

    enabled: bool = True
    mode: Literal["approve", "automatic"] = "automatic"


ACTIONS: dict[str, TriggerMode] = {"retrain": "automatic", "investigate_and_retrain": "approve", "notify": "suggest"}
"""What a rule's action lets it do by itself."""


class RuleConfig(Section, frozen=True, kw_only=True):
    """A user's rule: `condition: accuracy < 0.85 and drift_count > 5`."""

    name: str
    condition: str
    """Facts compared with numbers, joined by `and`, `or`, `not`; `gauntlet.config.rules` has the facts."""
    action: Literal["retrain", "investigate_and_retrain", "notify"] = "retrain"
    """Start a job; start one once somebody has looked and agrees; only say so."""
    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"] = "HIGH"
    """CRITICAL does not wait for cool-downs."""
    enabled: bool = True
    repeat: Repeat = "level"
    lasting: Seconds = Seconds(0)
    """The condition must have held this long before it asks."""

    def __post_init__(self) -> None:
        check(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,60}", self.name) is not None,
            f"`name` must be letters, digits, spaces, dots and dashes, not {self.name!r}",
        )
        try:
            RuleCondition(self.condition)
        except ValueError as error:
            check(False, f"`condition` of the rule {self.name!r}: {error}")

    @property
    def mode(self) -> TriggerMode:
        return ACTIONS[self.action]


class TriggersConfig(Section, frozen=True, kw_only=True):
    """Triggers beside `retrain.schedule`. All that meet their conditions ask; the most urgent gets its job."""

    drift: DriftTrigger = DriftTrigger()
    performance: PerformanceTrigger = PerformanceTrigger()
    quality: QualityTrigger = QualityTrigger()
    volume: VolumeTrigger = VolumeTrigger()
    rollback: RollbackTrigger = RollbackTrigger()
    manual: ManualTrigger = ManualTrigger()
    rules: list[RuleConfig] = []

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        once = {name.replace(" ", "-") for name in names}  # as in the ids of their requests
        check(len(once) == len(names), f"`rules` must have names, each once, not {names}")
