"""The same question by simulation: drawn outcomes through the engine that decides rollouts, run by run.

Invariant: every run is a cell of `panel.advance`, so what is measured is what the running evaluator does; a run ends
where its first bound is crossed, or at the horizon. The same settings and seed give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from evaluator.planning.drawing import Drawn, Source, World
from evaluator.planning.outlook import Outlook
from evaluator.planning.schedule import Slices
from evaluator.stats.monitor import Ints
from evaluator.stats.panel import Panel, States, Tally, advance
from evaluator.stats.sums import Floats

# Runs at once, and drawn units at once: enough to fill arrays, few enough to fit into memory and to show progress.
_MOST_RUNS: Final = 500
_MOST_UNITS: Final = 4_000_000


@dataclass(frozen=True, eq=False)
class Runs:
    """How each run ended, shape (runs,) each: crossed is 1 (better), −1 (worse) or 0 (the horizon).

    look counts from 0. effect, lower and upper (infinite where there is no limit) are those at the end.
    """

    crossed: Floats
    look: Ints
    effect: Floats
    lower: Floats
    upper: Floats

    @staticmethod
    def joined(parts: list[Runs]) -> Runs:
        return Runs(*(np.concatenate([getattr(part, name) for part in parts]) for name in Runs.__dataclass_fields__))


def simulate(
    outlook: Outlook,
    effect: float,
    *,
    runs: int,
    seed: int,
    world: World,
    mode: str,
    progress: Callable[[int], object] | None = None,
) -> Runs:
    """So many runs at one effect (oriented). Each batch has a stream of its own, split off from the seed."""
    slices = outlook.schedule.slices(outlook.last + 1)
    source = Source(outlook.question, world, slices, effect, outlook.days)
    size = _MOST_RUNS
    if source.by_unit:
        size = max(1, min(size, int(_MOST_UNITS / max(1.0, slices.units.max()))))
    parts, count = [], math.ceil(runs / size)
    for batch, child in enumerate(np.random.SeedSequence(seed).spawn(count)):
        here = min(size, runs - batch * size)
        rng = np.random.default_rng(child)
        parts.append(_batch(outlook, source, slices, here, rng, mode))
        if progress is not None:
            progress(here)
    return Runs.joined(parts)


def _batch(outlook: Outlook, source: Source, slices: Slices, runs: int, rng: np.random.Generator, mode: Any) -> Runs:
    question, ratio = outlook.question, outlook.schedule.ratio
    plan = question.plan(outlook.information, mode)
    drawn = source.draw(rng, runs)
    fine = _rows(drawn, slices, slices.block)
    coarse = fine if ratio == 1 else _rows(drawn, slices, slices.block // ratio)
    if question.block_correlation:
        _correlate(fine, question.block_correlation, source.effect)
    champion, challenger = _arms(drawn, slices.block)
    horizon, margin = np.full(runs, plan.horizon), np.zeros(runs)
    states = States.start(plan, runs)
    ended = np.zeros(runs, dtype=np.bool_)
    found = Runs(np.zeros(runs), np.zeros(runs, dtype=np.int64), *(np.full(runs, np.nan) for _ in range(3)))
    for look in range(outlook.last + 1):
        whole = (look + 1) // ratio
        tally = Tally(champion[:, look], challenger[:, look], horizon)
        small = Panel(fine[:, : look + 1], tally, margin)
        large = small
        if ratio > 1:
            before = whole * ratio - 1
            counted = (champion[:, before], challenger[:, before]) if whole else (0.0 * champion[:, 0],) * 2
            large = Panel(coarse[:, :whole], Tally(*counted, horizon), margin)
        states, looks = advance(states, large, plan, None if ratio == 1 else small)
        crossed, last = states.stops.crossed, look == outlook.last
        now = ~ended & ((crossed != 0.0) | last)
        if now.any():
            # The first crossing ends a run: a rollout that has won is promoted, not watched on.
            ended |= now
            found.crossed[now], found.look[now] = crossed[now], look
            found.effect[now] = looks.shown.effect[now]
            found.lower[now] = np.where(np.isnan(states.lower), -np.inf, states.lower)[now]
            found.upper[now] = np.where(np.isnan(states.upper), np.inf, states.upper)[now]
            if ended.all():
                break
    return found


def _arms(drawn: Drawn, block: Ints) -> tuple[Floats, Floats]:
    """Counts so far of both arms at each harm block: shape (runs, blocks, 3)."""
    first = _starts(block)
    return tuple(  # type: ignore[return-value]
        np.stack([np.cumsum(np.add.reduceat(part, first, axis=1), axis=1) for part in arm], axis=2)
        for arm in (
            (drawn.n_champion, drawn.y_champion, drawn.yy_champion),
            (drawn.n_challenger, drawn.y_challenger, drawn.yy_challenger),
        )
    )


def _starts(block: Ints) -> Ints:
    """The first slice of each block; every block has one."""
    return np.flatnonzero(np.diff(block, prepend=-1))


def _rows(drawn: Drawn, slices: Slices, block: Ints) -> Floats:
    """Rows of a panel, shape (runs, blocks, 4), as `split_blocks` and `paired_blocks` make them of real traffic."""
    first = _starts(block)

    def total(values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, first, axis=1))

    if drawn.d is not None and drawn.dd is not None:
        units = total(drawn.n_champion)
        return np.stack([total(drawn.d), units, total(drawn.dd), units], axis=2)
    n, y = total(drawn.n_champion), total(drawn.y_champion)
    n_before, y_before = np.cumsum(n, axis=1) - n, np.cumsum(y, axis=1) - y
    known = n_before > 0.0
    m = np.divide(y_before, n_before, out=np.zeros_like(n), where=known)[:, block]
    share = slices.share
    zero, one = drawn.n_champion, drawn.n_challenger
    y_zero, y_one = drawn.y_champion - zero * m, drawn.y_challenger - one * m
    yy_zero = drawn.yy_champion - 2.0 * m * drawn.y_champion + m * m * zero
    yy_one = drawn.yy_challenger - 2.0 * m * drawn.y_challenger + m * m * one
    score = total((1.0 - share) * y_one - share * y_zero)
    robust = total((1.0 - share) ** 2 * yy_one + share**2 * yy_zero)
    swapped = total(share * (1.0 - share) * (yy_one + yy_zero))
    units = total(zero + one)
    information = np.broadcast_to(np.add.reduceat(slices.information, first), units.shape)
    rows = np.stack([score, information, np.maximum(robust, swapped), units], axis=2)
    rows[~known] = 0.0
    return rows


def _correlate(rows: Floats, correlation: float, effect: float) -> None:
    """Give the blocks' scores this lag-1 correlation, in place: their deviations go through a first-order filter that
    keeps each one's variance. Needs no finer blocks."""
    information = rows[:, :, 1]
    scored = information > 0.0
    root = np.sqrt(np.where(scored, information, 1.0))
    noise = np.where(scored, rows[:, :, 0] - effect * information, 0.0) / root
    keep, carried, begun = math.sqrt(1.0 - correlation**2), np.zeros(len(rows)), np.zeros(len(rows), dtype=np.bool_)
    for block in range(rows.shape[1]):
        here = scored[:, block]
        fresh = np.where(begun, correlation * carried + keep * noise[:, block], noise[:, block])
        carried, begun = np.where(here, fresh, carried), begun | here
        rows[:, block, 0] = np.where(here, effect * information[:, block] + root[:, block] * carried, 0.0)
