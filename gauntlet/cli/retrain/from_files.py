"""Retraining from files alone: detect drift, decide, train, compare; the result is one record.

Each step is the one that the services and the other commands take: the drift rules of `gauntlet drift`, the training of
the retrainer's jobs, the comparison of `gauntlet compare`. The newest recent rows are held out: nothing is trained on
them, and they are touched once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evaluator.offline.comparator import compare_models, holdout, models
from evaluator.offline.comparator.result import ComparisonReport, Factor
from evaluator.offline.comparator.settings import ComparatorError, ComparatorSettings
from evaluator.offline.drift.result import UNKNOWN, DriftReport
from evaluator.offline.drift.settings import DriftFileSettings
from evaluator.offline.drift.two_tables import compare_tables
from evaluator.offline.records import PlainRecord, check_limits, column, option
from gauntlet import first_start
from gauntlet.config import RetrainConfig
from gauntlet.config.retrain import RecipeConfig
from gauntlet.errors import BadInput, ModelUnusable
from gauntlet.registry import artifact
from gauntlet.registry.artifact import Predictor, Schema
from gauntlet.registry.column_rows import ColumnRows
from gauntlet.registry.model_inputs import algorithm
from gauntlet.registry.reference_file import TableRows, asked_columns, read_rows
from gauntlet.table import Table
from gauntlet.table.sources import Source, open_source
from gauntlet.table.views import InMemory, Tail, WithColumn
from gauntlet.types import Severity, Task
from retrainer.jobs import training
from retrainer.jobs.dataset import JobRows

Decision = Literal["promote", "keep", "no_answer", "no_need"]

_ANSWER = "champion_answer"
_UNANSWERED = (
    "a model of the champion's kind can't be fitted on half of the reference, so its errors there are not known and "
    "were not compared: give --held-out or --prediction"
)
_CHUNK_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class RunSettings(PlainRecord):
    """When a model is trained, on what, and by whom."""

    prediction: str | None = column("the champion's recorded answers in both files; default: they are computed", None)
    held_out: bool = option(
        "the champion has not seen the reference rows; else its answers there are those of two models of its kind, "
        "each fitted on the other half",
        False,
    )
    on_severity: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"] = option("of the drift that asks for a new model", "HIGH")
    force: bool = option("train whatever the drift is; never on damaged data", False)
    test_share: float = option(
        "of the recent rows, the newest: held out, to compare the models on", 0.3, above=0.0, below=1.0
    )
    train_on: Literal["auto", "recent", "all"] = option(
        "recent: not on the reference rows; all: on both; auto: recent where the drift says that older rows teach what "
        "no longer holds",
        "auto",
    )
    min_rows: int = option("to train on and held out, of each at least", 100, least=20)
    trainer: str | None = option(
        "module:function(rows, targets) that returns a fitted model; default: the champion's own kind",
        None,
        metavar="FUNCTION",
    )

    def __post_init__(self) -> None:
        check_limits(self, BadInput)


@dataclass(frozen=True, slots=True)
class TrainingSummary(PlainRecord):
    """The challenger: how it was trained, and the file that it was written to."""

    algorithm: str
    trained_on: str
    rows: int
    test_rows: int
    seconds: float
    saved: str | None = None


@dataclass(frozen=True, slots=True)
class RetrainingReport(PlainRecord):
    """What was found, what was decided, and on what evidence. `seconds` by step."""

    decision: Decision
    reasons: tuple[str, ...]
    severity: str
    confidence: float | None
    root_cause: str
    conditions: tuple[Factor, ...]
    drift: DriftReport
    training: TrainingSummary | None
    comparison: ComparisonReport | None
    seconds: dict[str, float]


class FileRetraining:
    """One run over a champion and two files. Raises BadInput, `ModelUnusable` and `TrainingError`."""

    def __init__(
        self, champion: str, reference: str, recent: str, run: RunSettings, compared: ComparatorSettings
    ) -> None:
        self._settings = run
        self._source = champion
        files = [open_source(path) for path in (reference, recent)]
        self._compared = compared
        self.seconds: dict[str, float] = {}
        began = time.perf_counter()
        self.champion = _champion(champion, Table(files[1]), run, compared)
        schema = self.champion.schema
        self._compared = replace(compared, features=tuple(one.name for one in schema.features))
        numbers, texts = asked_columns(schema, compared.target, compared.time)
        self._files = [InMemory(file, [*numbers, *texts], numbers) for file in files]
        self._read = [
            read_rows(Table(file, as_written=True), schema, target=compared.target, time=compared.time)
            for file in self._files
        ]
        self._took("read", began)

    def drift(self) -> DriftReport:
        """As `gauntlet drift` tells it, with the champion's answers."""
        began = time.perf_counter()
        schema, asked = self.champion.schema, self._settings.prediction
        positive = str(schema.classes[-1]) if len(schema.classes) == 2 else None
        settings = DriftFileSettings(
            target=self._compared.target,
            prediction=asked or _ANSWER,
            time=self._compared.time,
            features=tuple(one.name for one in schema.features),
            task="regression" if schema.task is Task.REGRESSION else "classification",
            positive=positive,
        )
        sources: list[Source] = list(self._files)
        if asked is None:
            outputs = [self._reference_outputs(), self._outputs(self._read[1].features)]
            if outputs[0] is None:
                settings = replace(settings, prediction=None, task=None, positive=None)
            else:
                sources = [
                    WithColumn(source, _ANSWER, _answers(schema, output))
                    for source, output in zip(sources, outputs, strict=True)
                    if output is not None
                ]
            self._took("answers", began)
        began = time.perf_counter()
        report = compare_tables(Table(sources[0]), Table(sources[1]), settings)
        self._took("drift", began)
        return report if settings.prediction else replace(report, notes=(*report.notes, _UNANSWERED))

    def conditions(self, drift: DriftReport) -> tuple[Factor, ...]:
        """What must hold before anything is trained. `met` is None where it can't be judged."""
        settings, began = self._settings, time.perf_counter()
        train, test = len(self._training_rows(drift)), len(self._read[1]) - self._first_held_out
        damaged = drift.action == "quarantine" or drift.root_cause in ("quality", "data_quality")
        told = (
            f"{drift.severity} drift, root cause {drift.root_cause}; a model is trained from {settings.on_severity} on"
        )
        known = drift.severity not in (UNKNOWN, "NONE")
        due = known and Severity(drift.severity) >= settings.on_severity
        enough = min(train, test) >= settings.min_rows
        found = (
            Factor(
                "the data is sound",
                not damaged,
                "bad data is quarantined, never learned" if damaged else "no rule finds it damaged",
            ),
            Factor(
                "drift asks for a model",
                True if settings.force or due else None if drift.severity == UNKNOWN else False,
                f"{told}; asked for by --force" if settings.force else told,
            ),
            Factor(
                "rows enough",
                enough,
                f"{train:,} to train on and {test:,} held out, {settings.min_rows:,} of each wanted",
            ),
        )
        self._took("decide", began)
        return found

    def train(self, drift: DriftReport) -> tuple[object, TrainingSummary]:
        """The challenger, fitted on rows before the held-out ones."""
        train, test = self._training_rows(drift), len(self._read[1]) - self._first_held_out
        began = time.perf_counter()
        settings = RetrainConfig(trainer=self._settings.trainer, seed=self._compared.seed)
        model, _ = training.fit(self.champion, RecipeConfig(name="run"), settings, _rows(train, self.champion.schema))
        seconds = time.perf_counter() - began
        self._took("train", began)
        which = "the recent rows" if self._recent_only(drift) else "reference and recent rows"
        return model, TrainingSummary(algorithm(model), which, len(train), test, seconds)

    def compare(self, challenger: object) -> ComparisonReport:
        """As `gauntlet compare` does, on the held-out rows."""
        began = time.perf_counter()
        table = Table(Tail(self._files[1], self._first_held_out), as_written=True)
        report = compare_models.run(self._source, challenger, table, self._compared)
        self._took("compare", began)
        return report

    def _recent_only(self, drift: DriftReport) -> bool:
        asked = self._settings.train_on
        return asked == "recent" or (asked == "auto" and drift.action == "retrain_recent")

    @property
    def _first_held_out(self) -> int:
        recent = len(self._read[1])
        return recent - int(recent * self._settings.test_share)

    def _training_rows(self, drift: DriftReport) -> TableRows:
        """All but the newest share of the recent rows, after those of the reference where they still hold."""
        before, recent = self._read
        kept = recent[: self._first_held_out]
        return kept if self._recent_only(drift) else before + kept

    def _reference_outputs(self) -> NDArray[np.float64] | None:
        reference = self._read[0]
        if self._settings.held_out:
            return self._outputs(reference.features)
        return first_start.cross_fitted(self.champion, reference.features, reference.truths)

    def _outputs(self, rows: ColumnRows) -> NDArray[np.float64]:
        parts = range(0, len(rows), _CHUNK_ROWS)
        return np.concatenate([self._predicted(rows[start : start + _CHUNK_ROWS]) for start in parts])

    def _predicted(self, rows: ColumnRows) -> NDArray[np.float64]:
        """NaN for rows with missing values, where the champion does not take them."""
        try:
            return self.champion.predict(rows)
        except Exception as error:  # the user's model may raise anything
            whole = np.array([None not in row.values() for row in rows])
            if whole.all() or not whole.any():
                raise ModelUnusable(f"the champion fails on these rows: {type(error).__name__}: {error}") from error
        found = self.champion.predict([row for row, usable in zip(rows, whole, strict=True) if usable])
        outputs = np.full((len(rows), *found.shape[1:]), np.nan)
        outputs[whole] = found
        return outputs

    def _took(self, step: str, began: float) -> None:
        self.seconds[step] = round(time.perf_counter() - began, 3)


