"""The vocabulary every part speaks: arms, severities, verdicts, decisions and their worst-of order.

Pure values with no behaviour beyond ordering; nothing here does I/O or knows a service.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Literal

Arm = Literal["champion", "challenger"]
"""The two arms, as events, metrics, headers and records spell them."""

CHAMPION: Arm = "champion"
CHALLENGER: Arm = "challenger"

Scorer = Literal["champion", "challenger", "previous"]
"""Who may be scored in shadow: the arm that did not serve, or after a promotion the champion of before."""

PREVIOUS: Scorer = "previous"

Label = str | int | float | bool
"""A class label or a regression target, as a client sends it."""


class Rule(StrEnum):
    """What a challenger has to show before it is promoted; declared for each rollout."""

    PROVE = "prove"
    """That it is better, at the planned level: for a new design, new features, a model handed in by a person."""
    REFRESH = "refresh"
    """That it is better on average, and not worse by more than a margin: for a retrained successor of the champion."""


class Task(StrEnum):
    """What a model predicts: class probabilities, or one number."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Result(StrEnum):
    """A verdict: what the evidence says, before anybody decides what to do about it."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"


class VerdictCause(StrEnum):
    """Why a verdict is what it is; decided once, by the evaluator, and all that a decision needs to know of it."""

    GROSS_HARM = "gross_harm"
    """Worse: the watch over single pairs has seen a loss beyond the gross margin."""
    HARM = "harm"
    """Worse: the primary metric has crossed its harm boundary."""
    GUARDRAIL = "guardrail"
    """Worse: a guardrail is shown to be broken."""
    SAMPLE_RATIO = "sample_ratio"
    """Invalid: the arms' counts do not fit the logged propensities."""
    MULTIPLE_EXPOSURE = "multiple_exposure"
    """Invalid: units met both arms under one allocation."""
    LABEL_ARRIVAL = "label_arrival"
    """Invalid: outcomes arrive for one arm more often than for the other."""
    LABEL_CONFLICT = "label_conflict"
    """Invalid: labels in use are contradicted by later outcomes for one arm more often than for the other."""
    WIN = "win"
    """Better: the win boundary is crossed, and the challenger is still ahead."""
    NOT_WORSE = "not_worse"
    """Better, under the rule `refresh`: ahead on average, and shown not to be worse by more than the margin."""
    FADED_WIN = "faded_win"
    """Better: the win boundary was crossed at an earlier look, and the challenger is ahead no more."""
    EQUIVALENT = "equivalent"
    """Equivalent: the effect lies within the declared margin."""
    SEGMENT_HARM = "segment_harm"
    """Inconclusive: worse for the requests of one segment."""
    NO_TRAFFIC = "no_traffic"
    """Inconclusive: an arm gets none of the traffic that it was promised."""
    UNSAFE_WIN = "unsafe_win"
    """Inconclusive: a win, but a guard looks broken or is not shown to hold yet."""
    NO_WINNER = "no_winner"
    """Inconclusive: the planned evidence is complete, and would have shown the smallest effect worth finding."""
    UNDERPOWERED = "underpowered"
    """Inconclusive: the planned evidence is complete, and would have missed that effect too often."""
    EVIDENCE_INCOMPLETE = "evidence_incomplete"
    """Inconclusive: the planned evidence is not complete."""


class Decision(StrEnum):
    """What is done about a verdict."""

    HOLD = "hold"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    ARCHIVE = "archive"
    EXTEND = "extend"


class Severity(StrEnum):
    """How bad a drift or a problem is, in worst-of order: `<`, `max` and the like compare ranks, never the text."""

    NONE = "NONE"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"

    @cached_property
    def rank(self) -> int:
        """0 for NONE up to 4 for CRITICAL."""
        return list(Severity).index(self)

    def __lt__(self, other: str) -> bool:
        return self.rank < Severity(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Severity(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Severity(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Severity(other).rank


TriggerKind = Literal["drift", "schedule", "performance", "quality", "volume", "rollback", "rule", "manual"]
"""What may ask for a retraining job."""

Channel = Literal["apprise", "webhook", "handler", "lineage"]
"""How people and systems are told of a notice."""

TriggerMode = Literal["suggest", "approve", "automatic"]
"""What a trigger may do by itself: say that a job is due, start one once a person has agreed, or start one."""


class Role(StrEnum):
    """What an API key may do; each role may do everything of the roles before it."""

    VIEWER = "viewer"
    INGEST = "ingest"
    OPERATOR = "operator"
    ADMIN = "admin"

    @cached_property
    def rank(self) -> int:
        return list(Role).index(self)
