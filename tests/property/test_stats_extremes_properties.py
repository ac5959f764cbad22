"""More extreme evidence is never less decisive: monotone in the counts, in every mode and in both directions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evaluator.offline.experiment.cells import Cell, CellRows
from evaluator.offline.experiment.sequential_looks import LookSnapshot, judge_looks
from evaluator.offline.experiment.settings import AnalysisSettings
from evaluator.stats.panel import BETTER, WORSE
from gauntlet import analyze

MODES = ["fixed", "group-sequential", "anytime", "exact", "msprt", "sprt"]


def crossed(failures: tuple[int, int], n: tuple[int, int], mode: str, seed: int) -> float:
    """What an analysis of these counts says. The seed orders the rows, and which of them fail first: one failure more
    in an arm makes one more row of that arm bad, and leaves all others as they are."""
    rng = np.random.default_rng(seed)
    treated, bad = np.repeat([False, True], n), np.zeros(sum(n))
    for count, rows in zip(failures, (rng.permutation(n[0]), n[0] + rng.permutation(n[1])), strict=True):
        bad[rows[:count]] = 1.0
    order = rng.permutation(sum(n))
    treated, bad, share = treated[order], bad[order], n[1] / sum(n)
    options = {"arm": "arm", "champion": "A", "share": {"A": 1.0 - share, "B": share}, "metric": "bad:proportion:lower"}
    asked = AnalysisSettings.from_options({**options, "mode": mode})
    cell, snapshots, last = Cell(asked.metrics[0], exact=mode == "exact"), [], 0
    for end in (min(20, len(bad) // 2), len(bad) // 2, len(bad)):
        part = slice(last, end)
        cell.add(CellRows(treated[part], np.full(end - last, share), (bad[part],), None, None, ()))
        snapshots.append(LookSnapshot.of(end, [cell], asked))
        last = end
    return float(judge_looks(snapshots, [cell], asked).states.stops.crossed[0])


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=12, deadline=None)
@given(
    n=st.tuples(st.integers(20, 400), st.integers(20, 400)),
    shares=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
    few=st.integers(0, 8),
    many=st.booleans(),
    seed=st.integers(0, 5),
)
def test_one_failure_less_of_the_challenger_or_more_of_the_champion_takes_no_win_away(
    mode: str, n: tuple[int, int], shares: tuple[float, float], few: int, many: bool, seed: int
) -> None:
    """From few failures of the challenger to none (or few successes), against any rate of the champion."""
    champion = round(shares[0] * n[0])
    challenger = max(0, n[1] - few) if many else few
    now = crossed((champion, challenger), n, mode, seed)
    if challenger:
        assert crossed((champion, challenger - 1), n, mode, seed) >= now
    if champion < n[0] and now == BETTER:
        assert crossed((champion + 1, challenger), n, mode, seed) == BETTER
    if challenger < n[1] and now == WORSE:
        assert crossed((champion, challenger + 1), n, mode, seed) == WORSE


@pytest.mark.parametrize("mode", MODES)
def test_the_clearest_cases_are_decided_in_every_mode(mode: str) -> None:
    for n in ((200, 200), (900, 100), (100, 900)):
        for failures, expected in (
            ((n[0], 0), BETTER),
            ((0, n[1]), WORSE),
            ((n[0] // 3, 0), BETTER),
            ((n[0], n[1] // 2), BETTER),
            ((0, n[1] // 3), WORSE),
            ((n[0] // 2, n[1]), WORSE),
        ):
            assert crossed(failures, n, mode, 1) == expected, (n, failures)


@pytest.mark.parametrize(
    ("mode", "cluster"), [*((mode, None) for mode in MODES), *((mode, "block") for mode in MODES if mode != "exact")]
)
@settings(max_examples=6, deadline=None)
@given(
    n=st.integers(5, 300),
    wrong=st.tuples(st.floats(0.0, 0.1), st.floats(0.0, 0.1)),
    metric=st.sampled_from(["good", "good:proportion", "accuracy", "recall", "f1", "macro_f1", "p/outcome:auc"]),
    swapped=st.booleans(),
    seed=st.integers(0, 5),
)
def test_a_difference_of_two_shares_and_its_limits_lie_between_minus_1_and_1(
    mode: str, cluster: str | None, n: int, wrong: tuple[float, float], metric: str, swapped: bool, seed: int
) -> None:
    """One arm nearly all wrong, the other nearly all right: 0 of 20 against 20 of 20."""
    assume(mode != "exact" or metric in ("good:proportion", "accuracy"))
    rng = np.random.default_rng(seed)
    treated = rng.permutation(np.repeat([False, True], n))
    good = rng.random(2 * n) >= np.where(treated == swapped, 1.0 - wrong[0], wrong[1])
    outcome = (rng.random(2 * n) < 0.5).astype(int)
    prediction = np.where(good, outcome, 1 - outcome)
    columns = {
        "arm": np.where(treated, "B", "A"),
        "good": good.astype(int),
        "outcome": outcome,
        "prediction": prediction,
        "p": 0.05 + 0.9 * prediction,
        "block": np.arange(2 * n) // 2,
    }
    found = analyze(
        pd.DataFrame(columns),
        arm="arm",
        champion="A",
        share={"A": 0.5, "B": 0.5},
        metric=metric,
        mode=mode,
        cluster=cluster,
        look_every=max(10, n // 4),
    )
    for one in found.comparisons:
        points = [*one.history, *([one.stopped] if one.stopped else []), one]
        known = [number for p in points for number in (p.effect, p.lower, p.upper) if number is not None]
        assert all(-1.0 <= number <= 1.0 for number in known), known
