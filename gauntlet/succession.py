"""Which of the models that wait in shadow gives way to a new one. Pure."""

from __future__ import annotations

from gauntlet.rollout import Command, Control, Rollout

GENERATIONS = 3
"""Models of one recipe that may be in shadow at once."""


def gives_way(control: Control, command: Command) -> tuple[Rollout, ...]:
    """The rollout in whose place a new challenger begins; empty where none has to go, or none may.

    Of those of one recipe, the oldest gives way when there are `GENERATIONS` already, or no room: a schedule that is
    shorter than the way out of shadow would let nobody pass if each new model took the place of the last. Where there
    is no room for another model, the oldest one in shadow that has a younger one of its recipe beside it makes some.
    """
    alike = tuple(r for r in control.rollouts if r.recipe is not None and r.recipe == command.recipe and r.in_shadow)
    full = len(control.rollouts) >= command.most
    oldest = alike[:1] if full or len(alike) >= GENERATIONS else ()
    return _outdated(control)[:1] if full and not oldest else oldest


def _outdated(control: Control) -> tuple[Rollout, ...]:
    """Models in shadow that have a younger one of their recipe beside them, the oldest first."""
    waiting = [r for r in control.rollouts if r.in_shadow and r.recipe is not None]
    return tuple(r for n, r in enumerate(waiting) if any(r.recipe == other.recipe for other in waiting[n + 1 :]))
