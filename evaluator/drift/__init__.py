"""Drift of features, errors and data quality as add-only, mergeable state.

Pure: numpy, scipy and river only; time and settings come in as arguments, nothing here reads a clock or a file.

Two ways in. A whole table against another, in any number of pieces (`Comparison`, or `compare` when it is in memory):

    profile = Profile.fit(columns, reference_id="2013-01", prediction="p", score=None, targets=truth, task=None,
                          regimes=())
    comparison = Comparison(profile, DriftSettings(mode="gated"))        # or mode="simple"
    comparison.add(columns, targets=truth)                               # any number of times; `+` merges two
    report = comparison.report()                                         # -> Report

    compare(reference, current, *, settings=None, prediction=None, score=None, target=None, task=None,
            importance=None, regimes=()) -> Report                       # columns by name, the target among them

And rows as they come, in time order:

    monitor = Monitor(profile, settings, key="...")
    monitor.observe(columns, at) -> list[DriftEvent]                     # features (and the prediction's column)
    monitor.observe_outcomes(targets, predictions, at, losses=None) -> list[DriftEvent]  # errors, performance, prior
    monitor.observe_errors(losses, at) -> list[DriftEvent]               # where only losses are known

With a daily or weekly cycle: `seasons = Seasons.fit(columns, at, "hour")`, then fit and observe
`seasons.adjusted(columns, at)`.

`Report`: severity (NONE, LOW, MEDIUM, HIGH, CRITICAL), confidence, root_cause, action, mode, reference_rows,
current_rows, features (`FeatureReport`: name, kind, statistic, lower, upper, p_value, threshold, drifted, psi,
wasserstein, importance), quality (`QualityReport`: score, findings of `Finding`: kind, feature, share, text),
performance (`PerformanceReport`: task, metrics of `MetricChange`: name, reference, current, change, limit, bound,
rows, estimated, breached; or None), outputs (prediction, score, target), regimes, signals, blamed (the top five);
`to_dict()` is JSON. `distribution(profile, name, comparison.counts)` gives what to draw. Columns are lists, numpy
arrays or `Coded` (whole numbers into a tuple of texts, -1 missing: cheap for text columns of a file).
"""

from evaluator.drift.columns import Coded
from evaluator.drift.comparison import Comparison, compare
from evaluator.drift.drawing import Distribution, distribution
from evaluator.drift.episodes import DriftEvent
from evaluator.drift.monitor import Monitor
from evaluator.drift.pane import ProfileMismatchError
from evaluator.drift.profile import Profile
from evaluator.drift.report import FeatureReport, Finding, PerformanceReport, QualityReport, RegimeReport, Report
from evaluator.drift.seasonality import Seasons
from evaluator.drift.settings import DriftSettings, Mode
from evaluator.drift.severity import Severity
from evaluator.drift.signal import Signal

__all__ = [
    "Coded",
    "Comparison",
    "Distribution",
    "DriftEvent",
    "DriftSettings",
    "FeatureReport",
    "Finding",
    "Mode",
    "Monitor",
    "PerformanceReport",
    "Profile",
    "ProfileMismatchError",
    "QualityReport",
    "RegimeReport",
    "Report",
    "Seasons",
    "Severity",
    "Signal",
    "compare",
    "distribution",
]
