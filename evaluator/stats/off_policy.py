"""Off-policy evaluation: the value of a policy from logged actions and propensities, and a gate before live traffic.

With w the weight (the policy's chance of the logged action over its propensity), Y the reward, q̂ a model's prediction
of it, v̂ that prediction's mean over the policy's actions, and row terms ψ that average to the value:

| estimator | value | row term | right if |
|---|---|---|---|
| ips | mean of wY (Horvitz & Thompson 1952) | wY | propensities are |
| snips | Σ wY / Σ w (Hájek 1971; Swaminathan & Joachims 2015) | v + w(Y−v) / w̄ | they are; bias of order 1/n |
| dr | mean of v̂ + w(Y−q̂) (Robins, Rotnitzky & Zhao 1994; Dudík, Langford & Li 2011) | itself | they or q̂ are |

Intervals are for one look at a finished file, and are widened by the bias that clipping weights may cause. Invariant: a
policy whose actions were not logged often enough is refused with a reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from scipy.special import ndtri, stdtrit

from evaluator.stats.errors import NoAnswer, OutcomeError, PlanError, PropensityError, StatsError, require_between
from evaluator.stats.score_process import Bools, Floats, Ints

Estimator = Literal["ips", "snips", "dr"]
GateResult = Literal["pass", "fail", "no answer"]
RefusalKind = Literal["few rows", "no overlap", "heavy weights", "weights off"]

# Fewer clusters than this give no variance worth the name; the same number that a promotion needs.
FEWEST_CLUSTERS: Final = 20
# One row may carry this share of all weight.
_MOST_OF_ONE: Final = 0.1
# The weights' mean is 1 if propensities are true and the challenger's actions were possible; refused past this level.
_WEIGHT_LEVEL: Final = 1e-4


@dataclass(frozen=True, slots=True)
class NotEstimated(NoAnswer):
    """Why these rows say nothing about that policy."""

    kind: RefusalKind = "few rows"


def _refuse_unless(good: Bools, name: str, values: Floats, what: str, error: type[StatsError]) -> None:
    """Raise the error for the first value that is not good."""
    if not good.all():
        at = int(good.argmin())
        raise error(f"{name} {values[at]!r} at position {at} is not {what}")


@dataclass(frozen=True, eq=False)
class LoggedRewards:
    """Logged rows, arrays of shape (n,): rewards (larger is better), propensity of the action taken, and optionally the
    cluster (day, customer) as integers.

    lowest, highest: bounds of any reward; largest_weight: 1 / the smallest propensity that the logging design allows;
    each where known. Raises OutcomeError and PropensityError on impossible values.
    """

    rewards: Floats
    propensity: Floats
    clusters: Ints | None = None
    lowest: float | None = None
    highest: float | None = None
    largest_weight: float | None = None

    def __post_init__(self) -> None:
        if self.rewards.ndim != 1 or self.propensity.shape != self.rewards.shape:
            raise StatsError(f"propensities of shape {self.propensity.shape} do not fit rewards {self.rewards.shape}")
        if self.clusters is not None and self.clusters.shape != self.rewards.shape:
            raise StatsError(f"clusters of shape {self.clusters.shape} do not fit rewards {self.rewards.shape}")
        low = -math.inf if self.lowest is None else self.lowest
        high = math.inf if self.highest is None else self.highest
        within = np.isfinite(self.rewards) & (self.rewards >= low) & (self.rewards <= high)
        _refuse_unless(within, "reward", self.rewards, "finite and within bounds", OutcomeError)
        possible = (self.propensity > 0.0) & (self.propensity <= 1.0)
        _refuse_unless(possible, "propensity", self.propensity, "in (0, 1]", PropensityError)

    @property
    def bounds(self) -> tuple[float, float]:
        """Declared bounds of the reward, or the observed ones."""
        low = float(self.rewards.min()) if self.lowest is None else self.lowest
        high = float(self.rewards.max()) if self.highest is None else self.highest
        return low, high


@dataclass(frozen=True, eq=False)
class TargetPolicy:
    """A policy on the logged rows: its chance of the action that was logged, shape (n,).

    For dr also the model's prediction of the logged action's reward, and its mean over the policy's own actions.
    """

    chance: Floats
    predicted: Floats | None = None
    expected: Floats | None = None


@dataclass(frozen=True, slots=True)
class Estimation:
    """Settings of an estimate: level 1 − alpha of the interval, M ≥ 1 of clipping, effective rows needed."""

    estimator: Estimator = "snips"
    alpha: float = 0.05
    clip: float | None = None
    min_effective: float = 50.0

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise PlanError(f"unknown estimator {self.estimator!r}; known are {', '.join(get_args(Estimator))}")
        require_between("level", self.alpha, 0.0, 1.0)
        if self.clip is not None and not self.clip >= 1.0:
            raise PlanError(f"weights can't be clipped at {self.clip!r}: their mean is 1")


DEFAULT: Final = Estimation()


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """Estimated mean reward of a policy.

    lower, upper: normal theory, clipping's bias included. certain_lower, certain_upper: empirical Bernstein, None
    without bounds, with clusters, or for snips. effective: (Σw)² / Σw² rows. cut: b of clipping. bias: its limits.
    """

    estimator: Estimator
    value: float
    lower: float
    upper: float
    certain_lower: float | None
    certain_upper: float | None
    n: int
    n_clusters: int
    effective: float
    mean_weight: float
    most_weight: float
    cut: float
    bias: tuple[float, float]


@dataclass(frozen=True, slots=True)
class GateReading:
    """The offline gate's answer on the difference in value, challenger − champion."""

    result: GateResult
    reason: str
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None
    challenger: PolicyValue | None = None
    champion: PolicyValue | None = None


