"""Is a confidence of 0.9 right nine times in ten? On injected drifts: `python -m benchmarks.drift_confidence [--fit]`.

Tables and streams of ten columns, a column of regimes and errors, into which effects from nothing to 2.5 times their
threshold are injected. A finding is right when an effect it names is beyond its threshold in the population it was
drawn from, not in the sample. `--fit` prints the two numbers of the curve, from other seeds than those it is judged on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtri

from benchmarks import main
from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift.monitor import Monitor
from evaluator.drift.severity import margin_of
from evaluator.drift.signals import Key, Signal
from evaluator.drift.table_comparison import TableComparison

NUMBERS = 8
KS = TV = ERROR = 0.15
REGIME = 0.10
STATES = 4
Case = tuple[float, tuple[Signal, ...], bool]
"""Confidence, the signals, and whether one of them is right."""


class World:
    """One law of the rows: `effects` says how far each key is moved, in the units of its statistic."""

    def __init__(self, rng: np.random.Generator, effects: dict[Key, float]) -> None:
        self.rng, self.effects = rng, effects

    def rows(self, n: int) -> dict[str, Any]:
        rng = self.rng
        # A normal shifted by d has the distance 2 Phi(d / 2) - 1.
        shift = [2 * ndtri((1 + self.effects.get(("distribution", f"x{i}"), 0.0)) / 2) for i in range(NUMBERS)]
        table: dict[str, Any] = {f"x{i}": rng.normal(shift[i], 1.0, n) for i in range(NUMBERS)}
        moved = self.effects.get(("categories", "c"), 0.0)
        table["c"] = rng.choice(["a", "b", "c"], size=n, p=[0.5 - moved, 0.3, 0.2 + moved]).tolist()
        stay = 0.8 - self.effects.get(("regime", "regime"), 0.0)
        step = np.where(rng.random(n) < stay, 0, rng.integers(1, STATES, n))
        table["regime"] = np.cumsum(step) % STATES
        return table

    def errors(self, n: int) -> Any:
        return self.rng.gamma(2.0, 0.5 * (1 + self.effects.get(("concept", ""), 0.0)), n)


def effects(rng: np.random.Generator) -> dict[Key, float]:
    """Nothing in three of ten; else one to three effects, each uniform up to 2.5 times its threshold."""
    keys: list[tuple[Key, float]] = [(("distribution", f"x{i}"), KS) for i in range(NUMBERS)]
    keys += [(("categories", "c"), TV), (("regime", "regime"), REGIME), (("concept", ""), ERROR)]
    if rng.random() < 0.3:
        return {}
    chosen = rng.choice(len(keys), size=rng.integers(1, 4), replace=False)
    return {keys[i][0]: float(rng.uniform(0, 2.5) * keys[i][1]) for i in chosen}


def right(signals: Iterable[Signal], truth: dict[Key, float]) -> bool:
    least = {"distribution": KS, "categories": TV, "regime": REGIME, "concept": ERROR}
    return any(truth.get(signal.key, 0.0) >= least.get(signal.kind, np.inf) for signal in signals)


def cases(seed: int, tables: int, streams: int) -> Iterator[tuple[str, Case]]:
    rng = np.random.default_rng(seed)
    still = World(rng, {})
    profile = fit_losses(still.errors(5000), still.rows(5000), regimes=["regime"])
    for _ in range(tables):
        truth = effects(rng)
        comparison = TableComparison(profile)
        comparison.add(World(rng, truth).rows(int(rng.choice([250, 500, 1000, 2000, 4000]))))
        report = comparison.report()
        if report.signals:
            yield "table", (report.confidence, report.signals, right(report.signals, truth))
    for _ in range(streams):
        truth = effects(rng)
        monitor, world = Monitor(profile), World(rng, truth)
        monitor.observe(still.rows(256), 0.0)
        observe_losses(monitor, still.errors(256), 0.0)
        rows, losses = world.rows(4096), world.errors(4096)
        for start in range(0, 4096, 64):
            events = monitor.observe({name: values[start : start + 64] for name, values in rows.items()}, 0.0)
            events += observe_losses(monitor, losses[start : start + 64], 0.0)
            opened = next((event for event in events if event.event == "open"), None)
            if opened is not None:
                yield "stream", (opened.confidence, opened.signals, right(opened.signals, truth))
                break


def fitted(found: list[Case]) -> tuple[float, float]:
    """Intercept and slope by maximum likelihood on findings of one signal, whose rightness is that of the signal."""
    single = [case for case in found if len(case[1]) == 1 and case[1][0].p_value > 0]
    margin = np.array([margin_of(signals[0]) for _, signals, _ in single])
    truth = np.array([is_right for _, _, is_right in single])

    def loss(curve: np.ndarray) -> float:
        logit = curve[0] + curve[1] * margin
        return float(np.logaddexp(0.0, np.where(truth, -logit, logit)).sum())

    best = minimize(loss, np.array([0.0, 1.0]), method="Nelder-Mead").x
    return float(best[0]), float(best[1])


def run(tables: int = 1500, streams: int = 500, fit: bool = False) -> Iterator[str]:
    """How often findings are right by their confidence, of tables, of streams, and of both."""
    if fit:
        intercept, slope = fitted([case for _, case in cases(2, tables, streams)])
        yield f"intercept {intercept:.2f}, slope {slope:.2f}"
        return
    found = list(cases(1, tables, streams))
    yield f"{'of':8} {'confidence':>14} {'findings':>9} {'mean confidence':>16} {'right':>7}"
    for kind in ("table", "stream", "both"):
        mine = [case for source, case in found if kind in (source, "both")]
        error = 0.0
        for low, high in itertools.pairwise([0.0, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99, 1.0]):
            group = [(confidence, correct) for confidence, _, correct in mine if low < confidence <= high]
            if group:
                confidence, correct = np.mean(group, axis=0)
                error += len(group) * abs(confidence - correct) / len(mine)
                yield f"{kind:8} {low:6.2f} - {high:5.2f} {len(group):9} {confidence:16.3f} {correct:7.3f}"
        yield f"{kind:8} expected calibration error {error:.3f}"


if __name__ == "__main__":
    main(run)
