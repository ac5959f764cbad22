"""What a person asks of a comparison, as one checked record: `ComparatorSettings`, and what each metric must show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evaluator.offline.records import PlainRecord, by_field, check_limits, check_names, column, option
from gauntlet.errors import BadInput

PERIODS: Mapping[str, float] = {"day": 86_400.0, "hour": 3_600.0}
"""Blocks of time by name, in seconds."""


class ComparatorError(BadInput):
    """Settings that contradict themselves, the models or the rows; the message names the option and a remedy."""

    code = "bad_comparison"


_OF_ANY_SIZE = ("log_loss", "brier", "rmse", "mae", "r2")
"""Metrics that may change by 1 and more; all others are shares."""


@dataclass(frozen=True, slots=True)
class Requirement(PlainRecord):
    """What a metric must show: an improvement of `threshold` that is significant, or, as a guardrail, that it is not
    significantly worse than `margin` allows."""

    metric: str
    threshold: float | None = None
    margin: float | None = None

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """The requirement in `name[:threshold=x]` or `name[:margin=x]`; a name alone is a guardrail. Raises
        ComparatorError."""
        name, found, kind = text, None, ""
        before, colon, last = text.rpartition(":")
        if colon and last.partition("=")[0] in ("threshold", "margin"):
            name, (kind, _, value) = before, last.partition("=")
            found = _number(value, text)
        if not name:
            raise ComparatorError(f"--metric {text!r}: a name comes first, as in auc or recall:margin=0.01")
        if kind == "threshold":
            return cls(name, threshold=found)
        return cls(name, margin=found or 0.0)


def _number(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ComparatorError(f"--metric {text!r}: {value!r} is no number of 0 or more")
    return number


@dataclass(frozen=True, kw_only=True)
class ComparatorSettings(PlainRecord):
    """What to compare and how. Raises ComparatorError.

    The first metric is the primary one, which must improve by `threshold`; without any it is the task's usual one.
    """

    target: str = column("column with the truth", "target")
    metrics: tuple[Requirement, ...] = option(
        "the first one decides; again for each further one; see below; default: auc or rmse",
        (),
        name="metric",
        repeated=True,
        metavar="SPEC",
    )
    threshold: float = option("least improvement of the first metric, in its own units", 0.01, least=0.0)
    alpha: float = option("level of significance (Type I error), two-sided", 0.05, above=0.0, most=0.5)
    cluster: str | None = column(
        "rows with the same value err together, as those of a day; `day` and `hour` are made of --time", None
    )
    time: str | None = column("when each row was: seconds since 1970, or texts as 2026-01-31T12:00:00Z", None)
    slices: tuple[str, ...] = column(
        "no value of this column may be significantly worse; again for each", (), name="slice", repeated=True
    )
    max_latency_increase: float = option("by how much a prediction may take longer, as a share", 0.10, least=0.0)
    latency: bool = option("do not time the models", True, negated="no-latency")
    task: Literal["classification", "regression"] | None = option("kind of model; default: what the model is", None)
    features: tuple[str, ...] = column("the columns in the order of a model that does not name them", (), nargs="+")
    classes: tuple[str, ...] = option(
        "the classes of a model that does not name them, in the order of its probabilities",
        (),
        nargs="+",
        metavar="CLASS",
    )
    trusted: tuple[str, ...] = option(
        "a type in a skops file that may be loaded; again for each", (), repeated=True, metavar="TYPE"
    )
    allow_pickle: bool = option("load joblib files, which can run any code", False)
    repetitions: int = option("draws of the bootstrap", 2000, least=200, most=100_000)
    seed: int = option("seed of the bootstrap", 0, least=0)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> ComparatorSettings:
        """The settings from options as people write them. Raises ComparatorError, and TypeError for an option that
        there isn't."""
        check_names(options, cls)
        given = by_field(cls, options)
        for name in ("metrics", "slices", "features", "classes", "trusted"):
            value = given.get(name, ())
            given[name] = (value,) if isinstance(value, str | Requirement) else tuple(value)
        given["metrics"] = tuple(
            one if isinstance(one, Requirement) else Requirement.parse(one) for one in given["metrics"]
        )
        given["classes"] = tuple(map(str, given["classes"]))
        return cls(**given)

    def __post_init__(self) -> None:
        check_limits(self, ComparatorError)
        named = [one.metric for one in self.metrics]
        for name, values in (("metric", named), ("slice", self.slices), ("features", self.features)):
            twice = next((one for one in values if list(values).count(one) > 1), None)
            if twice is not None:
                raise ComparatorError(f"--{name} names {twice!r} twice")
        if self.target in self.slices:
            raise ComparatorError(f"--slice {self.target!r} is the target; classes are judged by themselves")
        if self.target in self.features:
            raise ComparatorError(f"--features {self.target!r} is the target: the models would be told the truth")

    def requirements(self, usual: str) -> tuple[Requirement, ...]:
        """What must hold, the primary metric first; `usual` is the task's, where none was named."""
        first, *others = self.metrics or (Requirement(usual),)
        threshold = self.threshold if first.threshold is None else first.threshold
        if first.margin:
            raise ComparatorError(
                f"--metric {first.metric}:margin=…: the first metric must improve; a guardrail follows it"
            )
        found = (Requirement(first.metric, threshold=threshold), *others)
        for one in found:
            asked = max(one.threshold or 0.0, one.margin or 0.0)
            if asked >= 1 and one.metric not in _OF_ANY_SIZE:
                raise ComparatorError(
                    f"{asked:g} is asked of {one.metric}, which is from 0 to 1: write a percentage as a share"
                )
        return found
