"""Records of a drift check of files: its settings (roles of columns, rules, what the order of rows means), its results.

They are frozen, and the same in Python and JSON. A number without evidence is None, and a note or a finding gives the
reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluator.drift.columns import Column
from evaluator.drift.performance import MetricChange, Task
from evaluator.drift.seasonality import Period
from evaluator.drift.settings import DriftSettings, Mode
from evaluator.offline.records import PlainRecord, check_limits, check_names, column, option
from gauntlet.errors import BadInput

FEWEST_VALUES = 10
"""Present values that a judgement of a whole table's distribution needs; p values are exact enough from here on.
A window of a stream needs more (`DriftSettings.fewest_rows`)."""


UNKNOWN = "UNKNOWN"
"""Severity of an answer in which nothing was found, and not all that was asked could be judged."""


class DriftRequestError(BadInput):
    """The settings don't fit each other or the tables; the message names the option or the file, and the reason."""

    code = "bad_drift_request"


@dataclass(frozen=True, kw_only=True)
class DriftFileSettings(PlainRecord):
    """Checked when made: raises DriftRequestError. A threshold has the name that it has in `DriftSettings`."""

    target: str | None = column("column with the truth", None)
    prediction: str | None = column("column with a label, the positive class's probability, or a number", None)
    features: tuple[str, ...] | None = column(
        "columns to watch, spaces or commas between; default: all but target, prediction, times, counters and "
        "identifiers",
        None,
        nargs="+",
    )
    mode: Mode = option("gated: effect AND evidence; simple: bare thresholds", "gated")
    task: Task | None = option("kind of model; default: by the target's values", None)
    positive: str | None = option(
        "the class whose probability is predicted; default: the last in order, such as 1 of 0 and 1",
        None,
        metavar="CLASS",
    )
    ordered: bool = option("the order of rows means nothing, so neighbours are independent", True, negated="unordered")
    batch_alpha: float = option(
        "false-discovery rate over the features when two tables are compared", 0.05, above=0.0, below=1.0
    )
    season: Period | None = option(
        "for a stream with a cycle: compare numbers with the reference's of the same hour or weekday (UTC, by --time)",
        None,
    )
    time: str | None = column(
        "when each row was: seconds since 1970, or texts as 2026-01-31T12:00:00Z; it is no feature; gaps, disorder and "
        "a clock that stands still are reported",
        None,
    )

    def __post_init__(self) -> None:
        check_limits(self, DriftRequestError)
        if self.season is not None and self.time is None:
            raise DriftRequestError("--season needs --time: name the column of timestamps")
        for name in ("task", "positive"):
            if getattr(self, name) is not None and self.target is None:
                raise DriftRequestError(f"--{name} needs --target: name the column with the truth")
        self._check_roles()

    def _check_roles(self) -> None:
        """Each column has one role."""
        if self.features is not None and not self.features:
            raise DriftRequestError("--features names no column; leave it out to watch all of them")
        features = self.features or ()
        repeated = sorted({name for name in features if features.count(name) > 1})
        if repeated:
            raise DriftRequestError(f"--features names {', '.join(map(repr, repeated))} more than once")
        roles = {role: getattr(self, role) for role in ("target", "prediction", "time")}
        for role, named in roles.items():
            other = next((name for name in roles if name != role and roles[name] == named), None)
            if named is not None and other is not None:
                raise DriftRequestError(f"--{role} and --{other} are the same column, {named!r}")
            if named in features:
                raise DriftRequestError(f"{named!r} is the {role} and can't be a feature too")

    @classmethod
    def from_options(cls, *, features: Any = None, positive: Any = None, **options: Any) -> DriftFileSettings:
        """From loosely typed values of a command line or notebook: one feature as a text, a class of any type.

        Raises TypeError for an option that there isn't.
        """
        check_names(options, cls)
        names = (features,) if isinstance(features, str) else features
        return cls(
            features=None if names is None else tuple(str(name) for name in names),
            positive=None if positive is None else str(positive),
            **options,
        )

    @property
    def rules(self) -> DriftSettings:
        """The thresholds for two whole tables."""
        return DriftSettings(mode=self.mode, batch_alpha=self.batch_alpha, fewest_rows=FEWEST_VALUES)


