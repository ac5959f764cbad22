"""Guards at one look: what each rests on, what is reported of it, and what it does to the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.evaluator_events import ROLLOUT, Evaluator, MemoryLog, batch, config, outcome, prediction, shadow
from builders.samples import sample

from evaluator.service import gauges, guardrails
from evaluator.service.block_sums import BlockSums, RolloutSums, TrackedMetrics
from evaluator.service.design import EvaluationDesign, Guard, RolloutPlan, evaluation_design, tracked_metrics
from evaluator.service.evaluation import evaluate
from evaluator.service.evaluation_state import EvaluationState
from evaluator.service.pipeline import Pipeline
from evaluator.stats import AssignmentCounts, PairedSums, SplitSums
from gauntlet import events
from gauntlet.types import Task, VerdictCause

SHARE = 0.5


def plan(**changes: Any) -> RolloutPlan:
    facts: dict[str, Any] = {
        "form": "split",
        "alpha": 0.05,
        "harm_alpha": 0.05,
        "min_samples": 3000,
        "min_blocks": 20,
        "min_harm_blocks": 5,
        "margin": 0.0,
        "share": SHARE,
    }
    return RolloutPlan(**(facts | changes))


def guard(metric: str, margin: float, **changes: Any) -> Guard:
    return Guard(**({"name": metric, "metric": metric, "margin": margin, "alpha": 0.05} | changes))


def blocks(n: int, *, each: int = 100, missing: tuple[int, int] = (0, 0), failed: int = 0) -> list[BlockSums]:
    """`n` blocks with `each` units an arm, of which some lack their outcome (by arm) or were failed."""
    found = []
    for _ in range(n):
        block = BlockSums()
        for arm in (False, True):
            block.assignments.add(arm, SHARE, each)
            block.arrived.add(arm, SHARE, each - missing[arm])
        if failed:
            block.fallbacks.add(True, SHARE, failed)
        found.append(block)
    return found


def test_a_rate_with_no_events_is_bounded_by_the_requests_it_was_seen_in() -> None:
    rate = guard("fallback_rate", 0.01)
    for n, standing in ((1, "open"), (10, "safe")):
        _, reading = guardrails.read(rate, plan(), None, [], blocks(n))
        assert (reading.standing, reading.suspect) == (standing, False)
        assert reading.result.reason.startswith(f"fallback_rate: 0 of the challenger's {100 * n} requests")
    _, nothing = guardrails.read(rate, plan(), None, [], [])
    assert (nothing.standing, nothing.suspect) == ("open", True)  # declared, and not asked yet: a win waits for it
    assert "no answer yet" in nothing.result.reason


def test_a_few_failures_hold_a_win_before_they_prove_anything() -> None:
    rate = guard("fallback_rate", 0.001)
    _, reading = guardrails.read(rate, plan(), None, [], [*blocks(5), *blocks(1, failed=1)])
    assert (reading.standing, reading.suspect) == ("open", True)
    assert guardrails.suspect([reading]) == [reading]
    _, fine = guardrails.read(guard("fallback_rate", 0.01), plan(), None, [], [*blocks(5), *blocks(1, failed=1)])
    assert guardrails.suspect([fine]) == []


def test_failures_beyond_the_margin_break_the_guard_and_within_it_they_do_not() -> None:
    rng = np.random.default_rng(3)
    found = [blocks(1, failed=int(rng.poisson(3.0)))[0] for _ in range(40)]
    _, broken = guardrails.read(guard("fallback_rate", 0.01), plan(), None, [], found)
    assert broken.standing == "breached"
    assert broken.result.effect == pytest.approx(-0.03, abs=0.01)
    assert broken.result.champion == 0.0
    assert broken.result.challenger == pytest.approx(0.03, abs=0.01)
    _, fine = guardrails.read(guard("fallback_rate", 0.06), plan(), None, [], found)
    assert fine.standing == "safe"
    _, errors = guardrails.read(guard("error_rate", 0.01), plan(), None, [], found)
    assert (errors.standing, errors.result.effect) == ("safe", None)  # they were no errors of its own


@pytest.mark.parametrize("paired", [False, True])
def test_a_loss_is_read_where_its_sums_are(paired: bool) -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(40):
        block = BlockSums()
        ours, theirs = rng.normal(-1.0, 0.2, 80), rng.normal(-1.1, 0.2, 80)
        if paired:
            sums: SplitSums | PairedSums = PairedSums()
            sums.add(ours, theirs)  # type: ignore[arg-type]
        else:
            sums = SplitSums()
            arm = rng.random(80) < SHARE
            sums.add(arm, np.full(80, SHARE), np.where(arm, theirs, ours))
        block.metrics["brier"] = sums
        found.append(block)
    made = plan(form="paired" if paired else "split")
    _, reading = guardrails.read(guard("brier", 0.05), made, None, found, [])
    assert reading.standing == "breached"
    assert reading.result.effect == pytest.approx(-0.1, abs=0.04)
    assert (reading.result.champion, reading.result.challenger) == (
        pytest.approx(1.0, abs=0.05),
        pytest.approx(1.1, abs=0.05),
    )
    _, other = guardrails.read(guard("mae", 0.05), made, None, found, [])
    assert other.standing == "open"


def test_arrival_is_compared_in_both_directions() -> None:
    rng = np.random.default_rng(7)
    for arm, sign in ((0, 1), (1, -1)):
        found = []
        for _ in range(30):
            missing = [int(rng.binomial(100, 0.02)), int(rng.binomial(100, 0.02))]
            missing[arm] += int(rng.binomial(90, 0.08))
            found += blocks(1, missing=(missing[0], missing[1]))
        _, result, differs = guardrails.label_arrival(plan(), None, found)
        assert (result.standing, differs) == ("breached", True)
        assert result.effect is not None
        assert sign * result.effect == pytest.approx(0.07, abs=0.03)
        _, result, differs = guardrails.label_arrival(plan(label_arrival_margin=0.2), None, found)
        assert (result.standing, differs) == ("safe", False)
        _, result, differs = guardrails.label_arrival(plan(label_arrival_margin=abs(result.effect or 0.0)), None, found)
        assert (result.standing, differs) == ("open", True), "shown to differ, by how much is open"


def test_arrival_without_a_missing_label_is_bounded() -> None:
    _, result, differs = guardrails.label_arrival(plan(), None, blocks(30))
    assert (result.standing, differs, result.champion, result.challenger) == ("safe", False, 1.0, 1.0)
    _, result, differs = guardrails.label_arrival(plan(), None, blocks(2))
    assert (result.standing, differs) == ("open", False)
    _, result, differs = guardrails.label_arrival(plan(), None, [])
    assert (result.standing, differs, result.champion) == ("open", False, None)


def test_units_that_move_are_too_many_or_not_and_stay_so() -> None:
    found = blocks(10)
    assert guardrails.multiple_exposure(found, 0, 1.0).p_value is None
    assert guardrails.multiple_exposure(found, 2000, 1.0).ok
    found[3].moved = 60
    reading = guardrails.multiple_exposure(found, 2000, 1.0)
    assert not reading.ok
    assert reading.p_value is not None
    assert reading.p_value <= 0.001
    assert reading.reason.startswith("60 of 2000 units met more than one arm")
    assert not guardrails.multiple_exposure(found, 200_000, reading.p_value).ok


def test_an_arm_without_traffic_is_missed_where_much_was_promised() -> None:
    one = AssignmentCounts()
    one.add(False, 0.1, 500)
    assert not guardrails.no_traffic([BlockSums(assignments=one)]).ok
    few = AssignmentCounts()
    few.add(False, 0.1, 50)
    assert guardrails.no_traffic([BlockSums(assignments=few)]).ok
    assert guardrails.no_traffic([]).ok
    assert guardrails.no_traffic(blocks(2)).ok


def a_win(n: int = 52, *, rng: int = 11, gain: float = 0.3, **changes: Any) -> RolloutSums:
    """Blocks in which the challenger wins plainly; `changes` set fields of every block."""
    random = np.random.default_rng(rng)
    sums = RolloutSums("v0001", "v0002", TrackedMetrics(segments=["country"]))
    for index, block in enumerate(blocks(n)):
        arm = random.random(200) < SHARE
        y = random.normal(size=200) + gain * arm
        block.split.add(arm, np.full(200, SHARE), y)
        few = np.arange(200) < 40
        block.segments["country"] = {"DE": SplitSums(), "FR": SplitSums()}
        for value, rows, move in (("DE", few, changes.get("few", 0.0)), ("FR", ~few, 0.0)):
            cell = block.segments["country"][value]
            assert isinstance(cell, SplitSums)
            cell.add(arm[rows], np.full(int(rows.sum()), SHARE), (y - move * arm)[rows])
        for name, value in changes.items():
            if name != "few":
                setattr(block, name, value)
        sums.blocks[index] = block
    return sums


def settled(tmp_path: Path, sums: RolloutSums, **changes: Any) -> events.Evaluation:
    made = evaluation_design(config(tmp_path))
    rules = EvaluationDesign(
        plan=plan(**changes),
        metric=made.metric,
        experiment="test",
        block=40.0,
        harm_block=20.0,
        offset=0.0,
        horizon=0.0,
    )
    looks = EvaluationState.start(rules.plan)
    for last in range(len(sums.blocks)):
        found = evaluate(rules, ROLLOUT, sums, looks, last, {}, Task.CLASSIFICATION)
    return found


def test_a_plan_that_grows_with_the_traffic_comes_before_the_first_look_of_a_guard(tmp_path: Path) -> None:
    """A guard's information is counted in shares of the plan: a plan that grew between two looks stopped the
    evaluator."""
    made = config(tmp_path, "guardrails: [{metric: coverage, margin: 0.05}]", form="paired", min_samples=50)
    evaluator, stream = Evaluator(made, tmp_path / "e.db", MemoryLog()), []
    for i in range(1500):
        at, output = 1000.0 + i / 2, [0.25, 0.75] if i % 200 else None
        stream += [prediction(i, at, propensity=0.0), shadow(i, at, output=output), outcome(i, at + 1.0)]
    found = []
    for event in sorted(stream, key=lambda event: event.at):
        evaluator.pipeline.step(batch([event]))
        found += [e for e in evaluator.pipeline.evaluate({}) if isinstance(e, events.Evaluation)]
    evaluator.close()
    assert [e.guardrails == [] for e in found[:6]] == [True] * 4 + [False] * 2
    assert found[3].reasons == [
        "no answer yet: 4 of at least 5 blocks are closed, whose traffic the evidence is planned with"
    ]


def test_a_win_with_every_guard_in_order_is_a_win_with_its_times(tmp_path: Path) -> None:
    found = settled(tmp_path, a_win())
    assert (found.result, found.cause, found.crossed, found.holds) == ("better", VerdictCause.WIN, "better", [])
    early = settled(tmp_path, a_win(24, gain=0.03), min_samples=9000)
    assert (early.result, early.cause) == ("inconclusive", VerdictCause.EVIDENCE_INCOMPLETE)
    assert early.eta_horizon == pytest.approx(2 * 9000 - 24 * 200, abs=2000)


def test_a_broken_guardrail_makes_a_win_worse_and_names_itself(tmp_path: Path) -> None:
    failing = AssignmentCounts()
    failing.add(True, SHARE, 5)
    found = settled(tmp_path, a_win(fallbacks=failing), guards=(guard("fallback_rate", 0.01),))
    assert (found.result, found.cause, found.subject) == ("worse", VerdictCause.GUARDRAIL, "fallback_rate")
    assert found.crossed is None
    assert found.reasons[0].startswith("guardrail fallback_rate is worse by at least 0.0")


@pytest.mark.parametrize(
    ("name", "value", "cause", "reason"),
    [
        ("moved", 50, VerdictCause.MULTIPLE_EXPOSURE, "multiple exposure: 2600 of 10400 units met more than one arm"),
        ("arrived", None, VerdictCause.LABEL_ARRIVAL, "label arrival mismatch: outcomes arrived for 100.00%"),
    ],
)
def test_what_can_not_be_compared_is_no_win(
    tmp_path: Path, name: str, value: Any, cause: VerdictCause, reason: str
) -> None:
    random = np.random.default_rng(23)
    sums = a_win()
    for block in sums.blocks.values():
        setattr(block, name, value or AssignmentCounts({SHARE: [100, int(random.binomial(100, 0.8))]}))
    found = settled(tmp_path, sums)
    assert (found.result, found.cause, found.crossed) == ("invalid", cause, None)
    assert found.reasons[0].startswith(reason)
    assert any("better: the effect" in why for why in found.reasons)  # and what it would have been


def test_harm_stands_although_the_arms_counts_do_not_fit(tmp_path: Path) -> None:
    """Taking a challenger out needs no valid comparison; without harm the mismatch is the verdict."""
    for gain, result, cause in ((0.3, "invalid", VerdictCause.SAMPLE_RATIO), (-0.3, "worse", VerdictCause.HARM)):
        sums = a_win(gain=gain)
        for block in sums.blocks.values():
            block.assignments = block.arrived = AssignmentCounts({SHARE: [150, 50]})
        found = settled(tmp_path, sums)
        assert (found.result, found.cause) == (result, cause)


def test_require_safe_holds_a_win_until_every_guardrail_is_shown_to_hold(tmp_path: Path) -> None:
    rails = (guard("fallback_rate", 0.01), guard("fallback_rate", 0.0001, name="strict"))
    assert settled(tmp_path, a_win(), guards=rails).result == "better"
    found = settled(tmp_path, a_win(), guards=rails, require_safe=True)
    assert (found.result, found.cause, found.subject) == ("inconclusive", VerdictCause.UNSAFE_WIN, "strict")
    assert found.crossed is None
    assert found.reasons[0] == "better, but not shown to be safe yet: strict"
    assert settled(tmp_path, a_win(), guards=rails[:1], require_safe=True).result == "better"


def test_a_challenger_whose_traffic_has_stopped_is_held(tmp_path: Path) -> None:
    sums = a_win()
    for index in (50, 51):
        sums.blocks[index].assignments = AssignmentCounts({SHARE: [20, 0]})
        sums.blocks[index].arrived = AssignmentCounts({SHARE: [20, 0]})
    found = settled(tmp_path, sums)
    assert (found.result, found.cause, found.crossed) == ("inconclusive", VerdictCause.NO_TRAFFIC, None)
    assert found.holds[0].startswith("holds: no traffic: the challenger got none of 40 units where 20.0 were expected")


def test_harm_to_one_segment_holds_what_wins_for_all(tmp_path: Path) -> None:
    found = settled(tmp_path, a_win(few=1.2))
    assert (found.result, found.cause, found.subject) == ("inconclusive", VerdictCause.SEGMENT_HARM, "country=DE")
    assert found.crossed is None
    assert found.holds == [found.reasons[0]]
    assert found.reasons[0].startswith("holds: worse in segment country=DE: effect -")
    assert [(s.value, s.harmed) for s in found.segments] == [("DE", True), ("FR", False)]
    first, second = found.segments
    assert first.p_value is not None
    assert second.p_value is not None
    assert first.p_value < 0.05 < second.p_value


def test_the_more_values_are_looked_at_the_more_each_has_to_show() -> None:
    """Holm: with ten values the worst has its p value times ten; one without an answer counts too."""
    made, found = plan(form="paired"), []
    for others in (0, 9):
        random = np.random.default_rng(13)
        past = []
        for _ in range(12):
            cells: dict[str, Any] = {value: PairedSums() for value in ("worst", *(f"v{i}" for i in range(others)))}
            cells["worst"].add(random.normal(size=30), random.normal(size=30) - 1.0)
            past.append(BlockSums(segments={"s": cells}))
        found.append(guardrails.read_segments(["s"], made, {}, past)[1])
    assert [len(results) for results in found] == [1, 10]
    assert found[1][-1].value == "worst"
    alone = found[0][0].p_value
    assert alone is not None
    assert alone < 0.02
    assert found[1][-1].p_value == pytest.approx(10 * alone)


def test_a_recall_is_of_its_class(tmp_path: Path) -> None:
    made = config(tmp_path, "guardrails: [{metric: recall, label: 1, margin: 0.1}]")
    assert tracked_metrics(made, {0: 0, 1: 1}).recalls == {"recall of 1": 1}


def gauge(name: str, **labels: str) -> float | None:
    return sample(name, experiment="guards", **labels)


def test_gauges_show_the_latest_look_and_nothing_of_the_one_before(tmp_path: Path) -> None:
    evaluator = Evaluator(config(tmp_path), tmp_path / "e.db", MemoryLog())
    pipeline: Pipeline = evaluator.pipeline

    def evaluation(standing: str, value: str, rollout: str = "r") -> events.Evaluation:
        return events.Evaluation(
            id="r/1",
            at=1.0,
            experiment="guards",
            rollout=rollout,
            champion="a",
            challenger="b",
            form="split",
            metric="accuracy",
            result="inconclusive",
            reasons=[],
            holds=["x"],
            moved_units=4,
            eta_horizon=70,
            guardrails=[
                events.GuardrailResult(name="label_arrival", standing=standing, margin=0.01, reason="", champion=0.9),
                events.GuardrailResult(name=f"guard {value}", standing="open", margin=0.1, reason="", effect=-0.2),
            ],
            segments=[events.SegmentResult(name="country", value=value, champion=5, challenger=6, p_value=0.3)],
        )

    first = [evaluation("safe", "IT", "old"), evaluation("open", "FR"), evaluation("safe", "DE", "s")]
    gauges.show_events("guards", [*first, evaluation("open", "DE")])
    pipeline.evaluations = {"r": first[1], "s": first[2]}
    gauges.show("guards", pipeline)
    gauges.show_events("guards", [evaluation("breached", "FR")])
    evaluator.close()
    assert gauge("gauntlet_guardrail_state", rollout="r", guardrail="label_arrival") == 2.0
    assert gauge("gauntlet_guardrail_effect", rollout="r", guardrail="guard FR") == -0.2
    assert gauge("gauntlet_segment_harm_p_value", rollout="r", segment="country", value="FR") == 0.3
    assert gauge("gauntlet_segment_harm_p_value", rollout="r", segment="country", value="DE") is None
    assert gauge("gauntlet_label_arrival_ratio", rollout="r", arm="champion") == 0.9
    assert (gauge("gauntlet_rollout_holds", rollout="r"), gauge("gauntlet_moved_units", rollout="r")) == (1.0, 4.0)
    assert gauge("gauntlet_guardrail_state", rollout="s", guardrail="label_arrival") == 0.0, "another rollout's stays"
    assert gauge("gauntlet_rollout_holds", rollout="old") is None, "and goes when the rollout is forgotten"
    assert gauge("gauntlet_eta_outcomes", rollout="r", until="horizon") == 70.0
    left = gauge("gauntlet_eta_outcomes", rollout="r", until="decision")
    assert left is not None
    assert np.isnan(left)
