"""Records of the answers to a plan and a simulation.

Invariant: effects are in the metric's own units and sign; days count from the first unit of the form's own traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evaluator.offline.records import PlainRecord


@dataclass(frozen=True)
class FormPlan:
    """One form of the test. min_samples is what goes into the configuration: outcomes of the challenger, or pairs.

    outcomes are all matured ones at the planned end, champion's and challenger's its parts (a pair is one of each);
    fixed_* are those of the classical test with one look; expected_* are means under the planned effect. variance is
    that of the score per unit of information, and includes design_effect. detectable is found with the wanted power.
    """

    form: str
    min_samples: int
    information: float
    outcomes: float
    champion: float
    challenger: float
    days: float
    blocks: int
    looks: int
    power: float
    detectable: float | None
    variance: float
    design_effect: float
    fixed_outcomes: float
    fixed_days: float
    expected_outcomes: float
    expected_days: float


@dataclass(frozen=True)
class OperatingCharacteristics:
    """Operating characteristics of the test at one true effect. fixed_power is that of one look at the same horizon.

    days, outcomes, challenger and exposed (the challenger's traffic by then, matured or not) are means at the end;
    half_by and most_by are the days by which half and nine tenths of such tests have ended.
    """

    name: str
    effect: float
    challenger_value: float
    better: float
    worse: float
    fixed_power: float
    days: float
    half_by: float
    most_by: float
    outcomes: float
    challenger: float
    exposed: float


@dataclass(frozen=True)
class ReferenceTest:
    """Outcomes and days that a test needs to find the planned effect with the planned power."""

    name: str
    outcomes: float
    challenger: float
    days: float


@dataclass(frozen=True)
class Milestone:
    """The state of the evidence at one look: its share of the horizon, and the bounds for z (None: none yet)."""

    day: float
    share: float
    fraction: float
    bound_better: float | None
    bound_worse: float | None


@dataclass(frozen=True)
class PlanReport(PlainRecord):
    """The answer of `gauntlet plan`. other: the other form, None where it can't be planned; other_assumed: the arms'
    agreement was taken for none, as it was not given."""

    settings: dict[str, Any]
    form: FormPlan
    other: FormPlan | None
    other_assumed: bool
    effects: tuple[OperatingCharacteristics, ...]
    stopping: tuple[OperatingCharacteristics, ...]
    reference_tests: tuple[ReferenceTest, ...]
    progress: tuple[Milestone, ...]
    curve: tuple[OperatingCharacteristics, ...]
    notes: tuple[str, ...]

    @property
    def min_samples(self) -> int:
        return self.form.min_samples


@dataclass(frozen=True)
class Share:
    """A share of the runs with Clopper and Pearson's 99 % limits. planned is what the closed forms say.

    allowed: where the true rate may not exceed a level, the largest count of runs that is still plausible (p >= 0.001)
    at that level; held says that there were no more.
    """

    count: int
    share: float
    lower: float
    upper: float
    planned: float | None
    level: float | None = None
    allowed: int | None = None
    held: bool | None = None


@dataclass(frozen=True)
class Scenario:
    """Simulated runs at one true effect. Percentiles of days are (10 %, 50 %, 90 %).

    estimate is the mean estimate at the end, bias its distance from the truth, winners_bias that of the runs that ended
    better. covered: the interval at the end holds the truth.
    """

    name: str
    effect: float
    better: Share
    worse: Share
    undecided: Share
    days: float
    planned_days: float
    day_percentiles: tuple[float, float, float]
    outcomes: float
    challenger: float
    estimate: float | None
    bias: float | None
    bias_error: float | None
    winners_bias: float | None
    covered: Share
    ends: tuple[tuple[float, int, int, int], ...]
    """(day, runs that ended better, worse, undecided), for each day on which one ended."""


@dataclass(frozen=True)
class SimulationReport(PlainRecord):
    """The answer of `gauntlet simulate`."""

    settings: dict[str, Any]
    world: dict[str, float]
    mode: str
    runs: int
    seed: int
    min_samples: int
    days: float
    looks: int
    scenarios: tuple[Scenario, ...]
    notes: tuple[str, ...]

    @property
    def held(self) -> bool:
        """No error rate was above its level by more than chance explains."""
        return all(s.held is not False for one in self.scenarios for s in (one.better, one.worse, one.covered))

    def to_dict(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {**super().to_dict(), "held": self.held}
