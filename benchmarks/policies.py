"""A year of real flights under several policies of renewal: log loss of what was served, and what each shipped.

Gauntlet's line runs its pure core as it is (evaluation, decisions, rollout machine) on the demo's flights and the
demo's model, trained anew every week by one or two recipes. The blind policies deploy the same models at once. One
broken model is handed in as in the demo, in March.

    python -m benchmarks.policies                 # all lines, about two minutes
    python -m benchmarks.policies --recipes 60d   # Gauntlet's line with one recipe
    python -m benchmarks.policies --start 41      # trained on other days of the week
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np

from benchmarks import header, main, progress, row
from evaluator.service.block_sums import RolloutSums
from evaluator.service.design import EvaluationDesign, evaluation_design
from evaluator.service.evaluation import alarm_evaluation, evaluate
from evaluator.service.evaluation_state import EvaluationState
from evaluator.service.rivals import RivalTable
from evaluator.service.watches import GrossHarmMonitor
from evaluator.stats.score_process import Floats
from gauntlet.cli.demo import flights
from gauntlet.cli.demo.policies import ALL, FIRST_REFIT, Hindsight, blind, with_broken
from gauntlet.cli.demo.run import SUBMISSIONS
from gauntlet.config import Config
from gauntlet.config.load import parse
from gauntlet.events import Evaluation
from gauntlet.losses import METRICS
from gauntlet.rollout import Command, Control, Rollout, begin
from gauntlet.transitions import apply
from gauntlet.types import CHALLENGER, CHAMPION, Rule, Task
from retrainer.decisions import decide

FAHRENHEIT = SUBMISSIONS[0]
"""The first of the demo's broken models."""

LOSSES = METRICS[Task.CLASSIFICATION]

CONFIG = """
experiment: flights
task: classification
champion: {model: january.skops}
evidence: {outcome_horizon: 12h, block: 12h, block_offset: 9h, harm_block: 6h, min_harm_blocks: 10}
"""


class Year(Hindsight):
    """The flights as arrays, and the losses on all of them of models trained on any of their days."""

    def __init__(self) -> None:
        year = flights.load()
        super().__init__(year, len(year))
        self.all = slice(0, len(year))
        self._found: dict[tuple[int, int], Floats] = {}

    def of_refit(self, window: int, day: int) -> Floats:
        if (window, day) not in self._found:
            self._found[window, day] = self.losses(self.refit(window, day), self.all)
        return self._found[window, day]

    def mean(self, served: Floats) -> float:
        return float(served[self.known].mean())


