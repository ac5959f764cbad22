"""The drift monitor of one champion: its reference, given or learned live, and its state as a function of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.evaluator_events import config, prediction

from evaluator.service.champion_drift import ChampionMonitor
from evaluator.service.drift_baseline import ColumnReader, DriftBaseline, ReferenceRows
from gauntlet import adapters, events
from gauntlet.config.drift import DriftConfig
from gauntlet.registry import Reference
from gauntlet.registry.artifact import Feature, Schema
from gauntlet.types import Task

SETTINGS = DriftConfig(pane=32, reference_rows=200)
SCHEMA = Schema(task=Task.CLASSIFICATION, features=(Feature(name="x"),), classes=(0, 1))
Matured = tuple[list[float], list[Any], list[float]]


def reference(n: int = 2000, honest: int = 500) -> Reference:
    """Rows of which the last `honest` were not trained on."""
    values = np.random.default_rng(1).normal(size=n).tolist()
    truths, outputs, losses = matured(honest, seed=1)
    unseen = [None] * (n - honest)
    return Reference(
        columns={"x": values},
        at=[float(i) for i in range(n)],
        outputs=[*unseen, *outputs],
        truths=[*unseen, *truths],
        losses=[*unseen, *losses],
    )


def matured(n: int, scale: float = 0.5, seed: int = 3) -> Matured:
    """Truths, outputs and losses of `n` answers; the losses' mean is `scale`."""
    rng = np.random.default_rng(seed)
    score = rng.beta(4, 2, n)
    truths = (rng.random(n) < score) * 1.0
    return truths.tolist(), [[1 - p, p] for p in score.tolist()], rng.exponential(scale, n).tolist()


def observe(
    one: ChampionMonitor,
    outcomes: Matured,
    at: list[float],
    first: int = 0,
    end: int | None = None,
    made: list[float] | None = None,
) -> list[events.Drift]:
    cut = slice(first, end)
    truths, outputs, losses = outcomes
    return one.observe_outcomes(truths[cut], outputs[cut], losses[cut], at[cut], (made or at)[cut])


def times(n: int) -> list[float]:
    return [float(i) for i in range(n)]


def monitor(given: Reference | None = None, since: float = 0.0, settings: DriftConfig = SETTINGS) -> ChampionMonitor:
    if given is None or len(given.honest) < 30:
        return ChampionMonitor("test", "v0001", since, SCHEMA, settings, reference=given)
    columns = ColumnReader(SCHEMA)
    fitted = DriftBaseline.fit("v0001", ReferenceRows.of(given, columns), columns, settings)
    return ChampionMonitor("test", "v0001", since, SCHEMA, settings, baseline=fitted)


def rows(n: int, shift: float = 0.0, seed: int = 2, start: float = 0.0) -> list[events.Prediction]:
    rng = np.random.default_rng(seed)
    values, scores = rng.normal(shift, 1.0, n).tolist(), rng.beta(4, 2, n).tolist()
    return [
        prediction(i, start + i, features={"x": value}, output=[1 - score, score])
        for i, (value, score) in enumerate(zip(values, scores, strict=True))
    ]


def test_a_reference_from_the_registry_judges_from_the_first_row_on() -> None:
    one = monitor(reference())
    assert one.observe_requests(rows(2000)) == []
    found = one.observe_requests(rows(1500, shift=1.5, start=2000.0))
    assert found[0].event == "open"
    assert {e.model for e in found} == {"v0001"}
    assert found[0].features[0].name == "x"
    assert 2000.0 < found[0].at < 3500.0
    assert one.severity not in (None, "NONE")
    assert one.waits is None
    assert one.scores()["x"] > 0.3
    assert one.snapshot()["learned"] is None  # it is in the registry; the checkpoint stays small


