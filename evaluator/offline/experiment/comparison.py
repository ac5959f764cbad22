"""From watched cells to the answer: comparisons in the metrics' own units, corrections, guards and the verdict.

Invariant: a pure function of what was counted. Nothing is called better while a guard is broken, a guardrail or a
declared segment is worse, or the evidence would not survive the correction over everything that was asked.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

from scipy.stats import chisquare

from evaluator.offline.experiment.aggregation import Experiment, Key, questions, segment_name
from evaluator.offline.experiment.fixed_horizon_test import fixed
from evaluator.offline.experiment.result import Analysis, Comparison, Guard, SampleRatioResult, Stopped
from evaluator.offline.experiment.sequential_looks import FEWEST_EVENTS, Watched, number
from evaluator.stats.always_valid import rate_p
from evaluator.stats.interim_analysis import too_little_for_harm, too_little_for_win
from evaluator.stats.multiplicity import benjamini_hochberg, holm
from evaluator.stats.panel import BETTER, WORSE
from evaluator.stats.score_process import Arm
from evaluator.stats.sequential_test import Plan

# An invalid experiment is thrown away, so sound ones are called invalid once in a thousand at most; by the look at the
# end and by the test at all looks half of that each.
_GUARD_ALPHA = 0.001
# Counts this unlikely are no proof against the shares, but nothing is called better on them.
_DOUBTFUL = 0.01
# Another reading of the propensities fits the counts if its p is above this.
_PLAUSIBLE = 0.01


def answer(experiment: Experiment, watched: Watched) -> Analysis:
    """The whole analysis."""
    settings, arms = experiment.settings, experiment.reading.arms
    keys = list(experiment.cells)
    comparisons = {
        key: _comparison(experiment, watched, index, key) for index, key in enumerate(keys) if key.metric >= 0
    }
    comparisons = _corrected(experiment, comparisons)
    ratio = None if settings.paired is not None else _sample_ratio(experiment)
    guards = _guards(experiment, watched, keys)
    verdict, reasons = _verdict(experiment, comparisons, ratio, guards, _doubts(experiment, watched, keys, ratio))
    shown = tuple(comparisons.values())
    return Analysis(
        id=_identity(settings.to_dict(), experiment.rows, shown),
        verdict=verdict,
        reasons=tuple(reasons),
        sample_ratio=ratio,
        comparisons=shown,
        guards=tuple(guards),
        champion=arms[0],
        challengers=tuple(arms[1:]),
        mode=settings.mode,
        alpha=settings.alpha,
        rows=experiment.rows,
        settings=settings.to_dict(),
    )


def _comparison(experiment: Experiment, watched: Watched, index: int, key: Key) -> Comparison:
    cell, states, looks = experiment.cells[key], watched.states, watched.last
    metric, unit = cell.metric, cell.in_units
    names = (experiment.reading.arms[0], experiment.reading.arms[key.challenger])
    looked = int(states.looks[index])
    evidence = looks.shown
    low, high = number(states.lower[index], unit), number(states.upper[index], unit)
    if unit < 0.0:
        low, high = high, low
    draft = Comparison(
        challenger=names[1],
        metric=metric.name,
        segment=segment_name(experiment.reading, key.segment),
        kind=metric.kind,
        direction="higher" if metric.higher_is_better else "lower",
        role=metric.role,
        margin=metric.margin,
        n=dict(zip(names, cell.n, strict=True)),
        mean=dict(zip(names, cell.influence.figures(), strict=True)),
        effect=number(evidence.effect[index], unit) if looked else None,
        lower=low,
        upper=high,
        z=number(looks.z[index], cell.sign) if looked else None,
        p_value=_p(watched, index, experiment.settings.alpha) if looked else None,
        adjusted_p_value=None,
        fixed=fixed(cell),
        verdict="inconclusive",
        reasons=(),
        looks=looked,
        stopped=None,
        information_fraction=float(looks.fraction[index]) if evidence.available[index] else None,
        blocks=int(evidence.n_blocks[index]) if experiment.settings.cluster is not None else None,
        widening=float(evidence.widening[index]) if evidence.clustered and evidence.available[index] else None,
        skewness=float(evidence.skewness[index]) * cell.sign
        if evidence.clustered and evidence.available[index]
        else None,
        history=tuple(watched.history[index]),
    )
    crossed = float(states.stops.crossed[index])
    draft, contradiction = _consistent(draft)
    verdict = _own_verdict(crossed, metric.margin, float(states.lower[index]) * cell.influence.scale)
    stopped = None
    if crossed:
        rows = int(watched.stop_rows[index])
        point = next((each for each in draft.history if each.rows == rows), None)
        stop_effect = number(states.stops.effect[index], unit) or 0.0
        stop_low, stop_high = (point.lower, point.upper) if point else (low, high)
        if not _holds(stop_low, stop_effect, stop_high):
            stop_low = stop_high = None
        stopped = Stopped(int(states.stops.look[index]), rows, verdict, stop_effect, stop_low, stop_high)
    reasons = _reasons(experiment, watched, index, draft, verdict, stopped) + contradiction
    turned = draft.effect is not None and draft.effect * cell.sign <= (-metric.margin if metric.margin else 0.0)
    if verdict in ("better", "equivalent") and turned:
        verdict = "inconclusive"
        reasons.insert(0, f"it crossed its boundary, but over all rows the effect is {draft.effect:+.5g}: not decided")
    return replace(draft, verdict=verdict, stopped=stopped, reasons=tuple(reasons))


def _holds(lower: float | None, effect: float, upper: float | None) -> bool:
    return (lower is None or lower <= effect) and (upper is None or effect <= upper)


def _consistent(draft: Comparison) -> tuple[Comparison, list[str]]:
    """Limits that exclude the present effect stem from looks that could still decide; beside it they would mislead."""
    if draft.effect is None or _holds(draft.lower, draft.effect, draft.upper):
        return draft, []
    reason = "no interval: the limits of the looks that counted and the effect over all rows contradict each other"
    return replace(draft, lower=None, upper=None), [reason]


def _p(watched: Watched, index: int, alpha: float) -> float | None:
    """Two-sided, once both sides are watched. Before, only harm can speak: 1 would sound like an answer."""
    p = min(1.0, 2.0 * min(float(watched.p_win[index]), float(watched.p_harm[index])))
    seen = watched.last.ready_win[index] and (watched.decided or p < 1.0)
    return p if seen or p <= alpha else None


def _own_verdict(crossed: float, margin: float, lower: float) -> str:
    """What a comparison's own boundary says. With a margin, crossing shows only that it is not worse by more."""
    if crossed == WORSE:
        return "worse"
    if crossed == BETTER:
        return "better" if not margin or lower > 0.0 else "equivalent"
    return "inconclusive"


