"""An experiment's log through the sequential engine: one pass over the rows, all looks in order, then the answer.

Invariant: the answer depends on the rows, their order and the settings alone, not on how the file was cut into chunks;
a look sees nothing of the rows behind it (but for the horizon, where the file's length is the horizon).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable

import numpy as np
from scipy import special

from evaluator.offline.experiment.aggregation import CellKey, Experiment, add_batch, traffic_checks
from evaluator.offline.experiment.arm_comparison import comparisons, of_experiment, two_sided
from evaluator.offline.experiment.log_reader import ExperimentLog
from evaluator.offline.experiment.result import Analysis, ArmComparison, SampleRatioResult, TrafficGuard
from evaluator.offline.experiment.sequential_looks import LookResults, LookSnapshot, judge_looks
from evaluator.offline.experiment.settings import AnalysisSettings, SettingsError
from evaluator.stats.always_valid import rate_p
from gauntlet.spelling import alike
from gauntlet.table import Table

# An invalid experiment is thrown away, so sound ones are called invalid once in a thousand at most; by the look at the
# end and by the test at all looks half of that each.
_GUARD_ALPHA = 0.001
# Counts this unlikely are no proof against the shares, but nothing is called better on them.
_DOUBTFUL = 0.01
# Another reading of the propensities fits the counts if its p is above this.
_PLAUSIBLE = 0.01
_ARRIVAL = {
    "in order": "values come alike in both arms",
    "doubtful": "values may not come alike in both arms",
    "broken": "values do not come alike in both arms, so their comparison can't be trusted",
}
_BALANCE = {
    "in order": "it is alike in both arms",
    "doubtful": "it may not be alike in both arms",
    "broken": "it differs between the arms, so the arm has changed it: it is not a covariate",
}


def run(table: Table, settings: AnalysisSettings, progress: Callable[[int], object] | None = None) -> Analysis:
    """Analyse the log. `progress` is called with the number of rows read since its last call.

    Raises TableError for what can't be read as declared, naming column and row, and SettingsError for settings that
    don't fit the data.
    """
    if settings.mode == "exact" and settings.cluster is not None:
        raise SettingsError("--mode exact can't be combined with --cluster; use --mode anytime")
    log = ExperimentLog(table, settings)
    experiment, snapshots = Experiment(settings, log), []
    for batch, look in log.batches():
        add_batch(experiment, batch)
        if look and experiment.cells:
            experiment.check_ratios()
            snapshots.append(LookSnapshot.of(experiment.rows, list(experiment.cells.values()), settings))
        if progress is not None:
            progress(len(batch))
    _check_arms(experiment)
    log.check_classes()
    return _answer(experiment, judge_looks(snapshots, list(experiment.cells.values()), settings))


def _check_arms(experiment: Experiment) -> None:
    settings, arms = experiment.settings, experiment.log.arms
    if settings.paired is None and not experiment.assigned.get(0):
        seen = ", ".join(map(repr, arms[1:])) or "none of the named arms"
        raise SettingsError(f"--champion: no row of {settings.arm} is {settings.champion!r}; there are {seen}")
    if len(arms) < 2:
        raise SettingsError(f"--challenger: every row of {settings.arm} is {arms[0]!r}; there is nothing to compare")


def _answer(experiment: Experiment, results: LookResults) -> Analysis:
    settings, arms = experiment.settings, experiment.log.arms
    compared = comparisons(experiment, results)
    ratio = None if settings.paired is not None else _sample_ratio(experiment)
    guards, doubts = _guards(experiment, results)
    if ratio is not None and min(ratio.p_value or 1.0, ratio.sequential_p_value or 1.0) <= _DOUBTFUL:
        for challenger in range(1, len(arms)):
            doubts.setdefault(challenger, []).append(f"held: {ratio.reason}")
    by_challenger = [(key.challenger, one) for key, one in compared.items()]
    verdict, reasons = of_experiment(by_challenger, arms, ratio, guards, doubts)
    return Analysis(
        id=_identity(settings.to_dict(), experiment.rows, compared.values()),
        verdict=verdict,
        reasons=(*reasons, *_spellings(experiment)),
        sample_ratio=ratio,
        comparisons=tuple(compared.values()),
        guards=tuple(guards),
        champion=arms[0],
        challengers=tuple(arms[1:]),
        mode=settings.mode,
        alpha=settings.alpha,
        rows=experiment.rows,
        settings=settings.to_dict(),
    )


def _spellings(experiment: Experiment) -> list[str]:
    """On segments whose values are, to a reader, the same."""
    said = {name: alike(values) for name, values in experiment.log.segment_values.items()}
    return [
        f"--segment {name} has values in several spellings, each taken by itself: {twins}"
        for name, twins in said.items()
        if twins
    ]


def _sample_ratio(experiment: Experiment) -> SampleRatioResult:
    settings, arms = experiment.settings, experiment.log.arms
    observed = {arm: experiment.assigned.get(index, 0) for index, arm in enumerate(arms)}
    total, hint = sum(observed.values()), ""
    if settings.shares is not None:
        whole = sum(settings.shares[arm] for arm in arms)
        expected = {arm: total * settings.shares[arm] / whole for arm in arms}
        p = _fixed_p(list(observed.values()), list(expected.values())) if total else 1.0
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
    return SampleRatioResult(p, sequential, mismatch, observed, expected, reason + (hint if mismatch else ""))


def _fixed_p(observed: list[int], expected: list[float]) -> float:
    """The p value of Pearson's chi-squared test. scipy.stats has it, and half a second to import."""
    counts, shares = np.array(observed, dtype=np.float64), np.array(expected)
    return float(special.chdtrc(len(observed) - 1, ((counts - shares) ** 2 / shares).sum()))


