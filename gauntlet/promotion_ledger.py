"""The ledger of promotions: the realised gain of each, and of all together. Records only.

The evaluator writes it, from requests that both the promoted champion and the previous one have answered. Everything
is in units of the primary loss per request; positive means that the promotion was a gain.
"""

from __future__ import annotations

import msgspec


class Split(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the reverse holdout says of a promotion: the mean difference between `units` of the new champion and the
    `held_out` that stayed with the one before, each on its own requests. Chance had drawn them, so it is causal."""

    units: int
    held_out: int
    gain: float
    lower: float | None = None
    upper: float | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One promotion, named by its rollout: by how much the loss of `champion` was below that of `previous`.

    number: its place among all promotions, from 1. since, until: event times of the first and the latest pair.
    lower, upper: limits that hold at all times at once, each with 1 - `alpha`; None while blocks are too few.
    lineage_lower, lineage_upper: wider ones, at the part of the level that this link of the lineage has. split: where
    some units were held out and enough outcomes of them count.
    """

    promotion: str
    champion: str
    previous: str
    number: int
    since: float
    until: float
    pairs: int
    gain: float
    alpha: float
    lower: float | None = None
    upper: float | None = None
    lineage_lower: float | None = None
    lineage_upper: float | None = None
    split: Split | None = None


class Lineage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The sum of the links between `base` and the present champion.

    Each link was measured in its own time: the sum is the gain against `base` only where every one has lasted. What an
    earlier link would be worth today nobody has measured; where models age, the sum is far above it. Promotions that
    were taken back are not links. The limits are the sums of the links' limits, whose levels add up to `alpha` on each
    side; None where a link has none (`unknown` of them).
    """

    base: str
    champion: str
    links: int
    gain: float
    alpha: float
    lower: float | None = None
    upper: float | None = None
    unknown: int = 0


class Ledger(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All promotions that are kept, the oldest first, and the lineage of the champion that serves."""

    entries: list[Entry] = []
    lineage: Lineage | None = None

    def of(self, promotion: str | None) -> Entry | None:
        """The entry of the promotion that ended this rollout."""
        return next((each for each in self.entries if each.promotion == promotion), None)