def _reasons(
    experiment: Experiment, watched: Watched, index: int, draft: Comparison, verdict: str, stopped: Stopped | None
) -> list[str]:
    settings, reasons = experiment.settings, []
    if not draft.looks:
        return [f"no answer yet, because {_lacking(experiment, watched, index, draft)}"]
    null = f"a margin of {draft.margin:g}" if draft.margin else "no effect"
    if stopped is not None:
        what = "not worse by more than the margin" if verdict == "equivalent" else verdict
        interval = f"[{_shown(stopped.lower)}, {_shown(stopped.upper)}]"
        reasons.append(
            f"{what}: the effect {stopped.effect:+.5g} {interval} crossed the boundary against {null} at look "
            f"{stopped.look}, after {stopped.rows:,} rows"
        )
    else:
        looks = "at the only look that counts, the last" if settings.mode == "fixed" else f"in {draft.looks} looks"
        reasons.append(f"inconclusive: z = {draft.z or 0.0:.2f} crossed no boundary {looks}")
        waits = _lacking(experiment, watched, index, draft)
        if waits is not None:
            reasons.append(f"not enough for better yet: {waits}")
    fraction = draft.information_fraction or 0.0
    if settings.min_samples is not None and stopped is None and 0.0 < fraction < 1.0:
        left = math.ceil(experiment.rows * (1.0 / fraction - 1.0))
        reasons.append(f"{fraction:.0%} of the planned evidence is in; about {left:,} more rows would complete it")
    if settings.min_samples is not None and stopped is None and fraction >= 1.0 and settings.mode == "group-sequential":
        reasons.append("the planned evidence is complete: further rows can show, but not decide")
    if draft.blocks is not None:
        widening = (
            ""
            if draft.widening is None
            else (
                f", skewness {draft.skewness or 0.0:.2f}; correlation of neighbours multiplies the variance by "
                f"{draft.widening:.2f}"
            )
        )
        reasons.append(f"{draft.blocks} clusters{widening}")
    return reasons


