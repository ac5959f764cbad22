"""Comparisons in the metrics' own units: effects, limits, p values with their correction, and the classical test.

Invariant: a pure function of what was counted; each comparison is made once, when all that it says is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import ndtr

from evaluator.offline.experiment import verdict
from evaluator.offline.experiment.aggregation import CellKey, Experiment, segment_name
from evaluator.offline.experiment.cells import Cell
from evaluator.offline.experiment.result import Comparison, FixedHorizon, LookPoint, Stopped
from evaluator.offline.experiment.sequential_looks import FEWEST_EVENTS, LookResults, number
from evaluator.stats.interim_analysis import too_little_for_harm, too_little_for_win
from evaluator.stats.multiplicity import benjamini_hochberg, holm
from evaluator.stats.score_process import Arm
from evaluator.stats.sequential_test import Plan

# A p value of exactly nothing is a limit of floating point, not of the data.
_LEAST_P = 1e-300


def comparisons(experiment: Experiment, results: LookResults) -> dict[CellKey, Comparison]:
    """The comparison of every challenger × metric × segment, by the key of its cell."""
    keys = {key: index for index, key in enumerate(experiment.cells) if key.metric >= 0}
    p_values = {key: _p_value(results, index, experiment.settings.alpha) for key, index in keys.items()}
    corrected: dict[CellKey, tuple[float | None, int]] = {}
    for name, family in _families(experiment, p_values).items():
        correct = benjamini_hochberg if name[0] == "exploratory" else holm
        adjusted = correct([p_values[key] for key in family])
        corrected |= {key: (p, len(family)) for key, p in zip(family, adjusted, strict=True)}
    found = {}
    for key, index in keys.items():
        facts = _facts(experiment, results, key, index, corrected.get(key, (None, 1)))
        found[key] = _comparison(experiment, key, facts, p_values[key], results.history[index])
    return found


def _families(experiment: Experiment, keys: dict[CellKey, float | None]) -> dict[tuple[object, ...], list[CellKey]]:
    """Families of several comparisons that are corrected together.

    Holm over the primaries of all challengers, and over the segments of each comparison; Benjamini-Hochberg over the
    exploratory ones. A guardrail is a question of its own: each may stop the challenger at its own level.
    """
    families: dict[tuple[object, ...], list[CellKey]] = {}
    for key in keys:
        role = experiment.cells[key].metric.role
        if key.segment is not None:
            families.setdefault(("segment", key.challenger, key.metric, key.segment[0]), []).append(key)
        elif role in ("primary", "exploratory"):
            families.setdefault((role,), []).append(key)
    return {name: family for name, family in families.items() if len(family) > 1}


def two_sided(results: LookResults, index: int) -> float:
    """Always-valid p value of a cell, both directions together."""
    return min(1.0, 2.0 * min(float(results.p_win[index]), float(results.p_harm[index])))


def _p_value(results: LookResults, index: int, alpha: float) -> float | None:
    """Two-sided p value; None before both sides are tested, unless the harm side alone has crossed.

    With the harm side alone p = 1 would look like an answer.
    """
    if not results.states.looks[index]:
        return None
    p = two_sided(results, index)
    both = results.last.ready_win[index] and (results.decided or p < 1.0)
    return p if both or p <= alpha else None


def _comparison(
    experiment: Experiment, key: CellKey, facts: verdict.LookFacts, p_value: float | None, history: Sequence[LookPoint]
) -> Comparison:
    cell, arms = experiment.cells[key], (experiment.log.arms[0], experiment.log.arms[key.challenger])
    decided, reasons = verdict.of_comparison(facts)
    return Comparison(
        challenger=arms[1],
        metric=cell.metric.name,
        segment=segment_name(experiment.log, key.segment),
        kind=cell.metric.kind,
        direction="higher" if cell.metric.higher_is_better else "lower",
        role=cell.metric.role,
        margin=cell.metric.margin,
        n=dict(zip(arms, cell.n, strict=True)),
        mean=dict(zip(arms, cell.influence.figures(), strict=True)),
        effect=facts.effect,
        lower=facts.lower,
        upper=facts.upper,
        z=facts.z,
        p_value=p_value,
        adjusted_p_value=facts.corrected,
        fixed=fixed_horizon(cell),
        verdict=decided,
        reasons=reasons,
        looks=facts.looks,
        stopped=facts.stopped,
        information_fraction=facts.fraction,
        blocks=facts.blocks,
        widening=facts.widening,
        skewness=facts.skewness,
        history=tuple(history),
    )


def _facts(
    experiment: Experiment, results: LookResults, key: CellKey, index: int, corrected: tuple[float | None, int]
) -> verdict.LookFacts:
    cell, settings, looks = experiment.cells[key], experiment.settings, int(results.states.looks[index])
    states, evidence = results.states, results.last.shown
    effect = number(evidence.effect[index], cell.in_units) if looks else None
    limits = _limits(cell, float(states.lower[index]), float(states.upper[index]))
    # Limits that exclude the present effect stem from looks that could still decide; beside it they would mislead.
    contradictory = effect is not None and not _contains(limits[0], effect, limits[1])
    available = bool(evidence.available[index])
    clustered = available and evidence.clustered
    lower_in_units = float(states.lower[index]) * cell.influence.scale
    own = verdict.of_boundary(float(states.stops.crossed[index]), cell.metric.margin, lower_in_units)
    return verdict.LookFacts(
        verdict=own,
        mode=settings.mode,
        alpha=settings.alpha,
        planned=settings.min_samples is not None,
        rows=experiment.rows,
        looks=looks,
        effect=effect,
        oriented_effect=None if effect is None else effect * cell.sign,
        lower=None if contradictory else limits[0],
        upper=None if contradictory else limits[1],
        contradictory=contradictory,
        margin=cell.metric.margin,
        z=number(results.last.z[index], cell.sign) if looks else None,
        fraction=float(results.last.fraction[index]) if available else None,
        blocks=int(evidence.n_blocks[index]) if settings.cluster is not None else None,
        widening=float(evidence.widening[index]) if clustered else None,
        skewness=float(evidence.skewness[index]) * cell.sign if clustered else None,
        waits=_lacking(experiment, results, key, index),
        stopped=_stopped(results, cell, index, own, limits),
        corrected=corrected[0],
        family=corrected[1],
    )


def _limits(cell: Cell, lower: float, upper: float) -> tuple[float | None, float | None]:
    """Limits of the scores in the metric's own units and sign."""
    low, high = number(lower, cell.in_units), number(upper, cell.in_units)
    return (high, low) if cell.in_units < 0.0 else (low, high)


