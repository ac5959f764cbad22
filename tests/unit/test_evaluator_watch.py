"""The watch over one champion: its reference, given or learned live, and its state as a function of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streams import config, prediction

from evaluator.watch import Watch
from gauntlet import events, wiring
from gauntlet.artefact import Feature, Schema
from gauntlet.config import DriftConfig
from gauntlet.model import Task

SETTINGS = DriftConfig(pane=32, reference_rows=200)


def reference(n: int = 2000, errors: int = 500) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    losses = rng.exponential(0.5, errors).tolist()
    return {"columns": {"x": rng.normal(size=n).tolist()}, "at": list(range(n)), "errors": losses,
            "errors_at": list(range(errors))}  # fmt: skip


def watch(given: dict[str, Any] | None = None, since: float = 0.0) -> Watch:
    return Watch("test", "v0001", since, ["x"], SETTINGS, given)


def rows(n: int, shift: float = 0.0, seed: int = 2, start: float = 0.0) -> list[events.Prediction]:
    values = np.random.default_rng(seed).normal(shift, 1.0, n).tolist()
    return [prediction(i, start + i, features={"x": value}) for i, value in enumerate(values)]


def losses(n: int, scale: float = 0.5, seed: int = 3) -> list[float]:
    return list(np.random.default_rng(seed).exponential(scale, n).tolist())


def test_a_reference_from_the_registry_judges_from_the_first_row_on() -> None:
    one = watch(reference())
    assert one.rows(rows(2000)) == []
    found = one.rows(rows(1500, shift=1.5, start=2000.0))
    assert found[0].event == "open"
    assert {e.model for e in found} == {"v0001"}
    assert found[0].features[0].name == "x"
    assert 2000.0 < found[0].at < 3500.0
    assert one.severity != "NONE"
    assert one.scores()["x"] > 0.3
    assert one.snapshot()["learned"] is None  # it is in the registry; the checkpoint stays small


def test_without_a_reference_the_first_rows_served_become_it() -> None:
    one = watch()
    assert one.rows(rows(400, seed=5)) == []
    assert one.snapshot()["learned"] is None
    assert one.losses(losses(199), [1.0] * 199) == []
    assert one.snapshot()["learned"] is None
    assert one.losses(losses(1), [1.0]) == []
    learned = one.snapshot()["learned"]
    assert learned["rows"] == 200
    assert one.snapshot()["columns"] == {"x": []}
    assert one.rows(rows(1500, shift=1.5)) != []
    assert one.snapshot()["learned"] == learned


def test_a_reference_with_few_errors_learns_them_live_and_keeps_its_rows() -> None:
    one = watch(reference(n=2000, errors=29))
    one.rows(rows(50))
    one.losses(losses(200), [1.0] * 200)
    assert one.snapshot()["learned"]["rows"] == 2000
    assert one.losses(losses(1500, scale=2.0), list(range(1500))) != []


@pytest.mark.parametrize("given", [None, reference()])
@pytest.mark.parametrize("size", [1, 7, 333])
def test_cutting_rows_and_losses_into_batches_changes_nothing(given: dict[str, Any] | None, size: int) -> None:
    whole, cut = watch(given), watch(given)
    calm, bad, errors = rows(700), rows(900, shift=1.2, seed=8, start=700.0), losses(300)
    at = [float(i) for i in range(300)]
    found = whole.losses(errors, at) + whole.rows(calm + bad) + whole.losses(losses(900, 1.5), list(range(900)))
    pieces: list[events.Drift] = []
    for i in range(0, 300, size):
        pieces += cut.losses(errors[i : i + size], at[i : i + size])
    for i in range(0, 1600, size):
        pieces += cut.rows((calm + bad)[i : i + size])
    worse = losses(900, 1.5)
    for i in range(0, 900, size):
        pieces += cut.losses(worse[i : i + size], list(range(900))[i : i + size])
    assert pieces == found != []
    assert cut.snapshot() == whole.snapshot()


def test_rows_beyond_the_reference_are_watched_not_lost() -> None:
    """The row that completes the reference lies in the middle of a batch."""
    one = watch()
    one.losses(losses(200), [1.0] * 200)
    one.rows(rows(1000))
    assert one.snapshot()["learned"]["rows"] == 200
    assert one._monitor is not None
    assert one._monitor.rows == 800


def test_what_is_kept_while_outcomes_are_rare_is_bounded_and_recent() -> None:
    one = watch()
    stream = rows(5000)
    for i in range(0, 5000, 450):
        one.rows(stream[i : i + 450])
        assert len(one.snapshot()["columns"]["x"]) <= 4 * SETTINGS.reference_rows
    kept = one.snapshot()["columns"]["x"]
    assert kept == [p.features["x"] for p in stream][-len(kept) :]
    assert len(kept) >= 2 * SETTINGS.reference_rows


@pytest.mark.parametrize("given", [None, reference()])
@pytest.mark.parametrize("cut", [0, 150, 420, 900])
def test_restored_it_goes_on_as_if_uninterrupted(given: dict[str, Any] | None, cut: int) -> None:
    def feed(one: Watch, first: int, end: int) -> list[events.Drift]:
        found: list[events.Drift] = []
        for i in range(first, end, 30):
            found += one.rows(stream[i : i + 30])
            found += one.losses(errors[i : i + 30], [float(j) for j in range(i, i + 30)])
        return found

    stream = rows(600) + rows(600, shift=1.5, seed=9, start=600.0)
    errors = losses(1200)
    whole, before, after = watch(given), watch(given), watch(given)
    found = feed(whole, 0, 1200)
    feed(before, 0, cut)
    after.restore(json.loads(json.dumps(before.snapshot())))
    assert feed(after, cut, 1200) == [e for e in found if e.at >= cut]
    assert after.snapshot() == whole.snapshot()
    assert found


def test_a_champion_that_comes_back_is_news_again() -> None:
    """After a rollback the same version, reference and drift: the events must not repeat the ids of the first time."""
    first, second = watch(reference(), since=0.0), watch(reference(), since=5000.0)
    bad = rows(1500, shift=1.5)
    one, two = first.rows(bad), second.rows(bad)
    assert len(one) == len(two) > 0
    assert not {e.id for e in one} & {e.id for e in two}
    assert not {e.episode for e in one} & {e.episode for e in two}
    assert [e.id for e in watch(reference(), since=0.0).rows(bad)] == [e.id for e in one]


def test_it_starts_with_what_the_registry_keeps(tmp_path: Path) -> None:
    made = config(tmp_path)
    registry = wiring.registry(made)
    schema = Schema(task=Task.CLASSIFICATION, features=(Feature(name="x"),), classes=(0, 1))
    entry = registry.register("nowhere:model", schema, created_at=0.0, reference=reference())
    for version, judges in (("v0001", False), (entry.version, True)):
        one = Watch.start("test", version, 0.0, registry, SETTINGS)
        one.rows(rows(1000, shift=2.0))
        assert (one.severity != "NONE") is judges
