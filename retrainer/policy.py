"""What to do about a look at the evidence: pure rules from (control record, evaluation or health) to a command or none.

Promotion needs a win that has crossed its boundary; everything that is unclear holds. `now` is the event's own time.
"""

from __future__ import annotations

from gauntlet.config import Config
from gauntlet.events import Evaluation, Health
from gauntlet.rollout import SHADOW_STAGE, Command, Control, Rollout
from gauntlet.types import CHALLENGER, Result, Task

ACTOR = "retrainer"

SRM_ALPHA = 0.01
"""Always-valid p value below which an `invalid` verdict is a broken split: no more traffic will mend it."""

EXTENSION = 2.0
"""`inconclusive: extend` goes on to this many times the planned evidence, and no further."""


def decide(control: Control, event: Evaluation | Health, config: Config, now: float) -> Command | None:
    """The command that `event` asks for in this state, or None for hold.

    An evaluation of a rollout that is not running, or of other models, is old news and asks for nothing.
    """
    if isinstance(event, Health):
        return _watch(control, event, config, now)
    rollout = control.rollout
    if rollout is None or event.rollout != rollout.id:
        return None
    if (event.champion, event.challenger) != (control.champion, rollout.challenger):
        return None
    return _rollout(rollout, event, config, now)


def _rollout(rollout: Rollout, look: Evaluation, config: Config, now: float) -> Command | None:
    crossed = look.crossed
    if crossed == Result.WORSE or look.result == Result.WORSE:
        # Where it is not the primary metric that shows the harm, the reasons begin with the guardrail that does.
        shown = "" if crossed == Result.WORSE or not look.reasons else f" ({look.reasons[0]})"
        return _command("rollback", rollout, look, f"the challenger does harm{shown}")
    if rollout.paused:
        return None
    if look.result == Result.INVALID:
        if look.srm_p_value is not None and look.srm_p_value < SRM_ALPHA:
            why = f"the arms' traffic does not match its shares (sequential p = {look.srm_p_value:.2g})"
            return _command("pause", rollout, look, why)
        return None
    won = crossed == Result.BETTER
    if not won and look.result == Result.EQUIVALENT:
        return _command("archive", rollout, look, "the challenger is no better and no worse: the champion stays")
    limit = EXTENSION if won or config.evidence.inconclusive == "extend" else 1.0
    gaining = look.effect is not None and look.effect > 0
    if look.information_fraction >= limit and not (won and gaining):
        why = "the win did not last" if won else "the planned evidence is complete and shows no winner"
        return _command("archive", rollout, look, f"{why}: the champion stays")
    if look.holds or not gate_passed(rollout, look, config, now):
        return None
    if not rollout.last_stage:
        ahead = "ahead beyond its boundary" if won else "no harm seen"
        why = f"stage {rollout.stage} ({rollout.share:.2%}) has passed its gate, {ahead}"
        return _command("advance", rollout, look, why)
    if not (won and gaining):
        return None
    challenger = look.arms.get(CHALLENGER)
    return _command(
        "promote",
        rollout,
        look,
        "the challenger is better and has passed the whole ramp",
        bake_seconds=float(config.bake.time),
        reference=challenger.metrics if challenger else None,
    )


def gate_passed(rollout: Rollout, look: Evaluation, config: Config, now: float) -> bool:
    """Whether the rollout's stage may be left: its time, its matured outcomes and its approval.

    A look at or before the stage's start says nothing about the stage, so one look never passes two gates.
    """
    gate = rollout.gate
    if now <= rollout.stage_since or now - rollout.stage_since < gate.min_seconds:
        return False
    if gate.approval and rollout.stage not in rollout.approved:
        return False
    return matured(rollout, look, config) >= gate.min_outcomes


def matured(rollout: Rollout, look: Evaluation, config: Config) -> float:
    """Outcomes that count for the gate: pairs in shadow (without shadow scoring there are none to wait for), the
    challenger's own on the ramp."""
    challenger = look.arms.get(CHALLENGER)
    own = challenger.outcomes if challenger else 0
    if rollout.stage != SHADOW_STAGE:
        return own
    return max(look.pairs, own) if config.shadow.fraction > 0 else float("inf")


def _watch(control: Control, health: Health, config: Config, now: float) -> Command | None:
    """The bake: back to the previous champion when the new one falls below what it showed; settled in the end."""
    bake = control.bake
    if bake is None or health.model != control.champion or health.at < bake.since:
        return None
    if control.previous is not None and health.window_outcomes >= config.bake.min_outcomes:
        shown = bake.reference  # empty when an operator promoted: then the champion of before is the measure
        if not shown and health.previous == control.previous and health.previous_outcomes >= config.bake.min_outcomes:
            shown = health.previous_window
        fall = fallen(health.window, shown, config)
        if fall is not None and not worldwide(health, control.previous, config):
            reason = f"{fall} over {health.window_outcomes:,} outcomes: {control.previous} takes over again"
            # Without a version it would be about a rollout that already tries the next challenger.
            version = control.previous if control.rollout is not None else None
            return Command(
                name="rollback", actor=ACTOR, reason=reason, rollout=bake.rollout, version=version, evidence=health.id
            )
    if health.at >= bake.until:
        reason = f"{control.champion} has held what it showed through its bake time"
        return Command(name="settle", actor=ACTOR, reason=reason, rollout=bake.rollout, evidence=health.id)
    return None


def fallen(window: dict[str, float], reference: dict[str, float], config: Config) -> str | None:
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


def worldwide(health: Health, previous: str, config: Config) -> bool:
    """Whether `previous`, the champion of before, scored in shadow on the same requests, does no better: then the world
    has changed, and going back would not help. Unknown where it was not scored."""
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
    squared = metrics.get("squared_error")
    return None if squared is None or squared < 0 else float(squared**0.5)


def _command(
    name: str,
    rollout: Rollout,
    look: Evaluation,
    why: str,
    *,
    bake_seconds: float = 0.0,
    reference: dict[str, float] | None = None,
) -> Command:
    return Command(
        name=name,
        actor=ACTOR,
        reason=f"{why}: {figures(look)}",
        rollout=rollout.id,
        from_stage=rollout.stage,
        evidence=look.id,
        bake_seconds=bake_seconds,
        reference=reference or {},
    )


def figures(look: Evaluation) -> str:
    """The look's numbers in words: effect with its interval, blocks, pairs, share of the planned evidence."""
    if look.effect is None:
        effect = f"no effect on {look.metric} known yet"
    else:
        effect = f"{look.metric} effect {look.effect:+.4g}"
        if look.lower is not None and look.upper is not None:
            effect += f" [{look.lower:+.4g}, {look.upper:+.4g}]"
    counts = [f"{look.blocks} blocks", f"{look.information_fraction:.0%} of the planned evidence"]
    if look.pairs:
        counts.insert(1, f"{look.pairs:,} pairs")
    return f"{effect} after {', '.join(counts)}"