@dataclass
class Run:
    """A year under Gauntlet: the control record, each rollout's sums and tests, and whose losses were served."""

    year: Year
    config: Config
    served: Floats
    models: dict[str, Floats]
    control: Control = field(default_factory=lambda: begin("flights", "january", 0.0))
    sums: dict[str, RolloutSums] = field(default_factory=dict)
    states: dict[str, EvaluationState] = field(default_factory=dict)
    looks: dict[str, Evaluation] = field(default_factory=dict)
    promoted: list[tuple[float, str]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    """Whom the gross-harm watch took out."""
    broken: str = "is still running"

    def __post_init__(self) -> None:
        self.rivals = RivalTable()
        self.watch = GrossHarmMonitor(self.config.evidence.gross_margin, self.config.evidence.gross_alpha)

    def challenge(self, version: str, losses: Floats, now: float, rule: Rule, recipe: str | None) -> None:
        self.models[version] = losses
        shadow, stages = self.config.ladder(rule)
        command = Command(
            name="challenge",
            actor="bench",
            reason="trained",
            version=version,
            rule=rule,
            recipe=recipe,
            most=self.config.shadow.challengers,
            shadow=shadow,
            stages=stages,
        )
        self.control = apply(self.control, command, now)

    def block(self, design: EvaluationDesign, index: int) -> None:
        """The traffic of one block, and the looks that it makes due."""
        year, seconds = self.year, design.harm_block
        start, end = ((index + n) * seconds / flights.DAY for n in (0, 1))
        rows = slice(*np.searchsorted(year.day, [start, end]))
        in_time = year.known[rows] & (year.seen[rows] - year.day[rows] <= design.horizon / flights.DAY)
        known = np.flatnonzero(in_time) + rows.start
        known = known[np.argsort(year.seen[known], kind="stable")]
        champion = self.models[self.control.champion]
        self.served[rows] = champion[rows]
        self.watch.served(champion[known])
        for rollout in self.control.rollouts:
            sums = self.sums.setdefault(
                rollout.id, RolloutSums(self.control.champion, rollout.challenger, rule=rollout.rule)
            )
            self._pairs(sums, index, champion[known], self.models[rollout.challenger][known], rollout)
        for one, two in itertools.combinations(sorted(rollout.challenger for rollout in self.control.rollouts), 2):
            losses = (dict.fromkeys(LOSSES, self.models[version][known]) for version in (one, two))
            if len(known):
                self.rivals.block(one, two, index).add_pairs("log_loss", *losses)
        self._decide(design, index - round(design.horizon / seconds), end * flights.DAY)

    def _pairs(self, sums: RolloutSums, index: int, champion: Floats, challenger: Floats, rollout: Rollout) -> None:
        block = sums.block(index)
        if not len(champion):
            return
        block.paired.add(-champion, -challenger)
        self.watch.pairs(rollout.id, champion, challenger)
        block.pairs[CHAMPION].add(dict.fromkeys(LOSSES, champion), slice(None))
        block.pairs[CHALLENGER].add(dict.fromkeys(LOSSES, challenger), slice(None))
        block.exposures[CHALLENGER] += round(rollout.share * len(champion))

    def _decide(self, design: EvaluationDesign, last: int, now: float) -> None:
        for rollout in self.control.rollouts:
            sums, alarm = self.sums[rollout.id], self.watch.take(rollout.id)
            if alarm is not None:
                self._act(rollout, alarm_evaluation(design, rollout.id, sums, alarm, now, {}), now)
                self.stopped.append(rollout.challenger)
            if last < min(sums.blocks):
                continue
            if rollout.id not in self.states:
                plan = msgspec.structs.replace(design.plan, rule=rollout.rule)
                self.states[rollout.id] = EvaluationState.start(plan)
            state, known = self.states[rollout.id], self.rivals.with_rivalry(sums)
            if state.planned(design, known, last):
                self._act(rollout, evaluate(design, rollout.id, known, state, last, {}, Task.CLASSIFICATION), now)

    def _act(self, rollout: Rollout, look: Evaluation, now: float) -> None:
        self.looks = {name: each for name, each in self.looks.items() if self.control.running(name)}
        self.looks[rollout.id] = look
        command = decide(self.control, look, self.config, now, self.looks)
        if command is not None and self.control.running(rollout.id):
            self.control = apply(self.control, command, now)
            if rollout.challenger == "fahrenheit" and not self.control.running(rollout.id):
                self.broken = f"{self.control.ended[-1].state} on day {now / flights.DAY:.1f}"
            if command.name == "promote":
                self.promoted.append((now / flights.DAY, rollout.challenger))


def gauntlet(year: Year, windows: dict[str, int], every: int, start: int = FIRST_REFIT) -> Run:
    """The year under Gauntlet with successors trained by these recipes (name → window in days), and the demo's broken
    model."""
    config = parse(CONFIG)
    design = evaluation_design(config)
    january = year.of_refit(31, 31)
    run = Run(year, config, january.copy(), {"january": january})
    blocks = round(flights.DAY / design.harm_block)
    for day in progress(range(31, 365), "days"):
        now = float(day * flights.DAY)
        if day >= start and (day - start) % every == 0:
            for name, window in windows.items():
                run.challenge(f"{name}:{day}", year.of_refit(window, day), now, Rule.REFRESH, name)
        if day == FAHRENHEIT.day + 1:
            run.challenge("fahrenheit", year.losses_of(FAHRENHEIT, day, year.all), now, Rule.PROVE, None)
        for part in range(blocks):
            run.block(design, day * blocks + part)
    return run


def lines(recipes: str = "60d,30d", every: int = 7, start: int = FIRST_REFIT) -> Iterator[str]:
    """`recipes`: windows of the successors, comma-separated; `every`: days between trainings; `start`: the first's."""
    year = Year()
    january = year.of_refit(31, 31)
    weekly = blind(year, january, 7, 60, start)
    first, best = year.mean(january), year.mean(weekly)
    yield header("policy", "log loss of the year", "share of the best refit's gain", "shipped")

    def line(name: str, found: float, shipped: str) -> str:
        return row(name, f"{found:.4f}", f"{(first - found) / (first - best):.0%}", shipped)

    yield line("January's model for ever", first, "–")
    for title, window, days in (
        ("30 days, all data", ALL, 30),
        ("7 days, all data", ALL, 7),
        ("7 days, 60 days", 60, 7),
    ):
        yield line(
            f"refit every {title}, blind", year.mean(blind(year, january, days, window, start=start)), "everything"
        )
    broken = year.mean(with_broken(year, weekly, 7, [FAHRENHEIT], start))
    yield line("refit every 7 days, 60 days, blind, the broken one among them", broken, "everything")
    windows = {name: ALL if name == "all" else int(name.removesuffix("d")) for name in recipes.split(",")}
    run = gauntlet(year, windows, every, start)
    found = f"{len(run.promoted)} promoted, {len(run.stopped)} stopped for gross harm; the broken one {run.broken}"
    yield line(f"Gauntlet, every {every} days, recipes {recipes}", year.mean(run.served), found)


if __name__ == "__main__":
    main(lines)