def test_without_a_reference_the_first_rows_served_become_it() -> None:
    one = monitor()
    assert one.waits == "it has no reference, and of its first traffic 0 of 200 rows and 0 of 200 outcomes are in"
    assert one.observe_requests(rows(400, seed=5)) == []
    assert one.snapshot()["learned"] is None
    outcomes = matured(200)
    assert observe(one, outcomes, times(200), 0, 199) == []
    assert one.snapshot()["learned"] is None
    assert one.waits == "it has no reference, and of its first traffic 200 of 200 rows and 199 of 200 outcomes are in"
    assert one.severity is None
    assert observe(one, outcomes, times(200), 199) == []
    assert one.waits is None
    assert one.severity == "NONE"
    learned = one.snapshot()["learned"]
    assert learned["profile"]["rows"] == 200
    assert one.snapshot()["first"] == {"x": [], "(prediction)": []}
    assert one.snapshot()["losses"] == one.snapshot()["truths"] == one.snapshot()["predictions"] == []
    assert one.observe_requests(rows(1500, shift=1.5)) != []
    assert one.snapshot()["learned"] == learned


def test_a_reference_with_few_errors_learns_them_live_and_keeps_its_rows() -> None:
    one = monitor(reference(n=2000, honest=29))
    one.observe_requests(rows(50))
    assert one.severity is None
    assert one.waits == "its reference has too few honest predictions, and 0 of 200 outcomes of its own are in"
    observe(one, matured(200), times(200))
    assert one.snapshot()["learned"]["profile"]["rows"] == 2000
    assert observe(one, matured(1500, scale=2.0), times(1500)) != []


@pytest.mark.parametrize("given", [None, reference()])
@pytest.mark.parametrize("size", [1, 7, 333])
def test_cutting_rows_and_losses_into_batches_changes_nothing(given: Reference | None, size: int) -> None:
    whole, cut = monitor(given), monitor(given)
    calm, bad, outcomes = rows(700), rows(900, shift=1.2, seed=8, start=700.0), matured(300)
    worse, at = matured(900, 1.5), times(900)
    found = observe(whole, outcomes, at[:300]) + whole.observe_requests(calm + bad) + observe(whole, worse, at)
    pieces: list[events.Drift] = []
    for i in range(0, 300, size):
        pieces += observe(cut, outcomes, at[:300], i, i + size)
    for i in range(0, 1600, size):
        pieces += cut.observe_requests((calm + bad)[i : i + size])
    for i in range(0, 900, size):
        pieces += observe(cut, worse, at, i, i + size)
    assert pieces == found != []
    assert cut.snapshot() == whole.snapshot()


def test_rows_beyond_the_reference_are_monitored_not_lost() -> None:
    """The row that completes the reference lies in the middle of a batch."""
    one = monitor()
    observe(one, matured(200), times(200))
    one.observe_requests(rows(1000))
    assert one.snapshot()["learned"]["profile"]["rows"] == 200
    monitored = one.snapshot()["monitor"]
    assert monitored["windows"]["panes"] * SETTINGS.pane + len(monitored["buffer"]) == 800


def test_what_is_kept_while_outcomes_are_rare_is_bounded_and_recent() -> None:
    one = monitor()
    stream = rows(5000)
    for i in range(0, 5000, 450):
        one.observe_requests(stream[i : i + 450])
        assert len(one.snapshot()["first"]["x"]) <= 4 * SETTINGS.reference_rows
    kept = one.snapshot()["first"]["x"]
    assert kept == [p.features["x"] for p in stream][-len(kept) :]
    assert len(kept) >= 2 * SETTINGS.reference_rows


@pytest.mark.parametrize("given", [None, reference()])
@pytest.mark.parametrize("cut", [0, 150, 420, 900])
def test_restored_it_goes_on_as_if_uninterrupted(given: Reference | None, cut: int) -> None:
    def feed(one: ChampionMonitor, first: int, end: int) -> list[events.Drift]:
        found: list[events.Drift] = []
        for i in range(first, end, 30):
            found += one.observe_requests(stream[i : i + 30])
            found += observe(one, outcomes, times(1200), i, i + 30)
        return found

    stream = rows(600) + rows(600, shift=1.5, seed=9, start=600.0)
    outcomes = matured(1200)
    whole, before, after = monitor(given), monitor(given), monitor(given)
    found = feed(whole, 0, 1200)
    feed(before, 0, cut)
    after.restore(json.loads(json.dumps(before.snapshot())))
    assert feed(after, cut, 1200) == [e for e in found if e.at >= cut]
    assert after.snapshot() == whole.snapshot()
    assert found


