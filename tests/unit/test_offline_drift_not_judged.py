"""What can't be judged says so: never NONE, never "fine", never with a confidence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, r2_score, roc_auc_score

import gauntlet
from evaluator.offline.drift.result import DriftReport
from gauntlet.cli.command import main
from gauntlet.errors import BadInput

ROWS = 1500


def world(seed: int) -> pd.DataFrame:
    """A number, the truth that it tells with some noise, a label that is right in nine of ten rows, and a score."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=ROWS)
    truth = x + 0.5 * rng.normal(size=ROWS) > 0
    said = truth ^ (rng.random(ROWS) < 0.1)
    return pd.DataFrame({"x": x, "truth": truth, "said": said, "score": 1 / (1 + np.exp(-3 * x))})


BEFORE, NOW = world(1), world(2)
RNG = np.random.default_rng(3)


def names(flags: pd.Series[bool], yes: str = "Yes", no: str = "No") -> Any:
    return np.where(flags, yes, no)


def checked(target: Any, prediction: Any, **more: Any) -> DriftReport:
    """Both made of a world's table by a function."""
    tables = [t[["x"]].assign(y=target(t), p=prediction(t)) for t in (BEFORE, NOW)]
    return gauntlet.drift(*tables, target="y", prediction="p", **more)


def the_reason(report: DriftReport) -> str:
    """Of an answer that found nothing, and can't judge one thing."""
    assert (report.severity, report.confidence, report.signals) == ("UNKNOWN", None, ())
    (finding,) = report.not_judged
    assert finding in report.quality.findings
    assert not finding.judged
    text = gauntlet.to_text(report)
    assert text.startswith("UNKNOWN")
    assert finding.message in text
    assert "fine" not in text
    assert finding.message[:30].replace("'", "&#39;") in gauntlet.to_html(report)
    return finding.message


@pytest.mark.parametrize(
    ("yes", "no", "reason"),
    [
        ("yes", "no", "share no label: 'no', 'yes' against 'No', 'Yes'; they differ by case"),
        ("Yes ", " No", "share no label: ' No', 'Yes ' against 'No', 'Yes'; they differ by spaces around them"),
        (" yes", "NO", "share no label: ' yes', 'NO' against 'No', 'Yes'; they differ by case"),
        ("right", "wrong", "share no label: 'right', 'wrong' against 'No', 'Yes'"),
        ("Yes", "no", "spell labels differently: 'no' against 'No', 'Yes'; they differ by case"),
        ("Yes", "wrong", "share some labels only: 49% of the predictions are 'wrong' against 'No', 'Yes'"),
    ],
)
def test_labels_that_do_not_meet_are_no_accuracy_of_zero(yes: str, no: str, reason: str) -> None:
    report = checked(lambda t: names(t["truth"]), lambda t: names(t["said"], yes, no))
    assert the_reason(report).endswith(reason)
    assert report.performance is None


def test_names_and_numbers_are_refused_with_the_reason_and_spellings_of_one_number_are_one_label() -> None:
    with pytest.raises(BadInput, match="one holds texts and the other numbers"):
        checked(lambda t: t["truth"] * 1, lambda t: names(t["said"]))
    report = checked(lambda t: names(t["truth"], "1", "x"), lambda t: names(t["said"], "1.0", "x"))
    assert report.severity == "NONE"
    assert report.performance is not None
    assert report.performance.metrics[0].current == accuracy_score(NOW["truth"], NOW["said"])


def test_a_label_now_and_then_that_the_target_never_has_is_a_miss_with_a_note() -> None:
    def said(table: pd.DataFrame) -> Any:
        return np.where(np.arange(ROWS) % 50 == 0, "maybe", names(table["said"]))

    report = checked(lambda t: names(t["truth"]), said)
    assert report.severity == "NONE"
    assert "2.0% of the predictions are none of the target's labels: 'maybe' against 'No', 'Yes'" in report.notes
    assert report.performance is not None
    assert report.performance.metrics[0].reference == accuracy_score(names(BEFORE["truth"]), said(BEFORE))


