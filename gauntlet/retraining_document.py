"""What the retrainer's API answers with: jobs, open requests, conditions, the record of commands, a model's report.

The retrainer makes these, its OpenAPI document describes them, and the command line shows them. Times are those of
events, except where a field says that they are the machine's. Fields are only ever added.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from gauntlet.ledger_document import PromotionWorth
from gauntlet.promotion_ledger import Lineage
from gauntlet.status import Problem
from gauntlet.types import Severity


class ConditionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One condition of a trigger; `met` is null where what it asks for is not known. `passing`: may be gone later."""

    trigger: str
    name: str
    met: bool | None
    detail: str
    value: float | None = None
    limit: float | None = None
    passing: bool = False


class RequestDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An open request for new models. `mode`: suggest, approve or automatic; `attempted`: jobs have answered it."""

    id: str
    key: str
    trigger: str
    severity: Severity
    reason: str
    mode: str
    at: datetime | None
    approved_by: str | None = None
    attempted: bool = False


class CheckDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a job would start now, and every condition of every trigger. `triggered`: the triggers whose cause is
    there; `waits`: by the key of an open request, what it waits for."""

    model: str
    at: datetime | None
    should_retrain: bool
    urgent: bool
    monitoring: bool
    triggered: list[str]
    reasons: list[str]
    waits: dict[str, list[str]]
    requests: list[RequestDocument]
    conditions: list[ConditionDocument]


class TriggerDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a trigger: the jobs that it started, one by each recipe, or none; and all conditions. `waiting`:
    the request is open until somebody approves it."""

    model: str
    request: str
    accepted: bool
    waiting: bool = False
    jobs: list[str]
    conditions: list[ConditionDocument]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a running job does just now: `share` of the whole is done, with `steps_done` of `steps_planned` (null before
    it has begun). Times are the machine's; `started` and `seconds` are the step's.

    `heartbeat` is when its process was last seen alive, `memory_bytes` what its processes held in memory then.
    """

    step: str
    started: datetime | None = None
    seconds: float | None = None
    steps_done: int = 0
    steps_planned: int | None = None
    share: float | None = None
    heartbeat: datetime | None = None
    memory_bytes: int | None = None


class JobDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `seconds` are the machine's; `metrics` has champion, challenger and holdout; `by` who asked for it."""

    id: str
    model: str
    status: str
    trigger: str
    request: str
    severity: str
    reason: str
    by: str
    champion: str
    recipe: str
    created: datetime | None
    updated: datetime | None
    ended: datetime | None
    seconds: float
    starts: int
    version: str | None = None
    accepted: bool | None = None
    decision: str = ""
    metrics: dict[str, dict[str, float]] = {}
    split: dict[str, float] = {}
    training_seconds: float = 0.0
    error: str | None = None
    warnings: list[str] = []
    progress: Progress | None = None


class CommandDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One command that a person or a program gave the retrainer's API: who, what, why, and what came of it. `at` is
    the machine's time."""

    number: int
    at: datetime
    command: str
    actor: str
    reason: str
    outcome: str
    about: list[str] = []


class ReportLine(msgspec.Struct, frozen=True, kw_only=True):
    """One job from its trigger to its outcome. What is not known (yet) is null.

    `gain` is the realised fall in the primary loss since the promotion, with its interval, against the model before.
    """

    job: str
    at: datetime | None
    trigger: str
    severity: str
    reason: str
    recipe: str
    champion: str
    status: str
    train_rows: int | None = None
    holdout_rows: int | None = None
    version: str | None = None
    accepted: bool | None = None
    improvement: float | None = None
    gate: str = ""
    error: str = ""
    rollout: str | None = None
    state: str | None = None
    decision: str = ""
    decided: datetime | None = None
    gain: float | None = None
    gain_lower: float | None = None
    gain_upper: float | None = None
    outcome: str = ""


class ReportDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A model's retraining life, the newest job first, with its totals; what each promotion was worth, the newest
    first, and all together."""

    model: str
    at: datetime | None
    champion: str
    metric: str
    jobs: int
    by_status: dict[str, int]
    by_trigger: dict[str, int]
    accepted: int
    promoted: int
    lines: list[ReportLine]
    promotions: list[PromotionWorth] = []
    lineage: Lineage | None = None


class VersionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the registry with its lineage. `status`: staging, canary, production or archived."""

    version: str
    status: str
    aliases: list[str]
    created: datetime | None
    algorithm: str
    parent: str | None
    job: str
    rows: int
    data_from: datetime | None
    data_to: datetime | None
    code_version: str
    checksum: str
    features: list[str]
    metrics: dict[str, float]
    parameters: dict[str, str]


class SwitchDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Whether triggers may start jobs by themselves; manual ones always may."""

    model: str
    monitoring: bool
    changed: bool


class BaselineDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics from which a fall of performance is measured. `at` is the machine's time."""

    model: str
    version: str
    metrics: dict[str, float]
    by: str
    at: datetime | None


class ConfiguredDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of retraining, under their known names, that hold over those of the configuration file."""

    model: str
    changed: bool
    configured: dict[str, Any]


class RetrainingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The retrainer at a glance: what runs, what waits, what was last, and what needs somebody."""

    model: str
    at: datetime | None
    champion: str
    enabled: bool
    monitoring: bool
    running: JobDocument | None
    waiting: list[str]
    last: JobDocument | None
    requests: list[RequestDocument]
    baseline: BaselineDocument | None
    configured: dict[str, Any]
    problems: list[Problem]
