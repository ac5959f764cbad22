"""Markov chains of few-valued columns: transition counts, their comparison, and the watch over a stream.

Transition counts of consecutive parts add exactly: a part keeps its first and last state, and the seam between two
parts is one transition.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import chdtrc

from evaluator.drift.grid import Floats, Ints
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signals import Key, LookResult, Signal
from evaluator.drift.state import RollingSums, Stateful

STATES = 8
"""Most states of a column: quantile groups of numbers, or the most frequent categories and the rest."""
FEWEST_TRANSITIONS = 900
"""Transitions that a comparison needs: a thousand rows, less some gaps."""
FEWEST_FROM = 30
"""Transitions out of a state that its row needs."""
_MEMORY = 0.1
"""Cramér's V of one state and the next from which a column has memory."""
_MEMORY_P = 1e-6
_FEWEST_CHANGES = 10
"""Changes of state per state that a chain needs; a sorted file has fewer."""


def states_of(counts: Ints, *, ordered: bool) -> Ints:
    """The state of each slot of a reference with these `counts`, shape (slots,).

    Ordered slots: one state a value if there are at most `STATES`, otherwise quantile groups. Categories: the most
    frequent have a state each, the others share the last.
    """
    used = np.flatnonzero(counts)
    if not ordered:
        order = np.lexsort((np.arange(len(counts)), -counts))
        state = np.full(len(counts), STATES - 1, dtype=np.int64)
        state[order[: STATES - 1]] = np.arange(min(STATES - 1, len(counts)))
        return state
    if len(used) <= STATES:
        # Slots between two values belong to the lower one.
        return np.clip(np.searchsorted(used, np.arange(len(counts)), "right") - 1, 0, None).astype(np.int64)
    total = int(counts.sum())
    middle = (np.cumsum(counts) - counts + counts // 2) * STATES // max(1, total)
    return np.asarray(np.minimum(STATES - 1, middle))


@dataclass(frozen=True, slots=True)
class Transitions:
    """Transition counts of consecutive rows, [i, j] from state i to j, with the first and last state (-1 for none, -2
    without rows). A row without a state breaks the chain.
    """

    counts: Ints
    first: int = -1
    last: int = -1

    @classmethod
    def from_states(cls, states: Ints, size: int = STATES) -> Transitions:
        """Count the transitions of states in time order, shape (rows,); -1 for none."""
        if len(states) == 0:
            return cls(np.zeros((size, size), dtype=np.int64), -2, -2)
        before, after = states[:-1], states[1:]
        whole = (before >= 0) & (after >= 0)
        pairs = before[whole] * size + after[whole]
        counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
        return cls(counts.astype(np.int64), int(states[0]), int(states[-1]))

    def __add__(self, later: Transitions) -> Transitions:
        """These rows and the `later` ones. Raises ValueError for another number of states."""
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


def probabilities(counts: Ints) -> Floats:
    """P[i, j] of the next state j after i from transition counts; a state without a way out stays where it is."""
    rows = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.where(rows > 0, counts / np.maximum(rows, 1), np.eye(len(counts))))


def spectral_gap(counts: Ints) -> float:
    """1 - |second largest eigenvalue| of the states that occur: 0 never forgets, 1 forgets at once; 1.0 with fewer than
    two states (Levin and Peres 2017, ch. 12: the absolute spectral gap)."""
    used = np.flatnonzero(counts.sum(axis=1) + counts.sum(axis=0))
    if len(used) < 2:
        return 1.0
    size = np.sort(np.abs(np.linalg.eigvals(probabilities(counts)[np.ix_(used, used)])))
    return float(np.clip(1.0 - size[-2], 0.0, 1.0))