def _shown(value: float | None) -> str:
    return "…" if value is None else f"{value:+.5g}"


def _lacking(experiment: Experiment, watched: Watched, index: int, draft: Comparison) -> str | None:
    """What this cell waits for; None where nothing is missing."""
    looks, cell = watched.last, list(experiment.cells.values())[index]
    champion, challenger = (Arm(int(n), total, squares) for n, total, squares in cell.arms.tolist())
    for name, n in draft.n.items():
        if not n:
            return f"{name} has no outcomes"
    least = cell.metric.min_samples
    if min(champion.n, challenger.n) < least:
        return f"the smaller arm has {min(champion.n, challenger.n)} of at least {least} outcomes"
    if cell.events < FEWEST_EVENTS:
        return f"the smaller arm has {cell.events:.0f} of at least {FEWEST_EVENTS:.0f} rows of the metric's class"
    why = looks.shown.lacking(index)
    if why is not None:
        return why if experiment.settings.cluster or looks.shown.n_blocks[index] else "no row could be scored yet"
    plan = Plan(horizon=1.0, clustered=experiment.settings.cluster is not None)
    if not looks.ready_harm[index]:
        return too_little_for_harm(champion, challenger, int(looks.shown.n_blocks[index]), plan)
    if not looks.ready_win[index]:
        return too_little_for_win(champion, challenger, looks.shown, plan, index)
    return None


def _corrected(experiment: Experiment, comparisons: dict[Key, Comparison]) -> dict[Key, Comparison]:
    """Holm over the primaries of all challengers, and over the segments of each comparison; Benjamini-Hochberg over the
    exploratory ones. A guardrail is a question of its own: each may stop the challenger at its own level."""
    families: dict[tuple[object, ...], list[Key]] = {}
    for key, each in comparisons.items():
        if key.segment is not None:
            families.setdefault(("segment", key.challenger, key.metric, key.segment[0]), []).append(key)
        elif each.role in ("primary", "exploratory"):
            families.setdefault((each.role,), []).append(key)
    corrected = dict(comparisons)
    for (name, *_), keys in families.items():
        if len(keys) < 2:
            continue
        correct = benjamini_hochberg if name == "exploratory" else holm
        adjusted = correct([comparisons[key].p_value for key in keys])
        for key, p in zip(keys, adjusted, strict=True):
            corrected[key] = _withheld(comparisons[key], p, len(keys), experiment.settings.alpha)
    return corrected


def _withheld(comparison: Comparison, p: float | None, size: int, alpha: float) -> Comparison:
    if p is None:
        return comparison
    if comparison.verdict == "better" and comparison.margin and p <= alpha:
        # p is about the margin; that it is better as well would be one more question.
        return replace(comparison, adjusted_p_value=p, verdict="equivalent")
    if comparison.verdict == "inconclusive" or p <= alpha:
        return replace(comparison, adjusted_p_value=p)
    reason = f"not enough once {size} comparisons are asked at a time: p = {p:.3g} after correction, above {alpha:g}"
    return replace(comparison, adjusted_p_value=p, verdict="inconclusive", reasons=(reason, *comparison.reasons))


