"""One spelling for each value, and suggestions for misspelt names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gauntlet.spelling import alike, apart, canonical, did_you_mean, folded, likely, number_hint, parse_number


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (("False", "false", "FALSE", " False "), "false"),
        (("0", "0.0", "-0.0", "+0", "0.", " 0.00"), "0"),
        (("1000", "1e3", "1.0E+3", "1000.0"), "1000"),
        (("0.0000001", "1e-07", "1e-7"), "0.0000001"),
        (("123456789012", "123456789012.0", "1.23456789012e+11"), "123456789012"),
        (("90", "0 days 00:01:30", "90.000"), "90"),
        (("-60", "-1 days +23:59:00"), "-60"),
        (("2020-01-31", "2020-01-31 00:00:00", "2020-01-31T00:00:00.000000000"), "2020-01-31"),
        (("2023-11-14 22:13:20Z", "2023-11-14T23:13:20+01:00", "2023-11-14 23:13:20.000+0100"), "2023-11-14 22:13:20Z"),
        (("04:05:00", "04:05:00.000000"), "04:05:00"),
        # Above 2^53 a float would take the last digit away.
        (("9007199254740993",), "9007199254740993"),
    ],
)
def test_a_value_has_one_spelling_however_it_is_written(written: tuple[str, ...], value: str) -> None:
    assert {canonical(text) for text in written} == {value}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "007",
        "12e4",
        "1.10",
        "1_000",
        "1,5",
        "True story",
        "no",
        "-",
        ".",
        "u12",
        "²",
        "2023-99-14",
        " a",
        "30 days",
    ],
)
def test_what_may_be_a_name_is_left_as_it_is(text: str) -> None:
    assert canonical(text) == text


@given(st.text() | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(str) | st.timedeltas().map(str))
def test_a_canonical_text_is_its_own_spelling(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_changes_its_value(number: float) -> None:
    assert float(canonical(repr(number))) == number


@pytest.mark.parametrize(
    ("some", "others", "reason"),
    [
        ({"yes", "no"}, {"Yes", "No"}, "; they differ by case"),
        ({"yes ", "no"}, {"yes", "n"}, "; they differ by spaces around them"),
        ({" yes"}, {"Yes"}, "; they differ by case and spaces"),
        ({"0", "1"}, {"no", "yes"}, "; they differ in how they write yes and no"),
        ({"true", "false"}, {"yes", "no"}, "; they differ in how they write yes and no"),
        ({"Y"}, {"true", "false"}, "; they differ in how they write yes and no"),
        ({"0", "1", "2"}, {"no", "yes"}, "; one names the classes and the other numbers them"),
        ({"a"}, {"b"}, ""),
    ],
)
def test_classes_that_do_not_meet_are_given_the_likely_reason(some: set[str], others: set[str], reason: str) -> None:
    assert apart(some, others).partition(";")[2] == reason[1:]
    assert folded(" Yes") == folded("yes")


def test_a_close_name_is_suggested_and_a_strange_one_is_not() -> None:
    assert did_you_mean("metrc", ["unit", "metric"]) == "did you mean 'metric'?"
    assert did_you_mean("area", ["target", "AREA"]) == "did you mean 'AREA'?"
    assert did_you_mean("zzz", ["unit", "metric"]) == did_you_mean("unit", []) == ""


def test_what_only_python_reads_as_a_number_is_a_name() -> None:
    assert [parse_number(text) for text in ("1_000", "1000", " 7 ", "TRUE", "x")] == [None, 1000.0, 7.0, 1.0, None]


def test_values_that_a_reader_takes_for_one_are_named_together() -> None:
    assert alike(["NY", "LA", "ny ", "Paris", "paris"]) == "'NY' and 'ny '; 'Paris' and 'paris'"
    assert alike(["NY", "LA"]) == alike([]) == ""


@pytest.mark.parametrize(
    ("text", "known", "meant"),
    [
        (" No", ["no", "yes"], "no"),
        ("true", ["no", "yes"], "yes"),
        ("0", ["False", "True"], "False"),
        ("2", ["no", "yes"], None),
        ("yes", ["1", "true"], None),  # which of the two?
    ],
)
def test_what_a_text_is_likely_to_mean(text: str, known: list[str], meant: str | None) -> None:
    assert likely(text, known) == meant


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("47,3", "write 47.3"),
        ("10,251", "write 10.251 or 10251"),
        ("1,234,567", "write 1234567"),
        ("1,234.50", "write 1234.50"),
        ("10 251", "write 10251"),
        ("10\u202f251", "write 10251"),
        ("45.0%", "write it without the '%': 45.0"),
        ("$1,046.02", "write it without the '$'; are its commas between thousands? write 1046.02"),
        ("12,5 %", "write it without the '%'; is its comma a decimal point? write 12.5"),
        ("12.50 €", "write it without the '€': 12.50"),
        ("Yes", "write 1 for yes and 0 for no"),
        ("seven", ""),
        ("1-2", ""),
        ("12.5 kg", "write it without the 'kg': 12.5"),
        ("12.5kg", "write it without the 'kg': 12.5"),
        ("CHF 12", "write it without the 'CHF': 12"),
        ("(12.5)", "write -12.5"),
        ("\u221212.5", "write -12.5"),
        ("12A", ""),
        ("A12", ""),
        ("INV 12", ""),
        ("12 Main Street", ""),
    ],
)
def test_a_number_as_people_write_it_is_told_how_it_would_be_one(text: str, hint: str) -> None:
    assert number_hint(text).endswith(hint)
    assert bool(number_hint(text)) == bool(hint)


def test_letters_and_spaces_of_another_kind_are_another_spelling() -> None:
    assert alike(["New York", "New\u00a0York"]) == "'New York' and 'New\\xa0York'"
    assert alike(["B2", "Ｂ２", "b 2"]) == "'B2' and 'Ｂ２'"
    assert apart({"B2"}, {"Ｂ２"}).endswith("by the kind of their letters or spaces")
