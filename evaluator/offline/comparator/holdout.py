"""The held-out rows: true values, clusters and slices, and both models' outputs, read and predicted in chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.drift.columns import Coded, Column
from evaluator.offline.comparator.models import ROLES, ComparedModel
from evaluator.offline.comparator.settings import PERIODS, ComparatorError, ComparatorSettings
from evaluator.offline.duplicate_rows import DuplicateRows
from gauntlet.holdout.statistics import Floats
from gauntlet.latency import BATCH
from gauntlet.registry.artifact import Schema
from gauntlet.registry.column_rows import ColumnRows
from gauntlet.registry.reference_file import ChunkReader
from gauntlet.registry.unknown_texts import unknown_texts
from gauntlet.table import Chunk, Codes, Table
from gauntlet.types import Task

_ROWS = 8192  # of a chunk: some models take rows as mappings, a kilobyte each


@dataclass(frozen=True, slots=True)
class HeldOutRows:
    """All rows of the file.

    unit: of each row, what errs together. outputs: the champion's and the challenger's. batch: the first rows as
    mappings, for the clock.
    """

    truth: Floats
    unit: NDArray[np.intp]
    slices: Mapping[str, Codes]
    outputs: tuple[Floats, Floats]
    batch: Sequence[Mapping[str, Any]]
    unit_name: str
    repeated: tuple[int, int]
    """Rows that equal an earlier one in the truth and all features, and of how many (the first half million)."""
    unknown: Sequence[str]
    """On columns whose texts a model was not fitted with."""


def features_of(kinds: Mapping[str, str], settings: ComparatorSettings) -> dict[str, str]:
    """The columns that may be features, with their kinds: all but target and time."""
    return {name: kind for name, kind in kinds.items() if name not in (settings.target, settings.time)}


def read(
    table: Table,
    champion: ComparedModel,
    challenger: ComparedModel,
    settings: ComparatorSettings,
    progress: Callable[[int], object] | None = None,
) -> HeldOutRows:
    """Raises `TableError` for a column or a cell that can't be used, `ModelUnusable` for a model that can't answer."""
    pair = (champion, challenger)
    schemas = [one.schema for one in pair]
    period = _period(table, settings)
    texts = {f.name for schema in schemas for f in schema.features if f.kind == "text"} | {*settings.slices}
    numbers = {f.name for schema in schemas for f in schema.features if f.kind == "number"}
    (numbers if schemas[0].task is Task.REGRESSION else texts).add(settings.target)
    texts |= {name for name in (settings.time, settings.cluster if period is None else None) if name is not None}
    truth: list[Floats] = []
    units: list[NDArray[Any]] = []
    codes: dict[str, list[NDArray[np.int32]]] = {name: [] for name in settings.slices}
    values: dict[str, tuple[str, ...]] = {}
    outputs: tuple[list[Floats], list[Floats]] = ([], [])
    batch: Sequence[Mapping[str, Any]] = ()
    repeats = DuplicateRows()
    known = [one.known_texts for one in pair]
    seen: dict[str, dict[str, int]] = {name: {} for one in known for name in one}
    for chunk in table.chunks(sorted(numbers), sorted(texts), _ROWS):
        cells = ChunkReader(table.name, chunk)
        truth.append(cells.truths(settings.target, schemas[0]))
        units.append(_units(cells, chunk, settings, period))
        rows = _rows(cells, schemas)
        repeats.add(_compared(chunk, schemas, truth[-1]), chunk.rows)
        batch = batch or [*rows[:BATCH]]
        for one, found in zip(pair, outputs, strict=True):
            found.append(one.predict(rows, chunk.start))
        for name, counts in seen.items():
            _count(chunk.texts[name], counts)
        for name in settings.slices:
            codes[name].append(chunk.texts[name].codes)
            values[name] = chunk.texts[name].values
        if progress is not None:
            progress(chunk.rows)
    return HeldOutRows(
        truth=np.concatenate(truth),
        unit=np.unique(np.concatenate(units), return_inverse=True)[1],
        slices={name: Codes(np.concatenate(codes[name]), values[name]) for name in settings.slices},
        outputs=(np.concatenate(outputs[0]), np.concatenate(outputs[1])),
        batch=batch,
        unit_name="row" if settings.cluster is None and period is None else settings.cluster or "day",
        repeated=(repeats.count(repeats.rows), repeats.rows),
        unknown=_unknown(known, seen),
    )


def _count(codes: Codes, counts: dict[str, int]) -> None:
    for code, count in enumerate(np.bincount(codes.codes[codes.codes >= 0]).tolist()):
        if count:
            counts[codes.values[code]] = counts.get(codes.values[code], 0) + count


def _unknown(known: Sequence[Mapping[str, frozenset[str]]], seen: Mapping[str, Mapping[str, int]]) -> list[str]:
    if known[0] == known[1]:
        return list(unknown_texts("either model", known[0], seen))
    return [
        said for role, texts in zip(ROLES, known, strict=True) for said in unknown_texts(f"the {role}", texts, seen)
    ]


def _compared(chunk: Chunk, schemas: Sequence[Schema], truth: Floats) -> dict[str, Column]:
    """Features and truth."""
    names = {feature.name for schema in schemas for feature in schema.features}
    texts = {name: Coded(codes.codes, codes.values) for name, codes in chunk.texts.items() if name in names}
    return {**{name: chunk.numbers[name] for name in sorted(names & chunk.numbers.keys())}, **texts, "": truth}


def _period(table: Table, settings: ComparatorSettings) -> float | None:
    """Seconds of a block of time; None where a column, or each row, is a cluster."""
    if settings.cluster is None:
        return None if settings.time is None else PERIODS["day"]
    column = settings.cluster in table.columns and settings.cluster != settings.time
    if column or settings.cluster not in PERIODS:
        return None
    if settings.time is None:
        raise ComparatorError(f"--cluster {settings.cluster} needs --time, or a column of that name")
    return PERIODS[settings.cluster]


def _units(
    cells: ChunkReader, chunk: Chunk, settings: ComparatorSettings, period: float | None
) -> NDArray[np.float64] | NDArray[np.intp]:
    """What errs together, by any number: a block of time, the cluster's code, or the row itself."""
    if period is not None and settings.time is not None:
        return np.floor(cells.instants(settings.time) / period)
    if settings.cluster is None:
        return np.arange(chunk.start, chunk.start + chunk.rows)
    codes = chunk.texts[settings.cluster].codes
    if (codes < 0).any():
        row = chunk.start + int(np.argmax(codes < 0))
        raise ComparatorError(f"--cluster {settings.cluster}: row {row:,} (counted from 0) has no value")
    return codes.astype(np.intp)


def _rows(cells: ChunkReader, schemas: Sequence[Schema]) -> ColumnRows:
    """The features of both models. One that is a number to one and a text to the other is refused."""
    kinds: dict[str, str] = {}
    for schema in schemas:
        for feature in schema.features:
            if kinds.setdefault(feature.name, feature.kind) != feature.kind:
                raise ComparatorError(f"{feature.name!r} is a number to one of the models and a text to the other")
    return cells.features(kinds)
