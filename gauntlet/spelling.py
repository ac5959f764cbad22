"""Spellings of values and names: the one form in which values are compared, what a terminal may be shown, and
suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from decimal import Decimal

_NUMBER = re.compile(r"([+-]?)(0|[1-9]\d*|(?=\.\d))(?:\.(\d*))?", re.ASCII)
_SCIENTIFIC = re.compile(r"([+-]?[1-9](?:\.\d*)?)[eE]([+-]?\d{1,4})", re.ASCII)
"""With one digit before the point, as programs write numbers: 12e4 may be a name."""
_SPAN = re.compile(r"(-?\d+) days \+?(\d\d):(\d\d):(\d\d(?:\.\d+)?)", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[ T])?(\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_WITH_UNIT = re.compile(
    r"[+-]?[\d.,]*\d\s*([%‰€£¥$])"
    r"|([€£¥$]|(?:EUR|USD|GBP|CHF|JPY|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|BRL)(?=[\s\d])|Rs\.?|Fr\.)\s*[+-]?[\d.,]*\d"
    r"|[+-]?(?:[\d.,]*\d\s+|[\d,]*\.\d+|\d+,\d+|[\d.,]*\d(?=°))([^\W\d_]{1,5}|°[CF]?|[^\W\d_]{1,3}/[^\W\d_]{1,3})"
)
"""A number with one sign, with the code of a currency before it, or with a unit behind it."""
_WRITTEN_OUT = 30
"""Places up to which a number in scientific notation is written out."""


def canonical(text: str) -> str:
    """The one spelling in which a value is compared, however a file or a person wrote it.

    Truth values are `true` and `false`. Whole numbers have no fraction: `0.0` is `0`, `1e3` is `1000`. Lengths of time
    (`1 days 00:00:30`) are seconds. Times have a space before the hour, no empty fraction and no midnight, and those
    with a zone are in UTC. Any other text is what it is: `007` is a name, `1.10` another version than `1.1`.
    """
    if text.isdecimal() and text[0] != "0":  # most texts with digits, such as identifiers
        return text
    trimmed = text.strip()
    if trimmed[:1] not in "+-.0123456789":
        return trimmed.lower() if trimmed[:1] in "tTfF" and trimmed.lower() in ("true", "false") else text
    if (match := _NUMBER.fullmatch(trimmed)) is not None:
        return _number(*match.groups(default=""))
    if (match := _SCIENTIFIC.fullmatch(trimmed)) is not None:
        return _scientific(*match.groups())
    if (match := _SPAN.fullmatch(trimmed)) is not None:
        days, hours, minutes, seconds = (Decimal(part) for part in match.groups())
        return f"{(((days * 24 + hours) * 60 + minutes) * 60 + seconds).normalize():f}"
    if (match := _TIME.fullmatch(trimmed)) is not None:
        return _time(*match.groups(default=""))
    return text


def _number(sign: str, whole: str, fraction: str) -> str:
    digits = f"{whole or '0'}.{fraction}" if fraction.strip("0") else whole or "0"
    return f"-{digits}" if sign == "-" and digits != "0" else digits


def _scientific(mantissa: str, power: str) -> str:
    if abs(int(power)) <= _WRITTEN_OUT:
        return canonical(f"{Decimal(f'{mantissa}e{power}').normalize():f}")
    return f"{canonical(mantissa)}e{int(power)}"


def _time(day: str, clock: str, fraction: str, zone: str) -> str:
    fraction = fraction.rstrip("0")
    if day and zone:  # to the microsecond; what a second has of it is the same in every zone
        try:
            at = datetime.fromisoformat(f"{day}{clock}{zone}").astimezone(UTC)
        except (ValueError, OverflowError):
            return f"{day}{clock}{zone}"
        day, clock, zone = f"{at:%Y-%m-%d} ", f"{at:%H:%M:%S}", "Z"
    if day and not fraction and not zone and clock == "00:00:00":
        return day[:-1]
    return f"{day.replace('T', ' ')}{clock}{fraction and '.' + fraction}{zone}"


def parse_number(text: str) -> float | None:
    """The number that a text spells, or None; true and false are 1 and 0."""
    try:
        return float(text) if "_" not in text else None  # Python's own way to write thousands; in data it is a name
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(text.strip().lower())


def number_hint(text: str) -> str:
    """Why a text that a person reads as a number is none, as a question; else empty."""
    trimmed = text.strip()
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3}){2,}(\.\d+)?|[+-]?\d{1,3}(,\d{3})+\.\d+", trimmed, re.ASCII):
        return f"are its commas between thousands? write {trimmed.replace(',', '')}"
    if re.fullmatch(r"[+-]?\d{1,3},\d{3}", trimmed, re.ASCII):
        bare = trimmed.replace(",", "")
        return f"is its comma a decimal point, or between thousands? write {trimmed.replace(',', '.')} or {bare}"
    if re.fullmatch(r"[+-]?\d+,\d+", trimmed, re.ASCII):
        return f"is its comma a decimal point? write {trimmed.replace(',', '.')}"
    if re.fullmatch(r"[+-]?\d{1,3}([ '\u00a0\u2009\u202f]\d{3})+(\.\d+)?", trimmed):
        return f"are its thousands set apart? write {re.sub('[^0-9.+-]', '', trimmed)}"
    if re.fullmatch(r"\u2212[\d.,]+", trimmed):
        return f"its minus is no hyphen: write -{trimmed[1:]}"
    if re.fullmatch(r"\([\d.,]*\d\)", trimmed, re.ASCII):
        return f"do its brackets mean a minus? write -{trimmed[1:-1].replace(',', '')}"
    if found := unit(trimmed):
        bare = trimmed.replace(found, "").strip()
        return f"write it without the {found!r}" + (f"; {hint}" if (hint := number_hint(bare)) else f": {bare}")
    if trimmed.lower() in ("yes", "no"):
        return "write 1 for yes and 0 for no"
    return ""


def unit(text: str) -> str:
    """What a number is written with: a sign such as %, a unit behind it, or the code of a currency; else empty.

    Letters count where a space or a fraction tells a quantity from a name: `12 kg`, `12.5kg`, and not `12A` or `A12`.
    """
    match = _WITH_UNIT.fullmatch(text.strip())
    return next(filter(None, match.groups()), "") if match is not None else ""


def folded(text: str) -> str:
    """What texts that a reader takes for one value have in common: without case, with one kind of each space and
    letter (NFKC: full-width letters, non-breaking spaces), and none around them."""
    return canonical(" ".join(unicodedata.normalize("NFKC", text).split())).casefold()


def alike(values: Iterable[str], most: int = 3) -> str:
    """The first values that differ only as spellings of one value do, each with its twins; empty where none do."""
    by_form: dict[str, list[str]] = {}
    for value in values:
        by_form.setdefault(folded(value), []).append(value)
    twins = [" and ".join(map(repr, sorted(group))) for _, group in sorted(by_form.items()) if len(group) > 1]
    return "; ".join(twins[:most]) + ("; …" if len(twins) > most else "")


def composed(text: str) -> str:
    """Each letter as one character with its accent (NFC): macOS writes é as two, and it looks the same."""
    return unicodedata.normalize("NFC", text)


def apart(some: Collection[str], others: Collection[str]) -> str:
    """Two sets of classes that share none, with the likely reason."""
    reason = difference(some, others)
    if not reason and {_is_number(name) for name in some} ^ {_is_number(name) for name in others} == {True, False}:
        reason = "one names the classes and the other numbers them"
    return f"{listed(some)} against {listed(others)}" + (f"; {reason}" if reason else "")


def difference(some: Collection[str], others: Collection[str]) -> str:
    """How two sets of classes are spellings of one; empty where they are not."""
    pairs = (
        ("by spaces around them", str.strip),
        ("by case", str.casefold),
        ("by how Unicode writes their letters (NFC, NFD)", composed),
        ("by case and spaces", lambda text: composed(text).strip().casefold()),
        ("by the kind of their letters or spaces", folded),
    )
    for how, form in pairs:
        if {*map(form, some)} & {*map(form, others)}:
            return f"they differ {how}"
    if some and others and {*map(_as_yes_or_no, some), *map(_as_yes_or_no, others)} <= {"yes", "no"}:
        return "they differ in how they write yes and no"
    return ""


def _as_yes_or_no(text: str) -> str:
    """`yes` or `no` for a word that says so, any other text itself."""
    found = folded(text)
    return "yes" if found in _YES else "no" if found in _NO else text


_YES, _NO = frozenset({"yes", "y", "true", "t", "on", "1"}), frozenset({"no", "n", "false", "f", "off", "0"})


def likely(text: str, known: Iterable[str]) -> str | None:
    """The one of the known texts that this is likely to mean, in another spelling."""
    known = list(known)
    for form in (folded, _as_yes_or_no):
        found = [each for each in known if form(each) == form(text)]
        if len(found) == 1:
            return found[0]
    return None


def listed(names: Iterable[str], most: int = 10) -> str:
    """The first names in order, in quotes."""
    known = sorted(names)
    return ", ".join(map(repr, known[:most])) + (", …" if len(known) > most else "")


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text) or _SCIENTIFIC.fullmatch(text))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'metric'?` where one of the known names is close, whatever its case, else empty."""
    forms = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), list(forms), 1, 0.6)
    return f"did you mean {forms[close[0]]!r}?" if close else ""


def printable(value: str) -> str:
    """The text with control characters spelled out, because they could drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)


def quoting_hint(written: Iterable[object], known: Iterable[object]) -> str:
    """Why labels of a YAML file are not those that are known, where quotes make the difference; else empty."""
    written, known = list(written), list(known)
    texts = all(isinstance(label, str) for label in known)
    if texts and any(isinstance(label, bool) for label in written):
        return "YAML reads yes, no, on and off as true and false: write them in quotes"
    if {*map(str, written)} <= {*map(str, known)} and not {*map(repr, written)} <= {*map(repr, known)}:
        return "write them in quotes" if texts else "write them without quotes"
    return ""
