"""Models that are no better, retrained 200 times against one champion: how often any of them takes its place.

Every attempt goes the whole way of the pure core: rows of the held-out days through the holdout gate, then shadow, ramp
and verdict on new traffic, by `benchmarks.decisions`, with a look a day. A promotion ends the lineage. Three cells:

    prove    equal models. False is any promotion: it takes luck on the holdout (`retrain.confidence`, 5 %) and on the
             ramp (`evidence.alpha` / 2, 2.5 %), so at most 0.125 % an attempt, 2.5 % over the 20 of `max_attempts`.
    refresh  models whose loss is above the champion's by just the margin (5 %), the worst that no promise covers
             better. False is any promotion: at most `refresh.budget` (here 5 %) over the whole lineage.
    equal    equal models under `refresh`. Here a promotion is not an error: the rule asks for a model that is not worse
             by more than the margin and better on average, and an equal one is that every other time.

    python -m benchmarks.lineages                # under five minutes of one core
    python -m benchmarks.lineages --only prove --lineages 20
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks import header, main, progress, row
from benchmarks.decisions import DAY, HOUR, WORLDS, Cell, config_of, losses, rollout
from evaluator.service.design import evaluation_design
from gauntlet.config import Config
from gauntlet.types import Rule, Task
from retrainer.jobs import holdout_gate

BUDGET = 0.05
LOOK_HOURS = 24


@dataclass(frozen=True)
class Lineage:
    """What became of the attempts against one champion. promoted: whether the last attempt was."""

    attempts: int
    passed: int
    promoted: bool


def config_with_budget(cell: Cell) -> Config:
    """All defaults, with a level over all successors of one champion."""
    return config_of(cell, f"refresh: {{budget: {BUDGET}}}\n")


def passes_gate(cell: Cell, config: Config, seed: list[int]) -> bool:
    """Whether a model as the cell describes it passes the holdout gate on days of its own.

    Both models' probabilities of the true class are those that have the drawn losses."""
    rng, settings = np.random.default_rng(seed), config.retrain
    hours = round(float(settings.validation + settings.test) / HOUR)
    shifts = WORLDS[cell.world](rng, hours)
    drawn = [losses(cell, rng, int(rng.poisson(cell.a_day / 24)), shift) for shift in shifts]
    times = np.concatenate([np.full(len(pair[0]), hour * HOUR) for hour, pair in enumerate(drawn)])
    champion, challenger = (np.exp(-np.concatenate([pair[arm] for pair in drawn])) for arm in (0, 1))
    return holdout_gate.compare(
        config.metric,
        np.column_stack([1.0 - champion, champion]),
        np.column_stack([1.0 - challenger, challenger]),
        np.ones(len(times)),
        times,
        task=Task.CLASSIFICATION,
        block=DAY,
        rule=cell.rule,
        margin=config.refresh.margin,
        min_improvement=settings.min_improvement,
        confidence=settings.confidence,
        repetitions=settings.bootstrap,
        seed=settings.seed,
    ).accepted


def lineage(cell: Cell, config: Config, number: int, attempts: int) -> Lineage:
    """Attempts one after the other until one is promoted, each with its part of the budget."""
    budget, passed = evaluation_design(config).budget, 0
    for attempt in range(attempts):
        if not passes_gate(cell, config, [number, attempt, 0]):
            continue
        passed, level = passed + 1, None
        if cell.rule is Rule.REFRESH and budget is not None:
            level, budget = budget.request(str(attempt))
        found = rollout(cell, config, [number, attempt, 1], level=level, every=LOOK_HOURS)
        if found.state == "promoted":
            return Lineage(attempt + 1, passed, True)
    return Lineage(attempts, passed, False)


CELLS = {
    "prove": Cell(50, 0.0, days=45),
    "refresh": Cell(1_000, -1.0, "margins", days=30, rule=Rule.REFRESH),
    "equal": Cell(1_000, 0.0, "margins", days=30, rule=Rule.REFRESH),
}


def chain(cell: Cell, config: Config, first: int, attempts: int) -> list[Lineage]:
    """As many attempts in all: a promotion begins a new lineage."""
    found: list[Lineage] = []
    while left := attempts - sum(one.attempts for one in found):
        found.append(lineage(cell, config, first + len(found), left))
    return found


def run(attempts: int = 200, lineages: int = 2, only: str = "") -> Iterator[str]:
    """attempts: retrainings of a champion that stays; lineages: so many (`equal`: a quarter of the attempts, once).
    only: a cell."""
    yield header("rule", "each model is", "lineages", "retrained", "passed the gate", "promoted", "declared")
    declared = {"prove": "0.125 % an attempt", "refresh": f"{BUDGET:.0%} of the lineages", "equal": "no error"}
    for name, cell in CELLS.items():
        if only not in ("", name):
            continue
        config = config_with_budget(cell)
        many, each = (1, attempts // 4) if name == "equal" else (lineages, attempts)
        found = [one for n in progress(range(many), name) for one in chain(cell, config, 1000 * n, each)]
        tried, passed = (sum(getattr(one, part) for one in found) for part in ("attempts", "passed"))
        what = "worse by the margin" if cell.effect else "equal"
        yield row(cell.rule, what, len(found), tried, passed, sum(one.promoted for one in found), declared[name])


if __name__ == "__main__":
    main(run)
