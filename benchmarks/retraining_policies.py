"""A year of real flights under several policies of renewal: log loss of what was served, and what each shipped.

Gauntlet's line runs its pure core as it is (evaluation, decisions, rollout machine) on the demo's flights and the
demo's model, retrained every week by one or two recipes. The blind policies deploy the same models at once. One
broken model is handed in as in the demo, in March.

    python -m benchmarks.retraining_policies                 # all lines, about two minutes
    python -m benchmarks.retraining_policies --recipes 60d   # Gauntlet's line with one recipe
    python -m benchmarks.retraining_policies --start 41      # trained on other days of the week
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks import header, main, progress, row
from benchmarks.renewal import DAY, Loop, Losses, Scores
from evaluator.stats.score_process import Floats
from gauntlet import losses as rows_losses
from gauntlet.cli.demo import flights
from gauntlet.cli.demo.blind_refits import ALL, FIRST_REFIT, Hindsight, blind, with_broken
from gauntlet.cli.demo.run import SUBMISSIONS
from gauntlet.config.load import parse
from gauntlet.types import Rule, Task

FAHRENHEIT = SUBMISSIONS[0]
"""The first of the demo's broken models."""

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
        self._found: dict[tuple[int, int], Losses] = {}

    def of_refit(self, window: int, day: int) -> Losses:
        if (window, day) not in self._found:
            output = self.refit(window, day).predict_proba(self.matrix[self.known])
            found = rows_losses.losses(Task.CLASSIFICATION, output, self.late[self.known])
            self._found[window, day] = {name: self._everywhere(each) for name, each in found.items()}
        return self._found[window, day]

    def _everywhere(self, of_known: Floats) -> Floats:
        found = np.full(len(self.day), np.nan)
        found[self.known] = of_known
        return found

    def mean(self, served: Floats) -> float:
        return float(served[self.known].mean())


def scores(found: Losses) -> Scores:
    return lambda rows: {name: each[rows] for name, each in found.items()}


def gauntlet(year: Year, windows: dict[str, int], every: int, start: int = FIRST_REFIT) -> Loop:
    """The year under Gauntlet with successors trained by these recipes (name → window in days), and the demo's broken
    model, whose log loss stands for its other losses."""
    config = parse(CONFIG)
    january = year.of_refit(31, 31)
    loop = Loop(year, config, "january", scores(january))
    loop.served[:] = january[config.metric]
    blocks = round(DAY / loop.design.harm_block)
    for day in progress(range(31, 365), "days"):
        now = float(day * DAY)
        if day >= start and (day - start) % every == 0:
            for name, window in windows.items():
                loop.challenge(f"{name}:{day}", scores(year.of_refit(window, day)), now, Rule.REFRESH, name)
        if day == FAHRENHEIT.day + 1:
            broken = year.losses_of(FAHRENHEIT, day, year.all)
            loop.challenge("fahrenheit", scores(dict.fromkeys(january, broken)), now, Rule.PROVE, None)
        for part in range(blocks):
            loop.block(day * blocks + part)
    return loop


def lines(recipes: str = "60d,30d", every: int = 7, start: int = FIRST_REFIT) -> Iterator[str]:
    """`recipes`: windows of the successors, comma-separated; `every`: days between trainings; `start`: the first's."""
    year = Year()
    january = year.of_refit(31, 31)["log_loss"]
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
    loop = gauntlet(year, windows, every, start)
    back = f" ({len(loop.taken_back)} taken back)" if loop.taken_back else ""
    found = f"{len(loop.promoted)} promoted{back}; the broken one {loop.end('fahrenheit')}"
    yield line(f"Gauntlet, every {every} days, recipes {recipes}", year.mean(loop.served), found)


if __name__ == "__main__":
    main(lines)