def _sample_ratio(experiment: Experiment) -> SampleRatioResult:
    settings, arms = experiment.settings, experiment.reading.arms
    observed = {arm: experiment.assigned.get(index, 0) for index, arm in enumerate(arms)}
    total, hint = sum(observed.values()), ""
    if settings.shares is not None:
        whole = sum(settings.shares[arm] for arm in arms)
        expected = {arm: total * settings.shares[arm] / whole for arm in arms}
        p = float(chisquare(list(observed.values()), list(expected.values())).pvalue) if total else 1.0
    else:
        (ratio,) = experiment.ratios.values()
        expected = {arms[0]: ratio.units - ratio.expected, arms[1]: ratio.expected}
        p = ratio.fixed_p
        if experiment.served is not None and experiment.served.fixed_p > _PLAUSIBLE:
            hint = f"; {settings.propensity} seems to hold the probability of the row's own arm: give P({arms[1]})"
    sequential = min(1.0, len(experiment.ratios) * min(experiment.smallest_p.values(), default=1.0))
    mismatch = min(p, sequential) <= _GUARD_ALPHA / 2.0
    counts = ", ".join(f"{arm} {observed[arm]:,} of {expected[arm]:,.1f} expected" for arm in arms)
    verb = "do not fit" if mismatch else "fit"
    reason = f"the arms' counts {verb} the declared shares: {counts} (p = {p:.2g}, at all looks {sequential:.2g})"
    reason += hint if mismatch else ""
    return SampleRatioResult(p, sequential, mismatch, observed, expected, reason)


def _guards(experiment: Experiment, watched: Watched, keys: list[Key]) -> list[Guard]:
    guards = []
    if experiment.settings.unit is not None and experiment.settings.paired is None:
        reading = experiment.exposures.reading(alpha=_GUARD_ALPHA)
        guards.append(Guard(reading.name, reading.ok, reading.reason))
    guards += [_traffic(experiment, watched, index, key) for index, key in enumerate(keys) if key.metric < 0]
    if experiment.settings.paired is not None:
        guards.append(_pairing(experiment))
    if experiment.reading.skipped:
        skipped = f"{experiment.reading.skipped:,} rows of other arms were left out"
        guards.append(Guard("other arms", True, skipped))
    return guards


def _two_sided(watched: Watched, index: int) -> float:
    return min(1.0, 2.0 * min(float(watched.p_win[index]), float(watched.p_harm[index])))


def _traffic(experiment: Experiment, watched: Watched, index: int, key: Key) -> Guard:
    cell, arms = experiment.cells[key], experiment.reading.arms
    question = questions(experiment.settings)[-1 - key.metric]
    champion, challenger = cell.influence.figures()
    p = _two_sided(watched, index)
    ok = p > _GUARD_ALPHA
    if question.name == "label arrival":
        wrong = "do not come alike in both arms, so their comparison can't be trusted"
        verb = "come alike in both arms" if ok else wrong
        shares = f"for {champion or 0.0:.2%} of the rows of {arms[0]} and {challenger or 0.0:.2%} of those of"
        return Guard(question.name, ok, f"values {verb}: {shares} {arms[key.challenger]} (p = {p:.2g})")
    verb = "is alike in both arms" if ok else "differs between the arms, so the arm has changed it: it is no covariate"
    means = f"mean {champion or 0.0:.5g} in {arms[0]} and {challenger or 0.0:.5g} in {arms[key.challenger]}"
    return Guard(question.name, ok, f"it {verb}: {means} (p = {p:.2g})")


def _pairing(experiment: Experiment) -> Guard:
    """Values of one arm only make no pair; if it is one arm's more often, the pairs are chosen."""
    champion, challenger = experiment.lone
    both = champion + challenger
    p = min(1.0, 2.0 * min(rate_p(champion, both, 0.5), rate_p(challenger, both, 0.5))) if both else 1.0
    ok = p > _GUARD_ALPHA
    verb = "in order" if ok else "one arm's values are missing more often, so the pairs that are left are chosen"
    counts = f"{champion:,} rows have the champion's value only, {challenger:,} the challenger's only (p = {p:.2g})"
    return Guard("label arrival", ok, f"{verb}: {counts}")


