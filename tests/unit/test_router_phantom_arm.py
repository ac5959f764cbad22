"""The labels of the continuous A/A slice: sticky in a round, drawn anew in the next, independent of the arms."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from gauntlet.config.evidence import EvidenceConfig
from gauntlet.config.section import Seconds
from router import assignment
from router.phantom_arm import PhantomArm

DAY = 86_400.0
ROUND = 7 * DAY
UNITS = [f"user-{i}" for i in range(200_000)]


def arm(share: float = 0.05) -> PhantomArm:
    return PhantomArm("flights", EvidenceConfig(aa_slice=share, aa_round=Seconds(ROUND)))


def drawn(phantom: PhantomArm, at: float) -> set[str]:
    labels = {unit: phantom.draw(unit, at) for unit in UNITS}
    return {unit for unit, label in labels.items() if label is not None and label.drawn}


def three_sigma(n: int, share: float) -> float:
    return 3.0 * math.sqrt(n * share * (1.0 - share))


def test_off_it_labels_nothing() -> None:
    assert PhantomArm("flights", EvidenceConfig()).draw("a", 0.0) is None


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_the_share_lies_within_three_sigma_and_is_logged(share: float) -> None:
    phantom = arm(share)
    label = phantom.draw("a", 2.5 * ROUND)
    assert label is not None
    assert (label.round, label.propensity) == (2, share)
    assert abs(len(drawn(phantom, 0.0)) - share * len(UNITS)) <= three_sigma(len(UNITS), share)


def test_a_unit_keeps_its_label_in_a_round_and_draws_anew_in_the_next() -> None:
    phantom = arm()
    first, later, following = (drawn(phantom, at) for at in (0.0, ROUND - 1.0, ROUND))
    assert first == later
    assert abs(len(first & following) - 0.05**2 * len(UNITS)) <= three_sigma(len(UNITS), 0.05**2)


def test_labels_are_independent_of_the_arms() -> None:
    salt = assignment.salt("flights", "flights-r0001")
    treated = {unit for unit in UNITS if assignment.bucket(salt, unit) in assignment.buckets(0, 1, 0.10)}
    both = len(treated & drawn(arm(), 0.0))
    assert abs(both - 0.005 * len(UNITS)) <= three_sigma(len(UNITS), 0.005)


def test_another_process_labels_alike() -> None:
    code = (
        "from gauntlet.config.evidence import EvidenceConfig; from router.phantom_arm import PhantomArm;"
        "p = PhantomArm('flights', EvidenceConfig(aa_slice=0.25));"
        "print([p.draw(f'u{i}', 1e9).drawn for i in range(40)])"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    here = PhantomArm("flights", EvidenceConfig(aa_slice=0.25))
    labels = [here.draw(f"u{i}", 1e9) for i in range(40)]
    assert shown.stdout.strip() == str([label is not None and label.drawn for label in labels])