@pytest.mark.parametrize("column", ["y", "p"])
def test_another_spelling_in_the_current_rows_is_damage_and_no_loss(column: str) -> None:
    tables = [t[["x"]].assign(y=names(t["truth"]), p=names(t["said"])) for t in (BEFORE, NOW)]
    tables[1][column] = tables[1][column].str.upper()
    report = gauntlet.drift(*tables, target="y", prediction="p")
    assert (report.root_cause, report.action, report.performance) == ("quality", "quarantine", None)
    assert [f.kind for f in report.not_judged] == ["few_outcomes"]
    told = next(f for f in report.quality.findings if (f.kind, f.column) == ("type_change", column))
    assert "1500 of 1500 values" in told.message
    assert "another spelling" in told.message


def test_a_model_no_better_than_chance_in_the_reference_has_no_performance_to_lose() -> None:
    coin = the_reason(checked(lambda t: t["truth"] * 1, lambda t: RNG.integers(0, 2, ROWS)))
    assert "no better than chance" in coin
    turned = checked(lambda t: t["truth"] * 1, lambda t: 1 - t["said"])
    agreed = accuracy_score(BEFORE["truth"], ~BEFORE["said"])
    kappa = cohen_kappa_score(BEFORE["truth"], ~BEFORE["said"])
    by_chance = (kappa - agreed) / (kappa - 1)  # kappa is the agreement beyond chance, over the most there can be
    assert f"{agreed:.1%} are right, and {by_chance:.1%} would be by chance" in the_reason(turned)
    scores = the_reason(checked(lambda t: t["truth"] * 1, lambda t: 1 - t["score"]))
    assert f"under its curve is {roc_auc_score(BEFORE['truth'], 1 - BEFORE['score']):.3f}" in scores
    assert "--positive" in scores
    worse = the_reason(checked(lambda t: t["x"], lambda t: -t["x"]))
    assert f"(R² {r2_score(BEFORE['x'], -BEFORE['x']):.2f})" in worse


def test_rare_classes_are_judged_by_more_than_the_share_that_is_right() -> None:
    """Always saying the usual class is right more often than this model, which is better than chance all the same."""
    rare = [t["x"] > 2.0 for t in (BEFORE, NOW)]
    tables = [t[["x"]].assign(y=names(r), p=names(t["x"] > 1.2)) for t, r in zip((BEFORE, NOW), rare, strict=True)]
    assert accuracy_score(rare[0], BEFORE["x"] > 1.2) < 1 - rare[0].mean()
    assert gauntlet.drift(*tables, target="y", prediction="p").severity == "NONE"
    scores = [t[["x"]].assign(y=r * 1, p=t["score"] / 4) for t, r in zip((BEFORE, NOW), rare, strict=True)]
    assert gauntlet.drift(*scores, target="y", prediction="p").severity == "NONE"


@pytest.mark.parametrize(
    ("target", "prediction", "reason"),
    [
        (lambda t: t["truth"] * 1, lambda t: 1, "the prediction is the same in all 1,500 rows"),
        (lambda t: names(t["truth"]), lambda t: "No", "the prediction is the same in all 1,500 rows"),
        (lambda t: t["truth"] * 1, lambda t: 0.3, "the prediction is the same in all 1,500 rows"),
        (lambda t: t["x"], lambda t: 0.5, "the prediction is the same in all 1,500 rows"),
        (lambda t: 0, lambda t: t["score"], "the target is the same in all 1,500 rows"),
        (lambda t: "No", lambda t: names(t["said"]), "the target is the same in all 1,500 rows"),
        (
            lambda t: np.where(np.arange(ROWS) < 29, t["truth"] * 1.0, np.nan),
            lambda t: t["said"] * 1,
            "29 rows of the ref",
        ),
    ],
)
def test_outcomes_that_say_nothing_of_the_model(target: Any, prediction: Any, reason: str) -> None:
    assert reason in the_reason(checked(target, prediction))


