"""The decision matrix: what the loop does with a challenger, on simulated traffic, with every setting at its default.

The pure core runs as it is: the gross-harm watch, the evaluation of a rollout, the decision policy and the rollout
machine; only requests and outcomes are simulated, hour by hour. Challengers are better or worse by a share of the
standard deviation of the paired differences. Every line is one cell: how many rollouts ended how and when, what the
challenger answered meanwhile, and what that cost.

    python -m benchmarks.decisions                    # the rows that people ask about
    python -m benchmarks.decisions --matrix --runs 40 # rates x worlds x challengers
    python -m benchmarks.decisions --refresh --runs 400  # successors of the same design, by effects in margins
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial

import msgspec
import numpy as np

from benchmarks import main
from evaluator.service.block_sums import RolloutSums
from evaluator.service.design import evaluation_design
from evaluator.service.evaluation import alarm_evaluation, evaluate
from evaluator.service.evaluation_state import EvaluationState
from evaluator.service.rollout_watches import GrossHarmMonitor
from evaluator.stats.score_process import Floats, TailSums
from gauntlet.config import Config
from gauntlet.config import load as configs
from gauntlet.losses import METRICS
from gauntlet.rollout import Command, begin
from gauntlet.transitions import apply
from gauntlet.types import CHALLENGER, CHAMPION, Rule, Task
from retrainer.decisions import decide

HOUR, DAY = 3600.0, 86_400.0
NAME = "bench-r0001"
LARGEST_HOUR = 5_000
"""Pairs of one hour that are drawn one by one; of more, so many stand for all with the weight of the rest."""

PLANNED = 10_000
"""Pairs of a plan's evidence, about: the default of `evidence.min_samples`."""

MARGIN = 0.05
"""The default of `refresh.margin`: a share of the champion's loss."""

World = Callable[[np.random.Generator, int], Floats]
"""Shifts of the paired difference by hour, in standard deviations of the difference; shape (hours,)."""


@dataclass(frozen=True)
class Cell:
    """One line of the matrix. effect: of the challenger, in standard deviations of the paired differences, or for the
    kind `margins` in margins of the rule `refresh`; kind: of a challenger that is not merely shifted. delay: of
    outcomes, in hours."""

    a_day: float
    effect: float = 0.0
    kind: str = "shifted"
    world: str = "independent"
    task: str = "binary"
    delay: float = 1.0
    days: int = 90
    traffic: str = "even"
    rule: Rule = Rule.PROVE

    @property
    def title(self) -> str:
        units = {"shifted": f"{self.effect:+.2f} sd", "margins": f"{self.effect:+g} margin"}
        challenger = units.get(self.kind, self.kind)
        return f"{self.a_day:>10,.0f}  {challenger:<9} {self.world:<14} {self.task:<10} {self.delay:>5g} h"


@dataclass(frozen=True)
class Outcome:
    """How one rollout ended: state, day, requests that the challenger answered, and the loss that these cost."""

    state: str
    day: float
    answered: int
    excess: float
    stage: int


def independent(rng: np.random.Generator, hours: int) -> Floats:
    return np.zeros(hours)


