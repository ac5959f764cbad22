"""How often a harmless promotion is taken back, and how soon a harmful one: the ledger's test and the watch.

The pairs of a promoted model and the one before it, hour by hour and a quarter of them after the bake, go through the
ledger's tracker and the watch over the promotion as they run, with all defaults and a look a day. A promotion that is
no harm may be taken back with `evidence.harm_alpha` (5 %) over the whole watch. Effects are in standard deviations of
the paired differences.

    python -m benchmarks.reverts            # about ten minutes of one core
    python -m benchmarks.reverts --runs 20
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec
import numpy as np

from benchmarks import header, main, progress, row
from benchmarks.decisions import DAY, HOUR, WORLDS, Cell, config_of
from evaluator.service.accumulators import Accumulators
from evaluator.service.block_sums import PromotionSums
from evaluator.service.design import evaluation_design
from evaluator.service.promotion_ledger import WorthTracker
from evaluator.stats import PairedSums
from gauntlet.events import Health
from gauntlet.rollout import Bake, Promotion, begin
from gauntlet.transitions import apply
from retrainer.decisions import decide

CONFIG = config_of(Cell(2_000))
ROLLOUT = "bench-r0001"


class Pairs:
    """Of the evaluator's sums those of one promotion."""

    def __init__(self) -> None:
        self.sums = PromotionSums(ROLLOUT, "v0002", "v0001", 0.0)
        self.worth = {ROLLOUT: self.sums}


def taken_back(world: str, effect: float, seed: int, *, a_day: float = 2_000, days: int = 42) -> int | None:
    """The day on which a promotion was taken back; None where it stood for so many days. effect: below 0 is harm."""
    rng, config, pairs = np.random.default_rng(seed), CONFIG, Pairs()
    tracker = WorthTracker(evaluation_design(config), cast(Accumulators, pairs))
    shifts = WORLDS[world](rng, days * 24)
    since = {"rollout": ROLLOUT, "since": 0.0}
    control = msgspec.structs.replace(
        begin("bench", "v0002", 0.0),
        previous="v0001",
        bake=Bake(**since, until=float(config.bake.time), reference={}),
        promotion=Promotion(**since, until=float(config.worth.time)),
    )
    for day in range(days):
        share = 1.0 if control.bake else config.worth.fraction
        for hour in range(24 * day, 24 * day + 24):
            gains = rng.normal(effect + shifts[hour], 1.0, rng.poisson(share * a_day / 24))
            pairs.sums.blocks.setdefault(hour, PairedSums()).add(np.zeros(len(gains)), gains)
        tracker.look("v0002", 24 * (day + 1))
        entry = tracker.of("v0002")
        if entry is None:
            continue
        health = Health(
            id=f"v0002/{day}",
            at=(24 * (day + 1)) * HOUR + DAY,
            experiment="bench",
            model="v0002",
            outcomes=entry.pairs,
            metrics={},
            promotion=entry.promotion,
            realised_gain=entry.gain,
            realised_lower=entry.lower,
            realised_upper=entry.upper,
            realised_pairs=entry.pairs,
        )
        command = decide(control, health, config, health.at)
        if command is not None and command.name == "rollback":
            return day + 1
        if command is not None:
            control = apply(control, command, health.at)
    return None


def lines(runs: int = 60, days: int = 42, only: str = "") -> Iterator[str]:
    """runs: promotions a row; days: of the watch; only: a part of the world's name."""
    yield header("world", "effect, sd", "promotions", "taken back", "in the bake", "day, median")
    for world in ("independent", "daily cycle", "storms", "hourly AR .8", "wild days"):
        if only not in world:
            continue
        for effect in (0.0, -0.05, -0.1):
            ends = [taken_back(world, effect, seed, days=days) for seed in progress(range(runs), world)]
            back = [day for day in ends if day is not None]
            early = sum(day * DAY < CONFIG.bake.time for day in back)
            when = f"{np.median(back):.0f}" if back else "–"
            yield row(world, effect, runs, f"{len(back) / runs:.0%}", f"{early / runs:.0%}", when)


if __name__ == "__main__":
    main(lines)
