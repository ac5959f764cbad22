"""False decisions and power of the block statistic, on few, skewed and correlated blocks, looking after each.

Invariant: it runs the evaluator's own code (`evidence`, `Boundary`), seeded, so the same options print the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks import header, main, progress, row
from evaluator.stats import Boundary, Evidence
from evaluator.stats.cluster_robust import evidence_of
from evaluator.stats.score_process import Floats
from evaluator.stats.sequential_test import HARM_SIDE, WIN_SIDE, Side

Law = Callable[[np.random.Generator, int], Floats]

LAWS: dict[str, Law] = {
    "normal": lambda rng, k: rng.standard_normal(k),
    "storms": lambda rng, k: rng.standard_normal(k) * np.where(rng.random(k) < 0.1, 5.0, 1.0),
    "skewed": lambda rng, k: 1.0 - rng.exponential(size=k),
}


def autoregressive(rng: np.random.Generator, k: int, rho: float) -> Floats:
    """Normal blocks of mean 0 and variance 1 whose neighbours have correlation rho."""
    shocks = rng.standard_normal(k) * np.sqrt(1.0 - rho * rho)
    made = np.empty(k)
    made[0] = rng.standard_normal()
    for index in range(1, k):
        made[index] = rho * made[index - 1] + shocks[index]
    return made


def bounds(times: Floats, first: int) -> Floats:
    """Bound after each block, the looks starting with the block number `first`."""
    boundary, found = Boundary(0.025), np.full(len(times) + 1, np.inf)
    for k in range(first, len(times) + 1):
        found[k], boundary = boundary.look(float(times[k - 1]))
    return found


def look(scores: Floats, information: Floats, side: Side) -> Evidence:
    """The evidence of every run, a cell each. scores: shape (runs, blocks); information: (blocks,)."""
    shape = scores.shape
    rows = np.stack([scores, np.broadcast_to(information, shape), np.full(shape, 1e-12), np.ones(shape)], axis=2)
    return evidence_of(rows, margin=np.zeros(len(scores)), clustered=True, most_correlation=side.most_correlation)


def crossings(
    draw: Callable[[], Floats], information: Floats, first: int, runs: int, name: str
) -> tuple[float, float, float]:
    """Shares of runs that cross the win side, the win side with the arms swapped, and the harm side."""
    limits = bounds(np.cumsum(information) / information.sum(), first)
    scores = np.stack([draw() for _ in range(runs)])
    found = np.zeros((3, runs), dtype=bool)
    looks = range(first, len(information) + 1)
    for k in progress(looks, name):
        win = look(scores[:, :k], information[:k], WIN_SIDE)
        harm = look(scores[:, :k], information[:k], HARM_SIDE)
        found |= np.stack([win.z_win, win.z_harm, harm.z_harm]) >= limits[k]
    up, down, harm_up = found.mean(axis=1).tolist()
    return up, down, harm_up


def run(
    runs: int = 4000, seed: int = 1, table: tuple[str, ...] = ("all", "laws", "correlated", "ramp")
) -> Iterator[str]:
    rng = np.random.default_rng(seed)

    def cell(draw: Callable[[], Floats], information: Floats, first: int, name: str) -> str:
        return " | ".join(f"{rate:.3f}" for rate in crossings(draw, information, first, runs, name))

    yield f"One side at .025, default spending, a look after each block; {runs} runs a row. False decisions:"
    yield "win = challenger declared better; mirrored = the same with the arms swapped; harm = harm side's settings.\n"
    if table in ("laws", "all"):
        yield header("law, K = 30 blocks", "first look", "win", "mirrored", "harm")
        for name, law in LAWS.items():
            for first in (5, 20):
                yield row(name, f"block {first}", cell(lambda law=law: law(rng, 30), np.ones(30), first, name))
        yield ""
    if table in ("ramp", "all"):
        yield header("ramp, information 1 : 5 : 10 by thirds of 30 blocks", "first look", "win", "mirrored", "harm")
        information = np.repeat([1.0, 5.0, 10.0], 10)
        for name, law in LAWS.items():
            rates = cell(lambda law=law: law(rng, 30) * np.sqrt(information), information, 20, name)
            yield row(name, "block 20", rates)
        yield ""
    if table in ("correlated", "all"):
        yield header("autoregressive, looks from block 20", "mean", "win", "mirrored", "harm")
        for rho, mean, lengths in (
            (0.0, 0.0, (30, 60, 120)),
            (0.3, 0.0, (30, 60, 120)),
            (0.5, 0.0, (30, 60, 120)),
            (0.5, 1.0, (30, 60, 120)),
            (0.0, 0.6, (30, 60)),
        ):
            for k in lengths:
                name = f"ρ = {rho}, K = {k}"
                rates = cell(lambda rho=rho, k=k, mean=mean: autoregressive(rng, k, rho) + mean, np.ones(k), 20, name)
                yield row(name, f"{mean:g} σ", rates)


if __name__ == "__main__":
    main(run)