@pytest.mark.parametrize("scale", [lambda t: 100 * t["score"], lambda t: 3 * t["x"], lambda t: t["said"] + 1])
def test_numbers_beyond_0_and_1_for_two_classes_are_refused(scale: Any) -> None:
    with pytest.raises(BadInput, match=r"nothing but 0 and 1, .* neither labels nor probabilities"):
        checked(lambda t: t["truth"] * 1, scale)
    with pytest.raises(BadInput, match=r"neither one of the 2 classes nor a probability|one holds texts"):
        checked(lambda t: names(t["truth"]), scale, task="classification")
    assert checked(lambda t: t["truth"] * 1, scale, task="regression").performance is not None


def test_labels_that_are_all_still_to_come_are_no_health() -> None:
    tables = BEFORE[["x"]].assign(y=BEFORE["truth"] * 1, p=BEFORE["said"] * 1), NOW[["x"]].assign(p=NOW["said"] * 1)
    for now in (tables[1], tables[1].assign(y=np.nan)):
        assert "0 of the current rows" in the_reason(gauntlet.drift(tables[0], now, target="y", prediction="p"))
        assert "y has 1,500 usable values" in the_reason(gauntlet.drift(tables[0], now, target="y"))
    with pytest.raises(BadInput, match="no value in the reference"):
        gauntlet.drift(tables[0].assign(y=np.nan), tables[0], target="y", prediction="p")


def test_a_prediction_that_got_stuck_is_told_though_it_mostly_was_just_that() -> None:
    rare = BEFORE[["x"]].assign(p=RNG.random(ROWS) < 0.1)
    stuck = gauntlet.drift(rare, NOW[["x"]].assign(p=False), prediction="p")
    assert [(s["kind"], s["feature"]) for s in stuck.signals] == [("prediction", "p")]
    assert (stuck.severity, stuck.confidence) == ("LOW", 1.0)
    few = gauntlet.drift(rare, NOW[["x"]].assign(p=False).head(60), prediction="p")  # 0.9^60 is one in 500
    assert few.severity == "NONE"


def test_few_values_of_a_column_are_named_and_those_of_a_whole_table_too() -> None:
    sparse = BEFORE[["x"]].assign(a=np.where(np.arange(ROWS) < 9, BEFORE["x"], np.nan))
    full = NOW[["x"]].assign(a=NOW["x"])
    report = gauntlet.drift(sparse, full)
    assert (
        the_reason(report) == "a has 9 usable values in the reference and 1,500 in the current rows: too few to compare"
    )
    assert {column.name: column.drifted for column in report.features} == {"x": False, "a": None}
    both = gauntlet.drift(sparse, sparse)  # nobody asked for it, and there is nothing on either side
    assert (both.severity, both.not_judged) == ("NONE", ())
    assert "a has 9 usable values" in "".join(f.message for f in both.quality.findings)
    assert "a has 9 usable values" in the_reason(gauntlet.drift(sparse, sparse, features="a"))
    assert gauntlet.drift(full, sparse).root_cause == "quality"  # values that went missing are found
    assert "9 rows are too few" in the_reason(gauntlet.drift(full, full.head(9)))


def test_rows_that_are_worth_no_independent_one_can_show_nothing() -> None:
    tables = [t[["x"]].sort_values("x") for t in (BEFORE, NOW)]
    moved = tables[1] + 0.7
    assert "no shift could be told from chance" in the_reason(gauntlet.drift(tables[0], moved))
    assert gauntlet.drift(tables[0], moved, ordered=False).drifted == ("x",)


def test_a_metric_is_only_called_fine_where_it_is_judged() -> None:
    tables = [t[["x"]].assign(y=t["truth"] * 1, p=t["said"] * 1) for t in (BEFORE, NOW)]
    assert "): fine" in gauntlet.to_text(gauntlet.drift(*tables, target="y", prediction="p"))
    few = gauntlet.drift(tables[0], tables[1].head(300), target="y", prediction="p")
    assert few.performance is not None
    assert not few.performance.metrics[0].judged
    assert "): too few outcomes to judge it" in gauntlet.to_text(few)


