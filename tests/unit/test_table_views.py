"""Sources over sources: columns in memory are those of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.test_table import ROWS, read, words

from gauntlet.table import Table, TableError
from gauntlet.table.sources import open_source
from gauntlet.table.views import InMemory


def test_columns_kept_in_memory_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("x,y,note\n" + "".join(f"{i / 7},{i % 2},n{i}\n" for i in range(ROWS)) + ",1,\n")
    kept = InMemory(open_source(path), ["x", "y"], ["x"])
    before, now = (read(Table(source, as_written=True), ["x"], ["y"], 100) for source in (open_source(path), kept))
    assert [chunk.rows for chunk in now] == [chunk.rows for chunk in before]
    for one, other in zip(before, now, strict=True):
        np.testing.assert_array_equal(one.numbers["x"], other.numbers["x"])
    assert words(now, "y") == words(before, "y")
    assert Table(kept).kinds() == Table(open_source(path)).kinds()
    assert words(read(Table(kept), [], ["note"]), "note")[:2] == ["n0", "n1"], "what is not kept is read from the file"
    path.unlink()
    assert read(Table(kept), ["x"])[0].rows == ROWS + 1, "what is kept needs no file"
    with pytest.raises(TableError):
        read(Table(kept), [], ["note"])


def test_a_column_that_turns_into_texts_is_not_kept_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("x\n" + "1.5\n" * 400_000 + "true\n")
    kept = InMemory(open_source(path), ["x"], ["x"])
    numbers = np.concatenate([chunk.numbers["x"] for chunk in read(Table(kept), ["x"])])
    assert (len(numbers), numbers[0], numbers[-1]) == (400_001, 1.5, 1.0)
    assert Table(kept).kinds(500_000) == {"x": "number"}
