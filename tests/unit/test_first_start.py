"""The first start: once, however many begin at once; and a reference file whose mistakes are named with their row."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import small_experiment
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from gauntlet import adapters, control, first_start
from gauntlet.config import Config
from gauntlet.errors import ConfigError, ModelUnusable
from gauntlet.losses import loss
from gauntlet.registry import Reference, model_schema, trial
from gauntlet.registry.artifact import Feature
from gauntlet.registry.reference_file import read_reference
from gauntlet.table.sources import NULLS
from gauntlet.types import Task


def table(n: int = 300, *, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels like those that `small_experiment.classifier()` was fitted on."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return x, (rng.random(n) < 1 / (1 + np.exp(-x @ np.array([1.5, -1.0, 0.5])))).astype(int)


def lines(n: int = 300) -> list[str]:
    x, y = table(n)
    rows = (",".join([*map(repr, map(float, row)), str(label)]) for row, label in zip(x, y, strict=True))
    return ["x1,x2,x3,y", *rows]


def configured(folder: Path, text: str | bytes | list[str], name: str = "r.csv", **champion: Any) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    content = "\n".join(text) + "\n" if isinstance(text, list) else text
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return small_experiment.load(
        small_experiment.write(folder, champion={"model": "model.skops", "reference": name, "target": "y", **champion})
    )


def started(config: Config) -> Reference | None:
    record = asyncio.run(first_start.ensure(config))
    return adapters.registry(config).reference(record.champion)


def refusal(config: Config) -> str:
    """Why the first start is refused; it then has left no version and no record behind."""
    with pytest.raises(ConfigError) as caught:
        started(config)
    assert adapters.registry(config).versions() == []

    async def record() -> object:
        store = adapters.state(config)
        try:
            return (await control.read(store, config.experiment))[1]
        finally:
            await store.close()

    assert asyncio.run(record()) is None
    return str(caught.value)


def test_the_second_start_finds_the_first(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    first = asyncio.run(first_start.ensure(config))
    (tmp_path / "model.skops").unlink()  # the registry has it
    assert asyncio.run(first_start.ensure(config)) == first
    assert (first.champion, first.share, first.allocation) == ("v0001", 0.0, 1)
    entry = adapters.registry(config).get("v0001")
    assert (entry.algorithm, entry.rows, entry.note) == ("LogisticRegression", 0, "given at the first start")
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001"]


ENSURE = """
import asyncio, sys
from gauntlet import first_start
from gauntlet.config import load as config_file
loaded = config_file.load(sys.argv[1])
sys.stdin.readline()
print(asyncio.run(first_start.ensure(loaded)).champion)
"""


def test_several_processes_at_once_register_one_version(tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ENSURE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert {process.communicate(timeout=60)[0] for process in processes} == {"v0001\n"}
    assert [v.version for v in adapters.registry(small_experiment.load(path)).versions()] == ["v0001"]


def test_a_missing_model_is_refused_and_can_be_put_right(tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path)
    model = (tmp_path / "model.skops").read_bytes()
    (tmp_path / "model.skops").unlink()
    with pytest.raises(ModelUnusable, match=r"model\.skops: there is no such file"):
        asyncio.run(first_start.ensure(small_experiment.load(path)))
    (tmp_path / "model.skops").write_bytes(model)
    assert asyncio.run(first_start.ensure(small_experiment.load(path))).champion == "v0001"


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path, data="taken"))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match=r"cannot write to the data folder .*taken"):
        asyncio.run(first_start.ensure(config))


class TestReference:
    def test_holds_the_rows_and_what_the_champion_loses_on_held_out_ones(self, tmp_path: Path) -> None:
        found = started(configured(tmp_path, lines(), held_out=True))
        x, y = table()
        expected = loss("log_loss", small_experiment.classifier().predict_proba(x), y.astype(float))
        assert found is not None
        assert found.columns["x2"] == x[:, 1].tolist()
        assert (found.rows, found.at, found.truths) == (300, [], y.tolist())
        assert found.outputs == small_experiment.classifier().predict_proba(x).tolist()
        assert found.losses == pytest.approx(expected)

    def test_training_rows_are_cross_fitted(self, tmp_path: Path) -> None:
        found = started(configured(tmp_path, lines()))
        x, y = table()
        assert found is not None
        expected = []
        for score, fit in ((slice(0, 150), slice(150, 300)), (slice(150, 300), slice(0, 150))):
            twin = LogisticRegression().fit(x[fit], y[fit])
            expected += loss("log_loss", twin.predict_proba(x[score]), y[score].astype(float)).tolist()
        assert found.losses == pytest.approx(expected)
        assert found.honest == list(range(300))

    def test_without_a_target_there_are_no_errors(self, tmp_path: Path) -> None:
        found = started(configured(tmp_path, lines(), target=None))
        assert found is not None
        assert (found.losses, found.honest, found.rows) == ([], [], 300)

    def test_a_half_without_both_classes_learns_its_errors_live(self, tmp_path: Path) -> None:
        x, _ = table()
        rows = ["x1,x2,x3,y", *(f"{a},{b},{c},{int(i < 150)}" for i, (a, b, c) in enumerate(x))]
        found = started(configured(tmp_path, rows))
        assert found is not None
        assert found.losses == []

    def test_gzip_byte_order_mark_quotes_and_empty_cells(self, tmp_path: Path) -> None:
        text = lines()
        text[1] = ",".join(f'"{cell}"' for cell in text[1].split(","))
        text[2] = ",".join(["", *text[2].split(",")[1:]])
        text[3] = ",".join(["nan", *text[3].split(",")[1:]])
        content = gzip.compress(("\ufeff" + "\r\n".join(text)).encode())
        found = started(configured(tmp_path, content, "r.csv.gz", target=None))
        assert found is not None
        assert found.columns["x1"][:3] == [table()[0][0, 0], None, None]

    def test_of_more_rows_than_are_kept_the_newest_are(self, tmp_path: Path) -> None:
        (tmp_path / "r.csv").write_text("\n".join([*lines(), ""]))
        schema = model_schema.schema_of(
            small_experiment.classifier(),
            Task.CLASSIFICATION,
            [Feature(name=name) for name in small_experiment.FEATURES],
        )
        found = read_reference(str(tmp_path / "r.csv"), schema, target="y", time=None, most_rows=100)
        x, y = table()
        assert found.columns["x1"] == x[200:, 0].tolist()
        assert found.truths == y[200:].tolist()

    def test_a_missing_cell_may_be_spelled_in_thirteen_ways(self, tmp_path: Path) -> None:
        text = lines()
        for row, spelling in enumerate(NULLS, 1):
            text[row] = ",".join([spelling, *text[row].split(",")[1:]])
        found = started(configured(tmp_path, text, target=None))
        assert found is not None
        assert found.columns["x1"][:14] == [*[None] * 13, table()[0][13, 0]]

    def test_times_are_read_where_they_are_asked_for(self, tmp_path: Path) -> None:
        text = lines()
        timed = [
            f"{text[0]},t",
            *(f"{line},2026-01-{1 + i // 24 % 28:02d}T{i % 24:02d}:00:00Z" for i, line in enumerate(text[1:])),
        ]
        found = started(configured(tmp_path / "iso", timed, time="t"))
        assert found is not None
        assert found.at[:2] == [1767225600.0, 1767229200.0]
        plain = [f"{text[0]},t", *(f"{line},{i / 2}" for i, line in enumerate(text[1:]))]
        again = started(configured(tmp_path / "plain", plain, time="t"))
        assert again is not None
        assert again.at == [i / 2 for i in range(300)]
        plain[8] = f"{text[8]},yesterday"
        assert "r.csv: row 7 of t (counted from 0): 'yesterday': no time" in refusal(
            configured(tmp_path / "word", plain, time="t")
        )
        plain[8] = f"{text[8]},1"
        assert "r.csv: row 7 of t (counted from 0): '1': a time before the row above it" in refusal(
            configured(tmp_path / "back", plain, time="t")
        )
        plain[8] = f"{text[8]},1700000000000"
        assert "'1700000000000': no time in seconds since 1970; is it in milliseconds?" in refusal(
            configured(tmp_path / "milliseconds", plain, time="t")
        )
        assert "no column 'when'" in refusal(configured(tmp_path / "none", plain, time="when"))

    @pytest.mark.parametrize(
        ("row", "text", "reason"),
        [
            (5, "1,2,oops,1", "row 5 of x3 (counted from 0): 'oops' is not a number"),
            (5, "1,2,inf,1", "row 5 of x3 (counted from 0): an infinite number"),
            (7, "1,2,3,2", "row 7 of y (counted from 0): '2': the target is none of the classes (0, 1)"),
            (7, "1,2,3,", "row 7 of y (counted from 0): there is no target; leave out the rows without one"),
            (
                7,
                "1,2,3",
                "row 7 (rows are counted from 0, after the header) has 3 values where the header has 4: '1,2,3'",
            ),
        ],
    )
    def test_a_bad_cell_is_named_with_file_column_and_row(
        self, tmp_path: Path, row: int, text: str, reason: str
    ) -> None:
        content = lines()
        content[row + 1] = text
        message = refusal(configured(tmp_path, content))
        assert message == f"champion.reference: {tmp_path / 'r.csv'}: {reason}"

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            ("nan", "the target is not a finite number"),
            ("inf", "the target is not a finite number"),
            ("", "the target is not a finite number"),
            ("much", "'much' is not a number"),
        ],
    )
    def test_a_regressions_target_is_a_finite_number(self, tmp_path: Path, target: str, reason: str) -> None:
        content = lines()
        content[3] = f"1,2,3,{target}"
        config = configured(tmp_path, content)
        small_experiment.write(
            tmp_path,
            small_experiment.regressor(),
            task="regression",
            champion={"model": "model.skops", "reference": "r.csv", "target": "y"},
        )
        config = small_experiment.load(tmp_path / "config.yaml")
        message = refusal(config)
        assert message.startswith(f"champion.reference: {tmp_path / 'r.csv'}: row 2 of y (counted from 0): ")
        assert message.endswith(reason)

    def test_true_and_1_are_one_label_and_a_text_is_itself(self, tmp_path: Path) -> None:
        content = [line[:-1] + {"0": "False", "1": "1.0", "y": "y"}[line[-1]] for line in lines()]
        found = started(configured(tmp_path, content, held_out=True))
        again = started(configured(tmp_path / "again", lines(), held_out=True))
        assert found is not None
        assert found == again

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (["x1,x2,y", "1,2,0"], ": there is no column 'x3'"),
            (["x1,x2,x3", "1,2,3"], ": there is no column 'y'"),
            (lines(99), " has 99 rows; give at least 100"),
            ("", ": the file is empty"),
            (b"x1,x2,x3,y\n\xff\xfe,1,2,3\n", "text that is not UTF-8"),
        ],
    )
    def test_a_file_that_is_no_reference(self, tmp_path: Path, content: Any, reason: str) -> None:
        message = refusal(configured(tmp_path, content))
        assert reason in message
        assert str(tmp_path / "r.csv") in message

    @pytest.mark.parametrize("kept", [500, -12])
    def test_a_broken_gzip_is_named(self, tmp_path: Path, kept: int) -> None:
        content = gzip.compress("\n".join(lines()).encode())[:kept]
        message = refusal(configured(tmp_path, content, "r.csv.gz"))
        assert message.startswith(f"champion.reference: {tmp_path / 'r.csv.gz'}: ")
        assert "Truncated compressed stream" in message

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        config = configured(tmp_path, lines())
        (tmp_path / "r.csv").unlink()
        assert str(tmp_path / "r.csv") in refusal(config)

    def test_held_out_rows_that_the_champion_cannot_score_are_refused(self, tmp_path: Path) -> None:
        content = lines()
        content[4] = ",2,3,1"  # logistic regression takes no missing value
        message = refusal(configured(tmp_path, content, held_out=True))
        assert f"{tmp_path / 'r.csv'}: the champion can't score these rows" in message


class Stubborn(BaseEstimator):  # type: ignore[misc]
    """Can be cloned, can't be fitted again."""

    classes_ = (0, 1)

    def predict_proba(self, rows: Any) -> Any:
        return np.full((len(rows), 2), 0.5)


def stubborn() -> Stubborn:
    return Stubborn()


def test_a_champion_that_cannot_be_fitted_again_starts_all_the_same(tmp_path: Path) -> None:
    config = configured(tmp_path, lines(), model="test_first_start:stubborn")
    found = started(config)
    assert found is not None
    assert found.losses == []
    assert json.loads((Path(config.data) / "registry" / "v0001" / "version.json").read_text())["checksum"] is None


def test_one_call_that_a_busy_machine_stalls_is_no_slow_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario: of the timed calls the first takes longer than `router.deadline`. Expected: the start is not refused. A
    model that is slow each time is."""
    config = small_experiment.load(small_experiment.write(tmp_path))
    for seconds, most in (([99.0, 0.01], 0.01), ([0.3, 0.2, 0.25], 0.2), ([99.0, 99.0, 99.0], None)):
        ends = iter([edge for took in seconds for edge in (0.0, took)])
        monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda ends=ends: next(ends)))
        if most is None:
            with pytest.raises(ModelUnusable, match="no request would be answered"):
                first_start.read_champion(config)
        else:
            assert first_start.read_champion(config).trial.seconds == most
