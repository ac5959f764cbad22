"""Which model in shadow makes room for a new one. Pure."""

from __future__ import annotations

from gauntlet.rollout import Command, Control, Rollout

GENERATIONS = 3
"""Models of one recipe that may be in shadow at once."""


def gives_way(control: Control, command: Command) -> tuple[Rollout, ...]:
    """The rollout in whose place a new challenger begins; empty where none has to go, or none may.

    Of those of one recipe the youngest gives way, when there are `GENERATIONS` already, or no room: it has the least
    evidence, and the new one was trained alike and later. The oldest never does, however fast new models come, so that
    one is always on its way to a verdict. Where there is no room for a model of another recipe, or for one that is
    handed in, the youngest that has an older one of its recipe beside it makes some.
    """
    alike = tuple(r for r in control.rollouts if r.recipe is not None and r.recipe == command.recipe and r.in_shadow)
    full = len(control.rollouts) >= command.most
    if len(alike) > 1 and (full or len(alike) >= GENERATIONS):
        return alike[-1:]
    return replaceable(control)[-1:] if full else ()


def replaceable(control: Control) -> tuple[Rollout, ...]:
    """The rollouts that may give way: models in shadow with an older one of their recipe beside them, oldest first."""
    waiting = [r for r in control.rollouts if r.in_shadow and r.recipe is not None]
    return tuple(r for n, r in enumerate(waiting) if any(r.recipe == other.recipe for other in waiting[:n]))
