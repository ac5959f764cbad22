"""Rows from the user's loader: labelled history from before the event log, out of a warehouse or files.

The log's own rows are what was served, so a loader is asked only for the time before the first of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from gauntlet.config import Config
from gauntlet.preflight import named_function
from gauntlet.registry.artifact import Schema
from retrainer.jobs.dataset import Rows, Targets
from retrainer.jobs.training import TrainingError

if TYPE_CHECKING:
    import pandas as pd

TARGET, TIME = "target", "time"
"""The columns of the outcome and of the time, where `champion` doesn't name those of the reference."""


def with_history(config: Config, schema: Schema, start: float, end: float, logged: Rows) -> Rows:
    """`logged`, and before it what `retrain.loader` has of [`start`, `end`], in time order; `logged` without a loader.

    Raises `TrainingError` for a loader that fails, or whose rows are none of `schema`.
    """
    loader = config.retrain.loader
    if loader is None:
        return logged
    until = logged.times[0] if len(logged) else end
    if until <= start:
        return logged
    history = _load(config, loader, schema, start, until)
    before = slice(bisect_left(history.times, start), bisect_left(history.times, until))
    skipped = Counter(logged.skipped) + Counter(history.skipped)
    if outside := len(history) - len(history.times[before]):
        skipped["outside"] = outside
    return Rows(
        features=[*history.features[before], *logged.features],
        targets=[*history.targets[before], *logged.targets],
        times=[*history.times[before], *logged.times],
        skipped=dict(skipped),
    )


def _load(config: Config, loader: str, schema: Schema, start: float, end: float) -> Rows:
    """All that the loader gives for that time, in time order."""
    import pandas as pd  # here: a retrainer starts without it

    target, time = config.champion.target or TARGET, config.champion.time or TIME
    try:
        found = named_function(loader, "retrain.loader")(
            datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        )
        frame = pd.DataFrame(found)
    except Exception as error:
        raise TrainingError(f"retrain.loader {loader} failed: {type(error).__name__}: {error}") from error
    if not len(frame):
        return Rows(features=[], targets=[], times=[])
    names = [feature.name for feature in schema.features]
    missing = [name for name in (*(f.name for f in schema.features if f.required), target, time) if name not in frame]
    if missing:
        there = ", ".join(map(str, frame.columns[:20]))
        raise TrainingError(f"retrain.loader {loader} gives no column {', '.join(missing)}; it has: {there}")
    frame = frame.assign(**{time: _seconds(frame[time], loader, time)}).sort_values(time, kind="stable")
    known = Targets(schema)
    truths = [known[value] if isinstance(value, str | int | float) else None for value in _values(frame[target])]
    usable = np.array([truth is not None for truth in truths], dtype=bool)
    kept = frame[usable]
    columns = {name: _values(kept[name]) for name in names if name in kept}
    return Rows(
        features=[dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        targets=[truth for truth in truths if truth is not None],
        times=kept[time].tolist(),
        skipped={"unusable": unusable} if (unusable := int((~usable).sum())) else {},
    )


def _values(column: pd.Series) -> list[Any]:
    """Plain values as a request brings them; None where there is none."""
    return [None if absent else value for value, absent in zip(column.tolist(), column.isna(), strict=True)]


def _seconds(column: pd.Series, loader: str, name: str) -> pd.Series:
    """Times as seconds since 1970; times of day without a zone are UTC."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        seconds = column.astype("float64")
    else:
        try:
            seconds = (pd.to_datetime(column, utc=True) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        except (ValueError, TypeError) as error:
            raise TrainingError(f"retrain.loader {loader}: column {name} holds no times: {error}") from error
    if not np.isfinite(seconds).all():
        raise TrainingError(f"retrain.loader {loader}: column {name} has rows without a time")
    return seconds
