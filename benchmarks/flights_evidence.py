"""The engine on real flights: monthly pairs of a January model and a model retrained on all prior data, and A/A.

Invariant: every block, look and crossing is made by the evaluator's own code from the losses of real predictions; only
who gets which model is drawn, with a seed.

Each test runs for 45 days from the first of a month, as the demo's does. Pairs: both models' log losses on the same
flights. Split: the demo's ramp, 1 % for two days, 5 % for two, then 10 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from benchmarks import header, main, progress, row
from evaluator.stats.cluster_robust import rows_of
from evaluator.stats.intraclass import intraclass
from evaluator.stats.panel import ArmTotals, Panel, States, advance
from evaluator.stats.score_process import Arm, Block, Floats, Ints, PairedSums, SplitSums, paired_blocks, split_blocks
from evaluator.stats.sequential_test import Plan
from gauntlet.cli.demo import flights
from gauntlet.losses import loss

DAYS = 45
FINE = 200  # flights between looks where flights are taken to be independent
FIRST_PAIR = 3  # in February "all prior data" is January
MONTHS = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The labelled flights of one test in order of departure: day of the test, and either model's log loss."""

    day: Ints
    january: Floats
    retrained: Floats

    @property
    def share(self) -> Floats:
        """π of the demo's ramp at each flight."""
        return np.where(self.day < 2, 0.01, np.where(self.day < 4, 0.05, 0.10))

    @property
    def days(self) -> list[Ints]:
        """Positions of each day's flights; every split at a change of π is a change of day, too."""
        return np.split(np.arange(len(self.day)), np.flatnonzero(np.diff(self.day)) + 1)

    @property
    def handfuls(self) -> list[Ints]:
        """Positions in handfuls of `FINE` flights, none across a change of π."""
        stages = np.split(np.arange(len(self.day)), np.flatnonzero(np.diff(self.share)) + 1)
        return [stage[start : start + FINE] for stage in stages for start in range(0, len(stage), FINE)]


def outcomes() -> dict[int, Outcomes]:
    """By month of the start. In February the retrained model is January's own."""
    year = flights.load()
    known = np.flatnonzero(~np.isnan(year.late))
    rows, late, month = year.rows(), year.late[known], year.month[known]
    rows = [rows[position] for position in known]
    day = (year.departure[known] - flights.BLOCK_OFFSET) // flights.DAY
    ends = np.searchsorted(month, np.arange(1, 14))  # the first flight of each month, by number from 0

    def losses(until: int, start: int, stop: int) -> Floats:
        return loss("log_loss", models[until].predict_proba(rows[start:stop]), late[start:stop])

    models = {}
    for until in progress(range(1, 12), "models trained"):
        models[until] = flights.train(rows[: ends[until]], late[: ends[until]])
    found = {}
    for first in progress(range(2, 13), "months scored"):
        start = int(ends[first - 1])
        stop = int(np.searchsorted(day, day[start] + DAYS))
        january = losses(1, start, stop)
        retrained = january if first < FIRST_PAIR else losses(first - 1, start, stop)
        found[first] = Outcomes(day[start:stop] - day[start], january, retrained)
    return found


def paired(found: Outcomes, parts: Sequence[Ints]) -> list[Block]:
    made = []
    for part in parts:
        sums = PairedSums()
        sums.add(-found.january[part], -found.retrained[part])
        made.append(sums)
    return paired_blocks(made)


def split(
    champion: Floats, challenger: Floats, share: Floats, parts: Sequence[Ints], rng: np.random.Generator
) -> list[Block]:
    """Blocks of one draw of who gets which model."""
    arm = rng.random(len(share)) < share
    loss = np.where(arm, challenger, champion)
    made = []
    for part in parts:
        sums = SplitSums()
        sums.add(arm[part], share[part], -loss[part])
        made.append(sums)
    return split_blocks(made)


@dataclass(frozen=True, slots=True)
class Course:
    """First block (from 1) after which each test crossed either side (0 for never), and the effect's squared standard
    error at the end."""

    better: Ints
    worse: Ints
    error: Floats


def watch(tests: Sequence[list[Block]], *, clustered: bool) -> Course:
    """A look after each block of tests that share their clock, to the horizon: what these blocks carry in all."""
    rows = np.stack([rows_of(blocks) for blocks in tests])
    horizon = float(rows[0, :, 1].sum())
    plan = Plan(horizon, clustered=clustered)
    states = States.start(plan, len(tests))
    better, worse = (np.zeros(len(tests), dtype=np.int64) for _ in range(2))
    champion, challenger = (
        np.cumsum([[_figures(getattr(block, arm)) for block in blocks] for blocks in tests], axis=1)
        for arm in ("champion", "challenger")
    )
    for last in range(2, rows.shape[1] + 1):
        totals = ArmTotals(champion[:, last - 1], challenger[:, last - 1], np.full(len(tests), horizon))
        # Units that count as independent need no block of their own: their sums so far are one.
        seen = rows[:, :last] if clustered else rows[:, :last].sum(axis=1, keepdims=True)
        states, looks = advance(states, Panel(seen, totals, np.zeros(len(tests))), plan)
        for first, crossed in (
            (better, looks.ready_win & (looks.support.z_win >= looks.bound_win)),
            (worse, looks.ready_harm & (looks.harm.z_harm >= looks.bound_harm)),
        ):
            first[crossed & (first == 0)] = last
    return Course(better, worse, looks.shown.variance / looks.shown.information**2)


def _figures(arm: Arm) -> tuple[float, float, float]:
    return float(arm.n), arm.total, arm.squares