def decided(
    drift: DriftReport,
    conditions: Sequence[Factor],
    trained: TrainingSummary | None,
    compared: ComparisonReport | None,
    seconds: Mapping[str, float],
) -> RetrainingReport:
    """The record; without a comparison there was no need, or no answer to whether there is."""
    unmet = [one for one in conditions if not one.met]
    decision: Decision = "no_answer" if any(one.met is None for one in unmet) else "no_need"
    reasons = tuple(f"{one.name}: {one.reason}" for one in unmet)
    if compared is not None:
        decision, reasons = compared.decision, compared.reasons
    return RetrainingReport(
        decision=decision,
        reasons=reasons,
        severity=drift.severity,
        confidence=drift.confidence,
        root_cause=drift.root_cause,
        conditions=tuple(conditions),
        drift=drift,
        training=trained,
        comparison=compared,
        seconds=dict(seconds),
    )


def _champion(source: str, recent: Table, run: RunSettings, compared: ComparatorSettings) -> Predictor:
    model = artifact.load(source, trusted=compared.trusted, allow_pickle=compared.allow_pickle)
    kinds = {
        name: kind for name, kind in holdout.features_of(recent.kinds(), compared).items() if name != run.prediction
    }
    schema = models.contenders(model, model, kinds, compared)[0].schema
    if _ANSWER in recent.columns and run.prediction is None:
        raise ComparatorError(f"the column {_ANSWER!r} is in the way of the computed answers: name it by --prediction")
    return Predictor(model, schema, "the champion")


def _rows(read: TableRows, schema: Schema) -> JobRows:
    """As a trainer gets them; times are seconds, or places where the file has none."""
    targets: NDArray[Any] = read.truths
    if schema.task is Task.CLASSIFICATION:
        targets = np.array([*schema.classes, None], dtype=np.object_)[targets.astype(np.intp)]
    times = read.at if len(read.at) else np.arange(len(read), dtype=np.float64)
    return JobRows(features=read.features, targets=targets.tolist(), times=times.tolist())


def _answers(schema: Schema, outputs: NDArray[np.float64]) -> pa.Array:
    """Outputs as a column of answers: numbers, the probability of the last of two classes, or labels; null where there
    is not a usable one."""
    usable = np.isfinite(outputs if outputs.ndim == 1 else outputs.sum(axis=1))
    if schema.task is Task.REGRESSION or len(schema.classes) == 2:
        values = outputs if outputs.ndim == 1 else outputs[:, -1]
        return pa.array(values, mask=~usable)
    names = np.array([str(label) for label in schema.classes])
    return pa.array(names[np.nan_to_num(outputs).argmax(axis=1)], mask=~usable)
