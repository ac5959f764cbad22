"""The vocabulary every part speaks: arms, severities, verdicts, decisions and their worst-of order.

Pure values with no behaviour beyond ordering; nothing here does I/O or knows a service.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Arm = Literal["champion", "challenger"]
"""The two arms, as events, metrics, headers and records spell them."""

CHAMPION: Arm = "champion"
CHALLENGER: Arm = "challenger"

Scorer = Literal["champion", "challenger", "previous"]
"""Who may be scored in shadow: the arm that did not serve, or during a bake the champion of before."""

PREVIOUS: Scorer = "previous"

Label = str | int | float | bool
"""A class label or a regression target, as a client sends it."""


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


class Decision(StrEnum):
    """What is done about a verdict."""

    HOLD = "hold"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    ARCHIVE = "archive"
    EXTEND = "extend"


class Severity(StrEnum):
    """How bad a drift event is; compare with `rank`, never by the text."""

    NONE = "NONE"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"

    @property
    def rank(self) -> int:
        """0 for NONE up to 4 for CRITICAL: the explicit worst-of order."""
        return list(Severity).index(self)


class Role(StrEnum):
    """What an API key may do; each role may do everything of the roles before it."""

    VIEWER = "viewer"
    INGEST = "ingest"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return list(Role).index(self)
