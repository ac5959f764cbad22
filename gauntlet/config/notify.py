"""Who is notified of alerts and decisions, and how. Secrets never stand in the file, only the names of environment
variables that hold them.
"""

from __future__ import annotations

from typing import Literal, get_args
from urllib.parse import urlsplit

from gauntlet.config.section import Section, check
from gauntlet.types import Channel


class NotifyConfig(Section, frozen=True, kw_only=True):
    """One target. It has exactly one of `apprise`, `webhook`, `handler` and `lineage`."""

    name: str
    """As it stands in the delivery log."""
    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"] = "MEDIUM"
    """From this severity on."""
    apprise: str | None = None
    """Environment variable with an address of apprise: slack://…, mailto://…, msteams://…, pagerduty://…"""
    webhook: str | None = None
    """Address that gets a signed POST (Standard Webhooks)."""
    secret: str | None = None
    """Environment variable with the webhook's secret, whsec_…; several, separated by spaces, while one is replaced. Of
    `lineage` the bearer token, if it wants one."""
    handler: str | None = None
    """`module:function`, called with the notice as a mapping."""
    lineage: str | None = None
    """Address that gets the jobs' runs as OpenLineage events, whatever the severity: https://…/api/v1/lineage."""

    def __post_init__(self) -> None:
        ways = [way for way in get_args(Channel) if getattr(self, way) is not None]
        check(len(ways) == 1, f"{self.name!r} must have exactly one of `apprise`, `webhook`, `handler` and `lineage`")
        check(bool(self.name.strip()), "`name` must not be empty")
        check(
            self.lineage is not None or (self.webhook is None) == (self.secret is None),
            f"{self.name!r}: `secret` names the environment variable with the secret that signs a `webhook`",
        )
        for way in ("webhook", "lineage"):
            address = getattr(self, way)
            if address is not None:
                parts = urlsplit(address)
                known = parts.scheme in ("http", "https") and bool(parts.hostname)
                check(known, f"{self.name!r}: `{way}` must be http://… or https://…")
                check(parts.username is None, f"{self.name!r}: `{way}` must hold no password; `secret` names its own")

    @property
    def channel(self) -> Channel:
        """Which of the four ways it goes."""
        channels: tuple[Channel, ...] = get_args(Channel)
        return next(way for way in channels if getattr(self, way) is not None)