def _guards(experiment: Experiment, results: LookResults) -> tuple[list[TrafficGuard], dict[int, list[str]]]:
    """Readings of all guards; and by challenger the doubts, which hold a win without making the experiment invalid."""
    guards: list[TrafficGuard] = []
    doubts: dict[int, list[str]] = {}
    if experiment.settings.unit is not None and experiment.settings.paired is None:
        exposure = experiment.exposures.reading(alpha=_GUARD_ALPHA)
        guards.append(TrafficGuard(exposure.name, exposure.ok, exposure.reason))
    for index, key in enumerate(experiment.cells):
        if key.metric < 0:
            guard, doubt = _traffic(experiment, key, two_sided(results, index))
            guards.append(guard)
            if doubt is not None:
                doubts.setdefault(key.challenger, []).append(f"held: {doubt}")
    if experiment.settings.paired is not None:
        guards.append(_pairing(experiment))
    if experiment.log.skipped:
        guards.append(TrafficGuard("other arms", True, f"{experiment.log.skipped:,} rows of other arms were left out"))
    return guards, doubts


def _traffic(experiment: Experiment, key: CellKey, p: float) -> tuple[TrafficGuard, str | None]:
    """Reading of one traffic check with p value p; and the doubt where p is at most the experiment's alpha."""
    check = traffic_checks(experiment.settings)[-1 - key.metric]
    arms, ok = (experiment.log.arms[0], experiment.log.arms[key.challenger]), p > _GUARD_ALPHA
    champion, challenger = (value or 0.0 for value in experiment.cells[key].influence.figures())
    if check.arrival:
        words = _ARRIVAL
        figures = f"for {champion:.2%} of the rows of {arms[0]} and {challenger:.2%} of those of {arms[1]}"
    else:
        words, figures = _BALANCE, f"mean {champion:.5g} in {arms[0]} and {challenger:.5g} in {arms[1]}"
    doubtful = p <= experiment.settings.alpha
    guard = TrafficGuard(check.name, ok, f"{words['in order' if ok else 'broken']}: {figures} (p = {p:.2g})")
    return guard, f"{words['doubtful']}: {figures} (p = {p:.2g})" if doubtful else None


def _pairing(experiment: Experiment) -> TrafficGuard:
    """Label arrival of pairs: rows with one arm's value alone, which must be as frequent for both (p = 0.5)."""
    champion, challenger = experiment.unpaired
    both = champion + challenger
    p = min(1.0, 2.0 * min(rate_p(champion, both, 0.5), rate_p(challenger, both, 0.5))) if both else 1.0
    ok = p > _GUARD_ALPHA
    verb = "in order" if ok else "one arm's values are missing more often, so the pairs that are left are chosen"
    counts = f"{champion:,} rows have the champion's value only, {challenger:,} the challenger's only (p = {p:.2g})"
    return TrafficGuard("label arrival", ok, f"{verb}: {counts}")


def _identity(settings: dict[str, object], rows: int, compared: Iterable[ArmComparison]) -> str:
    """Identifier of an answer: a hash of its settings and figures."""
    numbers = [[one.challenger, one.metric, one.segment, one.effect, one.lower, one.upper] for one in compared]
    text = json.dumps([settings, rows, numbers], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
