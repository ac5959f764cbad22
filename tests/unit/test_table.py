"""Tables from files and frames: the same rows whatever they come from, and errors that say where."""

from __future__ import annotations

import gzip
import itertools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from gauntlet import table as tables
from gauntlet.table import Chunk, Table, TableError, open_table

ROWS = 1003
Write = Callable[[pd.DataFrame], str | Path | pd.DataFrame | pa.Table]


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    loss = rng.normal(size=ROWS).round(4)
    loss[7] = np.nan
    country = rng.choice(["de", "fr", "us"], ROWS).astype(object)
    country[[0, 900]] = None
    return pd.DataFrame(
        {"arm": rng.choice(["a", "b"], ROWS), "loss": loss, "country": country, "ok": rng.random(ROWS) < 0.5}
    )


@pytest.fixture(params=["csv", "csv.gz", "parquet", "dictionary parquet", "frame", "arrow"])
def form(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    def write(frame: pd.DataFrame) -> str | Path | pd.DataFrame | pa.Table:
        match request.param:
            case "csv" | "csv.gz":
                path = tmp_path / f"log.{request.param}"
                frame.to_csv(path, index=False)
                return path
            case "parquet":
                frame.to_parquet(tmp_path / "log.parquet", row_group_size=100)
                return str(tmp_path / "log.parquet")
            case "dictionary parquet":
                frame.astype({"arm": "category"}).to_parquet(tmp_path / "named-otherwise")
                return tmp_path / "named-otherwise"
            case "frame":
                return frame
            case _:
                return pa.Table.from_pandas(frame)

    return write


def csv(tmp_path: Path, text: str, name: str = "log.csv") -> Table:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return open_table(tmp_path / name)


def read(table: Table, numbers: Sequence[str] = (), texts: Sequence[str] = (), rows: int = 65_536) -> list[Chunk]:
    return list(table.chunks(numbers, texts, rows))


def words(chunks: Sequence[Chunk], name: str) -> list[str | None]:
    return [None if c < 0 else chunk.texts[name].values[c] for chunk in chunks for c in chunk.texts[name].codes]


def test_the_same_rows_from_everywhere(form: Write, frame: pd.DataFrame) -> None:
    table = open_table(form(frame))
    chunks = read(table, ["loss", "ok"], ["arm", "country"], 100)
    assert table.columns == ("arm", "loss", "country", "ok")
    assert [c.start for c in chunks] == list(range(0, ROWS, 100)), "boundaries at multiples of the size"
    assert [c.rows for c in chunks] == [100] * 10 + [3]
    np.testing.assert_array_equal(np.concatenate([c.numbers["loss"] for c in chunks]), frame["loss"])
    np.testing.assert_array_equal(np.concatenate([c.numbers["ok"] for c in chunks]), frame["ok"].astype(float))
    assert words(chunks, "arm") == known(frame["arm"])
    assert words(chunks, "country") == known(frame["country"])
    final = chunks[-1].texts["country"].values
    assert all(final[: len(c.texts["country"].values)] == c.texts["country"].values for c in chunks), "codes are stable"
    assert all(c.texts["country"].codes.dtype == np.int32 for c in chunks)
    assert table.rows in (None, ROWS)
    assert table.kinds() == {"arm": "text", "loss": "number", "country": "text", "ok": "number"}


def test_codes_grow_at_the_end_only(tmp_path: Path) -> None:
    table = csv(tmp_path, "x\n" + "b\n" * 3 + "a\n" * 3 + "b\n")
    chunks = read(table, [], ["x"], 2)
    assert [c.texts["x"].values for c in chunks] == [("b",), ("b", "a"), ("b", "a"), ("b", "a")]
    assert [c.texts["x"].codes.tolist() for c in chunks] == [[0, 0], [0, 1], [1, 1], [0]]


@pytest.mark.parametrize("rows", [1, 4, 7, 16, 100])
def test_chunks_do_not_depend_on_how_the_rows_arrive(rows: int) -> None:
    sizes = np.cumsum([0, 3, 5, 1, 7, 11])
    pieces = [pa.table({"x": np.arange(a, b)}) for a, b in itertools.pairwise(sizes)]
    chunks = read(open_table(pa.concat_tables(pieces)), ["x"], [], rows)
    assert [c.start for c in chunks] == list(range(0, 27, rows))
    assert all(c.rows == len(c.numbers["x"]) == min(rows, 27 - c.start) for c in chunks)
    np.testing.assert_array_equal(np.concatenate([c.numbers["x"] for c in chunks]), np.arange(27))


def test_reads_again_from_the_beginning(form: Write, frame: pd.DataFrame) -> None:
    table = open_table(form(frame))
    first, second = (read(table, ["loss"]) for _ in range(2))
    np.testing.assert_array_equal(first[0].numbers["loss"], second[0].numbers["loss"])


def test_no_columns_still_counts_the_rows(form: Write, frame: pd.DataFrame) -> None:
    assert sum(chunk.rows for chunk in read(open_table(form(frame)), rows=100)) == ROWS


def test_what_counts_as_a_number(tmp_path: Path) -> None:
    table = csv(tmp_path, "x,y\n1,1\n 2.5 ,2\ntrue,3\nFALSE,4\ninf,5\n-1e3,6\n,7\nNaN,8\nnull ,9\nNA,10\n")
    (chunk,) = read(table, ["x", "y"])
    expected = [1, 2.5, 1, 0, np.inf, -1000, *[np.nan] * 4]
    np.testing.assert_array_equal(chunk.numbers["x"], expected)
    np.testing.assert_array_equal(chunk.numbers["y"], np.arange(1.0, 11.0))


def test_what_counts_as_no_text(tmp_path: Path) -> None:
    (chunk,) = read(csv(tmp_path, 'x,y\nde,1\n"",1\nNaN,1\nnull,1\nNA,1\n"a, ""b""\nc",1\n'), [], ["x"])
    assert words([chunk], "x") == ["de", None, None, None, None, 'a, "b"\nc']


def test_a_byte_order_mark_is_no_part_of_the_name(tmp_path: Path) -> None:
    assert csv(tmp_path, "\ufeffa,b\n1,2\n").columns == ("a", "b")


def test_other_types_of_parquet() -> None:
    table = open_table(
        pa.table(
            {
                "small": pa.array([1, None], pa.int8()),
                "decimal": pa.array([1, 2], pa.decimal128(10, 3)),
                "none": pa.nulls(2),
                "day": pa.array([0, 1], pa.date32()),
                "arm": pa.array([1.0, 0.0]),
            }
        )
    )
    (chunk,) = read(table, ["small", "decimal", "none"], ["day", "arm", "small"])
    np.testing.assert_array_equal(chunk.numbers["small"], [1, np.nan])
    np.testing.assert_array_equal(chunk.numbers["decimal"], [1, 2])
    assert np.isnan(chunk.numbers["none"]).all()
    assert words([chunk], "day") == ["1970-01-01", "1970-01-02"]
    assert words([chunk], "arm") == ["1", "0"]
    assert words([chunk], "small") == ["1", None]


def test_a_frame_of_mixed_objects() -> None:
    frame = pd.DataFrame({"arm": [1, "b", None], "x": [1, "2.5", None]})
    (chunk,) = read(open_table(frame), ["x"], ["arm"])
    assert words([chunk], "arm") == ["1", "b", None]
    np.testing.assert_array_equal(chunk.numbers["x"], [1, 2.5, np.nan])


def known(column: pd.Series[str]) -> list[str | None]:
    return [None if pd.isna(value) else value for value in column]


ERRORS = {
    "loss,b\n1,2\n3\n": r"row 1 \(rows are counted from 0, after the header\) has 1 values where the header has 2: '3'",
    "loss,b\n\n1,2\n\n3,4,5\n": r"row 1 .* has 3 values where the header has 2: '3,4,5'",
    "a,b\n1,2\n": r"there is no column 'loss'; the columns are: a, b",
    "loss;b\n1;2\n": r"; the columns are: loss;b; is a semicolon between its columns\? only commas are read",
    "Loss,b\n1,2\n": r"there is no column 'loss'; did you mean 'Loss'\?; the columns are: Loss, b",
    "loss,b,loss\n1,2,3\n": "column 'loss' is there twice",
    "loss,b\n": "no rows",
    "loss,b": "no rows",
    "\n\n": "no columns",
    "loss,b\n"
    + "1,2\n" * 1234
    + "abc,2\n"
    + "x,2\n" * 100: r"row 1,234 of loss \(counted from 0\): 'abc' is not a numb",
    "loss,b\n" + "1,2\n" * 10 + '3,"4\n' + "5,6\n" * 10: r"22 lines but 11 rows, .* probably from row 10 on",
}


@pytest.mark.parametrize(("text", "message"), ERRORS.items(), ids=[str(n) for n in range(len(ERRORS))])
def test_errors_say_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as caught:
        read(csv(tmp_path, text), ["loss"], [], 500)
    assert str(tmp_path / "log.csv") in str(caught.value)
    assert caught.value.code == "bad_table"


def test_a_ragged_row_far_behind_knows_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gauntlet.table.sources.LARGE_BLOCK_BYTES", 1000)
    table = csv(tmp_path, "a,b\n" + "1,2\n" * 5000 + "3\n" + "1,2\n" * 5000)
    with pytest.raises(TableError, match="row 5,000 "):
        read(table, ["a"])


def test_a_value_larger_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gauntlet.table.sources.LARGE_BLOCK_BYTES", 1000)
    table = csv(tmp_path, "a,b\n" + "1,2\n" * 10 + '1,"' + "x,1\n" * 5000)
    with pytest.raises(TableError, match=r"soon after row 10 .* never closed"):
        read(table, ["a"])


@pytest.mark.parametrize("odd", ["true", '" FALSE "', "  NA ", "\u00a07\u00a0", '"1,5"'])
def test_a_spelling_that_is_first_met_far_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    """Columns of numbers are parsed at once; from a cell that takes more, reading goes on as texts from its row."""
    monkeypatch.setattr("gauntlet.table.sources.BLOCK_BYTES", 1000)
    text = "a,b,c\n" + '0.1,"-7",x\ny\n'.replace("x\ny", '"x\ny"') * 4000 + f"{odd},3,z\n" + " 5e-1 ,inf,\n" * 4000
    table = csv(tmp_path, text)
    spelled = {"true": 1.0, '" FALSE "': 0.0, "  NA ": np.nan, "\u00a07\u00a0": 7.0}
    if odd not in spelled:
        with pytest.raises(TableError, match=r"row 4,000 of a \(counted from 0\): '1,5' is not a number"):
            read(table, ["a", "b"], ["c"], 999)
        return
    chunks = read(table, ["a", "b"], ["c"], 999)
    assert [chunk.rows for chunk in chunks] == [999] * 8 + [9]
    expected = np.array([0.1] * 4000 + [spelled[odd]] + [0.5] * 4000)
    np.testing.assert_array_equal(np.concatenate([chunk.numbers["a"] for chunk in chunks]), expected)
    np.testing.assert_array_equal(
        np.concatenate([chunk.numbers["b"] for chunk in chunks]), [-7.0] * 4000 + [3.0] + [np.inf] * 4000
    )
    assert words(chunks, "c") == ["x\ny"] * 4000 + ["z"] + [None] * 4000


def test_a_column_of_numbers_that_is_asked_for_as_text_too_keeps_its_spelling(tmp_path: Path) -> None:
    chunk = read(csv(tmp_path, "a\n1.50\n2\n"), ["a"], ["a"])[0]
    np.testing.assert_array_equal(chunk.numbers["a"], [1.5, 2.0])
    assert chunk.texts["a"].values == ("1.50", "2")


def test_a_row_longer_than_what_is_parsed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gauntlet.table.sources.BLOCK_BYTES", 1000)
    table = csv(tmp_path, "a,b\n" + "1,2\n" * 500 + f"3,{'x' * 5000}\n" + "4,2\n" * 500)
    np.testing.assert_array_equal(read(table, ["a"])[0].numbers["a"], [1] * 500 + [3] + [4] * 500)


def test_an_error_ends_the_reading_thread(tmp_path: Path) -> None:
    for table in (csv(tmp_path, "a\n" + "1\n" * 5000 + "x\n"), csv(tmp_path, "a,b\n" + "1,2\n" * 5000 + "1\n")):
        with pytest.raises(TableError):
            read(table, ["a"], rows=100)
    next(csv(tmp_path, "a\n" + "1\n" * 100_000).chunks(["a"], rows=100))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_balanced_quotes_and_blank_lines_are_fine(tmp_path: Path) -> None:
    for text in ('a,b\n1,"x\ny\nz"\n\n\n2,x\n', 'a,b\n1,2\n2,5" wide\n', 'a,b\n1,2\n2,5" wide'):
        np.testing.assert_array_equal(read(csv(tmp_path, text), ["a"])[0].numbers["a"], [1, 2])


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(TableError, match="not UTF-8 at or soon after row 0"):
        read(open_table(tmp_path / "log.csv"), [], ["b"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "the file is empty"),
        ("log.txt", b"a,b\n1,2\n", r"only CSV \(\.csv\), gzipped CSV \(\.csv\.gz\) or Parquet"),
        ("log.parquet", b"a,b\n1,2\n", "no Parquet file"),
        ("short.parquet", b"PAR1 and nothing else", "this Parquet file cannot be read"),
        ("log.csv.gz", b"\x1f\x8bno gzip at all", "the header cannot be read"),
        ("header.csv", b"a,\xff\n1,2\n", "the header cannot be read"),
    ],
)
def test_what_is_no_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=message):
        open_table(tmp_path / name)


