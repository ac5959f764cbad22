"""Thresholds of the drift rules. Every rule is an effect AND evidence: both numbers stand here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["gated", "simple"]
"""`gated`: every rule is an effect AND evidence. `simple`: the bare thresholds, for comparison."""
SIMPLE_P = 0.05
"""False-discovery rate of the bare p value rule."""


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """Raises ValueError for values that can't be meant."""

    mode: Mode = "gated"
    """`simple` takes the thresholds below without their evidence, looks in a row or the reference's own limits."""
    ks: float = 0.15
    """Smallest Kolmogorov-Smirnov distance of a numeric feature that matters."""
    total_variation: float = 0.15
    """Smallest total variation of a categorical feature that matters."""
    alpha: float = 1e-4
    """False-discovery rate of one look over all features and windows. Small, for there is a look every pane."""
    batch_alpha: float = 0.05
    """False-discovery rate over the features when two whole tables are compared once."""
    outliers: float = 0.05
    """Share of rows beyond three standard deviations that matters, over the reference's own."""
    unseen: float = 0.05
    """Share of values the reference never had that matters, over what a sample of its size leaves unseen."""
    missing: float = 0.05
    """Rise of the share of missing, mistyped and infinite cells of a feature that matters."""
    quality_alarm: float = 0.80
    """Quality score under which the severity is at least MEDIUM."""
    quality_block: float = 0.70
    """Quality score under which nothing may be learned from the rows."""
    quality_critical: float = 0.60
    """Quality score under which the severity is CRITICAL."""
    concept_rise: float = 0.15
    """Relative rise of the windowed mean error that matters; beyond twice this it is CRITICAL."""
    concept_z: float = 4.0
    """Standard errors a rise must be from zero (from the threshold, to be CRITICAL)."""
    transition: float = 0.10
    """Absolute change of a transition probability that matters."""
    accuracy_fall: float = 0.05
    """Relative fall of the accuracy that matters."""
    r2_fall: float = 0.05
    """Relative fall of R² that matters."""
    rmse_rise: float = 0.10
    """Relative rise of the RMSE that matters."""
    performance_z: float = 2.326
    """Of the one-sided bound a change of performance must exclude when tables are compared once: 99 %. A stream, which
    is looked at again and again, takes `concept_z`."""
    many_features: float = 0.10
    """Importance-weighted share of drifted features from which data drift is MEDIUM."""
    most_features: float = 0.50
    """The share from which, together with a breach, it is CRITICAL."""
    confirm: int = 2
    """Looks in a row that raise or clear a signal."""
    hysteresis: float = 0.8
    """A raised signal clears below this share of its threshold."""
    cooldown_rows: int = 1024
    """Rows after a close before the same severity is announced again, unless its evidence is certain."""
    renew_rows: int = 16_384
    """Rows that an open episode must have been below a severity before it is announced again."""
    accept_after: int = 0
    """Rows for which moved inputs must stand, without news and with outcomes that show no loss, to become the second,
    accepted reference of a stream; 0: only when asked."""
    fewest_rows: int = 50
    """Present values below which a window says nothing of a feature's distribution."""

    @property
    def simple(self) -> bool:
        """Whether thresholds go without evidence."""
        return self.mode == "simple"

    @property
    def limits(self) -> Mapping[str, float]:
        """Relative change of each metric of performance that matters, signed."""
        return {"accuracy": -self.accuracy_fall, "r2": -self.r2_fall, "rmse": self.rmse_rise}

    def __post_init__(self) -> None:
        if self.mode not in ("gated", "simple"):
            raise ValueError(f"mode is gated or simple, not {self.mode!r}")
        shares = (
            "ks",
            "total_variation",
            "alpha",
            "outliers",
            "unseen",
            "missing",
            "quality_alarm",
            "quality_block",
            "quality_critical",
            "batch_alpha",
            "transition",
            "accuracy_fall",
            "r2_fall",
            "rmse_rise",
        )
        for name in (*shares, "many_features", "most_features", "hysteresis"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        if self.concept_rise <= 0 or self.concept_z <= 0 or self.performance_z <= 0:
            raise ValueError("concept_rise, concept_z and performance_z must be above 0")
        if self.accept_after < 0:
            raise ValueError(f"accept_after must be at least 0, got {self.accept_after}")
        if self.confirm < 1 or min(self.cooldown_rows, self.renew_rows) < 0 or self.fewest_rows < 1:
            raise ValueError("confirm and fewest_rows are at least 1, cooldown_rows and renew_rows at least 0")