@dataclass(frozen=True, slots=True)
class ColumnSample:
    """Rows of one column on both sides, for a histogram."""

    reference: Column
    current: Column
    numeric: bool


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """One column of the current rows against the reference."""

    name: str
    kind: str
    """numeric or categorical."""
    statistic: float | None
    """Kolmogorov-Smirnov distance of numbers, total variation of categories, from 0 to 1."""
    lower: float | None
    """Certified bounds on the statistic, which counts on a grid leave open."""
    upper: float | None
    p_value: float | None
    """p value of this column alone, with rows weighed by their dependence."""
    adjusted_p_value: float | None
    """After Benjamini and Hochberg (1995) over all features."""
    threshold: float | None
    """The statistic that counts as drift: the rule's, or what the column reaches inside the reference."""
    drifted: bool | None
    """The threshold was reached with evidence, or the column is gone or of another type; None where it can't
    be judged."""
    psi: float | None
    """For information, as is `wasserstein` (in standard deviations of the reference)."""
    wasserstein: float | None
    missing: tuple[float, float]
    """Shares of cells without a usable value, reference and current."""
    effective_rows: float | None
    """Independent rows that the current ones are worth: the effective sample size."""
    signals: tuple[str, ...]
    """Kinds of the signals raised about the column."""
    sample: ColumnSample | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact about the data: its kind, the column (None: the whole table, or the model) and a sentence.

    `alarming`: a rule raised a signal about it too, or something is plainly broken; other findings are notes. `judged`:
    False where, for this reason, the column, the table or the model can't be judged.
    """

    kind: str
    column: str | None
    message: str
    alarming: bool = False
    judged: bool = True


@dataclass(frozen=True, slots=True)
class DataQuality:
    """Share of usable cells relative to the reference, from 0 to 1 (None before a window is full), and findings."""

    score: float | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Performance:
    """Metrics of the model on the reference and now. prediction_kind: label, probability or number. judged: False where
    they say nothing, for a reason that a finding gives."""

    task: str
    prediction_kind: str
    positive: str | None
    metrics: tuple[MetricChange, ...]
    judged: bool = True


@dataclass(frozen=True, slots=True)
class DriftStep:
    """Drift at one place of the rows, for plots: distances by feature, relative rise of the mean loss, quality.

    row: of a stream the last row seen, of two tables the first row of the slice.
    """

    row: int
    severity: str
    scores: dict[str, float]
    error_rise: float | None
    quality: float | None


@dataclass(frozen=True, slots=True)
class DriftReport(PlainRecord):
    """Drift of current rows against reference rows.

    `severity` is UNKNOWN, without a confidence, where nothing was found and something that was asked can't be judged.
    """

    severity: str
    confidence: float | None
    root_cause: str
    action: str
    features: tuple[ColumnDrift, ...]
    """Every watched feature, drifted ones first."""
    quality: DataQuality
    performance: Performance | None
    """None without target and prediction."""
    prediction: ColumnDrift | None
    target: ColumnDrift | None
    not_judged: tuple[Finding, ...]
    """The findings that say what can't be judged, and why."""
    signals: tuple[dict[str, Any], ...]
    rows: tuple[int, int]
    """Number of rows in reference and current."""
    notes: tuple[str, ...]
    """What was inferred or weighed differently, and why."""
    settings: dict[str, Any]
    steps: Sequence[DriftStep] = field(default=(), repr=False, compare=False)
    """The same judgement of consecutive slices of the current rows, for plots."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted, worst first."""
        return tuple(feature.name for feature in self.features if feature.drifted)


@dataclass(frozen=True, slots=True)
class StreamEvent(PlainRecord):
    """The opening, escalation or close of a drift episode in a stream."""

    row: int
    """The row (from 0) whose arrival made it known."""
    event: str
    severity: str
    confidence: float
    root_cause: str
    features: tuple[dict[str, Any], ...]
    """The top five to blame: name, statistic, lower, upper, p_value, threshold, kind."""
    signals: tuple[dict[str, Any], ...]
    """All raised signals, as `evaluator.drift.signals.Signal`."""
    action: str
    episode: str


@dataclass(frozen=True, slots=True)
class StreamReport(PlainRecord):
    """Drift of one file in time order: every event, the worst severity and the last one; both are UNKNOWN where nothing
    was found and something that was asked can't be judged."""

    severity: str
    final_severity: str
    events: tuple[StreamEvent, ...]
    not_judged: tuple[Finding, ...]
    rows: int
    reference_rows: int
    quality: DataQuality
    notes: tuple[str, ...]
    settings: dict[str, Any]
    steps: tuple[DriftStep, ...] = field(default=(), repr=False)
    samples: dict[str, ColumnSample] = field(default_factory=dict, repr=False, compare=False)
    """Values of the columns to blame, or of those that moved most: the reference against the `last_rows`."""
    last_rows: int = field(default=0, repr=False)