def day_effects(rng: np.random.Generator, hours: int) -> Floats:
    """Days differ by a tenth of the effect of .1 standard deviations."""
    return np.repeat(rng.normal(0.0, 0.01, hours // 24 + 1), 24)[:hours]


def storms(rng: np.random.Generator, hours: int) -> Floats:
    """5 % of half-days shift all differences by an exponential amount in either direction."""
    n = hours // 12 + 1
    sizes = (rng.random(n) < 0.05) * rng.exponential(0.5, n) * rng.choice([-1.0, 1.0], n)
    return np.repeat(sizes, 12)[:hours]


def wild_days(rng: np.random.Generator, hours: int) -> Floats:
    """Days differ by half a standard deviation of the paired differences: a week's mean is hardly known."""
    return np.repeat(rng.normal(0.0, 0.5, hours // 24 + 1), 24)[:hours]


def correlated_hours(rng: np.random.Generator, hours: int) -> Floats:
    """Hours correlated by .8."""
    values, noise = np.empty(hours), rng.normal(0.0, 0.6, hours)
    last = rng.normal()
    for hour in range(hours):
        last = 0.8 * last + noise[hour]
        values[hour] = last
    return 0.1 * values


def daily_cycle(rng: np.random.Generator, hours: int) -> Floats:
    return 0.1 * np.sin(2 * np.pi * np.arange(hours) / 24)


def weekly_cycle(rng: np.random.Generator, hours: int) -> Floats:
    """By .15 in either direction within a week that begins on any day."""
    return 0.15 * np.sin(2 * np.pi * (np.arange(hours) / (7 * 24) + rng.random()))


def sign_change(rng: np.random.Generator, hours: int) -> Floats:
    """Better by .05 for a week, worse by .05 ever after."""
    return np.where(np.arange(hours) < 7 * 24, 0.05, -0.05)


WORLDS: dict[str, World] = {
    "independent": independent,
    "day effects": day_effects,
    "wild days": wild_days,
    "storms": storms,
    "hourly AR .8": correlated_hours,
    "daily cycle": daily_cycle,
    "weekly cycle": weekly_cycle,
    "sign change": sign_change,
}


TRAFFIC: dict[str, Callable[[int], float]] = {
    "even": lambda hour: 1.0,
    "one block": lambda hour: 1000.0 if hour == 60 else 1.0,
    "falls": lambda hour: 1.0 if hour < 72 else 0.01,
    "silence": lambda hour: 0.0 if 48 <= hour < 216 else 1.0,
}
"""Requests of an hour, as a multiple of an even hour's."""


def _binary(rng: np.random.Generator, n: int) -> Floats:
    """Log losses of a calibrated classifier of a binary outcome."""
    p = rng.beta(2.0, 2.0, n)
    return -np.log(np.where(rng.random(n) < p, p, 1.0 - p))


def _classes(rng: np.random.Generator, n: int) -> Floats:
    """Log losses of a calibrated classifier of three classes."""
    p = rng.dirichlet([2.0, 2.0, 2.0], n)
    drawn = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return -np.log(p[np.arange(n), drawn])


def _regression(rng: np.random.Generator, n: int) -> Floats:
    """Squared errors with Student's t of four degrees."""
    return rng.standard_t(4.0, n) ** 2


LOSSES = {"binary": _binary, "classes": _classes, "regression": _regression}


def losses(cell: Cell, rng: np.random.Generator, n: int, shift: float) -> tuple[Floats, Floats]:
    """Both arms' losses on n requests of an hour that shifts the difference by `shift` standard deviations."""
    champion = LOSSES[cell.task](rng, n)
    if cell.kind == "gross":
        return champion, 1.5 * champion
    if cell.kind == "inverted":  # the class that was likely is now unlikely, and so for numbers
        return champion, champion + np.abs(rng.normal(1.0, 0.5, n)) * (1.0 + champion)
    # Losses stay above 0 and unbiased: all of it in proportion to the champion's.
    of_sd, of_loss = (shift, cell.effect * MARGIN) if cell.kind == "margins" else (cell.effect + shift, 0.0)
    moved = of_sd * relative_sd(cell.task) + of_loss
    return champion, champion * np.maximum(1.0 + _noise(rng, n) - moved, 0.0)


def _noise(rng: np.random.Generator, n: int) -> Floats:
    """What the challenger's loss differs by from the champion's, in parts of that."""
    return rng.uniform(-0.5, 0.5, n)


@cache
def relative_sd(task: str) -> float:
    """The standard deviation of the paired differences, in mean losses of the champion; not that of an hour's pairs, as
    few of them miss the tail. It is the median of samples as large as a plan's evidence, for a squared error of
    Student's t has none of its own."""
    rng = np.random.default_rng(0)
    samples = [LOSSES[task](rng, PLANNED) for _ in range(101)]
    return float(np.median([(each * _noise(rng, PLANNED)).std() for each in samples]) / np.mean(samples))


def rollout(
    cell: Cell, config: Config, seed: int | Sequence[int], *, level: float | None = None, every: int = 1
) -> Outcome:
    """One rollout from its challenge to its end, or to the last day. level: of its lineage's budget, where it has one;
    every: hours between looks."""
    rng = np.random.default_rng(seed)
    design = evaluation_design(config)
    plan = msgspec.structs.replace(design.plan, rule=cell.rule)
    if level is not None:
        plan = msgspec.structs.replace(plan, refresh_alpha=min(level, plan.refresh_alpha))
    state, sums = EvaluationState.start(plan), RolloutSums("v0001", "v0002", rule=cell.rule)
    watch = GrossHarmMonitor(config.evidence.gross_margin, config.evidence.gross_alpha)
    control = apply(begin("bench", "v0001", 0.0), _challenge(config, cell.rule), 0.0)
    hours = cell.days * 24
    shifts, horizon = WORLDS[cell.world](rng, hours), round(design.horizon / HOUR)
    shown: list[tuple[Floats, Floats]] = []
    answered, excess, stage = 0, 0.0, -1
    for hour in range(hours):
        (running,) = control.rollouts
        share, stage = running.share, max(stage, running.stage)
        pair, treated = _hour(cell, rng, sums, hour, share, shifts[hour], design.early)
        answered += treated
        excess += treated * float(np.mean(pair[1] - pair[0])) if treated else 0.0
        shown.append(pair)
        now = (hour + 1) * HOUR
        if hour >= cell.delay:
            watch.pairs(NAME, *shown[hour - int(np.ceil(cell.delay))])
        events = [] if (alarm := watch.take(NAME)) is None else [alarm_evaluation(design, NAME, sums, alarm, now, {})]
        last = hour - horizon
        if last >= 0 and hour % every == 0 and state.planned(design, sums, last):
            events.append(evaluate(design, NAME, sums, state, last, {}, Task(config.task)))
        for event in events:
            command = decide(control, event, config, event.at)
            control = control if command is None else apply(control, command, event.at)
            if not control.rollouts:
                return Outcome(control.ended[-1].state, now / DAY, answered, excess, stage)
    return Outcome("running", float(cell.days), answered, excess, stage)


def _challenge(config: Config, rule: Rule) -> Command:
    shadow, stages = config.ladder(rule)
    return Command(
        name="challenge", actor="bench", reason="bench", version="v0002", rule=rule, shadow=shadow, stages=stages
    )


def _hour(
    cell: Cell, rng: np.random.Generator, sums: RolloutSums, hour: int, share: float, shift: float, early: float
) -> tuple[tuple[Floats, Floats], int]:
    """One hour's requests into the sums; returns its drawn losses, and how many requests the challenger answered.
    early: seconds up to which labels are early."""
    n = int(rng.poisson(cell.a_day / 24 * TRAFFIC[cell.traffic](hour)))
    weight = max(1, -(-n // LARGEST_HOUR))
    drawn = n // weight
    champion, challenger = losses(cell, rng, drawn, shift)
    treated = int(rng.binomial(drawn * weight, share)) if share else 0
    block = sums.block(hour)
    part = block.paired
    part.add(-champion, -challenger)
    if cell.task == "regression":
        block.tails.setdefault(CHALLENGER, TailSums()).add(champion - challenger)
    if weight > 1:  # whole sums of as many requests again, with the variance of independent ones
        _scale(part, weight, champion, challenger, rng)
        block.tails = {
            arm: TailSums(*(weight * value for value in sums.to_list())) for arm, sums in block.tails.items()
        }
    block.shadows.both += drawn * weight
    if cell.delay * HOUR <= early:
        block.early = replace(part)
    metrics = METRICS[Task.REGRESSION if cell.task == "regression" else Task.CLASSIFICATION]
    for arm, values in ((CHAMPION, champion), (CHALLENGER, challenger)):
        block.pairs[arm].add(dict.fromkeys(metrics, values), slice(None))
    block.exposures[CHAMPION] += drawn * weight - treated
    block.exposures[CHALLENGER] += treated
    if share:
        for assigned, count in ((False, drawn * weight - treated), (True, treated)):
            block.assignments.add(assigned, share, count)
            block.arrived.add(assigned, share, count)
    return (champion, challenger), treated


def _scale(part: object, weight: int, champion: Floats, challenger: Floats, rng: np.random.Generator) -> None:
    """Let the sums stand for `weight` times as many requests: their moments, and a total drawn with its own noise."""
    d, n = champion - challenger, len(champion)
    unit = 2**60
    total = weight * d.sum() + np.sqrt((weight - 1) * n * weight) * d.std() * rng.normal()
    for name in ("n", "dd", "y_champion", "y_challenger", "yy_champion", "yy_challenger"):
        setattr(part, name, getattr(part, name) * weight)
    part.d = round(total * unit)  # type: ignore[attr-defined]


def config_of(cell: Cell, more: str = "") -> Config:
    """All defaults but for `more`; outcomes that come later than a day need their horizon declared."""
    task = "regression" if cell.task == "regression" else "classification"
    horizon = f"{{outcome_horizon: {cell.delay:g}h}}" if cell.delay > 24 else "{}"
    champion = '{model: "benchmarks.predict_route:LinearModel"}'
    return configs.parse(f"experiment: bench\ntask: {task}\nchampion: {champion}\nevidence: {horizon}\n{more}")


def line(cell: Cell, outcomes: Sequence[Outcome]) -> str:
    """A cell's line of the table."""

    def share(*states: str) -> str:
        return f"{sum(o.state in states for o in outcomes) / len(outcomes):5.0%}"

    days = [o.day for o in outcomes if o.state != "running"] or [float("nan")]
    furthest = max(o.stage for o in outcomes)
    answered, excess = (np.mean([getattr(o, name) for o in outcomes]) for name in ("answered", "excess"))
    return (
        f"{cell.title}  {share('promoted')} {share('archived')} {share('rolled_back')} {share('running')}  "
        f"{np.median(days):6.2f} {np.quantile(days, 0.9):6.2f}  {answered:12,.0f} {excess:12,.1f}  "
        f"{'shadow' if furthest < 0 else f'stage {furthest}'}"
    )


HEADER = (
    "outcomes a day  challenger world task delay | promoted archived rolled back running | days: median, p90 | "
    "answered by the challenger, excess loss | furthest stage"
)

ROWS = [
    *(Cell(2_000, kind=kind, task=task) for kind in ("inverted", "gross") for task in LOSSES),
    Cell(100_000, kind="inverted"),
    *(Cell(2_000, -0.1, world=world) for world in ("independent", "day effects")),
    *(Cell(2_000, 0.1, world=world) for world in ("independent", "day effects", "storms", "hourly AR .8")),
    Cell(2_000, 0.03),
    Cell(100_000, 0.03),
    Cell(10_000_000, 0.03),
    Cell(100, 0.1),
    *(Cell(2_000, world=world) for world in WORLDS),
    Cell(2_000, 0.1, delay=24.0),
    *(Cell(2_000, effect, delay=168.0) for effect in (0.1, 0.0)),
    *(Cell(rate, world="day effects") for rate in (100_000, 10_000_000)),
    Cell(10_000_000),
]
"""What people ask about."""


REFRESH = [
    Cell(rate, effect, "margins", world, rule=Rule.REFRESH, days=30)
    for rate, effect, world in itertools.product(
        (1_000.0,), (-2.0, -1.0, 0.0, 1.0), ("independent", "wild days", "storms", "hourly AR .8")
    )
]
"""What a retrained successor may expect."""


def every_cell() -> list[Cell]:
    challengers = [(0.0, "shifted"), (0.1, "shifted"), (0.03, "shifted"), (-0.1, "shifted"), (-0.03, "shifted")]
    challengers += [(0.0, "gross"), (0.0, "inverted")]
    rates = (100.0, 2_000.0, 100_000.0, 10_000_000.0)
    return [
        Cell(rate, effect, kind, world, task)
        for rate, (effect, kind), world, task in itertools.product(rates, challengers, WORLDS, LOSSES)
    ]


def run(runs: int = 40, matrix: bool = False, refresh: bool = False, only: str = "", every: int = 1) -> Iterator[str]:
    """matrix: all rates, worlds, challengers and tasks. refresh: successors under that rule. only: a part of a cell's
    title. every: hours between looks."""
    cells = every_cell() if matrix else REFRESH if refresh else ROWS
    yield f"{runs} rollouts a cell, all defaults, hours between looks: {every}\n{HEADER}"
    with ProcessPoolExecutor(2) as pool:
        for cell in cells:
            if only in cell.title:
                yield line(cell, list(pool.map(partial(rollout, cell, config_of(cell), every=every), range(runs))))


if __name__ == "__main__":
    main(run)
