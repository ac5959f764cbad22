"""Reading tables for the drift rules: any kind of cell, any size of batch, any kind of file, the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders.drift_tables import features

import gauntlet
from evaluator.drift.columns import Coded
from evaluator.offline.drift.reference import MovingBlocks, ReferenceTable, SystematicSample, fit_grids, fit_profile
from evaluator.offline.drift.scan import TableBatch, TableReader, TableScan, TableStats
from evaluator.offline.drift.settings import DriftFileSettings
from gauntlet.errors import BadInput
from gauntlet.table import open_table


def cells(reader: TableReader, name: str) -> list[object]:
    return [value for batch in reader for value in list(batch.columns[name])]


def test_a_cell_that_is_no_number_turns_up_late_and_no_row_is_lost_or_read_twice() -> None:
    table = features(1, 30_000)
    spelled = [str(value) for value in table["a"]]
    spelled[25_000] = "oops"
    reader = TableReader(open_table(table.assign(a=spelled, b=table["k"])), ["a", "b"], ["c"], rows=4096)
    starts = [batch.start for batch in reader]
    assert starts == list(range(0, 30_000, 4096))
    read = cells(reader, "a")
    assert read[25_000] == "oops"
    assert read[:25_000] == table["a"].tolist()[:25_000]
    assert read[25_001:] == table["a"].tolist()[25_001:]
    assert reader.mixed == {"a"}


def test_two_broken_columns_are_both_read() -> None:
    table = features(1, 12_000)
    broken = {name: [*map(str, table["a"][:11_000]), *["?"] * 1000] for name in ("a", "b")}
    reader = TableReader(open_table(table.assign(**broken)), ["a", "b", "k"], [])
    assert cells(reader, "b")[10_999:11_001] == [float(table["a"][10_999]), "?"]
    assert reader.mixed == {"a", "b"}
    assert sum(batch.rows for batch in reader) == 12_000


def test_a_file_that_cannot_be_read_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text("a,c\n" + "1,x\n" * 300 + "1,x,9\n", encoding="utf-8")
    with pytest.raises(BadInput, match="row 300"):
        list(TableReader(open_table(path), ["a"], ["c"]))


def test_texts_that_are_numbers_are_cells_of_another_type_only_where_no_category_is_one() -> None:
    table = open_table(pd.DataFrame({"c": ["1", "2", None, "1"]}))
    assert cells(TableReader(table, [], ["c"]), "c") == ["1", "2", None, "1"]
    assert cells(TableReader(table, [], ["c"], strict_texts=["c"]), "c") == [1.0, 2.0, None, 1.0]


def test_the_same_rows_in_any_kind_of_file_give_the_same_answer(tmp_path: Path) -> None:
    before, now = features(1, 3000), features(2, 2500)
    now["a"] += 0.7
    for name, table in (("before", before), ("now", now)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        table.to_csv(tmp_path / f"{name}.csv.gz", index=False)
        table.to_parquet(tmp_path / f"{name}.parquet")
    frames = gauntlet.drift(before, now).to_dict()
    assert [feature["name"] for feature in frames["features"] if feature["drifted"]] == ["a"]
    for kind in ("csv", "csv.gz", "parquet"):
        files = gauntlet.drift(str(tmp_path / f"before.{kind}"), tmp_path / f"now.{kind}").to_dict()
        assert files == frames, kind


def test_batches_of_any_size_give_the_same_profile_and_the_same_sample() -> None:
    table, settings = features(1, 50_000), DriftFileSettings()
    profiles = []
    for rows in (1000, 7777, 50_000):
        reader = TableReader(open_table(table), ["a", "k"], ["c"], rows=rows)
        known = ReferenceTable.read(reader, settings)
        profiles.append(fit_profile(fit_grids(known, settings, "r"), known, reader, settings, 2000))
    assert profiles[0].hash == profiles[1].hash == profiles[2].hash
    assert profiles[0].rows == 50_000
    assert [feature.present for feature in profiles[0].features] == [50_000] * 3  # all rows, not the sample


def test_a_sample_is_bounded_and_spread_evenly() -> None:
    sample = SystematicSample(100)
    for start in range(0, 5000, 70):
        stop = min(5000, start + 70)
        sample.add({"n": np.arange(start, stop, dtype=float)}, stop - start)
    kept = np.asarray(sample.columns()["n"])
    assert 100 <= len(kept) < 200
    assert set(np.diff(kept)) == {kept[1] - kept[0]}
    assert kept[0] == 0
    assert kept[-1] > 4900


def test_a_sample_of_texts_keeps_their_meaning() -> None:
    sample = SystematicSample(10)
    values: tuple[str, ...] = ()
    for start in range(0, 90, 9):
        values = (*values, *(f"v{i}" for i in range(start, start + 9)))
        sample.add({"c": Coded(np.arange(start, start + 9), values)}, 9)
    kept = list(sample.columns()["c"])
    assert kept == [f"v{i}" for i in range(0, 90, 8)]


def test_moving_blocks_measure_dependence_as_all_rows_do() -> None:
    """Against the calibration from rows in memory; the places differ a little, so the numbers may."""
    from evaluator.drift.calibration import calibrate

    rng = np.random.default_rng(3)
    level = np.zeros(20_000)
    for i in range(1, len(level)):
        level[i] = 0.95 * level[i - 1] + rng.normal()
    for values in (level, rng.normal(size=20_000)):
        codes = np.digitize(values, np.quantile(values, np.linspace(0.02, 0.98, 49)))
        expected = calibrate(codes, 50, (1000,), ordered=True)[0]
        blocks = MovingBlocks(len(codes), 1000)
        for cut in blocks.cuts.tolist():
            blocks.keep(cut, np.bincount(codes[:cut], minlength=50))
        total = np.bincount(codes, minlength=50).astype(float)
        found = blocks.calibrate(blocks.counts(slice(0, 50)), total, ordered=True)
        assert found.efficiency == pytest.approx(expected.efficiency, rel=0.35)
        assert found.limit == pytest.approx(expected.limit, rel=0.25)


@pytest.mark.parametrize("broken", [False, True])
def test_a_second_reading_gives_the_same_batches(broken: bool) -> None:
    table = features(1, 20_000)
    if broken:
        table["a"] = [*map(str, table["a"][:15_000]), *["?"] * 5000]
    reads: list[int] = []

    class Counted(TableReader):
        def __iter__(self) -> Iterator[TableBatch]:
            reads.append(1)
            return super().__iter__()

    reader = Counted(open_table(table), ["a", "k"], ["c"], rows=3000)
    with TableScan(reader, TableStats(None), cached=True) as scan:
        first, again = ([(b.start, b.rows, {n: list(v) for n, v in b.columns.items()}) for b in scan] for _ in "12")
    assert first == again
    assert sum(rows for _, rows, _ in again) == 20_000
    assert len(reads) == (2 if broken else 1)
