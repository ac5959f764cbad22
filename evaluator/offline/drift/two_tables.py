"""Two tables compared: current rows against reference rows, each read in batches and judged once.

The reference is read twice (grids, then counts), the current table once. The rules are those of `evaluator.drift`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from evaluator.drift.columns import Column, read_numbers
from evaluator.drift.comparison import FeatureReport
from evaluator.drift.feature import SPECIALS
from evaluator.drift.profile import Profile
from evaluator.drift.signals import DISTRIBUTION_KINDS, Signal
from evaluator.offline.drift import data_findings
from evaluator.offline.drift.columns import (
    COUNTER,
    ColumnSchema,
    ColumnSelection,
    ColumnStats,
    column_findings,
    column_schema,
    column_stats,
    select_columns,
)
from evaluator.offline.drift.prediction_type import count_present
from evaluator.offline.drift.reference import (
    ROWS_ONLY,
    ReferenceRows,
    SystematicSample,
    fit_grids,
    fit_profile,
    row_losses,
)
from evaluator.offline.drift.result import ColumnDrift, DriftReport, Finding, Histogram, Performance, Quality
from evaluator.offline.drift.scan import SCHEMA_ROWS, Batch, BatchCache, TableReader, TableScan, parse_number
from evaluator.offline.drift.settings import DriftFileSettings, DriftRequestError
from evaluator.offline.drift.slices import Slice, Slices
from evaluator.offline.drift.verdict import Verdict
from gauntlet.table import Table

_FACTS = {"column_gone", "type_change", "displaced"}
"""Signals that say by themselves that a column drifted, beside those on its distribution."""


def compare_tables(reference: Table, current: Table, settings: DriftFileSettings) -> DriftReport:
    """Drift of the current rows against the reference.

    Raises DriftRequestError for columns that aren't there or don't fit, TableError for a table that can't be read.
    """
    if settings.season is not None:
        raise DriftRequestError("season is for a stream; two tables are compared as they are")
    columns = _Columns.choose(reference, current, settings)
    reader = TableReader(reference, columns.selection.numbers, columns.selection.texts)
    before_scan = TableScan(reader, settings.time, ambiguous=columns.ambiguous)
    # Only a table whose length is known before it is read is cheap to read twice.
    with BatchCache(before_scan) if reference.rows is None else nullcontext(before_scan) as batches:
        before = ReferenceRows.read(batches, settings)
        if settings.time is not None and before_scan.timestamps.unknown == before.rows:
            raise DriftRequestError(data_findings.NO_TIMESTAMPS.format(settings.time))
        columns, before, notes = columns.without_continuing(before, settings, reference.name)
        grids = fit_grids(before, settings, reference.name)
        current_reader = TableReader(
            current,
            columns.selection.numbers,
            columns.selection.texts,
            strict_texts=_texts_without_numbers(grids, settings),
        )
        now_scan = TableScan(
            current_reader, settings.time, ambiguous=columns.ambiguous, not_before=before_scan.timestamps.first
        )
        now = CurrentRows.read(now_scan, grids, before, settings, current.rows)
        profile = fit_profile(grids, before, batches, settings, now.total.comparison.rows)
    findings = [*columns.selection.findings, *column_findings(reference, current, settings)]
    findings += data_findings.duplicate_findings(before_scan.duplicates, now_scan.duplicates)
    if settings.time is not None and settings.time in current.columns:
        findings += data_findings.timestamp_findings(settings.time, before_scan.timestamps, now_scan.timestamps)
    return _ReportBuilder(profile, before, now, now.total.verdict(profile), settings).report(findings, notes)


@dataclass(frozen=True)
class _Columns:
    """The selection, and statistics of columns that rise or identify rows in the reference."""

    selection: ColumnSelection
    before: Mapping[str, ColumnStats]
    now: Mapping[str, ColumnStats]
    ambiguous: frozenset[str]
    """Columns that may prove to be counters, or that only the reference has: not compared for duplicate rows."""

    @classmethod
    def choose(cls, reference: Table, current: Table, settings: DriftFileSettings) -> _Columns:
        schema = column_schema(reference)
        now = cls._current_stats(schema, current)
        exclusions = {
            name: exclusion
            for name, before in schema.stats.items()
            if (exclusion := before.exclusion_beside(now.get(name), ordered=settings.ordered)) is not None
        }
        selection = select_columns(reference, schema, settings).excluding(exclusions, settings, reference.name)
        gone = (name for name in reference.columns if name not in current.columns)
        return cls(selection, schema.stats, now, frozenset([*now, *gone]))

    @staticmethod
    def _current_stats(schema: ColumnSchema, current: Table) -> dict[str, ColumnStats]:
        kinds = current.kinds(SCHEMA_ROWS)
        suspects = [name for name, before in schema.stats.items() if before.rises or before.identifies]
        return column_stats(current, [name for name in suspects if kinds.get(name) == "number"])

    def without_continuing(
        self, reference: ReferenceRows, settings: DriftFileSettings, table: str
    ) -> tuple[_Columns, ReferenceRows, list[str]]:
        """Without the rising columns that the current rows continue where the reference ends; a note on columns that
        both tables are sorted by."""
        features = self.selection.features
        rising = [n for n in self.now if settings.ordered and n in features and self.before[n].rises]
        ends = {name: float(np.nanmax(read_numbers(reference.sample[name])[0])) for name in rising}
        continuing = {name: COUNTER for name in rising if self.now[name].continues(ends[name])}
        selection = self.selection.excluding(continuing, settings, table)
        sorted_by = [name for name in rising if name in selection.features and self.now[name].rises]
        notes = []
        if sorted_by:
            notes.append(
                f"both files are sorted by {', '.join(sorted_by)}: neighbouring rows say little beside each other "
                "there, and with --unordered all rows weigh as independent ones"
            )
        kept = (*selection.features, settings.prediction)
        sample = {name: values for name, values in reference.sample.items() if name in kept}
        return replace(self, selection=selection), replace(reference, sample=sample), notes


def _texts_without_numbers(profile: Profile, settings: DriftFileSettings) -> list[str]:
    """Columns of texts none of which is a number."""
    texts = {feature.name: feature.grid.categories for feature in profile.features if not feature.numeric}
    if profile.truth is not None and settings.target is not None:
        texts[settings.target] = profile.truth.distribution.features[0].grid.categories
    return [name for name, values in texts.items() if not any(parse_number(text) is not None for text in values)]


@dataclass
class CurrentRows:
    """The pass over the current table: counts by slice, and a sample for plots."""

    slices: Slices
    sample: SystematicSample = field(default_factory=SystematicSample)
    targets: int = 0
    """Rows with a target, whatever it is."""
    mismatched: int = 0
    """Predictions of another kind than the reference's."""
    total: Slice = field(init=False)

    @classmethod
    def read(
        cls,
        batches: Iterable[Batch],
        profile: Profile,
        reference: ReferenceRows,
        settings: DriftFileSettings,
        rows: int | None,
    ) -> CurrentRows:
        """Count all batches against the grids of `profile`; `rows` is their number where it is known."""
        current = cls(Slices(profile, settings.rules, rows))
        for batch in batches:
            for part, some in current.slices.split(batch):
                current._add(part, some, profile, reference, settings)
        current.total = current.slices.total()
        return current

    def _add(
        self, part: Slice, batch: Batch, profile: Profile, reference: ReferenceRows, settings: DriftFileSettings
    ) -> None:
        target, prediction = settings.target, settings.prediction
        columns = dict(batch.without(target).columns)
        usable_target = usable_prediction = None
        if target is not None and target in batch.columns:
            cells = batch.columns[target]
            usable_target = reference.usable_target(cells)
            self.targets += count_present(cells)
            self._count_unusable(part, target, cells, usable_target)
        if prediction is not None and prediction in columns:
            columns[prediction], mismatched = reference.prediction_kind.mark_mismatches(columns[prediction])
            self.mismatched += mismatched
            usable_prediction = reference.usable_prediction(columns[prediction])
            self._count_unusable(part, prediction, columns[prediction], usable_prediction, at_least=mismatched)
        if not columns and batch.rows:
            columns = {ROWS_ONLY: np.zeros(batch.rows)}
        part.comparison.add(columns, targets=usable_target, predictions=usable_prediction)
        self.sample.add(columns, batch.rows)
        truth = profile.truth
        if (
            usable_target is not None
            and usable_prediction is not None
            and truth is not None
            and truth.performance is not None
        ):
            part.losses.append(row_losses(truth.performance.task, usable_target, usable_prediction))

    @staticmethod
    def _count_unusable(part: Slice, name: str, cells: Column, usable: Column, at_least: int = 0) -> None:
        unusable = max(at_least, count_present(cells) - count_present(usable))
        part.unusable[name] = part.unusable.get(name, 0) + unusable