def test_a_champion_that_comes_back_is_news_again() -> None:
    """After a rollback the same version, reference and drift: the events must not repeat the ids of the first time."""
    first, second = monitor(reference(), since=0.0), monitor(reference(), since=5000.0)
    bad = rows(1500, shift=1.5)
    one, two = first.observe_requests(bad), second.observe_requests(bad)
    assert len(one) == len(two) > 0
    assert not {e.id for e in one} & {e.id for e in two}
    assert not {e.episode for e in one} & {e.episode for e in two}
    assert [e.id for e in monitor(reference(), since=0.0).observe_requests(bad)] == [e.id for e in one]


def test_it_starts_with_what_the_registry_keeps(tmp_path: Path) -> None:
    made = config(tmp_path)
    registry = adapters.registry(made)
    entry = registry.register("nowhere:model", SCHEMA, created_at=0.0, reference=reference())
    for version, judges in (("v0001", False), (entry.version, True)):
        one = ChampionMonitor.start("test", version, 0.0, registry, SETTINGS)
        one.observe_requests(rows(1000, shift=2.0))
        assert (one.severity not in (None, "NONE")) is judges


def test_the_reference_is_fitted_once_and_kept_with_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(tmp_path)
    registry = adapters.registry(made)
    version = registry.register("nowhere:model", SCHEMA, created_at=0.0, reference=reference()).version
    first = ChampionMonitor.start("test", version, 0.0, registry, SETTINGS)
    kept = registry.profile(version)
    assert kept is not None

    def never(*_: object) -> None:
        raise AssertionError("fitted twice")

    with monkeypatch.context() as patch:
        patch.setattr(DriftBaseline, "fit", never)
        again = ChampionMonitor.start("test", version, 0.0, registry, SETTINGS)
        stream = rows(2000, shift=0.7)
        assert again.observe_requests(stream) == first.observe_requests(stream) != []
        with pytest.raises(AssertionError, match="fitted twice"):
            ChampionMonitor.start("test", version, 0.0, registry, DriftConfig(pane=64))
    ChampionMonitor.start("test", version, 0.0, registry, DriftConfig(pane=64))
    assert registry.profile(version)["settings"]["pane"] == 64  # type: ignore[index]
    registry.keep_profile(version, {**kept, "profile": {"version": 1}})  # of another release
    (tmp_path / "registry" / version / "profile.json.gz").write_bytes(b"damaged")
    assert ChampionMonitor.start("test", version, 0.0, registry, SETTINGS).observe_requests(stream) != []
    registry.keep_profile(version, {**kept, "profile": {"version": 1}})
    anew = ChampionMonitor.start("test", version, 0.0, registry, SETTINGS)
    assert anew.observe_requests(stream) == monitor_of(kept, version).observe_requests(stream)


def monitor_of(kept: dict[str, Any], version: str) -> ChampionMonitor:
    return ChampionMonitor("test", version, 0.0, SCHEMA, SETTINGS, baseline=DriftBaseline.from_dict(kept))


