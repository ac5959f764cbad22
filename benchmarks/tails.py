"""How often an analysis calls a challenger better, or worse, whose mean is the champion's and whose tail is another.

Invariant: it runs the code of `gauntlet analyze` (its cells, looks and boundaries), seeded, so that the same options
print the same table. "asked" is what is decided, "not asked" what would be without `evaluator.stats.tails`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from benchmarks import header, main, progress, row
from evaluator.offline.experiment.cells import Cell, CellRows
from evaluator.offline.experiment.sequential_looks import LookSnapshot, judge_looks
from evaluator.offline.experiment.settings import AnalysisSettings
from evaluator.stats.panel import BETTER, WORSE
from evaluator.stats.score_process import Floats

Draw = Callable[[np.random.Generator, int], Floats]
TOGETHER: Final = 250
"""Runs that are looked at together."""


@dataclass(frozen=True)
class Law:
    """Losses of both arms."""

    champion: Draw
    challenger: Draw
    metric: str = "y:mean:lower"

    def mirrored(self) -> Law:
        """The same with gains for losses: what was a rare disaster is a rare windfall."""
        return replace(
            self, champion=lambda rng, n: -self.champion(rng, n), challenger=lambda rng, n: -self.challenger(rng, n)
        )


def _disaster(rng: np.random.Generator, n: int) -> Floats:
    return np.where(rng.random(n) < 0.01, 50.0, 0.5)


def _normal(rng: np.random.Generator, n: int) -> Floats:
    return rng.standard_normal(n)


def _lognormal(sigma: float) -> Draw:
    return lambda rng, n: rng.lognormal(0.0, sigma, n) - np.exp(sigma * sigma / 2.0)


EQUAL: Final[dict[str, Law]] = {
    "normal, lognormal(1.5)": Law(_normal, _lognormal(1.5)),
    "normal, lognormal(1)": Law(_normal, _lognormal(1.0)),
    "normal, Pareto(1.5)": Law(_normal, lambda rng, n: rng.pareto(1.5, n) - 2.0),
    "normal, Pareto(1.8)": Law(_normal, lambda rng, n: rng.pareto(1.8, n) - 1.25),
    "even .995, disaster": Law(lambda rng, n: np.full(n, 0.995), _disaster),
    "normal .995, disaster": Law(
        lambda rng, n: rng.normal(0.995, 0.3, n), lambda rng, n: _disaster(rng, n) + rng.normal(0.0, 0.1, n)
    ),
    "both lognormal(1)": Law(_lognormal(1.0), _lognormal(1.0)),
    "p99, both lognormal(1)": Law(_lognormal(1.0), _lognormal(1.0), "y:p99:lower"),
}
BETTER_LAWS: Final[dict[str, Law]] = {
    "exponential, 22 % less": Law(lambda rng, n: rng.exponential(1.0, n), lambda rng, n: rng.exponential(0.78, n)),
    "normal, .21 σ less": Law(_normal, lambda rng, n: rng.standard_normal(n) - 0.21),
    "normal, lognormal(1) and .4 less": Law(_normal, lambda rng, n: _lognormal(1.0)(rng, n) - 0.4),
}


def crossed(law: Law, rows: int, share: float, seeds: Iterable[Sequence[int]], clusters: int = 0) -> Floats:
    """What analyses of so many rows say, with and without asking about tails: BETTER, WORSE or 0, shape (2, runs).

    clusters: so many of equal size, in the order of the rows; 0: rows are independent. Runs are cells of one analysis,
    so that they share the cost of their bounds."""
    options = {"arm": "arm", "champion": "A", "share": {"A": 1.0 - share, "B": share}, "metric": law.metric}
    options |= {"cluster": "day"} if clusters else {}
    settings = AnalysisSettings.from_options(options)
    codes = np.arange(rows) * clusters // rows
    cells, runs = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        treated = rng.random(rows) < share
        runs.append((treated, np.where(treated, law.challenger(rng, rows), law.champion(rng, rows))))
        cells.append(Cell(settings.metrics[0]))
    snapshots, last = [], 0
    for end in _ends(rows):
        part = slice(last, end)
        days = codes[part] if clusters else None
        for cell, (treated, y) in zip(cells, runs, strict=True):
            cell.add(CellRows(treated[part], np.full(end - last, share), (y[part],), None, days, ()))
        if end >= 100:
            snapshots.append(LookSnapshot.of(end, cells, settings))
        last = end
    blind = [replace(each, powers=np.zeros_like(each.powers)) for each in snapshots]
    return np.array([judge_looks(each, cells, settings).states.stops.crossed for each in (snapshots, blind)])


def _ends(rows: int) -> list[int]:
    """Ends of batches: a first one for predictions, then looks ten percent apart."""
    ends = [20, 100]
    while ends[-1] < rows:
        ends.append(min(rows, max(ends[-1] + 100, int(1.1 * ends[-1]))))
    return ends


def counted(law: Law, rows: int, share: float, runs: int, seed: int, clusters: int = 0) -> tuple[int, int, int, int]:
    """Runs called better and worse where tails are asked about, and where not."""
    found = np.zeros((2, 2), dtype=np.int64)
    for first in progress(range(0, runs, TOGETHER), "runs"):
        seeds = [[seed, number] for number in range(first, min(runs, first + TOGETHER))]
        verdicts = crossed(law, rows, share, seeds, clusters)
        found += np.stack([(verdicts == side).sum(axis=1) for side in (BETTER, WORSE)], axis=1)
    return tuple(found.ravel().tolist())


def run(
    runs: int = 2000, rows: int = 4000, share: float = 0.1, seed: int = 1, clusters: int = 0, only: str = ""
) -> Iterator[str]:
    """only: a part of a law's name."""
    grouped = f" in {clusters} clusters" if clusters else ""
    yield f"{rows:,} rows{grouped}, the challenger's share {share:g}, one side at .025, looks 10 % apart; {runs} runs\n"
    windfalls = {name: law.mirrored() for name, law in EQUAL.items() if law.metric == Law.metric}
    worse = {name.replace("less", "more"): law.mirrored() for name, law in BETTER_LAWS.items()}
    for title, laws in (
        ("equal means: champion, challenger", EQUAL),
        ("the challenger is better", BETTER_LAWS),
        ("equal means: the same, with windfalls for disasters", windfalls),
        ("the challenger is worse", worse),
    ):
        yield header(title, "better", "worse", "better, not asked", "worse, not asked")
        for name, law in [(name, law) for name, law in laws.items() if only in name]:
            yield row(name, *(f"{count / runs:.3f}" for count in counted(law, rows, share, runs, seed, clusters)))
        yield ""


if __name__ == "__main__":
    main(run)
