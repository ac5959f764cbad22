"""The `drift` section of the configuration: thresholds, and what is watched.

A threshold has the name and the default of the same field of `evaluator.drift.DriftSettings`, which is built from it.
"""

from __future__ import annotations

from typing import Literal

from gauntlet.config.section import Section, check


class DriftConfig(Section, frozen=True, kw_only=True):
    """What counts as drift. Every threshold is ANDed with evidence; see docs/benchmarks.md for what that costs."""

    enabled: bool = True
    mode: Literal["gated", "simple"] = "gated"
    """`simple` takes the thresholds without evidence: for comparison, it alarms on noise."""
    ks: float = 0.15
    """Kolmogorov-Smirnov distance of a numeric feature from the reference."""
    total_variation: float = 0.15
    """Total variation distance of a categorical feature from the reference."""
    outliers: float = 0.05
    missing: float = 0.05
    quality_alarm: float = 0.80
    quality_block: float = 0.70
    transition: float = 0.10
    concept_rise: float = 0.15
    accuracy_fall: float = 0.05
    r2_fall: float = 0.05
    rmse_rise: float = 0.10
    regimes: list[str] = []
    """Features whose transitions from one request to the next are watched: only where requests come in an order that
    means something, through one router."""
    season: Literal["hour", "weekday"] | None = None
    """Numbers are held against the reference's of the same hour or weekday (UTC)."""
    accept_after: int = 20_000
    """Rows after which moved inputs are the new normal, where the outcomes show no loss; 0: never."""
    pane: int = 256
    """Rows in one pane, the step in which windows move."""
    reference_rows: int = 5000
    """Rows that become the reference when the champion came without one."""

    def __post_init__(self) -> None:
        for name in (
            "ks",
            "total_variation",
            "outliers",
            "missing",
            "quality_alarm",
            "quality_block",
            "transition",
            "accuracy_fall",
            "r2_fall",
            "rmse_rise",
        ):
            check(0 < getattr(self, name) < 1, f"{name} is in (0, 1)")
        check(self.quality_block <= self.quality_alarm, "quality_block is at most quality_alarm")
        check(self.concept_rise > 0, "concept_rise is above 0")
        check(self.accept_after >= 0, "accept_after is at least 0")
        check(16 <= self.pane <= 4096, "pane is from 16 to 4096 rows")
        check(self.reference_rows >= 100, "reference_rows is at least 100")
