"""What the demo says about its year: plain frozen facts, the same for the terminal, the JSON file and the page.

Times are UTC seconds on the flights' own clock; an effect is positive when the challenger is better.
"""

from __future__ import annotations

import msgspec


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline: when, what kind of thing, what, and who did it why."""

    at: float
    kind: str
    text: str
    actor: str = ""
    reason: str = ""
    rollout: str | None = None


class StageTime(msgspec.Struct, frozen=True, kw_only=True):
    """How long a rollout stayed at one share; stage -1 is shadow."""

    stage: int
    share: float
    since: float
    until: float


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a rollout's evidence, as the evaluator recorded it. `bound_harm` is for -z."""

    id: str
    at: float
    result: str
    crossed: str | None
    effect: float | None
    lower: float | None
    upper: float | None
    z: float | None
    bound_win: float | None
    bound_harm: float | None
    information: float
    blocks: int
    pairs: int


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One challenger's way: where it came from, its stages and looks, and how it ended (`running` if it did not).

    `final` is the look that stood at the decision. `answers` are the requests that the challenger answered;
    `answers_after` those recorded after a later allocation had begun, which must be none. `fallbacks` are requests that
    the champion had to answer for it, `shadow_failures` shadow scores that it could not give.
    """

    id: str
    challenger: str
    champion: str
    started: float
    started_by: str
    started_why: str
    state: str
    ended: float | None = None
    actor: str = ""
    reason: str = ""
    stages: tuple[StageTime, ...] = ()
    looks: tuple[Look, ...] = ()
    final: Look | None = None
    answers: int = 0
    answers_after: int = 0
    fallbacks: int = 0
    shadow_failures: int = 0


class Ramp(msgspec.Struct, frozen=True, kw_only=True):
    """From `at` on: who is champion, who challenges, with which share of the traffic."""

    at: float
    version: int
    allocation: int
    share: float
    champion: str
    challenger: str | None


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's part in a drift event."""

    name: str
    statistic: float
    lower: float | None = None
    upper: float | None = None


class DriftStep(msgspec.Struct, frozen=True, kw_only=True):
    """One thing said about a drift episode: open, escalate or close."""

    at: float
    episode: str
    event: str
    severity: str
    confidence: float
    root_cause: str
    action: str
    model: str
    features: tuple[Feature, ...] = ()
    signals: tuple[str, ...] = ()


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One retraining job with its gate's figures: metrics of champion, challenger and the holdout comparison."""

    id: str
    asked: float
    ended: float | None
    status: str
    trigger: str
    severity: str
    reason: str
    champion: str
    version: str | None
    accepted: bool | None
    metrics: dict[str, dict[str, float]]
    seconds: float
    error: str | None


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """One month of flights: what was served against the first champion kept for ever, on the same flights.

    `served` counts all flights by the version that answered. The losses are None where no flight has an outcome.
    """

    month: int
    flights: int
    outcomes: int
    served: dict[str, int]
    log_loss: float | None
    log_loss_first: float | None
    accuracy: float | None
    accuracy_first: float | None


class Realised(msgspec.Struct, frozen=True, kw_only=True):
    """The challenger's real share of one allocation's requests, and the 3 sigma interval of the ordered one."""

    allocation: int
    rollout: str
    share: float
    requests: int
    assigned: int
    realised: float
    low: float
    high: float
    inside: bool


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the reconciliation: a sentence with its numbers, and whether it holds."""

    name: str
    passed: bool
    text: str
    counts: dict[str, int]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `first` is the champion of the first day; `reconciled` that every check has passed.

    `per_second` are predictions over the replay's `seconds`, with all that happened beside them; `total_seconds` go
    from the demo's start to its summary.
    """

    experiment: str
    metric: str
    first: str
    champion: str
    begin: float
    end: float
    flights: int
    outcomes: int
    never: int
    seconds: float
    total_seconds: float
    per_second: float
    reconciled: bool
    checks: tuple[Check, ...]
    timeline: tuple[Moment, ...]
    rollouts: tuple[Rollout, ...]
    ramp: tuple[Ramp, ...]
    realised: tuple[Realised, ...]
    drift: tuple[DriftStep, ...]
    jobs: tuple[Job, ...]
    months: tuple[Month, ...]
    year: Month