def test_no_file_a_folder_and_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"absent\.csv: No such file"):
        open_table(tmp_path / "absent.csv")
    with pytest.raises(TableError, match="not a file"):
        open_table(tmp_path)
    with pytest.raises(TableError, match="not list"):
        open_table([1, 2])  # type: ignore[arg-type]
    with pytest.raises(TableError, match="no rows"):
        open_table(pd.DataFrame({"a": []}))
    with pytest.raises(TableError, match="'a' is there twice"):
        open_table(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_gzip_that_ends_too_early(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,2\n" % i for i in range(200_000)))
    (tmp_path / "log.csv.gz").write_bytes(whole[: len(whole) // 2])
    table = open_table(tmp_path / "log.csv.gz")
    with pytest.raises(TableError, match=r"cannot be read at or soon after row .*runcated"):
        read(table, ["a"])


def test_parquet_that_is_broken_inside(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pyarrow.parquet.write_table(pa.table({"a": np.random.default_rng(1).random(10_000)}), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[4:4000] = bytes(3996)
    path.write_bytes(content)
    with pytest.raises(TableError, match="cannot be read at or soon after row 0"):
        read(open_table(path), ["a"])


def test_a_column_that_is_neither(tmp_path: Path) -> None:
    table = open_table(pa.table({"x": [[1], [2]], "t": pa.array([0, 1], pa.timestamp("s"))}))
    with pytest.raises(TableError, match="column 'x' holds list"):
        read(table, ["x"])
    with pytest.raises(TableError, match="column 'x' holds list"):
        read(table, [], ["x"])
    with pytest.raises(TableError, match=r"column 't' holds timestamp.*numbers are needed"):
        read(table, ["t"])


# -- order


def test_order_by_a_number_is_stable(form: Write, frame: pd.DataFrame) -> None:
    frame["at"] = np.random.default_rng(3).integers(0, 50, ROWS)
    sorted_frame = frame.sort_values("at", kind="stable")
    table = open_table(form(frame)).ordered_by("at")
    chunks = read(table, ["loss", "at"], ["country"], 100)
    assert table.rows == ROWS
    assert [c.start for c in chunks] == list(range(0, ROWS, 100))
    np.testing.assert_array_equal(np.concatenate([c.numbers["loss"] for c in chunks]), sorted_frame["loss"])
    np.testing.assert_array_equal(np.concatenate([c.numbers["at"] for c in chunks]), sorted_frame["at"])
    assert words(chunks, "country") == known(sorted_frame["country"])
    for chunk, sorted_chunk in zip(chunks, read(open_table(sorted_frame), [], ["country"], 100), strict=True):
        ours, theirs = chunk.texts["country"], sorted_chunk.texts["country"]
        assert ours.values == theirs.values, "as if the file had been sorted"
        np.testing.assert_array_equal(ours.codes, theirs.codes)


@pytest.mark.parametrize(
    "times",
    [
        ["2013-02-01", "2013-01-31", "2013-01-30"],
        ["2013-01-01T10:00:00.25", "2013-01-01 10:00:00", "2012-12-31T23:59"],
        ["2013-01-01T10:00:00Z", "2013-01-01T10:30:00+01:00", "2013-01-01T05:00:00+00:00"],
        ["10", "9", "-1"],
    ],
)
def test_order_by_times_as_text(tmp_path: Path, times: list[str]) -> None:
    table = csv(tmp_path, "x,at\n" + "".join(f"{i},{at}\n" for i, at in enumerate(times))).ordered_by("at")
    np.testing.assert_array_equal(read(table, ["x"])[0].numbers["x"], [2, 1, 0])


def test_order_by_times_of_a_frame() -> None:
    frame = pd.DataFrame({"x": [0, 1, 2], "at": pd.to_datetime(["2013-02-01", "2013-01-31", "2013-01-31"])})
    np.testing.assert_array_equal(read(open_table(frame).ordered_by("at"), ["x"])[0].numbers["x"], [1, 2, 0])
    frame["at"] = frame["at"].dt.date
    np.testing.assert_array_equal(read(open_table(frame).ordered_by("at"), ["x"])[0].numbers["x"], [1, 2, 0])


def test_rows_in_order_already_are_read_as_they_are(tmp_path: Path) -> None:
    table = csv(tmp_path, "x,at\n1,1\n2,1\n3,2\n")
    assert table.ordered_by("at") is table


def test_order_across_the_boundary_of_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 2)
    frame = pd.DataFrame({"at": [1, 3, 2, 4]})
    np.testing.assert_array_equal(read(open_table(frame).ordered_by("at"), ["at"])[0].numbers["at"], [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("1,,3", r"row 1 of at \(counted from 0\) is empty"),
        ("1,x,3", r"row 1 of at \(counted from 0\): 'x' is not a number"),
        ("2013-01-01,2013-01-02,2013-13-01", r"row 2 of at .*: '2013-13-01' is neither a number nor an ISO time such"),
        ("2013-01-01T10:00Z,2013-01-01T11:00", "row 1 of at .*time with a time zone, as in row 0"),
        ("yesterday", "row 0 of at .*: 'yesterday' is neither"),
    ],
)
def test_times_that_give_no_order(tmp_path: Path, column: str, message: str) -> None:
    table = csv(tmp_path, "x,at\n" + "".join(f"1,{value}\n" for value in column.split(",")))
    with pytest.raises(TableError, match=message):
        table.ordered_by("at")
    with pytest.raises(TableError, match="no column 'when'"):
        table.ordered_by("when")


def test_a_number_in_a_persons_writing_says_how_to_write_it() -> None:
    frame = pd.DataFrame({"y": ["45.0%", "46.1%"]})
    with pytest.raises(TableError, match=r"'45\.0%' is not a number; write it without the '%': 45\.0"):
        next(open_table(frame).chunks(["y"]))
