"""Records of the answer to an analysis, the same in Python, JSON, text and HTML.

Invariant: effects, limits and z are in the metric's own units and signs, challenger − champion, whichever direction is
better; verdicts know the direction. A number that there is no evidence for is None, and the reasons say why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from evaluator.offline.records import PlainRecord


@dataclass(frozen=True, slots=True)
class LookPoint:
    """One look as a plot needs it. `rows` are the file's rows read by then; bounds are for z, None where no crossing
    was possible."""

    rows: int
    effect: float | None
    lower: float | None
    upper: float | None
    z: float | None
    bound_lower: float | None
    bound_upper: float | None


@dataclass(frozen=True, slots=True)
class ClassicalTest:
    """The classical test on all rows, for comparison: one planned look, independent units, constant shares."""

    z: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The look at which a boundary was first crossed, with the effect and its limits there."""

    look: int
    rows: int
    verdict: str
    effect: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """One challenger × metric × segment against the champion.

    `n` and `mean` by arm, under the arms' own names. `lower` and `upper` hold at all looks at once, so also where it
    stopped. `p_value` is always valid and two-sided; `adjusted_p_value` after the correction over the comparisons of
    the same role (None where none applies). `history` is the effect's way over the looks, for plots.
    """

    challenger: str
    metric: str
    segment: str | None
    kind: str
    direction: str
    role: str
    margin: float
    n: dict[str, int]
    mean: dict[str, float | None]
    effect: float | None
    lower: float | None
    upper: float | None
    z: float | None
    p_value: float | None
    adjusted_p_value: float | None
    fixed: ClassicalTest
    verdict: str
    reasons: tuple[str, ...]
    looks: int
    stopped: Stopped | None
    information_fraction: float | None
    blocks: int | None
    widening: float | None
    skewness: float | None
    history: tuple[LookPoint, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class SampleRatioResult:
    """Test of the arms' counts against their shares. `sequential_p_value` holds at any look, `p_value` at one."""

    p_value: float | None
    sequential_p_value: float | None
    mismatch: bool
    observed: dict[str, int]
    expected: dict[str, float]
    reason: str


@dataclass(frozen=True, slots=True)
class TrafficGuard:
    """Reading of a guard of the traffic: `ok` unless a breach is shown."""

    name: str
    ok: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Analysis(PlainRecord):
    """The answer to an analysis. `id` depends on the data's evidence and the settings alone."""

    id: str
    verdict: str
    reasons: tuple[str, ...]
    sample_ratio: SampleRatioResult | None
    comparisons: tuple[ArmComparison, ...]
    guards: tuple[TrafficGuard, ...]
    champion: str
    challengers: tuple[str, ...]
    mode: str
    alpha: float
    rows: int
    settings: dict[str, Any]
