"""Two files compared: the current rows against the reference, each read in batches and judged once.

The rules are `evaluator.drift`'s; here is what files add: findings about columns, evidence over all features, plots.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt

from evaluator.drift.columns import read_numbers
from evaluator.drift.feature import Column
from evaluator.drift.profile import SPECIALS, Profile
from evaluator.drift.report import FeatureReport
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import SHAPES, Signal
from evaluator.offline.drift import data_findings, duplicate_rows, timeliness
from evaluator.offline.drift.columns import (
    COUNTER,
    COUNTS,
    Selection,
    Survey,
    Traits,
    between,
    compare_columns,
    goes_on,
    select,
    survey,
    traits,
)
from evaluator.offline.drift.histograms import category_bars, number_bars
from evaluator.offline.drift.prediction_type import present
from evaluator.offline.drift.reference import NOTHING, Known, Sample, completed, grids, learn, losses
from evaluator.offline.drift.result import Bars, ColumnDrift, DriftReport, Finding, Performance, Quality
from evaluator.offline.drift.scan import KIND_ROWS, Batch, Passing, Reader, Replay, number_in
from evaluator.offline.drift.settings import DriftRequestError, Settings
from evaluator.offline.drift.slices import Slice, Slices
from evaluator.offline.drift.timeliness import NO_TIMES
from evaluator.offline.drift.verdict import Verdict
from gauntlet.table import Table

Floats = npt.NDArray[np.float64]


def check(reference: Table, current: Table, settings: Settings) -> DriftReport:
    """Compare two tables.

    Raises DriftRequestError for columns that aren't there or don't fit, TableError for a table that can't be read.
    """
    if settings.season is not None:
        raise DriftRequestError("seasons are for a stream; two files are compared as they are")
    found = survey(reference)
    later = _traits_now(found, current)
    selection = select(reference, found, settings).without(_counting(found, later, settings), settings, reference.name)
    uncertain = {*later, *(name for name in reference.columns if name not in current.columns)}
    before = Passing(Reader(reference, selection.numbers, selection.texts), settings.time, uncertain=uncertain)
    rules = DriftSettings(mode=settings.mode, batch_alpha=settings.alpha, fewest_rows=data_findings.FEWEST)
    # Only a table whose length is known before it is read is cheap to read twice.
    with Replay(before) if reference.rows is None else nullcontext(before) as was:
        known = learn(was, settings)
        if settings.time is not None and before.clock.unknown == known.rows:
            raise DriftRequestError(NO_TIMES.format(settings.time))
        selection, known, notes = _settled(selection, known, found, later, settings, reference.name)
        profile = grids(known, settings, reference.name)
        seen = _Seen(profile, rules, known, settings, current.rows)
        words = _words(profile, settings)
        now = Passing(
            Reader(current, selection.numbers, selection.texts, words=words), settings.time, uncertain=uncertain
        )
        now.clock.since = before.clock.first
        for batch in now:
            seen.add(batch)
        whole = seen.slices.whole()
        final = completed(profile, known, _without(was, settings.target), settings, whole.comparison.rows)
    # The same grids, now with the counts and the dependence of all rows.
    verdict = whole.verdict(final, settings.alpha)
    notes += [] if known.roles is None else [known.roles.note]
    findings = [*selection.findings, *compare_columns(reference, current, settings)]
    findings += duplicate_rows.finding(before.repeats, now.repeats)
    if settings.time is not None and settings.time in current.columns:
        findings += timeliness.findings(settings.time, before.clock, now.clock)
    return _Answer(verdict, seen, known, settings).report(findings, notes)


def _traits_now(found: Survey, current: Table) -> dict[str, Traits]:
    """Of the current rows' columns of numbers that may count or name rows in the reference."""
    kinds = current.kinds(KIND_ROWS)
    return traits(
        current, [n for n, was in found.traits.items() if (was.rises or was.names) and kinds.get(n) == "number"]
    )


def _counting(found: Survey, later: dict[str, Traits], settings: Settings) -> dict[str, tuple[str, str]]:
    told = {name: between(was, later.get(name), ordered=settings.ordered) for name, was in found.traits.items()}
    return {name: reason for name, reason in told.items() if reason is not None}


