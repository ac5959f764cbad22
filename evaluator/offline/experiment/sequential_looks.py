"""Judges the looks of an analysis in order: each cell's evidence becomes a boundary, an interval, a p value and a stop.

Invariant: the plan is fixed before the first look is judged; a look's decision uses its own evidence and those before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from evaluator.offline.experiment.cells import MOST_BLOCKS, Cell
from evaluator.offline.experiment.result import LookPoint
from evaluator.offline.experiment.settings import AnalysisSettings
from evaluator.stats.alpha_spending import Spending
from evaluator.stats.cluster_robust import MOST_CORRELATION, evidence_of
from evaluator.stats.evidence import Evidence, ScoreMoments
from evaluator.stats.panel import BETTER, WORSE, ArmTotals, Looks, States, Stops, decide
from evaluator.stats.score_process import Bools, Floats
from evaluator.stats.sequential_test import HARM_RESERVE, Plan, Side
from evaluator.stats.tails import Tails

# A metric of one class (AUC, recall, …) says nothing before each arm has so many rows of it: its number per row is only
# as good as the past that it is linearised at.
FEWEST_EVENTS = 50.0
_NO_BETS = (np.nan,) * 4
# Modes that look for a stated effect look for the one that the horizon would find with this power.
_POWER_Z = 0.8416212335729143  # z of 80 %


@dataclass(frozen=True)
class LookSnapshot:
    """Evidence of every cell at one look, after `rows` of the file. Cells that come later are missing at the end."""

    rows: int
    evidence: Evidence
    champion: Floats
    challenger: Floats
    discordant: Floats  # Σ D² of pairs, NaN for split traffic
    drawn: Floats  # (Σ π, Σ π Y), shape (cells, 2)
    powers: Floats  # of `PowerSums`, shape (cells, 2, 5)
    dependent: Bools  # cells whose rows are not independent
    bets: Floats  # exact mode: shape (cells, 4), p of win and harm, lower and upper limit
    events: Floats  # rows of the metric's class in the arm that has fewer of them; inf where it has none

    @classmethod
    def of(cls, rows: int, cells: Sequence[Cell], settings: AnalysisSettings) -> LookSnapshot:
        counts = [cell.counts for cell in cells]
        bets = [cell.bets(settings.alpha / 2.0) if cell.exact else _NO_BETS for cell in cells]
        return cls(
            rows,
            _evidence(cells, settings),
            np.array([each.champion for each in counts]),
            np.array([each.challenger for each in counts]),
            np.array([cell.discordant for cell in cells]),
            np.array([cell.drawn for cell in cells]),
            np.array([cell.powers.sums for cell in cells]),
            np.array([0 < len(cell.clusters) < cell.counts.units for cell in cells]),
            np.array(bets),
            np.array([cell.events for cell in cells]),
        )

    def totals(self, horizon: Floats, least: Floats) -> ArmTotals:
        return ArmTotals(
            self.champion,
            self.challenger,
            horizon,
            least,
            discordant=self.discordant,
            drawn=self.drawn,
            dependent=self.dependent,
            tails=Tails.of_sums(self.powers),
        )

    def padded(self, cells: int) -> LookSnapshot:
        """The snapshot padded with cells that came later, which have no evidence."""
        more = cells - len(self.champion)
        if not more:
            return self
        pad = ((0, more), (0, 0))
        return LookSnapshot(
            self.rows,
            self.evidence.padded(more),
            np.pad(self.champion, pad),
            np.pad(self.challenger, pad),
            np.pad(self.discordant, (0, more), constant_values=np.nan),
            np.pad(self.drawn, pad),
            np.pad(self.powers, ((0, more), (0, 0), (0, 0))),
            np.pad(self.dependent, (0, more)),
            np.pad(self.bets, pad, constant_values=np.nan),
            np.pad(self.events, (0, more)),
        )


def _evidence(cells: Sequence[Cell], settings: AnalysisSettings) -> Evidence:
    margin = np.array([cell.margin for cell in cells])
    clustered = settings.cluster is not None and max(len(cell.clusters) for cell in cells) <= MOST_BLOCKS
    if clustered:
        blocks = [cell.clusters.rows() for cell in cells]
        rows = np.zeros((len(cells), max(map(len, blocks)), 4))
        for index, block in enumerate(blocks):
            rows[index, : len(block)] = block
        return evidence_of(rows, margin=margin, clustered=True, most_correlation=MOST_CORRELATION)
    rows = np.array([[_whole(cell)] for cell in cells])
    moments = _moments(cells, settings, rows[:, 0, 2])
    found = evidence_of(rows, margin=margin, clustered=False, most_correlation=0.0, moments=moments)
    if settings.cluster is None:
        return found
    return replace(found, n_blocks=np.array([float(len(cell.clusters)) for cell in cells]))


def _moments(cells: Sequence[Cell], settings: AnalysisSettings, variance: Floats) -> ScoreMoments:
    """Moments of the score; pairs and clusters of several rows have a variance of their own in place of the rows'."""
    sums = [cell.moments for cell in cells]
    robust, randomisation, robust_third, randomisation_third = (
        np.array([getattr(each, name) for each in sums])
        for name in ("robust", "randomisation", "robust_third", "randomisation_third")
    )
    smaller = np.array([float(cell.arms[:, 0].min()) for cell in cells])
    binary = np.array([each.binary for each in sums])
    own = np.array([settings.paired is not None or 0 < len(cell.clusters) < cell.counts.units for cell in cells])
    moments = ScoreMoments.from_sums(robust, randomisation, robust_third, randomisation_third, binary, smaller)
    return moments.with_variance(variance, own)


