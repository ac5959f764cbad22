"""What a drift check of files is asked for: which columns mean what, which rules, and what row order means.

Immutable and checked on construction; nothing is read here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from evaluator.drift.seasonality import PERIODS, Period
from gauntlet.errors import BadInput

Mode = Literal["gated", "simple"]
Task = Literal["classification", "regression"]


class DriftRequestError(BadInput):
    """What was asked for can't be answered from these files; the message names the file or option, and the reason."""

    code = "bad_drift_request"


@dataclass(frozen=True, slots=True)
class Settings:
    """Raises DriftRequestError for settings that can't be meant.

    target, prediction: columns, or None. features: columns to watch, None for all that are neither of these, nor times,
    counters or identifiers. mode: `gated` asks for an effect AND evidence, `simple` takes the plain thresholds. task,
    positive: None to infer them from the target's values. ordered: rows are in time order; dependence between
    neighbours is then measured on the reference and takes weight from the evidence. alpha: false-discovery rate over
    all features of one comparison. time: the column that says when each row was, seconds since 1970 or ISO 8601 texts;
    it is no feature, and what is odd about the times is told. season: of a stream, hold each number against the
    reference's of the same hour or weekday (UTC) by `time`.
    """

    target: str | None = None
    prediction: str | None = None
    features: tuple[str, ...] | None = None
    mode: Mode = "gated"
    task: Task | None = None
    positive: str | None = None
    ordered: bool = True
    alpha: float = 0.05
    season: Period | None = None
    time: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise DriftRequestError(f"mode is gated or simple, not {self.mode!r}")
        if self.task is not None and self.task not in get_args(Task):
            raise DriftRequestError(f"task is classification or regression, not {self.task!r}")
        if not 0.0 < self.alpha < 1.0:
            raise DriftRequestError(f"alpha is above 0 and below 1, got {self.alpha}")
        if self.season is not None and self.season not in PERIODS:
            raise DriftRequestError(f"season is {' or '.join(PERIODS)}, not {self.season!r}")
        if self.season is not None and self.time is None:
            raise DriftRequestError("a season needs time: the column that says when each row was")
        if self.time is not None and self.time in (self.target, self.prediction, *(self.features or ())):
            raise DriftRequestError(f"{self.time!r} is the time and can't be something else too")
        if self.target is not None and self.target == self.prediction:
            raise DriftRequestError(f"target and prediction are the same column, {self.target!r}")
        if self.features is not None:
            if not self.features:
                raise DriftRequestError("features names no column")
            twice = {name for name in self.features if self.features.count(name) > 1}
            if twice:
                raise DriftRequestError(f"features names {', '.join(map(repr, sorted(twice)))} more than once")
            for role in ("target", "prediction"):
                if getattr(self, role) in self.features:
                    raise DriftRequestError(f"{getattr(self, role)!r} is the {role} and can't be a feature too")
        if self.task is not None and self.target is None:
            raise DriftRequestError("a task needs a target")
        if self.positive is not None and self.target is None:
            raise DriftRequestError("a positive class needs a target")

    @classmethod
    def of(
        cls,
        *,
        target: str | None = None,
        prediction: str | None = None,
        features: object = None,
        mode: str = "gated",
        task: str | None = None,
        positive: object = None,
        ordered: bool = True,
        alpha: float = 0.05,
        season: str | None = None,
        time: str | None = None,
    ) -> Settings:
        """From loosely typed values as a command line or a notebook gives them."""
        if isinstance(features, str):
            features = (features,)
        names = None if features is None else tuple(str(name) for name in cast("Iterable[object]", features))
        return cls(
            target=target,
            prediction=prediction,
            features=names,
            mode=cast("Mode", mode),
            task=cast("Task | None", task),
            positive=None if positive is None else str(positive),
            ordered=ordered,
            alpha=float(alpha),
            season=cast("Period | None", season),
            time=time,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)
