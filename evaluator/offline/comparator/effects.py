"""What a challenger improves on the same rows: each metric with its interval, over all rows and inside slices.

Slices are the values of named columns, judged by the primary metric, and minority classes, by their recall. Holm (1979)
over all of them together, because each is another chance to see harm where there is none. A slice without an answer
counts as a member of the family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from evaluator.offline.comparator.result import MetricEffect, SliceImprovement
from evaluator.offline.comparator.settings import ComparatorError
from evaluator.stats.multiplicity import holm
from gauntlet.config.evidence import MIN_HOLDOUT_BLOCKS
from gauntlet.holdout.bootstrap import intervals
from gauntlet.holdout.metrics import LOWER_IS_BETTER, HoldoutRows, statistic
from gauntlet.holdout.statistics import Floats, Improvement, Statistic
from gauntlet.table import Codes
from gauntlet.types import Task

_MOST_VALUES = 50


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Settings of the bootstrap."""

    alpha: float
    repetitions: int
    seed: int


def effects(
    names: Sequence[str], champion: Floats, challenger: Floats, rows: HoldoutRows, bootstrap: Bootstrap
) -> dict[str, MetricEffect]:
    """The improvement in each metric, all by one bootstrap. champion, challenger: outputs on the rows, (n, classes) or
    (n,)."""
    pairs: dict[str, Improvement] = {}
    for name in names:
        before, after = statistic(name, champion, rows), statistic(name, challenger, rows)
        pairs[name] = Improvement(before, after, name not in LOWER_IS_BETTER)
    found = intervals(
        pairs,
        rows.blocks,
        least=MIN_HOLDOUT_BLOCKS,
        alpha=bootstrap.alpha,
        repetitions=bootstrap.repetitions,
        seed=bootstrap.seed,
    )
    gains = {name: (one.estimate, one.lower, one.upper, one.p_value) for name, one in found.items()}
    return {
        name: MetricEffect(_value(pair.champion, rows), _value(pair.challenger, rows), *gains[name])
        for name, pair in pairs.items()
    }


def _value(one: Statistic, rows: HoldoutRows) -> float | None:
    value = float(one.evaluate(np.ones((1, rows.blocks)))[0][0])
    return value if np.isfinite(value) else None


def slices(
    columns: Mapping[str, Codes],
    primary: str,
    champion: Floats,
    challenger: Floats,
    rows: HoldoutRows,
    bootstrap: Bootstrap,
) -> tuple[SliceImprovement, ...]:
    """Every slice, those of the columns in the order of their values. Raises ComparatorError for too many values."""
    found: list[SliceImprovement] = []
    for column, coded in columns.items():
        present = np.unique(coded.codes[coded.codes >= 0]).tolist()
        if len(present) > _MOST_VALUES:
            raise ComparatorError(
                f"--slice {column}: it has {len(present):,} values, and at most {_MOST_VALUES} are judged; make bins"
            )
        for code in sorted(present, key=lambda code: coded.values[code]):
            chosen = coded.codes == code
            part = rows.part(chosen)
            effect = effects([primary], champion[chosen], challenger[chosen], part, bootstrap)[primary]
            found.append(SliceImprovement(column, coded.values[code], primary, int(chosen.sum()), *astuple(effect)))
    found += _minorities(champion, challenger, rows, bootstrap)
    adjusted = holm([one.p_value for one in found])
    return tuple(
        replace(one, adjusted_p_value=p, harmed=_harmed(one, p, bootstrap.alpha))
        for one, p in zip(found, adjusted, strict=True)
    )


def _minorities(
    champion: Floats, challenger: Floats, rows: HoldoutRows, bootstrap: Bootstrap
) -> list[SliceImprovement]:
    """The recall of every class that has less than its even share of the rows."""
    if rows.task is Task.REGRESSION:
        return []
    counts = np.bincount(rows.truth.astype(np.intp), minlength=len(rows.classes))
    rare = [i for i, count in enumerate(counts) if 0 < count < len(rows.truth) / len(rows.classes)]
    names = {i: f"recall@{rows.classes[i]}" for i in rare}
    judged = effects(list(names.values()), champion, challenger, rows, bootstrap)
    return [SliceImprovement(None, rows.classes[i], names[i], int(counts[i]), *astuple(judged[names[i]])) for i in rare]


def _harmed(one: SliceImprovement, p: float | None, alpha: float) -> bool | None:
    return None if p is None or one.improvement is None else one.improvement < 0 and p <= alpha
