"""Type I error, power and traffic of the sequential engine beside GrowthBook's, Spotify's, the oracle and the bound.

A/A and A/B experiments of 50,000 units with a look after each 50, two-sided level .05. Every method sees the same
experiments; every number comes with binomial limits that a right method breaks once in a thousand cells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from benchmarks import engine, header, main, oracle, peers, progress, row
from benchmarks.simulated import ALLOCATIONS, DRIFTS, LAWS, LOOKS, UNITS, Cell, Law, Sums, draw
from evaluator.stats.power import information_rate, kl
from evaluator.stats.score_process import Ints

ALPHA = 0.05
HORIZON = float(LOOKS * UNITS)


@dataclass(frozen=True, slots=True)
class Decisions:
    """First look at which each run crosses either side (from 1, 0 for none), each side as if the other did not stop."""

    win: Ints
    harm: Ints

    @classmethod
    def signed(cls, looks: Ints) -> Decisions:
        """From first looks with the sign of their direction."""
        return cls(np.maximum(looks, 0), np.maximum(-looks, 0))

    @property
    def rates(self) -> tuple[float, float, float]:
        """Shares of runs that cross the win side, the harm side, and any."""
        win, harm = self.win > 0, self.harm > 0
        return float(win.mean()), float(harm.mean()), float((win | harm).mean())

    @property
    def units(self) -> float:
        """Units seen until the first crossing of either side or the horizon, on average."""
        stops = [np.where(side > 0, side, LOOKS) for side in (self.win, self.harm)]
        return float(UNITS * np.minimum(*stops).mean())


def decide(cell: Cell, sums: Sums, asked: peers.Peers | None) -> tuple[engine.Watched, dict[str, Decisions]]:
    watched = engine.watch(sums)
    if asked is not None:
        asked.ask(sums, watched.open_harm, binary=cell.law.kind == "bernoulli", final=HORIZON)
    found = {"ours": Decisions(*engine.group_sequential(watched)), "anytime": Decisions(*engine.anytime(watched))}
    if asked is not None:
        found |= {name: Decisions.signed(looks) for name, looks in asked.answers().items()}
    return watched, found


def grid(runs: int, seed: int, only: str, asked: peers.Peers | None) -> Iterator[str]:
    """The A/A grid: law × drift × allocation."""
    side, both, least = (
        float(binom.ppf(q, runs, rate)) / runs for q, rate in ((0.999, 0.025), (0.999, ALPHA), (0.001, 0.04))
    )
    yield f"### False decisions: {runs} A/A experiments a cell"
    yield (
        f"Limits: each side at most {side:.4f}, both at most {both:.4f}; group-sequential both at least {least:.4f}. "
        "`!` above a limit, `v` under the lower one. Peers: as they come / looking only where ours does, once either "
        "arm has 10 outcomes and both together 5 events.\n"
    )
    yield header("outcomes", "drift", "allocation", "ours: better", "worse", "both", "anytime", *peers.PEERS)
    cells = [
        (name, Cell(allocation, drift, law))
        for name, law in LAWS.items()
        for drift in DRIFTS
        for allocation in ALLOCATIONS
        if only in f"{name} | {drift} | {allocation}"
    ]
    missed: list[str] = []
    for name, cell in progress(cells, "A/A cells"):
        _, found = decide(cell, draw(cell, runs, seed), asked)
        win, harm, any_side = found["ours"].rates
        title = f"{name} | {cell.drift} | {cell.allocation}"
        marks = [_mark(win, side), _mark(harm, side), _mark(any_side, both, least)]
        if any(marks):
            missed.append(title)
        shown = [f"{rate:.4f}{mark}" for rate, mark in zip((win, harm, any_side), marks, strict=True)]
        shown.append(_rate(found["anytime"], both))
        shown += [
            " / ".join(_rate(found[name], both) for name in (peer, f"{peer} gated") if name in found)
            for peer in peers.PEERS
        ]
        yield row(title, *shown)
    yield f"\n{len(cells) - len(missed)} of {len(cells)} cells within all limits." + "".join(
        f"\n- outside: {title}" for title in missed
    )


def _rate(decisions: Decisions, most: float) -> str:
    rate = decisions.rates[2]
    return f"{rate:.4f}{_mark(rate, most)}"


def _mark(rate: float, most: float, least: float = 0.0) -> str:
    return " !" if rate > most else " v" if rate < least else ""


POWER_CELLS = (  # allocation, drift, champion's rate, challenger's
    ("90/10", "flat", 0.80, 0.82),
    ("90/10", "flat", 0.80, 0.85),
    ("50/50", "flat", 0.80, 0.81),
    ("ramp 1→5→10 %", "flat", 0.80, 0.82),
    ("ramp 1→5→10 %", "stage drift", 0.80, 0.83),
)


def power(runs: int, seed: int, only: str, asked: peers.Peers | None) -> Iterator[str]:
    """Power and traffic where there is an effect."""
    yield f"### Power and traffic: {runs} experiments a cell"
    yield (
        "E[N]: units until a decision or the horizon. Oracle: the SPRT that knows both rates, level .025. Bound: "
        "kl(1−β‖.025) / I_KL at ours' power. Intervals: ± 2 standard errors. One look: the score test at the horizon.\n"
    )
    yield header("cell", "method", "power ±", "wrong way", "E[N]", "E[N] / oracle")
    for allocation, drift, p0, p1 in progress(POWER_CELLS, "A/B cells"):
        title = f"{allocation}, {drift}, {p0:.2f} → {p1:.2f}"
        if only not in title:
            continue
        cell = Cell(allocation, drift, Law("bernoulli", p0, effect=p1 - p0))
        sums = draw(cell, runs, seed)
        watched, found = decide(cell, sums, asked)
        constant = len(ALLOCATIONS[allocation]) == 1 and drift == "flat"
        base = None
        if constant:
            known = oracle.sprt(sums, p0, p1, ALPHA / 2)
            found["oracle SPRT"] = Decisions(known, np.zeros_like(known))
            base = found["oracle SPRT"].units
        for method, decisions in found.items():
            better, worse, _ = decisions.rates
            ratio = f"{decisions.units / base:.2f}" if base else ""
            error = 2.0 * (better * (1.0 - better) / runs) ** 0.5
            yield row(title, method, f"{better:.3f} ± {error:.3f}", f"{worse:.4f}", f"{decisions.units:,.0f}", ratio)
        if constant and base:
            (share,) = ALLOCATIONS[allocation]
            power = found["ours"].rates[0]
            rate, _ = information_rate(share, p0, p1)
            least = kl(power, ALPHA / 2) / rate if power > ALPHA / 2 else 0.0
            yield row(title, "KL bound", "", "", f"{least:,.0f}", f"{least / base:.2f}")
        better, worse = oracle.one_look(watched.score, watched.variance, ALPHA / 2)
        yield row(title, "one look", f"{better:.3f}", f"{worse:.4f}", f"{HORIZON:,.0f}", "")


def run(
    runs: int = 1000,
    seed: int = 1,
    cells: str = "",
    table: tuple[str, ...] = ("all", "grid", "power"),
    no_peers: bool = False,
) -> Iterator[str]:
    """The tables asked for, `runs` experiments a cell, of the cells whose line contains `cells`."""
    with contextlib.ExitStack() as stack:
        asked = None if no_peers else stack.enter_context(peers.running())
        for name, lines in (("power", power), ("grid", grid)):
            if table in (name, "all"):
                yield from lines(runs, seed, cells, asked)
                yield ""


if __name__ == "__main__":
    main(run)
