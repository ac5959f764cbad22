"""Two models on the same held-out rows: their metrics, and whether the newcomer's improvement is more than luck.

Pure: a paired, studentised bootstrap over blocks of time, because errors within a day come and go together.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from gauntlet.config.evidence import MIN_HOLDOUT_BLOCKS
from gauntlet.losses import loss, losses, summary
from gauntlet.types import Rule, Task

Floats = NDArray[np.float64]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A mean improvement a row with its one-sided lower bound; `lower` is None where the blocks allow none."""

    estimate: float
    lower: float | None
    blocks: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The holdout's answer: accepted or not, why, and both models' metrics on the same rows."""

    accepted: bool
    reasons: list[str]
    metric: str
    improvement: float
    lower: float | None
    confidence: float
    rows: int
    blocks: int
    champion: dict[str, float]
    challenger: dict[str, float]


def metrics(task: Task, output: Floats, truth: Floats) -> dict[str, float]:
    """The model's metrics over all rows: log_loss, brier, accuracy; or rmse, mae and (where the truth varies) r2."""
    means = {name: float(values.mean()) for name, values in losses(task, output, truth).items()}
    found = summary(task, means)
    if task is Task.REGRESSION:
        spread = float(((truth - truth.mean()) ** 2).mean())
        if spread > 0:
            found["r2"] = 1.0 - means["mse"] / spread
    return found


def improvement(
    differences: Floats,
    times: Floats,
    block: float,
    *,
    offset: float = 0.0,
    confidence: float,
    repetitions: int,
    seed: int,
) -> Interval:
    """Mean of paired `differences` (champion's loss − challenger's) with a one-sided lower bound at `confidence`.

    Rows are summed within blocks of `block` seconds that begin `offset` after midnight UTC; blocks are drawn with
    replacement (cluster bootstrap) and the mean is studentised in each draw by its own linearised standard error
    (bootstrap-t; Efron and Tibshirani 1993, section 12.5; Cameron, Gelbach and Miller 2008), because percentiles of
    few blocks are too narrow. Student's t with
    blocks − 1 degrees of freedom is asked too and the lower of both bounds holds: the bootstrap-t is too sure under
    heavy tails, Student's t under skew. Blocks are taken as uncorrelated. Memory: repetitions × blocks.
    """
    _, place = np.unique(np.floor((np.asarray(times, dtype=np.float64) - offset) / block), return_inverse=True)
    sums: Floats = np.bincount(place, weights=differences).astype(np.float64)
    counts: Floats = np.bincount(place).astype(np.float64)
    blocks = len(sums)
    estimate = float(sums.sum() / counts.sum())
    if blocks < MIN_HOLDOUT_BLOCKS:
        return Interval(estimate=estimate, lower=None, blocks=blocks)
    error = float(_standard_error(sums, counts, np.float64(estimate)))
    if error == 0.0:  # every block says the same: the mean is all there is to know
        return Interval(estimate=estimate, lower=estimate, blocks=blocks)
    drawn = np.random.default_rng(seed).integers(0, blocks, size=(repetitions, blocks))
    some_sums, some_counts = sums[drawn], counts[drawn]
    means = some_sums.sum(axis=1) / some_counts.sum(axis=1)
    errors = _standard_error(some_sums, some_counts, means[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw of equal blocks has no spread: it counts as extreme
        t = np.where(errors > 0, (means - estimate) / errors, np.where(means > estimate, np.inf, -np.inf))
    # The upper tail of t bounds from below: the draw's mean lies above the truth by t standard errors.
    place_of_quantile = min(int(np.ceil(confidence * (repetitions + 1))), repetitions) - 1
    quantile = max(
        float(np.partition(t, place_of_quantile)[place_of_quantile]), float(special.stdtrit(blocks - 1, confidence))
    )
    lower = estimate - quantile * error if np.isfinite(quantile) else None
    return Interval(estimate=estimate, lower=lower, blocks=blocks)


def _standard_error(sums: Floats, counts: Floats, mean: Floats | np.float64) -> Floats:
    """Standard error of a ratio of block sums, linearised: √(K/(K−1) Σ (s − mean·n)²) / Σ n, along the last axis."""
    blocks = sums.shape[-1]
    residuals = sums - mean * counts
    return np.asarray(np.sqrt(blocks / (blocks - 1) * (residuals**2).sum(axis=-1)) / counts.sum(axis=-1))


def _answer(
    rule: Rule, metric: str, rows: int, found: Interval, worse: float | None, min_improvement: float, confidence: float
) -> tuple[bool, list[str]]:
    """Whether the rule accepts this improvement, and why. `worse`: the bound of the opposite."""
    improves = f"{metric} improves by {found.estimate:.4g} a row on {rows:,} held-out rows"
    over = f"at {confidence:.0%} confidence over {found.blocks} blocks"
    if rule is Rule.REFRESH:
        accepted = worse is None or worse <= 0
        judged = "not clearly worse" if worse is None or accepted else f"worse by at least {worse:.4g}"
        return accepted, [improves, f"{over} it is {judged}"]
    enough = found.estimate >= min_improvement
    sure = found.lower is not None and found.lower > 0
    if found.lower is None:
        bound = (
            f"{found.blocks} blocks are too few or too alike for a bound (it takes {MIN_HOLDOUT_BLOCKS} or more): "
            "no answer"
        )
    else:
        bound = f"{over} the improvement is at least {found.lower:.4g}, {'above' if sure else 'not above'} 0"
    asked = f"{'at least' if enough else 'less than'} the {min_improvement:g} asked for"
    return enough and sure, [f"{improves}, {asked}", bound]


def compare(
    metric: str,
    champion: Floats,
    challenger: Floats,
    truth: Floats,
    times: Floats,
    *,
    task: Task,
    block: float,
    offset: float = 0.0,
    rule: Rule,
    min_improvement: float,
    confidence: float,
    repetitions: int,
    seed: int,
) -> Comparison:
    """The gate. `prove`: better by at least `min_improvement` (in the metric's units), and surely better than not at
    all. `refresh`: not clearly worse; a live comparison tells more than any holdout, so only what has no hope is kept
    from it.

    `champion` and `challenger` are both models' outputs on the same rows, which neither was fitted on; `truth` is class
    indices or values, `times` seconds.
    """
    difference = loss(metric, champion, truth) - loss(metric, challenger, truth)

    def bounded(values: Floats) -> Interval:
        return improvement(
            values, times, block, offset=offset, confidence=confidence, repetitions=repetitions, seed=seed
        )

    found = bounded(difference)
    worse = bounded(-difference).lower if rule is Rule.REFRESH else None
    accepted, reasons = _answer(rule, metric, len(difference), found, worse, min_improvement, confidence)
    return Comparison(
        accepted=accepted,
        reasons=reasons,
        metric=metric,
        improvement=found.estimate,
        lower=found.lower,
        confidence=confidence,
        rows=len(difference),
        blocks=found.blocks,
        champion=metrics(task, champion, truth),
        challenger=metrics(task, challenger, truth),
    )