def traffic(course: Course, parts: Sequence[Ints]) -> tuple[float, str]:
    """Flights until a decision (the whole test where there was none) on average, and the same with the decisions."""
    sizes = np.cumsum([len(part) for part in parts])
    first = np.where(course.better > 0, course.better, np.where(course.worse > 0, course.worse, len(sizes)))
    counts: dict[str, int] = {
        "better": int(np.count_nonzero(course.better)),
        "worse": int(np.count_nonzero((course.worse > 0) & (course.better == 0))),
    }
    counts["open"] = len(first) - sum(counts.values())
    words = ", ".join(f"{count} {word}" if len(first) > 1 else word for word, count in counts.items() if count)
    flown = float(sizes[first - 1].mean())
    return flown, f"{flown:,.0f} ({words})"


def days(found: dict[int, Outcomes]) -> Iterator[str]:
    """By how much days differ: the square root of the intraclass correlation, which a loss and a difference share."""
    yield "### How much days differ, in standard deviations of a flight\n"
    yield header("month", "loss January", "difference to the retrained")
    for first, data in found.items():
        if first >= FIRST_PAIR:
            units = np.array([len(day) for day in data.days], dtype=np.float64)
            spreads = [
                intraclass(units, np.array([values[day].sum() for day in data.days]), float(values.var())) ** 0.5
                for values in (data.january, data.january - data.retrained)
            ]
            yield row(MONTHS[first], *(f"{spread:.3f}" for spread in spreads))


def pairs(found: dict[int, Outcomes], draws: int, seed: int) -> Iterator[str]:
    yield f"### January's model (champion) against one retrained on all prior data; split: {draws} draws of the ramp"
    yield (
        "Flights until a decision, at most 45 days. Days: day blocks, as the evaluator decides. Flights: the same with "
        "flights taken for independent, which leaves out that days differ. Equal error: how many flights the split "
        "form needs for one of the pairs', for the same standard error of the effect, from both tests' ends.\n"
    )
    yield header(
        *("month", "loss January", "retrained"),
        *("days: pairs", "days: split", "equal error"),
        *("flights: pairs", "flights: split", "equal error"),
    )
    ratios: list[float] = []
    decided: dict[bool, list[float]] = {True: [], False: []}
    for first, data in progress(found.items(), "pairs"):
        if first < FIRST_PAIR:
            continue
        cells = []
        for parts, clustered in ((data.days, True), (data.handfuls, False)):
            rng = np.random.default_rng([seed, first])
            one = watch([paired(data, parts)], clustered=clustered)
            tests = [split(data.january, data.retrained, data.share, parts, rng) for _ in range(draws)]
            many = watch(tests, clustered=clustered)
            ratio = float(many.error.mean() / one.error[0])
            pairs_flown, pairs_text = traffic(one, parts)
            split_flown, split_text = traffic(many, parts)
            decided[clustered].append(split_flown / pairs_flown)
            cells += [pairs_text, split_text, f"{ratio:.1f}"]
        ratios.append(ratio)
        yield row(MONTHS[first], f"{data.january.mean():.4f}", f"{data.retrained.mean():.4f}", *cells)
    months = len(ratios)
    by_day, by_flight = (sum(ratio >= 10.0 for ratio in decided[clustered]) for clustered in (True, False))
    yield (
        f"\nPairs decide with at most a tenth of the split form's flights in {by_day} of {months} months on day blocks,"
        f" in {by_flight} with flights taken for independent (a test left open counts as decided at its end, so the "
        f"ratio is a lower limit where the split stays open). At equal standard error, flights independent, in "
        f"{sum(ratio >= 10.0 for ratio in ratios)} of {months}."
    )


def same(found: dict[int, Outcomes], seeds: int, seed: int) -> Iterator[str]:
    """January's model against itself under the ramp: the number of false decisions, with its binomial limit."""
    totals = {True: np.zeros(2, dtype=np.int64), False: np.zeros(2, dtype=np.int64)}
    starts = [first for first in found if first < 12]  # from December on there are no 45 days
    for first in progress(starts, "A/A"):
        data = found[first]
        for parts, clustered in ((data.days, True), (data.handfuls, False)):
            rng = np.random.default_rng([seed, 100 + first])
            course = watch(
                [split(data.january, data.january, data.share, parts, rng) for _ in range(seeds)], clustered=clustered
            )
            totals[clustered] += [np.count_nonzero(course.better), np.count_nonzero(course.worse)]
    runs = seeds * len(starts)
    limit = int(binom.ppf(0.999, runs, 0.025))
    yield f"### A/A: January's model against itself under the ramp, {len(starts)} starts × {seeds} draws = {runs} tests"
    yield f"One side at .025: at most {limit} of {runs} may be wrong.\n"
    yield header("blocks", "false winners", "false losers", "within the limit")
    for clustered, (better, worse) in totals.items():
        within = "yes" if max(better, worse) <= limit else "**no**"
        name = "days" if clustered else "independent flights"
        yield row(name, f"{better} ({better / runs:.4f})", f"{worse} ({worse / runs:.4f})", within)


def run(seeds: int = 60, draws: int = 20, seed: int = 1) -> Iterator[str]:
    """All tables: `draws` of the split for each pair, `seeds` draws for each start of the A/A test."""
    found = outcomes()
    yield from days(found)
    yield ""
    yield from pairs(found, draws, seed)
    yield ""
    yield from same(found, seeds, seed)


if __name__ == "__main__":
    main(run)
