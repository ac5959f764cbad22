"""Thresholds of the drift rules. A rule needs an effect AND the evidence for it; both thresholds stand here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

Mode = Literal["gated", "simple"]
"""`gated`: an effect AND evidence. `simple`: the bare thresholds, for comparison."""
SIMPLE_P = 0.05
"""False-discovery rate of the bare p value rule."""
_POSITIVE = ("concept_rise", "concept_z", "performance_z")
"""The settings that may be above 1; every other number with a fraction is a share."""


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """Raises ValueError for values out of range."""

    mode: Mode = "gated"
    """`simple`: thresholds without evidence, without looks in a row and without the reference's own limits."""
    ks: float = 0.15
    """Smallest Kolmogorov-Smirnov distance of a numeric feature that matters."""
    total_variation: float = 0.15
    """Smallest total variation of a categorical feature that matters."""
    alpha: float = 1e-4
    """False-discovery rate of one look over all features and windows; small, as there is a look at every pane."""
    batch_alpha: float = 0.05
    """False-discovery rate over the features when two whole tables are compared once."""
    outliers: float = 0.05
    """Share of rows beyond three standard deviations that matters."""
    unseen: float = 0.05
    """Share of values the reference never had that matters, over what a sample of its size leaves unseen."""
    missing: float = 0.05
    """Rise of a feature's share of missing, mistyped and infinite cells that matters."""
    quality_alarm: float = 0.80
    """Quality score under which the severity is at least MEDIUM."""
    quality_block: float = 0.70
    """Quality score under which rows may not be trained on."""
    quality_critical: float = 0.60
    """Quality score under which the severity is CRITICAL."""
    concept_rise: float = 0.15
    """Relative rise of the mean loss of a window that matters; CRITICAL beyond twice this."""
    concept_z: float = 4.0
    """Standard errors between a rise and zero (to be CRITICAL: and the threshold)."""
    transition: float = 0.10
    """Absolute change of a transition probability that matters."""
    accuracy_fall: float = 0.05
    """Relative fall of the accuracy that matters."""
    r2_fall: float = 0.05
    """Relative fall of R² that matters."""
    rmse_rise: float = 0.10
    """Relative rise of the RMSE that matters."""
    performance_z: float = 2.326
    """Normal quantile of the one-sided 99 % bound of a change of performance between two tables; a stream, which is
    looked at again and again, takes `concept_z`."""
    many_features: float = 0.10
    """Importance-weighted share of drifted features from which covariate drift is MEDIUM."""
    most_features: float = 0.50
    """The share from which, together with a loss of performance, it is CRITICAL."""
    confirm: int = 2
    """Looks in a row that raise or clear a signal."""
    hysteresis: float = 0.8
    """A raised signal clears below this share of its threshold."""
    cooldown_rows: int = 1024
    """Rows after a close before the same severity is announced again, unless its evidence is certain; rows after the
    end of a loss before an episode that stays open for other reasons is de-escalated."""
    renew_rows: int = 16_384
    """Rows that an open episode must stay below any other severity before it is de-escalated."""
    accept_after: int = 0
    """Rows after which stable covariate drift without a loss of performance becomes the accepted reference of a stream;
    0: only by `Monitor.accept`."""
    fewest_rows: int = 50
    """Present values that a window needs before a feature's distribution is judged."""

    @property
    def simple(self) -> bool:
        return self.mode == "simple"

    @property
    def limits(self) -> Mapping[str, float]:
        """Signed relative change of each performance metric that matters."""
        return {"accuracy": -self.accuracy_fall, "r2": -self.r2_fall, "rmse": self.rmse_rise}

    def __post_init__(self) -> None:
        if self.mode not in ("gated", "simple"):
            raise ValueError(f"mode is gated or simple, not {self.mode!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float) and field.name not in _POSITIVE and not 0.0 < value <= 1.0:
                raise ValueError(f"{field.name} must be above 0 and at most 1, got {value}")
        if min(getattr(self, name) for name in _POSITIVE) <= 0:
            raise ValueError(f"{', '.join(_POSITIVE)} must be above 0")
        if self.accept_after < 0:
            raise ValueError(f"accept_after must be at least 0, got {self.accept_after}")
        if self.confirm < 1 or min(self.cooldown_rows, self.renew_rows) < 0 or self.fewest_rows < 1:
            raise ValueError("confirm and fewest_rows are at least 1, cooldown_rows and renew_rows at least 0")
