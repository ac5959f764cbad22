"""Drift of features, errors and data quality, measured on counts against the frozen reference of one model version.

Pure: no clock, no file, no randomness of its own. Two entry points:

    profile = Profile.fit(columns, reference_id="2013-01", prediction="p", targets=truth)

    comparison = TableComparison(profile, DriftSettings(mode="gated"))   # a whole table, in any number of pieces
    comparison.add(columns, targets=truth)
    report = comparison.report()                                         # TableReport; `to_dict()` is JSON

    monitor = Monitor(profile, settings, key="...")                      # a stream, in time order
    monitor.observe(columns, at) -> list[DriftEvent]
    monitor.observe_outcomes(targets, predictions, at, losses=None) -> list[DriftEvent]

Columns are lists, numpy arrays or `Coded` (integer codes into a tuple of strings, -1 for missing).
"""

from evaluator.drift.columns import Coded, Column
from evaluator.drift.episodes import DriftEvent
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.seasonality import Seasonality
from evaluator.drift.settings import DriftSettings
from evaluator.drift.table_comparison import TableComparison, TableReport
from evaluator.drift.windows import ProfileMismatchError

__all__ = [
    "Coded",
    "Column",
    "DriftEvent",
    "DriftSettings",
    "Monitor",
    "Profile",
    "ProfileMismatchError",
    "Seasonality",
]
__all__ += ["TableComparison", "TableReport"]
