"""The watch over a promoted champion: pure rules from its health to a rollback, a confirmation or the watch's end.

Back to the previous champion when the new one is shown to be worse than that on the same requests since its promotion:
one test for the whole watch, valid at all times, so a harmless promotion is taken back with `harm_alpha` at
most, in the bake and after it together. In the bake also where it falls below its reference and the previous one,
scored on the same requests, has not fallen as far. Confirmed when the bake's time is over.
"""

from __future__ import annotations

from gauntlet.config import Config
from gauntlet.events import Health
from gauntlet.rollout import Bake, Command, Control, Promotion
from gauntlet.types import Task
from retrainer import ACTOR

_DIGITS = 12
"""0.52 - 0.05 is 0.47, and a fall to it is none of more than 0.05, whatever the machine makes of it."""


def watch(control: Control, health: Health, config: Config) -> Command | None:
    """The command that the champion's health asks for while it is watched, or None."""
    watched, bake = control.promotion, control.bake
    if watched is None or health.model != control.champion or health.at < watched.since:
        return None
    reason = _harm(control, watched, health, config) or (_fall(control, bake, health, config) if bake else None)
    if reason is not None:
        # Without a version it would be about a rollout that already tries the next challenger.
        version = control.previous if control.rollouts else None
        return _command("rollback", watched, health, f"{reason}: {control.previous} takes over again", version)
    if bake is not None and health.at >= bake.until:
        return _command("confirm", watched, health, f"{control.champion} has held what it showed through its bake time")
    if bake is None and health.at >= watched.until:
        reason = f"{control.champion} has been compared with {control.previous} for the declared time"
        return _command("close", watched, health, reason)
    return None


def _harm(control: Control, watched: Promotion, health: Health, config: Config) -> str | None:
    """Why the champion is shown to be worse than the previous one since its promotion; else None."""
    upper = health.realised_upper if health.promotion == watched.rollout else None
    if upper is None or upper >= 0 or not (control.bake is not None or config.worth.revert):
        return None
    return (
        f"worse than {control.previous} since the promotion by {-(health.realised_gain or 0):.4g} (at least "
        f"{-upper:.4g}) over {health.realised_pairs:,} pairs"
    )


def _fall(control: Control, bake: Bake, health: Health, config: Config) -> str | None:
    """Why the champion in its bake is too far below what it has shown, where the previous one is not; else None."""
    if control.previous is None or not _is_known(health, control.previous, config):
        return None
    shown = bake.reference  # empty when an operator promoted: then the champion of before is the measure
    if not shown and health.previous == control.previous and health.previous_outcomes >= config.bake.min_outcomes:
        shown = health.previous_window
    loss = degradation(health.window, shown, config)
    if loss is None or is_global_shift(health, control.previous, config):
        return None
    return f"{loss} over {health.window_outcomes:,} outcomes"


def _is_known(health: Health, previous: str, config: Config) -> bool:
    """Whether there are outcomes enough to judge a fall: of both, where the champion of before is scored."""
    scored = health.previous_outcomes if health.previous == previous else 0
    least = config.bake.min_outcomes
    return health.window_outcomes >= least and not 0 < scored < least


def _command(name: str, watched: Promotion, health: Health, reason: str, version: str | None = None) -> Command:
    return Command(name=name, actor=ACTOR, reason=reason, rollout=watched.rollout, version=version, evidence=health.id)


def degradation(window: dict[str, float], reference: dict[str, float], config: Config) -> str | None:
    """Why the watched champion is too far below `reference`, or None: accuracy by its fall, RMSE by its rise."""
    drop = config.bake.max_drop
    if config.task is Task.CLASSIFICATION:
        shown, now = reference.get("accuracy"), window.get("accuracy")
        if shown is not None and now is not None and now < round(shown - drop, _DIGITS):
            return f"accuracy fell from {shown:.4f} to {now:.4f} (more than {drop:g})"
        return None
    shown, now = _rmse(reference), _rmse(window)
    if shown is not None and now is not None and now > round(shown * (1 + drop), _DIGITS):
        return f"RMSE rose from {shown:.6g} to {now:.6g} (more than {drop:.0%})"
    return None


def is_global_shift(health: Health, previous: str, config: Config) -> bool:
    """Whether `previous`, the champion of before, scored in shadow on the same requests, would not have done better: in
    the primary metric, which the promotion was decided on, or by as much as may be lost. Then it is a shift for both
    models, and what is left between them is for the paired comparison to say. False where it is not scored."""
    if health.previous != previous or health.previous_outcomes < config.bake.min_outcomes:
        return False
    ours, theirs = (_primary_loss(window, config.metric) for window in (health.window, health.previous_window))
    if ours is not None and theirs is not None and ours <= theirs:
        return True
    return bool(health.previous_window) and degradation(health.window, health.previous_window, config) is None


def _primary_loss(window: dict[str, float], metric: str) -> float | None:
    """The primary metric so that less is better."""
    if metric == "accuracy":
        return -window["accuracy"] if "accuracy" in window else None
    return _rmse(window) if metric == "mse" else window.get(metric)


def _rmse(metrics: dict[str, float]) -> float | None:
    if "rmse" in metrics:
        return metrics["rmse"]
    squared = metrics.get("mse")
    return None if squared is None or squared < 0 else float(squared**0.5)