@dataclass(frozen=True)
class _ReportBuilder:
    """The report on both tables."""

    profile: Profile
    reference: ReferenceRows
    current: CurrentRows
    verdict: Verdict
    settings: DriftFileSettings

    def report(self, findings: list[Finding], notes: list[str]) -> DriftReport:
        rules, judgement, signals = self.verdict.report, self.verdict.judgement, self.verdict.signals.values()
        by_column: dict[str, list[Signal]] = {}
        for signal in signals:
            by_column.setdefault(signal.feature, []).append(signal)
        sample = self.current.sample.columns()
        features = [
            self._column(feature, by_column, adjusted, sample)
            for feature, adjusted in zip(rules.features, self.verdict.adjusted_p_values, strict=True)
            if feature.name != ROWS_ONLY
        ]
        features.sort(key=lambda c: (not c.drifted, -((c.statistic or 0.0) / (c.threshold or 1.0)), c.name))
        outputs = {output.name: output for output in rules.outputs}
        prediction, target = outputs.get(self.settings.prediction or ""), outputs.get("target")
        known = self.reference.prediction_type
        if known is not None:
            notes = [*notes, known.note]
        if self.settings.ordered and not self.settings.rules.simple:
            notes = [*notes, *data_findings.dependence_notes(self.profile)]
        performance = None
        if rules.performance is not None and known is not None:
            performance = Performance(known.task, known.kind, known.positive, rules.performance.metrics)
        return DriftReport(
            severity=judgement.severity.name,
            confidence=judgement.confidence,
            root_cause=judgement.root_cause,
            action=judgement.action,
            features=tuple(features),
            quality=Quality(rules.quality.score, (*self._cell_findings(set(by_column), sample), *findings)),
            performance=performance,
            prediction=None if prediction is None else self._column(prediction, by_column, None, sample),
            target=None if target is None or self.settings.target is None else self._target(target, by_column),
            signals=tuple(asdict(signal) for signal in signals),
            rows=(self.reference.rows, self.verdict.comparison.rows),
            notes=tuple(notes),
            settings=self.settings.to_dict(),
            steps=self.current.slices.steps(self.profile),
        )

    def _column(
        self,
        measured: FeatureReport,
        by_column: Mapping[str, list[Signal]],
        adjusted: float | None,
        sample: Mapping[str, Column],
    ) -> ColumnDrift:
        profile, name = self.profile, measured.name
        i = profile.index[name]
        fitted, signals = profile.features[i], by_column.get(name, [])
        special = profile.slots + SPECIALS * i
        counts, rows = self.verdict.comparison.counts, max(1, self.verdict.comparison.rows)
        missing = int(counts[special : special + SPECIALS].sum())
        present = self.verdict.present(name)
        emptied = fitted.present > 0 and not present and bool(signals)
        column = replace(
            _measured(name, measured, signals),
            adjusted_p_value=adjusted,
            drifted=emptied or any(signal.kind in DISTRIBUTION_KINDS or signal.kind in _FACTS for signal in signals),
            missing=(sum(fitted.specials) / profile.rows, missing / rows),
            effective_rows=present * fitted.shape[0].efficiency,
        )
        if not fitted.present or not present:
            return replace(
                column,
                statistic=None,
                lower=None,
                upper=None,
                p_value=None,
                adjusted_p_value=None,
                psi=None,
                wasserstein=None,
                effective_rows=None,
                histogram=self._histogram(name, sample, numeric=fitted.numeric),
            )
        return replace(
            column,
            lower=min(measured.lower, measured.statistic),
            upper=max(measured.upper, measured.statistic),
            histogram=self._histogram(name, sample, numeric=fitted.numeric),
        )

    def _target(self, measured: FeatureReport, by_column: Mapping[str, list[Signal]]) -> ColumnDrift:
        """The target's distribution, and its shares of rows without a value."""
        unlabelled = self.reference.unlabelled
        now = 1 - self.current.targets / max(1, self.verdict.comparison.rows)
        column = _measured(self.settings.target or "", measured, by_column.get(measured.name, []))
        return replace(column, missing=(1.0 if unlabelled is None else unlabelled, now))

    def _histogram(self, name: str, sample: Mapping[str, Column], *, numeric: bool) -> Histogram | None:
        if name not in sample or name not in self.reference.sample:
            return None
        return Histogram.of(self.reference.sample[name], sample[name], numeric=numeric)

    def _cell_findings(self, signalled: set[str], sample: Mapping[str, Column]) -> list[Finding]:
        reference, current = self.reference, self.current
        before = data_findings.ReferenceCells(
            reference.rows, reference.unlabelled, reference.prediction_type, reference.prediction_kind
        )
        now = data_findings.CellCounts(
            self.verdict.comparison.rows, self.verdict.unusable, current.mismatched, current.targets, sample
        )
        rule_findings = self.verdict.report.quality.findings
        return data_findings.cell_findings(rule_findings, self.profile, before, now, self.settings, signalled)


def _measured(name: str, measured: FeatureReport, signals: Iterable[Signal]) -> ColumnDrift:
    return ColumnDrift(
        name=name,
        kind=measured.kind,
        statistic=measured.statistic,
        lower=measured.lower,
        upper=measured.upper,
        p_value=measured.p_value,
        adjusted_p_value=None,
        threshold=measured.threshold,
        drifted=measured.drifted,
        psi=measured.psi,
        wasserstein=measured.wasserstein,
        missing=(0.0, 0.0),
        effective_rows=None,
        signals=tuple(sorted({signal.kind for signal in signals})),
    )
