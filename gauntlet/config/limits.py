"""Upper limits of numeric settings: beyond them a setting is meaningless or exhausts a service's memory. Pure.

Lower limits stand with the types. The sections `retrain` and `notify`, and all durations, have limits of their own.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from gauntlet.config.section import check

if TYPE_CHECKING:
    from gauntlet.config import Config

_OUTCOMES = (10**12, "no experiment has more outcomes")
_BLOCKS = (10**6, "no experiment lasts longer")
_TIMES = (10**6, "such a rise never comes")
_SHARE = (10**6, "no model is worse by more")

MOST: dict[str, tuple[float, str]] = {
    "router.max_body_bytes": (2**31, "a request is held in memory whole"),
    "router.max_instances": (10**6, "a request is answered as one batch"),
    "router.shadow_queue": (10**6, "what waits is held in memory"),
    "router.breaker.window": (10**6, "its calls are held in memory"),
    "http.max_connections": (10**6, "no process has more sockets"),
    "http.max_headers": (10**4, "a request is held in memory whole"),
    "http.max_header_bytes": (2**24, "a request is held in memory whole"),
    "evidence.min_samples": _OUTCOMES,
    "evidence.min_blocks": _BLOCKS,
    "evidence.min_harm_blocks": _BLOCKS,
    "evidence.gross_margin": _SHARE,
    "evidence.min_effect": _SHARE,
    "evidence.margin": (10**12, "no metric differs by more"),
    "shadow.challengers": (1024, "each is a model in memory"),
    "shadow.min_outcomes": _OUTCOMES,
    "thompson.burn_in": _OUTCOMES,
    "refresh.margin": _SHARE,
    "bake.max_drop": _TIMES,
    "bake.min_outcomes": _OUTCOMES,
    "drift.concept_rise": _TIMES,
    "drift.accept_after": (10**12, "no experiment has more rows"),
    "drift.reference_rows": (10**6, "they are held in memory"),
}


def refuse_beyond(config: Config) -> None:
    """Raise `ValueError` for a number beyond its limit, or that is none."""
    for name, (most, why) in MOST.items():
        check(attrgetter(name)(config) <= most, f"`{name}` must be at most {most:,}: {why}")
    most, why = _OUTCOMES
    for ladder, stages in (("ramp", config.ramp), ("refresh.ramp", config.refresh.ramp)):
        short = all(stage.min_outcomes <= most for stage in stages)
        check(short, f"`{ladder}` must have `min_outcomes` of at most {most:,}: {why}")
