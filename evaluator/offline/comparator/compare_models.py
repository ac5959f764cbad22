"""A comparison from models and a table to the report: read and predict, bootstrap, slices, latency, decision."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from evaluator.offline.comparator import curves, decision, effects, holdout, models
from evaluator.offline.comparator.effects import Bootstrap
from evaluator.offline.comparator.holdout import HeldOutRows
from evaluator.offline.comparator.models import ComparedModel
from evaluator.offline.comparator.result import Better, ComparisonReport, MetricEffect, MetricImprovement, Role
from evaluator.offline.comparator.settings import ComparatorError, ComparatorSettings, Requirement
from evaluator.offline.records import to_plain
from gauntlet.holdout import metrics
from gauntlet.holdout.bootstrap import blocks_of
from gauntlet.holdout.metrics import HoldoutRows
from gauntlet.latency import Latency, timed
from gauntlet.spelling import alike, did_you_mean
from gauntlet.table import Table
from gauntlet.types import Task

_FEW_BLOCKS = 14
_ALONE = 0.9  # clusters a row, from which on a column puts hardly any rows together
_REPEATED = 0.05  # share of rows that equal an earlier one, from which it is noted


def run(
    baseline: str | Path | object,
    candidate: str | Path | object,
    table: Table,
    settings: ComparatorSettings,
    progress: Callable[[int], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ComparisonReport:
    """Raises BadInput for what was asked wrongly, `ModelUnusable` for a model that can't be used."""
    champion, challenger = models.contenders(
        baseline, candidate, holdout.features_of(table.kinds(), settings), settings
    )
    classes = [str(one) for one in champion.schema.classes]
    known = metrics.names(champion.schema.task, classes)
    requirements = settings.requirements(known[0])
    _check_names(requirements, known)
    read = holdout.read(table, champion, challenger, settings, progress)
    block, blocks = blocks_of(read.unit, settings.seed)
    rows = HoldoutRows(champion.schema.task, classes, read.truth, block, blocks)
    bootstrap = Bootstrap(settings.alpha, settings.repetitions, settings.seed)
    asked = [one.metric for one in requirements]
    ordered = list(dict.fromkeys([*asked, *_shown(known, rows)]))
    changes = _changes(effects.effects(ordered, *read.outputs, rows, bootstrap), requirements)
    inside = effects.slices(read.slices, asked[0], *read.outputs, rows, bootstrap)
    timing = _latency(champion, challenger, read, clock, settings) if settings.latency else None
    factors, primary = decision.factors(
        requirements,
        changes,
        inside,
        timing,
        alpha=settings.alpha,
        blocks=blocks,
        most_latency=settings.max_latency_increase,
        gaps=(champion.spectral_gap, challenger.spectral_gap),
    )
    answer, reasons = decision.decide(factors, primary)
    return ComparisonReport(
        decision=answer,
        reasons=reasons,
        primary=asked[0],
        metrics=changes,
        factors=tuple(factors),
        slices=inside,
        latency=timing,
        champion=champion.name,
        challenger=challenger.name,
        task=str(champion.schema.task),
        rows=len(read.truth),
        blocks=blocks,
        alpha=settings.alpha,
        notes=tuple(_notes(read, blocks, rows, settings)),
        settings=to_plain(settings),
        curves=curves.curves(dict(zip(models.ROLES, read.outputs, strict=True)), rows),
    )


def _check_names(requirements: Sequence[Requirement], known: Sequence[str]) -> None:
    for one in requirements:
        if one.metric not in known:
            hint = did_you_mean(one.metric, known) or f"there are {', '.join(known[:16])}"
            raise ComparatorError(f"--metric {one.metric}: no metric of this task; {hint}")


def _shown(known: Sequence[str], rows: HoldoutRows) -> list[str]:
    """The metrics to show: all but those of classes that the truth does not have."""
    absent = {one for i, one in enumerate(rows.classes) if i not in rows.occurring}
    return [name for name in known if name.partition("@")[2] not in absent]


def _changes(found: Mapping[str, MetricEffect], requirements: Sequence[Requirement]) -> dict[str, MetricImprovement]:
    asked = {one.metric: one for one in requirements}
    changes = {}
    for name, one in found.items():
        need = asked.get(name, Requirement(name))
        role: Role = "required"
        if need.threshold is None:
            role = "guardrail" if name in asked else "shown"
        elif need is requirements[0]:
            role = "primary"
        better: Better = "lower" if name in metrics.LOWER_IS_BETTER else "higher"
        changes[name] = MetricImprovement(
            **asdict(one), better=better, role=role, threshold=need.threshold, margin=need.margin
        )
    return changes


def _latency(
    champion: ComparedModel,
    challenger: ComparedModel,
    read: HeldOutRows,
    clock: Callable[[], float],
    settings: ComparatorSettings,
) -> Latency:
    calls = (lambda: champion.ask(read.batch)), (lambda: challenger.ask(read.batch))
    return timed(*calls, len(read.batch), clock, settings.max_latency_increase)


def _notes(read: HeldOutRows, blocks: int, rows: HoldoutRows, settings: ComparatorSettings) -> list[str]:
    """Notes for people on what weakens the answer."""
    found, units = [*read.unknown], int(read.unit.max()) + 1
    if read.unit_name == "row":
        found.append("rows are taken as independent; where those of a day or a customer err together, give --cluster")
        repeated, of = read.repeated
        if repeated > _REPEATED * of:
            found.append(
                f"{repeated:,} of {of:,} rows equal an earlier one in the truth and in every feature: if they are "
                "copies (a join, oversampling), the interval is too narrow, so leave them out, or name with --cluster "
                "what they are copies of"
            )
    elif settings.time is None and units > _ALONE * len(read.truth):
        found.append(
            f"--cluster {read.unit_name} has {units:,} values in {len(read.truth):,} rows, so that these count as "
            f"independent; if it has times, --time {read.unit_name} takes those of a day together"
        )
    elif blocks < _FEW_BLOCKS:
        found.append(f"{units} values of {read.unit_name} are few: only large improvements can be shown")
    if units > blocks:
        found.append(f"{units:,} independent units ({read.unit_name}) were put together into {blocks} blocks at random")
    for name, codes in read.slices.items():
        if said := alike(codes.values):
            found.append(f"--slice {name} has values in several spellings, each taken by itself: {said}")
    if rows.task is Task.CLASSIFICATION:
        absent = [one for i, one in enumerate(rows.classes) if i not in rows.occurring]
        found += [f"no row of class {', '.join(absent)}"] if absent else []
    if np.array_equal(*read.outputs):
        found.append("both models give the same answers to every row")
    return found
