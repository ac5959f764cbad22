"""Comparisons in the metrics' own units: effects, limits, p values with their correction; verdicts and their reasons.

Invariant: a pure function of what was counted. Nothing is called better while a guard is broken or in doubt, while a
guardrail or a declared segment is worse, or where the evidence doesn't survive the correction over everything that was
asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from scipy.special import ndtr

from evaluator.offline.experiment.aggregation import CellKey, Experiment, segment_name
from evaluator.offline.experiment.cells import Cell
from evaluator.offline.experiment.result import ArmComparison, ClassicalTest, SampleRatioResult, Stopped, TrafficGuard
from evaluator.offline.experiment.sequential_looks import FEWEST_EVENTS, LookResults, number
from evaluator.stats.interim_analysis import too_little
from evaluator.stats.multiplicity import benjamini_hochberg, holm
from evaluator.stats.panel import BETTER, WORSE
from evaluator.stats.score_process import Arm, Floats
from evaluator.stats.sequential_test import Plan
from evaluator.stats.tails import Tails

# A p value of exactly nothing is a limit of floating point, not of the data.
_LEAST_P = 1e-300
_UNDEFINED = {
    "ratio": "its denominator is 0 in every row",
    "precision": "it has predicted none of the class",
    "recall": "it has no outcome of the class",
    "f1": "it has neither predicted the class nor met it",
    "auc": "its outcomes are of one class",
    "r2": "its outcomes are all alike",
}
"""Why a metric is undefined for an arm that has outcomes."""


def comparisons(experiment: Experiment, results: LookResults) -> dict[CellKey, ArmComparison]:
    """The comparison of every challenger × metric × segment, by the key of its cell."""
    keys = {key: index for index, key in enumerate(experiment.cells) if key.metric >= 0}
    p_values = {key: _p_value(results, index, experiment.settings.alpha) for key, index in keys.items()}
    corrected: dict[CellKey, tuple[float | None, int]] = {}
    for name, family in _families(experiment, p_values).items():
        correct = benjamini_hochberg if name[0] == "exploratory" else holm
        adjusted = correct([p_values[key] for key in family])
        corrected |= {key: (p, len(family)) for key, p in zip(family, adjusted, strict=True)}
    return {
        key: _comparison(experiment, results, key, index, p_values[key], *corrected.get(key, (None, 1)))
        for key, index in keys.items()
    }


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
    return min(1.0, 2.0 * min(float(results.last.p_win[index]), float(results.last.p_harm[index])))


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
    experiment: Experiment,
    results: LookResults,
    key: CellKey,
    index: int,
    p_value: float | None,
    corrected: float | None,
    family: int,
) -> ArmComparison:
    """index: of the cell. corrected: the p value after the correction over a family of so many comparisons."""
    cell, arms = experiment.cells[key], (experiment.log.arms[0], experiment.log.arms[key.challenger])
    states, evidence = results.states, results.last.shown
    looks = int(states.looks[index])
    effect = number(cell.effect_in_units(float(results.last.effect[index]))) if looks else None
    limits = _limits(cell, float(states.lower[index]), float(states.upper[index]))
    # Limits that exclude the present effect stem from looks that could still decide; beside it they would mislead.
    contradictory = effect is not None and not _contains(limits[0], effect, limits[1])
    available = bool(evidence.available[index])
    clustered = available and evidence.clustered
    own = _of_boundary(float(states.stops.crossed[index]), cell.metric.margin, float(states.lower[index]))
    one = ArmComparison(
        challenger=arms[1],
        metric=cell.metric.name,
        segment=segment_name(experiment.log, key.segment),
        kind=cell.metric.kind,
        direction="higher" if cell.metric.higher_is_better else "lower",
        role=cell.metric.role,
        margin=cell.metric.margin,
        n=dict(zip(arms, cell.n, strict=True)),
        mean=dict(zip(arms, cell.influence.figures(), strict=True)),
        effect=effect,
        lower=None if contradictory else limits[0],
        upper=None if contradictory else limits[1],
        z=number(results.last.z[index], cell.sign) if looks else None,
        p_value=p_value,
        adjusted_p_value=corrected,
        fixed=fixed_horizon(cell),
        verdict=own,
        reasons=(),
        looks=looks,
        stopped=_stopped(results, cell, index, own, limits),
        information_fraction=float(results.last.fraction[index]) if available else None,
        blocks=int(evidence.n_blocks[index]) if experiment.settings.cluster is not None else None,
        widening=float(evidence.widening[index]) if clustered else None,
        skewness=float(evidence.skewness[index]) * cell.sign if clustered else None,
        history=tuple(results.history[index]),
    )
    held = Tails.of_sums(cell.powers.sums[None]).lacking_for_harm(0) if results.last.harm_held[index] else None
    reasons = _reasons(experiment, one, _lacking(experiment, results, key, index), held)
    if contradictory:
        reasons.append(
            "no interval: the limits of the looks that counted and the effect over all rows contradict each other"
        )
    return _decided(one, reasons, experiment.settings.alpha, family)


def _of_boundary(crossed: float, margin: float, lower: float) -> str:
    """Verdict of a comparison's own boundary. With a margin, crossing shows only that it is not worse by more."""
    if crossed == WORSE:
        return "worse"
    if crossed == BETTER:
        return "better" if not margin or lower > 0.0 else "equivalent"
    return "inconclusive"


