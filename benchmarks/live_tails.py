"""How often the running evaluator calls a challenger better, or worse, whose mean is the champion's and whose tail is
another.

The laws are those of `benchmarks.tails`; evidence is judged once a day by hours, quarters and days, with all defaults.
Then what that costs where a challenger is better, or worse: the share that is called so, and the mean day, 1 after the
plan for the rest.
Invariant: seeded, so that the same options print the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks import header, main, row
from benchmarks.tails import EQUAL, Law
from evaluator.service.design import RolloutPlan, evaluation_design
from evaluator.stats.cluster_robust import HARM_SCALES, WIN_SCALES, weakest
from evaluator.stats.panel import BETTER, WORSE, ArmTotals, States, decide
from evaluator.stats.tails import Tails
from gauntlet.config import load as configs

Floats = np.ndarray

HOURS: Final = 24
SHARE: Final = 0.1
FIRST_LOOK: Final = 2
"""Whole days before harm; a win waits for five."""
TAILS: Final = (
    "normal, lognormal(1.5)",
    "normal, lognormal(1)",
    "normal, Pareto(1.5)",
    "normal, Pareto(1.8)",
    "even .995, disaster",
)

BETTER_BY_A_TENTH: Final[dict[str, Law]] = {
    "normal": Law(lambda rng, n: rng.standard_normal(n), lambda rng, n: rng.standard_normal(n) - 0.14),
    "exponential": Law(lambda rng, n: rng.exponential(1.0, n), lambda rng, n: rng.exponential(0.86, n)),
    "Student's t of 3 degrees": Law(
        lambda rng, n: rng.standard_t(3.0, n), lambda rng, n: rng.standard_t(3.0, n) - 0.24
    ),
    "both lognormal(1)": Law(
        EQUAL["both lognormal(1)"].champion, lambda rng, n: 0.86 * rng.lognormal(0.0, 1.0, n) - np.exp(0.5)
    ),
    "normal, lognormal(1)": Law(
        lambda rng, n: rng.standard_normal(n), lambda rng, n: rng.lognormal(0.0, 1.0, n) - np.exp(0.5) - 0.24
    ),
}
"""Losses of champions and of challengers that are better by about a tenth of the paired differences' spread."""


@dataclass(frozen=True)
class Traffic:
    """Requests a day, of which all are pairs, or a tenth is the challenger's."""

    a_day: float
    form: str

    @property
    def title(self) -> str:
        return f"{self.a_day:g} {'pairs' if self.form == 'paired' else 'requests, split,'} a day"


CELLS: Final = [Traffic(40, "paired"), Traffic(500, "paired"), Traffic(100, "split"), Traffic(500, "split")]


@dataclass(frozen=True)
class Sums:
    """Of each run and hour: rows as the engine takes them, shape (runs, hours, 4); and n and Σ Yᵏ for k = 1 … 4 by arm
    (of pairs nothing and their differences), shape (runs, hours, 2, 5)."""

    rows: Floats
    arms: Floats


def plan_of(traffic: Traffic) -> RolloutPlan:
    champion = '{model: "nowhere:model"}'
    text = f"experiment: bench\ntask: regression\nchampion: {champion}\nevidence: {{form: {traffic.form}}}\n"
    plan = evaluation_design(configs.parse(text)).plan
    rate = traffic.a_day * (1.0 if plan.paired else plan.share)
    return plan.with_traffic(rate, 86_400.0, 86_400.0)


def days_of(plan: RolloutPlan) -> int:
    """Until the planned evidence is complete."""
    return round(plan.samples / plan.rate / 86_400.0)


def drawn(law: Law, traffic: Traffic, hours: int, runs: int, rng: np.random.Generator) -> Sums:
    paired = traffic.form == "paired"
    rows, arms = np.zeros((runs, hours, 4)), np.zeros((runs, hours, 2, 5))
    mean = law.champion(rng, 100_000).mean()  # the prediction that scores are made with
    n = rng.poisson(traffic.a_day / HOURS, hours)  # the same in all runs, so that they share the cost of their bounds
    hour, total = np.repeat(np.arange(hours), n), int(n.sum())
    for number in range(runs):
        champion, challenger = -law.champion(rng, total), -law.challenger(rng, total)
        treated = np.full(total, paired) | (rng.random(total) < SHARE)
        y = challenger - champion if paired else np.where(treated, challenger, champion)
        residual, weight = (y, np.ones(total)) if paired else (y + mean, np.full(total, SHARE * (1.0 - SHARE)))
        score = residual if paired else (treated - SHARE) * residual
        own, drawn_again = score**2, weight * residual**2
        score_sum, information, robust, randomised = (
            np.bincount(hour, column, hours) for column in (score, weight, own, drawn_again)
        )
        rows[number] = np.stack([score_sum, information, np.maximum(robust, randomised), n], axis=1)
        for arm, which in enumerate((~treated, treated)):
            powers = [which * y**k for k in range(5)]
            arms[number, :, arm] = np.stack([np.bincount(hour, power, hours) for power in powers], axis=1)
    return Sums(rows, arms)