def _settled(
    selection: Selection, known: Known, found: Survey, later: dict[str, Traits], settings: Settings, name: str
) -> tuple[Selection, Known, list[str]]:
    """Without the columns that rise and of which only the reference's end tells that they go on after it; a note on
    those that both files are sorted by."""
    rising = [n for n in later if settings.ordered and n in selection.features and found.traits[n].rises]
    ends = {n: float(np.nanmax(read_numbers(known.sample[n])[0])) for n in rising}
    on = {n: (COUNTER, COUNTS) for n in rising if goes_on(ends[n], later[n])}
    left = selection.without(on, settings, name)
    both = [n for n in rising if n in left.features and later[n].rises]
    notes = (
        [
            f"both files are sorted by {', '.join(both)}: neighbouring rows say little beside each other there, and "
            "with --unordered all rows weigh as independent ones"
        ]
        if both
        else []
    )
    kept = {n: values for n, values in known.sample.items() if n in (*left.features, settings.prediction)}
    return left, replace(known, sample=kept), notes


def _words(profile: Profile, settings: Settings) -> list[str]:
    """Columns of texts none of which is a number."""
    texts = {feature.name: feature.grid.categories for feature in profile.features if not feature.numeric}
    if profile.truth is not None and settings.target is not None:
        texts[settings.target] = profile.truth.distribution.features[0].grid.categories
    return [name for name, values in texts.items() if not any(number_in(text) is not None for text in values)]


def _without(reader: Iterable[Batch], target: str | None) -> Iterable[Batch]:
    for batch in reader:
        yield replace(batch, columns={name: values for name, values in batch.columns.items() if name != target})


class _Seen:
    """The current rows: counted slice by slice, and sampled for plots."""

    def __init__(
        self, profile: Profile, rules: DriftSettings, known: Known, settings: Settings, rows: int | None
    ) -> None:
        self.slices = Slices(profile, rules, rows)
        self.sample = Sample()
        self.targets = 0
        """Cells with a target, whatever it is."""
        self.another = 0
        """Predictions of another kind than the reference's."""
        self._truth, self._known, self._settings = profile.truth, known, settings

    def add(self, batch: Batch) -> None:
        for part, rows in self.slices.parts(batch):
            self._add(part, rows)

    def _add(self, part: Slice, batch: Batch) -> None:
        target, said = self._settings.target, self._settings.prediction
        columns = {name: values for name, values in batch.columns.items() if name != target}
        truth = answer = None
        if target is not None and target in batch.columns:
            truth = self._known.truth(batch.columns[target])
            self.targets += present(batch.columns[target])
            _doubt(part, target, batch.columns[target], truth)
        if said is not None and said in columns:
            columns[said], another = self._known.answer.told(columns[said])
            self.another += another
            answer = self._known.said(columns[said])
            _doubt(part, said, columns[said], answer, at_least=another)
        if not columns and batch.rows:
            columns = {NOTHING: np.zeros(batch.rows)}  # nothing that is watched is here, yet there are rows
        part.comparison.add(columns, targets=truth, predictions=answer)
        self.sample.add(columns, batch.rows)
        known = self._truth
        if truth is not None and answer is not None and known is not None and known.performance is not None:
            part.losses.append(losses(known.performance.task, truth, answer))


def _doubt(part: Slice, name: str, cells: Column, usable: Column, at_least: int = 0) -> None:
    part.odd[name] = part.odd.get(name, 0) + max(at_least, present(cells) - present(usable))


