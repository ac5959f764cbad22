"""A panel's cells answer what each would answer alone, however their looks come apart."""

import json

import numpy as np
import pytest

from evaluator.stats import Plan, StatsError
from evaluator.stats.panel import ArmTotals, Panel, States, advance
from evaluator.stats.sequential_test import MODES


def panel(rng: np.random.Generator, cells: int, blocks: int, plan: Plan) -> Panel:
    """Blocks of 50 pairs; each cell has its own effect and its own gaps, and starts later than the one before."""
    n = np.full((cells, blocks), 50.0)
    for cell in range(cells):
        n[cell, : 2 * cell] = 0.0
        n[cell, rng.random(blocks) < 0.1 * (cell % 3)] = 0.0
    effect = np.linspace(-0.4, 0.4, cells)[:, None]
    scores = np.where(n > 0, rng.normal(effect * 40.0, 7.0, (cells, blocks)), 0.0)
    rows = np.stack([scores, n, n, n], axis=2)
    units = n.sum(axis=1)
    arm = np.stack([units, units / 2.0, units / 2.0], axis=1)
    return Panel(rows, ArmTotals(arm, arm, np.full(cells, plan.horizon)), np.full(cells, plan.margin))


def first(whole: Panel, blocks: int, cell: slice = slice(None)) -> Panel:
    totals = whole.totals
    totals = ArmTotals(totals.champion[cell], totals.challenger[cell], totals.horizon[cell])
    return Panel(whole.rows[cell, :blocks], totals, whole.margin[cell])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("clustered", [True, False])
def test_a_cell_answers_as_if_it_were_alone(mode: str, clustered: bool) -> None:
    plan = Plan(horizon=1500.0, mode=mode, clustered=clustered, margin=0.02, effect=0.3)  # type: ignore[arg-type]
    cells, blocks = 7, 40
    whole = panel(np.random.default_rng(5), cells, blocks, plan)
    together, alone = States.start(plan, cells), [States.start(plan, 1) for _ in range(cells)]
    crossed = np.zeros(cells)
    for k in range(1, blocks + 1):
        if k == 17:  # a snapshot changes nothing
            together = States.from_dict(plan, json.loads(json.dumps(together.to_dict())))
        together, looks = advance(together, first(whole, k), plan)
        for cell in range(cells):
            alone[cell], look = advance(alone[cell], first(whole, k, slice(cell, cell + 1)), plan)
            for name in ("z", "bound_win", "bound_harm", "p_win", "p_harm", "fraction"):
                assert getattr(look, name)[0] == pytest.approx(getattr(looks, name)[cell], rel=1e-12), (name, k, cell)
            assert look.ready_harm[0] == looks.ready_harm[cell]
    for cell in range(cells):
        stops, own = together.stops, alone[cell].stops
        crossed[cell] = stops.crossed[cell]
        assert (own.look[0], own.crossed[0]) == (stops.look[cell], stops.crossed[cell])
        assert own.effect[0] == pytest.approx(stops.effect[cell], rel=1e-12, nan_ok=True)
        assert own.lower[0] == pytest.approx(stops.lower[cell], rel=1e-12, nan_ok=True)
    assert len(set(crossed.tolist())) > 1


def test_cells_with_the_same_looks_share_one_boundary() -> None:
    plan = Plan(horizon=1500.0)
    one = panel(np.random.default_rng(6), 1, 40, plan)
    champion, challenger = (np.repeat(each, 30, axis=0) for each in (one.totals.champion, one.totals.challenger))
    totals = ArmTotals(champion, challenger, np.full(30, plan.horizon))
    many = Panel(np.repeat(one.rows, 30, axis=0), totals, np.zeros(30))
    states = States.start(plan, 30)
    for k in range(1, 41):
        states, _ = advance(states, first(many, k), plan)
    assert len(states.win.to_dict()["clocks"]) == 1


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(StatsError, match="panel of 2 cells"):
        Panel(np.zeros((2, 3, 4)), ArmTotals(np.zeros((2, 3)), np.zeros((1, 3)), np.ones(2)), np.zeros(2))