def drawn_of(law: Law, traffic: Traffic, runs: int, seed: int) -> tuple[Sums, RolloutPlan, int]:
    """The sums of a cell, its plan and the days of that."""
    plan = plan_of(traffic)
    days = days_of(plan)
    return drawn(law, traffic, days * HOURS, runs, np.random.default_rng(seed)), plan, days


def nothing_known(arms: Floats) -> Tails:
    """The tails as two moments of each arm show them."""
    return Tails.of_two_moments(arms[:, :, :3])


def called(sums: Sums, plan: RolloutPlan, days: int, side: float = BETTER) -> float:
    """The share of runs that end on that side, BETTER or WORSE, by the end of their plan."""
    return float((called_on(sums, plan, days, side, Tails.of_sums) <= days).mean())


def called_on(sums: Sums, plan: RolloutPlan, days: int, side: float, tails: Callable[[Floats], Tails]) -> Floats:
    """The day on which each run ends on that side, the one after its plan where it does not. tails: of the sums so
    far."""
    test, runs = plan.primary, len(sums.rows)
    first = np.full(runs, days + 1.0)
    states, margin, horizon = States.start(test, runs), np.zeros(runs), np.full(runs, test.horizon)
    for day in range(FIRST_LOOK, days + 1):
        rows, arms = sums.rows[:, : day * HOURS], sums.arms[:, : day * HOURS].sum(axis=1)
        scales = [rows.reshape(runs, -1, length, 4).sum(axis=2) for length in (1, HOURS // 4, HOURS)]
        both = arms[:, [1, 1]] if plan.paired else arms
        totals = ArmTotals(both[:, 0, :3], both[:, 1, :3], horizon, tails=tails(arms))
        support = weakest(WIN_SCALES, scales, margin=margin, sign=1.0)
        against = weakest(HARM_SCALES, scales, margin=margin, sign=-1.0)
        states, _ = decide(states, support, totals, against, totals, test)
        first = np.where(states.stops.crossed == side, np.minimum(first, day), first)
    return np.where(states.stops.crossed == side, first, days + 1.0)


def run(runs: int = 200, seed: int = 8) -> Iterator[str]:
    yield f"All defaults, {runs} rollouts a cell; in brackets what two moments of each arm would call.\n"
    pairs = [traffic for traffic in CELLS if traffic.form == "paired"]
    for side, word, turned in ((BETTER, "better", lambda law: law), (WORSE, "worse", Law.mirrored)):
        yield header(f"equal means, called {word}", *(traffic.title for traffic in CELLS))
        for name in TAILS:
            found = [_both(turned(EQUAL[name]), traffic, runs, seed, side) for traffic in CELLS]
            yield row(name, *(f"{a[0]:.3f} ({b[0]:.3f})" for a, b in found))
        yield "\n" + header(f"{word} by a tenth: share / mean day", *(traffic.title for traffic in pairs))
        for name, law in BETTER_BY_A_TENTH.items():
            found = [_both(turned(law), traffic, runs, seed, side) for traffic in pairs]
            yield row(name, *("{:.3f} / {:.2f} ({:.3f} / {:.2f})".format(*a, *b) for a, b in found))
        yield ""


def _both(law: Law, traffic: Traffic, runs: int, seed: int, side: float) -> list[tuple[float, float]]:
    """The share of runs that end on that side, and their mean day, with and without asking about tails."""
    sums, plan, days = drawn_of(law, traffic, runs, seed)
    found = [called_on(sums, plan, days, side, tails) for tails in (Tails.of_sums, nothing_known)]
    return [(float((each <= days).mean()), float(each.mean())) for each in found]


if __name__ == "__main__":
    main(run)
