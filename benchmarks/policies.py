"""A year of real flights under several policies of renewal: log loss of what was served, and what each shipped.

Gauntlet's line runs its pure core as it is (evaluation, decisions, rollout machine) on the demo's flights and the
demo's model, trained anew every week by one or two recipes. The blind policies deploy the same models at once. One
broken model is handed in as in the demo, trained with temperatures in Celsius, in March.

    python -m benchmarks.policies                 # all lines, about ten minutes
    python -m benchmarks.policies --recipes 60d   # Gauntlet's line with one recipe
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from benchmarks import header, main, row
from evaluator.service.block_sums import RolloutSums
from evaluator.service.design import EvaluationDesign, evaluation_design
from evaluator.service.evaluation import evaluate
from evaluator.service.evaluation_state import EvaluationState
from gauntlet.cli.demo import flights
from gauntlet.config import Config
from gauntlet.config.load import parse
from gauntlet.events import Evaluation
from gauntlet.losses import loss
from gauntlet.rollout import Command, Control, Rollout, begin
from gauntlet.transitions import apply
from gauntlet.types import CHALLENGER, CHAMPION, Rule, Task
from retrainer.decisions import decide

Floats = NDArray[np.float64]

FIRST = 38
"""The day of the first retraining: January and a week."""

CONFIG = """
experiment: flights
task: classification
champion: {model: january.skops}
evidence: {outcome_horizon: 12h, block: 12h, block_offset: 9h, harm_block: 6h, min_harm_blocks: 10}
"""


class Year:
    """The flights as arrays, and the losses of models trained on any of their days."""

    def __init__(self) -> None:
        year = flights.load()
        self.matrix = DictVectorizer(sparse=False).fit_transform(year.rows())
        self.day = (year.departure - flights.YEAR_START) / flights.DAY
        self.late, self.known = year.late, ~np.isnan(year.late)
        self.seen = (year.arrival - flights.YEAR_START) / flights.DAY
        self._losses: dict[tuple[int, int], Floats] = {}

    def losses(self, window: int, day: int) -> Floats:
        """Log loss on every flight of the model that is trained on `day` with what `window` days show by then."""
        if (window, day) not in self._losses:
            chosen = self.known & (self.day >= day - window) & (self.day < day) & (self.seen < day)
            model = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(self.matrix[chosen], self.late[chosen])
            self._losses[window, day] = self._loss(model.predict_proba(self.matrix))
        return self._losses[window, day]

    def celsius(self, day: int) -> Floats:
        """Log loss of the demo's first broken model."""
        year = flights.load()
        start = flights.YEAR_START + (day - 60) * flights.DAY
        model = flights.train_in_celsius(*year.between(start, flights.YEAR_START + day * flights.DAY))
        return self._loss(model.predict_proba(year.rows()))

    def _loss(self, output: Floats) -> Floats:
        found = np.zeros(len(self.late))
        found[self.known] = loss("log_loss", output[self.known], self.late[self.known])
        return found

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
    broken: str = "is still running"

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
        champion = self.models[self.control.champion]
        self.served[rows] = champion[rows]
        for rollout in self.control.rollouts:
            sums = self.sums.setdefault(
                rollout.id, RolloutSums(self.control.champion, rollout.challenger, rule=rollout.rule)
            )
            self._pairs(sums, index, champion[known], self.models[rollout.challenger][known], rollout)
        self._decide(design, index - round(design.horizon / seconds), end * flights.DAY)

    def _pairs(self, sums: RolloutSums, index: int, champion: Floats, challenger: Floats, rollout: Rollout) -> None:
        block = sums.block(index)
        if not len(champion):
            return
        block.paired.add(-champion, -challenger)
        block.pairs[CHAMPION].add({"log_loss": champion, "brier": champion, "accuracy": champion}, slice(None))
        block.pairs[CHALLENGER].add({"log_loss": challenger, "brier": challenger, "accuracy": challenger}, slice(None))
        block.exposures[CHALLENGER] += round(rollout.share * len(champion))

    def _decide(self, design: EvaluationDesign, last: int, now: float) -> None:
        for rollout in self.control.rollouts:
            sums = self.sums[rollout.id]
            if last < min(sums.blocks):
                continue
            if rollout.id not in self.states:
                plan = msgspec.structs.replace(design.plan, rule=rollout.rule)
                self.states[rollout.id] = EvaluationState.start(plan)
            state = self.states[rollout.id]
            if not state.planned(design, sums, last):
                continue
            look = evaluate(design, rollout.id, sums, state, last, {}, Task.CLASSIFICATION)
            self.looks = {name: each for name, each in self.looks.items() if self.control.running(name)}
            self.looks[rollout.id] = look
            command = decide(self.control, look, self.config, now, self.looks)
            if command is not None and self.control.running(rollout.id):
                self.control = apply(self.control, command, now)
                if rollout.challenger == "celsius" and not self.control.running(rollout.id):
                    self.broken = f"{self.control.ended[-1].state} on day {now / flights.DAY:.1f}"
                if command.name == "promote":
                    self.promoted.append((now / flights.DAY, rollout.challenger))


