"""Realised gains of promotions, as the status, the history and the retrainer's report present them. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from gauntlet.promotion_ledger import Entry, Ledger, Lineage, Split
from gauntlet.rollout import Control
from gauntlet.status import moment


class PromotionWorth(msgspec.Struct, frozen=True, kw_only=True):
    """One promotion, named by its rollout: by how much the loss of `champion` was below that of `previous` on the
    requests that both answered, with limits that hold at all times.

    state: open while pairs still come, closed, or taken_back. until: the end of the latest time that is counted. split:
    the same by the reverse holdout, where there is one.
    """

    promotion: str
    champion: str
    previous: str
    state: Literal["open", "closed", "taken_back"]
    since: datetime | None
    until: datetime | None
    pairs: int
    gain: float
    lower: float | None = None
    upper: float | None = None
    split: Split | None = None


def promotions(ledger: Ledger, control: Control | None) -> list[PromotionWorth]:
    """The ledger's entries, the newest first."""
    return [_promotion(entry, control) for entry in reversed(ledger.entries)]


def lineage(ledger: Ledger, control: Control | None) -> Lineage | None:
    """The lineage of the champion that serves; None where the evaluator has not met it yet."""
    found = ledger.lineage
    return found if found is not None and control is not None and found.champion == control.champion else None


def _promotion(entry: Entry, control: Control | None) -> PromotionWorth:
    watched = control.promotion if control else None
    ended = {each.id: each.state for each in control.ended} if control else {}
    state: Literal["open", "closed", "taken_back"] = "closed"
    if watched is not None and watched.rollout == entry.promotion:
        state = "open"
    elif ended.get(entry.promotion) == "rolled_back":
        state = "taken_back"
    shared = {name: getattr(entry, name) for name in ("promotion", "champion", "previous", "pairs", "gain", "split")}
    return PromotionWorth(
        **shared,
        state=state,
        since=moment(entry.since),
        until=moment(entry.until),
        lower=entry.lower,
        upper=entry.upper,
    )


def sentence(one: PromotionWorth) -> str:
    """One promotion in a line: who over whom, the gain with its interval, on how much, and when."""
    days = f", {_day(one.since)} to {_day(one.until)}"
    days += ", too few blocks for an interval" if one.lower is None and one.upper is None else ""
    return (
        f"{one.champion} over {one.previous}: {figures(one.gain, one.lower, one.upper)} on {one.pairs:,} pairs{days} "
        f"({STATES[one.state]}){held_out(one.split)}"
    )


STATES = {"open": "goes on", "closed": "over", "taken_back": "taken back"}
"""The states of a ledger's entry in words; an interval's open side is another matter."""


def held_out(split: Split | None) -> str:
    """The clause with the reverse holdout's gain; empty without one."""
    if split is None:
        return ""
    gain = figures(split.gain, split.lower, split.upper)
    return f"; reverse holdout: {gain} on {split.units:,} units against {split.held_out:,} held out"


def lineage_sentence(lineage: Lineage) -> str:
    """The links from the first model to the champion added, in a line, and what such a sum is not."""
    notes = []
    if lineage.links > 1:
        notes.append("each measured in its own time: one that wears off counts in full")
    if lineage.unknown:
        notes.append(f"{lineage.unknown} {'have' if lineage.unknown > 1 else 'has'} too few blocks for an interval")
    together = figures(lineage.gain, lineage.lower, lineage.upper)
    links = "1 link" if lineage.links == 1 else f"{lineage.links} links added"
    of = f" ({'; '.join(notes)})" if notes else ""
    return f"{lineage.base} to {lineage.champion}, {links}: {together}{of}"


def figures(gain: float, lower: float | None, upper: float | None) -> str:
    """A gain with its limits; one that is not known is left open."""
    if lower is None and upper is None:
        return f"{gain:+.4g} [no interval]"
    low, high = ("open" if limit is None else f"{limit:+.4g}" for limit in (lower, upper))
    return f"{gain:+.4g} [{low}, {high}]"


def _day(at: datetime | None) -> str:
    return "?" if at is None else f"{at:%Y-%m-%d}"
