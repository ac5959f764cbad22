"""The reason that a command must have: one rule for the state machine, both APIs and the command line. Pure."""

from __future__ import annotations

from gauntlet.errors import BadInput

LONGEST = 500
"""Characters."""


def is_blank(reason: str) -> bool:
    """Whether nobody could read anything in it."""
    return not reason.strip()


def stated(reason: str) -> str:
    """The reason as it is recorded, without blanks around it. Raises `BadInput`."""
    if is_blank(reason):
        raise BadInput("`reason` is blank: say why, it stands in the history", code="reason_missing")
    if len(reason) > LONGEST:
        raise BadInput(f"`reason` has {len(reason):,} characters, {LONGEST} are the most", code="bad_request")
    return reason.strip()
