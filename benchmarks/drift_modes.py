"""What the bare thresholds cost in false alarms against the gated rules: `python -m benchmarks.drift_modes`.

Nothing moves in any of these streams: 50 features (independent, or wandering as slowly as the weather), a column of
regimes, a classifier's and a regression's outcomes. Every alarm is false.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.signal import lfilter

from benchmarks import main
from evaluator.drift.monitor import Monitor
from evaluator.drift.profile import Profile
from evaluator.drift.settings import DriftSettings, Mode
from gauntlet.types import Severity

FEATURES = 50
Table = dict[str, Any]


def independent(rng: np.random.Generator, rows: int) -> Table:
    return {f"x{i}": column for i, column in enumerate(rng.normal(size=(FEATURES, rows)))}


def wandering(rng: np.random.Generator, rows: int) -> Table:
    """Autoregressive with coefficient 0.99: a few hundred rows are as good as one or two."""
    noise = rng.normal(size=(FEATURES, rows + 2000)) * np.sqrt(1 - 0.99**2)
    return {f"x{i}": column for i, column in enumerate(lfilter([1.0], [1.0, -0.99], noise, axis=1)[:, 2000:])}


def regimes(rng: np.random.Generator, rows: int) -> Table:
    """A chain of four states that stays where it is four times in five."""
    moves = rng.random(rows) < 0.2
    return {"regime": np.cumsum(np.where(moves, rng.integers(1, 4, rows), 0)) % 4}


def classified(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    truth = rng.integers(0, 2, rows)
    return truth, np.where(rng.random(rows) < 0.85, truth, 1 - truth)


def regressed(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    predicted = rng.normal(size=rows)
    return predicted + rng.normal(scale=0.6, size=rows), predicted


def watched(mode: Mode, stream: str, rows: int, seed: int) -> Counter[str]:
    """Looks, looks with anything raised, and episodes of one stream in one mode."""
    rng = np.random.default_rng(seed)
    settings = DriftSettings(mode=mode)
    counts: Counter[str] = Counter()
    if stream in ("classifier", "regression"):
        draw = classified if stream == "classifier" else regressed
        truth, predicted = draw(rng, 10_000)
        monitor = Monitor(Profile.fit({"p": predicted}, reference_id="r", prediction="p", targets=truth), settings)
        truth, predicted = draw(rng, rows)
        looks = (monitor.observe_outcomes(truth[i : i + 128], predicted[i : i + 128], 0.0) for i in range(0, rows, 128))
    else:
        make = {"independent": independent, "wandering": wandering, "regimes": regimes}[stream]
        table = make(rng, 20_000 + rows)
        head = {name: values[:20_000] for name, values in table.items()}
        monitor = Monitor(
            Profile.fit(head, reference_id="r", regimes=[name for name in head if name == "regime"]), settings
        )
        looks = (
            monitor.observe({name: values[i : i + 64] for name, values in table.items()}, 0.0)
            for i in range(20_000, 20_000 + rows, 64)
        )
    for events in looks:
        counts["looks"] += 1
        counts["alarmed"] += monitor.severity > Severity.NONE
        counts["episodes"] += sum(event.event == "open" for event in events)
    return counts


def run(rows: int = 64_000, streams: int = 3) -> Iterator[str]:
    """Looks in alarm and episodes of `streams` streams of each kind, in either mode."""
    yield f"{'stream':12} {'mode':7} {'looks in alarm':>15} {'episodes / 100,000 rows':>24}"
    for stream in ("independent", "wandering", "regimes", "classifier", "regression"):
        for mode in ("simple", "gated"):
            total = sum((watched(mode, stream, rows, seed) for seed in range(streams)), Counter[str]())
            alarmed, episodes = total["alarmed"] / total["looks"], 1e5 * total["episodes"] / (rows * streams)
            yield f"{stream:12} {mode:7} {alarmed:15.1%} {episodes:24.2f}"


if __name__ == "__main__":
    main(run)
