"""How often an analysis calls a challenger better whose mean is the champion's and whose tail is another.

Invariant: it runs the code of `gauntlet analyze` (its cells, looks and boundaries), seeded, so that the same options
print the same table. "asked" is what is decided, "not asked" what would be without `evaluator.stats.tails`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


@dataclass(frozen=True)
class Law:
    """Losses of both arms."""

    champion: Draw
    challenger: Draw
    metric: str = "y:mean:lower"


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
}


def crossed(law: Law, rows: int, share: float, rng: np.random.Generator, clusters: int = 0) -> tuple[float, float]:
    """What an analysis of so many rows says, with and without asking about tails: BETTER, WORSE or 0.

    clusters: so many of equal size, in the order of the rows; 0: rows are independent."""
    treated = rng.random(rows) < share
    y = np.where(treated, law.challenger(rng, rows), law.champion(rng, rows))
    options = {"arm": "arm", "champion": "A", "share": {"A": 1.0 - share, "B": share}, "metric": law.metric}
    options |= {"cluster": "day"} if clusters else {}
    codes = np.arange(rows) * clusters // rows
    asked = AnalysisSettings.from_options(options)
    cell, snapshots, last = Cell(asked.metrics[0]), [], 0
    for end in _ends(rows):
        part = slice(last, end)
        days = codes[part] if clusters else None
        cell.add(CellRows(treated[part], np.full(end - last, share), (y[part],), None, days, ()))
        if end >= 100:
            snapshots.append(LookSnapshot.of(end, [cell], asked))
        last = end
    blind = [replace(each, powers=np.zeros_like(each.powers)) for each in snapshots]
    with_tails, without = (judge_looks(each, [cell], asked).states.stops.crossed[0] for each in (snapshots, blind))
    return float(with_tails), float(without)


def _ends(rows: int) -> list[int]:
    """Ends of batches: a first one for predictions, then looks ten percent apart."""
    ends = [20, 100]
    while ends[-1] < rows:
        ends.append(min(rows, max(ends[-1] + 100, int(1.1 * ends[-1]))))
    return ends


def counted(law: Law, rows: int, share: float, runs: int, seed: int, clusters: int = 0) -> tuple[int, int, int, int]:
    """Runs called better and worse where tails are asked about, and where not."""
    found = np.zeros((2, 2), dtype=np.int64)
    for number in progress(range(runs), "runs"):
        for place, verdict in enumerate(crossed(law, rows, share, np.random.default_rng([seed, number]), clusters)):
            found[place] += [verdict == BETTER, verdict == WORSE]
    return tuple(found.ravel().tolist())


def run(runs: int = 2000, rows: int = 4000, share: float = 0.1, seed: int = 1, clusters: int = 0) -> Iterator[str]:
    grouped = f" in {clusters} clusters" if clusters else ""
    yield f"{rows:,} rows{grouped}, the challenger's share {share:g}, one side at .025, looks 10 % apart; {runs} runs\n"
    for title, laws in (("equal means: champion, challenger", EQUAL), ("the challenger is better", BETTER_LAWS)):
        yield header(title, "better", "worse", "better, not asked", "worse, not asked")
        for name, law in laws.items():
            yield row(name, *(f"{count / runs:.3f}" for count in counted(law, rows, share, runs, seed, clusters)))
        yield ""


if __name__ == "__main__":
    main(run)