def test_the_exit_code_says_so_unless_the_limit_is_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = [t[["x"]].assign(y=names(t["truth"]), p=names(t["said"], "yes", "no")) for t in (BEFORE, NOW)]
    paths = [str(tmp_path / f"{name}.csv") for name in ("before", "now", "moved")]
    for table, path in zip((*tables, tables[1].assign(x=tables[1]["x"] + 2)), paths, strict=True):
        table.to_csv(path, index=False)
    roles = ["--target", "y", "--prediction", "p"]
    pair = ["drift", "--reference", paths[0], "--current"]
    assert main([*pair, paths[1], *roles]) == 4
    assert main([*pair, paths[1], *roles, "--fail-on", "LOW"]) == 4
    assert main([*pair, paths[2], *roles, "--fail-on", "HIGH"]) == 4
    assert main([*pair, paths[2], *roles, "--fail-on", "LOW"]) == 3
    assert main([*pair, paths[1], "--prediction", "p"]) == 0
    pd.concat(tables).to_csv(paths[0], index=False)
    assert main(["drift", "--stream", paths[0], "--reference-rows", str(ROWS), *roles]) == 4
    assert capsys.readouterr().err.startswith("UNKNOWN")


@pytest.mark.parametrize("value", [np.inf, 1e200])
def test_a_column_of_which_no_value_can_be_used_is_not_called_quiet(value: float) -> None:
    tables = [pd.DataFrame({"x": t.x, "odd": np.where(t.said, value, -value)}) for t in (BEFORE, NOW)]
    message = the_reason(gauntlet.drift(*tables))
    assert message.startswith("odd has 0 usable values in the reference (1,500 more are infinite, above 1e+150, or of")


def test_labels_that_look_the_same_are_told_apart_by_name() -> None:
    """é as one character and as two, as macOS writes it."""
    report = checked(
        lambda t: names(t.truth, "caf\u00e9", "th\u00e9"), lambda t: names(t.said, "cafe\u0301", "the\u0301")
    )
    assert the_reason(report).endswith("they differ by how Unicode writes their letters (NFC, NFD)")


def test_a_column_that_has_lost_its_values_is_not_said_to_be_compared_by_value() -> None:
    report = gauntlet.drift(BEFORE[["x"]].assign(z=BEFORE.score), NOW[["x"]].assign(z=None), features=["x", "z"])
    assert report.severity == "CRITICAL"
    assert not [note for note in report.notes if "compared by value" in note]


@pytest.mark.parametrize("labelled", [20, 0])
def test_few_outcomes_of_a_model_that_gives_probabilities_are_no_health_either(labelled: int) -> None:
    """Scenario: 20 rows, all of them answered wrongly, or none with its outcome yet. The loss estimated from the scores
    was taken for a judgement, which 20 rows don't give it: NONE, beside an accuracy that had fallen by two thirds."""
    before = BEFORE.rename(columns={"truth": "y", "score": "p"})[["x", "y", "p"]]
    now = NOW.rename(columns={"truth": "y", "score": "p"})[["x", "y", "p"]][:20].astype({"y": object})
    now["y"] = [not row.p > 0.5 if i < labelled else None for i, row in enumerate(now.itertuples())]
    report = gauntlet.drift(before, now, target="y", prediction="p")
    assert (report.severity, report.confidence) == ("UNKNOWN", None)
    assert f"{labelled} of the current rows have target and prediction, 30 are needed" in gauntlet.to_text(report)


def test_the_estimate_from_many_scores_is_a_judgement() -> None:
    before = BEFORE.rename(columns={"truth": "y", "score": "p"})[["x", "y", "p"]]
    now = NOW.rename(columns={"truth": "y", "score": "p"})[["x", "y", "p"]].assign(y=None)
    assert gauntlet.drift(before, now, target="y", prediction="p").severity == "NONE"


@pytest.mark.parametrize("cells", [[None] * ROWS, [1.0, *[None] * (ROWS - 1)]], ids=["empty", "one value"])
def test_where_no_column_can_be_judged_nothing_is_called_fine(cells: list[float | None]) -> None:
    """Though no column was named: one that is empty on both sides counts where there is no other."""
    table = pd.DataFrame({"a": cells, "b": cells})
    for report in (gauntlet.drift(table, table), gauntlet.drift_stream(table, reference_rows=500).report()):
        assert (report.severity, {finding.column for finding in report.not_judged}) == ("UNKNOWN", {"a", "b"})
    beside = table.assign(x=BEFORE["x"])
    assert gauntlet.drift(beside, beside).severity == "NONE"


