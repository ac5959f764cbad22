"""Settings of a drift check of files: the roles of columns, the rules, and what the order of rows means."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

from evaluator.drift.performance import Task
from evaluator.drift.seasonality import PERIODS, Period
from evaluator.drift.settings import DriftSettings, Mode
from gauntlet.errors import BadInput

FEWEST_VALUES = 10
"""Present values below which nothing is said of a whole table's distribution; p values are exact enough from here on.
A window of a stream needs more (`DriftSettings.fewest_rows`)."""


class DriftRequestError(BadInput):
    """The settings don't fit each other or the tables; the message names the option or the file, and the reason."""

    code = "bad_drift_request"


@dataclass(frozen=True, slots=True)
class DriftFileSettings:
    """Checked when made: raises DriftRequestError. A threshold has the name that it has in `DriftSettings`."""

    target: str | None = None
    """The column with the truth."""
    prediction: str | None = None
    """The column with the model's label, probability or number."""
    features: tuple[str, ...] | None = None
    """Watched columns; None: all but target, prediction, timestamps, counters and identifiers."""
    mode: Mode = "gated"
    """`gated` asks for an effect AND evidence, `simple` for the bare thresholds."""
    task: Task | None = None
    """None: inferred from the target's values."""
    positive: str | None = None
    """The class that a probability is of; None: the last in order."""
    ordered: bool = True
    """Rows are in time order. Dependence between neighbours is measured on the reference and lowers the evidence."""
    batch_alpha: float = 0.05
    """False-discovery rate over the features when two tables are compared."""
    season: Period | None = None
    """Of a stream: numbers are compared with the reference's of the same hour or weekday (UTC) by `time`."""
    time: str | None = None
    """The column of timestamps: seconds since 1970, or ISO 8601 texts. It is no feature; its oddities are findings."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("mode", get_args(Mode)),
            ("task", (None, *get_args(Task))),
            ("season", (None, *PERIODS)),
        ):
            value = getattr(self, name)
            if value not in allowed:
                known = " or ".join(choice for choice in allowed if choice is not None)
                raise DriftRequestError(f"{name} must be {known}, not {value!r}")
        if not 0.0 < self.batch_alpha < 1.0:
            raise DriftRequestError(f"batch_alpha must be between 0 and 1, not {self.batch_alpha}")
        if self.season is not None and self.time is None:
            raise DriftRequestError("season needs time: name the column of timestamps")
        for name in ("task", "positive"):
            if getattr(self, name) is not None and self.target is None:
                raise DriftRequestError(f"{name} needs target: name the column with the truth")
        self._check_roles()

    def _check_roles(self) -> None:
        """Each column has one role."""
        if self.features is not None and not self.features:
            raise DriftRequestError("features names no column; leave it out to watch all of them")
        features = self.features or ()
        repeated = sorted({name for name in features if features.count(name) > 1})
        if repeated:
            raise DriftRequestError(f"features names {', '.join(map(repr, repeated))} more than once")
        roles = {role: getattr(self, role) for role in ("target", "prediction", "time")}
        for role, column in roles.items():
            other = next((name for name in roles if name != role and roles[name] == column), None)
            if column is not None and other is not None:
                raise DriftRequestError(f"{role} and {other} are the same column, {column!r}")
            if column in features:
                raise DriftRequestError(f"{column!r} is the {role} and can't be a feature too")

    @classmethod
    def from_options(cls, *, features: Any = None, positive: Any = None, **options: Any) -> DriftFileSettings:
        """From loosely typed values of a command line or notebook: one feature as a text, a class of any type."""
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

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)
