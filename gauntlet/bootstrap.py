"""The first start: the user's model becomes version 1 and the champion, and the control record comes into being.

Idempotent: a second start, or a second process, finds what is there and changes nothing.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import logging
import math
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauntlet import adapters, control, files, rollout
from gauntlet.clock import parse_timestamp
from gauntlet.config import ChampionConfig, Config
from gauntlet.errors import ConfigError
from gauntlet.losses import loss
from gauntlet.registry import MOST_ROWS, Reference, artifact
from gauntlet.registry.artifact import Feature, Predictor, Schema
from gauntlet.rollout import Control
from gauntlet.state import StateStore
from gauntlet.types import Task

_log = logging.getLogger("gauntlet")


async def ensure(config: Config) -> Control:
    """The experiment's control record, made (with its champion) if this is the first start.

    Raises `ModelUnusable` or `ConfigError` with the path and the cause; then nothing was written.
    """
    folder = adapters.data(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Three services start at once; one registers.
        lock = await asyncio.to_thread(files.lock, folder / "bootstrap.lock", wait=True)
    except OSError as error:
        raise ConfigError(f"cannot write to the data folder {folder}: {error.strerror or error}") from error
    try:
        return await _ensure(config, adapters.state(config))
    finally:
        lock.release()


async def _ensure(config: Config, state: StateStore) -> Control:
    try:
        _, found = await control.read(state, config.experiment)
        if found is not None:
            return found
        version = _register_champion(config)
        at = 0.0 if config.clock == "events" else time.time()
        _, record = await control.create(state, rollout.begin(config.experiment, version, at))
        return record
    finally:
        await state.close()


def champion(config: Config) -> tuple[object, Schema]:
    """The model that the configuration names, and what it takes and gives. Raises `ModelUnusable`."""
    given = config.champion
    model = artifact.load(given.model, trusted=given.trusted, allow_pickle=given.allow_pickle)
    features = [Feature(name=f.name, kind=f.kind, required=f.required) for f in config.feature_specs()]
    return model, artifact.schema_of(model, config.task, features, config.classes, given.input)


def _register_champion(config: Config) -> str:
    given = config.champion
    model, schema = champion(config)
    reference = None
    if given.reference is not None:
        reference = _reference(Path(given.reference), given, Predictor(model, schema, "champion"), config.metric)
    entry = adapters.registry(config).register(
        given.model,
        schema,
        created_at=time.time(),
        reference=reference,
        trusted=tuple(given.trusted),
        allow_pickle=given.allow_pickle,
        algorithm=type(model).__name__,
        rows=reference.rows if reference else 0,
        note="given at the first start",
    )
    return entry.version


def _reference(path: Path, given: ChampionConfig, predictor: Predictor, metric: str) -> Reference:
    """The reference rows of a CSV, and what the champion answers to and loses on each where the target is known."""
    schema = predictor.schema
    rows: list[dict[str, Any]] = []
    truths: list[float] = []
    at: list[float] = []
    for line, record in _records(path):
        wanted = (*(f.name for f in schema.features), given.target, given.time)
        missing = [name for name in wanted if name is not None and name not in record]
        if missing:
            raise ConfigError(f"{path}:1: there is no column {missing[0]!r}", code="bad_reference")
        where = f"{path}:{line}"
        rows.append({f.name: _value(record[f.name], f, where) for f in schema.features})
        if given.target is not None:
            truths.append(_truth(record[given.target], schema, where))
        if given.time is not None:
            at.append(_time(record[given.time], at, where))
    if len(rows) < 100:
        raise ConfigError(f"{path}: {len(rows)} rows are no reference; give at least 100", code="bad_reference")
    rows, truths, at = rows[-MOST_ROWS:], truths[-MOST_ROWS:], at[-MOST_ROWS:]
    outputs: NDArray[np.float64] | None = None
    if truths:
        outputs = _honest_outputs(predictor, rows, np.array(truths), path if given.held_out else None)
    columns = {f.name: [row[f.name] for row in rows] for f in schema.features}
    if outputs is None:
        return Reference(columns=columns, at=at)
    losses = loss(metric, outputs, np.array(truths))
    return Reference(columns=columns, at=at, outputs=outputs.tolist(), truths=[*truths], losses=losses.tolist())


def _honest_outputs(
    predictor: Predictor, rows: list[dict[str, Any]], truth: NDArray[np.float64], held_out: Path | None
) -> NDArray[np.float64] | None:
    """Answers to rows by a model that has not seen them; None where they can't be had.

    A model flatters itself on its own training rows, and every later month would look like drift. So two clones are
    fitted, each on one half of the time, and answer to the other half. What can't be cloned learns its error live.
    `held_out` is the file of rows that the model itself has never seen: then it answers to them.
    """
    if held_out is not None:
        try:
            output = predictor.predict(rows)
        except Exception as error:  # the user's model may raise anything
            reason = f"{held_out}: the champion can't score these rows: {error}"
            raise ConfigError(reason, code="bad_reference") from error
        if not predictor.valid(output).all():
            raise ConfigError(f"{held_out}: the champion gives no valid answer to some rows", code="bad_reference")
        return output
    from sklearn.base import clone  # slow to import, so only at the first start of a model with a reference

    half = len(rows) // 2
    outputs: list[NDArray[np.float64]] = []
    for score, fit in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
        try:
            twin = clone(predictor.model).fit(predictor.inputs(rows[fit]), _labels(predictor.schema, truth[fit]))
            outputs.append(Predictor(twin, predictor.schema, "cross-fit").predict(rows[score]))
        except Exception as error:  # noqa: BLE001 - the user's model may raise anything, and it serves without this too
            _log.warning("the reference's errors can't be cross-fitted and will be learned live: %s", error)
            return None
    return np.concatenate(outputs)


def _labels(schema: Schema, truth: NDArray[np.float64]) -> Any:
    """Class indices as the labels that the model was fitted with."""
    return truth if schema.task is Task.REGRESSION else np.array([schema.classes[int(i)] for i in truth])


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        opening = gzip.open if path.suffix == ".gz" else open
        with opening(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for record in reader:
                yield reader.line_num, record
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read the reference {path}: {error}", code="bad_reference") from error


def _value(text: str | None, feature: Feature, where: str) -> float | str | None:
    if text is None or text == "":
        return None
    if feature.kind == "text":
        return text
    try:
        number = float(text)
    except ValueError:
        raise ConfigError(f"{where}: {feature.name} is no number: {text!r}", code="bad_reference") from None
    if math.isinf(number):
        raise ConfigError(f"{where}: {feature.name} is not finite: {text!r}", code="bad_reference")
    return None if math.isnan(number) else number


def _time(text: str | None, before: list[float], where: str) -> float:
    """When a row was; rows are in time order."""
    try:
        at = float(text or "")
    except ValueError:
        at = parse_timestamp(text or "")
    if not math.isfinite(at):
        raise ConfigError(
            f"{where}: {text!r} is no time (seconds since 1970, or 2026-01-31T12:00:00Z)", code="bad_reference"
        )
    if before and at < before[-1]:
        raise ConfigError(f"{where}: {text!r} is before the row above it; sort the rows by time", code="bad_reference")
    return at


def _truth(text: str | None, schema: Schema, where: str) -> float:
    """A target cell as a class index or a number."""
    text = text or ""
    if schema.task is Task.REGRESSION:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"{where}: the target {text!r} is no finite number", code="bad_reference")
        return number
    for index, label in enumerate(schema.classes):
        if text == str(label) or (not isinstance(label, str) and _same_number(text, label)):
            return float(index)
    raise ConfigError(f"{where}: the target {text!r} is none of the classes", code="bad_reference")


def _same_number(text: str, label: float | int | bool) -> bool:
    if text.lower() in ("true", "false"):
        return (text.lower() == "true") == bool(label) and label in (0, 1)
    try:
        return float(text) == float(label)
    except ValueError:
        return False
