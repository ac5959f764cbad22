"""The `drift` section of the configuration: thresholds, and what is watched.

A threshold has the name and the default of the same field of `evaluator.drift.DriftSettings`, which is built from it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gauntlet.config.section import Count, Fraction, Section, check


class DriftConfig(Section, frozen=True, kw_only=True):
    """What counts as drift. Every threshold is ANDed with evidence; see docs/benchmarks.md for what that costs."""

    enabled: bool = True
    mode: Literal["gated", "simple"] = "gated"
    """`simple` takes the thresholds without evidence: for comparison, it alarms on noise."""
    ks: Fraction = 0.15
    """Kolmogorov-Smirnov distance of a numeric feature from the reference."""
    total_variation: Fraction = 0.15
    """Total variation distance of a categorical feature from the reference."""
    outliers: Fraction = 0.05
    missing: Fraction = 0.05
    quality_alarm: Fraction = 0.80
    quality_block: Fraction = 0.70
    transition: Fraction = 0.10
    concept_rise: Annotated[float, Meta(gt=0)] = 0.15
    accuracy_fall: Fraction = 0.05
    r2_fall: Fraction = 0.05
    rmse_rise: Fraction = 0.10
    regimes: list[str] = []
    """Features whose transitions from one request to the next are watched: only where requests come in an order that
    means something, through one router."""
    season: Literal["hour", "weekday"] | None = None
    """Numbers are held against the reference's of the same hour or weekday (UTC)."""
    accept_after: Count = 20_000
    """Rows after which moved inputs are the new normal, where the outcomes show no loss; 0: never."""
    pane: Annotated[int, Meta(ge=16, le=4096)] = 256
    """Rows in one pane, the step in which windows move."""
    reference_rows: Annotated[int, Meta(ge=100)] = 5000
    """Rows that become the reference when the champion came without one."""

    def __post_init__(self) -> None:
        check(self.quality_block <= self.quality_alarm, "`quality_block` must be at most `quality_alarm`")
