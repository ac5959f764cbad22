"""HTTP port settings, shared by all services."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gauntlet.config.section import Positive, Seconds, Section, check


class HttpConfig(Section, frozen=True, kw_only=True):
    """What any client may ask of a service's HTTP port, whoever it is; beyond it a request is refused and counted."""

    max_connections: Positive = 512
    """When they are reached, the one that has nothing to be answered and would expire first gives way."""
    max_headers: Positive = 100
    max_header_bytes: Annotated[int, Meta(ge=1024)] = 32 * 2**10
    """Request line and headers."""
    header_timeout: Seconds = Seconds(10)
    """From a connection's first moment, or a request's first byte, to the end of the headers."""
    body_timeout: Seconds = Seconds(30)
    write_timeout: Seconds = Seconds(30)
    """For an answer to be taken."""
    keep_alive: Seconds = Seconds(5)
    """How long a connection is kept between two requests."""

    def __post_init__(self) -> None:
        for name in ("header_timeout", "body_timeout", "write_timeout", "keep_alive"):
            check(getattr(self, name) > 0, f"`{name}` must be greater than 0")