@pytest.mark.parametrize("given", [None, reference()])
def test_a_state_that_it_can_not_go_on_with_is_refused_and_nothing_is_changed(given: Reference | None) -> None:
    one = monitor(given)
    one.observe_requests(rows(400))
    observe(one, matured(200), times(200))
    saved = json.loads(json.dumps(one.snapshot()))
    other = monitor(given, settings=DriftConfig(pane=64, reference_rows=200))
    fresh = other.snapshot()
    assert other.restore(saved) is False
    old = json.loads(json.dumps(saved))
    if given is None:
        old["learned"]["profile"]["version"] = 2  # of another release
    else:
        old["monitor"]["profile"] = "another"
    again = monitor(given)
    assert again.restore(old) is False
    numbered = json.loads(json.dumps(saved))
    numbered["monitor"]["episodes"]["state"]["announced"] = 3  # as another release had it
    assert again.restore(numbered) is False
    assert again.restore(saved) is True
    assert other.snapshot() == fresh
    loose = monitor(given, settings=DriftConfig(pane=32, reference_rows=200, ks=0.3, mode="simple"))
    assert loose.restore(saved) is True  # thresholds may change under a state: they count nothing


def test_predictions_are_monitored_too() -> None:
    one = monitor(reference())
    assert one.observe_requests(rows(2000)) == []
    surer = [prediction(i, 2000.0 + i, features=p.features, output=[0.02, 0.98]) for i, p in enumerate(rows(600))]
    found = one.observe_requests(surer)
    assert found[0].event == "open"
    assert {signal.split()[0] for event in found for signal in event.signals} <= {"prediction", "estimated_accuracy"}
    assert one.scores()["(prediction)"] > 0.3


def test_an_accuracy_that_falls_is_high_though_the_loss_stays() -> None:
    one = monitor(reference())
    assert observe(one, matured(2000), times(2000)) == []
    truths, outputs, losses = matured(3000, seed=9)
    turned = [1 - truth for truth in truths]
    found = observe(one, (turned, outputs, losses), times(3000))
    assert found[-1].severity == "CRITICAL"
    assert any(signal.startswith("accuracy") for event in found for signal in event.signals)


def test_moved_inputs_that_cost_nothing_become_the_new_normal() -> None:
    settings = DriftConfig(pane=32, reference_rows=200, accept_after=6000)
    one = monitor(reference(), settings=settings)
    stream, outcomes = rows(14_000, shift=1.0), matured(14_000)
    found: list[events.Drift] = []
    for i in range(0, 14_000, 500):
        found += one.observe_requests(stream[i : i + 500])
        found += observe(one, outcomes, times(14_000), i, i + 500)
    assert [event.event for event in found] == ["open", "close"]
    assert 6000 < found[1].rows < 8000
    assert one.accepted
    assert one.scores()["x"] > 0.3  # the distance to the training rows stays on show
    worse = [*rows(3000, shift=-1.0, start=14_000.0)]
    assert one.observe_requests(worse)[0].event == "open"


def test_outcomes_of_requests_before_the_move_accept_nothing() -> None:
    """Labels that come late are about the old inputs for a while: they don't say what the new ones cost."""
    one = monitor(reference(), settings=DriftConfig(pane=32, reference_rows=200, accept_after=6000))
    one.observe_requests(rows(2000))
    moved, outcomes = rows(12_000, shift=1.0, start=2000.0), matured(14_000)
    before = [-5000.0 + i for i in range(14_000)]
    for i in range(0, 12_000, 500):
        one.observe_requests(moved[i : i + 500])
        observe(one, outcomes, [2000.0 + t for t in times(14_000)], i, i + 500, made=[min(t, 1999.0) for t in before])
    assert one.severity == "LOW"
    assert not one.accepted


def test_moved_inputs_with_a_loss_are_never_accepted() -> None:
    one = monitor(reference(), settings=DriftConfig(pane=32, reference_rows=200, accept_after=6000))
    stream, outcomes = rows(14_000, shift=1.0), matured(14_000, scale=0.8)
    for i in range(0, 14_000, 500):
        one.observe_requests(stream[i : i + 500])
        observe(one, outcomes, times(14_000), i, i + 500)
    assert not one.accepted
    assert one.severity in ("HIGH", "CRITICAL")


def test_quality_that_is_too_low_is_reported_with_its_score() -> None:
    one = monitor(reference())
    gone = [prediction(i, float(i), features={}) for i in range(600)]
    found = one.observe_requests(gone)
    assert found[-1].quality == 0.0
    assert (found[-1].root_cause, found[-1].action) == ("quality", "quarantine")
    assert one.quality == 0.0