def _whole(cell: Cell) -> tuple[float, float, float, float]:
    """The whole cell as one block whose units (or clusters, where there are any) are independent."""
    counts = cell.counts
    variance = counts.variance
    if len(cell.clusters):
        variance = max(variance, cell.clusters.variance(counts.score, counts.information))
    return counts.score, counts.information, variance, float(counts.units)


@dataclass(frozen=True)
class LookResults:
    """States after the last look, arrays over cells, and the history of each cell."""

    states: States
    last: Looks
    stop_rows: Floats
    history: list[list[LookPoint]]
    decided: bool  # mode fixed: the look that counts has been made


def judge_looks(snapshots: Sequence[LookSnapshot], cells: Sequence[Cell], settings: AnalysisSettings) -> LookResults:
    """Take all looks in order. There is at least one."""
    plan, horizon = _plan(settings), _horizons(cells, settings)
    effect = _effects(snapshots, horizon, len(cells), settings)
    states = States.start(plan, len(cells), horizon=horizon, effect=effect)
    least = np.array([cell.metric.min_samples for cell in cells], dtype=np.float64)
    history: list[list[LookPoint]] = [[] for _ in cells]
    stop_rows = np.zeros(len(cells))
    for snapshot in snapshots:
        now = snapshot.padded(len(cells))
        waiting = np.where(now.events >= FEWEST_EVENTS, least, np.inf)
        totals, before = now.totals(horizon, waiting), states.stops
        states, looks = decide(states, now.evidence, totals, now.evidence, totals, plan)
        if settings.mode == "exact":
            states, looks = _by_bets(states, before, looks, now, settings)
        stop_rows = np.where(states.stops.look != before.look, snapshot.rows, stop_rows)
        for index, cell in enumerate(cells):
            if looks.ready_harm[index]:
                history[index].append(_point(snapshot.rows, index, cell, states, looks))
    decided = settings.mode != "fixed" or bool((looks.fraction >= 1.0).any())
    return LookResults(states, looks, stop_rows, history, decided)


def _plan(settings: AnalysisSettings) -> Plan:
    """The test plan, symmetric in both directions; it has a reserve past the horizon only where the file may go on."""
    reserve = 0.0 if settings.min_samples is None else HARM_RESERVE
    side = Side(alpha=settings.alpha / 2.0)
    mode = "anytime" if settings.mode == "exact" else settings.mode
    return Plan(
        horizon=1.0,
        win=side,
        harm=replace(side, spending=Spending(reserve=reserve)),
        mode=mode,
        clustered=settings.cluster is not None,
        effect=1.0,
    )


