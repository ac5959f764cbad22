"""Who is told of alerts and decisions, and how. No secret stands in the file: environment variables hold them."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from gauntlet.config.section import Section, check


class NotifyConfig(Section, frozen=True, kw_only=True):
    """One target. It has exactly one of `apprise`, `webhook` and `handler`."""

    name: str
    """As it stands in the delivery log."""
    severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"] = "MEDIUM"
    """From this severity on."""
    apprise: str | None = None
    """Environment variable with an address of apprise: slack://…, mailto://…, msteams://…, pagerduty://…"""
    webhook: str | None = None
    """Address that gets a signed POST (Standard Webhooks)."""
    secret: str | None = None
    """Environment variable with the webhook's secret, whsec_…; several, separated by spaces, while one is replaced."""
    handler: str | None = None
    """`module:function`, called with the notice as a mapping."""

    def __post_init__(self) -> None:
        ways = [way for way in (self.apprise, self.webhook, self.handler) if way is not None]
        check(len(ways) == 1, f"{self.name!r} must have exactly one of `apprise`, `webhook` and `handler`")
        check(bool(self.name.strip()), "`name` must not be empty")
        check(
            (self.webhook is None) == (self.secret is None),
            f"{self.name!r}: `secret` names the environment variable with the secret that signs a `webhook`",
        )
        if self.webhook is not None:
            parts = urlsplit(self.webhook)
            check(
                parts.scheme in ("http", "https") and bool(parts.hostname),
                f"{self.name!r}: `webhook` must be http://… or https://…",
            )
            check(parts.username is None, f"{self.name!r}: `webhook` must hold no password; its `secret` signs it")
