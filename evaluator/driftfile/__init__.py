"""Drift between files: `check` compares two tables, `Stream` watches one; the rules are those of `evaluator.drift`.

Reads tables in batches and keeps counts, a bounded sample and the outcome columns; writes nothing.
"""

from evaluator.driftfile.batch import check
from evaluator.driftfile.result import (
    SEVERITIES,
    ColumnDrift,
    DriftReport,
    Finding,
    StreamEvent,
    StreamReport,
    at_least,
)
from evaluator.driftfile.settings import DriftRequestError, Settings
from evaluator.driftfile.stream import Stream

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
