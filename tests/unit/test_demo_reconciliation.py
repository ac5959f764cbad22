"""Two challengers on one ramp: each has its share, and each answer its arm."""

import pandas as pd

from gauntlet.cli.demo.event_reader import Predictions
from gauntlet.cli.demo.reconciliation import misrouted, realised_shares
from gauntlet.cli.demo.report_model import AllocationStep, OnRamp

RAMP = (OnRamp(rollout="r1", challenger="v2", share=0.1), OnRamp(rollout="r2", challenger="v3", share=0.05))
STEP = AllocationStep(at=0.0, version=3, allocation=7, champion="v1", on_ramp=RAMP)


def answered(*arms: tuple[str, str | None, str | None]) -> Predictions:
    """Requests of allocation 7 as (champion, rollout, challenger)."""
    table = pd.DataFrame(arms, columns=["champion", "rollout", "challenger"], index=[f"f{i}" for i in range(len(arms))])
    table = table.assign(allocation=7, partition=0, forced=False, assigned=table["rollout"].notna())
    return Predictions(table=table, foreign=0, rerouted=0, shadow_failures={})


def test_each_challenger_has_its_own_share() -> None:
    found = answered(*[("v1", "r1", "v2")] * 9, *[("v1", "r2", "v3")] * 6, *[("v1", None, None)] * 85)
    assert [(r.rollout, r.share, r.assigned, r.requests) for r in realised_shares(found, [STEP])] == [
        ("r1", 0.1, 9, 100),
        ("r2", 0.05, 6, 100),
    ]
    assert misrouted(found, [STEP]) == 0


def test_two_of_thirty_at_one_per_cent_are_no_wonder() -> None:
    """One such allocation in 28 has as many, which a normal law calls one in a thousand; four would be odd."""
    ramp = (OnRamp(rollout="r1", challenger="v2", share=0.01),)
    step = AllocationStep(at=0.0, version=3, allocation=7, champion="v1", on_ramp=ramp)
    for assigned, inside in ((2, True), (3, True), (4, False)):
        found = answered(*[("v1", "r1", "v2")] * assigned, *[("v1", None, None)] * (30 - assigned))
        (share,) = realised_shares(found, [step])
        assert share.inside is inside, assigned


def test_an_arm_that_nobody_ordered_is_misrouted() -> None:
    wrong = [("v1", "r1", "v3"), ("v9", None, None), ("v1", "r3", "v4")]
    assert misrouted(answered(("v1", "r1", "v2"), ("v1", None, None), *wrong), [STEP]) == len(wrong)
