"""How outcomes become labels."""

from __future__ import annotations

from typing import Literal

from gauntlet.config.section import Section


class OutcomesConfig(Section, frozen=True, kw_only=True):
    """Which of several outcomes of one prediction is its label."""

    correction: Literal["first", "last"] = "first"
    """`first`: the first one, at once. `last`: the latest that comes within `evidence.outcome_horizon`, counted when
    that is over."""
