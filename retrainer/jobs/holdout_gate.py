"""Two models on the same held-out rows: their metrics, and whether the newcomer's improvement is more than luck.

Pure: a paired, studentised bootstrap over blocks of time, because errors within a day come and go together.
"""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np

from gauntlet.config.evidence import MIN_HOLDOUT_BLOCKS
from gauntlet.holdout.bootstrap import intervals
from gauntlet.holdout.statistics import Floats, Ratio, beside, change_in_words
from gauntlet.losses import loss, losses, summary
from gauntlet.types import Rule, Task

_WHOLE = 0.5
"""Share of a usual block's rows that a block must have to speak for a model that is worse in all the others."""


class BoundedImprovement(msgspec.Struct, frozen=True, kw_only=True):
    """A mean improvement a row with its one-sided lower bound; `lower` is None where the blocks allow none."""

    estimate: float
    lower: float | None
    blocks: int


class GateAnswer(msgspec.Struct, frozen=True, kw_only=True):
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


def metrics(task: Task, output: Floats, truth: Floats, weights: Floats | None = None) -> dict[str, float]:
    """The model's metrics over all rows: log_loss, brier, accuracy; or rmse, mae and (where the truth varies) r2."""
    means = {name: float(np.average(values, weights=weights)) for name, values in losses(task, output, truth).items()}
    found = summary(task, means)
    if task is Task.REGRESSION:
        spread = float(np.average((truth - np.average(truth, weights=weights)) ** 2, weights=weights))
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
    weights: Floats | None = None,
) -> BoundedImprovement:
    """Mean of paired `differences` (champion's loss − challenger's) with a one-sided lower bound at `confidence`.

    Rows are summed within blocks of `block` seconds that begin `offset` after midnight UTC; blocks are drawn with
    replacement, see `gauntlet.holdout.bootstrap`.
    """
    sums, counts = _blocks(differences, times, block, offset, weights)
    found = intervals(
        {"mean": Ratio(sums, counts)},
        len(sums),
        least=MIN_HOLDOUT_BLOCKS,
        alpha=2 * (1 - confidence),
        repetitions=repetitions,
        seed=seed,
    )["mean"]
    return BoundedImprovement(estimate=float(sums.sum() / counts.sum()), lower=found.lower, blocks=found.blocks)


def _blocks(
    differences: Floats, times: Floats, block: float, offset: float, weights: Floats | None
) -> tuple[Floats, Floats]:
    """Sum and number of the rows in each block that has any; with weights the sum and the weight."""
    weight = np.ones(len(differences)) if weights is None else weights
    _, place = np.unique(np.floor((np.asarray(times, dtype=np.float64) - offset) / block), return_inverse=True)
    sums, counts = (np.bincount(place, weights=each) for each in (weight * differences, weight))
    return sums.astype(np.float64), counts.astype(np.float64)


def _answer(
    rule: Rule,
    metric: str,
    rows: int,
    found: BoundedImprovement,
    worse: float | None,
    throughout: bool,
    margin: float,
    min_improvement: float,
    confidence: float,
) -> tuple[bool, list[str]]:
    """Whether the rule accepts this improvement, and why. `worse`: the bound of the opposite; `throughout`: whether it
    is worse by more than the margin in every block; `margin`: the loss that `refresh` allows, in the metric's units."""
    improves = change_in_words(metric, found.estimate, " a row", f" on {rows:,} held-out rows")
    over = f"at {confidence:.0%} confidence over {found.blocks} blocks"
    if rule is Rule.REFRESH:
        if worse is None or worse <= margin:
            return True, [improves, f"{over} it is not shown to be worse by more than the margin of {margin:.4g}"]
        shown = f"{over} it is worse by at least {worse:.4g}, more than the margin of {margin:.4g}"
        if throughout:
            return False, [improves, f"{shown}, and by that much in each of them"]
        return True, [improves, f"{shown}, but not in each of them: refitted on all rows, it may have learned why"]
    enough = found.estimate >= min_improvement
    sure = found.lower is not None and found.lower > 0
    if found.lower is None:
        bound = (
            f"{found.blocks} blocks are too few or too alike for a bound (it takes {MIN_HOLDOUT_BLOCKS} or more): "
            "no answer"
        )
    else:
        bound = f"{over} the improvement is at least {found.lower:.4g}, {'above' if sure else 'not above'} 0"
    asked = beside(found.estimate, min_improvement, enough=enough)
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
    margin: float,
    min_improvement: float,
    confidence: float,
    repetitions: int,
    seed: int,
    weights: Floats | None = None,
) -> GateAnswer:
    """The gate. `prove`: better by at least `min_improvement` (in the metric's units), and surely better than not at
    all. `refresh`: not surely worse by more than `margin`, a share of the champion's mean loss, and that in each block;
    a live comparison tells more than any holdout, so only what has no hope is kept from it. After a change within the
    held-out days both models are wrong, and which of them more is chance; what will serve has those days learned, too.

    `champion` and `challenger` are both models' outputs on the same rows, which neither was fitted on; `truth` is class
    indices or values, `times` seconds; `weights` are None where all rows count alike.
    """
    before = loss(metric, champion, truth)
    difference, allowed = before - loss(metric, challenger, truth), margin * float(np.average(before, weights=weights))
    bounded = partial(
        improvement,
        times=times,
        block=block,
        offset=offset,
        confidence=confidence,
        repetitions=repetitions,
        seed=seed,
        weights=weights,
    )
    found = bounded(difference)
    worse = bounded(-difference).lower if rule is Rule.REFRESH else None
    sums, counts = _blocks(difference, times, block, offset, weights)
    whole = counts >= _WHOLE * np.median(counts)
    throughout = bool((-sums > allowed * counts)[whole].all())
    accepted, reasons = _answer(
        rule, metric, len(difference), found, worse, throughout, allowed, min_improvement, confidence
    )
    return GateAnswer(
        accepted=accepted,
        reasons=reasons,
        metric=metric,
        improvement=found.estimate,
        lower=found.lower,
        confidence=confidence,
        rows=len(difference),
        blocks=found.blocks,
        champion=metrics(task, champion, truth, weights),
        challenger=metrics(task, challenger, truth, weights),
    )