def _contains(lower: float | None, effect: float, upper: float | None) -> bool:
    return (lower is None or lower <= effect) and (upper is None or effect <= upper)


def _stopped(
    results: LookResults, cell: Cell, index: int, own: str, limits: tuple[float | None, float | None]
) -> Stopped | None:
    """The look at which a boundary was first crossed; its limits are left out where they exclude its effect."""
    stops = results.states.stops
    if not stops.crossed[index]:
        return None
    rows = int(results.stop_rows[index])
    point = next((point for point in results.history[index] if point.rows == rows), None)
    lower, upper = limits if point is None else (point.lower, point.upper)
    effect = number(stops.effect[index], cell.in_units) or 0.0
    if not _contains(lower, effect, upper):
        lower = upper = None
    return Stopped(int(stops.look[index]), rows, own, effect, lower, upper)


def _lacking(experiment: Experiment, results: LookResults, key: CellKey, index: int) -> str | None:
    """Reason why a cell has no answer yet, or none for better; None if nothing is missing."""
    looks, cell, clustered = results.last, experiment.cells[key], experiment.settings.cluster is not None
    champion, challenger = (Arm(int(n), total, squares) for n, total, squares in cell.arms.tolist())
    for arm, n in zip((0, key.challenger), cell.n, strict=True):
        if not n:
            return f"{experiment.log.arms[arm]} has no outcomes"
    least = cell.metric.min_samples
    if min(champion.n, challenger.n) < least:
        return f"the smaller arm has {min(champion.n, challenger.n)} of at least {least} outcomes"
    if cell.events < FEWEST_EVENTS:
        return f"the smaller arm has {cell.events:.0f} of at least {FEWEST_EVENTS:.0f} rows of the metric's class"
    why = looks.shown.lacking(index)
    if why is not None:
        return why if clustered or looks.shown.n_blocks[index] else "no row could be scored yet"
    plan = Plan(horizon=1.0, clustered=clustered)
    if not looks.ready_harm[index]:
        return too_little_for_harm(champion, challenger, int(looks.shown.n_blocks[index]), plan)
    if not looks.ready_win[index]:
        return too_little_for_win(champion, challenger, looks.shown, plan, index)
    return None


def fixed_horizon(cell: Cell) -> FixedHorizon:
    """The classical fixed-horizon test on all rows, shown for comparison; it decides nothing.

    Two proportions: the pooled z test. Other means: unpooled (Welch). Pairs: the paired test. Other metrics: the score
    test of all rows without clusters. None where nothing varies.
    """
    if cell.paired:
        n, total, squares = cell.difference.tolist()
        z = _mean_z(total / n, (squares - total * total / n) / (n - 1.0) / n) if n > 1.0 else None
    elif cell.metric.plain:
        z = _two_means(cell)
    else:
        z = _mean_z(cell.counts.score, cell.counts.variance)
    if z is None:
        return FixedHorizon(None, None)
    return FixedHorizon(cell.sign * z, max(float(2.0 * ndtr(-abs(z))), _LEAST_P))


def _two_means(cell: Cell) -> float | None:
    (n0, s0, q0), (n1, s1, q1) = cell.arms.tolist()
    if min(n0, n1) < 2.0:
        return None
    difference = s1 / n1 - s0 / n0
    if q0 == abs(s0) and q1 == abs(s1):
        p = abs(s0 + s1) / (n0 + n1)
        return _mean_z(difference, p * (1.0 - p) * (1.0 / n0 + 1.0 / n1))
    return _mean_z(difference, (q0 - s0 * s0 / n0) / (n0 - 1.0) / n0 + (q1 - s1 * s1 / n1) / (n1 - 1.0) / n1)


def _mean_z(mean: float, variance: float) -> float | None:
    return mean / math.sqrt(variance) if variance > 0.0 else None