def _doubts(
    experiment: Experiment, watched: Watched, keys: list[Key], ratio: SampleRatioResult | None
) -> dict[int, list[str]]:
    """By challenger: what is not shown to be wrong, and still reason enough not to call anything better."""
    doubts: dict[int, list[str]] = {}
    for index, key in enumerate(keys):
        if key.metric < 0 and _two_sided(watched, index) <= experiment.settings.alpha:
            reason = _traffic(experiment, watched, index, key).reason.replace("come alike", "may not come alike")
            doubts.setdefault(key.challenger, []).append(f"held: {reason.replace('is alike', 'may not be alike')}")
    if ratio is not None and min(ratio.p_value or 1.0, ratio.sequential_p_value or 1.0) <= _DOUBTFUL:
        for challenger in range(1, len(experiment.reading.arms)):
            doubts.setdefault(challenger, []).append(f"held: {ratio.reason}")
    return doubts


def _verdict(
    experiment: Experiment,
    comparisons: dict[Key, Comparison],
    ratio: SampleRatioResult | None,
    guards: list[Guard],
    doubts: dict[int, list[str]],
) -> tuple[str, list[str]]:
    """The first of invalid, better (a challenger that passed everything), worse, equivalent, inconclusive."""
    broken = [f"sample ratio mismatch: {ratio.reason}"] if ratio is not None and ratio.mismatch else []
    broken += [f"{guard.name}: {guard.reason}" for guard in guards if not guard.ok]
    if broken:
        return "invalid", broken
    found = {
        index: _of_challenger(
            [(key, each) for key, each in comparisons.items() if key.challenger == index], doubts.get(index, [])
        )
        for index in range(1, len(experiment.reading.arms))
    }
    verdicts = [verdict for verdict, _ in found.values()]
    many = len(found) > 1
    reasons = [
        f"{experiment.reading.arms[index]}: {reason}" if many else reason
        for index, (_, own) in found.items()
        for reason in own
    ]
    if "better" in verdicts:
        return "better", reasons
    for verdict in ("worse", "equivalent"):
        if all(each == verdict for each in verdicts):
            return verdict, reasons
    return "inconclusive", reasons


def _of_challenger(comparisons: list[tuple[Key, Comparison]], doubts: list[str]) -> tuple[str, list[str]]:
    whole = [each for key, each in comparisons if key.segment is None]
    primaries = [each for each in whole if each.role == "primary"]
    asked = primaries or [each for each in whole if each.role == "guardrail"]
    harmed = [each for each in whole if each.role in ("primary", "guardrail") and each.verdict == "worse"]
    if harmed:
        return "worse", [f"{each.metric}: {each.reasons[0]}" for each in harmed]
    if not asked:
        return "inconclusive", ["no primary metric was asked for: exploratory and signal metrics decide nothing"]
    held = [
        each
        for key, each in comparisons
        if key.segment is not None and each.role in ("primary", "guardrail") and each.verdict == "worse"
    ]
    reasons = [f"{each.metric}: {reason}" if len(asked) > 1 else reason for each in asked for reason in each.reasons]
    verdicts = {each.verdict for each in asked}
    if "better" in verdicts and (held or doubts):
        worse = [f"held: worse in segment {each.segment}: {each.reasons[0]}" for each in held]
        return "inconclusive", [*worse, *doubts, *reasons]
    if "better" in verdicts and primaries:
        return "better", reasons
    if "better" in verdicts:
        return "equivalent", ["no primary metric was asked for, and no guardrail is worse", *reasons]
    return ("equivalent" if verdicts == {"equivalent"} else "inconclusive"), reasons


def _identity(settings: dict[str, object], rows: int, comparisons: tuple[Comparison, ...]) -> str:
    """The same data and settings always give the same id."""
    numbers = [
        [each.challenger, each.metric, each.segment, each.effect, each.lower, each.upper] for each in comparisons
    ]
    text = json.dumps([settings, rows, numbers], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
