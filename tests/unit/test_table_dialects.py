"""Dialects of CSV that are not read say which they seem to be, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from gauntlet.table import TableError, open_table


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a;b\n1,5;2\n", r"'1,5;2'; is a semicolon between its columns\? only commas are read"),
        ("# made today\na,b\n", r"'a,b'; is its first line a remark\? the header must come first"),
    ],
)
def test_a_first_row_wider_than_the_header_says_why(tmp_path: Path, text: str, hint: str) -> None:
    """With decimal commas, rows of a semicolon's file have more columns than its header."""
    path = tmp_path / "log.csv"
    path.write_text(text)
    table = open_table(path)
    with pytest.raises(TableError, match=f"row 0 .* has 2 values where the header has 1: {hint}"):
        list(table.chunks([], table.columns))


def test_another_encoding_says_what_to_save(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("a,b\ncaf\u00e9,1\n".encode("latin-1"))
    with pytest.raises(TableError, match="not UTF-8 at or soon after row 0; save the file as UTF-8"):
        list(open_table(path).chunks([], ["a"]))