def _decided(one: ArmComparison, reasons: list[str], alpha: float, family: int) -> ArmComparison:
    """The comparison with its verdict over all rows, after the correction over so many comparisons."""
    verdict, p, effect = one.verdict, one.adjusted_p_value, one.effect
    # An equivalent challenger may be worse by less than the margin.
    turned = effect is not None and (effect if one.direction == "higher" else -effect) <= -one.margin
    if verdict in ("better", "equivalent") and turned:
        verdict = "inconclusive"
        reasons.insert(0, f"it crossed its boundary, but over all rows the effect is {effect:+.5g}: not decided")
    if p is not None and p > alpha and verdict != "inconclusive":
        verdict = "inconclusive"
        asked = f"not enough once {family} comparisons are asked at a time"
        reasons.insert(0, f"{asked}: p = {p:.3g} after correction, above {alpha:g}")
    elif p is not None and verdict == "better" and one.margin:
        # p is about the margin; that it is better as well would be one more question.
        verdict = "equivalent"
    return replace(one, verdict=verdict, reasons=tuple(reasons))


def _reasons(experiment: Experiment, one: ArmComparison, waits: str | None, held: str | None) -> list[str]:
    """waits: why better, or anything, can't be said yet; held: why worse can't."""
    if not one.looks:
        return [f"no answer yet, because {waits}"]
    reasons, null = [], f"a margin of {one.margin:g}" if one.margin else "no effect"
    stop = one.stopped
    if stop is not None:
        what = "not worse by more than the margin" if stop.verdict == "equivalent" else stop.verdict
        limits = ", ".join("…" if limit is None else f"{limit:+.5g}" for limit in (stop.lower, stop.upper))
        reasons.append(
            f"{what}: the effect {stop.effect:+.5g} [{limits}] crossed the boundary against {null} at look "
            f"{stop.look}, after {stop.rows:,} rows"
        )
    else:
        looks = (
            "at the only look that counts, the last"
            if experiment.settings.mode == "fixed"
            else f"in {one.looks} {'look' if one.looks == 1 else 'looks'}"
        )
        reasons.append(f"inconclusive: z = {one.z or 0.0:.2f} crossed no boundary {looks}")
        reasons += [f"not enough for {what} yet: {why}" for what, why in (("better", waits), ("worse", held)) if why]
        if experiment.settings.min_samples is not None:
            reasons += _horizon(experiment, one)
    if one.blocks is not None:
        widening = (
            ""
            if one.widening is None
            else f", skewness {one.skewness or 0.0:.2f}; correlation of neighbours multiplies the variance by "
            f"{one.widening:.2f}"
        )
        reasons.append(f"{one.blocks} clusters{widening}")
    return reasons