def _horizons(cells: Sequence[Cell], settings: AnalysisSettings) -> Floats:
    """Information at which the planned evidence is complete, from propensities alone.

    Without `min_samples` the file's end. With it, the information that this many of the challenger's outcomes carry at
    the file's shares; a segment's part of it is its part of the file.
    """
    information = np.array([cell.counts.information for cell in cells])
    if settings.min_samples is not None:
        expected = np.array([cell.whole.expected for cell in cells])
        information = information * settings.min_samples / np.where(expected > 0.0, expected, 1.0)
    return np.where(information > 0.0, information, 1.0)


def _effects(snapshots: Sequence[LookSnapshot], horizon: Floats, cells: int, settings: AnalysisSettings) -> Floats:
    """Alternative of msprt and sprt: the effect that the horizon finds with 80 % power, at the first variance."""
    found = np.zeros(cells)
    for snapshot in snapshots:
        evidence = snapshot.padded(cells).evidence
        spread = np.sqrt(evidence.variance / evidence.information / horizon)
        found = np.where((found == 0.0) & evidence.available, (_z(settings.alpha / 2.0) + _POWER_Z) * spread, found)
    return np.where(found > 0.0, found, 1.0)


def _z(alpha: float) -> float:
    return float(-ndtri(alpha))


def _by_bets(
    states: States, before: Stops, looks: Looks, snapshot: LookSnapshot, settings: AnalysisSettings
) -> tuple[States, Looks]:
    """The same look judged by the betting test (exact mode): its p values and limits are exact."""
    p_win, p_harm, lower, upper = snapshot.bets.T
    bets = ~np.isnan(p_win) & snapshot.evidence.available
    level = settings.alpha / 2.0
    crossed = np.where(bets & (p_harm <= level), WORSE, np.where(bets & (p_win <= level), BETTER, 0.0))
    stopping = (crossed != 0.0) & ((before.crossed == 0.0) | ((before.crossed == BETTER) & (crossed == WORSE)))
    lower = np.where(bets, np.where(np.isfinite(lower), lower, np.nan), states.lower)
    upper = np.where(bets, np.where(np.isfinite(upper), upper, np.nan), states.upper)
    made = states.looks + (bets & ~looks.ready_harm)
    counts = (snapshot.champion[:, 0], snapshot.challenger[:, 0])
    found = before.updated(stopping, Stops(made, crossed, looks.effect, lower, upper, looks.fraction, *counts))
    return replace(states, looks=made, lower=lower, upper=upper, stops=states.stops.updated(bets, found)), replace(
        looks,
        ready_win=np.where(bets, True, looks.ready_win),
        ready_harm=np.where(bets, True, looks.ready_harm),
        harm_held=looks.harm_held & ~bets,
        bound_win=np.where(bets, np.inf, looks.bound_win),
        bound_harm=np.where(bets, np.inf, looks.bound_harm),
        p_win=np.where(bets, p_win, looks.p_win),
        p_harm=np.where(bets, p_harm, looks.p_harm),
    )


def _point(rows: int, index: int, cell: Cell, states: States, looks: Looks) -> LookPoint:
    """One look in the metric's own units and sign."""
    low, high = (number(cell.in_units(float(limit[index]))) for limit in (states.lower, states.upper))
    bound_low, bound_high = number(-looks.bound_harm[index], cell.sign), number(looks.bound_win[index], cell.sign)
    if cell.sign < 0.0:
        low, high, bound_low, bound_high = high, low, bound_high, bound_low
    effect, z = number(cell.effect_in_units(float(looks.effect[index]))), number(looks.z[index], cell.sign)
    return LookPoint(rows, effect, low, high, z, bound_low, bound_high)


def number(value: float, factor: float = 1.0) -> float | None:
    """A plain number times a factor, or None for what is not finite."""
    found = float(value) * factor
    return found if np.isfinite(found) else None
