"""The first start: registers the configured model as version 1 and creates the control record with it as champion.

Idempotent: a second start, or a second process at the same time, changes nothing. What has run is never begun again:
a control record that the state store has lost is put back, or the start is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gauntlet import adapters, control, control_copy, files, in_force, preflight, rollout
from gauntlet.config import ChampionConfig, Config
from gauntlet.errors import BadInput, ConfigError, ModelUnusable
from gauntlet.losses import loss
from gauntlet.registry import Reference, artifact, model_schema, trial
from gauntlet.registry.artifact import Feature, Predictor, Schema
from gauntlet.registry.model_inputs import algorithm
from gauntlet.registry.model_schema import Fitted
from gauntlet.registry.trial import Trial
from gauntlet.registry.unknown_texts import known_texts, unknown_texts
from gauntlet.rollout import Control
from gauntlet.state import StateStore
from gauntlet.structured_logging import get_logger
from gauntlet.types import Task

_log = get_logger("gauntlet")

_FEWEST_ROWS = 100  # of a reference: fewer say nothing about a distribution's tails


async def ensure(config: Config) -> Control:
    """The experiment's control record, made (with its champion) if this is the first start.

    Raises `ModelUnusable` or `ConfigError` with the path and the cause; then nothing was written. So for settings that
    would corrupt what has run in this data folder.
    """
    # Several processes may start at once; one registers.
    lock = await asyncio.to_thread(files.claim, adapters.data(config), "bootstrap", seconds=files.FOREVER)
    try:
        return await _ensure(config, adapters.state(config))
    finally:
        lock.release()


async def _ensure(config: Config, state: StateStore) -> Control:
    try:
        before = await in_force.read(config)
        if before is not None:
            in_force.refuse(config, before)
        found = await _recorded(config, state)
        if found is None:
            version = _register_champion(config)
            at = 0.0 if config.clock == "events" else time.time()
            _, found = await control.create(state, rollout.begin(config.experiment, version, at))
        if before is None:
            in_force.keep(config)
        return found
    finally:
        await state.close()


async def _recorded(config: Config, state: StateStore) -> Control | None:
    """The control record; where the state store has lost it, the router's copy, which is put back."""
    version, found = await control.read(state, config.experiment)
    known, copy = control_copy.read(config)
    if copy is None or known <= version:
        return found
    await control.restore(state, known, copy)
    _log.error(
        "control_restored",
        version=known,
        champion=copy.champion,
        reason=f"the state store ({config.state}) had lost the control record",
        next="the router's copy is in force; its history starts over",
    )
    return copy


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """A model that fits its configuration and has answered a row; and notes on what is probably not meant."""

    model: Any
    fitted: Fitted
    reference: Reference | None
    trial: Trial
    notes: tuple[str, ...] = ()


def read_champion(config: Config) -> Champion:
    """The configured model, what it takes and gives, its reference rows, and one prediction by it.

    Raises `ModelUnusable` or `ConfigError` for whatever a first start refuses.
    """
    settings = config.champion
    model = artifact.load(settings.model, trusted=settings.trusted, allow_pickle=settings.allow_pickle)
    features = [Feature(name=f.name, kind=f.kind, required=f.required) for f in config.feature_specs()]
    columns = _reference_kinds(settings)
    fitted = model_schema.read(model, config.task, features, config.classes, settings.input, columns)
    preflight.refuse_unfit(config, fitted.schema)
    preflight.refuse_recipes(config, model)
    predictor = Predictor(model, fitted.schema, "the model")
    reference = reference_of(config, predictor)
    tried = trial.predict(predictor, fitted, reference)
    if tried.seconds > config.router.deadline:
        raise ModelUnusable(
            f"the model needs {tried.seconds:.2g} s for two rows, and `router.deadline` is "
            f"{config.router.deadline:g} s: no request would be answered; give it more, or a faster model",
            code="too_slow",
        )
    notes = [
        *_assumed(fitted),
        *_unknown(model, fitted.schema, reference),
        *preflight.notes(config, model, fitted.schema, tried.seconds),
    ]
    return Champion(model=model, fitted=fitted, reference=reference, trial=tried, notes=tuple(notes))


def read_serving(config: Config, version: str) -> Champion:
    """The champion `version` of the registry, and one prediction by it. Raises `ModelUnusable` or `ConfigError`."""
    registry = adapters.registry(config)
    predictor, reference = registry.load(version), registry.reference(version)
    schema = predictor.schema
    preflight.refuse_unfit(config, schema)
    preflight.refuse_recipes(config, predictor.model)
    fitted = model_schema.read(predictor.model, schema.task, schema.features, schema.classes, schema.input)
    tried = trial.predict(predictor, fitted, reference)
    notes = [
        *_unknown(predictor.model, schema, reference),
        *preflight.notes(config, predictor.model, schema, tried.seconds),
    ]
    return Champion(model=predictor.model, fitted=fitted, reference=reference, trial=tried, notes=tuple(notes))


