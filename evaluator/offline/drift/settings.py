"""Settings of a drift check of files: the roles of columns, the rules, and what the order of rows means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evaluator.drift.performance import Task
from evaluator.drift.seasonality import Period
from evaluator.drift.settings import DriftSettings, Mode
from evaluator.offline.records import PlainRecord, check_limits, check_names, column, option
from gauntlet.errors import BadInput

FEWEST_VALUES = 10
"""Present values that a judgement of a whole table's distribution needs; p values are exact enough from here on.
A window of a stream needs more (`DriftSettings.fewest_rows`)."""


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
        "when each row was: seconds since 1970, or texts as 2026-01-31T12:00:00Z; never a feature; gaps, disorder and "
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
        """The settings from loosely typed values of a command line or notebook: one feature as a text, a class of any
        type.

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