@dataclass(frozen=True, eq=False)
class _Terms:
    value: float
    rows: Floats  # ψ
    weights: Floats  # as used
    bias: tuple[float, float]
    cut: float


def policy_value(
    log: LoggedRewards, policy: TargetPolicy, settings: Estimation = DEFAULT
) -> PolicyValue | NotEstimated:
    """The policy's mean reward with its interval, or why these rows can't tell it."""
    terms = _terms(log, policy, settings)
    return terms if isinstance(terms, NotEstimated) else _value(log, policy, terms, settings)


def gate(
    log: LoggedRewards,
    challenger: TargetPolicy,
    champion: TargetPolicy | None = None,
    settings: Estimation = DEFAULT,
    *,
    needed: float = 0.0,
) -> GateReading:
    """May the challenger go on to live traffic? pass: its value is shown to exceed the champion's by more than `needed`
    (below 0: a non-inferiority margin); fail: it is shown not to.

    Without a `champion` the comparison is with the policy that was logged. Both are estimated on the same rows and
    their difference row by row, so what they have in common cancels.
    """
    if not math.isfinite(needed):
        raise PlanError(f"the difference needed {needed!r} is not a finite number")
    against = TargetPolicy(log.propensity, challenger.predicted, challenger.predicted) if champion is None else champion
    terms, values = [], []
    for name, policy in (("challenger", challenger), ("champion", against)):
        found = _terms(log, policy, settings)
        if isinstance(found, NotEstimated):
            return GateReading("no answer", f"the {name}'s value can't be told: {found.reason}")
        terms.append(found)
        values.append(_value(log, policy, found, settings))
    ours, theirs = terms
    difference = ours.value - theirs.value
    half, _ = _half_width(ours.rows - theirs.rows - difference, log.clusters, settings.alpha)
    lower = difference - half + ours.bias[0] - theirs.bias[1]
    upper = difference + half + ours.bias[1] - theirs.bias[0]
    what = (
        f"the challenger's value {values[0].value:.5g} less the champion's {values[1].value:.5g} is {difference:+.5g} "
        f"(from {lower:+.5g} to {upper:+.5g})"
    )
    result: GateResult = "pass" if lower > needed else "fail" if upper <= needed else "no answer"
    relation = {"pass": "above", "fail": "not above", "no answer": "on either side of"}[result]
    return GateReading(result, f"{what}, {relation} {needed:+.5g}", difference, lower, upper, *values)


def _value(log: LoggedRewards, policy: TargetPolicy, terms: _Terms, settings: Estimation) -> PolicyValue:
    half, clusters = _half_width(terms.rows - terms.value, log.clusters, settings.alpha)
    certain = _certain(log, policy, terms, settings) or (None, None)
    weights = terms.weights
    return PolicyValue(
        estimator=settings.estimator,
        value=terms.value,
        lower=terms.value - half + terms.bias[0],
        upper=terms.value + half + terms.bias[1],
        certain_lower=certain[0],
        certain_upper=certain[1],
        n=len(log.rewards),
        n_clusters=clusters,
        effective=float(weights.sum() ** 2 / (weights @ weights)),
        mean_weight=float(weights.mean()),
        most_weight=float(weights.max()),
        cut=terms.cut,
        bias=terms.bias,
    )


def _terms(log: LoggedRewards, policy: TargetPolicy, settings: Estimation) -> _Terms | NotEstimated:
    estimator, clip = settings.estimator, settings.clip
    raw = _weights(log, policy)
    weights = raw if clip is None else np.minimum(raw, clip)
    refused = _overlap(log, raw, weights, settings.min_effective)
    if refused is not None:
        return refused
    mean = float(weights.mean())
    # Two estimates of b; the weights left out are too few to trust the first alone.
    cut = 0.0 if clip is None else max(float(np.maximum(raw - clip, 0.0).mean()), 1.0 - mean, 0.0)
    low, high = log.bounds
    if estimator == "ips":
        rows = weights * log.rewards
        return _Terms(float(rows.mean()), rows, weights, (min(0.0, cut * low), max(0.0, cut * high)), cut)
    if estimator == "snips":
        value = float(weights @ log.rewards) / float(weights.sum())
        rows = value + weights * (log.rewards - value) / mean
        return _Terms(value, rows, weights, (cut * (low - value), cut * (high - value)), cut)
    predicted, expected = _model(log, policy)
    rows = expected + weights * (log.rewards - predicted)
    return _Terms(float(rows.mean()), rows, weights, (-cut * (high - low), cut * (high - low)), cut)


