"""Drift between files: `check` compares two tables, `Stream` watches one; the rules are those of `evaluator.drift`.

Reads tables in batches and keeps counts, a bounded sample and the outcome columns; writes nothing.
"""

from evaluator.offline.drift.result import (
    SEVERITIES,
    ColumnDrift,
    DriftReport,
    Finding,
    StreamEvent,
    StreamReport,
    at_least,
)
from evaluator.offline.drift.settings import DriftRequestError, Settings
from evaluator.offline.drift.stream import Stream
from evaluator.offline.drift.two_tables import check

__all__ = [
    "SEVERITIES",
    "ColumnDrift",
    "DriftReport",
    "DriftRequestError",
    "Finding",
    "Settings",
    "Stream",
    "StreamEvent",
    "StreamReport",
    "at_least",
    "check",
]
