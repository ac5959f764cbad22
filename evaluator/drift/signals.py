"""Vocabulary of the drift rules: the kinds of signal, one signal with its evidence, and the result of one look."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from evaluator.drift.grid import Bools, Floats

Kind = Literal[
    "distribution",  # Kolmogorov-Smirnov distance of a numeric feature
    "categories",  # total variation of a categorical feature
    "unseen",  # more values that the reference never had than a sample of its size leaves unseen
    "displaced",  # most of the longest window beyond three standard deviations
    "outliers",  # more values beyond three standard deviations than the reference has
    "missing",  # more cells without a usable value
    "column_gone",
    "type_change",
    "quality",  # the quality score of the whole table
    "concept",  # rise of the mean loss
    "accuracy",  # worse than the reference's
    "r2",
    "rmse",
    "estimated_accuracy",  # worse by the scores alone, without outcomes (CBPE)
    "prediction",  # distribution of the predictions
    "prior",  # distribution of the outcomes
    "regime",  # transitions of a column
]
Key = tuple[Kind, str]
"""A signal's identity over time: its kind and its feature (empty for the whole table)."""
Family = Literal["covariate", "outliers", "quality", "concept", "estimate", "prediction", "prior", "regime"]
_FAMILIES: dict[Kind, Family] = {
    **dict.fromkeys(("distribution", "categories", "unseen", "displaced"), "covariate"),
    **dict.fromkeys(("missing", "column_gone", "type_change", "quality"), "quality"),
    **dict.fromkeys(("concept", "accuracy", "r2", "rmse"), "concept"),
    "outliers": "outliers",
    "estimated_accuracy": "estimate",
    "prediction": "prediction",
    "prior": "prior",
    "regime": "regime",
}
DISTRIBUTION_KINDS: frozenset[Kind] = frozenset(
    {"distribution", "categories", "unseen", "displaced", "prediction", "prior"}
)
PERFORMANCE_KINDS: frozenset[Kind] = frozenset({"concept", "accuracy", "r2", "rmse"})
"""Kinds of a loss of performance that was seen on outcomes."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A rule that fired: `statistic` reached `threshold` with `p_value` (0 for facts) on the last `window` rows.

    `lower` and `upper` enclose the statistic (certified for distributions); `critical`: twice the threshold, or the
    critical quality, was passed too.
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

    @classmethod
    def point(
        cls,
        kind: Kind,
        feature: str,
        statistic: float,
        threshold: float,
        window: int,
        p_value: float = 0.0,
        critical: bool = False,
    ) -> Signal:
        """A signal whose statistic is known exactly."""
        return cls(kind, feature, statistic, statistic, statistic, threshold, p_value, window, critical)

    @property
    def key(self) -> Key:
        return self.kind, self.feature

    @property
    def family(self) -> Family:
        """The family in which its evidence counts once."""
        return _FAMILIES[self.kind]

    @property
    def strength(self) -> float:
        """The statistic in multiples of the threshold."""
        return self.statistic / self.threshold


def strongest(signals: Iterable[Signal]) -> dict[Key, Signal]:
    best: dict[Key, Signal] = {}
    for signal in signals:
        if signal.key not in best or signal.strength > best[signal.key].strength:
            best[signal.key] = signal
    return best


@dataclass(frozen=True, slots=True)
class LookResult:
    """The result of one look: signals `raised` now, and keys of raised or earlier signals that have not fallen
    (`held`). `certain` are the raised keys whose evidence holds for any number of looks: no second look is needed.
    """

    raised: Mapping[Key, Signal] = field(default_factory=dict)
    held: frozenset[Key] = frozenset()
    certain: frozenset[Key] = frozenset()

    @classmethod
    def of(cls, signals: Iterable[Signal], held: Collection[Key] = (), certain: Collection[Key] = ()) -> LookResult:
        """The raised signals: all that fired, and the earlier ones, by key, that still hold."""
        raised = strongest(signals)
        return cls(raised, frozenset(held) | frozenset(raised), frozenset(certain))

    def __and__(self, other: LookResult) -> LookResult:
        """The keys in both looks, each with its weaker signal."""
        both = {
            key: min(signal, other.raised[key], key=lambda one: one.strength)
            for key, signal in self.raised.items()
            if key in other.raised
        }
        return LookResult(both, self.held & other.held, self.certain & other.certain)

    def __or__(self, other: LookResult) -> LookResult:
        """Two looks with different keys as one."""
        return LookResult({**self.raised, **other.raised}, self.held | other.held, self.certain | other.certain)


Effect = TypeVar("Effect", float, Floats)


def has_recovered(longer: Effect, shorter: Effect, *, calm: Effect, margin: Effect) -> bool | Bools:
    """Whether a drift that the `longer` window still holds has ended, by a `shorter` one with the same end.

    A window of sums still contains the rows of a drift that is over. It has ended if the effect in the shorter window,
    larger is worse, is at most `calm`, and below that in the longer one by at least `margin`. Numbers, or arrays of one
    shape: features, losses and performance metrics share this rule.
    """
    return (shorter <= calm) & (longer - shorter >= margin)