def _weights(log: LoggedRewards, policy: TargetPolicy) -> Floats:
    chance = policy.chance
    if chance.shape != log.rewards.shape:
        raise StatsError(f"chances of shape {chance.shape} do not fit rewards of shape {log.rewards.shape}")
    _refuse_unless((chance >= 0.0) & (chance <= 1.0), "the policy's chance", chance, "in [0, 1]", PropensityError)
    return np.asarray(chance / log.propensity, dtype=np.float64)


def _overlap(log: LoggedRewards, raw: Floats, weights: Floats, effective: float) -> NotEstimated | None:
    """Do these rows say anything about the policy? Checked from the crudest lack to the finest."""
    n = len(raw)
    clusters = n if log.clusters is None else len(np.unique(log.clusters))
    if n < 2:
        return NotEstimated(f"{n} rows are logged", kind="few rows")
    if log.clusters is not None and clusters < FEWEST_CLUSTERS:
        return NotEstimated(f"{clusters} of at least {FEWEST_CLUSTERS} clusters are logged", kind="few rows")
    if not raw.any():
        return NotEstimated("no logged action is one that the policy would take", kind="no overlap")
    rows, most = float(weights.sum() ** 2 / (weights @ weights)), float(weights.max() / weights.sum())
    if rows < effective:
        return NotEstimated(
            f"the {n} rows are worth {rows:.1f} under this policy, where {effective:g} are needed; "
            f"the largest weight is {weights.max():.4g}",
            kind="heavy weights",
        )
    if most > _MOST_OF_ONE:
        return NotEstimated(f"one row carries {most:.0%} of all weight", kind="heavy weights")
    mean = float(raw.mean())
    deviation = _standard_error(raw - mean, log.clusters)
    if abs(mean - 1.0) > -float(ndtri(_WEIGHT_LEVEL / 2.0)) * deviation + 1e-9:
        return NotEstimated(
            f"the weights average {mean:.4f} where 1 is expected: the propensities are not those in force, or the "
            "policy takes actions that were never possible",
            kind="no overlap" if mean < 1.0 else "weights off",
        )
    return None


def _model(log: LoggedRewards, policy: TargetPolicy) -> tuple[Floats, Floats]:
    predicted, expected = policy.predicted, policy.expected
    if predicted is None or expected is None:
        raise PlanError("the dr estimator needs the model's predicted and expected rewards")
    for values in (predicted, expected):
        if values.shape != log.rewards.shape or not np.isfinite(values).all():
            raise OutcomeError("the model's rewards are not one finite number a row")
    return predicted, expected


def _standard_error(deviations: Floats, clusters: Ints | None) -> float:
    sums: Floats = deviations
    if clusters is not None:
        _, index = np.unique(clusters, return_inverse=True)
        sums = np.bincount(index, deviations).astype(np.float64)
    return math.sqrt(float(sums @ sums) * len(sums) / (len(sums) - 1)) / len(deviations)


def _half_width(deviations: Floats, clusters: Ints | None, alpha: float) -> tuple[float, int]:
    """Half the width of the normal-theory interval, and the number of independent parts."""
    parts = len(deviations) if clusters is None else len(np.unique(clusters))
    return float(stdtrit(parts - 1, 1.0 - alpha / 2.0)) * _standard_error(deviations, clusters), parts


def _certain(
    log: LoggedRewards, policy: TargetPolicy, terms: _Terms, settings: Estimation
) -> tuple[float, float] | None:
    """The empirical Bernstein interval with clipping's bias bounded at a share of the level of its own."""
    estimator, alpha, clip = settings.estimator, settings.alpha, settings.clip
    most = min(log.largest_weight or math.inf, clip or math.inf)
    if log.clusters is not None or estimator == "snips" or not math.isfinite(most):
        return None
    if log.lowest is None or log.highest is None:
        return None
    low, high = log.lowest, log.highest
    if estimator == "ips":
        ends, bias = (min(0.0, most * low), max(0.0, most * high)), (min(0.0, low), max(0.0, high))
    else:
        predicted, expected = _model(log, policy)
        if min(predicted.min(), expected.min()) < low or max(predicted.max(), expected.max()) > high:
            return None
        ends, bias = (low - most * (high - low), high + most * (high - low)), (low - high, high - low)
    half = bernstein_half_width(terms.rows, ends[1] - ends[0], alpha / 2.0 if clip is None else alpha / 4.0)
    cut = 0.0
    if clip is not None:
        left_out = bernstein_half_width(terms.weights, most, alpha / 2.0)
        cut = min(1.0, max(0.0, 1.0 - float(terms.weights.mean()) + left_out))
    return terms.value - half + cut * bias[0], terms.value + half + cut * bias[1]


def bernstein_half_width(terms: Floats, width: float, alpha: float) -> float:
    """One-sided deviation of the mean of independent terms, each within an interval of that width, that is exceeded
    with probability at most alpha (Maurer & Pontil 2009, Theorem 4)."""
    n = len(terms)
    log = math.log(2.0 / alpha)
    return math.sqrt(2.0 * float(terms.var(ddof=1)) * log / n) + 7.0 * width * log / (3.0 * (n - 1))