def gauntlet(year: Year, windows: dict[str, int], every: int) -> Run:
    """The year under Gauntlet with successors trained by these recipes (name → window in days), and the demo's broken
    model."""
    config = parse(CONFIG)
    design = evaluation_design(config)
    january = year.losses(31, 31)
    run = Run(year, config, january.copy(), {"january": january})
    blocks = round(flights.DAY / design.harm_block)
    for day in tqdm(range(31, 365), desc="days", disable=None, file=sys.stderr):
        now = float(day * flights.DAY)
        if day >= FIRST and (day - FIRST) % every == 0:
            for name, window in windows.items():
                run.challenge(f"{name}:{day}", year.losses(window, day), now, Rule.REFRESH, name)
        if day == 61:
            run.challenge("celsius", year.celsius(day), now, Rule.PROVE, None)
        for part in range(blocks):
            run.block(design, day * blocks + part)
    return run


def blind(year: Year, window: int, every: int, broken: int | None = None) -> float:
    """The year's loss when each model is deployed at once; with the broken one of day `broken` among them."""
    served = year.losses(31, 31).copy()
    deployments = [(day, year.losses(window, day)) for day in range(FIRST, 365, every)]
    if broken is not None:
        deployments.append((broken, year.celsius(broken)))
    for day, losses in sorted(deployments, key=lambda each: each[0]):
        rows = int(np.searchsorted(year.day, day))
        served[rows:] = losses[rows:]
    return year.mean(served)


def lines(recipes: str = "60d,all", every: int = 7) -> Iterator[str]:
    """`recipes`: windows of the successors, comma-separated; `every`: days between trainings."""
    year = Year()
    first = year.mean(year.losses(31, 31))
    best = blind(year, 60, 7)
    yield header("policy", "log loss of the year", "share of the best refit's gain", "shipped")

    def line(name: str, found: float, shipped: str) -> str:
        return row(name, f"{found:.4f}", f"{(first - found) / (first - best):.0%}", shipped)

    yield line("January's model for ever", first, "–")
    for title, window, days in (
        ("30 days, all data", 400, 30),
        ("7 days, all data", 400, 7),
        ("7 days, 60 days", 60, 7),
    ):
        yield line(f"refit every {title}, blind", blind(year, window, days), "everything")
    yield line("refit every 7 days, 60 days, blind, the broken one among them", blind(year, 60, 7, 61), "everything")
    windows = {name: 400 if name == "all" else int(name.removesuffix("d")) for name in recipes.split(",")}
    run = gauntlet(year, windows, every)
    found = f"{len(run.promoted)} promoted; the broken one {run.broken}"
    yield line(f"Gauntlet, every {every} days, recipes {recipes}", year.mean(run.served), found)


if __name__ == "__main__":
    main(lines)
