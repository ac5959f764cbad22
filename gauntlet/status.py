"""Status records: what each service reports about itself in the state store, for status pages.

One writer per record. No decision reads them: decisions go by events and by the control record.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from gauntlet.events import Drift, Evaluation, Health, Job
from gauntlet.promotion_ledger import Ledger
from gauntlet.state import StateStore
from gauntlet.types import Severity


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator has to know, or to do something about.

    CRITICAL: predictions, evidence or decisions are being lost; HIGH: nothing goes on until somebody acts; MEDIUM: it
    goes on, but less well; LOW: to know. `code` is machine-readable and stable, `source` the part that is concerned,
    `remedy` what to do. `since` is the machine's time.
    """

    code: str
    severity: Severity
    source: str
    text: str
    remedy: str
    since: datetime | None = None


class Problems:
    """The open problems of one service, by code."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._open: dict[str, Problem] = {}

    def report(self, code: str, severity: Severity, text: str, remedy: str) -> bool:
        """Open a problem, or bring an open one up to date; its `since` stays. True when its text is news."""
        before = self._open.get(code)
        since = before.since if before else datetime.now(UTC)
        self._open[code] = Problem(
            code=code, severity=severity, source=self._source, text=text, remedy=remedy, since=since
        )
        return before is None or before.text != text

    def clear(self, code: str) -> bool:
        """Close a problem; False where it is not open, which is not a mistake."""
        return self._open.pop(code, None) is not None

    @property
    def open(self) -> list[Problem]:
        return worst_first(self._open.values())


def moment(at: float | None) -> datetime | None:
    """Seconds since the epoch as a time in UTC; None for 0 or less, which no event has: the time is not known."""
    return datetime.fromtimestamp(at, UTC) if at is not None and 0 < at < _YEAR_10000 else None


_YEAR_10000 = 253_402_300_800.0


def worst_first(problems: Iterable[Problem]) -> list[Problem]:
    """Problems sorted by severity, and among equals the oldest first."""
    newest = datetime.max.replace(tzinfo=UTC)
    return sorted(problems, key=lambda p: (-p.severity.rank, p.since or newest, p.source, p.code))


class FalseAlarms(msgspec.Struct, frozen=True, kw_only=True):
    """What the continuous A/A slice has shown: in `alarms` of `rounds` finished tests of the champion against itself a
    boundary was crossed, where a share `level` may. lower, upper: 95 % limits of that rate, which hold at every number
    of rounds at once. too_many: the rate is shown to be above the level, in all or of late; `reason` says by what.

    share: of the champion's requests in the phantom arm. round_ends, information_fraction, crossed: of the round under
    way.
    """

    level: float
    share: float
    rounds: int = 0
    alarms: int = 0
    rate: float | None = None
    lower: float = 0.0
    upper: float = 1.0
    too_many: bool = False
    reason: str = ""
    round_ends: datetime | None = None
    information_fraction: float = 0.0
    crossed: str | None = None


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """Score of the latest requests that `model` answered as champion: 1 as in its reference, 0 unusable."""

    model: str
    score: float


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions, or outcomes, at one router replica.

    latest: the machine's time of the last that was taken; 0 where none is known. count, refused: in the last
    `recent.SECONDS`; refusal: the code of the latest that was refused. longest_gap: seconds between two, at most, in
    the last eight days; None while too few have come to say what is usual.
    """

    latest: float = 0.0
    count: int = 0
    refused: int = 0
    refusal: str = ""
    longest_gap: float | None = None


class Arrivals(msgspec.Struct, frozen=True, kw_only=True):
    """What has arrived at one router replica since its start, `since`, up to `at`.

    unanswered_since: when the first prediction came of those after the latest outcome; 0 where none waits for one.
    """

    at: float
    since: float
    predictions: Flow = Flow()
    outcomes: Flow = Flow()
    unanswered_since: float = 0.0


class EvaluatorProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the evaluator is, what it counted, and the latest evaluation of each rollout by id. `offsets` is keyed by
    `topic/partition`."""

    at: float = 0.0
    watermark: float = 0.0
    offsets: dict[str, int] = {}
    counts: dict[str, int] = {}
    evaluations: dict[str, Evaluation] = {}
    health: Health | None = None
    drift: Drift | None = None
    worth: Ledger = Ledger()
    quality: Quality | None = None
    """None until the monitor's shortest window is full."""
    problems: list[Problem] = []
    settings: dict[str, Any] = {}
    """Those that its sums are made with."""
    plans: dict[str, dict[str, Any]] = {}
    """The declared plan of each rollout's tests, by the rollout's id."""
    false_alarms: FalseAlarms | None = None
    """Of the continuous A/A slice, where it is on."""
    recent: dict[str, int] = {}
    """What it counted in the last `recent.SECONDS` before `at`, by kind."""


class RetrainerProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the retrainer is with the evaluator's events, and its jobs, newest last.

    configured: settings of retraining, by their known names, that hold over the file's.
    """

    at: float = 0.0
    offsets: dict[str, int] = {}
    running: Job | None = None
    jobs: list[Job] = []
    problems: list[Problem] = []
    configured: dict[str, Any] = {}


class ServedChallenger(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger as one router replica has it loaded. `share`: of traffic, 0 in shadow; `breaker`: open or closed."""

    rollout: str
    version: str
    share: float
    stage: int
    breaker: str


class RouterProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The control version that one router replica serves; `problems` say why when it could not take a newer one.

    seen: the machine's time of this report, which is written again while the replica runs.
    """

    at: float
    replica: str
    version: int
    allocation: int
    champion: str
    challengers: list[ServedChallenger] = []
    problems: list[Problem] = []
    seen: float = 0.0
    arrivals: Arrivals | None = None


async def publish_problems(store: StateStore, key: str, problems: list[Problem]) -> None:
    """Replace only the problems in a service's report, while it can't tell of its progress."""
    version, value = await store.get(key)
    report = msgspec.json.decode(value) if version else {}
    await store.put(key, msgspec.json.encode({**report, "problems": problems}), version)


async def publish(store: StateStore, key: str, report: msgspec.Struct) -> None:
    """Replace a service's own report. The only writer of a key conflicts with nobody but its own predecessor."""
    version, _ = await store.get(key)
    await store.put(key, msgspec.json.encode(report), version)
