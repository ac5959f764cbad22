"""Two files compared: the current rows against the reference, each read in batches and judged once.

The rules are `evaluator.drift`'s; here is what files add: findings about columns, evidence over all features, plots.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt

from evaluator.drift.comparison import Comparison
from evaluator.drift.concept import rise_of
from evaluator.drift.feature import Column
from evaluator.drift.fusion import judge
from evaluator.drift.profile import SPECIALS, Profile
from evaluator.drift.report import FeatureReport, Report
from evaluator.drift.settings import DriftSettings
from evaluator.drift.signal import SHAPES, Signal
from evaluator.drift.signals import kind_of
from evaluator.driftfile.bars import category_bars, number_bars
from evaluator.driftfile.reader import KIND_ROWS, Batch, Reader, number_in
from evaluator.driftfile.reference import FEWEST_ERRORS, Known, completed, grids, learn, losses
from evaluator.driftfile.replay import Replay
from evaluator.driftfile.result import Bars, ColumnDrift, DriftReport, Finding, Performance, Quality
from evaluator.driftfile.roles import present
from evaluator.driftfile.sample import Sample
from evaluator.driftfile.selection import Selection, compare_columns, select
from evaluator.driftfile.settings import DriftRequestError, Settings
from evaluator.driftfile.survey import COUNTER, FEWEST, Survey, rising, survey
from gauntlet.table import Table

Floats = npt.NDArray[np.float64]

_FEWEST = 10
"""Present values below which nothing is said of a distribution; p values are exact enough from here on."""
_SPREAD = 30
"""Values of the reference from which on its standard deviation means something."""
_DEPENDENT = 0.1
"""Independent rows a row from which on dependence is worth a word; less may be chance."""
_FEW = 250
"""Rows with which only large shifts can be told from chance."""


def check(reference: Table, current: Table, settings: Settings) -> DriftReport:
    """Compare two tables.

    Raises DriftRequestError for columns that aren't there or don't fit, TableError for a table that can't be read.
    """
    if settings.season is not None:
        raise DriftRequestError("seasons are for a stream; two files are compared as they are")
    selection = select(reference, _surveyed(reference, current), settings)
    reader = Reader(reference, selection.numbers, selection.texts)
    rules = DriftSettings(mode=settings.mode, batch_alpha=settings.alpha, fewest_rows=_FEWEST)
    # Only a table whose length is known before it is read is cheap to read twice.
    with Replay(reader) if reference.rows is None else nullcontext(reader) as was:
        known = learn(was, settings)
        profile = grids(known, settings, reference.name)
        seen = _Seen(profile, rules, known, settings)
        for batch in Reader(current, selection.numbers, selection.texts, words=_words(profile, settings)):
            seen.add(batch)
        final = completed(profile, known, _without(was, settings.target), settings, seen.comparison.rows)
    seen.comparison.profile = final  # the same grids, now with the counts and the dependence of all rows
    notes = [] if known.roles is None else [known.roles.note]
    findings = [*selection.findings, *compare_columns(reference, current, settings)]
    return _Answer(seen, known, final, rules, settings).report(selection, findings, notes)


def _surveyed(reference: Table, current: Table) -> Survey:
    """A column that rises on both sides is a counter; on one side only, that file is sorted by it."""
    found, kinds = survey(reference), current.kinds(KIND_ROWS)
    counters = [name for name, (kind, _) in found.left_out.items() if kind == COUNTER]
    there = [name for name in counters if kinds.get(name) == "number"]
    sorted_by = set(there) - rising(current, there) if current.rows is None or current.rows >= FEWEST else set()
    return replace(found, left_out={n: why for n, why in found.left_out.items() if n not in sorted_by})


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
    """The current rows: counted, sampled for plots, and their losses summed."""

    def __init__(self, profile: Profile, rules: DriftSettings, known: Known, settings: Settings) -> None:
        self.comparison = Comparison(profile, rules)
        self.sample = Sample()
        self.losses: list[Floats] = []
        self.targets = 0
        """Cells with a target, whatever it is."""
        self.odd: dict[str, int] = {}
        """Cells of target and prediction that can be neither."""
        self._known, self._settings = known, settings

    def add(self, batch: Batch) -> None:
        target, said = self._settings.target, self._settings.prediction
        columns = {name: values for name, values in batch.columns.items() if name != target}
        truth = answer = None
        if target is not None and target in batch.columns:
            truth = self._known.truth(batch.columns[target])
            self.targets += present(batch.columns[target])
            self._doubt(target, batch.columns[target], truth)
        if said is not None and said in columns:
            answer = self._known.said(columns[said])
            self._doubt(said, columns[said], answer)
        if not columns and batch.rows:
            columns = {"": np.zeros(batch.rows)}  # nothing that is watched is here, yet there are rows
        self.comparison.add(columns, targets=truth, predictions=answer)
        self.sample.add(columns, batch.rows)
        known = self.comparison.profile.truth
        if truth is not None and answer is not None and known is not None and known.performance is not None:
            self.losses.append(losses(known.performance.task, truth, answer))

    def _doubt(self, name: str, cells: Column, usable: Column) -> None:
        self.odd[name] = self.odd.get(name, 0) + present(cells) - present(usable)


class _Answer:
    """The judgement over everything that was seen."""

    def __init__(self, seen: _Seen, known: Known, profile: Profile, rules: DriftSettings, settings: Settings) -> None:
        self._seen, self._known, self._profile = seen, known, profile
        self._rules, self._settings = rules, settings
        self._sampled = seen.sample.columns()
        self._report: Report = seen.comparison.report()
        self._adjusted = _adjusted([feature.p_value for feature in self._report.features])

    def report(self, selection: Selection, findings: list[Finding], notes: list[str]) -> DriftReport:
        found = self._report
        signals = {
            signal.key: signal for signal in (*found.signals, *self._moved(), *self._risen(), *self._impossible())
        }
        signals = {key: signal for key, signal in signals.items() if not self._baseless(signal)}
        judged = judge(signals.values(), self._profile, self._rules)
        by_column: dict[str, list[Signal]] = {}
        for signal in signals.values():
            by_column.setdefault(signal.feature, []).append(signal)
        columns = [
            self._column(feature, by_column.get(feature.name, []), adjusted)
            for feature, adjusted in zip(found.features, self._adjusted, strict=True)
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
            signals=tuple(asdict(signal) for signal in signals.values()),
            rows=(self._known.rows, self._seen.comparison.rows),
            notes=(*notes, *self._notes()),
            settings=self._settings.to_dict(),
        )

    def _baseless(self, signal: Signal) -> bool:
        """Three standard deviations of next to no values are no limit to be beyond of."""
        index = self._profile.index.get(signal.feature)
        few = index is not None and self._profile.features[index].present < _SPREAD
        return few and signal.kind in ("displaced", "outliers")

    def _moved(self) -> list[Signal]:
        """Features beyond their threshold that are significant among all features, whatever the others' effect."""
        if self._rules.simple:
            return []
        features = {feature.name: feature for feature in self._profile.features}
        return [
            Signal(kind_of(features[f.name]), f.name, f.statistic, f.lower, f.upper, f.threshold, f.p_value,
                   self._seen.comparison.rows)
            for f, adjusted in zip(self._report.features, self._adjusted, strict=True)
            if f.statistic >= f.threshold and adjusted <= self._settings.alpha and self._present(f.name) >= _FEWEST
        ]  # fmt: skip

    def _risen(self) -> list[Signal]:
        """A rise of the mean loss, judged once over all rows."""
        errors = self._profile.errors
        if errors is None or not self._seen.losses:
            return []
        seen = np.minimum(np.concatenate(self._seen.losses), errors.cap)
        if len(seen) < FEWEST_ERRORS:
            return []
        rules = self._rules
        rise = rise_of(errors, 0, len(seen), float(seen.sum()), float((seen**2).sum()), rules.concept_rise)
        threshold, z = (rules.concept_rise, -math.inf) if rules.simple else (rise.threshold, rules.performance_z)
        if rise.rise <= threshold or rise.z < z:
            return []
        critical = rise.rise > 2 * threshold and (rules.simple or rise.z_beyond >= z)
        p_value = 0.5 * math.erfc(rise.z / math.sqrt(2))
        return [Signal("concept", "", rise.rise, rise.lower, rise.upper, threshold, p_value, len(seen), critical)]

    def _impossible(self) -> list[Signal]:
        """A target or prediction with cells that can be neither: broken data, whatever the rest of it says."""
        rows, limit = self._seen.comparison.rows, self._rules.missing
        shares = {name: odd / max(1, rows) for name, odd in self._seen.odd.items() if rows >= _FEWEST}
        return [
            Signal("type_change", name, share, share, share, limit, 0.0, rows)
            for name, share in shares.items()
            if share > limit
        ]

    def _present(self, name: str) -> int:
        i = self._profile.index[name]
        start = int(self._profile.starts[i])
        return int(self._seen.comparison.counts[start : start + int(self._profile.sizes[i])].sum())

    def _column(self, feature: FeatureReport, signals: list[Signal], adjusted: float | None) -> ColumnDrift:
        profile, i = self._profile, self._profile.index[feature.name]
        fitted, rows = profile.features[i], max(1, self._seen.comparison.rows)
        special = profile.slots + SPECIALS * i
        bad = int(self._seen.comparison.counts[special : special + SPECIALS].sum())
        present = self._present(feature.name)
        said = fitted.present > 0 and present > 0
        facts = {"column_gone", "type_change", "displaced"}
        return ColumnDrift(
            name=feature.name,
            kind=feature.kind,
            statistic=feature.statistic if said else None,
            lower=min(feature.lower, feature.statistic) if said else None,
            upper=max(feature.upper, feature.statistic) if said else None,
            p_value=feature.p_value if said else None,
            adjusted_p_value=adjusted if said else None,
            threshold=feature.threshold,
            drifted=any(signal.kind in SHAPES or signal.kind in facts for signal in signals),
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
        if output.name in self._profile.index:
            return self._column(output, by_column.get(output.name, []), None)
        return ColumnDrift(
            name=name, kind=output.kind, statistic=output.statistic, lower=output.lower, upper=output.upper,
            p_value=output.p_value, adjusted_p_value=None, threshold=output.threshold, drifted=output.drifted,
            psi=output.psi, wasserstein=output.wasserstein, missing=(0.0, 0.0), rows_worth=None,
            signals=tuple(sorted({signal.kind for signal in by_column.get(output.name, [])})),
        )  # fmt: skip

    def _findings(self, by_column: dict[str, list[Signal]]) -> list[Finding]:
        alarming = {"column_gone", "type_change", "missing", "infinite", "empty"}
        found = [
            Finding(f.kind, f.feature or None, f.text, f.kind in alarming and bool(by_column.get(f.feature)))
            for f in self._report.quality.findings
            if f.kind != "constant" or self._constant(f.feature)
        ]
        rows, target = self._seen.comparison.rows, self._settings.target
        sides = (("reference", self._known.rows), ("current", rows))
        found += [
            Finding("few_rows", None, f"{count} {side} rows: only large shifts can be told from chance")
            for side, count in sides
            if _FEWEST <= count < _FEW
        ]
        found += [
            Finding("empty_reference", f.name, f"the reference has no value of {f.name}: nothing to compare with")
            for f in self._profile.features
            if not f.present
        ]
        found += [
            Finding("type_change", name, self._oddity(name, odd), bool(by_column.get(name)))
            for name, odd in self._seen.odd.items()
            if odd and not any(f.column == name and f.kind in ("type_change", "infinite") for f in found)
        ]
        if target is not None and target in self._seen.odd and not self._seen.targets:
            found.append(Finding("no_target", target, f"no row has a value of {target!r}: there are no labels yet"))
        return found

    def _oddity(self, name: str, odd: int) -> str:
        roles, rows = self._known.roles, self._seen.comparison.rows
        kind = "as in the reference"
        if roles is not None and roles.says == "probability":
            kind = "a number from 0 to 1" if name != self._settings.target else "of the reference's classes"
        return f"{odd} of {rows} values of {name} are not {kind}: nothing is judged by them"

    def _constant(self, name: str) -> bool:
        """Whether all sampled values are one: those beyond the reference's range share one place of its grid."""
        values = self._sampled.get(name)
        return values is not None and len({v for v in list(values) if v is not None and v == v}) <= 1

    def _performance(self) -> Performance | None:
        found, roles = self._report.performance, self._known.roles
        if found is None or roles is None:
            return None
        return Performance(roles.task, roles.says, roles.positive, found.metrics, ())

    def _notes(self) -> list[str]:
        notes: list[str] = []
        if self._settings.ordered and not self._rules.simple:
            dependent = [f.name for f in self._profile.features if f.shape[0].efficiency < _DEPENDENT]
            if dependent:
                some = ", ".join(dependent[:5]) + (", …" if len(dependent) > 5 else "")
                notes.append(
                    f"neighbouring rows of the reference depend on each other in {len(dependent)} columns ({some}): "
                    "rows are weighed accordingly; if the order of rows means nothing, say so (unordered)"
                )
        return notes


def _adjusted(p_values: list[float]) -> list[float]:
    """p values after Benjamini and Hochberg (1995): the smallest false-discovery rate at which each is rejected."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")[::-1]
    ranks = np.arange(len(values), 0, -1)
    adjusted = np.minimum.accumulate(values[order] * len(values) / ranks) if len(values) else values
    back = np.empty(len(values))
    back[order] = np.minimum(adjusted, 1.0)
    return list(back.tolist())
