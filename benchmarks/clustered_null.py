"""False decisions and power of the block statistic, on few, skewed and correlated blocks, looking after each.

Invariant: it runs the evaluator's own code (`evidence`, `Boundary`), seeded, so the same options print the same tables.

    python benchmarks/clustered_null.py [--runs 4000] [--seed 1] [--table laws|correlated|ramp|all]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evaluator.stats import Boundary, Evidence
from evaluator.stats.cluster_robust import evidence_of
from evaluator.stats.sequential_test import HARM_SIDE, WIN_SIDE, Side

Floats = NDArray[np.float64]
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
    draw: Callable[[], Floats], information: Floats, first: int, runs: int, name: str, quiet: bool
) -> tuple[float, float, float]:
    """Shares of runs that cross the win side, the win side with the arms swapped, and the harm side."""
    limits = bounds(np.cumsum(information) / information.sum(), first)
    scores = np.stack([draw() for _ in range(runs)])
    found = np.zeros((3, runs), dtype=bool)
    looks = range(first, len(information) + 1)
    for k in tqdm(looks, desc=name, leave=False, disable=quiet, file=sys.stderr):
        win = look(scores[:, :k], information[:k], WIN_SIDE)
        harm = look(scores[:, :k], information[:k], HARM_SIDE)
        found |= np.stack([win.z_win, win.z_harm, harm.z_harm]) >= limits[k]
    up, down, harm_up = found.mean(axis=1).tolist()
    return up, down, harm_up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000, help="runs of each cell (default 4000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", choices=("laws", "correlated", "ramp", "all"), default="all")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)

    def cell(draw: Callable[[], Floats], information: Floats, first: int, name: str) -> str:
        rates = crossings(draw, information, first, options.runs, name, options.quiet)
        return " | ".join(f"{rate:.3f}" for rate in rates)

    print(f"One side at .025, default spending, a look after each block; {options.runs} runs a row. False decisions:")
    print("win = challenger declared better; mirrored = the same with the arms swapped; harm = harm side's settings.\n")
    if options.table in ("laws", "all"):
        print("| law, K = 30 blocks | first look | win | mirrored | harm |\n|---|---|---|---|---|")
        for name, law in LAWS.items():
            for first in (5, 20):
                rates = cell(lambda law=law: law(rng, 30), np.ones(30), first, name)
                print(f"| {name} | block {first} | {rates} |")
        print()
    if options.table in ("ramp", "all"):
        print("| ramp, information 1 : 5 : 10 by thirds of 30 blocks | first look | win | mirrored | harm |")
        print("|---|---|---|---|---|")
        information = np.repeat([1.0, 5.0, 10.0], 10)
        for name, law in LAWS.items():
            rates = cell(lambda law=law: law(rng, 30) * np.sqrt(information), information, 20, name)
            print(f"| {name} | block 20 | {rates} |")
        print()
    if options.table in ("correlated", "all"):
        print("| autoregressive, looks from block 20 | mean | win | mirrored | harm |\n|---|---|---|---|---|")
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
                print(f"| {name} | {mean:g} σ | {rates} |", flush=True)


if __name__ == "__main__":
    main()