def has_memory(counts: Ints) -> bool:
    """Whether the next state depends on the present one, by Cramér's V (1946) and a chi-square test.

    counts: transitions, shape (states, states). A file sorted by the column has too few changes of state to be a chain.
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
    """The Markov chain of one column of the reference: the state of each slot, and the transition counts.

    `limit` is the change of a transition probability within the reference, `inflation` the ratio of the chi-squares
    there to their expectation: a number cut into states has more memory than its state.
    """

    feature: str
    states: Ints
    counts: Ints
    limit: float
    inflation: float

    @classmethod
    def fit(cls, feature: str, slot_counts: Ints, slots: Ints, *, ordered: bool) -> RegimeReference:
        """The reference from a column's counts by slot, and its slots in time order (-1 for none)."""
        states = cls.without_counts(feature, slot_counts, ordered=ordered)
        return states.with_counts(states.path(slots))

    @classmethod
    def without_counts(cls, feature: str, slot_counts: Ints, *, ordered: bool) -> RegimeReference:
        """The states alone, before transitions are counted."""
        nothing = np.zeros((STATES, STATES), dtype=np.int64)
        return cls(feature, states_of(slot_counts, ordered=ordered), nothing, 0.0, 1.0)

    def with_counts(self, path: Ints) -> RegimeReference:
        """The same column's reference with the transitions of `path`, its states in time order."""
        counts = Transitions.from_states(path).counts
        return RegimeReference(self.feature, self.states, counts, *_null_calibration(path, counts))

    def path(self, slots: Ints) -> Ints:
        """The states of slots, -1 for none."""
        return np.asarray(np.where(slots >= 0, self.states[slots], -1))


def _null_calibration(path: Ints, counts: Ints) -> tuple[float, float]:
    """Limit and inflation from eighths of the reference, each against the rest.

    The inflation is the sum of the chi-squares over their degrees of freedom, or one within its own error. The limit is
    a quarter above the largest significant change, 0 for a stationary chain.
    """
    changes = [0.0]
    total = freedom = 0.0
    for piece in np.array_split(path, 8):
        own = Transitions.from_states(piece).counts
        rest = counts - own
        out, was = own.sum(axis=1), rest.sum(axis=1)
        for row in np.flatnonzero((out >= FEWEST_FROM) & (was >= FEWEST_FROM)):
            statistic, degrees = _chi_square(rest[row], own[row], 1.0)
            total, freedom = total + statistic, freedom + degrees
            if degrees and chdtrc(degrees, statistic) < 0.01:
                changes.append(1.25 * float(np.abs(own[row] / out[row] - rest[row] / was[row]).max()))
    raw = total / freedom if freedom else 1.0
    noise = np.sqrt(2.0 / freedom) if freedom else 0.0
    if raw <= 1.0 + 3.0 * noise:
        return 0.0, 1.0
    return min(1.0, max(changes)), float(raw * (1.0 + noise))


