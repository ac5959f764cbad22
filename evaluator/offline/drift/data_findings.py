"""What a person should know about the current rows of two files beside the judgement: findings and notes in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evaluator.drift.feature import Column
from evaluator.drift.profile import Profile
from evaluator.drift.report import Finding as Fact
from evaluator.offline.drift.prediction_type import present
from evaluator.offline.drift.reference import NOTHING, Known
from evaluator.offline.drift.result import Finding
from evaluator.offline.drift.settings import Settings

FEWEST = 10
"""Present values below which nothing is said of a distribution; p values are exact enough from here on."""
_FEW = 250
"""Rows with which only large shifts can be told from chance."""
_DEPENDENT = 0.1
"""Independent rows a row from which on dependence is worth a word; less may be chance."""
_LACK = 0.05
"""Share of rows without a target, more than in the reference, that is worth a word."""
_SPEAKS = 30.0
"""Independent rows with which a shift of half the reference's rows can just be told in a stream."""
_NAMED = 5
_ALARMING = {"column_gone", "type_change", "missing", "infinite", "empty"}


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted of the current rows. `odd`: cells of target and prediction that can be neither; `another`:
    predictions of another kind; `targets`: rows with a target; `sampled`: some rows by column."""

    rows: int
    odd: Mapping[str, int]
    another: int
    targets: int
    sampled: Mapping[str, Column]


def findings(
    facts: tuple[Fact, ...], seen: Counted, known: Known, profile: Profile, settings: Settings, alarmed: set[str]
) -> list[Finding]:
    """From the rules' own facts and what only files have; `alarmed` are the columns about which a rule spoke."""
    rows = seen.rows
    found = [
        Finding(f.kind, f.feature or None, f.text, f.kind in _ALARMING and f.feature in alarmed)
        for f in facts
        if (f.feature != NOTHING or f.kind == "few_rows")
        and (f.kind != "constant" or _constant(seen.sampled.get(f.feature)))
        and not (f.kind == "type_change" and f.feature == settings.prediction and seen.another)
    ]
    found += [
        Finding("few_rows", None, f"{count} {side} rows: only large shifts can be told from chance")
        for side, count in (("reference", known.rows), ("current", rows))
        if FEWEST <= count < _FEW
    ]
    found += [
        Finding("empty_reference", f.name, f"the reference has no value of {f.name}: nothing to compare with")
        for f in profile.features
        if not f.present and f.name != NOTHING
    ]
    found += [
        Finding("type_change", name, _oddity(name, odd, seen, known, settings), name in alarmed)
        for name, odd in seen.odd.items()
        if odd and not any(f.column == name and f.kind in ("type_change", "infinite") for f in found)
    ]
    target = settings.target
    if target is not None and target in seen.odd:
        if not seen.targets:
            found.append(Finding("no_target", target, f"no row has a value of {target!r}: there are no labels yet"))
        elif known.target is not None:
            lack, was = 1 - seen.targets / rows, 1 - present(known.target) / known.rows
            found += lacking(target, lack, was)
    return found


def lacking(target: str, lack: float, was: float) -> list[Finding]:
    """Targets missing in far more rows than in the reference; labels may still come, so it alarms nobody."""
    if lack <= was + _LACK:
        return []
    message = (
        f"{lack:.1%} of rows have no value of {target}, {was:.1%} in the reference: what is said of the model "
        "is about the others"
    )
    return [Finding("missing_target", target, message)]


def _oddity(name: str, odd: int, seen: Counted, known: Known, settings: Settings) -> str:
    if name == settings.prediction and seen.another:
        return f"{seen.another} of {seen.rows} values of {name} are {known.answer.other}: nothing is judged by them"
    kind = "as in the reference"
    if known.roles is not None and known.roles.says == "probability":
        kind = "a number from 0 to 1" if name != settings.target else "of the reference's classes"
    return f"{odd} of {seen.rows} values of {name} are not {kind}: nothing is judged by them"


def _constant(values: Column | None) -> bool:
    """Whether all sampled values are one: those beyond the reference's range share one place of its grid."""
    return values is not None and len({v for v in list(values) if v is not None and v == v}) <= 1


def dependence(profile: Profile, place: int, then: str) -> list[str]:
    """A note on the columns whose neighbouring rows say little beside each other, on windows of one `place`; `then` is
    what follows from it."""
    dependent = [f.name for f in profile.features if f.present and f.shape[place].efficiency < _DEPENDENT]
    if not dependent:
        return []
    some = ", ".join(dependent[:_NAMED]) + (", …" if len(dependent) > _NAMED else "")
    told = f"neighbouring rows of the reference depend on each other in {len(dependent)} columns ({some})"
    return [f"{told}: {then}"]


def speechless(profile: Profile) -> list[str]:
    """A note on the columns of a stream whose windows, however long, are worth next to no independent rows."""
    worth = {
        f.name: max(window * one.efficiency for window, one in zip(profile.windows, f.shape, strict=True))
        for f in profile.features
        if f.present
    }
    few = sorted((rows, name) for name, rows in worth.items() if rows < _SPEAKS)
    if not few:
        return []
    some = ", ".join(f"{name}: {max(1, round(rows))}" for rows, name in few[:_NAMED]) + (", …" if few[_NAMED:] else "")
    return [
        f"neighbouring rows of the reference depend on each other so much in {len(few)} columns that even the "
        f"{profile.windows[-1]:,} rows of the longest window are worth few independent ones ({some}): there only what "
        "is far outside will be told; a season, or fewer rows with more time between them, may say more"
    ]