def _horizon(experiment: Experiment, one: ArmComparison) -> list[str]:
    """Sentence on the share of the planned evidence."""
    fraction = one.information_fraction or 0.0
    if fraction >= 1.0:
        complete = "the planned evidence is complete: further rows can show, but not decide"
        return [complete] if experiment.settings.mode == "group-sequential" else []
    if fraction <= 0.0:
        return []
    left = math.ceil(experiment.rows * (1.0 / fraction - 1.0))
    return [f"{fraction:.0%} of the planned evidence is in; about {left:,} more rows would complete it"]


def _limits(cell: Cell, lower: float, upper: float) -> tuple[float | None, float | None]:
    """Limits of the scores in the metric's own units and sign."""
    low, high = number(cell.in_units(lower)), number(cell.in_units(upper))
    return (high, low) if cell.sign < 0.0 else (low, high)


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
    effect = number(cell.effect_in_units(float(stops.effect[index]))) or 0.0
    if not _contains(lower, effect, upper):
        lower = upper = None
    return Stopped(int(stops.look[index]), rows, own, effect, lower, upper)


def _lacking(experiment: Experiment, results: LookResults, key: CellKey, index: int) -> str | None:
    """Reason why a cell has no answer yet, or none for better; None if nothing is missing."""
    looks, cell, clustered = results.last, experiment.cells[key], experiment.settings.cluster is not None
    if looks.ready_win[index]:
        return None
    champion, challenger = (Arm(int(n), total, squares) for n, total, squares in cell.arms.tolist())
    for arm, n, figure in zip((0, key.challenger), cell.n, cell.influence.figures(), strict=True):
        name, kind = experiment.log.arms[arm], cell.metric.kind
        if not n:
            return f"{name} has no outcomes"
        if figure is None and kind in _UNDEFINED:
            return f"{name} has no {kind}: {_UNDEFINED[kind]}"
    if cell.metric.kind == "coverage" and champion.total == champion.n and challenger.total == challenger.n:
        return "every row has a value, so that all are covered; a column that says so by 1 and 0 is a proportion"
    least = cell.metric.min_samples
    if min(champion.n, challenger.n) < least:
        return f"the smaller arm has {min(champion.n, challenger.n)} of at least {least} outcomes"
    if cell.events < FEWEST_EVENTS:
        return f"the smaller arm has {cell.events:.0f} of at least {FEWEST_EVENTS:.0f} rows of the metric's class"
    why = looks.shown.lacking(index)
    if why is not None and not looks.ready_harm[index]:
        return why if clustered or looks.shown.n_blocks[index] else "no row could be scored yet"
    plan = Plan(horizon=1.0, clustered=clustered)
    if looks.ready_harm[index] and (tail := Tails.of_sums(cell.powers.sums[None]).lacking(0)):
        return tail
    sign = 1.0 if looks.ready_harm[index] else -1.0
    return too_little(champion.n, challenger.n, int(looks.shown.n_blocks[index]), plan, sign)


def fixed_horizon(cell: Cell) -> ClassicalTest:
    """The classical fixed-horizon test on all rows, shown for comparison; it decides nothing.

    Two proportions: the pooled z test. Other means: unpooled (Welch). Pairs: the paired test. Other metrics: the score
    test of all rows without clusters. None where nothing varies.
    """
    sums = cell.powers.sums  # about one of the outcomes: squares about 0 of values near 1e9 hold no variance
    if cell.paired:
        n, _, variance = _mean_of(sums[1])
        z = _mean_z(float(cell.powers.means[1]), variance / n) if n > 1.0 else None
    elif cell.metric.plain:
        z = _two_means(cell, sums)
    else:
        z = _mean_z(cell.counts.score, cell.counts.variance)
    if z is None:
        return ClassicalTest(None, None)
    return ClassicalTest(cell.sign * z, max(float(2.0 * ndtr(-abs(z))), _LEAST_P))


