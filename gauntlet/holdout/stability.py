"""The spectral gap of a regime model: how fast it forgets where it came from, and within what it is of use. Pure."""

from __future__ import annotations

LOWEST, HIGHEST = 0.1, 0.5
"""Below, its regimes hardly ever change; above, they mean little from one step to the next."""


def spectral_gap(model: object) -> float | None:
    """The spectral gap of a regime model, alone or inside a pipeline; None for every other model."""
    found = [getattr(part, "spectral_gap", None) for _, part in getattr(model, "steps", [("", model)])]
    return next((float(gap) for gap in found if isinstance(gap, float)), None)


def outside(gap: float) -> float:
    """How far a gap is outside the limits; 0 within them."""
    return max(LOWEST - gap, gap - HIGHEST, 0.0)
