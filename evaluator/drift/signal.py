"""The vocabulary of findings: what kinds there are, what one says, and what one look at the state found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "distribution",  # Kolmogorov-Smirnov distance of a numeric feature
    "categories",  # total variation of a categorical feature
    "unseen",  # more values that the reference never had than a sample of its size leaves unseen
    "displaced",  # most of the longest window beyond three standard deviations
    "outliers",  # more values beyond three standard deviations than the reference has
    "missing",  # more cells without a usable value
    "column_gone",
    "type_change",
    "quality",  # the score of the whole table
    "concept",  # rise of the error
    "accuracy",  # worse than the reference's
    "r2",
    "rmse",
    "estimated_accuracy",  # worse by the scores alone, without outcomes
    "prediction",  # distribution of what the model says
    "prior",  # distribution of the outcomes
    "regime",  # transitions of a column
]
Key = tuple[Kind, str]
"""A signal's identity over time: its kind and its feature (empty for the whole table)."""
Family = Literal["covariate", "outliers", "quality", "concept", "estimate", "prediction", "prior", "regime"]
_FAMILIES: dict[Kind, Family] = {
    "distribution": "covariate",
    "categories": "covariate",
    "unseen": "covariate",
    "displaced": "covariate",
    "outliers": "outliers",
    "missing": "quality",
    "column_gone": "quality",
    "type_change": "quality",
    "quality": "quality",
    "concept": "concept",
    "accuracy": "concept",
    "r2": "concept",
    "rmse": "concept",
    "estimated_accuracy": "estimate",
    "prediction": "prediction",
    "prior": "prior",
    "regime": "regime",
}
SHAPES: frozenset[Kind] = frozenset({"distribution", "categories", "unseen", "displaced", "prediction", "prior"})
"""Kinds that say a distribution moved."""
BREACHES: frozenset[Kind] = frozenset({"concept", "accuracy", "r2", "rmse"})
"""Kinds that say the model is worse, seen on outcomes."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A rule that passed: `statistic` reached `threshold` with `p_value` (0 for facts) on the last `window` rows.

    `lower` and `upper` enclose the statistic (certified for distributions); `critical` says that twice the threshold,
    or the critical quality, was passed too.
    """

    kind: Kind
    feature: str
    statistic: float
    lower: float
    upper: float
    threshold: float
    p_value: float
    window: int
    critical: bool = False

    @property
    def key(self) -> Key:
        """What it is about, whatever the numbers."""
        return self.kind, self.feature

    @property
    def family(self) -> Family:
        """The family in which its evidence counts once."""
        return _FAMILIES[self.kind]

    @property
    def strength(self) -> float:
        """Times the threshold."""
        return self.statistic / self.threshold


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: signals `raised` now, and keys of raised or earlier signals that have not fallen
    (`held`).

    `certain` are those of `raised` whose evidence is already good for any number of looks: they need no second one.
    """

    raised: Mapping[Key, Signal] = field(default_factory=dict)
    held: frozenset[Key] = frozenset()
    certain: frozenset[Key] = frozenset()

    def __and__(self, other: Look) -> Look:
        """What both looks found about the same keys, each with its weaker signal."""
        both = {
            key: min(signal, other.raised[key], key=lambda one: one.strength)
            for key, signal in self.raised.items()
            if key in other.raised
        }
        return Look(both, self.held & other.held, self.certain & other.certain)

    def __or__(self, other: Look) -> Look:
        """Both looks as one; they are about different keys."""
        return Look({**self.raised, **other.raised}, self.held | other.held, self.certain | other.certain)
