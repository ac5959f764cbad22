"""The bake, the watch over a promoted champion: pure rules from its health to a rollback or a confirmation.

Back to the previous champion when the new one is worse than that on the same requests since its promotion, or falls
below its reference, unless the previous one, scored on the same requests, does no better; confirmed when the bake's
time is over.
"""

from __future__ import annotations

from gauntlet.config import Config
from gauntlet.events import Health
from gauntlet.rollout import Command, Control
from gauntlet.types import Task
from retrainer import ACTOR


def watch(control: Control, health: Health, config: Config) -> Command | None:
    """The command that the champion's health asks for during a bake, or None."""
    bake = control.bake
    if bake is None or health.model != control.champion or health.at < bake.since:
        return None
    if health.previous == control.previous and health.realised_upper is not None and health.realised_upper < 0:
        reason = (
            f"worse than {control.previous} since the promotion by {-(health.realised_gain or 0):.4g} (at least "
            f"{-health.realised_upper:.4g}) over {health.realised_pairs:,} pairs: that takes over again"
        )
        return _back(control, health, reason)
    if control.previous is not None and health.window_outcomes >= config.bake.min_outcomes:
        shown = bake.reference  # empty when an operator promoted: then the champion of before is the measure
        if not shown and health.previous == control.previous and health.previous_outcomes >= config.bake.min_outcomes:
            shown = health.previous_window
        loss = degradation(health.window, shown, config)
        if loss is not None and not is_global_shift(health, control.previous, config):
            return _back(
                control, health, f"{loss} over {health.window_outcomes:,} outcomes: {control.previous} takes over again"
            )
    if health.at >= bake.until:
        reason = f"{control.champion} has held what it showed through its bake time"
        return Command(name="confirm", actor=ACTOR, reason=reason, rollout=bake.rollout, evidence=health.id)
    return None


def _back(control: Control, health: Health, reason: str) -> Command:
    """Take the watched promotion back."""
    assert control.bake is not None, "only a bake is taken back"
    # Without a version it would be about a rollout that already tries the next challenger.
    version = control.previous if control.rollouts else None
    return Command(
        name="rollback", actor=ACTOR, reason=reason, rollout=control.bake.rollout, version=version, evidence=health.id
    )


def degradation(window: dict[str, float], reference: dict[str, float], config: Config) -> str | None:
    """Why the watched champion is too far below `reference`, or None: accuracy by its fall, RMSE by its rise."""
    drop = config.bake.max_drop
    if config.task is Task.CLASSIFICATION:
        shown, now = reference.get("accuracy"), window.get("accuracy")
        if shown is not None and now is not None and now < shown - drop:
            return f"accuracy fell from {shown:.4f} to {now:.4f} (more than {drop:g})"
        return None
    shown, now = _rmse(reference), _rmse(window)
    if shown is not None and now is not None and now > shown * (1 + drop):
        return f"RMSE rose from {shown:.6g} to {now:.6g} (more than {drop:.0%})"
    return None


def is_global_shift(health: Health, previous: str, config: Config) -> bool:
    """Whether `previous`, the champion of before, scored in shadow on the same requests, does no better: a shift for
    both models, so that going back would not help. False where it was not scored enough."""
    if health.previous != previous or health.previous_outcomes < config.bake.min_outcomes:
        return False
    if config.task is Task.CLASSIFICATION:
        before, now = health.previous_window.get("accuracy"), health.window.get("accuracy")
        return before is not None and now is not None and before <= now
    before, now = _rmse(health.previous_window), _rmse(health.window)
    return before is not None and now is not None and before >= now


def _rmse(metrics: dict[str, float]) -> float | None:
    if "rmse" in metrics:
        return metrics["rmse"]
    squared = metrics.get("mse")
    return None if squared is None or squared < 0 else float(squared**0.5)
