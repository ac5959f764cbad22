"""Consistency of settings: combinations that could never promote, retrain, roll back or answer are refused. Pure.

Each setting may be valid by itself; a refusal names them with their numbers. A combination that is merely useless gets
a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from os.path import normpath
from typing import TYPE_CHECKING

from gauntlet.clock import lasting
from gauntlet.config.evidence import EXTENSION, MIN_CYCLES, MIN_HOLDOUT_BLOCKS, RATES
from gauntlet.config.rehearsal import pace
from gauntlet.config.section import check, span
from gauntlet.types import Role, Task

if TYPE_CHECKING:
    from gauntlet.config import Config

_LARGEST = {"accuracy": 1.0, "brier": 2.0, "recall": 1.0, **dict.fromkeys(RATES, 1.0)}
"""The most by which two models can differ in a bounded metric."""


def refuse_impossible(config: Config) -> None:
    """Raise ValueError for settings of which nothing can come."""
    _promotion(config)
    _guardrails(config)
    _rollback(config)
    _holdout(config)
    _retraining(config)
    _access(config)
    _columns_and_paths(config)


def _promotion(config: Config) -> None:
    evidence = config.evidence
    horizon, longest, win = float(evidence.outcome_horizon), evidence.longest_block, evidence.earliest_win
    check(
        horizon > 0 or config.clock == "events",
        "`evidence.outcome_horizon` must be greater than 0: no outcome comes at the time of its prediction",
    )
    if evidence.block.auto:
        check(
            evidence.duration >= longest,
            f"`evidence.duration` ({span(evidence.duration)}) must be at least `evidence.cycle` ({span(longest)})",
        )
        check(
            win <= EXTENSION * evidence.max_duration,
            f"`evidence.max_duration` ({span(evidence.max_duration)}) is too short: a test ends after twice that, "
            f"and a win needs {MIN_CYCLES} times `evidence.cycle` and `evidence.outcome_horizon`, {lasting(win)}",
        )
    else:
        check(
            longest <= evidence.max_duration,
            f"`evidence.block` ({span(longest)}) must be at most `evidence.max_duration` "
            f"({span(evidence.max_duration)})",
        )
    check(
        evidence.form == "split" or config.router.shadow_queue > 0,
        "`router.shadow_queue` must be greater than 0 with `evidence.form: paired`, or nothing is ever paired",
    )
    most = _LARGEST.get(config.metric, inf)
    check(
        evidence.margin < most,
        f"`evidence.margin` must be less than {most:g}, the most by which {config.metric} can differ: every challenger "
        f"would count as equivalent with {evidence.margin:g}",
    )


def _guardrails(config: Config) -> None:
    for guard in config.guardrails:
        most = _LARGEST.get(guard.metric, inf)
        check(
            guard.margin < most,
            f"`guardrails` must have a margin less than {most:g} for {guard.name}, the most by which it can differ: "
            f"with {guard.margin:g} it guards nothing (a percentage is written as a share)",
        )
        check(
            not config.evidence.require_safe or guard.margin > 0 or guard.metric not in ("fallback_rate", "error_rate"),
            f"`guardrails` must have a margin greater than 0 for {guard.name} with `evidence.require_safe`: that no "
            "request at all fails can't be shown, so that nothing would be promoted",
        )


def _rollback(config: Config) -> None:
    bake, evidence = config.bake, config.evidence
    if not bake.time:  # no bake
        return
    seen = evidence.longest_block + float(evidence.outcome_horizon)
    check(
        bake.time >= seen,
        f"`bake.time` ({span(bake.time)}) must be at least a block of outcomes and `evidence.outcome_horizon`, "
        f"{lasting(seen)}: the watch would end before the first outcome of the promoted model counts",
    )
    check(
        bake.window >= evidence.finest_block,
        f"`bake.window` ({span(bake.window)}) must be at least the finest block of outcomes "
        f"({span(evidence.finest_block)}), or it never holds one",
    )
    check(
        config.task is Task.REGRESSION or bake.max_drop < 1,
        f"`bake.max_drop` must be less than 1, the most by which accuracy can fall, not {bake.max_drop:g} (a "
        "percentage is written as a share)",
    )


def _holdout(config: Config) -> None:
    held, most = config.worth.holdout, max(config.ramp[-1].share, config.refresh.ramp[-1].share)
    if not held:
        return
    check(
        config.shadow.fraction > 0,
        "`shadow.fraction` must be greater than 0 with `worth.holdout`: its effect stands beside that of pairs",
    )
    check(
        config.slots * most + held <= 1 + 1e-9,
        f"`worth.holdout` must be at most {1 - config.slots * most:.4g}: those who are held out are units that no "
        "challenger had on the ramp",
    )


def _retraining(config: Config) -> None:
    retrain, longest = config.retrain, config.evidence.longest_block
    if not retrain.enabled:
        return
    every = retrain.schedule.every if retrain.schedule else None
    hours = (every or 0.0) * pace(config.profile) / 3_600
    check(
        every is None or hours > 1 - 1e-9,
        f"`retrain.schedule` must have an `every` of an hour or more, not {span(3_600 * hours)}",
    )
    holdout = retrain.validation + retrain.test
    check(
        holdout >= MIN_HOLDOUT_BLOCKS * longest,
        f"`retrain.validation` and `retrain.test` together ({span(holdout)}) must hold at least {MIN_HOLDOUT_BLOCKS} "
        f"blocks of outcomes (of {span(longest)}, by `evidence.{'cycle' if config.evidence.block.auto else 'block'}`), "
        f"or the gate can't answer: they hold {holdout / longest:.3g}",
    )
    for recipe in retrain.recipes:
        check(
            not recipe.search or retrain.test >= MIN_HOLDOUT_BLOCKS * longest,
            f"`retrain.test` ({span(retrain.test)}) must hold at least {MIN_HOLDOUT_BLOCKS} blocks of outcomes (of "
            f"{span(longest)}), because the validation days choose in the search of {recipe.name}",
        )
        check(
            not recipe.window or recipe.window > holdout,
            f"`retrain.recipes` must have windows longer than `validation` and `test` together ({span(holdout)}): "
            f"{recipe.name} would have nothing to train on within {span(recipe.window or 0)}",
        )
    most = _LARGEST.get(config.metric, inf)
    check(
        retrain.min_improvement < most,
        f"`retrain.min_improvement` must be less than {most:g}, the most by which {config.metric} can improve, not "
        f"{retrain.min_improvement:g} (a percentage is written as a share)",
    )


def _access(config: Config) -> None:
    if not config.keys:
        return
    highest = max(key.role.rank for key in config.keys)
    check(
        highest >= Role.INGEST.rank,
        "`keys` must have one with the role ingest, operator or admin: no request could be made with these",
    )
    approval = config.shadow.approval or any(stage.approval for stage in config.ramp)
    check(
        not approval or highest >= Role.OPERATOR.rank,
        "`keys` must have one with the role operator or admin: a stage waits for an approval, which nobody could give",
    )


def _columns_and_paths(config: Config) -> None:
    champion = config.champion
    paths = {"data": config.data, "champion.model": champion.model, "champion.reference": champion.reference}
    named = [(name, normpath(path)) for name, path in paths.items() if path is not None]
    for place, (name, path) in enumerate(named):
        for other, before in named[:place]:
            check(before != path, f"`{name}` must be another path than `{other}`, {path}")
    check(
        champion.target is None or champion.target != champion.time,
        f"`champion.time` must be another column than `champion.target`, {champion.target!r}",
    )
    check(
        champion.target is None or champion.target not in [spec.name for spec in config.feature_specs()],
        f"`features` must leave out `champion.target`, {champion.target!r}: a request would have to bring its outcome",
    )


def useless(config: Config) -> Iterator[str]:
    """Notes on settings that are given and have no effect beside the others."""
    evidence, champion, default = config.evidence, config.champion, type(config.evidence)()
    without = ("min_blocks",) if evidence.block.auto else ("cycle", "duration", "max_duration")
    mode = "auto" if evidence.block.auto else span(evidence.block)
    for name in without:
        if getattr(evidence, name) != getattr(default, name):
            yield f"evidence.{name} has no effect with `evidence.block: {mode}`"
    if evidence.aa_round is not None and not evidence.aa_slice:
        yield "evidence.aa_round has no effect with `evidence.aa_slice: 0`"
    if not config.thompson.enabled and config.thompson != type(config.thompson)():
        yield "thompson has no effect without `thompson.enabled`"
    if champion.reference is None:
        for name in ("target", "time", "held_out"):
            if getattr(champion, name):
                yield f"champion.{name} has no effect without `champion.reference`"
    if config.retrain.enabled and not config.drift.enabled and config.retrain.schedule is None:
        yield "retrain.enabled: no job starts by itself with `drift.enabled: false`"
    win, longest = evidence.earliest_win, EXTENSION * evidence.max_duration
    if not evidence.block.auto and win > longest:
        yield (
            f"evidence.min_blocks: a win needs {lasting(win)} of outcomes, more than twice max_duration, "
            f"{lasting(longest)}"
        )
    if config.retrain.enabled and config.retrain.cool_down > EXTENSION * evidence.max_duration:
        yield (
            f"retrain.cool_down: {span(config.retrain.cool_down)} pass between a rollout's end and the next job, more "
            f"than a rollout ever takes ({lasting(EXTENSION * evidence.max_duration)})"
        )
