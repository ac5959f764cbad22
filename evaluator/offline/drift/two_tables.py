"""Two tables compared: current rows against reference rows, each read in batches and judged once.

The reference is read twice (grids, then counts), the current table once. The rules are those of `evaluator.drift`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from evaluator.drift.columns import Column, read_numbers
from evaluator.drift.feature import SPECIALS
from evaluator.drift.profile import Profile
from evaluator.drift.signals import DISTRIBUTION_KINDS, PERFORMANCE_KINDS, Signal
from evaluator.drift.spelling_variants import RespeltValues
from evaluator.drift.table_comparison import FeatureReport, TableReport
from evaluator.offline.drift import columns as table_columns
from evaluator.offline.drift import data_findings
from evaluator.offline.drift.columns import ColumnSelection, ColumnStats
from evaluator.offline.drift.not_judged import column_doubt, model_doubts, outcome_doubts, overall, rare_values
from evaluator.offline.drift.reference import (
    ROWS_ONLY,
    ReferenceTable,
    SystematicSample,
    fit_grids,
    fit_profile,
    row_losses,
)
from evaluator.offline.drift.result import (
    UNKNOWN,
    ColumnDrift,
    ColumnSample,
    DataQuality,
    DriftReport,
    Finding,
    Performance,
)
from evaluator.offline.drift.scan import SCHEMA_ROWS, TableBatch, TableReader, TableScan, TableStats
from evaluator.offline.drift.settings import FEWEST_VALUES, DriftFileSettings, DriftRequestError
from evaluator.offline.drift.verdict import RowSlices, Slice, TableVerdict
from gauntlet.spelling import folded, parse_number
from gauntlet.table import Table

_FACTS = {"column_gone", "type_change", "displaced"}
"""Signals that say by themselves that a column drifted, beside those on its distribution."""
_NO_EVIDENCE: dict[str, Any] = dict.fromkeys(
    ("statistic", "lower", "upper", "p_value", "adjusted_p_value", "psi", "wasserstein", "effective_rows")
)
"""The numbers that a column without a value on one side does not have."""


def compare_tables(reference: Table, current: Table, settings: DriftFileSettings) -> DriftReport:
    """Drift of the current rows against the reference.

    Raises DriftRequestError for columns that aren't there or don't fit, TableError for a table that can't be read.
    """
    if settings.season is not None:
        raise DriftRequestError("season is for a stream; two tables are compared as they are")
    columns = _Columns.choose(reference, current, settings)
    stats = TableStats(settings.time, ambiguous=columns.ambiguous)
    # Only a table whose length is known before it is read is cheap to read twice.
    with TableScan(columns.reader(reference), stats, cached=reference.rows is None) as batches:
        before = ReferenceTable.read(batches, settings)
        stats.require_timestamps()
        columns, before, notes = columns.without_continuing(before, settings, reference.name)
        grids = fit_grids(before, settings, reference.name)
        current_stats = TableStats(settings.time, ambiguous=columns.ambiguous, not_before=stats.timestamps.first)
        reader = columns.reader(current, strict_texts=_texts_without_numbers(grids, settings))
        now = CurrentRows.read(map(current_stats.add, reader), grids, before, settings, current.rows)
        profile = fit_profile(grids, before, batches, settings, now.total.comparison.rows)
    notes += table_columns.type_notes(reference, current, columns.selection)
    findings = [
        *columns.selection.findings,
        *table_columns.column_findings(reference, current, settings),
        *current_stats.findings(stats),
    ]
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
        schema, kinds = table_columns.column_schema(reference), current.kinds(SCHEMA_ROWS)
        suspects = [name for name, before in schema.stats.items() if before.rises or before.identifies]
        now = table_columns.column_stats(current, [name for name in suspects if kinds.get(name) == "number"])
        exclusions = {
            name: exclusion
            for name, before in schema.stats.items()
            if (exclusion := before.exclusion_beside(now.get(name), ordered=settings.ordered)) is not None
        }
        selection = table_columns.select_columns(reference, schema, settings)
        gone = (name for name in reference.columns if name not in current.columns)
        selection = selection.excluding(exclusions, settings, reference.name)
        return cls(selection, schema.stats, now, frozenset([*now, *gone]))

    def reader(self, table: Table, strict_texts: Collection[str] = ()) -> TableReader:
        """The batches of the selected columns."""
        return TableReader(table, *self.selection.read_as, strict_texts=strict_texts)

    def without_continuing(
        self, reference: ReferenceTable, settings: DriftFileSettings, table: str
    ) -> tuple[_Columns, ReferenceTable, list[str]]:
        """Without the rising columns that the current rows continue where the reference ends; a note on columns that
        both tables are sorted by."""
        features = self.selection.features
        rising = [n for n in self.now if settings.ordered and n in features and self.before[n].rises]
        ends = {name: float(np.nanmax(read_numbers(reference.sample[name])[0])) for name in rising}
        continuing = {name: table_columns.COUNTER for name in rising if self.now[name].continues(ends[name])}
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

    slices: RowSlices
    total: Slice
    sample: Mapping[str, Column]
    respelt: RespeltValues

    @classmethod
    def read(
        cls,
        batches: Iterable[TableBatch],
        profile: Profile,
        reference: ReferenceTable,
        settings: DriftFileSettings,
        rows: int | None,
    ) -> CurrentRows:
        """Count all batches against the grids of `profile`; `rows` is their number where it is known."""
        slices, sample = RowSlices(profile, settings.rules, rows), SystematicSample()
        respelt = RespeltValues(profile, folded)
        performance = None if profile.truth is None else profile.truth.performance
        for batch in batches:
            for part, some in slices.split(batch):
                columns = dict(some.columns)
                target, prediction = reference.prediction_type.take(columns, part.outcomes)
                columns = columns or {ROWS_ONLY: np.zeros(some.rows)}
                part.comparison.add(columns, targets=target, predictions=prediction)
                sample.add(columns, some.rows)
                respelt.add(columns)
                if target is not None and prediction is not None and performance is not None:
                    part.losses.append(row_losses(performance.task, target, prediction))
        return cls(slices, slices.total(), sample.columns(), respelt)


@dataclass(frozen=True)
class _ReportBuilder:
    """The report on both tables."""

    profile: Profile
    reference: ReferenceTable
    current: CurrentRows
    verdict: TableVerdict
    settings: DriftFileSettings

    def report(self, findings: list[Finding], notes: list[str]) -> DriftReport:
        """The report with the findings on the tables, and notes on their columns."""
        rules, judgement, signals = self.verdict.report, self.verdict.judgement, self.verdict.signals.values()
        by_column: dict[str, list[Signal]] = {}
        for signal in signals:
            by_column.setdefault(signal.feature, []).append(signal)
        doubts = self._column_doubts(rules, by_column)
        features = [
            self._column(feature, by_column, adjusted, doubts)
            for feature, adjusted in zip(rules.features, self.verdict.adjusted_p_values, strict=True)
            if feature.name != ROWS_ONLY
        ]
        features.sort(key=lambda c: (not c.drifted, -((c.statistic or 0.0) / (c.threshold or 1.0)), c.name))
        outputs = {output.name: output for output in rules.outputs}
        prediction = outputs.get(self.settings.prediction or "")
        target = outputs.get("target") if self.settings.target is not None else None
        known, performance = self.reference.prediction_type, None
        notes, model = [*notes, *known.notes], self._model_doubts(rules)
        if rules.performance is not None and known.task is not None and known.kind is not None:
            metrics, judged = rules.performance.metrics, not any(not doubt.judged for doubt in model)
            performance = Performance(known.task, known.kind, known.positive, metrics, judged)
        if self.settings.ordered and self.settings.mode != "simple":
            notes = [*notes, *data_findings.dependence_notes(self.profile)]
        named = [finding for finding in doubts.values() if finding is not None]
        rare = [self._rare(name, by_column) for name in self.profile.index]
        told = [finding for finding in rare if finding is not None and finding.judged]
        findings = [*self._cell_findings(by_column), *named, *told, *model, *findings]
        severity, not_judged = overall(judgement.severity, findings)
        return DriftReport(
            severity=severity,
            confidence=None if severity == UNKNOWN else judgement.confidence,
            root_cause=judgement.root_cause,
            action=judgement.action,
            features=tuple(features),
            quality=DataQuality(rules.quality.score, tuple(findings)),
            performance=performance,
            prediction=None if prediction is None else self._column(prediction, by_column, None, doubts),
            target=None if target is None else self._target(target, by_column.get(target.name, [])),
            not_judged=not_judged,
            signals=tuple(asdict(signal) for signal in signals),
            rows=(self.reference.rows, self.verdict.comparison.rows),
            notes=tuple(notes),
            settings=self.settings.to_dict(),
            steps=self.current.slices.steps(self.profile),
        )

    def _column_doubts(
        self, rules: TableReport, by_column: Mapping[str, Sequence[Signal]]
    ) -> dict[str, Finding | None]:
        """The columns that can't be judged, by name, with the reason; None where the table has too few rows for any."""
        profile, settings, few = self.profile, self.settings, min(self.reference.rows, self.verdict.comparison.rows)
        doubts: dict[str, Finding | None] = {}
        for measured in (*rules.features, *rules.outputs):
            name = measured.name
            if name not in profile.index or name == ROWS_ONLY:
                continue
            asked = settings.features is not None or name == settings.prediction
            fitted, now = profile.features[profile.index[name]], self.verdict.present(name)
            found = by_column.get(name, ())
            doubt = column_doubt(fitted, now, self.verdict.rules, found, measured.threshold, asked=asked)
            rare = self._rare(name, by_column)
            doubt = doubt or (None if rare is None or rare.judged else rare)
            if doubt is not None:
                doubts[name] = None if few < FEWEST_VALUES else doubt
        if profile.truth is not None and settings.target is not None and settings.prediction is None:
            (fitted,), now = profile.truth.distribution.features, self.verdict.comparison.target_rows
            fitted = replace(fitted, name=settings.target)
            doubt = column_doubt(fitted, now, self.verdict.rules, by_column.get("target", ()), 0.0, asked=True)
            if doubt is not None and few >= FEWEST_VALUES:
                doubts[settings.target] = doubt
        if len(doubts) == len(rules.features) + len(rules.outputs):  # then nothing is judged, though nobody named any
            return {name: doubt and replace(doubt, judged=False) for name, doubt in doubts.items()}
        return doubts

    def _rare(self, name: str, by_column: Collection[str]) -> Finding | None:
        """On texts of a column that are counted together."""
        fitted, now = self.profile.features[self.profile.index[name]], self.verdict.present(name)
        return rare_values(fitted, self.verdict.rare(name) / now, drifted=name in by_column) if now else None

    def _model_doubts(self, rules: TableReport) -> list[Finding]:
        """Why the model's performance can't be judged; nothing where a loss was seen."""
        reference, metrics = self.reference, () if rules.performance is None else rules.performance.metrics
        if reference.target is None or reference.prediction is None:
            return []
        if any(signal.kind in PERFORMANCE_KINDS for signal in self.verdict.signals.values()):
            return []
        doubts = model_doubts(reference.prediction_type, reference.target, reference.prediction)
        # Outcomes may be to come: the scores say something, if there are enough of them.
        if doubts or any(metric.estimated and metric.judged for metric in metrics):
            return doubts
        return outcome_doubts(reference.prediction_type, len(self.verdict.losses))

    def _column(
        self,
        measured: FeatureReport,
        by_column: Mapping[str, list[Signal]],
        adjusted: float | None,
        doubts: Collection[str],
    ) -> ColumnDrift:
        profile, name = self.profile, measured.name
        i = profile.index[name]
        fitted, signals = profile.features[i], by_column.get(name, [])
        special = profile.slots + SPECIALS * i
        missing = int(self.verdict.comparison.counts[special : special + SPECIALS].sum())
        present = self.verdict.present(name)
        drifted = any(signal.kind in DISTRIBUTION_KINDS or signal.kind in _FACTS for signal in signals)
        sample = None
        if name in self.current.sample and name in self.reference.sample:
            sample = ColumnSample(self.reference.sample[name], self.current.sample[name], fitted.numeric)
        column = replace(
            _measured(name, measured, signals),
            adjusted_p_value=adjusted,
            drifted=None if name in doubts else drifted or (fitted.present > 0 and not present and bool(signals)),
            missing=(sum(fitted.specials) / profile.rows, missing / max(1, self.verdict.comparison.rows)),
            effective_rows=present * fitted.shape[0].efficiency,
            sample=sample,
        )
        return column if fitted.present and present else replace(column, **_NO_EVIDENCE)

    def _target(self, measured: FeatureReport, signals: Iterable[Signal]) -> ColumnDrift:
        """The target's distribution, and its shares of rows without a value."""
        unlabelled = self.reference.prediction_type.unlabelled
        now = 1 - self.current.total.outcomes.targets / max(1, self.verdict.comparison.rows)
        column = _measured(self.settings.target or "", measured, signals)
        return replace(column, missing=(1.0 if unlabelled is None else unlabelled, now))

    def _cell_findings(self, signalled: Collection[str]) -> list[Finding]:
        """Findings of the drift rules, and on the cells of all columns."""
        reference, counts, rows = self.reference, self.current.total.outcomes, self.verdict.comparison.rows
        replaced = self.settings.prediction if counts.mismatched else None
        rule_findings = self.verdict.report.quality.findings
        findings = data_findings.rule_findings(rule_findings, self.current.sample, signalled, replaced)
        findings += data_findings.respelt_findings(self.current.respelt, counts, signalled)
        findings += data_findings.few_rows_findings(reference.rows, rows)
        known = {finding.column for finding in findings if finding.kind in ("type_change", "infinite")}
        return findings + data_findings.outcome_findings(reference.prediction_type, counts, rows, signalled, known)


def _measured(name: str, measured: FeatureReport, signals: Iterable[Signal]) -> ColumnDrift:
    return ColumnDrift(
        name=name,
        kind=measured.kind,
        statistic=measured.statistic,
        lower=min(measured.lower, measured.statistic),
        upper=max(measured.upper, measured.statistic),
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
