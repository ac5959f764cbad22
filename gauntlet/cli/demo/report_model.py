"""The demo's report as plain frozen records: the one source of the terminal's text, `summary.json` and the HTML page.

Times are UTC seconds on the flights' own clock. An effect is positive when the challenger is better.
"""

from __future__ import annotations

import msgspec

from gauntlet import events
from gauntlet.ledger_document import PromotionWorth
from gauntlet.promotion_ledger import Lineage


class TimelineEntry(msgspec.Struct, frozen=True):
    """One line of the timeline: when, what kind of thing, what, who did it and why; of a rollout, and its rule."""

    at: float
    kind: str
    text: str
    actor: str = ""
    reason: str = ""
    rollout: str | None = None
    rule: str = ""


class StageTime(msgspec.Struct, frozen=True, kw_only=True):
    """How long a rollout stayed in one stage; stage -1 is shadow."""

    stage: int
    share: float
    since: float
    until: float


class RecordedLook(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a rollout's evidence. The harm boundary is crossed where -z exceeds `bound_harm`."""

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


class RecordedRollout(msgspec.Struct, frozen=True, kw_only=True):
    """One challenger's rollout: who started it, its stages and looks, and how it ended (`running` if it did not).

    `final` is the look that the decision was made on. `answers` counts requests that the challenger answered,
    `answers_after` those recorded under a later allocation (must be 0), `fallbacks` requests that the champion answered
    in its place, `shadow_failures` failed shadow scores.
    """

    id: str
    challenger: str
    champion: str
    started: float
    started_by: str
    started_why: str
    state: str
    rule: str = "prove"
    ended: float | None = None
    actor: str = ""
    reason: str = ""
    stages: tuple[StageTime, ...] = ()
    looks: tuple[RecordedLook, ...] = ()
    final: RecordedLook | None = None
    answers: int = 0
    answers_after: int = 0
    fallbacks: int = 0
    shadow_failures: int = 0


class OnRamp(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger on the ramp, with its share of the traffic."""

    rollout: str
    challenger: str
    share: float


class AllocationStep(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the control record: who is champion, and who is on the ramp from `at` on."""

    at: float
    version: int
    allocation: int
    champion: str
    on_ramp: tuple[OnRamp, ...] = ()

    @property
    def share(self) -> float:
        """The challengers' share of the traffic."""
        return sum(each.share for each in self.on_ramp)


class RecordedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One retraining job; `metrics` holds the means of champion, challenger and holdout comparison at the gate."""

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
    """One month of flights (0: the whole year): what was served against the first champion, on the same flights.

    `served` counts all flights by the version that answered. Losses are None where no flight has an outcome.
    """

    month: int
    flights: int
    outcomes: int
    served: dict[str, int]
    log_loss: float | None
    log_loss_first: float | None
    accuracy: float | None
    accuracy_first: float | None


class RenewalPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """One policy of renewal and the mean log loss of what it would have served on the same flights.

    A blind policy deploys the two broken models as well: `log_loss_with_broken` and `months` are with them, over the
    flights that got an answer, and `unanswered` counts those that got none.
    """

    name: str
    log_loss: float | None
    log_loss_with_broken: float | None = None
    unanswered: int = 0
    months: tuple[float | None, ...] = ()


class RealisedShare(msgspec.Struct, frozen=True, kw_only=True):
    """The challenger's share of one allocation's requests, and the 3 sigma interval around the ordered share."""

    allocation: int
    rollout: str
    share: float
    requests: int
    assigned: int
    realised: float
    low: float
    high: float
    inside: bool


class ReconciliationCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the reconciliation: a sentence with its counts, and whether it holds."""

    name: str
    passed: bool
    text: str
    counts: dict[str, int]


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole report. `first` is the first day's champion; `reconciled` says that every check has passed.

    `per_second` is predictions over the replay's `seconds`, which include evaluation and training; `total_seconds` run
    from the demo's start to its report. `worth`: what each promotion was worth by the evaluator's ledger, the oldest
    first; `lineage`: all of them together.
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
    checks: tuple[ReconciliationCheck, ...]
    timeline: tuple[TimelineEntry, ...]
    rollouts: tuple[RecordedRollout, ...]
    ramp: tuple[AllocationStep, ...]
    realised: tuple[RealisedShare, ...]
    drift: tuple[events.Drift, ...]
    jobs: tuple[RecordedJob, ...]
    months: tuple[Month, ...]
    year: Month
    policies: tuple[RenewalPolicy, ...] = ()
    worth: tuple[PromotionWorth, ...] = ()
    lineage: Lineage | None = None