def _assumed(fitted: Fitted) -> list[str]:
    names = ", ".join(fitted.assumed)
    told = "taken for numbers, as neither the model nor a reference tells; give their `kind`"
    return [f"features: {names}: {told}"] if names else []


def _unknown(model: Any, schema: Schema, reference: Reference | None) -> list[str]:
    """On columns of the reference whose texts the model was not fitted with."""
    if reference is None:
        return []
    known = known_texts(model, [feature.name for feature in schema.features])
    counts = {name: Counter(text for text in reference.columns[name] if text is not None) for name in known}
    return [f"champion.reference: {said}" for said in unknown_texts("the model", known, counts)]


def _reference_kinds(settings: ChampionConfig) -> dict[str, str]:
    """The kinds of the reference's columns but for target and time; none without a reference."""
    if settings.reference is None:
        return {}
    from gauntlet.table import open_table

    try:
        kinds = open_table(settings.reference).kinds()
    except BadInput as error:
        raise ConfigError(f"champion.reference: {error}", code="bad_reference") from error
    return {name: kind for name, kind in kinds.items() if name not in (settings.target, settings.time)}


def _register_champion(config: Config) -> str:
    settings = config.champion
    champion = read_champion(config)
    for note in champion.notes:
        _log.warning("configuration_note", note=note, next="started all the same")
    schema, reference = champion.fitted.schema, champion.reference
    entry = adapters.registry(config).register(
        settings.model,
        schema,
        created_at=time.time(),
        reference=reference,
        trusted=tuple(settings.trusted),
        allow_pickle=settings.allow_pickle,
        algorithm=algorithm(champion.model),
        rows=reference.rows if reference else 0,
        note="given at the first start",
    )
    return entry.version


def reference_of(config: Config, predictor: Predictor) -> Reference | None:
    """The rows of the configured reference, with the model's outputs and losses where the target is known; None
    without one. Raises `ConfigError`."""
    settings, path = config.champion, config.champion.reference
    if path is None:
        return None
    from gauntlet.registry.reference_file import read_reference

    try:
        found = read_reference(path, predictor.schema, target=settings.target, time=settings.time)
    except BadInput as error:
        raise ConfigError(f"champion.reference: {error}", code="bad_reference") from error
    if found.rows < _FEWEST_ROWS:
        raise ConfigError(
            f"champion.reference: {path} has {found.rows} rows; give at least {_FEWEST_ROWS}", code="bad_reference"
        )
    if not found.truths:
        return found
    rows = [dict(zip(found.columns, row, strict=True)) for row in zip(*found.columns.values(), strict=True)]
    truth = np.array(found.truths, dtype=np.float64)
    outputs = _held_out(predictor, rows, path) if settings.held_out else cross_fitted(predictor, rows, truth)
    if outputs is None:
        return Reference(columns=found.columns, at=found.at)
    losses = loss(config.metric, outputs, truth)
    return msgspec.structs.replace(found, outputs=outputs.tolist(), losses=losses.tolist())


def _held_out(predictor: Predictor, rows: list[dict[str, Any]], path: str) -> NDArray[np.float64]:
    """The champion's outputs on rows that it has never seen."""
    try:
        output = predictor.predict(rows)
    except Exception as error:  # the user's model may raise anything
        raise ConfigError(f"{path}: the champion can't score these rows: {error}", code="bad_reference") from error
    valid = predictor.valid(output)
    if not valid.all():
        raise ConfigError(
            f"{path}: the champion gives no valid answer to {int((~valid).sum()):,} of {len(rows):,} rows, first "
            f"to {rows[int(valid.argmin())]}",
            code="bad_reference",
        )
    return output


def cross_fitted(predictor: Predictor, rows: artifact.Rows, truth: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Out-of-sample outputs on training rows by 2-fold cross-fitting over halves of the time; None if it fails.

    In-sample errors are too small, and every later month would look like drift.
    """
    from sklearn.base import clone

    half = len(rows) // 2
    outputs: list[NDArray[np.float64]] = []
    for score, fit in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
        try:
            twin = clone(predictor.model).fit(predictor.inputs(rows[fit]), _labels(predictor.schema, truth[fit]))
            outputs.append(Predictor(twin, predictor.schema, "cross-fit").predict(rows[score]))
        except Exception as error:  # noqa: BLE001 - the user's model may raise anything, and it serves without this too
            _log.warning("reference_not_cross_fitted", error=error, next="the champion's error is learned live")
            return None
    return np.concatenate(outputs)


def _labels(schema: Schema, truth: NDArray[np.float64]) -> Any:
    """Class indices as the labels that the model was fitted with."""
    return truth if schema.task is Task.REGRESSION else np.array([schema.classes[int(i)] for i in truth])