def test_a_column_without_a_name_is_left_out_with_a_word_and_refused_where_it_is_alone(tmp_path: Path) -> None:
    """As pandas writes an index, or a frame names its one column."""
    alone, beside = BEFORE[["x"]].set_axis([""], axis=1), BEFORE[["x", "score"]].set_axis(["", "score"], axis=1)
    with pytest.raises(BadInput, match=r"no column is left to watch.*a column has no name"):
        gauntlet.drift(alone, alone)
    with pytest.raises(BadInput, match="a column has no name"):
        gauntlet.drift(beside, beside, features=[""])
    BEFORE[["x"]].to_csv(tmp_path / "indexed.csv")
    for table in (beside, tmp_path / "indexed.csv"):
        (finding,) = gauntlet.drift(table, table).quality.findings
        assert (finding.kind, finding.column, "give it one" in finding.message) == ("unreadable", None, True)


def _texts(rng: np.random.Generator, first: int, last: int, rows: int) -> pd.DataFrame:
    return pd.DataFrame({"city": [f"c{i}" for i in rng.integers(first, last, rows)], "x": rng.normal(size=rows)})


@pytest.mark.parametrize(("values", "rows"), [(900, 2000), (2000, 5000), (2000, 20_000)])
def test_rare_texts_of_which_half_disappear_are_no_health(values: int, rows: int) -> None:
    """A total variation of one half, nearly all of it among values that are counted together."""
    rng = np.random.default_rng(17)
    found = gauntlet.drift(_texts(rng, 0, values, rows), _texts(rng, 0, values // 2, rows))
    assert found.severity == "UNKNOWN"
    assert [finding.kind for finding in found.not_judged] == ["rare_values"]
    assert "city has more than 256 different values" in found.not_judged[0].message
    assert {one.name: one.drifted for one in found.features} == {"city": None, "x": False}
    table = pd.concat([_texts(rng, 0, values, rows), _texts(rng, 0, values // 2, rows)], ignore_index=True)
    watched = gauntlet.drift_stream(table, reference_rows=rows).report()
    assert (watched.severity, [one.kind for one in watched.not_judged]) == ("UNKNOWN", ["rare_values"])


def test_a_few_rare_texts_are_told_and_hide_nothing_that_counts() -> None:
    rng = np.random.default_rng(18)
    often = [*(f"c{i}" for i in range(20))] * 150
    before, now = (
        pd.DataFrame({"city": [*often, *(f"r{i}" for i in rng.integers(0, 2000, 1000))], "x": rng.normal(size=4000)})
        for _ in range(2)
    )
    found = gauntlet.drift(before.sample(frac=1.0, random_state=1), now.sample(frac=1.0, random_state=2))
    assert found.severity == "NONE"
    assert [one.kind for one in found.quality.findings if one.column == "city"] == ["rare_values"]


@pytest.mark.parametrize(
    ("written", "hint"),
    [("{:.2f}%", "without the '%'"), ("${:.2f}", "without the '\\$'"), ("{:,.2f}", "between thousands")],
)
def test_numbers_that_cannot_be_read_are_no_health(written: str, hint: str) -> None:
    """Their shift by eight standard deviations does not show."""
    rng = np.random.default_rng(19)
    before, now = (
        pd.DataFrame(
            {"x": [written.format(v) for v in rng.normal(50_000 + shift, 500, 1000)], "z": rng.normal(size=1000)}
        )
        for shift in (0, 4000)
    )
    found = gauntlet.drift(before, now)
    assert found.severity == "UNKNOWN"
    (doubt,) = found.not_judged
    assert (doubt.kind, doubt.column) == ("unreadable", "x")
    assert re.search(hint, doubt.message)
    with pytest.raises(BadInput, match=hint):
        gauntlet.drift(before, now, features=["x"])
