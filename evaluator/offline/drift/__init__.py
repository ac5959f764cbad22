"""Drift of files: `compare_tables` judges one table against another, `DriftStream` watches one in time order.

The rules are those of `evaluator.drift`. Tables are read in batches; kept are counts, a bounded sample and the outcome
columns. Nothing is written.
"""

from evaluator.drift.severity import Severity
from evaluator.offline.drift.result import ColumnDrift, DriftReport, Finding, StreamEvent, StreamReport
from evaluator.offline.drift.settings import DriftFileSettings, DriftRequestError
from evaluator.offline.drift.stream import DriftStream
from evaluator.offline.drift.two_tables import compare_tables

__all__ = [
    "ColumnDrift",
    "DriftFileSettings",
    "DriftReport",
    "DriftRequestError",
    "DriftStream",
    "Finding",
    "Severity",
    "StreamEvent",
    "StreamReport",
    "compare_tables",
]