def test_a_daily_cycle_is_no_drift_when_hours_are_held_against_hours() -> None:
    def cycle(n: int, start: int, seed: int) -> tuple[list[float], list[float]]:
        at = [3600.0 * i / 20 for i in range(start, start + n)]
        hours = np.array(at) % 86_400 / 86_400
        return (np.sin(2 * np.pi * hours) * 3 + np.random.default_rng(seed).normal(size=n)).tolist(), at

    values, at = cycle(9600, 0, 1)
    truths, outputs, losses = matured(9600)
    given = Reference(columns={"x": values}, at=at, outputs=outputs, truths=truths, losses=losses)
    later, when = cycle(1500, 9600, 2)
    outputs = matured(1500, seed=7)[1]

    def requests(shift: float) -> list[events.Prediction]:
        facts = enumerate(zip(later, when, outputs, strict=True))
        return [prediction(i, t, features={"x": v + shift}, output=output) for i, (v, t, output) in facts]

    seasonal = DriftConfig(pane=32, season="hour")
    for shift, found in ((0.0, False), (2.0, True)):
        assert (monitor(given, settings=seasonal).observe_requests(requests(shift)) != []) is found
    saved = json.loads(json.dumps(monitor(given, settings=seasonal).snapshot()))
    assert monitor(given, settings=seasonal).restore(saved)


CITIES = Schema(task=Task.CLASSIFICATION, features=(Feature(name="city", kind="text"),), classes=(0, 1))


def in_cities(n: int, *names: str, start: int = 0) -> list[events.Prediction]:
    return [prediction(i, float(i), features={"city": names[i % len(names)]}) for i in range(start, start + n)]


@pytest.mark.parametrize("size", [1, 37, 5000])
def test_values_in_another_spelling_are_told_while_they_come(size: int) -> None:
    """Scenario: a caller begins to send capitals, and is repaired. Expected: of the latest one or two thousand requests
    it is told how many, in whatever batches they come and after a restart, and no longer when they are over."""
    settings = DriftConfig(pane=32, reference_rows=200, regimes=[])

    def fresh() -> ChampionMonitor:
        return ChampionMonitor("test", "v0001", 0.0, CITIES, settings)

    one = fresh()
    one.observe_requests(in_cities(200, "Oslo", "Rome"))
    observe(one, matured(200), times(200))
    assert one.respelt == []
    sent = in_cities(500, "Oslo", "Rome", start=200) + in_cities(1000, "OSLO", "Rome", "Paris ", start=700)
    for start in range(0, len(sent), size):
        one.observe_requests(sent[start : start + size])
        kept, one = json.loads(json.dumps(one.snapshot())), fresh()
        assert one.restore(kept)
    (found,) = one.respelt
    assert str(found) == "333 of 1,500 values of city are the reference's in another spelling: 'OSLO' for 'Oslo'"
    one.observe_requests(in_cities(2500, "Oslo", "Rome", start=2000))
    assert one.respelt == []


def test_columns_read_every_kind_of_answer() -> None:
    two, three = (
        ColumnReader(SCHEMA),
        ColumnReader(Schema(task=Task.CLASSIFICATION, features=(), classes=("a", "b", "c"))),
    )
    number = ColumnReader(Schema(task=Task.REGRESSION, features=(Feature(name="(prediction)"),)))
    assert (two.value([0.25, 0.75]), two.target(1.0), two.scored) == (0.75, 1.0, True)
    assert (three.value([0.2, 0.5, 0.3]), three.target(2.0), three.scored) == ("b", "c", False)
    assert (number.value(2.5), number.target(3.5), number.scored) == (2.5, 3.5, False)
    assert two.value(None) is three.value(None) is number.value(None) is None
    assert number.prediction == "((prediction))"
    assert list(number.columns([prediction(1, 0.0, output=2.5)])) == ["(prediction)", "((prediction))"]