def pooled_table(table: Floats) -> tuple[Floats, Floats]:
    """A two-sample table of counts and its expectation if both are alike; columns in which either expects less than
    five are pooled (Cochran's rule), those without counts left out."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    rare = (expected < 5.0).any(axis=0)
    if rare.any():
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
        expected = np.column_stack([expected[:, ~rare], expected[:, rare].sum(axis=1)])
    used = expected.min(axis=0) > 0
    return table[:, used], expected[:, used]


def _chi_square(reference: Ints, current: Ints, inflation: float) -> tuple[float, int]:
    """Two-sample chi-square of one row over the inflation, and its degrees of freedom (0: nothing to compare)."""
    table, expected = pooled_table(np.vstack([reference, current]) / inflation)
    if table.shape[1] < 2:
        return 0.0, 0
    return float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1


def _p_value(reference: Ints, current: Ints, inflation: float) -> float:
    statistic, degrees = _chi_square(reference, current, inflation)
    return float(chdtrc(degrees, statistic)) if degrees else 1.0


@dataclass(frozen=True, slots=True)
class RegimeReport:
    """A column's transitions: the largest change of a transition probability, and the chains' spectral gaps."""

    feature: str
    change: float
    limit: float
    p_value: float
    transitions: int
    spectral_gap_before: float
    spectral_gap_now: float
    drifted: bool

    @property
    def signal(self) -> Signal:
        return Signal.point("regime", self.feature, self.change, self.limit, self.transitions, self.p_value)


def judge_transitions(
    regime: RegimeReference, current: Ints, settings: DriftSettings, level: float
) -> RegimeReport | None:
    """A column's `current` transition counts against the reference's; None for too few transitions.

    Each row with `FEWEST_FROM` transitions on both sides has a two-sample chi-square (Anderson and Goodman 1957),
    corrected for the rows (Bonferroni); of the rows below `level`, else of all, the one with the largest change counts.
    The mode `simple` needs no minima and no evidence.
    """
    simple, reference, inflation = settings.simple, regime.counts, regime.inflation
    total = int(current.sum())
    fewest_from, fewest = (1, 1) if simple else (FEWEST_FROM * inflation, FEWEST_TRANSITIONS)
    if total < fewest or int(reference.sum()) < fewest:
        return None
    out, was = current.sum(axis=1), reference.sum(axis=1)
    rows = np.flatnonzero((out >= fewest_from) & (was >= fewest_from))
    if len(rows) == 0:
        return None
    changed = np.abs(current[rows] / out[rows, None] - reference[rows] / was[rows, None]).max(axis=1)
    p_values = np.minimum(1.0, len(rows) * np.array([_p_value(reference[i], current[i], inflation) for i in rows]))
    proven = (p_values < level) & (not simple)
    best = int(np.where(proven, changed, -1.0).argmax() if proven.any() else changed.argmax())
    change, p_value = float(changed[best]), float(p_values[best])
    limit = settings.transition if simple else max(settings.transition, regime.limit)
    drifted = change > limit and (simple or p_value < level)
    gaps = spectral_gap(reference), spectral_gap(current)
    return RegimeReport(regime.feature, change, limit, p_value, total, *gaps, drifted)


class TransitionMonitor(Stateful):
    """Transitions of the watched columns of one stream, on windows of `windows` rows in panes of `pane`."""

    values: ClassVar[Mapping[str, Any]] = {"_last": list[int]}
    parts: ClassVar[tuple[str, ...]] = ("_panes",)

    def __init__(
        self, regimes: Sequence[RegimeReference], windows: tuple[int, ...], pane: int, settings: DriftSettings
    ) -> None:
        self._regimes, self._windows, self._pane, self._settings = regimes, windows, pane, settings
        self._panes = [RollingSums(windows[-1] // pane) for _ in regimes]
        self._last = [-1] * len(regimes)

    def push(self, slots: Sequence[Ints]) -> None:
        """Take in a pane: the slots of each watched column, shape (rows,), -1 for none."""
        for i, (regime, own) in enumerate(zip(self._regimes, slots, strict=True)):
            path = regime.path(own)
            self._panes[i].push(Transitions.from_states(np.concatenate(([self._last[i]], path))).counts)
            self._last[i] = int(path[-1])

    def look(self, raised: Collection[Key]) -> LookResult:
        """Judge all windows that are full."""
        settings = self._settings
        # There is a look at every pane: the level is that of the features' looks, over all that is tested.
        level = settings.alpha / max(1, len(self._regimes) * len(self._windows))
        signals: list[Signal] = []
        held: set[Key] = set()
        for panes in (window // self._pane for window in self._windows):
            for regime, counts in zip(self._regimes, self._panes, strict=True):
                current = counts.window(panes)
                judged = None if current is None else judge_transitions(regime, current, settings, level)
                if judged is None:
                    continue
                signal = judged.signal
                if judged.drifted:
                    signals.append(signal)
                elif signal.key in raised and signal.strength > settings.hysteresis and signal.p_value < 0.01:
                    held.add(signal.key)
        return LookResult.of(signals, held)
