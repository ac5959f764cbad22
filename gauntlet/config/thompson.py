"""Thompson allocation of the ramp's traffic: off by default."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gauntlet.config.section import Fraction, Positive, Seconds, Section, check


class ThompsonConfig(Section, frozen=True, kw_only=True):
    """Shares on the ramp follow the probability of being the best, each up to what its stage allows.

    A ramp collects less evidence on what looks worse; evidence in pairs does not depend on the shares."""

    enabled: bool = False
    floor: Annotated[float, Meta(ge=0.001, le=0.1)] = 0.01
    """Least share of the ramp's traffic for each arm on it, the champion among them."""
    burn_in: Positive = 100
    """Outcomes of each challenger before the shares follow anything; until then each has what its stage allows."""
    every: Seconds = Seconds(6 * 3_600)
    """Least time between two changes of a challenger's share, its stage's included."""
    least_change: Fraction = 0.05
    """Of what the stage allows: a smaller change of a share waits, because each is a new allocation."""

    def __post_init__(self) -> None:
        check(self.every > 0, "`every` must be greater than 0")
