"""Regimes: how a column moves from state to state, as counts of transitions, and the Markov chain they make.

Counts of consecutive stretches add exactly: a stretch keeps its first and last state, and the seam is one transition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import chdtrc

from evaluator.drift.grid import Floats, Ints

STATES = 8
"""States of a column at most: a number's quantile groups, or its most frequent categories and the rest."""
FEWEST_TRANSITIONS = 900
"""Transitions below which nothing is said: those of a thousand rows, less some gaps."""
FEWEST_FROM = 30
"""Transitions out of a state below which its row is left out."""
_MEMORY = 0.1
"""Cramér's V of one state and the next from which a column remembers enough to be called one of regimes."""
_MEMORY_P = 1e-6
_FEWEST_CHANGES = 10
"""Changes of state a state below which rows are merely sorted."""


def states_of(counts: Ints, *, ordered: bool) -> Ints:
    """The state of each slot of a reference with these slot `counts`, shape (slots,).

    Ordered slots are cut at the reference's quantiles, each distinct value by itself while there are at most `STATES`;
    of categories the most frequent have a state each and the others share the last.
    """
    used = np.flatnonzero(counts)
    if not ordered:
        order = np.lexsort((np.arange(len(counts)), -counts))
        state = np.full(len(counts), STATES - 1, dtype=np.int64)
        state[order[: STATES - 1]] = np.arange(min(STATES - 1, len(counts)))
        return state
    if len(used) <= STATES:
        # Slots between two values seen belong to the nearer end; what was never seen must go somewhere.
        return np.clip(np.searchsorted(used, np.arange(len(counts)), "right") - 1, 0, None).astype(np.int64)
    total = int(counts.sum())
    middle = (np.cumsum(counts) - counts + counts // 2) * STATES // max(1, total)
    found: Ints = np.minimum(STATES - 1, middle)
    return found


@dataclass(frozen=True, slots=True)
class Transitions:
    """Transitions of one stretch of rows: counts[i, j] from state i to j, its first and last state (-1: none).

    A row without a state (missing) breaks the chain.
    """

    counts: Ints
    first: int = -1
    last: int = -1

    @classmethod
    def of(cls, states: Ints, size: int = STATES) -> Transitions:
        """Of a stretch of states in time order, shape (rows,); -1 where there is none."""
        if len(states) == 0:
            return cls(np.zeros((size, size), dtype=np.int64), -2, -2)
        before, after = states[:-1], states[1:]
        whole = (before >= 0) & (after >= 0)
        pairs = before[whole] * size + after[whole]
        counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
        return cls(counts.astype(np.int64), int(states[0]), int(states[-1]))

    def __add__(self, later: Transitions) -> Transitions:
        """This stretch and the one that follows it. Raises ValueError for another number of states."""
        if self.counts.shape != later.counts.shape:
            raise ValueError(f"{len(self.counts)} states and {len(later.counts)} don't add")
        if self.first == -2:
            return later
        if later.first == -2:
            return self
        counts = self.counts + later.counts
        if self.last >= 0 and later.first >= 0:
            counts[self.last, later.first] += 1
        return Transitions(counts, self.first, later.last)

    @property
    def total(self) -> int:
        """Transitions counted."""
        return int(self.counts.sum())


def probabilities(counts: Ints) -> Floats:
    """P[i, j] of the next state j after i from transition counts; a state without a way out stays where it is."""
    rows = counts.sum(axis=1, keepdims=True)
    found: Floats = np.where(rows > 0, counts / np.maximum(rows, 1), np.eye(len(counts)))
    return found


def spectral_gap(counts: Ints) -> float:
    """1 - |second largest eigenvalue| of the states that occur: 0 never forgets, 1 forgets at once; 1.0 with fewer than
    two states (Levin and Peres 2017, ch. 12: the absolute spectral gap)."""
    used = np.flatnonzero(counts.sum(axis=1) + counts.sum(axis=0))
    if len(used) < 2:
        return 1.0
    size = np.sort(np.abs(np.linalg.eigvals(probabilities(counts)[np.ix_(used, used)])))
    return float(np.clip(1.0 - size[-2], 0.0, 1.0))


def remembers(counts: Ints) -> bool:
    """Whether the next state depends on the present one, plainly and often enough to be watched: a column of regimes.

    counts: transitions, shape (states, states). A file that is merely sorted by the column has too few changes of state
    to be a chain; rows in no order have no memory. The dependence is Cramér's V (1946), its evidence the chi-square.
    """
    total, changes = int(counts.sum()), int(counts.sum() - np.trace(counts))
    used = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    if total < FEWEST_TRANSITIONS or len(used) < 2 or changes < _FEWEST_CHANGES * len(used):
        return False
    table = counts[np.ix_(used, used)]
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    statistic = float(((table - expected) ** 2 / np.maximum(expected, 1e-300)).sum())
    degrees = len(used) - 1
    return bool(statistic >= _MEMORY**2 * total * degrees and chdtrc(degrees**2, statistic) < _MEMORY_P)


@dataclass(frozen=True, slots=True)
class RegimeReference:
    """The transitions of one column of the reference: the state of each of its slots and the counts.

    `limit` is the change of a transition probability that stretches of the reference reach by themselves, `inflation`
    how much larger than chance their chi-squares are: a number cut into states remembers more than its state.
    """

    feature: str
    states: Ints
    counts: Ints
    limit: float
    inflation: float

    @classmethod
    def fit(cls, feature: str, slot_counts: Ints, slots: Ints, *, ordered: bool) -> RegimeReference:
        """From a column's counts a slot and its slots in time order (-1 where it has no value)."""
        states = cls.of_states(feature, slot_counts, ordered=ordered)
        return states.fitted(states.path(slots))

    @classmethod
    def of_states(cls, feature: str, slot_counts: Ints, *, ordered: bool) -> RegimeReference:
        """The states alone, to read paths with: no transition is known yet."""
        nothing = np.zeros((STATES, STATES), dtype=np.int64)
        return cls(feature, states_of(slot_counts, ordered=ordered), nothing, 0.0, 1.0)

    def fitted(self, path: Ints) -> RegimeReference:
        """With the transitions of the reference's whole path of states."""
        counts = Transitions.of(path).counts
        return RegimeReference(self.feature, self.states, counts, *_own(path, counts))

    def path(self, slots: Ints) -> Ints:
        """The states of slots (-1 where there is none)."""
        found: Ints = np.where(slots >= 0, self.states[slots], -1)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "feature": self.feature,
            "states": self.states.tolist(),
            "counts": self.counts.tolist(),
            "limit": self.limit,
            "inflation": self.inflation,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RegimeReference:
        """The inverse of `to_dict`."""
        states, counts = (np.array(raw[name], dtype=np.int64) for name in ("states", "counts"))
        return cls(raw["feature"], states, counts, raw["limit"], raw["inflation"])


@dataclass(frozen=True, slots=True)
class RegimeChange:
    """The largest absolute change of a transition probability and the p value of its row (Bonferroni over rows)."""

    change: float
    source: int
    target: int
    p_value: float
    transitions: int
    gap_before: float
    gap_now: float


def regime_change(
    reference: Ints, current: Ints, *, level: float = 0.01, inflation: float = 1.0, plain: bool = False
) -> RegimeChange | None:
    """Compare two matrices of transition counts; None while there are too few transitions.

    Rows with fewer than `FEWEST_FROM` transitions on either side are left out. The evidence is the two-sample
    chi-square of a row, corrected for the rows tested (Anderson and Goodman 1957); of the rows below `level`, else of
    all, the one with the largest change speaks. inflation: of the chi-squares. plain: without those minima.
    """
    total = int(current.sum())
    fewest_from, fewest = (1, 1) if plain else (FEWEST_FROM * inflation, FEWEST_TRANSITIONS)
    if total < fewest or int(reference.sum()) < fewest:
        return None
    out, was = current.sum(axis=1), reference.sum(axis=1)
    rows = np.flatnonzero((out >= fewest_from) & (was >= fewest_from))
    if len(rows) == 0:
        return None
    gap = np.abs(current[rows] / out[rows, None] - reference[rows] / was[rows, None])
    p_values = np.minimum(
        1.0, len(rows) * np.array([_p_value(reference[row], current[row], inflation) for row in rows])
    )
    changed = gap.max(axis=1)
    proven = (p_values < level) & (not plain)
    best = int(np.where(proven, changed, -1.0).argmax() if proven.any() else changed.argmax())
    return RegimeChange(
        change=float(changed[best]),
        source=int(rows[best]),
        target=int(gap[best].argmax()),
        p_value=float(p_values[best]),
        transitions=total,
        gap_before=spectral_gap(reference),
        gap_now=spectral_gap(current),
    )


def _own(path: Ints, counts: Ints) -> tuple[float, float]:
    """Limit and inflation from eighths of the reference, each against the rest.

    The inflation is the mean of the chi-squares over that of their degrees of freedom, one within its own noise. Only
    changes that are no chance there raise the limit, a quarter above the largest: a chain that keeps its law sets none.
    """
    found = [0.0]
    total = freedom = 0.0
    for piece in np.array_split(path, 8):
        own = Transitions.of(piece).counts
        rest = counts - own
        out, was = own.sum(axis=1), rest.sum(axis=1)
        for row in np.flatnonzero((out >= FEWEST_FROM) & (was >= FEWEST_FROM)):
            statistic, degrees = _chi_square(rest[row], own[row], 1.0)
            total, freedom = total + statistic, freedom + degrees
            if degrees and chdtrc(degrees, statistic) < 0.01:
                found.append(1.25 * float(np.abs(own[row] / out[row] - rest[row] / was[row]).max()))
    raw = total / freedom if freedom else 1.0
    noise = np.sqrt(2.0 / freedom) if freedom else 0.0
    if raw <= 1.0 + 3.0 * noise:
        return 0.0, 1.0
    return min(1.0, max(found)), float(raw * (1.0 + noise))


def _chi_square(reference: Ints, current: Ints, inflation: float) -> tuple[float, int]:
    """Two-sample chi-square of one row and its degrees of freedom (0: nothing to compare); counts are deflated."""
    table = np.vstack([reference, current]) / inflation
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 0.0, 0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    rare = (expected < 5.0).any(axis=0)
    if rare.any():  # Cochran's rule: rare targets are one
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        expected = np.column_stack([expected[:, ~rare], expected[:, rare].sum(axis=1)])
    if table.shape[1] < 2 or expected.min() <= 0.0:
        return 0.0, 0
    return float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1


def _p_value(reference: Ints, current: Ints, inflation: float) -> float:
    statistic, degrees = _chi_square(reference, current, inflation)
    return float(chdtrc(degrees, statistic)) if degrees else 1.0
