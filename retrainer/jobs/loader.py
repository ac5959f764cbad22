"""Rows from the user's loader: labelled history from before the event log, out of a warehouse or files.

The log's own rows are what was served, so a loader is asked only for the time before the first of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gauntlet.config import Config
from gauntlet.preflight import named_function
from gauntlet.registry.artifact import Schema
from gauntlet.registry.reference_file import ChunkReader, read_rows
from gauntlet.table import TableError, open_table
from retrainer.jobs.dataset import JobRows, Targets
from retrainer.jobs.training import TrainingError

TARGET, TIME = "target", "time"
"""The columns of the outcome and of the time, where `champion` doesn't name those of the reference."""


def with_history(config: Config, loader: str, schema: Schema, start: float, end: float, logged: JobRows) -> JobRows:
    """`logged`, and before it what the loader has of [`start`, `end`], in time order.

    Raises `TrainingError` for a loader that fails, or whose rows are none of `schema`.
    """
    until = logged.times[0] if len(logged) else end
    if until <= start:
        return logged
    history = _load(config, loader, schema, start, until)
    before = slice(bisect_left(history.times, start), bisect_left(history.times, until))
    skipped = Counter(logged.skipped) + Counter(history.skipped)
    if outside := len(history) - len(history.times[before]):
        skipped["outside"] = outside
    return JobRows(
        features=[*history.features[before], *logged.features],
        targets=[*history.targets[before], *logged.targets],
        times=[*history.times[before], *logged.times],
        weights=[*[1.0] * len(history.times[before]), *logged.weights] if logged.weights else [],
        skipped=dict(skipped),
    )


def _load(config: Config, loader: str, schema: Schema, start: float, end: float) -> JobRows:
    """All that the loader gives for that time, in time order."""
    target, time = config.champion.target or TARGET, config.champion.time or TIME
    function = named_function(loader, "retrain.loader")
    try:
        frame = pd.DataFrame(function(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)))
    except Exception as error:
        raise TrainingError(f"retrain.loader {loader} failed: {type(error).__name__}: {error}") from error
    if not len(frame):
        return JobRows(features=[], targets=[], times=[])
    missing = [name for name in (*(f.name for f in schema.features if f.required), target, time) if name not in frame]
    if missing:
        there = ", ".join(map(str, frame.columns[:20]))
        raise TrainingError(f"retrain.loader {loader} gives no column {', '.join(missing)}; it has: {there}")
    known = Targets(schema)
    plain = [value if isinstance(value, str | int | float) else None for value in frame[target].tolist()]
    truths = [None if value is None or value != value else known[value] for value in plain]
    if not any(truth is not None for truth in truths):
        unlike = next((value for value in plain if value is not None and value == value), None)
        wanted = f"one of {', '.join(map(str, schema.classes))}" if schema.classes else "a number"
        said = "it is empty" if unlike is None else f"{unlike!r} is not {wanted}"
        raise TrainingError(f"retrain.loader {loader} gives no outcome in column {target}: {said}")
    features, times = _checked(frame, schema, time, loader)
    kept = [row for row in np.argsort(times, kind="stable").tolist() if truths[row] is not None]
    return JobRows(
        features=[features[row] for row in kept],
        targets=[truth for row in kept if (truth := truths[row]) is not None],
        times=times[kept].tolist(),
        skipped={"unusable": len(truths) - len(kept)} if len(kept) < len(truths) else {},
    )


def _checked(
    frame: pd.DataFrame, schema: Schema, time: str, loader: str
) -> tuple[list[Mapping[str, Any]], NDArray[np.float64]]:
    """Features and times of the frame's rows, read as those of a reference are."""
    absent = dict.fromkeys((f.name for f in schema.features if f.name not in frame), None)
    try:
        table = open_table(frame.assign(**absent), as_written=True)
        features = read_rows(table, schema, target=None, time=None).features
    except TableError as error:
        raise TrainingError(f"retrain.loader {loader}: {error}") from error
    try:
        parts = [ChunkReader(table.name, chunk).instants(time) for chunk in table.chunks([], [time])]
    except TableError as error:
        raise TrainingError(f"retrain.loader {loader}: column {time} holds no times: {error}") from error
    return list(features), np.concatenate(parts)