class _Answer:
    """The verdict over everything that was seen, as a report."""

    def __init__(self, verdict: Verdict, seen: _Seen, known: Known, settings: Settings) -> None:
        self._verdict, self._seen, self._known, self._settings = verdict, seen, known, settings
        self._profile, self._report = verdict.profile, verdict.report
        self._rows = verdict.comparison.rows
        self._sampled = seen.sample.columns()

    def report(self, findings: list[Finding], notes: list[str]) -> DriftReport:
        found, judged, signals = self._report, self._verdict.judgement, self._verdict.signals.values()
        by_column: dict[str, list[Signal]] = {}
        for signal in signals:
            by_column.setdefault(signal.feature, []).append(signal)
        columns = [
            self._column(feature, by_column.get(feature.name, []), adjusted)
            for feature, adjusted in zip(found.features, self._verdict.adjusted, strict=True)
            if feature.name != NOTHING
        ]
        columns.sort(key=lambda c: (not c.drifted, -((c.statistic or 0.0) / (c.threshold or 1.0)), c.name))
        outputs = {feature.name: feature for feature in found.outputs}
        said, target = self._settings.prediction, self._settings.target
        return DriftReport(
            severity=judged.severity.name,
            confidence=judged.confidence,
            root_cause=judged.root_cause,
            action=judged.action,
            features=tuple(columns),
            quality=Quality(found.quality.score, (*self._findings(by_column), *findings)),
            performance=self._performance(),
            prediction=self._output(outputs.get(said or ""), said, by_column),
            target=self._output(outputs.get("target") if target is not None else None, target, by_column),
            signals=tuple(asdict(signal) for signal in signals),
            rows=(self._known.rows, self._rows),
            notes=(*notes, *self._notes()),
            settings=self._settings.to_dict(),
            steps=self._seen.slices.steps(self._profile, self._settings.alpha),
        )

    def _column(self, feature: FeatureReport, signals: list[Signal], adjusted: float | None) -> ColumnDrift:
        profile, i = self._profile, self._profile.index[feature.name]
        fitted, rows = profile.features[i], max(1, self._rows)
        special = profile.slots + SPECIALS * i
        bad = int(self._verdict.comparison.counts[special : special + SPECIALS].sum())
        present = self._verdict.present(feature.name)
        said = fitted.present > 0 and present > 0
        facts = {"column_gone", "type_change", "displaced"}
        emptied = fitted.present > 0 and not present and bool(signals)
        return ColumnDrift(
            name=feature.name,
            kind=feature.kind,
            statistic=feature.statistic if said else None,
            lower=min(feature.lower, feature.statistic) if said else None,
            upper=max(feature.upper, feature.statistic) if said else None,
            p_value=feature.p_value if said else None,
            adjusted_p_value=adjusted if said else None,
            threshold=feature.threshold,
            drifted=emptied or any(signal.kind in SHAPES or signal.kind in facts for signal in signals),
            psi=feature.psi if said else None,
            wasserstein=feature.wasserstein if said else None,
            missing=(sum(fitted.specials) / profile.rows, bad / rows),
            rows_worth=present * fitted.shape[0].efficiency if said else None,
            signals=tuple(sorted({signal.kind for signal in signals})),
            bars=self._bars(feature.name, numeric=fitted.numeric),
        )

    def _bars(self, name: str, *, numeric: bool) -> Bars | None:
        current = self._sampled.get(name)
        if current is None or name not in self._known.sample:
            return None
        return (number_bars if numeric else category_bars)(self._known.sample[name], current)

    def _output(
        self, output: FeatureReport | None, name: str | None, by_column: dict[str, list[Signal]]
    ) -> ColumnDrift | None:
        if output is None or name is None:
            return None
        if name == self._settings.prediction:
            return self._column(output, by_column.get(output.name, []), None)
        return ColumnDrift(
            name=name,
            kind=output.kind,
            statistic=output.statistic,
            lower=output.lower,
            upper=output.upper,
            p_value=output.p_value,
            adjusted_p_value=None,
            threshold=output.threshold,
            drifted=output.drifted,
            psi=output.psi,
            wasserstein=output.wasserstein,
            missing=self._lack(),
            rows_worth=None,
            signals=tuple(sorted({signal.kind for signal in by_column.get(output.name, [])})),
        )

    def _lack(self) -> tuple[float, float]:
        """Shares of rows without a target."""
        before = 0 if self._known.target is None else present(self._known.target)
        return 1 - before / self._known.rows, 1 - self._seen.targets / max(1, self._rows)

    def _findings(self, by_column: dict[str, list[Signal]]) -> list[Finding]:
        facts, odd, seen = self._report.quality.findings, self._verdict.odd, self._seen
        counted = data_findings.Counted(self._rows, odd, seen.another, seen.targets, self._sampled)
        return data_findings.findings(facts, counted, self._known, self._profile, self._settings, set(by_column))

    def _performance(self) -> Performance | None:
        found, roles = self._report.performance, self._known.roles
        if found is None or roles is None:
            return None
        return Performance(roles.task, roles.says, roles.positive, found.metrics, ())

    def _notes(self) -> list[str]:
        if not self._settings.ordered or self._verdict.rules.simple:
            return []
        then = "rows are weighed accordingly; if the order of rows means nothing, say so (unordered)"
        return data_findings.dependence(self._profile, 0, then)