def _mean_of(sums: Floats) -> tuple[float, float, float]:
    """n, mean about the origin and unbiased variance of one arm of `PowerSums`."""
    n, total, squares = sums[:3].tolist()
    spread = squares - total * total / max(n, 1.0)
    return n, total / max(n, 1.0), (spread if spread > 1e-12 * squares else 0.0) / max(n - 1.0, 1.0)


def _two_means(cell: Cell, sums: Floats) -> float | None:
    (n0, s0, q0), (n1, s1, q1) = cell.arms.tolist()
    if min(n0, n1) < 2.0:
        return None
    if q0 + q1 == abs(s0 + s1):
        p = abs(s0 + s1) / (n0 + n1)
        return _mean_z(s1 / n1 - s0 / n0, p * (1.0 - p) * (1.0 / n0 + 1.0 / n1))
    (_, mean0, variance0), (_, mean1, variance1) = map(_mean_of, sums)
    return _mean_z(mean1 - mean0, variance0 / n0 + variance1 / n1)


def _mean_z(mean: float, variance: float) -> float | None:
    return mean / math.sqrt(variance) if variance > 0.0 else None


def of_experiment(
    comparisons: Iterable[tuple[int, ArmComparison]],
    arms: Sequence[str],
    ratio: SampleRatioResult | None,
    guards: Sequence[TrafficGuard],
    doubts: dict[int, list[str]],
) -> tuple[str, list[str]]:
    """The first of invalid, better (a challenger that passed everything), worse, equivalent, inconclusive.

    Comparisons and doubts (what is not shown to be wrong, and still reason enough not to call anything better) come
    with the index of their challenger in `arms`.
    """
    broken = [f"sample ratio mismatch: {ratio.reason}"] if ratio is not None and ratio.mismatch else []
    broken += [f"{guard.name}: {guard.reason}" for guard in guards if not guard.ok]
    if broken:
        return "invalid", broken
    comparisons = list(comparisons)
    verdicts, reasons = [], []
    for index in range(1, len(arms)):
        own = [one for challenger, one in comparisons if challenger == index]
        verdict, why = _of_challenger(own, doubts.get(index, []))
        verdicts.append(verdict)
        reasons += [f"{arms[index]}: {reason}" if len(arms) > 2 else reason for reason in why]
    if "better" in verdicts:
        return "better", reasons
    for verdict in ("worse", "equivalent"):
        if all(one == verdict for one in verdicts):
            return verdict, reasons
    return "inconclusive", reasons


def _of_challenger(comparisons: Sequence[ArmComparison], doubts: Sequence[str]) -> tuple[str, list[str]]:
    deciding = [one for one in comparisons if one.role in ("primary", "guardrail")]
    worse = [one for one in deciding if one.verdict == "worse"]
    harmed = [one for one in worse if one.segment is None]
    if harmed:
        return "worse", [f"{one.metric}: {one.reasons[0]}" for one in harmed]
    whole = [one for one in deciding if one.segment is None]
    primaries = [one for one in whole if one.role == "primary"]
    asked = primaries or whole
    if not asked:
        return "inconclusive", ["no primary metric was asked for: exploratory and signal metrics decide nothing"]
    reasons = [f"{one.metric}: {reason}" if len(asked) > 1 else reason for one in asked for reason in one.reasons]
    verdicts = {one.verdict for one in asked}
    if "better" in verdicts and (worse or doubts):
        held = [f"held: worse in segment {one.segment}: {one.reasons[0]}" for one in worse]
        return "inconclusive", [*held, *doubts, *reasons]
    if "better" in verdicts and primaries:
        return "better", reasons
    if "better" in verdicts:
        return "equivalent", ["no primary metric was asked for, and no guardrail is worse", *reasons]
    return ("equivalent" if verdicts == {"equivalent"} else "inconclusive"), reasons
