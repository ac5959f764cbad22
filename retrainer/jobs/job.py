"""One retraining job in a process of its own: collect → split → train → compare on the holdout → register → answer.

Killed anywhere and started again it ends with at most one version registered (found again by the job's id in its note).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

import gauntlet
from gauntlet import adapters
from gauntlet.clock import lasting
from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import RecipeConfig
from gauntlet.errors import DamagedFile, GauntletError, LogUnavailable, RegistryUnavailable
from gauntlet.faults import explained
from gauntlet.holdout.statistics import Floats
from gauntlet.losses import loss
from gauntlet.registry import MOST_ROWS, ModelStore, Reference, Registry, Version
from gauntlet.registry.artifact import Predictor, Schema
from gauntlet.registry.model_inputs import algorithm
from gauntlet.types import Rule
from retrainer.jobs import dataset, training
from retrainer.jobs.dataset import JobRows
from retrainer.jobs.job_dir import WITHDRAWN, Answer, JobFolder, Spec
from retrainer.jobs.judgement import judge_holdout
from retrainer.jobs.progress import ProgressWriter, Reporter, Stage
from retrainer.jobs.quality import quality
from retrainer.jobs.search import search

_RETRY_SECONDS = 1.0

_T = TypeVar("_T")


def registered(registry: ModelStore, job: str) -> Version | None:
    return next((v for v in registry.versions() if v.note == job), None)


def split(
    rows: JobRows, end: float, settings: RetrainConfig, champion_saw_to: float | None, *, search: bool = False
) -> tuple[JobRows, JobRows, JobRows]:
    """Training, validation and test rows, in time order, by the last `validation` and `test` days up to `end`.

    Without a search nothing is tuned on the validation days: they are part of the holdout, and there are no validation
    rows. Rows that the champion was fitted on (up to `champion_saw_to`) are not a holdout: it would look better on them
    than it is. Without a search they are trained on, so that the new model has seen no less than the champion.
    """
    start = end - settings.validation - settings.test
    held_out = end - settings.test if search else start
    first = held_out if champion_saw_to is None else max(held_out, np.nextafter(champion_saw_to, np.inf))
    return rows.between(-np.inf, start if search else first), rows.between(start, held_out), rows.between(first, np.inf)


def work(spec: Spec, rows: JobRows, registry: Registry, report: Reporter, judge: Callable[[Answer], None]) -> Answer:
    """Train, compare, register; `judge` is called with the holdout's answer before anything is registered.

    Raises `GauntletError` for whatever makes the job fail, except for rows: either way nothing was registered.
    """
    settings = spec.config.retrain
    champion = registry.load(spec.champion)
    recipe, searched, seen = spec.recipe, bool(spec.recipe.search), registry.get(spec.champion).data_to
    train, validation, holdout = split(rows, spec.matured, settings, seen, search=searched)
    sizes = _sizes(rows, train=train, validation=validation, holdout=holdout)
    parts = {"to train on": train, **({"to choose by": validation} if searched else {}), "held out": holdout}
    checked = checked_rows(spec, champion.schema, registry, rows, parts)
    if checked.error is not None:
        return msgspec.structs.replace(checked, split={**sizes, **checked.split})
    began = time.monotonic()
    if searched:
        recipe, _ = search(champion, recipe, settings, spec.config.metric, train, validation, report)
        train = rows.between(-np.inf, spec.matured - settings.test)
    report("train", f"training on {len(train):,} rows")
    model, schema = training.fit(champion, recipe, settings, train)
    seconds = time.monotonic() - began
    report("compare", f"comparing on {len(holdout):,} held-out rows")
    challenger = Predictor(model, schema, spec.job)
    found, answers = judge_holdout(spec.config, champion, challenger, holdout)
    judged = msgspec.structs.replace(
        found,
        training_seconds=seconds,
        warnings=[*found.warnings, *training.warnings(model), *training.unweighted(model, recipe, settings, train)],
        split={**sizes, **checked.split},
    )
    if not judged.accepted:
        return judged
    judge(judged)
    reference = _reference(spec, challenger, train, holdout, answers)  # its losses are of rows it was not fitted on
    if settings.rule is Rule.REFRESH:
        report("refit", f"refitting on all {len(rows):,} rows")
        model, schema = training.fit(champion, recipe, settings, rows)
        train = rows
    report("register", "registering")
    register = functools.partial(
        registry.register,
        model,
        schema,
        created_at=spec.now,
        reference=reference,
        note=spec.job,
        parent=spec.champion,
        algorithm=algorithm(model),
        code_version=gauntlet.__version__,
        rows=len(train),
        data_from=train.times[0],
        data_to=train.times[-1],
        metrics=judged.metrics["challenger"],
        parameters=_parameters(spec, recipe),
    )
    # An answer of the registry that was lost must not register twice.
    version = _answered(lambda: registered(registry, spec.job) or register(), report, "register")
    return msgspec.structs.replace(judged, version=version.version)


def checked_rows(spec: Spec, schema: Schema, registry: Registry, rows: JobRows, parts: Mapping[str, JobRows]) -> Answer:
    """Whether the rows can be learned from: an answer with the error where they are too few or too bad, else without
    one; in `split` the quality of the worst part."""
    settings = spec.config.retrain
    if min(map(len, parts.values())) < settings.min_data_points:
        counted = " and ".join(f"{len(part):,} {name}" for name, part in parts.items())
        wanted = f"{settings.min_data_points:,} of each wanted"
        out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(rows.skipped.items()))
        left = f"; left out: {out}" if out else ""
        until = _until_trainable(rows, parts["to train on"], spec)
        return Answer(error=f"not enough labelled rows{_within(spec.window)}: {counted}, {wanted}{until}{left}")
    reference: Reference | None = None
    with contextlib.suppress(DamagedFile):  # what drift is measured by says so itself; a job can do without
        reference = registry.reference(spec.champion)
    unusable = rows.skipped.get("unusable", 0)
    found = min((quality(part, schema, reference, unusable) for part in parts.values()), key=lambda one: one.score)
    block, split = settings.triggers.quality.block, {"quality": found.score}
    if found.score < block:
        return Answer(error=f"{found}; {block:g} wanted", split=split, alert="data_quality_low")
    return Answer(split=split)


def _answered(call: Callable[[], _T], report: Reporter, stage: Stage) -> _T:
    """What the call returns; a registry that does not answer is waited for (the job's time limit bounds the wait)."""
    while True:
        try:
            return call()
        except RegistryUnavailable as error:
            report(stage, f"waiting for the registry: {error}")
            time.sleep(_RETRY_SECONDS)


def _until_trainable(rows: JobRows, train: JobRows, spec: Spec) -> str:
    """When there are rows enough to train on, where those that are there have only to get older; else nothing."""
    settings = spec.config.retrain
    least, held_out = settings.min_data_points, float(settings.validation + settings.test)
    if len(train) >= least or len(rows) < least:
        return ""
    wait = rows.times[least - 1] + held_out - spec.matured
    return f"; the newest {lasting(held_out)} are held out, so that there are rows to train on in {lasting(wait)}"


def _within(window: float) -> str:
    return f" in the last {lasting(window)}" if math.isfinite(window) else ""


def _sizes(rows: JobRows, **parts: JobRows) -> dict[str, float]:
    """How many rows each part has, and their times; the validation rows only where a search chose by them."""
    used = {name: part for name, part in parts.items() if len(part) or name != "validation"}
    sizes = {f"{name}_rows": float(len(part)) for name, part in used.items()}
    for name, part in used.items():
        if len(part):
            sizes |= {f"{name}_from": part.times[0], f"{name}_to": part.times[-1]}
    return sizes | {f"skipped_{reason}": float(count) for reason, count in rows.skipped.items()}


def _reference(spec: Spec, challenger: Predictor, train: JobRows, holdout: JobRows, outputs: Floats) -> Reference:
    """Drift reference of the new version: the newest rows as they came, with its predictions where it was not
    fitted on them."""
    rows, unseen = [*train.features, *holdout.features], len(train)
    valid = challenger.valid(outputs)
    truth, losses = training.truths(challenger.schema, holdout), np.full(len(holdout), np.nan)
    losses[valid] = loss(spec.config.metric, outputs[valid], truth[valid])
    predicted = [output if ok else None for output, ok in zip(outputs.tolist(), valid.tolist(), strict=True)]
    lost = [value if ok else None for value, ok in zip(losses.tolist(), valid.tolist(), strict=True)]
    newest = slice(-MOST_ROWS, None)
    return Reference(
        columns={f.name: [row.get(f.name) for row in rows[newest]] for f in challenger.schema.features},
        at=[*train.times, *holdout.times][newest],
        outputs=[*[None] * unseen, *predicted][newest],
        truths=[*[None] * unseen, *truth.tolist()][newest],
        losses=[*[None] * unseen, *lost][newest],
    )


def _parameters(spec: Spec, recipe: RecipeConfig) -> dict[str, str]:
    """What the model was made with, for its record; of a search the parameters that it chose."""
    settings = spec.config.retrain
    trainer = recipe.trainer or settings.trainer
    code = {"trainer": trainer, "loader": settings.loader}
    return {
        "recipe": recipe.name,
        "seed": str(settings.seed),
        "trainer": trainer or "clone",
        "data": _data_version(spec),
        **({"loader": settings.loader} if settings.loader else {}),
        **{f"{what}_sha256": training.code_of(one, f"retrain.{what}") for what, one in code.items() if one},
        **({"rows": settings.rows} if settings.rows != "all" else {}),
        **{name: str(value) for name, value in recipe.parameters.items()},
    }


def _data_version(spec: Spec) -> str:
    """The log's offsets up to which the rows were read: with the window they name the data exactly."""
    return ",".join(f"{name}:{end}" for name, end in sorted(spec.ends.items()) if end)


async def collect(spec: Spec, registry: ModelStore, report: Reporter) -> JobRows:
    """The window's rows; an outage of the log is waited out (the job's time limit bounds the wait)."""
    schema, config = registry.get(spec.champion).schema, spec.config
    while True:
        try:
            reader = await adapters.log_reader(config)
            try:
                return await dataset.collect(
                    reader,
                    schema,
                    config.experiment,
                    spec.begin,
                    spec.matured,
                    config.evidence.outcome_horizon,
                    spec.ends,
                    champion_only=config.retrain.rows == "champion",
                )
            finally:
                await reader.close()
        except LogUnavailable as error:
            report("collect", f"waiting for the event log: {error}")
            await asyncio.sleep(_RETRY_SECONDS)


def _with_history(spec: Spec, registry: ModelStore, logged: JobRows) -> JobRows:
    """The log's rows, after those of the user's loader where there is one."""
    if spec.config.retrain.loader is None:
        return logged
    from retrainer.jobs import loader  # here: it brings pandas and pyarrow, and a retrainer starts without

    schema = registry.get(spec.champion).schema
    return loader.with_history(spec.config, spec.config.retrain.loader, schema, spec.begin, spec.matured, logged)


@contextlib.contextmanager
def _growing() -> Iterator[None]:
    """Without garbage collection, which would walk all the rows again and again as they come; they stay to the end.
    Afterwards it is seldom: a model's input is as many objects again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(100_000)
        gc.enable()


def run(folder: JobFolder) -> Answer:
    """Do the job in `folder`, or what is left of it, and write the answer. Failures are answers, too."""
    try:
        answer = folder.answer()
        if answer is not None:
            return answer
        spec = folder.spec()
        registry, report = adapters.registry(spec.config), ProgressWriter(folder, spec)
        version = _answered(lambda: registered(registry, spec.job), report, "collect")
        judged = folder.judged()
        if version is not None and judged is not None:  # an earlier start got as far as registering
            answer = msgspec.structs.replace(judged, version=version.version)
        else:
            report("collect", "collecting rows")
            with _growing():
                rows = _with_history(spec, registry, asyncio.run(collect(spec, registry, report)))
            answer = work(spec, rows, registry, report, folder.judge)
    except GauntletError as error:
        answer = Answer(error=str(error))
    except OSError as error:
        answer = Answer(error="; ".join(explained(error)))
    folder.finish(answer)
    return answer


def _awaited(folder: JobFolder) -> int:
    """The exit code of a job that another process does, once that has ended with an answer."""
    while (answer := folder.answer()) is None:
        time.sleep(_RETRY_SECONDS)
    return 1 if answer.error else 0


def main(arguments: list[str] | None = None) -> int:
    """`python -m retrainer.jobs.job SPEC.json`: 0 when there is an answer (also a rejection), 1 when it failed."""
    parser = argparse.ArgumentParser(prog="retrainer.jobs.job", description="One retraining job, from its spec file")
    parser.add_argument("spec", type=Path, help="the job's spec.json; its folder gets the answer")
    parser.add_argument("--wait", action="store_true", help="do nothing, and wait until another process has done it")
    options = parser.parse_args(arguments)
    folder = JobFolder(options.spec.parent)
    try:
        if options.wait:
            return _awaited(folder)
        with folder.locked():
            if folder.withdrawn:  # while it waited for a machine
                parser.exit(WITHDRAWN, f"{folder.path.name} was given up by the retrainer: there is nothing to do\n")
            with folder.beating():
                answer = run(folder)
    except OSError as error:  # not even its answer can be written; the retrainer tells the last line
        parser.exit(1, "; ".join(explained(error)) + "\n")
    return 1 if answer.error else 0


if __name__ == "__main__":
    sys.exit(main())
